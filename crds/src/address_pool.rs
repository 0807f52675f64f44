//! AddressPool: which external addresses or cluster IPs may be handed out, and to whom.

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

use crate::announce::Announce;
use crate::duration::{BOUNDS_MESSAGE, BOUNDS_RULE, FORM_MESSAGE, FORM_RULE};
use crate::schema::{self, limits};

/// Addresses that may be handed out to Services, and to which Services.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "AddressPool",
    plural = "addresspools",
    status = "AddressPoolStatus",
    derive = "PartialEq",
    shortname = "apool",
    category = "portolan",
    doc = "Addresses that may be handed out to Services as external addresses or cluster IPs, and to which Services.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the pool hands out addresses"
    ),
    printcolumn(
        name = "Usage",
        type_ = "string",
        json_path = ".spec.usage",
        description = "What the addresses are for"
    ),
    printcolumn(
        name = "Addresses",
        type_ = "string",
        json_path = ".spec.addresses",
        description = "The ranges"
    ),
    printcolumn(
        name = "Free4",
        type_ = "integer",
        json_path = ".status.ipv4.available",
        description = "IPv4 addresses that can still be claimed"
    ),
    printcolumn(
        name = "Free6",
        type_ = "integer",
        json_path = ".status.ipv6.available",
        description = "IPv6 addresses that can still be claimed"
    ),
    printcolumn(
        name = "Auto",
        type_ = "boolean",
        json_path = ".spec.autoAssign",
        description = "Whether Services that do not name the pool get its addresses",
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
#[x_kube(
    validation = Rule::new("self.usage != 'ClusterIP' || !has(self.announce)")
        .message("announce is for pools with usage LoadBalancer: cluster IPs are not announced; remove announce")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// The addresses of the pool, IPv4 and IPv6 in any mix: CIDRs (203.0.113.0/24), ranges (203.0.113.10-203.0.113.20) and single addresses.
    #[schemars(schema_with = "schema::addresses")]
    #[x_kube(validation = Rule::new("self.size() > 0").message("a pool needs at least one range of addresses"))]
    pub addresses: Vec<String>,

    /// What the addresses are for: LoadBalancer (external addresses) or ClusterIP.
    #[serde(default)]
    pub usage: PoolUsage,

    /// Addresses within the pool that are never handed out automatically nor on request, in the forms that addresses takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::addresses")]
    pub reserved: Vec<String>,

    /// Whether Services that do not ask for this pool get addresses from it; false still serves requests by pool name or by address.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Among the pools that admit a Service, those of higher priority are tried first; equal ones by name.
    #[serde(default)]
    pub priority: i32,

    /// Drains the pool: addresses that are held stay in service, and no further one is handed out.
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

    /// Whether Services that this pool admits may not fall through to other pools when this one has nothing for them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub enforce: bool,

    /// Which of the free addresses is taken: LowestFree, or Stable (derived from the Service's namespace and name).
    #[serde(default)]
    pub strategy: Strategy,

    /// How long a released address stays held for a Service of the same namespace and name, for example 24h; without it there is no retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    #[x_kube(validation = Rule::new(FORM_RULE).message(FORM_MESSAGE))]
    #[x_kube(validation = Rule::new(BOUNDS_RULE).message(BOUNDS_MESSAGE))]
    pub retain_for: Option<String>,

    /// Leaves out IPv4 addresses that end in .0 or .255, which some old equipment mistakes for broadcast addresses; requests for one are refused too.
    #[serde(default, rename = "avoidBuggyIPs", skip_serializing_if = "is_false")]
    pub avoid_buggy_ips: bool,

    /// How the addresses are made known on the network; without it they are only written into the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Announce>,
}

impl Default for AddressPoolSpec {
    /// No addresses, and everything else as the API server defaults it.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            usage: PoolUsage::default(),
            reserved: Vec::new(),
            auto_assign: true,
            priority: 0,
            disabled: false,
            namespaces: None,
            namespace_selector: None,
            service_selector: None,
            enforce: false,
            strategy: Strategy::default(),
            retain_for: None,
            avoid_buggy_ips: false,
            announce: None,
        }
    }
}

/// What the addresses of a pool are for.
#[derive(
    Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash,
)]
pub enum PoolUsage {
    /// External addresses of Services of type LoadBalancer.
    #[default]
    LoadBalancer,
    /// Cluster IPs, where the control plane leaves them to Portolan.
    ClusterIP,
}

/// Which of the free addresses a claim takes.
#[derive(
    Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash,
)]
pub enum Strategy {
    /// The lowest free address.
    #[default]
    LowestFree,
    /// An address derived from the Service's namespace and name: the same one in every cluster and
    /// after re-creation, as long as it is free.
    Stable,
}

/// What has become of an AddressPool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// The metadata.generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many IPv4 addresses the pool has; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Counts>,

    /// How many IPv6 addresses the pool has; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Counts>,

    /// Ready (hands out addresses), Conflict (overlaps an older pool) and Exhausted (nothing is free).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many numbers a pool has and where they are; a count too large for 64 bits shows as
/// 9223372036854775807.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Numbers that the pool may hand out, without the reserved ones.
    #[serde(default)]
    pub capacity: i64,
    /// Numbers that Services hold.
    #[serde(default)]
    pub claimed: i64,
    /// Numbers that are kept for their former owner.
    #[serde(default)]
    pub retained: i64,
    /// Numbers that can still be claimed.
    #[serde(default)]
    pub available: i64,
}

pub(crate) fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
