//! A pool's selectors in the API server's own words. That refuses a whole configuration for one
//! requirement that no label can be written for, so those are resolved here: a label that cannot be
//! is on nothing.

use allocator::{Operator, Requirement, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The label that every namespace has, and nobody can change.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// What is required of labels; `None`: no labels fulfil it.
pub(super) type Requirements = Option<Vec<LabelSelectorRequirement>>;

/// What a selector requires.
pub(super) fn requirements(selector: &Selector) -> Requirements {
    let all = selector.requirements.iter().map(requirement);
    let all: Option<Vec<_>> = all.collect();
    Some(all?.into_iter().flatten().collect())
}

/// One of these namespaces.
pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a String>) -> Requirements {
    let required = requirement(&Requirement {
        key: NAMESPACE.to_owned(),
        operator: Operator::In,
        values: names.into_iter().cloned().collect(),
    })?;
    Some(required.into_iter().collect())
}

/// None of these namespaces.
pub(super) fn not_named(names: &[String]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: NAMESPACE.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(names.to_vec()),
    }
}

/// All of these.
pub(super) fn selector(requirements: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector {
        match_expressions: (!requirements.is_empty()).then_some(requirements),
        match_labels: None,
    }
}

/// `None`: nothing fulfils it; `Some(None)`: everything does.
fn requirement(requirement: &Requirement) -> Option<Option<LabelSelectorRequirement>> {
    let possible = is_key(&requirement.key);
    let values = requirement.values.iter().filter(|value| is_value(value));
    let values: Vec<String> = values.cloned().collect();
    let some = possible && !values.is_empty();
    let (operator, values) = match requirement.operator {
        Operator::In if some => ("In", Some(values)),
        Operator::Exists if possible => ("Exists", None),
        Operator::In | Operator::Exists => return None,
        Operator::NotIn if some => ("NotIn", Some(values)),
        Operator::DoesNotExist if possible => ("DoesNotExist", None),
        Operator::NotIn | Operator::DoesNotExist => return Some(None),
    };
    Some(Some(LabelSelectorRequirement {
        key: requirement.key.clone(),
        operator: operator.to_owned(),
        values,
    }))
}

/// `[prefix/]name`, the prefix a DNS subdomain.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    name.len() <= 63 && name.chars().all(inner) && name.starts_with(outer) && name.ends_with(outer)
}

fn is_subdomain(name: &str) -> bool {
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(outer)
            && label.ends_with(outer)
            && label.chars().all(|c| outer(c) || c == '-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
