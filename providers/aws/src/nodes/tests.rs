use super::*;
use crate::{
    desired,
    fixtures::{Pairs, World, class, map, network, service},
    input::Existing,
    wanted::Scheme,
};

const CLUSTER: &str = "test";

/// A VPC whose groups have these ids, names and tags, and let in nobody.
fn vpc(groups: &[(&str, &str, Pairs<'_>)]) -> Network {
    let group = |(id, name, tags): &(&str, &str, &[(&str, &str)])| {
        let group = SecurityGroup {
            name: (*name).to_owned(),
            tags: map(tags),
            ..SecurityGroup::default()
        };
        ((*id).to_owned(), group)
    };
    Network {
        security_groups: groups.iter().map(group).collect(),
        ..network()
    }
}

fn found<'a>(network: &'a Network, named: &[&str]) -> Vec<&'a str> {
    let named: Vec<String> = named.iter().map(|id| (*id).to_owned()).collect();
    node_groups(network, CLUSTER, &named).into_iter().collect()
}

#[test]
fn node_groups_are_those_that_are_named_or_tagged_for_the_cluster() {
    let ours = ("kubernetes.io/cluster/test", "owned");
    let network = vpc(&[
        ("sg-1", "nodes", &[ours]),
        ("sg-2", "more", &[("kubernetes.io/cluster/test", "")]),
        ("sg-3", "other", &[("kubernetes.io/cluster/test2", "owned")]),
        ("sg-4", "front", &[ours, ("portolan.dev/cluster", "test")]),
        ("sg-5", "front", &[ours, ("elbv2.k8s.aws/cluster", "other")]),
        ("sg-6", "k8s-elb-a0123", &[ours]),
        ("sg-7", "untagged", &[]),
    ]);
    assert_eq!(found(&network, &[]), ["sg-1", "sg-2"]);
    assert_eq!(found(&network, &["sg-7", "sg-elsewhere"]), ["sg-7"]);
}

#[test]
fn the_traffic_group_is_this_clusters_and_never_lbcs() {
    let of = |cluster, stack| {
        [
            ("portolan.dev/cluster", cluster),
            ("portolan.dev/stack", stack),
        ]
    };
    let network = vpc(&[
        ("sg-1", "a", &of("other", "traffic")),
        ("sg-2", "b", &of("test", "shop/traffic")),
        (
            "sg-3",
            "c",
            &[
                ("elbv2.k8s.aws/cluster", "test"),
                ("elbv2.k8s.aws/resource", "backend-sg"),
            ],
        ),
        ("sg-4", "d", &of("test", "traffic")),
    ]);
    assert_eq!(traffic_group(&network, "test"), Some("sg-4"));
    assert_eq!(traffic_group(&network, "other"), Some("sg-1"));
    assert_eq!(traffic_group(&network, "third"), None);
}

#[test]
fn the_group_is_made_first_then_each_node_group_gets_two_rules_then_nothing() {
    let ours: &[(&str, &str)] = &[("kubernetes.io/cluster/test", "owned")];
    let mut network = vpc(&[("sg-1", "a", ours), ("sg-2", "b", ours)]);
    let Missing::TrafficGroup(group) = missing(&network, CLUSTER, &[]) else {
        panic!("no group")
    };
    assert_eq!(group.rules.len(), 0);
    assert_eq!(
        group.tags,
        map(&[
            ("portolan.dev/cluster", "test"),
            ("portolan.dev/stack", "traffic")
        ])
    );
    let made = SecurityGroup {
        name: group.name,
        tags: group.tags,
        rules: group.rules,
    };
    network.security_groups.insert("sg-new".to_owned(), made);
    let Missing::Rules(rules) = missing(&network, CLUSTER, &[]) else {
        panic!("no rules")
    };
    assert_eq!(rules.keys().collect::<Vec<_>>(), ["sg-1", "sg-2"]);
    for (id, rules) in rules {
        let short: Vec<_> = rules.iter().map(|r| (r.protocol, r.from, r.to)).collect();
        assert_eq!(short, [("tcp", 0, 65535), ("udp", 0, 65535)]);
        network.security_groups.get_mut(&id).unwrap().rules = rules;
    }
    assert_eq!(missing(&network, CLUSTER, &[]), Missing::Nothing);
}

