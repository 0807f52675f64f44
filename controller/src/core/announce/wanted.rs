//! What an Announcement and a Speaker must say.

use std::{collections::BTreeSet, sync::Arc};

use crds::{AnnouncedAddress, AnnouncementSpec, SpeakerPool, SpeakerSpec};
use model::ServiceKey;

use super::{
    endpoints::Endpoints,
    groups::{Group, Groups},
    node::Node,
    policy::Policies,
};

/// The Announcement of a group; `None` when no pool of it is announced.
pub(super) fn announcement(
    group: &Group,
    groups: &Groups,
    policies: &Policies,
    endpoints: &Endpoints,
) -> Option<AnnouncementSpec> {
    let mut addresses = Vec::new();
    let mut pools = BTreeSet::new();
    for (ip, pool) in &group.addresses {
        if let Some(policy) = policies.get(pool) {
            pools.insert(pool);
            addresses.push(AnnouncedAddress {
                ip: ip.to_string(),
                interfaces: policy.interfaces.clone(),
            });
        }
    }
    // A list longer than the schema allows would be refused, and this one is for people only.
    let services = group.services.iter().map(ServiceKey::to_string);
    let services = services.take(crds::limits::ANNOUNCED_SERVICES as usize);
    (!addresses.is_empty()).then(|| AnnouncementSpec {
        addresses,
        pools: pools.into_iter().map(ToString::to_string).collect(),
        services: services.collect(),
        nodes: nodes(group, groups, endpoints)
            .map(|nodes| nodes.iter().map(ToString::to_string).collect()),
    })
}

/// The only nodes that may answer for a group; `None`: any. With externalTrafficPolicy Local those
/// with endpoints, and where several such Services share an address those with endpoints of each that
/// has any at all; with Cluster any node, as kube-proxy forwards, unless there is nothing to forward
/// to.
pub(super) fn nodes(
    group: &Group,
    groups: &Groups,
    endpoints: &Endpoints,
) -> Option<BTreeSet<Arc<str>>> {
    let mut only: Option<BTreeSet<Arc<str>>> = None;
    let mut served = false;
    for key in &group.services {
        if !groups.wish(key).is_some_and(|wish| wish.local) {
            served |= endpoints.any(key);
            continue;
        }
        let nodes = endpoints.nodes(key);
        if !nodes.is_empty() {
            only = Some(match only {
                Some(others) => others.intersection(&nodes).cloned().collect(),
                None => nodes,
            });
        }
    }
    match (only, served) {
        (Some(only), _) => Some(only),
        (None, true) => None,
        (None, false) => Some(BTreeSet::new()),
    }
}

/// The Speaker of a node; `None` when its peers could not reach it.
pub(super) fn speaker(node: &Node, policies: &Policies) -> Option<SpeakerSpec> {
    let pools = policies.iter().filter_map(|(name, policy)| {
        Some(SpeakerPool {
            name: name.to_string(),
            weight: policy.weight(&node.labels)?,
        })
    });
    (!node.addresses.is_empty()).then(|| SpeakerSpec {
        addresses: node.addresses.iter().map(ToString::to_string).collect(),
        pools: pools.collect(),
        last_choice: node.last_choice,
        excluded: node.excluded.clone(),
    })
}
