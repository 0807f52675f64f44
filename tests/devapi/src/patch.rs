//! The four patch formats.
//!
//! Server-side apply is a merge without ownership: it adds and changes, and never removes what an earlier apply set.

use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::resource::{Nature, Resource, Version};
use crate::schema::list_key;
use crate::strategic;

pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply { value: Value, custom: bool },
}

const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

impl Patch {
    pub(crate) fn parse(content_type: &str, body: &[u8], res: &Resource) -> Result<Self> {
        let bad =
            |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
        let object = || -> Result<Value> {
            let value: Value = serde_json::from_slice(body).map_err(bad)?;
            if value.is_object() {
                Ok(value)
            } else {
                Err(ApiError::bad_request("the patch must be a JSON object"))
            }
        };
        let custom = res.nature == Nature::Custom;
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => {
                Ok(Self::Json(serde_json::from_slice(body).map_err(bad)?))
            }
            "application/merge-patch+json" => Ok(Self::Merge(object()?)),
            "application/strategic-merge-patch+json" if !custom => Ok(Self::Strategic(object()?)),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply {
                value: object()?,
                custom,
            }),
            _ if custom => Err(ApiError::unsupported_media_type(ACCEPTED)),
            _ => Err(ApiError::unsupported_patch()),
        }
    }

    /// The object this patch makes where there is none.
    pub(crate) fn creates(&self) -> Option<Value> {
        match self {
            Self::Apply { value, .. } => Some(value.clone()),
            Self::Json(_) | Self::Merge(_) | Self::Strategic(_) => None,
        }
    }

    pub(crate) fn apply(&self, old: &Value, version: &Version) -> Result<Value> {
        let mut new = old.clone();
        match self {
            Self::Json(patch) => {
                json_patch::patch(&mut new, &patch.0)
                    .map_err(|e| ApiError::unprocessable(&e.to_string()))?;
            }
            Self::Merge(patch) => json_patch::merge(&mut new, patch),
            Self::Strategic(patch) => strategic::merge(&mut new, patch)?,
            Self::Apply {
                value,
                custom: true,
            } => {
                let none = Value::Null;
                apply(
                    &mut new,
                    value,
                    version.schema.as_ref().map_or(&none, |s| &s.raw),
                );
            }
            Self::Apply {
                value,
                custom: false,
            } => apply_built_in(&mut new, value, ""),
        }
        Ok(new)
    }
}

/// Applies by a CRD's schema: `map` and `set` lists merge by key, other lists are replaced.
fn apply(here: &mut Value, patch: &Value, schema: &Value) {
    match (here, patch) {
        (Value::Object(map), Value::Object(changes)) => {
            for (key, change) in changes {
                let properties = schema.get("properties").and_then(|p| p.get(key));
                let next = properties
                    .or_else(|| schema.get("additionalProperties"))
                    .unwrap_or(&Value::Null);
                apply(map.entry(key.clone()).or_insert(Value::Null), change, next);
            }
        }
        (Value::Array(items), Value::Array(changes)) if merges(schema) => {
            let next = schema.get("items").unwrap_or(&Value::Null);
            for change in changes {
                let key = list_key(change, schema);
                match items.iter_mut().find(|i| list_key(i, schema) == key) {
                    Some(item) => apply(item, change, next),
                    None => items.push(change.clone()),
                }
            }
        }
        (here, patch) => *here = patch.clone(),
    }
}

fn merges(schema: &Value) -> bool {
    matches!(
        schema.get("x-kubernetes-list-type").and_then(Value::as_str),
        Some("set" | "map")
    )
}

/// The list keys of the built-in types (`listMapKey`), by field name.
fn apply_keys(field: &str) -> Option<&'static [&'static str]> {
    match field {
        "ports" => Some(&["port", "protocol"]),
        "conditions" | "addresses" => Some(&["type"]),
        "ownerReferences" => Some(&["uid"]),
        "finalizers" => Some(&[]),
        _ => None,
    }
}

fn apply_built_in(here: &mut Value, patch: &Value, field: &str) {
    match (here, patch) {
        (Value::Object(map), Value::Object(changes)) => {
            for (key, change) in changes {
                apply_built_in(map.entry(key.clone()).or_insert(Value::Null), change, key);
            }
        }
        (Value::Array(items), Value::Array(changes)) if apply_keys(field).is_some() => {
            let keys = apply_keys(field).unwrap_or_default();
            for change in changes {
                match items.iter_mut().find(|i| same_item(i, change, keys)) {
                    Some(item) => apply_built_in(item, change, ""),
                    None => items.push(change.clone()),
                }
            }
        }
        (here, patch) => *here = patch.clone(),
    }
}

/// The same list item by its keys; without keys, by its value. A missing protocol is TCP.
fn same_item(a: &Value, b: &Value, keys: &[&str]) -> bool {
    let of = |value: &Value, key: &str| -> Value {
        let default = if key == "protocol" {
            Value::from("TCP")
        } else {
            Value::Null
        };
        value
            .as_object()
            .and_then(|m: &Map<String, Value>| m.get(key))
            .cloned()
            .unwrap_or(default)
    };
    if keys.is_empty() {
        a == b
    } else {
        keys.iter().all(|k| of(a, k) == of(b, k))
    }
}
