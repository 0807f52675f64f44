//! AllocationBlock: the durable ledger of claims, 256 consecutive numbers an object. Written by
//! Portolan only. A hand edit that makes a claim ambiguous makes the block damaged: it is reported,
//! and nothing of it is free until it is mended.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema::limits;

/// Claims on 256 consecutive numbers of one space.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "AllocationBlock",
    plural = "allocationblocks",
    derive = "PartialEq",
    shortname = "ablock",
    category = "portolan",
    doc = "The ledger of which Service holds which number, 256 consecutive numbers an object. Written by Portolan only; deleting or editing one by hand risks handing out a number twice.",
    printcolumn(
        name = "Seq",
        type_ = "integer",
        json_path = ".spec.sequence",
        description = "How often the block was written"
    ),
    printcolumn(
        name = "Writer",
        type_ = "string",
        json_path = ".spec.writer",
        description = "Who wrote it last"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct AllocationBlockSpec {
    /// The version of the format in which the claims are written; a controller leaves a block of a newer version alone.
    #[x_kube(validation = Rule::new("self >= 1").message("formatVersion starts at 1"))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("formatVersion never goes back: an older controller would misread the block"))]
    pub format_version: u32,

    /// Incremented by every write, so that no write leaves the block as it was.
    #[x_kube(validation = Rule::new("self >= 0").message("sequence starts at 0"))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("sequence never goes back: read the block again and increment it"))]
    pub sequence: i64,

    /// Which process wrote the block last.
    #[schemars(length(max = limits::NAME))]
    pub writer: String,

    /// The numbers of the block that are held or retained, a line for each Service that holds or had one: `30080 NodePort shop/web UID AT` or `30080 Retained shop/web UNTIL`. A number without a line is free. UID and AT are the Service's uid and the resourceVersion on which the claim was decided, so that the number is written into the Service only on this version; UNTIL is when the number becomes free for others, in seconds since 1970. The terms on which Services share a number follow as JSON.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = limits::CLAIMS))]
    // Whoever is being created waits for this write, and what it costs is what the API server has to do
    // for each value in it: it reads, prunes, defaults, validates and compares every field of every
    // object, and copies each many times (and as a map by number it would record an owner for each,
    // too). So it judges none of this; who reads a claim does.
    pub claims: String,
}

#[cfg(test)]
mod tests;
