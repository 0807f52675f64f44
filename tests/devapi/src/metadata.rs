//! Names, namespaces and the metadata the server owns.

use jiff::Timestamp;
use serde_json::Value;

use crate::call::Call;
use crate::error::{ApiError, Errors, Result};
use crate::names;
use crate::resource::{Nature, Resource, at, put, strings, text};
use crate::store::Key;

/// Now, as Kubernetes' `metav1.Time`: seconds only.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn place(call: &Call<'_>, value: &mut Value) -> Result<()> {
    let Some(namespace) = &call.target.namespace else {
        put(value, &["metadata", "namespace"], Value::Null);
        return Ok(());
    };
    let given = text(value, &["metadata", "namespace"]);
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    put(value, &["metadata", "namespace"], namespace.as_str().into());
    Ok(())
}

/// Draws a name from generateName where none is given; true when it did.
pub(crate) fn name(call: &Call<'_>, value: &mut Value) -> Result<bool> {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let prefix = text(value, &["metadata", "generateName"]).to_owned();
    if !text(value, &["metadata", "name"]).is_empty() {
        return Ok(false);
    }
    if prefix.is_empty() {
        let why = "name or generateName is required";
        Errors::of(|e| e.required("metadata.name", why)).refuse(
            &call.res.group,
            &call.res.kind,
            "",
        )?;
    }
    let suffix: String = call.api.random(|rng| {
        (0..5)
            .map(|_| {
                ALPHABET
                    .get(rng.usize(..ALPHABET.len()))
                    .map_or('x', |b| char::from(*b))
            })
            .collect()
    });
    put(
        value,
        &["metadata", "name"],
        format!("{prefix}{suffix}").into(),
    );
    Ok(true)
}

pub(crate) fn admit_namespace(call: &Call<'_>, key: &Key) -> Result<()> {
    if !call.res.namespaced {
        return Ok(());
    }
    let qualified = crate::error::Qualified {
        group: "",
        plural: "namespaces",
    };
    match call
        .api
        .lock()
        .get("namespaces", &(String::new(), key.0.clone()))
    {
        None => Err(ApiError::not_found(&qualified, &key.0)),
        Some(ns) if !at(&ns.value, &["metadata", "deletionTimestamp"]).is_null() => {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                key.0
            );
            Err(ApiError::forbidden(&call.res.qualified(), &key.1, &why))
        }
        Some(_) => Ok(()),
    }
}

/// System metadata of a new object.
pub(crate) fn stamp(call: &Call<'_>, value: &mut Value) {
    put(value, &["metadata", "uid"], call.api.uid().into());
    put(value, &["metadata", "creationTimestamp"], now().into());
    for name in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        put(value, &["metadata", name], Value::Null);
    }
    if counts_generations(&call.res) {
        put(value, &["metadata", "generation"], 1.into());
    }
}

pub(crate) fn counts_generations(res: &Resource) -> bool {
    match res.nature {
        Nature::Custom | Nature::Definition | Nature::EndpointSlice => true,
        Nature::Service
        | Nature::Namespace
        | Nature::Node
        | Nature::CoreEvent
        | Nature::NewEvent
        | Nature::Lease => false,
    }
}

pub(crate) fn next_generation(new: &mut Value, old: &Value) {
    let generation = at(old, &["metadata", "generation"]).as_i64().unwrap_or(0);
    put(new, &["metadata", "generation"], (generation + 1).into());
}

pub(crate) fn validate(res: &Resource, new: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::default();
    let name = text(new, &["metadata", "name"]);
    let wrong = match res.nature {
        Nature::Service | Nature::Namespace => names::label(name),
        Nature::Node
        | Nature::EndpointSlice
        | Nature::CoreEvent
        | Nature::NewEvent
        | Nature::Lease
        | Nature::Definition
        | Nature::Custom => names::subdomain(name),
    };
    if let (Some(wrong), None) = (wrong, old) {
        errors.invalid("metadata.name", name, wrong);
    }
    for (key, value) in at(new, &["metadata", "labels"])
        .as_object()
        .into_iter()
        .flatten()
    {
        if let Some(wrong) = names::qualified(key) {
            errors.invalid("metadata.labels", key.as_str(), wrong);
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(wrong) = names::qualified(value).filter(|_| !value.is_empty()) {
            errors.invalid(
                "metadata.labels",
                value,
                wrong.replace("name part", "a valid label"),
            );
        }
    }
    let finalizers = strings(new, &["metadata", "finalizers"]);
    for finalizer in &finalizers {
        if let Some(wrong) = names::qualified(finalizer) {
            errors.invalid("metadata.finalizers", *finalizer, wrong);
        }
    }
    if let Some(old) = old
        && !at(old, &["metadata", "deletionTimestamp"]).is_null()
    {
        let had = strings(old, &["metadata", "finalizers"]);
        let new_ones = finalizers.iter().filter(|f| !had.contains(f));
        let added: Vec<String> = new_ones.map(|f| format!("\"{f}\"")).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden("metadata.finalizers", &detail);
        }
    }
    errors
}

pub(crate) fn keep_system_fields(new: &mut Value, old: &Value) {
    let kept = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ];
    for name in kept {
        put(
            new,
            &["metadata", name],
            at(old, &["metadata", name]).clone(),
        );
    }
}
