//! NodePortPool: which node ports may be handed out, and to whom.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type look like duplicates to the lint"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::address_pool::{Counts, is_false, yes};
use crate::duration::{BOUNDS_MESSAGE, BOUNDS_RULE, FORM_MESSAGE, FORM_RULE};
use crate::schema::{self, limits};

/// Node ports that may be handed out to Services, and to which Services.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "NodePortPool",
    plural = "nodeportpools",
    status = "NodePortPoolStatus",
    derive = "PartialEq",
    shortname = "npool",
    category = "portolan",
    doc = "Node ports that may be handed out to Services, and to which Services.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the pool hands out ports"
    ),
    printcolumn(
        name = "Ports",
        type_ = "string",
        json_path = ".spec.ports",
        description = "The ports and ranges"
    ),
    printcolumn(
        name = "Free",
        type_ = "integer",
        json_path = ".status.ports.available",
        description = "Ports that can still be claimed"
    ),
    printcolumn(
        name = "Auto",
        type_ = "boolean",
        json_path = ".spec.autoAssign",
        description = "Whether Services that do not name the pool get its ports",
        priority = 1
    ),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        description = "Pools of higher priority are tried first",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct NodePortPoolSpec {
    /// The ports of the pool: single ones (30100) and ranges (30100-30200); those outside the API server's node port range cannot be used.
    #[schemars(schema_with = "schema::ports")]
    #[x_kube(validation = Rule::new("self.size() > 0").message("a pool needs at least one port"))]
    pub ports: Vec<String>,

    /// Ports within the pool that are never handed out, in the forms that ports takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ports")]
    pub exclude: Vec<String>,

    /// Whether Services that do not ask for this pool get ports from it; false still serves requests by pool name or by port.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Among the pools that admit a Service, those of higher priority are tried first; equal ones by name.
    #[serde(default)]
    pub priority: i32,

    /// Drains the pool: ports that are held stay in service, and no further one is handed out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,

    /// Namespaces whose Services the pool admits, together with those of namespaceSelector; without either every namespace is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::namespaces")]
    #[x_kube(validation = Rule::new("self.size() > 0").message("name at least one namespace, or leave namespaces out to admit all"))]
    pub namespaces: Option<Vec<String>>,

    /// Labels of the namespaces whose Services the pool admits, together with those listed in namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: Option<LabelSelector>,

    /// Labels of the Services that the pool admits, within the namespaces that it admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub service_selector: Option<LabelSelector>,

    /// Whether Services that this pool admits must have their nodePorts in it or in another pool that admits them and enforces; those that lie elsewhere are changed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub enforce: bool,

    /// Which of the free ports is taken: LowestFree, Stable (derived from the Service's namespace, name and port, to agree across clusters) or Random.
    #[serde(default)]
    pub strategy: PortStrategy,

    /// How long a released port stays held for a Service of the same namespace and name, for example 24h; without it there is no retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    #[x_kube(validation = Rule::new(FORM_RULE).message(FORM_MESSAGE))]
    #[x_kube(validation = Rule::new(BOUNDS_RULE).message(BOUNDS_MESSAGE))]
    pub retain_for: Option<String>,
}

impl Default for NodePortPoolSpec {
    /// No ports, and everything else as the API server defaults it.
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            exclude: Vec::new(),
            auto_assign: true,
            priority: 0,
            disabled: false,
            namespaces: None,
            namespace_selector: None,
            service_selector: None,
            enforce: false,
            strategy: PortStrategy::default(),
            retain_for: None,
        }
    }
}

/// Which of the free ports a claim takes.
#[derive(
    Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash,
)]
pub enum PortStrategy {
    /// The lowest free port.
    #[default]
    LowestFree,
    /// A port derived from the Service's namespace, name and port: the same one in every cluster
    /// and after re-creation, as long as it is free.
    Stable,
    /// Any free port, as the API server chooses.
    Random,
}

/// What has become of a NodePortPool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodePortPoolStatus {
    /// The metadata.generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many ports the pool has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Counts>,

    /// Ready (hands out ports), Conflict (overlaps an older pool) and Exhausted (nothing is free).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests;
