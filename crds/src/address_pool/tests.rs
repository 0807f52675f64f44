use kube::core::cel::ValidationErrors;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Rejected, assert_accepted, assert_rejected};

fn pool(spec: Value) -> AddressPool {
    AddressPool::new("p", serde_json::from_value(spec).expect("a spec"))
}

fn judge(spec: Value) -> Result<(), ValidationErrors> {
    pool(spec).validate_cel()
}

/// A valid pool with further fields.
fn with(fields: Value) -> Value {
    let mut spec = json!({"addresses": ["203.0.113.0/24"]});
    let fields = fields.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(fields);
    spec
}

fn of(range: &str) -> Value {
    json!({"addresses": [range]})
}

#[test]
fn usable_pools_are_accepted() {
    assert_accepted(
        vec![
            of("203.0.113.0/24"),
            of("203.0.113.7/32"),
            of("10.0.0.0/8"),
            of("2001:db8::/48"),
            of("2001:db8::1/128"),
            of("203.0.113.10-203.0.113.20"),
            of("2001:db8::1-2001:db8::ff"),
            of("203.0.113.7"),
            of("2001:db8::7"),
            json!({"addresses": ["203.0.113.0/24", "2001:db8::/64", "198.51.100.1-198.51.100.9"]}),
            // Which end comes first is told in a condition, not here.
            of("203.0.113.20-203.0.113.10"),
            with(json!({"reserved": ["203.0.113.1", "203.0.113.250-203.0.113.254"]})),
            with(json!({"namespaces": ["default", "team-a", "0"]})),
            with(json!({"namespaceSelector": {}})),
            with(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})),
            with(
                json!({"serviceSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]}}),
            ),
            with(
                json!({"serviceSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}}),
            ),
            with(
                json!({"serviceSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist", "values": []}]}}),
            ),
            with(json!({"usage": "LoadBalancer", "announce": {"l2": {}}})),
            with(json!({"announce": {"l2": {"interfaces": ["eth?", "bond0.7"]}}})),
            with(json!({"announce": {"l2": {"preferredNodes": [
                {"weight": 1, "nodeSelector": {}}, {"weight": 100, "nodeSelector": {}},
            ]}}})),
            with(json!({"usage": "ClusterIP"})),
            with(json!({"retainFor": "30m"})),
            with(json!({"retainFor": "1h30m"})),
            with(json!({"retainFor": "8760h"})),
        ],
        judge,
    );
}

