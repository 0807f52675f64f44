//! What can be served: the built-in resources and, at run time, one entry per CustomResourceDefinition.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;
use serde_json::Value;

use crate::error::Qualified;
use crate::schema::Schema;

/// What a resource's objects are, beyond being objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Service,
    Namespace,
    Node,
    EndpointSlice,
    /// `v1` Events, the stored shape.
    CoreEvent,
    /// The same objects as `events.k8s.io/v1` shows them.
    NewEvent,
    Lease,
    Definition,
    Custom,
}

/// One entry of `spec.versions` of a CRD, or the only version of a built-in.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) served: bool,
    /// Has `/status`.
    pub(crate) status: bool,
    pub(crate) schema: Option<Schema>,
    /// A CRD's `additionalPrinterColumns`, as they are written there.
    pub(crate) columns: Vec<Value>,
}

/// One resource that can be addressed by a path.
#[derive(Debug)]
pub(crate) struct Resource {
    /// The table of the store; the two groups of Events share one.
    pub(crate) table: Arc<str>,
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) nature: Nature,
    pub(crate) versions: Vec<Version>,
    /// The version objects are stored as.
    pub(crate) storage: String,
}

impl Resource {
    pub(crate) fn qualified(&self) -> Qualified<'_> {
        Qualified {
            group: &self.group,
            plural: &self.plural,
        }
    }

    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name && v.served)
    }

    /// Whether PUT without a resourceVersion is an unconditional update (`AllowUnconditionalUpdate`).
    pub(crate) fn unconditional_update(&self) -> bool {
        match self.nature {
            Nature::Service
            | Nature::Namespace
            | Nature::Node
            | Nature::EndpointSlice
            | Nature::CoreEvent
            | Nature::NewEvent => true,
            Nature::Lease | Nature::Definition | Nature::Custom => false,
        }
    }

    /// Whether PUT on a missing name creates it (`AllowCreateOnUpdate`).
    pub(crate) fn create_on_update(&self) -> bool {
        match self.nature {
            Nature::Service | Nature::Lease | Nature::CoreEvent | Nature::NewEvent => true,
            Nature::Namespace
            | Nature::Node
            | Nature::EndpointSlice
            | Nature::Definition
            | Nature::Custom => false,
        }
    }
}

/// `v1`, `portolan.dev/v1alpha1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// The resources every devapi serves, all at `v1`.
pub(crate) fn built_in() -> [Resource; 8] {
    let service = Resource {
        categories: vec!["all".to_owned()],
        ..of::<Service>(Nature::Service, true, true, &["svc"])
    };
    [
        service,
        of::<Namespace>(Nature::Namespace, false, true, &["ns"]),
        of::<Node>(Nature::Node, false, true, &["no"]),
        of::<Event>(Nature::CoreEvent, true, false, &["ev"]),
        of::<NewEvent>(Nature::NewEvent, true, false, &["ev"]),
        of::<EndpointSlice>(Nature::EndpointSlice, true, false, &[]),
        of::<Lease>(Nature::Lease, true, false, &[]),
        of::<Definition>(Nature::Definition, false, true, &["crd", "crds"]),
    ]
}

fn of<K: k8s_openapi::Resource>(
    nature: Nature,
    namespaced: bool,
    status: bool,
    short: &[&str],
) -> Resource {
    let plural = K::URL_PATH_SEGMENT;
    Resource {
        // One table for both groups of Events: no other two resources share a plural.
        table: Arc::from(plural),
        group: K::GROUP.to_owned(),
        kind: K::KIND.to_owned(),
        list_kind: format!("{}List", K::KIND),
        plural: plural.to_owned(),
        singular: K::KIND.to_lowercase(),
        short_names: short.iter().map(|s| (*s).to_owned()).collect(),
        categories: Vec::new(),
        namespaced,
        nature,
        versions: vec![Version {
            name: K::VERSION.to_owned(),
            served: true,
            status,
            schema: None,
            columns: Vec::new(),
        }],
        storage: K::VERSION.to_owned(),
    }
}

/// Follows object keys; `Null` where there is nothing.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    let mut here = value;
    for key in path {
        match here.get(key) {
            Some(next) => here = next,
            None => return &Value::Null,
        }
    }
    here
}

/// The string at a path, `""` where there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The list at a path, empty where there is none.
pub(crate) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The strings of the list at a path.
pub(crate) fn strings<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a str> {
    list(value, path).iter().filter_map(Value::as_str).collect()
}

/// Sets a key of the object, making objects on the way; `Null` removes it.
pub(crate) fn put(value: &mut Value, path: &[&str], new: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut here = value;
    for key in parents {
        if !here.is_object() {
            *here = Value::Object(serde_json::Map::new());
        }
        let Some(map) = here.as_object_mut() else {
            return;
        };
        here = map.entry(*key).or_insert(Value::Null);
    }
    if !here.is_object() {
        *here = Value::Object(serde_json::Map::new());
    }
    if let Some(map) = here.as_object_mut() {
        if new.is_null() {
            map.remove(*last);
        } else {
            map.insert((*last).to_owned(), new);
        }
    }
}
