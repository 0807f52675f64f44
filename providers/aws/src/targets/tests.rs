use super::*;
use crate::{
    fixtures::{map, node},
    input::Node,
};

fn with(change: impl FnOnce(&mut Node)) -> Node {
    let mut node = node("n1");
    change(&mut node);
    node
}

fn is_target(node: Node) -> bool {
    !candidates(&[node], &BTreeMap::new()).0.is_empty()
}

#[test]
#[rustfmt::skip]
fn labels_and_taints_decide_and_readiness_does_not() {
    let label = |key: &str, value: &str| with(|node| node.labels = map(&[(key, value)]));
    let taint = |key: &str| with(|node| { node.taints.insert(key.to_owned()); });
    let rows = [
        ("an ordinary node", with(|_| ()), true),
        ("deleting", with(|node| node.deleting = true), false),
        ("excluded by presence", label(EXCLUDE, ""), false),
        ("excluded by true", label(EXCLUDE, "true"), false),
        ("excluded by anything", label(EXCLUDE, "no"), false),
        ("not excluded by false", label(EXCLUDE, "false"), true),
        ("a master", label("node-role.kubernetes.io/master", ""), false),
        ("a control plane node", label("node-role.kubernetes.io/control-plane", ""), true),
        ("excluded of old", label("alpha.service-controller.kubernetes.io/exclude-balancer", ""), false),
        ("on Fargate", label("eks.amazonaws.com/compute-type", "fargate"), false),
        ("on EC2", label("eks.amazonaws.com/compute-type", "ec2"), true),
        ("to be deleted", taint("ToBeDeletedByClusterAutoscaler"), false),
        ("disrupted", taint("karpenter.sh/disrupted"), false),
        ("not ready", taint("node.kubernetes.io/not-ready"), true),
        ("unreachable", taint("node.kubernetes.io/unreachable"), true),
        ("cordoned", taint("node.kubernetes.io/unschedulable"), true),
    ];
    for (what, node, target) in rows {
        assert_eq!(is_target(node), target, "{what}");
    }
}

#[test]
#[rustfmt::skip]
fn a_provider_id_says_instance_and_zone() {
    let rows = [
        ("aws:///eu-central-1a/i-0123456789abcdef0", Some(("i-0123456789abcdef0", "eu-central-1a"))),
        ("aws://eu-central-1a/i-0123456789abcdef0", Some(("i-0123456789abcdef0", "eu-central-1a"))),
        ("aws:///i-0123456789abcdef0", Some(("i-0123456789abcdef0", ""))),
        ("aws:///eu-central-1a/1234/fargate-ip-10-0-0-1", None),
        ("aws:///eu-central-1a/i-", None),
        ("gce://project/zone/i-0123", None),
        ("i-0123456789abcdef0", None),
        ("", None),
    ];
    for (id, expected) in rows {
        let found = candidate(id);
        let found = found.as_ref().map(|node| (node.instance.as_str(), node.zone.as_str()));
        assert_eq!(found, expected, "{id}");
    }
}

#[test]
fn a_node_without_provider_id_is_named_and_stops_nobody() {
    let nodes = [
        node("n1"),
        with(|node| (node.name, node.provider_id) = ("n2".into(), String::new())),
        with(|node| (node.name, node.provider_id) = ("n3".into(), "kind://x/n3".into())),
    ];
    let (found, warnings) = candidates(&nodes, &BTreeMap::new());
    assert_eq!(found.len(), 1);
    let [empty, foreign] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(empty.contains("is empty: n2;"), "{empty}");
    assert!(foreign.contains("aws:///ZONE/INSTANCE: n3;"), "{foreign}");
}

#[test]
fn a_thousand_nodes_without_provider_id_are_one_sentence() {
    let nodes: Vec<Node> = (0..1000)
        .map(|n| with(|node| (node.name, node.provider_id) = (format!("n{n}"), String::new())))
        .collect();
    let (_, warnings) = candidates(&nodes, &BTreeMap::new());
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("and 992 more") && warnings[0].len() < 300,
        "{warnings:?}"
    );
}

#[test]
fn only_nodes_with_the_labels_asked_for_are_targets() {
    let asked = map(&[("edge", "yes"), ("pool", "")]);
    let labelled = |labels| with(|node| node.labels = map(labels));
    let nodes = [
        labelled(&[("edge", "yes"), ("pool", ""), ("more", "x")]),
        labelled(&[("edge", "yes")]),
        labelled(&[("edge", "no"), ("pool", "")]),
    ];
    let chosen = nodes.map(|node| candidates(&[node], &asked).0.len());
    assert_eq!(chosen, [1, 0, 0]);
}

