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

fn with(claims: &str) -> Value {
    json!({"formatVersion": 2, "sequence": 1, "writer": "w", "claims": claims})
}

#[test]
fn what_portolan_writes_is_accepted() {
    assert_accepted(
        vec![
            at(1, 0),
            at(2, 7),
            with("203.0.113.7 LoadBalancer n/s u 17\n203.0.113.8 Retained n/s 1800000000\n"),
        ],
        judge,
    );
}

#[test]
fn each_damage_is_told_where_it_is() {
    let rows: Vec<Rejected> = vec![
        (at(0, 0), "spec.formatVersion", "starts at 1"),
        (at(1, -1), "spec.sequence", "starts at 0"),
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
fn a_block_of_a_newer_controller_survives_a_round_trip() {
    let known = with("203.0.113.7 LoadBalancer n/s u 17 {\"key\":\"k\"} more");
    let mut newer = known.clone();
    newer["space"] = json!("ipv4");
    let read = block(newer).spec;
    assert_eq!(serde_json::to_value(read).expect("JSON"), known);
}
