//! Pruning of what a schema does not know and filling in of its defaults.

use serde_json::Value;

use super::{flag, join};

pub(super) fn prune(
    value: &mut Value,
    schema: &Value,
    path: &str,
    resource_root: bool,
    dropped: &mut Vec<String>,
) {
    match value {
        Value::Object(map) => {
            let keep_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
            let root = resource_root || flag(schema, "x-kubernetes-embedded-resource");
            let properties = schema.get("properties");
            let additional = schema.get("additionalProperties");
            map.retain(|key, child| {
                if root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                let here = join(path, key);
                if let Some(next) = properties.and_then(|p| p.get(key)) {
                    prune(child, next, &here, false, dropped);
                } else if let Some(next) = additional.filter(|a| a.is_object()) {
                    prune(child, next, &here, false, dropped);
                } else if !keep_unknown && additional != Some(&Value::Bool(true)) {
                    dropped.push(here);
                    return false;
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(next) = schema.get("items") {
                for (i, item) in items.iter_mut().enumerate() {
                    prune(item, next, &format!("{path}[{i}]"), false, dropped);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (name, next) in schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let preset = next.get("default");
                // A null where null is not allowed is dropped in favour of the default.
                if preset.is_some()
                    && map.get(name).is_some_and(Value::is_null)
                    && !flag(next, "nullable")
                {
                    map.remove(name);
                }
                if let (Some(preset), false) = (preset, map.contains_key(name)) {
                    map.insert(name.clone(), preset.clone());
                }
                if let Some(child) = map.get_mut(name) {
                    default(child, next);
                }
            }
            if let Some(next) = schema.get("additionalProperties").filter(|a| a.is_object()) {
                let known = schema.get("properties");
                for (_, child) in map
                    .iter_mut()
                    .filter(|(k, _)| known.and_then(|p| p.get(k.as_str())).is_none())
                {
                    default(child, next);
                }
            }
        }
        Value::Array(items) => {
            if let Some(next) = schema.get("items") {
                items.iter_mut().for_each(|item| default(item, next));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