fn fleet(count: usize, zones: usize) -> BTreeSet<Candidate> {
    let of = |n: usize| Candidate {
        instance: format!("i-{n:017x}"),
        zone: format!("z{}", n % zones),
    };
    (0..count).map(of).collect()
}

#[test]
#[rustfmt::skip]
fn quotas_and_the_class_limit_how_many_nodes_are_targets() {
    // Groups, pods, cross-zone, class, nodes, zones -> targets.
    let rows = [
        ((1, 0, true, None), (500, 3), 500),
        ((1, 0, true, None), (501, 3), 500),
        ((2, 0, true, None), (400, 3), 250),
        ((50, 0, true, None), (400, 3), 10),
        ((1, 0, false, None), (900, 3), 900),
        ((1, 0, false, None), (2000, 6), 1000),
        ((3, 0, false, None), (900, 3), 498),
        ((10, 0, false, None), (900, 3), 150),
        ((10, 0, false, None), (900, 1), 50),
        ((1, 400, true, None), (400, 3), 100),
        ((1, 900, true, None), (400, 3), 1),
        ((1, 0, true, Some(25)), (400, 3), 25),
        ((1, 0, true, Some(0)), (400, 3), 1),
        ((0, 0, true, None), (10, 3), 10),
    ];
    for ((groups, pods, cross_zone, most), (count, zones), expected) in rows {
        let nodes = fleet(count, zones);
        let chosen = Room::of(groups, pods, cross_zone, most).choose("shop/web", &nodes);
        assert_eq!(chosen.len(), expected, "{groups} {pods} {cross_zone} {most:?} {count} {zones}");
    }
}

#[test]
fn a_node_that_comes_or_goes_changes_one_place() {
    let room = Room::of(1, 0, true, Some(25));
    let before = fleet(200, 3);
    let chosen: BTreeSet<_> = room.choose("shop/web", &before).into_iter().collect();
    for gone in &before {
        let mut after = before.clone();
        after.remove(gone);
        let then: BTreeSet<_> = room.choose("shop/web", &after).into_iter().collect();
        let changed = chosen.difference(&then).count();
        assert_eq!(changed, usize::from(chosen.contains(gone)), "{gone:?}");
    }
}

#[test]
fn load_balancers_choose_different_nodes() {
    let room = Room::of(1, 0, true, Some(25));
    let nodes = fleet(200, 3);
    assert_ne!(
        room.choose("shop/web", &nodes),
        room.choose("shop/api", &nodes)
    );
}

fn endpoint(address: &str, ports: &[(&str, u16)], ready: bool) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        ports: ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect(),
        ready,
    }
}

#[test]
fn pods_are_targets_by_their_own_port_when_ready_and_of_the_family() {
    let endpoints = [
        endpoint("10.0.1.5", &[("http", 8080)], true),
        endpoint("10.0.1.6", &[("http", 9090)], true),
        endpoint("10.0.1.7", &[("http", 8080)], false),
        endpoint("10.0.1.8", &[("other", 8080)], true),
        endpoint("192.168.0.1", &[("http", 8080)], true),
        endpoint("2001:db8::5", &[("http", 8080)], true),
    ];
    let cidrs = [
        "10.0.0.0/16".parse().unwrap(),
        "2001:db8::/56".parse().unwrap(),
    ];
    let http = PortNames {
        first: "http",
        second: None,
    };
    let target = |id: &str, port, zone: Option<&str>| Target {
        id: id.to_owned(),
        port,
        zone: zone.map(str::to_owned),
    };
    let (v4, _) = pods(&endpoints, http, Family::V4, &cidrs);
    let expected = [
        target("10.0.1.5", 8080, None),
        target("10.0.1.6", 9090, None),
        target("192.168.0.1", 8080, Some("all")),
    ];
    assert_eq!(v4, expected.into());
    let (v6, _) = pods(&endpoints, http, Family::V6, &cidrs);
    assert_eq!(v6, [target("2001:db8::5", 8080, None)].into());
}

#[test]
fn a_pod_whose_tcp_and_udp_ports_differ_is_left_out_and_counted() {
    let endpoints = [
        endpoint("10.0.1.5", &[("tcp", 53), ("udp", 53)], true),
        endpoint("10.0.1.6", &[("tcp", 53), ("udp", 5353)], true),
    ];
    let names = PortNames {
        first: "tcp",
        second: Some("udp"),
    };
    let (targets, split) = pods(&endpoints, names, Family::V4, &[]);
    assert_eq!((targets.len(), split), (1, 1));
}
