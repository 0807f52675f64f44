//! Announcement: addresses that one node at a time answers for. Written by the controller only and
//! watched by every speaker, so it has what a speaker needs to know and nothing that changes
//! without a reason to move.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type look like duplicates to the lint"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema::{self, limits};

/// Addresses that one node at a time answers for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "Announcement",
    plural = "announcements",
    derive = "PartialEq",
    shortname = "ann",
    category = "portolan",
    doc = "Addresses that one node at a time answers for: those of one Service and of all that share an address with it. Written by Portolan only; named after its first address.",
    printcolumn(
        name = "Services",
        type_ = "string",
        json_path = ".spec.services",
        description = "Whose addresses they are"
    ),
    printcolumn(
        name = "Pools",
        type_ = "string",
        json_path = ".spec.pools",
        description = "The pools that they are from"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "string",
        json_path = ".spec.nodes",
        description = "The only nodes that have an endpoint to send to; empty: any node may answer"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct AnnouncementSpec {
    /// The addresses, each with the interfaces on which it is announced.
    #[schemars(length(max = limits::ANNOUNCED))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<AnnouncedAddress>,

    /// The pools that the addresses are from; a node must be allowed to announce each.
    #[schemars(schema_with = "schema::pool_names")]
    pub pools: Vec<String>,

    /// The Services that have these addresses, as namespace/name.
    #[schemars(schema_with = "schema::services")]
    pub services: Vec<String>,

    /// The nodes that may answer: with externalTrafficPolicy Local those that have an endpoint, none when there is no endpoint at all; without it every node that the pools allow may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::node_names")]
    pub nodes: Option<Vec<String>>,
}

/// One address and where it is announced.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AnnouncedAddress {
    /// The address.
    #[schemars(length(max = limits::NUMBER))]
    pub ip: String,

    /// Names of interfaces, with * and ?; without it those that have an address in the same subnet, else the one of the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interfaces")]
    pub interfaces: Option<Vec<String>>,
}
