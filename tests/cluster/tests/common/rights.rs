//! What the chart's roles grant, and what the audit log shows to be used.

use std::collections::BTreeSet;

use cluster::{AuditLine, ControlPlane};
use serde_json::Value;

use super::chart::{NAMESPACE, rendered};

/// `group/resource/subresource: verb`, the group empty for the core's.
pub(crate) type Rights = BTreeSet<String>;

/// The roles, with these further arguments for helm.
pub(crate) fn roles(more: &[&str]) -> Vec<Value> {
    let text = rendered(&[&["--show-only", "templates/rbac.yaml"], more].concat());
    serde_saphyr::from_multiple(&text).unwrap()
}

pub(crate) fn granted(roles: &[Value]) -> Rights {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).unwrap()
    };
    let rules = roles.iter().filter_map(|role| role["rules"].as_array());
    let mut rights = Rights::new();
    for rule in rules.flatten() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    rights.insert(format!("{group}/{resource}: {verb}"));
                }
            }
        }
    }
    rights
}

pub(crate) fn used(log: &[AuditLine]) -> Rights {
    let of = |line: &AuditLine| {
        let object = line.object_ref.as_ref()?;
        Some(format!(
            "{}/{}: {}",
            object.api_group,
            line.resource(),
            line.verb
        ))
    };
    log.iter().filter_map(of).collect()
}

/// What the ServiceAccount of the chart has asked for.
pub(crate) fn log(plane: &ControlPlane) -> Vec<AuditLine> {
    let mut log = plane.audit().unwrap();
    let user = format!("system:serviceaccount:{NAMESPACE}:portolan");
    log.retain(|line| line.user.username == user);
    log
}

/// What it was not allowed.
pub(crate) fn refused(log: &[AuditLine]) -> Vec<String> {
    let refused = log.iter().filter(|line| line.code() == 403);
    refused
        .map(|line| format!("{} {}", line.verb, line.request_uri))
        .collect()
}
