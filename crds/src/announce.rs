//! `AddressPool.spec.announce`: how the addresses of a pool are made known on the network.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{self, limits};

/// How the addresses of a pool are made known on the network.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Announce {
    /// Announce by ARP and NDP, from one node of the same network segment at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<L2>,
}

/// Announcement by ARP and NDP: which nodes, on which of their interfaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct L2 {
    /// Names of the interfaces on which the addresses are announced, * and ? stand for any characters and for one; without it those that have an address in the same subnet, else the one of the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interfaces")]
    #[x_kube(validation = Rule::new("self.size() > 0").message("name at least one interface, or leave interfaces out to have them found"))]
    pub interfaces: Option<Vec<String>>,

    /// Labels of the nodes that may announce the addresses; without it all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub node_selector: Option<LabelSelector>,

    /// Nodes that get a larger share of the addresses than others, whose weight is 1; of the entries that a node matches the highest weight counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::PREFERRED_NODES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub preferred_nodes: Vec<PreferredNodes>,
}

/// Nodes that get a larger share of a pool's addresses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodes {
    /// How many times the share of a node of weight 1 such a node gets, 1 to 100.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("a weight is a number from 1 to 100"))]
    pub weight: u32,

    /// Labels of these nodes.
    #[schemars(schema_with = "schema::label_selector")]
    pub node_selector: LabelSelector,
}
