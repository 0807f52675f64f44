//! SpeakerStatus: what the speaker on one node announces. Written by that speaker alone (the chart's
//! ValidatingAdmissionPolicy refuses every other), at most once a second and only on change.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema::{self, limits};

/// What the speaker on one node announces.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "SpeakerStatus",
    plural = "speakerstatuses",
    derive = "PartialEq",
    category = "portolan",
    doc = "What the speaker on the node of the same name announces. Written by that speaker only.",
    printcolumn(
        name = "Services",
        type_ = "string",
        json_path = ".spec.services",
        description = "The Services whose addresses the node answers for"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatusSpec {
    /// The Services whose addresses the node answers for, as namespace/name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::answered_services")]
    pub services: Vec<String>,

    /// The addresses that it answers for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_ENTRIES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub announced: Vec<Announced>,

    /// The pools whose addresses it cannot announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::RANGES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub unable: Vec<Unable>,
}

/// An address that a node answers for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// The address.
    #[schemars(length(max = limits::NUMBER))]
    pub ip: String,

    /// The interfaces on which it answers.
    #[schemars(schema_with = "schema::interface_names")]
    pub interfaces: Vec<String>,

    /// Since when, in RFC 3339 with milliseconds, by the node's clock: the latest counts when two say that they answer.
    #[schemars(length(max = 40))]
    pub since: String,

    /// The hardware address of another machine that answers for the address, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub conflict: Option<String>,
}

/// A pool whose addresses a node cannot announce.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Unable {
    /// The pool.
    #[schemars(length(max = limits::NAME))]
    pub pool: String,

    /// Why, in a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}
