//! One change becomes one request: an Announcement or a Speaker is created, replaced with the version
//! that was decided on, or deleted if it still has that version.

use std::sync::Arc;

use crds::{Announcement, Speaker};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Client, Resource,
    api::{DeleteParams, Preconditions},
};
use serde::{Deserialize, Serialize};

use crate::{
    core::{
        announce::{Change, Name, Object},
        effect::Failure,
    },
    shell::{
        metrics::{Metrics, Outcome, Verb},
        write::{classify, cluster, outcome, posting, send, unsendable},
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
            let mut object = Announcement::new(name, (*spec).clone());
            object.metadata = meta(name, version.as_deref(), None);
            put(name, version.is_some(), &object)
        }
        Change::Speaker(version, spec, node) => {
            let mut object = Speaker::new(name, (*spec).clone());
            // Kubernetes deletes it with its Node, also where no controller runs.
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.to_owned(),
                uid: node.as_str().to_owned(),
                ..OwnerReference::default()
            };
            object.metadata = meta(name, version.as_deref(), Some(owner));
            put(name, version.is_some(), &object)
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

fn meta(name: &str, version: Option<&str>, owner: Option<OwnerReference>) -> ObjectMeta {
    let label = (MANAGED_BY.to_owned(), MANAGER_NAME.to_owned());
    ObjectMeta {
        name: Some(name.to_owned()),
        resource_version: version.map(str::to_owned),
        labels: Some([label].into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn put<K>(name: &str, exists: bool, object: &K) -> Result<Request<Vec<u8>>, Failure>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let body = serde_json::to_vec(object).map_err(|error| Failure::Refused(error.to_string()))?;
    match exists {
        true => cluster::<K>().replace(name, &posting(), body),
        false => cluster::<K>().create(&posting(), body),
    }
    .map_err(unsendable)
}
