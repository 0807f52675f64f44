//! The writing verbs. Each reads, computes without the lock, and commits only if nothing changed meanwhile.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{ApiError, FieldError, Result};
use crate::resource::{Nature, Resource, Version, at, put, text};
use crate::store::{Key, Object};
use crate::{crd, decode, event, names, patch, service};

/// Tries before a write gives up against other writers; each try loses only to a successful one.
const TRIES: usize = 100;

/// What a write answers: the code, and the object it left or the `Status` it made.
pub(crate) enum Written {
    Object(StatusCode, Arc<Object>),
    /// Dry-run results and the like, never stored.
    Computed(StatusCode, Value),
    Status(Value),
}

fn now() -> String {
    // Kubernetes' metav1.Time has seconds only.
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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
    place(call, &mut value)?;
    let generated = name_it(call, &mut value)?;
    for _ in 0..TRIES {
        let key = call.key(text(&value, &["metadata", "name"]));
        admit_namespace(call, &key)?;
        let mut object = value.clone();
        stamp(call, &mut object);
        let name = key.1.as_str();
        let mut errors = validate_metadata(res, &object, None);
        errors.extend(prepare_create(res, call.version(), &mut object));
        if !errors.is_empty() {
            return Err(ApiError::invalid(&res.group, &res.kind, name, &errors));
        }
        if call.query.dry_run() {
            if call.get(&key).is_some() {
                return Err(ApiError::already_exists(&res.qualified(), name));
            }
            return Ok(Written::Computed(StatusCode::CREATED, object));
        }
        match call.commit(&key, None, Some(object)) {
            Ok(object) => {
                crd::changed(call, Some(&object))?;
                return Ok(Written::Object(StatusCode::CREATED, object));
            }
            // Kubernetes draws another name too.
            Err(_) if generated => {
                put(&mut value, &["metadata", "name"], Value::Null);
                name_it(call, &mut value)?;
            }
            Err(_) => return Err(ApiError::already_exists(&res.qualified(), name)),
        }
    }
    Err(ApiError::internal("no free name found"))
}

