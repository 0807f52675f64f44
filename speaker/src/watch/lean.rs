//! An object as it is read: name, version, owner and spec. managedFields and all else is skipped while
//! it is parsed. A spec that does not fit is kept as the reason why.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::Watched;

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Lean<S> {
    /// Name, resourceVersion and owners.
    meta: ObjectMeta,
    /// What it says, or why that cannot be read.
    pub(super) spec: Result<S, String>,
}

/// Whom an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `v1` for a Node.
    pub(crate) api_version: String,
    /// `Node`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// Tells a Node from its successor of the same name.
    pub(crate) uid: String,
}

impl<S> Lean<S> {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// Its resourceVersion; 0 if it is not a number, which Kubernetes has promised since 1.35 and kept
    /// all along.
    pub(super) fn version(&self) -> u64 {
        let version = self.meta.resource_version.as_deref();
        version.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The Node that it belongs to.
    pub(super) fn owner(&self) -> Option<Owner> {
        let owners = self.meta.owner_references.as_deref().unwrap_or_default();
        let node = owners.iter().find(|owner| owner.kind == "Node")?;
        Some(Owner {
            api_version: node.api_version.clone(),
            kind: node.kind.clone(),
            name: node.name.clone(),
            uid: node.uid.clone(),
        })
    }
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for Lean<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
            // Any shape, one object's at a time: what does not fit must not fail the whole list.
            #[serde(default)]
            spec: serde_json::Value,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            resource_version: Option<String>,
            owner_references: Option<Vec<OwnerReference>>,
        }
        let Object { metadata, spec } = Object::deserialize(deserializer)?;
        Ok(Self {
            meta: ObjectMeta {
                name: metadata.name,
                resource_version: metadata.resource_version,
                owner_references: metadata.owner_references,
                ..ObjectMeta::default()
            },
            spec: S::deserialize(spec).map_err(|error| error.to_string()),
        })
    }
}

impl<S: Watched> Resource for Lean<S> {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;

    fn kind(dt: &()) -> Cow<'_, str> {
        S::Resource::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        S::Resource::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        S::Resource::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        S::Resource::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
