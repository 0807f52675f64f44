use kube::core::cel::ValidationErrors;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Rejected, assert_accepted, assert_rejected};

fn block(spec: Value) -> AllocationBlock {
    AllocationBlock::new("b", serde_json::from_value(spec).expect("a spec"))
}

fn judge(spec: Value) -> Result<(), ValidationErrors> {
    block(spec).validate_cel()
}

fn at(format_version: u32, sequence: i64) -> Value {
    json!({"formatVersion": format_version, "sequence": sequence, "writer": "w"})
}

fn with(claims: Value) -> Value {
    json!({"formatVersion": 1, "sequence": 1, "writer": "w", "claims": claims})
}

fn holder() -> Value {
    json!({"namespace": "n", "name": "s", "uid": "u", "kind": "LoadBalancer", "at": "17"})
}

fn held(number: &str) -> Value {
    with(json!([{"number": number, "holders": [holder()]}]))
}

fn retained() -> Value {
    json!({"namespace": "n", "name": "s", "until": 1_800_000_000})
}

#[test]
fn what_portolan_writes_is_accepted() {
    assert_accepted(
        vec![
            at(1, 0),
            at(2, 7),
            held("203.0.113.7"),
            held("2001:db8::1"),
            held("30080"),
            held("1"),
            held("65535"),
            with(json!([{"number": "30080", "retained": retained()}])),
            with(json!([
                {"number": "203.0.113.7", "holders": [holder(), holder()]},
                {"number": "203.0.113.8", "retained": retained()},
            ])),
        ],
        judge,
    );
}

#[test]
fn each_damage_is_told_where_it_is() {
    const NUMBER: &str = "spec.claims[0].number";
    let rows: Vec<Rejected> = vec![
        (at(0, 0), "spec.formatVersion", "starts at 1"),
        (at(1, -1), "spec.sequence", "starts at 0"),
        (
            with(json!([{"number": "1"}])),
            "spec.claims[0]",
            "either holders or a retained owner",
        ),
        (
            with(json!([{"number": "1", "holders": [holder()]}, {"number": "2", "holders": []}])),
            "spec.claims[1]",
            "either holders or a retained owner",
        ),
        (
            with(json!([{"number": "1", "holders": [holder()], "retained": retained()}])),
            "spec.claims[0]",
            "either holders or a retained owner",
        ),
        (held(""), NUMBER, "canonical form"),
        (held("0"), NUMBER, "canonical form"),
        (held("080"), NUMBER, "canonical form"),
        (held("65536"), NUMBER, "between 1 and 65535"),
        (held("203.0.113.07"), NUMBER, "canonical form"),
        (held("2001:DB8::1"), NUMBER, "canonical form"),
        (held("2001:db8:0::1"), NUMBER, "canonical form"),
        (held("203.0.113.0/24"), NUMBER, "canonical form"),
    ];
    assert_rejected("AllocationBlock", rows, judge);
}

#[test]
fn a_later_sequence_is_accepted() {
    assert_eq!(
        block(at(1, 8)).validate_cel_update(&block(at(1, 7))),
        Ok(())
    );
}

#[test]
fn an_equal_sequence_is_accepted_so_that_labels_can_be_edited() {
    assert_eq!(
        block(at(1, 7)).validate_cel_update(&block(at(1, 7))),
        Ok(())
    );
}

#[test]
fn an_earlier_sequence_is_refused() {
    let error = block(at(1, 6))
        .validate_cel_update(&block(at(1, 7)))
        .expect_err("refused");
    assert!(
        error.to_string().contains("sequence never goes back"),
        "{error}"
    );
}

#[test]
fn a_later_format_is_accepted() {
    assert_eq!(
        block(at(2, 8)).validate_cel_update(&block(at(1, 7))),
        Ok(())
    );
}

#[test]
fn an_earlier_format_is_refused() {
    let error = block(at(1, 8))
        .validate_cel_update(&block(at(2, 7)))
        .expect_err("refused");
    assert!(
        error.to_string().contains("formatVersion never goes back"),
        "{error}"
    );
}

#[test]
fn claims_are_one_field_to_whoever_owns_fields() {
    let schema = serde_json::to_value(crate::all()).expect("JSON");
    let claims = schema
        .pointer("/1/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/claims")
        .expect("claims");
    assert_eq!(claims["x-kubernetes-list-type"], "atomic");
}

#[test]
fn a_block_of_a_newer_controller_survives_a_round_trip() {
    let mut known = with(json!([
        {"number": "203.0.113.7", "holders": [{
            "namespace": "n", "name": "s", "uid": "u", "kind": "LoadBalancer", "at": "17",
            "sharing": {"key": "k", "with": ["m"], "ports": ["TCP/80"], "policy": "Local", "backend": "app=a"},
        }]},
        {"number": "203.0.113.8", "retained": retained()},
    ]));
    known["sequence"] = json!(9);
    let mut newer = known.clone();
    newer["space"] = json!("ipv4");
    newer["claims"][0]["pool"] = json!("p");
    newer["claims"][0]["holders"][0]["since"] = json!(1);
    newer["claims"][0]["holders"][0]["sharing"]["weight"] = json!(1);
    newer["claims"][1]["retained"]["why"] = json!("x");
    assert_eq!(
        serde_json::to_value(block(newer).spec).expect("JSON"),
        known
    );
}
