//! What can be served: the built-in resources and, at run time, one entry per CustomResourceDefinition.

use std::sync::Arc;

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
    pub(crate) columns: Vec<Column>,
}

/// One of a CRD's `additionalPrinterColumns`.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: String,
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
    /// A CRD's `selectableFields`, without the leading dot.
    pub(crate) selectable_fields: Vec<String>,
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

struct BuiltIn {
    nature: Nature,
    table: &'static str,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
}

const BUILT_IN: [BuiltIn; 8] = [
    b(
        Nature::Service,
        "services",
        "",
        "Service",
        "services",
        &["svc"],
        true,
        true,
    ),
    b(
        Nature::Namespace,
        "namespaces",
        "",
        "Namespace",
        "namespaces",
        &["ns"],
        false,
        true,
    ),
    b(
        Nature::Node,
        "nodes",
        "",
        "Node",
        "nodes",
        &["no"],
        false,
        true,
    ),
    b(
        Nature::CoreEvent,
        "events",
        "",
        "Event",
        "events",
        &["ev"],
        true,
        false,
    ),
    b(
        Nature::NewEvent,
        "events",
        "events.k8s.io",
        "Event",
        "events",
        &["ev"],
        true,
        false,
    ),
    b(
        Nature::EndpointSlice,
        "endpointslices",
        "discovery.k8s.io",
        "EndpointSlice",
        "endpointslices",
        &[],
        true,
        false,
    ),
    b(
        Nature::Lease,
        "leases",
        "coordination.k8s.io",
        "Lease",
        "leases",
        &[],
        true,
        false,
    ),
    b(
        Nature::Definition,
        "customresourcedefinitions",
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        false,
        true,
    ),
];

#[expect(
    clippy::too_many_arguments,
    reason = "one row of the table above, in its column order"
)]
const fn b(
    nature: Nature,
    table: &'static str,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
) -> BuiltIn {
    BuiltIn {
        nature,
        table,
        group,
        kind,
        plural,
        short,
        namespaced,
        status,
    }
}

/// The resources every devapi serves, all at `v1`.
pub(crate) fn built_in() -> impl Iterator<Item = Resource> {
    BUILT_IN.iter().map(|b| Resource {
        table: Arc::from(b.table),
        group: b.group.to_owned(),
        kind: b.kind.to_owned(),
        list_kind: format!("{}List", b.kind),
        plural: b.plural.to_owned(),
        singular: b.kind.to_lowercase(),
        short_names: b.short.iter().map(|s| (*s).to_owned()).collect(),
        categories: if b.nature == Nature::Service {
            vec!["all".to_owned()]
        } else {
            Vec::new()
        },
        namespaced: b.namespaced,
        nature: b.nature,
        versions: vec![Version {
            name: "v1".to_owned(),
            served: true,
            status: b.status,
            schema: None,
            columns: Vec::new(),
        }],
        storage: "v1".to_owned(),
        selectable_fields: Vec::new(),
    })
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