#[test]
fn only_what_is_missing_is_asked_for() {
    let rule = |protocol, from, to| Rule {
        protocol,
        from,
        to,
        source: Source::SecurityGroup("sg-traffic".to_owned()),
    };
    for (there, expected) in [
        (vec![], vec!["tcp", "udp"]),
        (vec![rule("tcp", 0, 65535)], vec!["udp"]),
        (vec![rule("tcp", 30000, 32767)], vec!["tcp", "udp"]),
        (vec![rule("-1", -1, -1)], vec![]),
        (
            vec![rule("udp", 0, 65535), rule("icmp", -1, -1)],
            vec!["tcp"],
        ),
    ] {
        let mut network = network();
        let nodes = network.security_groups.get_mut("sg-nodes").unwrap();
        nodes.rules = there.iter().cloned().collect();
        let protocols: Vec<&str> = match missing(&network, CLUSTER, &[]) {
            Missing::Nothing => vec![],
            Missing::Rules(rules) => rules.values().flatten().map(|r| r.protocol).collect(),
            Missing::TrafficGroup(group) => panic!("{group:?}"),
        };
        assert_eq!(protocols, expected, "{there:?}");
    }
}

#[test]
fn without_node_groups_nothing_is_made() {
    assert_eq!(missing(&vpc(&[]), CLUSTER, &[]), Missing::Nothing);
    let named = ["sg-elsewhere".to_owned()];
    assert_eq!(missing(&network(), CLUSTER, &named), Missing::Nothing);
}

/// Security groups and warnings of `shop/web`.
fn asked(world: &World) -> (Vec<String>, Vec<String>) {
    let wanted = desired(&world.input()).unwrap();
    (wanted.load_balancer.security_groups, wanted.warnings)
}

#[test]
fn a_load_balancer_has_the_traffic_group_when_rules_on_nodes_are_managed() {
    let manage = "manage-backend-security-group-rules";
    for (pairs, expected) in [
        (&[][..], &["sg-traffic"][..]),
        (&[(manage, "false")], &[]),
        (&[("security-groups", "sg-1")], &["sg-1"]),
        (
            &[("security-groups", "sg-1"), (manage, "true")],
            &["sg-1", "sg-traffic"],
        ),
        (
            &[("security-groups", "sg-traffic, sg-1"), (manage, "true")],
            &["sg-traffic", "sg-1"],
        ),
        (&[("disable-nlb-sg", "true"), (manage, "false")], &[]),
    ] {
        let world = World::asking(pairs);
        assert_eq!(
            asked(&world),
            (expected.iter().map(|id| (*id).to_owned()).collect(), vec![])
        );
        let managed = managed(&world.services[0], &world.class);
        assert_eq!(managed, expected.contains(&"sg-traffic"), "{pairs:?}");
    }
    assert!(!managed(&service("web", &[("scheme", "wrong")]), &class()));
}

#[test]
fn what_keeps_the_nodes_from_letting_it_in_is_told_with_the_cure() {
    let mut untagged = World::asking(&[]);
    let nodes = untagged
        .network
        .security_groups
        .get_mut("sg-nodes")
        .unwrap();
    nodes.tags = BTreeMap::new();
    let mut misnamed = World::asking(&[]);
    misnamed.class.node_security_groups = vec!["sg-nodes".to_owned(), "sg-9".to_owned()];
    let mut first = World::asking(&[]);
    first.network.security_groups.remove("sg-traffic");
    let mut bare = World::asking(&[]);
    bare.existing = Some(Existing {
        scheme: Scheme::Internal,
        subnets: vec!["subnet-a".to_owned()],
        has_security_groups: false,
    });
    let rows: [(World, &[&str], &str); 5] = [
        (
            untagged,
            &["sg-traffic"],
            "tagged kubernetes.io/cluster/test, so that nothing",
        ),
        (
            misnamed,
            &["sg-traffic"],
            "nodeSecurityGroups of LoadBalancerClass cloud has sg-9",
        ),
        (first, &[], "portolan-traffic-test-"),
        (
            bare,
            &[],
            "manage-backend-security-group-rules: \"false\" once you have",
        ),
        (
            World::asking(&[("disable-nlb-sg", "true")]),
            &[],
            "manage-backend-security-group-rules: \"false\" once you have",
        ),
    ];
    for (world, expected, warning) in rows {
        let (groups, warnings) = asked(&world);
        assert_eq!(groups, expected, "{warnings:?}");
        assert!(
            warnings.iter().any(|said| said.contains(warning)),
            "{warnings:?}"
        );
    }
}
