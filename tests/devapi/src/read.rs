//! get, list (with chunks) and the answers of all verbs in the encoding asked for.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::error::{ApiError, Result};
use crate::request::Shape;
use crate::resource::{api_version, at};
use crate::store::{Key, Object};
use crate::table;

pub(crate) fn get(call: &Call<'_>) -> Result<Arc<Object>> {
    let name = call.target.name.clone().unwrap_or_default();
    call.get(&call.key(&name))
        .ok_or_else(|| ApiError::not_found(&call.res.qualified(), &name))
}

/// One object as JSON bytes.
pub(crate) fn encode(call: &Call<'_>, shape: Shape, object: &Object) -> bytes::Bytes {
    match shape {
        Shape::Object if call.shows_stored() => object.json(),
        Shape::Object => call.show(object).to_string().into(),
        Shape::Table => table::of(
            call,
            &[call.show(object)],
            json!({"resourceVersion": object.rv.to_string()}),
        )
        .to_string()
        .into(),
    }
}

pub(crate) fn metadata_only(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": at(value, &["metadata"]),
    })
}

/// A list, in chunks when `limit` asks for them. Later chunks show the version of the first.
pub(crate) fn list(call: &Call<'_>, shape: Shape) -> Result<bytes::Bytes> {
    let token = call.query.get("continue").map(parse_token).transpose()?;
    let wanted = call.query.resource_version()?;
    let exact = call.query.get("resourceVersionMatch") == Some("Exact");
    let (rv, objects) = match (&token, wanted) {
        (Some((rv, after)), _) => call.select(Some((*rv, after)))?,
        (None, Some(rv)) if exact => call.select(Some((rv, &Key::default())))?,
        _ => call.select(None)?,
    };
    let limit = call
        .query
        .number("limit")
        .filter(|l| *l > 0)
        .and_then(|l| usize::try_from(l).ok());
    let shown = limit.unwrap_or(usize::MAX).min(objects.len());
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), rv.to_string().into());
    if let Some((key, _)) = objects.get(..shown).and_then(<[_]>::last)
        && shown < objects.len()
    {
        metadata.insert("continue".into(), token_for(rv, key).into());
        if call.filter()?.is_empty() {
            metadata.insert("remainingItemCount".into(), (objects.len() - shown).into());
        }
    }
    let objects: Vec<Arc<Object>> = objects.into_iter().take(shown).map(|(_, o)| o).collect();
    Ok(list_of(call, shape, &objects, metadata))
}

pub(crate) fn list_of(
    call: &Call<'_>,
    shape: Shape,
    objects: &[Arc<Object>],
    metadata: Map<String, Value>,
) -> bytes::Bytes {
    if shape == Shape::Table {
        let values: Vec<Value> = objects.iter().map(|o| call.show(o)).collect();
        return table::of(call, &values, Value::Object(metadata))
            .to_string()
            .into();
    }
    let version = api_version(&call.res.group, &call.version().name);
    // Written by hand to reuse every object's cached encoding.
    let mut out = json!({"kind": call.res.list_kind, "apiVersion": version, "metadata": metadata})
        .to_string();
    out.pop();
    let mut out = out.into_bytes();
    out.extend_from_slice(b",\"items\":[");
    for (i, object) in objects.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&encode(call, shape, object));
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// Tokens are opaque to clients; here version, namespace and name, none of which contains a slash.
fn token_for(rv: u64, key: &Key) -> String {
    format!("{rv}/{}/{}", key.0, key.1)
}

fn parse_token(token: &str) -> Result<(u64, Key)> {
    let parts: Vec<&str> = token.split('/').collect();
    match parts.as_slice() {
        [rv, namespace, name] if rv.parse::<u64>().is_ok() => Ok((
            rv.parse().unwrap_or_default(),
            ((*namespace).to_owned(), (*name).to_owned()),
        )),
        _ => Err(ApiError::bad_request("continue key is not valid")),
    }
}
