use allocator::Selector;
use serde_json::{Value, json};

use super::*;
use crate::core::translate::tests::read;

fn address(spec: Value) -> PoolRecord {
    address_pool(&read(json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {
            "name": "production", "uid": "u1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "1970-01-01T00:01:40Z",
        },
        "spec": spec,
        "status": {"observedGeneration": 2, "ipv4": {"capacity": 4}},
    })))
    .unwrap()
}

fn node_port(spec: Value) -> PoolRecord {
    node_port_pool(&read(json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
        "metadata": {"name": "low", "uid": "u2", "resourceVersion": "8"},
        "spec": spec,
    })))
    .unwrap()
}

#[test]
fn an_address_pool_becomes_a_pool() {
    let record = address(json!({
        "addresses": ["203.0.113.0/30", "2001:db8::1-2001:db8::4"],
        "usage": "ClusterIP",
        "reserved": ["203.0.113.1"],
        "autoAssign": false,
        "priority": 5,
        "namespaces": ["shop"],
        "serviceSelector": {"matchLabels": {"app": "web"}},
        "strategy": "Stable",
        "retainFor": "1h30m",
        "avoidBuggyIPs": true,
    }));
    let v6 = "2001:db8::1"
        .parse::<std::net::Ipv6Addr>()
        .unwrap()
        .to_bits();
    let wanted = Pool {
        name: "production".into(),
        created: 100,
        uid: model::Uid::from("u1"),
        usage: Use::ClusterIp,
        v4: RangeSet::new([(0xcb00_7100, 0xcb00_7103)]),
        v6: RangeSet::new([(v6, v6 + 3)]),
        ports: RangeSet::default(),
        reserved_v4: RangeSet::new([(0xcb00_7101, 0xcb00_7101)]),
        reserved_v6: RangeSet::default(),
        excluded_ports: RangeSet::default(),
        unusable_ports: RangeSet::default(),
        unusable_v4: RangeSet::default(),
        unusable_v6: RangeSet::default(),
        auto_assign: false,
        priority: 5,
        disabled: false,
        admission: Admission {
            namespaces: Some(BTreeSet::from(["shop".to_owned()])),
            namespace_selector: None,
            service_selector: Some(Selector {
                requirements: vec![Requirement {
                    key: "app".to_owned(),
                    operator: Operator::In,
                    values: BTreeSet::from(["web".to_owned()]),
                }],
            }),
        },
        enforce: false,
        strategy: Strategy::Stable,
        retain_for: Some(5400),
        avoid_buggy_ips: true,
    };
    assert_eq!(record.pool, Ok(wanted));
    assert_eq!(record.generation, 3);
    assert_eq!(record.status.observed_generation, Some(2));
    assert_eq!(record.status.v4.map(|counts| counts.capacity), Some(4));
}

#[test]
fn a_node_port_pool_becomes_a_pool() {
    let record = node_port(json!({"ports": ["30000-30009", "30100"], "exclude": ["30005"]}));
    let pool = record.pool.unwrap();
    assert_eq!(record.kind, PoolKind::NodePort);
    assert_eq!(pool.usage, Use::NodePort);
    assert_eq!(pool.ports, RangeSet::new([(30000, 30009), (30100, 30100)]));
    assert_eq!(pool.excluded_ports, RangeSet::new([(30005, 30005)]));
}

#[test]
fn what_is_wrong_in_a_pool_names_the_field() {
    const GOOD: &str = "203.0.113.0/24";
    let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
    let rows = [
        (
            json!({"addresses": []}),
            "spec.addresses is empty: add a range",
        ),
        (
            json!({"addresses": [GOOD, "x"]}),
            "spec.addresses[1]: \"x\" is not an address",
        ),
        (
            json!({"addresses": ["10.0.0.9-10.0.0.1"]}),
            "spec.addresses[0]: ",
        ),
        (
            json!({"addresses": ["10.0.0.1/24"]}),
            "write 10.0.0.0/24 for the network",
        ),
        (
            json!({"addresses": [GOOD], "reserved": [GOOD, "y"]}),
            "spec.reserved[1]: \"y\"",
        ),
        (
            json!({"addresses": [GOOD], "retainFor": "soon"}),
            "spec.retainFor: \"soon\"",
        ),
        (
            json!({"addresses": [GOOD], "namespaceSelector": expression("Like", &["b"])}),
            "spec.namespaceSelector.matchExpressions[0].operator: \"Like\" is none of In, NotIn, \
             Exists, DoesNotExist",
        ),
        (
            json!({"addresses": [GOOD], "serviceSelector": expression("In", &[])}),
            "spec.serviceSelector.matchExpressions[0].values do not fit In: add at least one",
        ),
        (
            json!({"addresses": [GOOD], "serviceSelector": expression("Exists", &["b"])}),
            "spec.serviceSelector.matchExpressions[0].values do not fit Exists: remove them",
        ),
    ];
    for (spec, text) in rows {
        let rejection = address(spec).pool.unwrap_err();
        assert_eq!(rejection.reason, Reason::PoolInvalid);
        assert!(rejection.message.starts_with("AddressPool production: "));
        assert!(rejection.message.contains(text), "{}", rejection.message);
    }
}

#[test]
fn what_is_wrong_in_a_node_port_pool_names_the_field() {
    let rows = [
        (json!({"ports": []}), "spec.ports is empty: add a range"),
        (json!({"ports": ["30000", "70000"]}), "spec.ports[1]: "),
        (json!({"ports": ["30009-30000"]}), "spec.ports[0]: "),
        (
            json!({"ports": ["30000"], "exclude": ["a"]}),
            "spec.exclude[0]: ",
        ),
    ];
    for (spec, text) in rows {
        let rejection = node_port(spec).pool.unwrap_err();
        assert_eq!(rejection.reason, Reason::PoolInvalid);
        assert!(rejection.message.starts_with("NodePortPool low: "));
        assert!(rejection.message.contains(text), "{}", rejection.message);
    }
}
