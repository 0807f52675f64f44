//! Patterns and CEL rules of a schema, found once.

use std::collections::HashMap;

use kube::core::cel::CompiledSchema;
use regex::Regex;
use serde_json::Value;

use super::join;
use crate::error::Errors;

pub(super) fn collect_patterns(
    schema: &Value,
    into: &mut HashMap<String, Regex>,
    errors: &mut Errors,
) {
    match schema {
        Value::Object(map) => {
            if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
                match Regex::new(pattern) {
                    Ok(regex) => {
                        into.insert(pattern.to_owned(), regex);
                    }
                    Err(e) => errors.invalid("pattern", pattern, e.to_string()),
                }
            }
            map.values().for_each(|v| collect_patterns(v, into, errors));
        }
        Value::Array(items) => items.iter().for_each(|v| collect_patterns(v, into, errors)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn collect_cel_errors(node: &CompiledSchema, path: &str, errors: &mut Errors) {
    for error in node.compilation_errors() {
        errors.invalid(
            join(path, "x-kubernetes-validations"),
            "rule",
            error.to_string(),
        );
    }
    for (name, child) in &node.properties {
        collect_cel_errors(
            child,
            &format!("{}[{name}]", join(path, "properties")),
            errors,
        );
    }
    if let Some(items) = &node.items {
        collect_cel_errors(items, &join(path, "items"), errors);
    }
    if let Some(values) = &node.additional_properties {
        collect_cel_errors(values, &join(path, "additionalProperties"), errors);
    }
}
