//! `deploy/aws/iam-policy.json` allows exactly what is ever asked of AWS, and of the writes only
//! those to what is this cluster's: told by an evaluator of as much of IAM as the policy uses.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use aws_cloud::Operation;
use serde_json::Value;

/// What users put their cluster's name for.
const PLACEHOLDER: &str = "CLUSTER_NAME";
/// AWS: so many characters in a managed policy, whitespace not counted.
const POLICY_MAX: usize = 6144;
/// EKS: so many in the name of a cluster.
const CLUSTER_MAX: usize = 100;

fn text() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../deploy/aws/iam-policy.json"
    );
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn policy(cluster: &str) -> Value {
    serde_json::from_str(&text().replace(PLACEHOLDER, cluster)).unwrap()
}

fn statements(policy: &Value) -> &Vec<Value> {
    policy["Statement"].as_array().unwrap()
}

/// IAM takes one text for a list of one.
fn list(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().map(|one| one.as_str().unwrap()).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            panic!("neither a text nor a list of them: {other}")
        }
    }
}

fn granted(policy: &Value) -> BTreeSet<String> {
    let actions = statements(policy)
        .iter()
        .flat_map(|statement| list(&statement["Action"]));
    actions.map(str::to_owned).collect()
}

/// A request as IAM sees it.
struct Request {
    action: &'static str,
    /// A kind of resource, e.g. `ec2:security-group`.
    resource: &'static str,
    context: BTreeMap<String, String>,
}

fn request(action: &'static str, resource: &'static str, context: &[(&str, &str)]) -> Request {
    let context = context.iter();
    Request {
        action,
        resource,
        context: context
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

/// A change of something with these tags.
fn change(action: &'static str, resource: &'static str, tags: &[(&str, &str)]) -> Request {
    let mut request = request(action, resource, &[]);
    for (key, value) in tags {
        let key = format!("aws:ResourceTag/{key}");
        request.context.insert(key, (*value).to_owned());
    }
    request
}

/// The Sid of the statement that allows it.
fn allowed_by<'a>(policy: &'a Value, request: &Request) -> Option<&'a str> {
    let allows = |statement: &&Value| {
        assert_eq!(statement["Effect"], "Allow");
        list(&statement["Action"]).contains(&request.action)
            && list(&statement["Resource"])
                .iter()
                .any(|pattern| covers(pattern, request.resource))
            && holds(&statement["Condition"], &request.context)
    };
    statements(policy)
        .iter()
        .find(allows)
        .map(|statement| statement["Sid"].as_str().unwrap())
}

/// `arn:*:ec2:*:*:vpc/*` covers `ec2:vpc`.
fn covers(pattern: &str, resource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let parts: Vec<&str> = pattern.split(':').collect();
    let [_, _, service, _, _, rest] = parts.as_slice() else {
        panic!("{pattern} is no ARN");
    };
    let kind = rest.strip_suffix("/*").unwrap();
    resource == format!("{service}:{kind}")
}

fn holds(condition: &Value, context: &BTreeMap<String, String>) -> bool {
    let Some(condition) = condition.as_object() else {
        return true;
    };
    condition.iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, wanted)| {
            let found = context.get(key);
            match operator.as_str() {
                "StringEquals" => found.is_some_and(|found| list(wanted).contains(&found.as_str())),
                "Null" => list(wanted) == [if found.is_none() { "true" } else { "false" }],
                other => panic!("{other} is not known here"),
            }
        })
    })
}

const OURS: &[(&str, &str)] = &[
    ("portolan.dev/cluster", "mine"),
    ("portolan.dev/stack", "shop/web"),
    ("elbv2.k8s.aws/cluster", "mine"),
    ("service.k8s.aws/stack", "shop/web"),
];
const LBC_SERVICE: &[(&str, &str)] = &[
    ("elbv2.k8s.aws/cluster", "mine"),
    ("service.k8s.aws/stack", "shop/web"),
    ("service.k8s.aws/resource", "LoadBalancer"),
];
const LBC_INGRESS: &[(&str, &str)] = &[
    ("elbv2.k8s.aws/cluster", "mine"),
    ("ingress.k8s.aws/stack", "shop/web"),
];
const LBC_BACKEND: &[(&str, &str)] = &[
    ("elbv2.k8s.aws/cluster", "mine"),
    ("elbv2.k8s.aws/resource", "backend-sg"),
];
const NEIGHBOUR: &[(&str, &str)] = &[
    ("portolan.dev/cluster", "other"),
    ("portolan.dev/stack", "shop/web"),
    ("elbv2.k8s.aws/cluster", "other"),
    ("service.k8s.aws/stack", "shop/web"),
];
const NODES: &[(&str, &str)] = &[("kubernetes.io/cluster/mine", "owned")];
const NODES_OF_NEIGHBOUR: &[(&str, &str)] = &[("kubernetes.io/cluster/other", "owned")];

/// Writes to what is there already: all but Create*, and CreateTags, which only tags what is made.
fn changes() -> Vec<&'static str> {
    let writes = Operation::ALL.iter().filter(|operation| !operation.reads());
    let made = |name: &str| name.starts_with("Create");
    let changes = writes.filter(|operation| !made(operation.name()));
    changes
        .map(|operation| -> &'static str { operation.action().leak() })
        .collect()
}