fn place(call: &Call<'_>, value: &mut Value) -> Result<()> {
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
fn name_it(call: &Call<'_>, value: &mut Value) -> Result<bool> {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let prefix = text(value, &["metadata", "generateName"]).to_owned();
    if !text(value, &["metadata", "name"]).is_empty() {
        return Ok(false);
    }
    if prefix.is_empty() {
        let error = FieldError::required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid(
            &call.res.group,
            &call.res.kind,
            "",
            &[error],
        ));
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

fn admit_namespace(call: &Call<'_>, key: &Key) -> Result<()> {
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
fn stamp(call: &Call<'_>, value: &mut Value) {
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

fn counts_generations(res: &Resource) -> bool {
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

fn prepare_create(res: &Resource, version: &Version, value: &mut Value) -> Vec<FieldError> {
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
            Vec::new()
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
        Nature::Node | Nature::EndpointSlice | Nature::CoreEvent | Nature::Lease => Vec::new(),
    }
}

fn prepare_update(
    res: &Resource,
    version: &Version,
    new: &mut Value,
    old: &Value,
    status: bool,
) -> Vec<FieldError> {
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
        | Nature::Definition => Vec::new(),
    }
}

fn validate_metadata(res: &Resource, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
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
        errors.push(FieldError::invalid("metadata.name", name, wrong));
    }
    for (key, value) in at(new, &["metadata", "labels"])
        .as_object()
        .into_iter()
        .flatten()
    {
        if let Some(wrong) = names::qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", key.as_str(), wrong));
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(wrong) = names::qualified(value).filter(|_| !value.is_empty()) {
            errors.push(FieldError::invalid(
                "metadata.labels",
                value,
                wrong.replace("name part", "a valid label"),
            ));
        }
    }
    let finalizers = |v: &Value| -> Vec<String> {
        let list = at(v, &["metadata", "finalizers"])
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    for finalizer in finalizers(new) {
        if let Some(wrong) = names::qualified(&finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, wrong));
        }
    }
    if let Some(old) = old
        && !at(old, &["metadata", "deletionTimestamp"]).is_null()
    {
        let had = finalizers(old);
        let added: Vec<String> = finalizers(new)
            .into_iter()
            .filter(|f| !had.contains(f))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added
                    .iter()
                    .map(|f| format!("\"{f}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    errors
}

/// PUT, on the object or its `/status`.
pub(crate) fn update(call: &Call<'_>, body: &[u8]) -> Result<Written> {
    let sent = decode::body(&call.res, call.version(), body)?;
    let res = &call.res;
    let name = call.target.name.clone().unwrap_or_default();
    let sent_name = text(&sent, &["metadata", "name"]);
    if sent_name != name {
        let why = format!(
            "the name of the object ({sent_name}) does not match the name on the URL ({name})"
        );
        return Err(ApiError::bad_request(why));
    }
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
            let error = FieldError::invalid(
                "metadata.resourceVersion",
                0,
                "must be specified for an update",
            );
            return Err(ApiError::invalid(&res.group, &res.kind, &name, &[error]));
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
        if text(&new, &["metadata", "name"]) != name {
            let why = format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                text(&new, &["metadata", "name"])
            );
            return Err(ApiError::bad_request(why));
        }
        let uid = text(&new, &["metadata", "uid"]);
        if !uid.is_empty() && uid != text(&old.value, &["metadata", "uid"]) {
            let error = FieldError::invalid("metadata.uid", uid, "field is immutable");
            return Err(ApiError::invalid(&res.group, &res.kind, &name, &[error]));
        }
        if let Some(written) = replace(call, &key, &old, new)? {
            return Ok(written);
        }
    }
    Err(ApiError::modified(&res.qualified(), &name))
}

/// The common end of PUT and PATCH. `None`: somebody else wrote first, start over.
fn replace(call: &Call<'_>, key: &Key, old: &Arc<Object>, sent: Value) -> Result<Option<Written>> {
    let (res, version) = (&call.res, call.version());
    let sent_version = text(&sent, &["metadata", "resourceVersion"]);
    if !sent_version.is_empty() && sent_version != old.rv.to_string() {
        return Err(ApiError::modified(&res.qualified(), &key.1));
    }
    let mut new = decode::stored(res, version, sent, call.query.strict())?;
    place(call, &mut new)?;
    let status = call.target.subresource.is_some();
    isolate(res, version, &mut new, &old.value, status);
    keep_system_fields(&mut new, &old.value);
    let mut errors = validate_metadata(res, &new, Some(&old.value));
    errors.extend(prepare_update(res, version, &mut new, &old.value, status));
    if !errors.is_empty() {
        return Err(ApiError::invalid(&res.group, &res.kind, &key.1, &errors));
    }
    if counts_generations(res)
        && content(&new, version.status) != content(&old.value, version.status)
    {
        let generation = at(&old.value, &["metadata", "generation"])
            .as_i64()
            .unwrap_or(0)
            + 1;
        put(&mut new, &["metadata", "generation"], generation.into());
    }
    if call.query.dry_run() {
        return Ok(Some(Written::Computed(StatusCode::OK, new)));
    }
    // As on a kube-apiserver, a write that changes nothing takes no resourceVersion and is seen by no watch.
    if new == old.value {
        return Ok(Some(Written::Object(StatusCode::OK, old.clone())));
    }
    let deleting = !at(&new, &["metadata", "deletionTimestamp"]).is_null();
    let gone = deleting
        && at(&new, &["metadata", "finalizers"])
            .as_array()
            .is_none_or(Vec::is_empty);
    if gone {
        let Some(removed) = remove(call, key, old)? else {
            return Ok(None);
        };
        return Ok(Some(Written::Object(StatusCode::OK, removed)));
    }
    let Ok(object) = call.commit(key, Some(old), Some(new)) else {
        return Ok(None);
    };
    crd::changed(call, Some(&object))?;
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

fn keep_system_fields(new: &mut Value, old: &Value) {
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

/// What counts for `generation`: everything but metadata and, where it is a subresource, status.
fn content(value: &Value, status_apart: bool) -> Vec<(&String, &Value)> {
    let map = value.as_object().into_iter().flatten();
    let mut list: Vec<_> = map
        .filter(|(k, _)| k.as_str() != "metadata" && (!status_apart || k.as_str() != "status"))
        .collect();
    list.sort_by_key(|(k, _)| k.as_str());
    list
}

/// DELETE of one object.
pub(crate) fn delete(call: &Call<'_>, body: &[u8]) -> Result<Written> {
    let options = delete_options(body)?;
    let name = call.target.name.clone().unwrap_or_default();
    delete_named(call, &call.key(&name), &options)
}

fn delete_options(body: &[u8]) -> Result<Value> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("error decoding DeleteOptions: {e}")))
}

pub(crate) fn delete_named(call: &Call<'_>, key: &Key, options: &Value) -> Result<Written> {
    let (res, name) = (&call.res, key.1.as_str());
    let dry = call.query.dry_run()
        || at(options, &["dryRun"])
            .as_array()
            .is_some_and(|l| !l.is_empty());
    for _ in 0..TRIES {
        let old = call
            .get(key)
            .ok_or_else(|| ApiError::not_found(&res.qualified(), name))?;
        check_preconditions(call, name, &old, options)?;
        if dry {
            return Ok(Written::Status(success(res, name, &old)));
        }
        let finalizers = at(&old.value, &["metadata", "finalizers"])
            .as_array()
            .is_some_and(|l| !l.is_empty());
        let holds = finalizers || (res.nature == Nature::Namespace && empty_namespace(call, name)?);
        let holds =
            holds || (res.nature == Nature::Definition && crd::delete_instances(call, &old)?);
        if !holds {
            // Deleting what it contained may have completed it already.
            let Some(current) = call.get(key) else {
                return Ok(Written::Status(success(res, name, &old)));
            };
            if current.rv != old.rv {
                continue;
            }
            if remove(call, key, &old)?.is_some() {
                return Ok(Written::Status(success(res, name, &old)));
            }
            continue;
        }
        if !at(&old.value, &["metadata", "deletionTimestamp"]).is_null() {
            return Ok(Written::Object(StatusCode::OK, old));
        }
        let mut new = old.value.clone();
        put(&mut new, &["metadata", "deletionTimestamp"], now().into());
        put(
            &mut new,
            &["metadata", "deletionGracePeriodSeconds"],
            0.into(),
        );
        if counts_generations(res) {
            let generation = at(&new, &["metadata", "generation"]).as_i64().unwrap_or(0) + 1;
            put(&mut new, &["metadata", "generation"], generation.into());
        }
        if res.nature == Nature::Namespace {
            put(&mut new, &["status", "phase"], "Terminating".into());
        }
        if let Ok(object) = call.commit(key, Some(&old), Some(new)) {
            return Ok(Written::Object(StatusCode::OK, object));
        }
    }
    Err(ApiError::modified(&res.qualified(), name))
}

fn check_preconditions(call: &Call<'_>, name: &str, old: &Object, options: &Value) -> Result<()> {
    let uid = text(options, &["preconditions", "uid"]);
    let actual = text(&old.value, &["metadata", "uid"]);
    if !uid.is_empty() && uid != actual {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({actual}). The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(&call.res.qualified(), name, &why));
    }
    let version = text(options, &["preconditions", "resourceVersion"]);
    if !version.is_empty() && version != old.rv.to_string() {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            old.rv
        );
        return Err(ApiError::conflict(&call.res.qualified(), name, &why));
    }
    Ok(())
}

