//! A Node, as far as it says whether the node may announce. Heartbeats, and whether the node is
//! ready, are not read: the speakers know sooner and better who is alive, and the API server may be
//! the one that is cut off.

use std::{net::IpAddr, sync::Arc};

use crds::Exclusion;
use k8s_openapi::api::core::v1;
use model::{Labels, Uid};

/// A node with this label, whatever its value, takes no load balancer's traffic (KEP-1143).
pub const EXCLUDED_BY_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node with one of these taints, whatever their value and effect, announces nothing.
///
/// `node.kubernetes.io/not-ready` and `node.kubernetes.io/unreachable` are not among them on
/// purpose: they say what the API server believes of a node, and the speakers ask the node itself.
pub const EXCLUDING_TAINTS: [&str; 4] = [
    // An operator has said that the machine is down (KEP-2268): its volumes are given to others
    // while it has it, so nothing may run there.
    "node.kubernetes.io/out-of-service",
    // The pod network is not set up: traffic that came here would go no further.
    "node.kubernetes.io/network-unavailable",
    // The cloud says that the machine is off.
    "node.cloudprovider.kubernetes.io/shutdown",
    // The cloud controller has not seen the node yet: its addresses may still change.
    "node.cloudprovider.kubernetes.io/uninitialized",
];

/// A node with one of these taints is about to go, but serves until it does: it is the last choice
/// like a cordoned one, so that an address that no other node can have is not silent before its time.
pub const LEAVING_TAINTS: [&str; 2] = [
    // Cluster Autoscaler drains it.
    "ToBeDeletedByClusterAutoscaler",
    // Karpenter drains it.
    "karpenter.sh/disrupted",
];

/// A Node, reduced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Which one: the owner of its Speaker.
    pub uid: Uid,
    /// `metadata.labels`.
    pub labels: Arc<Labels>,
    /// `status.addresses` of type InternalIP, in order.
    pub addresses: Vec<IpAddr>,
    /// Unschedulable or about to go.
    pub last_choice: bool,
    /// Why it may announce nothing.
    pub excluded: Option<Exclusion>,
}

/// What of a node counts; `None` without a uid.
pub fn node(node: &v1::Node) -> Option<Node> {
    let spec = node.spec.as_ref();
    let status = node.status.as_ref();
    let internal = status
        .and_then(|status| status.addresses.as_ref())
        .into_iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP");
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in internal.filter_map(|address| address.address.parse().ok()) {
        if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address);
        }
    }
    let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    Some(Node {
        uid: Uid::from(node.metadata.uid.as_deref()?),
        labels: Arc::new(node.metadata.labels.clone().unwrap_or_default()),
        addresses,
        last_choice: unschedulable || taint(node, &LEAVING_TAINTS).is_some(),
        excluded: excluded(node),
    })
}

const MOST_ADDRESSES: usize = crds::limits::NODE_ADDRESSES as usize;

/// The first of these taints that it has.
fn taint(node: &v1::Node, listed: &[&'static str]) -> Option<&'static str> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    let has = |key: &&&str| taints.iter().any(|taint| taint.key == ***key);
    listed.iter().find(has).copied()
}

fn excluded(node: &v1::Node) -> Option<Exclusion> {
    let because = |reason: &str, message: String| {
        let reason = reason.to_owned();
        Some(Exclusion { reason, message })
    };
    if node.metadata.deletion_timestamp.is_some() {
        return because("Deleted", "the node is being deleted".to_owned());
    }
    let labels = node.metadata.labels.as_ref();
    if labels.is_some_and(|labels| labels.contains_key(EXCLUDED_BY_LABEL)) {
        return because(
            "Labelled",
            format!("the node has the label {EXCLUDED_BY_LABEL}"),
        );
    }
    if let Some(taint) = taint(node, &EXCLUDING_TAINTS) {
        return because("Tainted", format!("the node has the taint {taint}"));
    }
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    let unavailable = conditions
        .iter()
        .any(|condition| condition.type_ == "NetworkUnavailable" && condition.status == "True");
    if unavailable {
        let message = "the node has the condition NetworkUnavailable".to_owned();
        return because("NetworkUnavailable", message);
    }
    None
}
