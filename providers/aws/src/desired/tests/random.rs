//! Whatever users write, what is said of it can be shown in a condition.

use proptest::prelude::*;

use super::*;

/// Names of annotations, near misses among them, and values that some of them take.
fn annotation() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        prop::sample::select(crate::annotations::KNOWN.to_vec())
            .prop_map(|suffix| format!("{PREFIX}{suffix}")),
        prop::sample::select(vec![GROUP, SOURCE_RANGES, "portolan.dev/on-delete"])
            .prop_map(str::to_owned),
        "(target-group|listener)-attributes\\.(TCP-|UDP-|TLS-|x)?[0-9]{0,6}"
            .prop_map(|suffix| format!("{PREFIX}{suffix}")),
        "[a-z-]{0,30}".prop_map(|suffix| format!("{PREFIX}{suffix}")),
    ];
    let value = prop_oneof![
        prop::sample::select(vec![
            "true",
            "false",
            "on",
            "off",
            "*",
            "edge",
            "ip",
            "instance",
            "internet-facing",
            "internal",
            "dualstack",
            "80,443",
            "http",
            "10",
            "a=b,c=d",
            "10.0.0.0/8",
            "::/0",
            "/x",
            "subnet-a,subnet-b",
            "eipalloc-1",
            "sg-1",
            "pl-1",
            "arn:aws:acm:x",
            "ssl",
            "retain",
            "auto_assigned",
            "10.0.1.7,10.0.2.7",
            "2001:db8:0:1::7,2001:db8:0:2::7",
            "200-399",
        ])
        .prop_map(str::to_owned),
        ".{0,200}",
    ];
    let right =
        prop::sample::select(crate::annotations::tests::ACCEPTED).prop_map(|(name, value, _)| {
            let asked = annotations(&[(name, value)]);
            asked.into_iter().next().unwrap_or_default()
        });
    prop_oneof![8 => right, 1 => (name, value)]
}

/// Annotations, ports with or without a nodePort, `externalTrafficPolicy: Local`.
type Random = (
    BTreeMap<String, (String, String)>,
    BTreeMap<(u16, Transport), bool>,
    bool,
);

fn services() -> impl Strategy<Value = Vec<Service>> {
    let protocol = prop_oneof![
        20 => Just(Transport::Tcp),
        10 => Just(Transport::Udp),
        1 => Just(Transport::Sctp),
    ];
    let ports = prop::collection::btree_map((0..6u16, protocol), prop::bool::weighted(0.95), 0..5);
    let one = (
        prop::collection::btree_map("[a-z]", annotation(), 0..5),
        ports,
        any::<bool>(),
    );
    prop::collection::vec(one, 1..4).prop_map(|all| {
        let service = |(n, (asked, ports, local)): (usize, Random)| {
            let mut service = service(&format!("s{n}"), &[]);
            service.annotations = asked.into_values().collect();
            (service.local, service.health_check_node_port) = (local, 31000);
            service.ports = ports
                .into_iter()
                .map(|((number, protocol), numbered): ((u16, Transport), bool)| {
                    let mut port = port(&format!("p{number}"), protocol, 80 + number);
                    port.node_port *= u16::from(numbered);
                    port
                })
                .collect();
            service
        };
        all.into_iter().enumerate().map(service).collect()
    })
}

proptest! {
    #[test]
    fn every_answer_is_whole_and_every_refusal_can_be_shown(services in services()) {
        let world = World::of(services);
        match desired(&world.input()) {
            Err(refused) => {
                prop_assert!(refused.message.len() <= 1024, "{}", refused.message);
                prop_assert!(!refused.message.chars().any(char::is_control), "{}", refused.message);
            }
            Ok(wanted) => {
                let used: BTreeSet<_> = wanted.listeners.values().map(|each| &each.target_group).collect();
                prop_assert_eq!(used, wanted.target_groups.keys().collect::<BTreeSet<_>>());
                prop_assert!(!wanted.load_balancer.subnets.is_empty());
                prop_assert!(wanted.load_balancer.name.len() <= 32);
                for group in wanted.target_groups.values() {
                    prop_assert!(group.name.len() <= 32);
                    prop_assert!(group.port > 0);
                    prop_assert!(group.health_check.timeout <= group.health_check.interval);
                }
                for warning in &wanted.warnings {
                    prop_assert!(warning.len() <= 1024 && !warning.chars().any(char::is_control), "{}", warning);
                }
            }
        }
    }
}
