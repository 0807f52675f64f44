use std::collections::BTreeSet;

use model::{Protocol as Transport, Reason, ServiceKey};

use super::*;
use crate::{
    annotations::{GROUP, PREFIX, SOURCE_RANGES},
    fixtures::{World, annotations, map, network, node, port, service},
    input::{Endpoint, Existing},
    wanted::{IpAddressType, Protocol, Scheme, Target, TargetType},
};

const EDGE: (&str, &str) = (GROUP, "edge");

fn wanted(world: &World) -> Wanted {
    desired(&world.input()).unwrap_or_else(|refused| panic!("{}", refused.message))
}

fn refused(world: &World) -> String {
    desired(&world.input()).expect_err("it is wrong").message
}

mod groups;
mod random;

/// A Service of group `edge` with these TCP ports.
fn member(name: &str, ports: &[u16], asked: &[(&str, &str)]) -> Service {
    let mut member = service(name, asked);
    member.annotations.extend(annotations(&[EDGE]));
    member.ports = ports
        .iter()
        .map(|number| port(&format!("p{number}"), Transport::Tcp, *number))
        .collect();
    member
}

/// Which listener goes where.
fn routes(wanted: &Wanted) -> Vec<(u16, &str)> {
    let listeners = wanted.listeners.iter();
    listeners
        .map(|(port, listener)| (*port, listener.target_group.as_str()))
        .collect()
}

#[test]
fn a_plain_service_gets_an_internal_load_balancer_to_all_nodes() {
    let wanted = wanted(&World::asking(&[]));
    assert_eq!(wanted.stack, "shop/web");
    assert_eq!(wanted.warnings, Vec::<String>::new());
    let balancer = &wanted.load_balancer;
    assert!(
        balancer.name.starts_with("k8s-shop-web-"),
        "{}",
        balancer.name
    );
    assert_eq!(balancer.scheme, Scheme::Internal);
    assert_eq!(balancer.ip_address_type, IpAddressType::Ipv4);
    let subnets: Vec<&str> = balancer
        .subnets
        .iter()
        .map(|each| each.subnet.as_str())
        .collect();
    assert_eq!(subnets, ["subnet-a", "subnet-b"]);
    assert_eq!(balancer.attributes, map(&[]));
    assert_eq!(balancer.tags["service.k8s.aws/resource"], "LoadBalancer");
    assert_eq!(
        routes(&wanted),
        [(80, "shop/web:80"), (443, "shop/web:443")]
    );
    let group = &wanted.target_groups["shop/web:443"];
    assert_eq!(
        (group.target_type, group.vpc.as_str()),
        (TargetType::Instance, "vpc-1")
    );
    let target = |id: &str| Target {
        id: id.to_owned(),
        port: 30443,
        zone: None,
    };
    assert_eq!(
        group.targets,
        BTreeSet::from([target("i-n1"), target("i-n2")])
    );
    let rules = wanted.security_group.unwrap();
    assert_eq!(rules.rules.len(), 2);
    assert_eq!(
        rules.tags["service.k8s.aws/resource"],
        "ManagedLBSecurityGroup"
    );
}

#[test]
fn every_listener_goes_to_a_target_group_that_is_there() {
    let world = World::of(vec![
        member("a", &[80, 443], &[]),
        member("b", &[443, 8080], &[("nlb-target-type", "ip")]),
        member("c", &[22], &[("scheme", "wrong")]),
    ]);
    let wanted = wanted(&world);
    let groups: BTreeSet<&String> = wanted.target_groups.keys().collect();
    let used: BTreeSet<&String> = wanted
        .listeners
        .values()
        .map(|each| &each.target_group)
        .collect();
    assert_eq!(groups, used);
}

