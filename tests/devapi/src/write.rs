//! The writing verbs. Each reads, computes without the lock, and commits only if nothing changed meanwhile.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{ApiError, Errors, Result};
use crate::resource::{Nature, Resource, Version, at, list, put, text};
use crate::store::{Key, Object};
use crate::{crd, decode, delete, event, metadata, patch, service};

/// Tries before a write gives up against other writers; each try loses only to a successful one.
pub(crate) const TRIES: usize = 100;

/// What a write answers: the code, and the object it left or the `Status` it made.
pub(crate) enum Written {
    Object(StatusCode, Arc<Object>),
    /// Dry-run results and the like, never stored.
    Computed(StatusCode, Value),
    Status(Value),
}

pub(crate) fn create(call: &Call<'_>, body: &[u8]) -> Result<Written> {
    let value = decode::body(&call.res, call.version(), body)?;
    create_value(call, value)
}

fn create_value(call: &Call<'_>, value: Value) -> Result<Written> {
    let res = &call.res;
    if !text(&value, &["metadata", "resourceVersion"]).is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let mut value = decode::stored(res, call.version(), value, call.query.strict())?;
    metadata::place(call, &mut value)?;
    let generated = metadata::name(call, &mut value)?;
    for _ in 0..TRIES {
        let key = call.key(text(&value, &["metadata", "name"]));
        metadata::admit_namespace(call, &key)?;
        let mut object = value.clone();
        metadata::stamp(call, &mut object);
        let name = key.1.as_str();
        let mut errors = metadata::validate(res, &object, None);
        errors.extend(prepare_create(res, call.version(), &mut object));
        errors.refuse(&res.group, &res.kind, name)?;
        if call.query.dry_run() {
            if call.get(&key).is_some() {
                return Err(ApiError::already_exists(&res.qualified(), name));
            }
            return Ok(Written::Computed(StatusCode::CREATED, object));
        }
        match call.commit(&key, None, Some(object)) {
            Ok(object) => {
                crd::changed(call, &object);
                return Ok(Written::Object(StatusCode::CREATED, object));
            }
            // Kubernetes draws another name too.
            Err(_) if generated => {
                put(&mut value, &["metadata", "name"], Value::Null);
                metadata::name(call, &mut value)?;
            }
            Err(_) => return Err(ApiError::already_exists(&res.qualified(), name)),
        }
    }
    Err(ApiError::internal("no free name found"))
}

fn prepare_create(res: &Resource, version: &Version, value: &mut Value) -> Errors {
    match res.nature {
        Nature::Service => service::create(value),
        Nature::Namespace => {
            put(value, &["spec"], json!({"finalizers": ["kubernetes"]}));
            put(value, &["status"], json!({"phase": "Active"}));
            let name = text(value, &["metadata", "name"]).to_owned();
            put(
                value,
                &["metadata", "labels", "kubernetes.io/metadata.name"],
                name.into(),
            );
            Errors::default()
        }
        Nature::NewEvent => event::validate_new(value),
        Nature::Definition => crd::prepare(value),
        Nature::Custom => {
            if version.status {
                put(value, &["status"], Value::Null);
            }
            version
                .schema
                .as_ref()
                .map(|s| s.validate(value, None))
                .unwrap_or_default()
        }
        Nature::Node | Nature::EndpointSlice | Nature::CoreEvent | Nature::Lease => {
            Errors::default()
        }
    }
}

fn prepare_update(
    res: &Resource,
    version: &Version,
    new: &mut Value,
    old: &Value,
    status: bool,
) -> Errors {
    match res.nature {
        Nature::Service if status => service::update_status(new, old),
        Nature::Service => service::update(new, old),
        Nature::Definition if !status => crd::prepare(new),
        Nature::Custom => version
            .schema
            .as_ref()
            .map(|s| s.validate(new, Some(old)))
            .unwrap_or_default(),
        Nature::Namespace
        | Nature::NewEvent
        | Nature::Node
        | Nature::EndpointSlice
        | Nature::CoreEvent
        | Nature::Lease
        | Nature::Definition => Errors::default(),
    }
}

/// PUT, on the object or its `/status`.
pub(crate) fn update(call: &Call<'_>, body: &[u8]) -> Result<Written> {
    let sent = decode::body(&call.res, call.version(), body)?;
    let res = &call.res;
    let name = call.target.name.clone().unwrap_or_default();
    check_name(&sent, &name)?;
    let uid = text(&sent, &["metadata", "uid"]).to_owned();
    for _ in 0..TRIES {
        let key = call.key(&name);
        let Some(old) = call.get(&key) else {
            if !uid.is_empty() {
                let why = format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/{}/{}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: ",
                    res.plural, key.0
                );
                return Err(ApiError::conflict(&res.qualified(), &name, &why));
            }
            if res.create_on_update() && call.target.subresource.is_none() {
                let mut fresh = sent;
                put(&mut fresh, &["metadata", "resourceVersion"], Value::Null);
                return create_value(call, fresh);
            }
            return Err(ApiError::not_found(&res.qualified(), &name));
        };
        let old_uid = text(&old.value, &["metadata", "uid"]);
        if !uid.is_empty() && uid != old_uid {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
            );
            return Err(ApiError::conflict(&res.qualified(), &name, &why));
        }
        if text(&sent, &["metadata", "resourceVersion"]).is_empty() && !res.unconditional_update() {
            let why = "must be specified for an update";
            Errors::of(|e| e.invalid("metadata.resourceVersion", 0, why))
                .refuse(&res.group, &res.kind, &name)?;
        }
        if let Some(written) = replace(call, &key, &old, sent.clone())? {
            return Ok(written);
        }
    }
    Err(ApiError::modified(&res.qualified(), &name))
}

