//! The custom resources of `portolan.dev/v1alpha1`: their Rust types, their schemas and the CEL
//! rules by which the API server judges one object on its own.
//!
//! What needs two objects (an overlap of pools, two default classes) or what CEL cannot judge (the
//! order of a range's ends) is judged by the controller and told in a condition. Nothing here talks
//! to a cluster, and no type refuses unknown fields: an older controller must be able to read an
//! object that a newer one wrote.

mod address_pool;
mod allocation_block;
mod announce;
mod announcement;
mod duration;
mod load_balancer_class;
mod node_port_pool;
mod schema;
mod speaker;
mod speaker_status;
mod yaml;

pub use address_pool::{
    AddressPool, AddressPoolSpec, AddressPoolStatus, Counts, PoolUsage, Strategy,
};
pub use allocation_block::{AllocationBlock, AllocationBlockSpec};
pub use announce::{Announce, L2, PreferredNodes};
pub use announcement::{AnnouncedAddress, Announcement, AnnouncementSpec};
pub use duration::{MAX_RETENTION, parse_duration};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
pub use load_balancer_class::{
    AwsProvider, AwsScheme, AwsTargetType, GcpProvider, LoadBalancerClass, LoadBalancerClassSpec,
    LoadBalancerClassStatus, PoolProvider,
};
pub use node_port_pool::{NodePortPool, NodePortPoolSpec, NodePortPoolStatus, PortStrategy};
pub use schema::limits;
pub use speaker::{Exclusion, Speaker, SpeakerPool, SpeakerSpec};
pub use speaker_status::{Announced, SpeakerStatus, SpeakerStatusSpec, Unable};
pub use yaml::yaml;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of every kind here.
pub const GROUP: &str = "portolan.dev";

/// The only served version.
pub const VERSION: &str = "v1alpha1";

/// On a Service for as long as something outside the cluster may exist for it. Never the shared
/// `service.kubernetes.io/…` one: every cloud-controller-manager removes that as its own.
pub const FINALIZER: &str = "portolan.dev/load-balancer-cleanup";

/// Every custom resource definition, as it is to be installed, ordered by name.
///
/// Use this and not `Kind::crd()`: it also removes what the derive adds and Kubernetes does not
/// want (see `schema::finish`).
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        AddressPool::crd(),
        AllocationBlock::crd(),
        Announcement::crd(),
        LoadBalancerClass::crd(),
        NodePortPool::crd(),
        Speaker::crd(),
        SpeakerStatus::crd(),
    ]
    .into_iter()
    .map(schema::finish)
    .collect()
}

#[cfg(test)]
mod tests;
