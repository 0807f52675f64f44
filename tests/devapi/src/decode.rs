//! From a request body to the stored shape: types checked, unknown fields dropped, system fields emptied.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::resource::{Nature, Resource, Version, api_version, put, text};
use crate::schema::join;

/// Parses a JSON body into an object of this resource and version, still in the version's own shape.
pub(crate) fn body(res: &Resource, version: &Version, raw: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(raw)
        .map_err(|e| ApiError::bad_request(format!("error decoding the request body: {e}")))?;
    typed_as(res, version, value)
}

/// Checks apiVersion and kind, filling them in where they are absent.
pub(crate) fn typed_as(res: &Resource, version: &Version, mut value: Value) -> Result<Value> {
    if !value.is_object() {
        return Err(ApiError::bad_request(
            "the request body must be a JSON object",
        ));
    }
    let expected = api_version(&res.group, &version.name);
    for (field, expected) in [
        ("apiVersion", expected.as_str()),
        ("kind", res.kind.as_str()),
    ] {
        let actual = text(&value, &[field]);
        if actual.is_empty() {
            put(&mut value, &[field], expected.into());
        } else if actual != expected {
            let what = if field == "kind" {
                "kind"
            } else {
                "API version"
            };
            return Err(ApiError::bad_request(format!(
                "the {what} in the data ({actual}) does not match the expected {what} ({expected})"
            )));
        }
    }
    Ok(value)
}

/// Brings an object to the stored shape. `strict` refuses unknown fields instead of dropping them.
pub(crate) fn stored(
    res: &Resource,
    version: &Version,
    mut value: Value,
    strict: bool,
) -> Result<Value> {
    let mut dropped = Vec::new();
    let kind = (res.kind.as_str(), version.name.as_str());
    let mut out = match res.nature {
        Nature::Service => typed::<Service>(value, kind, &mut dropped)?,
        Nature::Namespace => typed::<Namespace>(value, kind, &mut dropped)?,
        Nature::Node => typed::<Node>(value, kind, &mut dropped)?,
        Nature::EndpointSlice => typed::<EndpointSlice>(value, kind, &mut dropped)?,
        Nature::CoreEvent => typed::<Event>(value, kind, &mut dropped)?,
        Nature::NewEvent => crate::event::to_core(typed::<NewEvent>(value, kind, &mut dropped)?),
        Nature::Lease => typed::<Lease>(value, kind, &mut dropped)?,
        Nature::Definition => {
            // Rules of a schema are free-form: the typed round trip only checks types.
            typed::<CustomResourceDefinition>(value.clone(), kind, &mut Vec::new())?;
            drop_nulls(&mut value);
            value
        }
        Nature::Custom => {
            let metadata = value.get("metadata").cloned().unwrap_or_default();
            let clean = typed::<ObjectMeta>(metadata, kind, &mut Vec::new())?;
            put(&mut value, &["metadata"], clean);
            if let Some(schema) = &version.schema {
                dropped = schema.prune(&mut value);
                schema.default(&mut value);
            }
            value
        }
    };
    if strict && !dropped.is_empty() {
        dropped.sort();
        let list: Vec<String> = dropped
            .iter()
            .map(|p| format!("unknown field \"{p}\""))
            .collect();
        let (kind, version) = (&res.kind, &version.name);
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
            list.join(", ")
        )));
    }
    if res.nature != Nature::NewEvent {
        put(
            &mut out,
            &["apiVersion"],
            api_version(&res.group, &res.storage).into(),
        );
    }
    tidy_metadata(&mut out);
    Ok(out)
}

fn typed<T: DeserializeOwned + Serialize>(
    value: Value,
    (kind, version): (&str, &str),
    dropped: &mut Vec<String>,
) -> Result<Value> {
    let value = if value.is_null() {
        Value::Object(Map::new())
    } else {
        value
    };
    let decoded = T::deserialize(&value).map_err(|e| {
        ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: json: {e}"
        ))
    })?;
    let mut out = serde_json::to_value(decoded).map_err(ApiError::internal)?;
    missing(&value, &out, "", dropped);
    drop_nulls(&mut out);
    Ok(out)
}

/// Paths that are in `input` and not in `output`: fields the type does not know.
fn missing(input: &Value, output: &Value, path: &str, dropped: &mut Vec<String>) {
    match (input, output) {
        (Value::Object(from), Value::Object(to)) => {
            for (key, value) in from.iter().filter(|(_, v)| !v.is_null()) {
                match to.get(key) {
                    Some(kept) => missing(value, kept, &join(path, key), dropped),
                    None => dropped.push(join(path, key)),
                }
            }
        }
        (Value::Array(from), Value::Array(to)) => {
            for (i, (value, kept)) in from.iter().zip(to).enumerate() {
                missing(value, kept, &format!("{path}[{i}]"), dropped);
            }
        }
        _ => {}
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Drops what Kubernetes does not print when it is empty, and what this server does not keep.
fn tidy_metadata(value: &mut Value) {
    if value.get("metadata").is_none() {
        put(value, &["metadata"], Value::Object(Map::new()));
    }
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for name in ["managedFields", "selfLink"] {
        metadata.remove(name);
    }
    metadata.retain(|_, v| {
        let empty_list = v.as_array().is_some_and(Vec::is_empty);
        !v.is_null()
            && !empty_list
            && v.as_str() != Some("")
            && v.as_object().is_none_or(|m| !m.is_empty())
    });
}
