use kube::core::cel::ValidationErrors;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Rejected, assert_accepted, assert_rejected};

fn class(spec: Value) -> LoadBalancerClass {
    LoadBalancerClass::new("c", serde_json::from_value(spec).expect("a spec"))
}

fn judge(spec: Value) -> Result<(), ValidationErrors> {
    class(spec).validate_cel()
}

fn named(name: &str) -> Value {
    json!({"className": name, "pool": {}})
}

#[test]
fn usable_classes_are_accepted() {
    assert_accepted(
        vec![
            named("portolan.dev/pool"),
            named("internal"),
            named("a"),
            named("Example.com_1"),
            named("service.k8s.aws/nlb"),
            named(&"a".repeat(63)),
            json!({"className": "a", "default": true, "pool": {"addressPools": ["public", "v6.public"]}}),
            json!({"className": "a", "aws": {}}),
            json!({"className": "a", "aws": {"region": "us-gov-west-1"}}),
            json!({"className": "a", "aws": {"maxTargets": 1}}),
            json!({"className": "a", "aws": {"maxTargets": 1000, "targetType": "ip"}}),
            json!({"className": "a", "aws": {"nodeSecurityGroups": ["sg-01234567", "sg-0123456789abcdef0"]}}),
            json!({"className": "a", "aws": {"securityGroupRules": 1, "groupsAcrossNamespaces": true}}),
            json!({"className": "a", "aws": {"securityGroupRules": 1000, "adoptable": [
                "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/a-1/0123456789abcdef",
                "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:loadbalancer/net/a/0",
            ]}}),
            json!({"className": "a", "gcp": {}}),
            json!({"className": "a", "gcp": {"project": "my-project-1", "region": "europe-west3"}}),
            json!({"className": "a", "gcp": {"project": "example.com:my-project"}}),
        ],
        judge,
    );
}

#[test]
fn each_mistake_is_told_where_it_is() {
    const NAME: &str = "spec.className";
    let rows: Vec<Rejected> = vec![
        (
            json!({"className": "a"}),
            "spec",
            "exactly one of pool, aws and gcp",
        ),
        (
            json!({"className": "a", "pool": {}, "aws": {}}),
            "spec",
            "exactly one",
        ),
        (
            json!({"className": "a", "pool": {}, "aws": {}, "gcp": {}}),
            "spec",
            "exactly one",
        ),
        (named(""), NAME, "className must be"),
        (named("portolan.dev/"), NAME, "className must be"),
        (named("/pool"), NAME, "className must be"),
        (named("a/b/c"), NAME, "className must be"),
        (named("Portolan.dev/pool"), NAME, "className must be"),
        (named("a..b/pool"), NAME, "className must be"),
        (named("pool-"), NAME, "className must be"),
        (named("a pool"), NAME, "className must be"),
        (named(&"a".repeat(64)), NAME, "at most 63"),
        (
            json!({"className": "a", "pool": {"addressPools": ["ok", "Public"]}}),
            "spec.pool.addressPools[1]",
            "a pool's name",
        ),
        (
            json!({"className": "a", "aws": {"region": "eu-central-1a"}}),
            "spec.aws.region",
            "AWS region",
        ),
        (
            json!({"className": "a", "aws": {"maxTargets": 0}}),
            "spec.aws.maxTargets",
            "from 1 to 1000",
        ),
        (
            json!({"className": "a", "aws": {"maxTargets": 1001}}),
            "spec.aws.maxTargets",
            "from 1 to 1000",
        ),
        (
            json!({"className": "a", "aws": {"nodeSecurityGroups": ["sg-01234567", "nodes"]}}),
            "spec.aws.nodeSecurityGroups[1]",
            "the id of a security group",
        ),
        (
            json!({"className": "a", "aws": {"securityGroupRules": 0}}),
            "spec.aws.securityGroupRules",
            "from 1 to 1000",
        ),
        (
            json!({"className": "a", "aws": {"securityGroupRules": 1001}}),
            "spec.aws.securityGroupRules",
            "from 1 to 1000",
        ),
        (
            json!({"className": "a", "aws": {"adoptable": [
                "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/a/0123456789abcdef",
            ]}}),
            "spec.aws.adoptable[0]",
            "ARN of a Network Load Balancer",
        ),
        (
            json!({"className": "a", "aws": {"adoptable": ["*"]}}),
            "spec.aws.adoptable[0]",
            "ARN of a Network Load Balancer",
        ),
        (
            json!({"className": "a", "gcp": {"region": "europe-west3-a"}}),
            "spec.gcp.region",
            "Cloud region",
        ),
        (
            json!({"className": "a", "gcp": {"project": "p"}}),
            "spec.gcp.project",
            "project id",
        ),
    ];
    assert_rejected("LoadBalancerClass", rows, judge);
}

#[test]
fn the_class_name_cannot_be_changed() {
    let error = class(named("b"))
        .validate_cel_update(&class(named("a")))
        .expect_err("refused");
    assert!(
        error.to_string().contains("className cannot be changed"),
        "{error}"
    );
}

#[test]
fn everything_but_the_class_name_can_be_changed() {
    let changed = class(json!({"className": "a", "default": true, "aws": {}}));
    assert_eq!(changed.validate_cel_update(&class(named("a"))), Ok(()));
}

#[test]
fn absent_fields_stay_absent() {
    let spec = class(named("a")).spec;
    assert_eq!(serde_json::to_value(spec).expect("JSON"), named("a"));
}

#[test]
fn an_object_with_unknown_fields_survives_a_round_trip() {
    let known = json!({"className": "a", "default": true, "gcp": {"project": "my-project", "region": "europe-west3"}});
    let mut newer = known.clone();
    newer["azure"] = json!({});
    newer["gcp"]["network"] = json!("vpc");
    assert_eq!(
        serde_json::to_value(class(newer).spec).expect("JSON"),
        known
    );
}
