//! One change becomes one request: an Announcement or a Speaker is created, patched if it still has
//! the version that was decided on, or deleted if it still has that version.

use std::sync::Arc;

use crds::{Announcement, Speaker};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Client, Resource,
    api::{DeleteParams, Patch, Preconditions},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    core::{
        announce::{Change, Name, Object},
        effect::Failure,
    },
    shell::{
        metrics::{Metrics, Outcome, Verb},
        write::{classify, cluster, outcome, patching, posting, send, unsendable},
    },
};

/// The label of what is ours, and goes when nobody wants it.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(super) const MANAGER_NAME: &str = "portolan";

/// All that is read of a reply; of a deletion nothing.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    metadata: WrittenMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    #[serde(default)]
    resource_version: Arc<str>,
}

/// Sends the change; the new version, or why it failed. Ends within `TIMEOUT`.
pub(super) async fn write(
    client: &Client,
    (object, name): &Name,
    change: Change,
    metrics: &Metrics,
) -> Result<Arc<str>, Failure> {
    let verb = match object {
        Object::Announcement => Verb::Announcement,
        Object::Speaker => Verb::Speaker,
    };
    let result = match request(*object, name, change) {
        Ok(request) => match send::<Written>(client, request).await {
            Ok(written) => Ok(written.metadata.resource_version),
            Err(error) => Err(classify(&error)),
        },
        Err(failure) => Err(failure),
    };
    let how = match &result {
        Ok(_) => Outcome::Done,
        Err(failure) => outcome(Some(failure)),
    };
    metrics.request(verb, how);
    result
}

fn request(object: Object, name: &str, change: Change) -> Result<Request<Vec<u8>>, Failure> {
    match change {
        Change::Announcement(version, spec) => {
            let body = body::<Announcement>(name, version.as_deref(), None, &*spec, &["nodes"])?;
            put::<Announcement>(name, version.is_some(), &body)
        }
        Change::Speaker(version, spec, node) => {
            // Kubernetes deletes it with its Node, also where no controller runs.
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.to_owned(),
                uid: node.as_str().to_owned(),
                ..OwnerReference::default()
            };
            let absent = ["pools", "lastChoice", "excluded"];
            let body = body::<Speaker>(name, version.as_deref(), Some(owner), &*spec, &absent)?;
            put::<Speaker>(name, version.is_some(), &body)
        }
        Change::Delete { version, uid } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    resource_version: Some(version.to_string()),
                    uid: Some(uid.to_string()),
                }),
                ..DeleteParams::default()
            };
            match object {
                Object::Announcement => cluster::<Announcement>().delete(name, &params),
                Object::Speaker => cluster::<Speaker>().delete(name, &params),
            }
            .map_err(unsendable)
        }
    }
}

/// The object to create, or the merge patch that makes it this one: then what may be `absent` from the
/// spec is taken away, and what others have added to the metadata stays.
fn body<K: Resource<DynamicType = ()>>(
    name: &str,
    version: Option<&str>,
    owner: Option<OwnerReference>,
    spec: &impl Serialize,
    absent: &[&str],
) -> Result<Value, Failure> {
    let unsendable = |error: serde_json::Error| Failure::Refused(error.to_string());
    let mut spec = serde_json::to_value(spec).map_err(unsendable)?;
    let mut metadata = json!({"name": name, "labels": {MANAGED_BY: MANAGER_NAME}});
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.extend(owner.map(|owner| ("ownerReferences".to_owned(), json!([owner]))));
        metadata.extend(version.map(|version| ("resourceVersion".to_owned(), json!(version))));
    }
    if let Some(spec) = spec.as_object_mut().filter(|_| version.is_some()) {
        for field in absent {
            spec.entry(*field).or_insert(Value::Null);
        }
    }
    Ok(json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "spec": spec,
    }))
}

fn put<K: Resource<DynamicType = ()>>(
    name: &str,
    exists: bool,
    body: &Value,
) -> Result<Request<Vec<u8>>, Failure> {
    let request = match exists {
        true => cluster::<K>().patch(name, &patching(), &Patch::Merge(body)),
        false => cluster::<K>().create(&posting(), body.to_string().into_bytes()),
    };
    request.map_err(unsendable)
}
