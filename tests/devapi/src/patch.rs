//! The four patch formats.
//!
//! Server-side apply is a merge without ownership: it adds and changes, and never removes what an earlier apply set.

use serde_json::{Value, json};

use crate::error::{ApiError, Result};
use crate::resource::{Nature, Resource, Version, text};
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
                let below = |schema: &Value, key: &str| {
                    let property = schema.get("properties").and_then(|p| p.get(key));
                    let next = property.or_else(|| schema.get("additionalProperties"));
                    next.cloned().unwrap_or_default()
                };
                let root = version.schema.as_ref().map_or(&Value::Null, |s| &s.raw);
                apply(&mut new, value, root, &below);
            }
            Self::Apply {
                value,
                custom: false,
            } => {
                apply(&mut new, value, &Value::Null, &|_, field| built_in(field));
            }
        }
        Ok(new)
    }
}

/// Applies by a schema, whose part for a field `below` finds: `map` and `set` lists merge by key, other lists are
/// replaced.
fn apply(here: &mut Value, patch: &Value, schema: &Value, below: &impl Fn(&Value, &str) -> Value) {
    match (here, patch) {
        (Value::Object(map), Value::Object(changes)) => {
            for (key, change) in changes {
                let child = map.entry(key.clone()).or_insert(Value::Null);
                apply(child, change, &below(schema, key), below);
            }
        }
        (Value::Array(items), Value::Array(changes)) if merges(schema) => {
            let next = schema.get("items").unwrap_or(&Value::Null);
            for change in changes {
                let key = list_key(change, schema);
                match items.iter_mut().find(|i| list_key(i, schema) == key) {
                    Some(item) => apply(item, change, next, below),
                    None => items.push(change.clone()),
                }
            }
        }
        (here, patch) => *here = patch.clone(),
    }
}

fn merges(schema: &Value) -> bool {
    matches!(text(schema, &["x-kubernetes-list-type"]), "set" | "map")
}

/// What identifies an item of a built-in type's list (`listMapKey`; the first is the `patchMergeKey` as well), by
/// field name. Empty: a set of strings. `None`: the list is replaced.
pub(crate) fn item_keys(field: &str) -> Option<&'static [&'static str]> {
    match field {
        "ports" => Some(&["port", "protocol"]),
        "conditions" | "addresses" => Some(&["type"]),
        "ownerReferences" => Some(&["uid"]),
        "finalizers" => Some(&[]),
        _ => None,
    }
}

/// The same as a CRD's schema would say it.
fn built_in(field: &str) -> Value {
    match item_keys(field) {
        None => Value::Null,
        Some([]) => json!({"x-kubernetes-list-type": "set"}),
        Some(keys) => json!({
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"properties": {"protocol": {"default": "TCP"}}},
        }),
    }
}