#[test]
fn what_the_user_sets_reaches_the_load_balancer() {
    let wanted = wanted(&World::asking(&[
        ("name", "mine"),
        ("scheme", "internet-facing"),
        ("ip-address-type", "dualstack"),
        ("attributes", "deletion_protection.enabled=true"),
        ("additional-resource-tags", "team=a"),
        ("inbound-sg-rules-on-private-link-traffic", "off"),
        ("enable-prefix-for-ipv6-source-nat", "on"),
        ("security-groups", "sg-2"),
    ]));
    let balancer = wanted.load_balancer;
    assert_eq!(balancer.name, "mine");
    assert_eq!(balancer.scheme, Scheme::InternetFacing);
    assert_eq!(balancer.ip_address_type, IpAddressType::Dualstack);
    assert_eq!(
        balancer.attributes,
        map(&[("deletion_protection.enabled", "true")])
    );
    assert_eq!(balancer.tags["team"], "a");
    assert_eq!(balancer.enforce_rules_on_private_link, Some(false));
    assert!(balancer.ipv6_source_nat);
    assert_eq!(
        (balancer.security_groups, wanted.security_group),
        (vec!["sg-2".to_owned()], None)
    );
}

#[test]
fn limits_that_nothing_enforces_are_said() {
    let ranges = (SOURCE_RANGES, "10.0.0.0/8");
    for asked in [("security-groups", "sg-1"), ("disable-nlb-sg", "true")] {
        let limited = wanted(&World::asking(&[ranges, asked]));
        assert_eq!(limited.security_group, None);
        let of_limits = |wanted: &Wanted| {
            let warnings = wanted.warnings.iter();
            let of_limits = |said: &&String| said.contains("do not limit who may connect");
            warnings.filter(of_limits).count()
        };
        assert_eq!(of_limits(&limited), 1, "{:?}", limited.warnings);
        assert_eq!(of_limits(&wanted(&World::asking(&[asked]))), 0);
    }
}

#[test]
fn rules_on_private_link_traffic_need_a_security_group() {
    let link = ("inbound-sg-rules-on-private-link-traffic", "on");
    let without = wanted(&World::asking(&[link, ("disable-nlb-sg", "true")]));
    assert_eq!(without.load_balancer.enforce_rules_on_private_link, None);
}

#[test]
fn an_existing_load_balancer_without_security_groups_gets_none() {
    let mut world = World::asking(&[]);
    world.existing = Some(Existing {
        scheme: Scheme::Internal,
        subnets: vec!["subnet-b".to_owned()],
        has_security_groups: false,
    });
    let wanted = wanted(&world);
    assert_eq!(
        (
            wanted.load_balancer.security_groups.len(),
            wanted.security_group
        ),
        (0, None)
    );
    assert_eq!(wanted.load_balancer.subnets.len(), 1);
    assert!(
        wanted.warnings[0].contains("AWS cannot add any"),
        "{:?}",
        wanted.warnings
    );
}

#[test]
fn pods_are_targets_with_ip() {
    let mut world = World::asking(&[("nlb-target-type", "ip")]);
    let endpoint = |address: &str| Endpoint {
        address: address.parse().unwrap(),
        ports: [("http".to_owned(), 8080), ("https".to_owned(), 8443)].into(),
        ready: true,
    };
    let endpoints = vec![endpoint("10.0.1.5"), endpoint("100.64.0.5")];
    world
        .endpoints
        .insert(ServiceKey::new("shop", "web"), endpoints);
    world.nodes[0].provider_id.clear();
    let wanted = wanted(&world);
    let target = |id: &str, zone: Option<&str>| Target {
        id: id.to_owned(),
        port: 8443,
        zone: zone.map(str::to_owned),
    };
    let expected = [target("10.0.1.5", None), target("100.64.0.5", Some("all"))];
    assert_eq!(
        wanted.target_groups["shop/web:443"].targets,
        expected.into()
    );
    assert_eq!(wanted.warnings, Vec::<String>::new(), "nodes do not matter");
}

#[test]
fn tcp_and_udp_on_one_port_are_one_listener_and_two_rules() {
    let mut world = World::asking(&[]);
    world.services[0].ports = vec![port("u", Transport::Udp, 53), port("t", Transport::Tcp, 53)];
    let wanted = wanted(&world);
    assert_eq!(wanted.listeners[&53].protocol, Protocol::TcpUdp);
    assert_eq!(
        wanted.target_groups["shop/web:53"].protocol,
        Protocol::TcpUdp
    );
    let rules = wanted.security_group.unwrap().rules;
    let opened: Vec<&str> = rules.iter().map(|rule| rule.protocol).collect();
    assert_eq!(opened, ["tcp", "udp"]);
}

