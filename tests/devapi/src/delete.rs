//! Deletion: preconditions, finalizers, and what a deletion takes with it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{ApiError, Result};
use crate::resource::{Nature, Resource, at, put, text};
use crate::store::{Key, Object};
use crate::write::{TRIES, Written};
use crate::{crd, metadata};

/// DELETE of one object.
pub(crate) fn one(call: &Call<'_>, body: &[u8]) -> Result<Written> {
    let options = delete_options(body)?;
    let name = call.target.name.clone().unwrap_or_default();
    by_key(call, &call.key(&name), &options)
}

fn delete_options(body: &[u8]) -> Result<Value> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("error decoding DeleteOptions: {e}")))
}

fn by_key(call: &Call<'_>, key: &Key, options: &Value) -> Result<Written> {
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
        put(
            &mut new,
            &["metadata", "deletionTimestamp"],
            metadata::now().into(),
        );
        put(
            &mut new,
            &["metadata", "deletionGracePeriodSeconds"],
            0.into(),
        );
        if metadata::counts_generations(res) {
            metadata::next_generation(&mut new, &old.value);
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
pub(crate) fn remove(call: &Call<'_>, key: &Key, old: &Arc<Object>) -> Result<Option<Arc<Object>>> {
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
        && call.api.contents(&key.0).is_empty()
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
            if_there(&inner, &key, &Value::Null)?;
        }
    }
    Ok(!call.api.contents(namespace).is_empty())
}

/// DELETE of a collection, narrowed by the selectors. Answers with the list of what was deleted.
pub(crate) fn collection(call: &Call<'_>, body: &[u8]) -> Result<Vec<Arc<Object>>> {
    let options = delete_options(body)?;
    let (_, matched) = call.select(None)?;
    for (key, _) in &matched {
        if_there(call, key, &options)?;
    }
    Ok(matched.into_iter().map(|(_, object)| object).collect())
}

/// Deletes an object that somebody else may have deleted meanwhile.
pub(crate) fn if_there(call: &Call<'_>, key: &Key, options: &Value) -> Result<()> {
    match by_key(call, key, options) {
        Err(e) if e.code != StatusCode::NOT_FOUND => Err(e),
        Ok(_) | Err(_) => Ok(()),
    }
}