fn success(res: &Resource, name: &str, old: &Object) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": res.group, "kind": res.plural, "uid": text(&old.value, &["metadata", "uid"])},
    })
}

/// Removes an object for good, and what waited for that: a terminating namespace or definition without content.
fn remove(call: &Call<'_>, key: &Key, old: &Arc<Object>) -> Result<Option<Arc<Object>>> {
    let Ok(removed) = call.commit(key, Some(old), None) else {
        return Ok(None);
    };
    crd::removed(call, old);
    let waiting = if call.res.namespaced {
        call.api.terminating_namespace(&key.0)
    } else {
        None
    };
    if let (Some(namespace), Some(owner)) = (waiting, call.on("", "namespaces"))
        && !call.api.namespace_has_content(&key.0)
    {
        // Lost races are harmless: somebody else changed or removed it.
        let _ = owner.commit(&(String::new(), key.0.clone()), Some(&namespace), None);
    }
    if let Some(owner) = call.on("apiextensions.k8s.io", "customresourcedefinitions") {
        crd::finish_deletion(&owner, &call.res);
    }
    Ok(Some(removed))
}

/// Deletes everything in a namespace; true when something with finalizers is left.
fn empty_namespace(call: &Call<'_>, namespace: &str) -> Result<bool> {
    for (res, keys) in call.api.contents(namespace) {
        let inner = call.within(&res, namespace);
        for key in keys {
            match delete_named(&inner, &key, &Value::Null) {
                Ok(_) => {}
                Err(e) if e.code == StatusCode::NOT_FOUND.as_u16() => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(call.api.namespace_has_content(namespace))
}

/// DELETE of a collection, narrowed by the selectors. Answers with the list of what was deleted.
pub(crate) fn delete_collection(call: &Call<'_>, body: &[u8]) -> Result<Vec<Arc<Object>>> {
    let options = delete_options(body)?;
    let (_, matched) = call.select(None)?;
    for (key, _) in &matched {
        match delete_named(call, key, &options) {
            Ok(_) => {}
            Err(e) if e.code == StatusCode::NOT_FOUND.as_u16() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(matched.into_iter().map(|(_, object)| object).collect())
}