#[test]
fn a_node_without_provider_id_is_warned_of_once_and_stops_nothing() {
    let mut world = World::of(vec![member("a", &[80], &[]), member("b", &[81], &[])]);
    world.nodes[0].provider_id.clear();
    let wanted = wanted(&world);
    assert_eq!(wanted.warnings.len(), 1, "{:?}", wanted.warnings);
    assert!(
        wanted
            .target_groups
            .values()
            .all(|group| group.targets.len() == 1)
    );
}

#[test]
fn no_node_at_all_is_said() {
    let mut world = World::asking(&[("target-node-labels", "edge=yes")]);
    assert_eq!(
        wanted(&world).warnings,
        ["Service shop/web: no node can be a target"]
    );
    world.nodes[1].labels = map(&[("edge", "yes")]);
    let group = &wanted(&world).target_groups["shop/web:80"];
    assert_eq!(
        group
            .targets
            .iter()
            .map(|each| each.id.as_str())
            .collect::<Vec<_>>(),
        ["i-n2"]
    );
}

#[test]
fn nodes_are_as_many_as_quotas_let_in() {
    let mut world = World::asking(&[]);
    world.nodes = (0..400).map(|n| node(&format!("n{n:03}"))).collect();
    let count = |world: &World| wanted(world).target_groups["shop/web:80"].targets.len();
    // Two ports: 500 / 2 in this one zone, whether or not zones are counted together.
    assert_eq!(count(&world), 250);
    for (n, node) in world.nodes.iter_mut().enumerate() {
        node.provider_id = format!("aws:///z{}/i-{n}", n % 2);
    }
    assert_eq!(count(&world), 400);
    world.services[0].annotations = annotations(&[("cross-zone-load-balancing-enabled", "true")]);
    assert_eq!(count(&world), 250);
    world.services[0].annotations = annotations(&[(
        "target-group-attributes",
        "load_balancing.cross_zone.enabled=true",
    )]);
    assert_eq!(count(&world), 250);
    world.class.max_targets = Some(25);
    assert_eq!(count(&world), 25);
    let warned = wanted(&world).warnings;
    assert!(
        warned[0].contains("25 of 400 nodes are targets"),
        "{warned:?}"
    );
    (
        world.services[0].local,
        world.services[0].health_check_node_port,
    ) = (true, 31000);
    let warned = wanted(&world).warnings;
    assert!(
        warned[0].contains("externalTrafficPolicy Local"),
        "{warned:?}"
    );
}

#[test]
fn more_listeners_than_aws_lets_in_are_refused() {
    let many: Vec<u16> = (1000..1051).collect();
    let mut world = World::of(vec![member("a", &many, &[])]);
    let message = refused(&world);
    assert!(
        message.contains("51 listeners") && message.contains("50"),
        "{message}"
    );
    world.services[0].ports.pop();
    assert_eq!(wanted(&world).listeners.len(), 50);
}

#[test]
fn without_a_service_nothing_is_wanted() {
    assert!(refused(&World::of(vec![])).contains("at least one Service"));
}

#[test]
fn a_rejection_says_what_was_found_of_each_subnet() {
    let mut world = World::asking(&[]);
    for subnet in &mut world.network.subnets {
        subnet.available = 0;
    }
    let rejection = desired(&world.input()).unwrap_err();
    assert_eq!(rejection.reason, Reason::InvalidRequest);
    for id in ["subnet-a", "subnet-b", "subnet-p"] {
        assert!(rejection.message.contains(id), "{}", rejection.message);
    }
    world.network = network();
    assert_eq!(subnet_verdicts(&world.input()).unwrap().len(), 3);
}

#[test]
fn the_same_input_gives_the_same_answer_in_any_order_of_nodes_and_subnets() {
    let mut world = World::asking(&[]);
    world.class.max_targets = Some(3);
    world.nodes = (0..50).map(|n| node(&format!("n{n}"))).collect();
    let before = wanted(&world);
    world.nodes.reverse();
    world.network.subnets.reverse();
    assert_eq!(wanted(&world), before);
}

#[test]
fn what_is_wanted_can_be_printed() {
    let printed = serde_json::to_value(wanted(&World::asking(&[]))).unwrap();
    assert_eq!(printed["loadBalancer"]["scheme"], "internal");
    assert_eq!(printed["listeners"]["443"]["targetGroup"], "shop/web:443");
}
