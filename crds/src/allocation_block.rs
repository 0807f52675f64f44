//! AllocationBlock: the durable ledger of claims, 256 consecutive numbers an object. Written by
//! Portolan only; its rules keep a hand edit from making the ledger ambiguous.
//!
//! Rules about claims run up to 256 times and those about holders up to 65,536 times a write, so
//! claims have simple rules and holders have none.

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

    /// The numbers of the block that are held or retained; a number without a claim is free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CLAIMS))]
    // Not a map by number: the API server would record an owner for each entry in managedFields, which
    // doubles the object and is most of what a write costs. A number given twice is a damaged block.
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub claims: Vec<BlockClaim>,
}

/// One number and who holds it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.retained) != (has(self.holders) && self.holders.size() > 0)")
        .message("a claim has either holders or a retained owner; remove the claim to free its number")
)]
#[serde(rename_all = "camelCase")]
pub struct BlockClaim {
    /// The number in its canonical text: 203.0.113.7, 2001:db8::1 or 30080.
    #[schemars(length(max = limits::NUMBER))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,4}$') ? int(self) <= 65535 : (isIP(self) && ip.isCanonical(self))")
        .message("number must be an IP address in canonical form or a port between 1 and 65535"))]
    pub number: String,

    /// The Services that hold the number; more than one only when they share it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::HOLDERS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub holders: Vec<BlockHolder>,

    /// The former owner that the number is kept for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<Retained>,
}

/// One Service's hold on a number.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BlockHolder {
    /// The Service's namespace.
    #[schemars(length(max = limits::NAMESPACE))]
    pub namespace: String,

    /// The Service's name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,

    /// The Service's metadata.uid: a re-created Service of the same name is another holder.
    #[schemars(length(max = limits::OPAQUE))]
    pub uid: String,

    /// What the Service uses the number for.
    pub kind: HolderKind,

    /// The resourceVersion of the Service on which the claim was decided; the number is written into the Service only on this version.
    #[schemars(length(max = limits::OPAQUE))]
    pub at: String,

    /// On what terms the Service shares the number; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<BlockSharing>,
}

/// What a Service uses a number for.
#[derive(
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
)]
pub enum HolderKind {
    /// An external address.
    LoadBalancer,
    /// A cluster IP.
    ClusterIP,
    /// A node port.
    NodePort,
    /// The health check node port of a Service with externalTrafficPolicy Local.
    HealthCheckNodePort,
}

/// On what terms a Service shares a number.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BlockSharing {
    /// Services share a number only under the same key.
    #[schemars(length(max = limits::SHARING_KEY))]
    pub key: String,

    /// Other namespaces whose Services may share the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::NAMESPACES), inner(length(max = limits::NAMESPACE)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub with: Vec<String>,

    /// The ports that the Service uses on the number, for example TCP/80; no two holders use the same one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::SHARING_PORTS), inner(length(max = limits::SHARING_PORT)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Vec<String>,

    /// The Service's externalTrafficPolicy, Cluster or Local.
    #[schemars(length(max = 16))]
    pub policy: String,

    /// Identifies the Service's backends: holders with the policy Local must have the same ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = limits::BACKEND))]
    pub backend: String,
}

/// The former owner that a number is kept for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// The former owner's namespace.
    #[schemars(length(max = limits::NAMESPACE))]
    pub namespace: String,

    /// The former owner's name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,

    /// When the number becomes free for others, in seconds since 1970-01-01T00:00:00Z.
    pub until: i64,
}

#[cfg(test)]
mod tests;