#[test]
fn the_policy_has_the_size_and_the_shape_that_aws_takes() {
    let policy = policy(&"x".repeat(CLUSTER_MAX));
    let text = policy.to_string();
    assert!(text.chars().filter(|c| !c.is_whitespace()).count() <= POLICY_MAX);
    assert_eq!(policy["Version"], "2012-10-17");
    let sids: Vec<&str> = statements(&policy)
        .iter()
        .map(|statement| statement["Sid"].as_str().unwrap())
        .collect();
    let unique: BTreeSet<&str> = sids.iter().copied().collect();
    assert_eq!(unique.len(), sids.len(), "a Sid is there twice: {sids:?}");
    // AWS: nothing else in a Sid.
    assert!(sids.concat().chars().all(|c| c.is_ascii_alphanumeric()));
}

#[test]
fn the_documented_command_makes_the_policy_of_a_cluster() {
    // runs: sed s/CLUSTER_NAME/production/g deploy/aws/iam-policy.json > portolan-policy.json
    let sed = Command::new("sed")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
        .args(["s/CLUSTER_NAME/production/g", "deploy/aws/iam-policy.json"])
        .output()
        .unwrap();
    assert!(sed.status.success());
    let made: Value = serde_json::from_slice(&sed.stdout).unwrap();
    assert_eq!(made, policy("production"));
    assert!(!made.to_string().contains(PLACEHOLDER));
}

#[test]
fn the_policy_grants_every_action_that_is_used_and_no_other() {
    let used: BTreeSet<String> = Operation::ALL
        .iter()
        .map(|operation| operation.action())
        .collect();
    let granted = granted(&policy("mine"));
    let difference: Vec<&String> = granted.symmetric_difference(&used).collect();
    assert_eq!(
        difference,
        Vec::<&String>::new(),
        "not both granted and used"
    );
}

#[test]
fn only_reads_are_allowed_without_a_condition() {
    let policy = policy("mine");
    let unconditional: BTreeSet<&str> = statements(&policy)
        .iter()
        .filter(|statement| statement["Condition"].is_null())
        .flat_map(|statement| list(&statement["Action"]))
        .collect();
    let reads = Operation::ALL.iter().filter(|operation| operation.reads());
    let reads: BTreeSet<String> = reads.map(|operation| operation.action()).collect();
    let mut expected: BTreeSet<&str> = reads.iter().map(String::as_str).collect();
    // The half of it that no condition can be put on; the other half has one.
    expected.insert("ec2:CreateSecurityGroup");
    assert_eq!(unconditional, expected);
}

#[test]
fn what_is_made_must_carry_the_tag_of_this_cluster() {
    let policy = policy("mine");
    let tag = "aws:RequestTag/portolan.dev/cluster";
    for (action, resource) in [
        (
            "elasticloadbalancing:CreateLoadBalancer",
            "elasticloadbalancing:loadbalancer",
        ),
        (
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:targetgroup",
        ),
        (
            "elasticloadbalancing:CreateListener",
            "elasticloadbalancing:listener",
        ),
        ("ec2:CreateSecurityGroup", "ec2:security-group"),
    ] {
        let with = |context: &[(&str, &str)]| {
            allowed_by(&policy, &request(action, resource, context)).is_some()
        };
        assert!(with(&[(tag, "mine")]), "{action}");
        assert!(!with(&[(tag, "other")]), "{action}");
        assert!(!with(&[]), "{action}");
        let (tagging, on_create) = match resource.split_once(':') {
            Some(("ec2", _)) => ("ec2:CreateTags", "ec2:CreateAction"),
            _ => (
                "elasticloadbalancing:AddTags",
                "elasticloadbalancing:CreateAction",
            ),
        };
        let (_, name) = action.split_once(':').unwrap();
        let tags = |context: &[(&str, &str)]| {
            allowed_by(&policy, &request(tagging, resource, context)).is_some()
        };
        assert!(tags(&[(on_create, name), (tag, "mine")]), "{action}");
        assert!(!tags(&[(on_create, name), (tag, "other")]), "{action}");
        assert!(!tags(&[(tag, "mine")]), "{action}");
    }
    let vpc = request("ec2:CreateSecurityGroup", "ec2:vpc", &[]);
    assert_eq!(
        allowed_by(&policy, &vpc),
        Some("CreateSecurityGroupInVpc"),
        "the VPC that it is made in is asked for, too"
    );
}

#[test]
fn only_resources_of_this_cluster_and_of_services_of_its_predecessor_can_be_changed() {
    let policy = policy("mine");
    for action in changes() {
        for resource in ["ec2:security-group", "elasticloadbalancing:any"] {
            let by = |tags| allowed_by(&policy, &change(action, resource, tags));
            assert_eq!(by(OURS), Some("ChangeOurs"), "{action}");
            assert_eq!(
                by(LBC_SERVICE),
                Some("TakeOverFromAwsLoadBalancerController"),
                "{action}"
            );
            for others in [LBC_INGRESS, LBC_BACKEND, NEIGHBOUR, NODES_OF_NEIGHBOUR, &[]] {
                assert_eq!(by(others), None, "{action} of {others:?}");
            }
        }
    }
}

#[test]
fn of_security_groups_of_the_nodes_only_rules_can_be_changed() {
    let policy = policy("mine");
    for action in changes() {
        let by = allowed_by(&policy, &change(action, "ec2:security-group", NODES));
        let rules = [
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupIngress",
        ];
        let expected = rules
            .contains(&action)
            .then_some("RulesOfNodeSecurityGroups");
        assert_eq!(by, expected, "{action}");
    }
}

/// The documentation says which statements may be left out: each is named there.
#[test]
fn every_statement_is_explained() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/aws.md");
    let page = std::fs::read_to_string(path).unwrap();
    let policy = policy("mine");
    let sids = statements(&policy)
        .iter()
        .map(|statement| statement["Sid"].as_str().unwrap());
    let missing: Vec<&str> = sids
        .filter(|sid| !page.contains(&format!("`{sid}`")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