#[test]
fn each_mistake_is_told_where_it_is() {
    const ADDRESS: &str = "spec.addresses[0]";
    let expression = |operator: &str, values: Value| {
        with(
            json!({"serviceSelector": {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}}),
        )
    };
    const EXPRESSION: &str = "spec.serviceSelector.matchExpressions[0]";
    let rows: Vec<Rejected> = vec![
        (
            json!({"addresses": []}),
            "spec.addresses",
            "at least one range",
        ),
        (of(""), ADDRESS, "write a CIDR"),
        (of("example.com"), ADDRESS, "write a CIDR"),
        (of("203.0.113.0/33"), ADDRESS, "write a CIDR"),
        (of("203.0.113.256"), ADDRESS, "write a CIDR"),
        (of("203.0.113.010"), ADDRESS, "write a CIDR"),
        (of("203.0.113.1 - 203.0.113.9"), ADDRESS, "without spaces"),
        (of("203.0.113.1-9"), ADDRESS, "write a CIDR"),
        (of("203.0.113.1-"), ADDRESS, "write a CIDR"),
        (
            of("203.0.113.1-203.0.113.2-203.0.113.3"),
            ADDRESS,
            "write a CIDR",
        ),
        (of("203.0.113.1-203.0.113.0/24"), ADDRESS, "write a CIDR"),
        (of("203.0.113.1-2001:db8::1"), ADDRESS, "one family"),
        (of("203.0.113.7/24"), ADDRESS, "start at its first address"),
        (of("2001:db8::1/64"), ADDRESS, "start at its first address"),
        (of("10.0.0.0/7"), ADDRESS, "at most an IPv4 /8"),
        (of("0.0.0.0/0"), ADDRESS, "at most an IPv4 /8"),
        (of("2001:db8::/47"), ADDRESS, "at most an IPv4 /8"),
        (
            with(json!({"reserved": ["203.0.113.0/24", "x"]})),
            "spec.reserved[1]",
            "write a CIDR",
        ),
        (
            with(json!({"namespaces": []})),
            "spec.namespaces",
            "leave namespaces out",
        ),
        (
            with(json!({"namespaces": ["a", "Team"]})),
            "spec.namespaces[1]",
            "lower-case",
        ),
        (
            with(json!({"namespaces": ["-a"]})),
            "spec.namespaces[0]",
            "no dash at its ends",
        ),
        (
            with(json!({"namespaces": [""]})),
            "spec.namespaces[0]",
            "lower-case",
        ),
        (
            expression("In", json!([])),
            EXPRESSION,
            "at least one value",
        ),
        (expression("Exists", json!(["x"])), EXPRESSION, "take none"),
        (
            with(json!({"usage": "ClusterIP", "announce": {}})),
            "spec",
            "remove announce",
        ),
        (
            with(json!({"announce": {"l2": {"interfaces": []}}})),
            "spec.announce.l2.interfaces",
            "name at least one interface",
        ),
        (
            with(json!({"announce": {"l2": {"interfaces": ["eth0 eth1"]}}})),
            "spec.announce.l2.interfaces[0]",
            "without slashes, colons and spaces",
        ),
        (
            with(
                json!({"announce": {"l2": {"preferredNodes": [{"weight": 0, "nodeSelector": {}}]}}}),
            ),
            "spec.announce.l2.preferredNodes[0].weight",
            "1 to 100",
        ),
        (
            with(
                json!({"announce": {"l2": {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}}),
            ),
            "spec.announce.l2.nodeSelector.matchExpressions[0]",
            "at least one value",
        ),
        (
            with(
                json!({"announce": {"l2": {"preferredNodes": [{"weight": 1, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}}}),
            ),
            "spec.announce.l2.preferredNodes[0].nodeSelector.matchExpressions[0]",
            "at least one value",
        ),
        (
            with(json!({"retainFor": ""})),
            "spec.retainFor",
            "for example 24h",
        ),
        (
            with(json!({"retainFor": "1d"})),
            "spec.retainFor",
            "for example 24h",
        ),
        (
            with(json!({"retainFor": "-1h"})),
            "spec.retainFor",
            "for example 24h",
        ),
        (
            with(json!({"retainFor": "0s"})),
            "spec.retainFor",
            "longer than 0",
        ),
        (
            with(json!({"retainFor": "8760h1s"})),
            "spec.retainFor",
            "at most 8760h",
        ),
    ];
    assert_rejected("AddressPool", rows, judge);
}

#[test]
fn cel_and_parse_duration_agree() {
    for text in [
        "30m",
        "24h",
        "1h30m",
        "1h1m1s",
        "90s",
        "0h5m",
        "008h",
        "8760h",
        "525600m",
        "31536000s",
        "",
        "30",
        "h",
        "1d",
        "-1h",
        "+1h",
        "1.5h",
        "1m1h",
        "1h1h",
        "1h 30m",
        "1H",
        "00001h",
        "500ms",
        "0s",
        "0h0m0s",
        "8760h1s",
        "8761h",
        "9999h999999m99999999s",
    ] {
        let cel = judge(with(json!({"retainFor": text}))).is_ok();
        assert_eq!(cel, crate::parse_duration(text).is_ok(), "{text}");
    }
}

#[test]
fn absent_fields_have_the_defaults_of_the_api_server() {
    let spec = pool(of("203.0.113.0/24")).spec;
    let expected = AddressPoolSpec {
        addresses: vec!["203.0.113.0/24".to_owned()],
        ..AddressPoolSpec::default()
    };
    assert_eq!(spec, expected);
    assert_eq!(
        serde_json::to_value(spec).expect("JSON"),
        json!({
            "addresses": ["203.0.113.0/24"],
            "usage": "LoadBalancer",
            "autoAssign": true,
            "priority": 0,
            "strategy": "LowestFree",
        })
    );
}

#[test]
fn an_object_with_every_field_and_unknown_ones_survives_a_round_trip() {
    let known = json!({
        "addresses": ["203.0.113.0/24"],
        "usage": "ClusterIP",
        "reserved": ["203.0.113.1"],
        "autoAssign": false,
        "priority": 7,
        "disabled": true,
        "namespaces": ["a"],
        "namespaceSelector": {"matchLabels": {"a": "b"}},
        "serviceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
        "enforce": true,
        "strategy": "Stable",
        "retainFor": "24h",
        "avoidBuggyIPs": true,
        "announce": {"l2": {
            "interfaces": ["eth*"],
            "nodeSelector": {"matchLabels": {"edge": "yes"}},
            "preferredNodes": [{"weight": 10, "nodeSelector": {"matchLabels": {"fast": "yes"}}}],
        }},
    });
    let mut newer = known.clone();
    newer["quota"] = json!({"perNamespace": 3});
    newer["announce"]["bgp"] = json!({"communities": ["65000:1"]});
    newer["announce"]["l2"]["vlan"] = json!(7);
    assert_eq!(serde_json::to_value(pool(newer).spec).expect("JSON"), known);
}

#[test]
fn a_status_of_a_newer_controller_can_be_read() {
    let status: AddressPoolStatus = serde_json::from_value(json!({
        "observedGeneration": 3,
        "ipv4": {"capacity": 256, "claimed": 1, "retained": 0, "available": 255, "warm": 2},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "severity": "x"}],
        "phase": "x",
    }))
    .expect("a status");
    assert_eq!(status.ipv4.map(|counts| counts.available), Some(255));
    assert_eq!(status.ipv6, None);
    assert_eq!(status.conditions.len(), 1);
}
