//! Admission: numbers for a Service while the API server creates or changes it. A request in, a
//! patch or a refusal out. The API server is the final judge; what is given here is only kept for the
//! Service (a retention in the ledger) until the watch shows that it has it.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::core::admission::AdmissionRequest;
use model::{Reason, ServiceKey};
use serde_json::Value;

use super::{
    annotations::is_label,
    record::{Rejection, ServiceRecord},
    translate,
};

#[cfg(test)]
mod tests;

/// How long a number is kept for a Service that is not there yet, in seconds: longer than the API
/// server may take to store it (a request ends after 60 s, admission within 34 s), with half as much
/// again for clocks that differ between replicas.
pub const KEPT: i64 = 90;

/// A reservation that lasts so long is not renewed, in seconds.
pub const KEPT_AT_LEAST: i64 = 60;

/// Never in the name of an object: what is before it is a `generateName`, after it comes the call.
const GENERATED: char = '*';

/// Characters of a `generateName` that the API server uses (`names.MaxGeneratedNameLength`).
const PREFIX: usize = 58;
/// Characters of a name of a Service or a namespace, and more than those of a call.
const NAME: usize = 63;

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Review {
    /// Unique in this process; the answer names it.
    pub id: u64,
    /// `request.uid`: another for each call, for the same object too.
    pub call: Arc<str>,
    /// The object as it would be stored. While it is created its uid is the call's; where
    /// `generateName` makes its name afterwards, its name is that and the call.
    pub object: Arc<ServiceRecord>,
    /// The object as it is stored; `None` while it is created.
    pub old: Option<Arc<ServiceRecord>>,
    /// Nothing may be kept for it.
    pub dry_run: bool,
}

/// What is answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It goes on, with these changes.
    Allow {
        /// Operations of a JSON patch (RFC 6902); none changes nothing.
        patch: Vec<Value>,
        /// What the user is told all the same.
        warnings: Vec<String>,
        /// IPAddress objects that keep these from the API server's own picks and have to go before
        /// it can take them.
        unreserve: Vec<IpAddr>,
    },
    /// It does not.
    Deny {
        /// Why, as a word.
        reason: Reason,
        /// Why, as a sentence that names the field, the pool and what would do.
        message: String,
    },
}

impl Answer {
    /// It goes on as it is.
    pub const fn unchanged() -> Self {
        Self::Allow {
            patch: Vec::new(),
            warnings: Vec::new(),
            unreserve: Vec::new(),
        }
    }

    /// Whether it gives less than was asked for.
    pub fn is_wanting(&self) -> bool {
        match self {
            Self::Allow { warnings, .. } => !warnings.is_empty(),
            Self::Deny { .. } => true,
        }
    }

    /// Of a dry run: what keeps addresses for nobody in particular stays.
    pub fn takes_nothing(&mut self) {
        match self {
            Self::Allow { unreserve, .. } => unreserve.clear(),
            Self::Deny { .. } => {}
        }
    }
}

/// Reads a request of the API server.
///
/// # Errors
/// It has no object, or one that cannot be told apart from others, or whose name Kubernetes refuses: it
/// is asked before it looks at names, and they would be words of the ledger.
pub fn review(id: u64, request: &AdmissionRequest<Service>) -> Result<Review, Rejection> {
    let object = request.object.as_ref().ok_or_else(|| Rejection {
        reason: Reason::Unreadable,
        message: "the request has no object".to_owned(),
    })?;
    let old = request.old_object.as_ref();
    let mut object = object.clone();
    let metadata = &mut object.metadata;
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    if empty(&metadata.namespace) {
        metadata.namespace.clone_from(&request.namespace);
    }
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let mut is_named = is_label(namespace, NAME) && is_label(&request.uid, NAME);
    let prefix = metadata.generate_name.as_deref().unwrap_or_default();
    if empty(&metadata.name) && !prefix.is_empty() {
        let prefix: String = prefix.chars().take(PREFIX).collect();
        is_named &= is_label(&format!("{prefix}x"), NAME);
        metadata.name = Some(format!("{prefix}{GENERATED}{}", request.uid));
    } else {
        if empty(&metadata.name) {
            metadata.name = Some(request.name.clone());
        }
        is_named &= is_label(metadata.name.as_deref().unwrap_or_default(), NAME);
    }
    if !is_named {
        return Err(Rejection {
            reason: Reason::Unreadable,
            message: "the request is about no name that Kubernetes takes".to_owned(),
        });
    }
    let stored = old.map(|old| &old.metadata);
    if empty(&metadata.uid) {
        let uid = stored.and_then(|stored| stored.uid.clone());
        metadata.uid = uid.or_else(|| Some(request.uid.clone()));
    }
    if empty(&metadata.resource_version) {
        let version = stored.and_then(|stored| stored.resource_version.clone());
        metadata.resource_version = version.or_else(|| Some("0".to_owned()));
    }
    Ok(Review {
        id,
        call: request.uid.as_str().into(),
        object: Arc::new(translate::service(&object)?),
        old: old.map(translate::service).transpose()?.map(Arc::new),
        dry_run: request.dry_run,
    })
}

/// Whether what is kept for `owner` is for the Service of this name, whose name may have been made
/// from what `owner` had of one.
pub fn is_kept_for(owner: &ServiceKey, service: &ServiceKey) -> bool {
    if owner == service {
        return true;
    }
    let Some((prefix, _call)) = owner.name.split_once(GENERATED) else {
        return false;
    };
    owner.namespace == service.namespace && service.name.starts_with(prefix)
}

/// Whom a number is kept for, for people.
pub fn name(owner: &ServiceKey) -> String {
    match owner.name.split_once(GENERATED) {
        Some((prefix, _call)) => format!(
            "a Service {}/{prefix}\u{2026} that is being created",
            owner.namespace
        ),
        None => format!("Service {owner}"),
    }
}
