use kube::core::cel::ValidationErrors;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Rejected, assert_accepted, assert_rejected};

fn pool(spec: Value) -> NodePortPool {
    NodePortPool::new("p", serde_json::from_value(spec).expect("a spec"))
}

fn judge(spec: Value) -> Result<(), ValidationErrors> {
    pool(spec).validate_cel()
}

/// A valid pool with further fields.
fn with(fields: Value) -> Value {
    let mut spec = json!({"ports": ["30000-32767"]});
    let fields = fields.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(fields);
    spec
}

fn of(range: &str) -> Value {
    json!({"ports": [range]})
}

#[test]
fn usable_pools_are_accepted() {
    assert_accepted(
        vec![
            of("30100"),
            of("30100-30200"),
            of("1-65535"),
            json!({"ports": ["30000-30099", "30500"]}),
            // Which end comes first is told in a condition, not here.
            of("30200-30100"),
            with(json!({"exclude": ["30001", "30010-30020"]})),
            with(
                json!({"namespaces": ["default"], "serviceSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}}),
            ),
            with(json!({"strategy": "Random", "retainFor": "24h"})),
        ],
        judge,
    );
}

#[test]
fn each_mistake_is_told_where_it_is() {
    const PORT: &str = "spec.ports[0]";
    let rows: Vec<Rejected> = vec![
        (json!({"ports": []}), "spec.ports", "at least one port"),
        (of(""), PORT, "write a port"),
        (of("0"), PORT, "write a port"),
        (of("030100"), PORT, "write a port"),
        (of("65536"), PORT, "between 1 and 65535"),
        (of("30100-65536"), PORT, "between 1 and 65535"),
        (of("30100 - 30200"), PORT, "without spaces"),
        (of("30100-"), PORT, "write a port"),
        (of("http"), PORT, "write a port"),
        (
            with(json!({"exclude": ["30001", "x"]})),
            "spec.exclude[1]",
            "write a port",
        ),
        (
            with(json!({"namespaces": []})),
            "spec.namespaces",
            "leave namespaces out",
        ),
        (
            with(json!({"namespaces": ["Team"]})),
            "spec.namespaces[0]",
            "lower-case",
        ),
        (
            with(
                json!({"namespaceSelector": {"matchExpressions": [{"key": "k", "operator": "NotIn"}]}}),
            ),
            "spec.namespaceSelector.matchExpressions[0]",
            "at least one value",
        ),
        (
            with(json!({"retainFor": "1d"})),
            "spec.retainFor",
            "for example 24h",
        ),
        (
            with(json!({"retainFor": "0s"})),
            "spec.retainFor",
            "longer than 0",
        ),
    ];
    assert_rejected("NodePortPool", rows, judge);
}

#[test]
fn absent_fields_have_the_defaults_of_the_api_server() {
    let spec = pool(of("30100")).spec;
    let expected = NodePortPoolSpec {
        ports: vec!["30100".to_owned()],
        ..NodePortPoolSpec::default()
    };
    assert_eq!(spec, expected);
    assert_eq!(
        serde_json::to_value(spec).expect("JSON"),
        json!({"ports": ["30100"], "autoAssign": true, "priority": 0, "strategy": "LowestFree"})
    );
}

#[test]
fn an_object_with_every_field_and_unknown_ones_survives_a_round_trip() {
    let known = json!({
        "ports": ["30000-30100"],
        "exclude": ["30001"],
        "autoAssign": false,
        "priority": -1,
        "disabled": true,
        "namespaces": ["a"],
        "namespaceSelector": {"matchLabels": {"a": "b"}},
        "serviceSelector": {},
        "enforce": true,
        "strategy": "Stable",
        "retainFor": "24h",
    });
    let mut newer = known.clone();
    newer["protocols"] = json!(["TCP"]);
    assert_eq!(serde_json::to_value(pool(newer).spec).expect("JSON"), known);
}
