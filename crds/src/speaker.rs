//! Speaker: what the speaker on one node may announce. Written by the controller only, from the Node
//! and the pools, so that no speaker needs to read Nodes, and watched by every speaker.

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

/// What the speaker on one node may announce.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "Speaker",
    plural = "speakers",
    derive = "PartialEq",
    category = "portolan",
    doc = "What the speaker on the node of the same name may announce. Written by Portolan only.",
    printcolumn(
        name = "Excluded",
        type_ = "string",
        json_path = ".spec.excluded.reason",
        description = "Why the node may announce nothing"
    ),
    printcolumn(
        name = "LastChoice",
        type_ = "boolean",
        json_path = ".spec.lastChoice",
        description = "Whether it announces only when no other node can: it is unschedulable"
    ),
    printcolumn(
        name = "Addresses",
        type_ = "string",
        json_path = ".spec.addresses",
        description = "Where its peers reach it",
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
pub struct SpeakerSpec {
    /// The node's internal addresses; its peers reach it at the first.
    #[schemars(schema_with = "schema::node_addresses")]
    pub addresses: Vec<String>,

    /// The pools whose addresses it may announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::RANGES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub pools: Vec<SpeakerPool>,

    /// Whether it announces only what no other node can, because the node is unschedulable.
    #[serde(default, skip_serializing_if = "crate::address_pool::is_false")]
    pub last_choice: bool,

    /// Why it may announce nothing at all; without it it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Exclusion>,
}

/// A pool whose addresses a speaker may announce.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerPool {
    /// The pool.
    #[schemars(length(max = limits::NAME))]
    pub name: String,

    /// How many times the share of a node of weight 1 it gets of the pool's addresses.
    pub weight: u32,
}

/// Why a node may announce nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Exclusion {
    /// Labelled, Tainted, NetworkUnavailable or Deleted.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What it is, in a sentence that names the label, taint or condition.
    #[schemars(length(max = 1024))]
    pub message: String,
}