/// PATCH of any kind.
pub(crate) fn patch(call: &Call<'_>, content_type: &str, body: &[u8]) -> Result<Written> {
    let res = &call.res;
    let name = call.target.name.clone().unwrap_or_default();
    let patch = patch::Patch::parse(content_type, body, res)?;
    for _ in 0..TRIES {
        let key = call.key(&name);
        let Some(old) = call.get(&key) else {
            if let (Some(fresh), None) = (patch.creates(), call.target.subresource.as_deref()) {
                let mut fresh = decode::typed_as(res, call.version(), fresh)?;
                put(&mut fresh, &["metadata", "name"], name.as_str().into());
                return create_value(call, fresh);
            }
            return Err(ApiError::not_found(&res.qualified(), &name));
        };
        let shown = call.show(&old);
        let new = decode::typed_as(res, call.version(), patch.apply(&shown, call.version())?)?;
        check_name(&new, &name)?;
        let uid = text(&new, &["metadata", "uid"]);
        if !uid.is_empty() && uid != text(&old.value, &["metadata", "uid"]) {
            Errors::of(|e| e.invalid("metadata.uid", uid, "field is immutable"))
                .refuse(&res.group, &res.kind, &name)?;
        }
        if let Some(written) = replace(call, &key, &old, new)? {
            return Ok(written);
        }
    }
    Err(ApiError::modified(&res.qualified(), &name))
}

fn check_name(sent: &Value, name: &str) -> Result<()> {
    match text(sent, &["metadata", "name"]) {
        same if same == name => Ok(()),
        other => Err(ApiError::bad_request(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        ))),
    }
}

/// The common end of PUT and PATCH. `None`: somebody else wrote first, start over.
fn replace(call: &Call<'_>, key: &Key, old: &Arc<Object>, sent: Value) -> Result<Option<Written>> {
    let (res, version) = (&call.res, call.version());
    let sent_version = text(&sent, &["metadata", "resourceVersion"]);
    if !sent_version.is_empty() && sent_version != old.rv.to_string() {
        return Err(ApiError::modified(&res.qualified(), &key.1));
    }
    let mut new = decode::stored(res, version, sent, call.query.strict())?;
    metadata::place(call, &mut new)?;
    let status = call.target.subresource.is_some();
    isolate(res, version, &mut new, &old.value, status);
    metadata::keep_system_fields(&mut new, &old.value);
    let mut errors = metadata::validate(res, &new, Some(&old.value));
    errors.extend(prepare_update(res, version, &mut new, &old.value, status));
    errors.refuse(&res.group, &res.kind, &key.1)?;
    if metadata::counts_generations(res)
        && content(&new, version.status) != content(&old.value, version.status)
    {
        metadata::next_generation(&mut new, &old.value);
    }
    if call.query.dry_run() {
        return Ok(Some(Written::Computed(StatusCode::OK, new)));
    }
    // As on a kube-apiserver, a write that changes nothing takes no resourceVersion and is seen by no watch.
    if new == old.value {
        return Ok(Some(Written::Object(StatusCode::OK, old.clone())));
    }
    let deleting = !at(&new, &["metadata", "deletionTimestamp"]).is_null();
    let gone = deleting && list(&new, &["metadata", "finalizers"]).is_empty();
    if gone {
        let Some(removed) = delete::remove(call, key, old)? else {
            return Ok(None);
        };
        return Ok(Some(Written::Object(StatusCode::OK, removed)));
    }
    let Ok(object) = call.commit(key, Some(old), Some(new)) else {
        return Ok(None);
    };
    crd::changed(call, &object);
    Ok(Some(Written::Object(StatusCode::OK, object)))
}

/// `/status` writes change the status only (for built-ins the metadata too), other writes everything but the status.
fn isolate(res: &Resource, version: &Version, new: &mut Value, old: &Value, status: bool) {
    let old_status = at(old, &["status"]).clone();
    if !version.status {
        return;
    }
    if !status {
        put(new, &["status"], old_status);
        return;
    }
    let mut result = old.clone();
    put(&mut result, &["status"], at(new, &["status"]).clone());
    if res.nature != Nature::Custom {
        put(&mut result, &["metadata"], at(new, &["metadata"]).clone());
    }
    *new = result;
}

/// What counts for `generation`: everything but metadata and, where it is a subresource, status.
fn content(value: &Value, status_apart: bool) -> Vec<(&String, &Value)> {
    let map = value.as_object().into_iter().flatten();
    let mut list: Vec<_> = map
        .filter(|(k, _)| k.as_str() != "metadata" && (!status_apart || k.as_str() != "status"))
        .collect();
    list.sort_by_key(|(k, _)| k.as_str());
    list
}
