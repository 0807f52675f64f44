//! Who belongs into a target group: nodes by their nodePort, or pods by their address. Whether a
//! node is Ready is never asked (KEP-3458), and one bad node never stops the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use model::Family;
use sha2::{Digest, Sha256};

use crate::{
    annotations::go_bool,
    input::{Endpoint, Node},
    listed,
    wanted::Target,
};

#[cfg(test)]
mod tests;

/// AWS: targets of one load balancer in one zone, or of all zones together when cross-zone load
/// balancing is on; a target in N target groups counts N times.
const OF_ZONE: usize = 500;
/// AWS: targets of one load balancer.
const OF_LOAD_BALANCER: usize = 3000;
/// AWS: targets of one target group.
const OF_TARGET_GROUP: usize = 1000;

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// LBC: nodes with these labels are never targets.
const NEVER: [&str; 2] = [
    "node-role.kubernetes.io/master",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
];
/// Taints of nodes that are about to go.
const GOING: [&str; 2] = ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"];

/// A node that can be a target.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate {
    /// `i-…`.
    pub instance: String,
    /// Its zone; empty when its providerID does not say.
    pub zone: String,
}

/// The nodes that can be targets, and what a user should know about those that cannot.
pub fn candidates(
    nodes: &[Node],
    labels: &BTreeMap<String, String>,
) -> (BTreeSet<Candidate>, Vec<String>) {
    let (mut found, mut without, mut foreign) = (BTreeSet::new(), vec![], vec![]);
    for node in nodes.iter().filter(|node| eligible(node, labels)) {
        match candidate(&node.provider_id) {
            Some(candidate) => {
                found.insert(candidate);
            }
            None if node.provider_id.is_empty() => without.push(node.name.as_str()),
            None => foreign.push(node.name.as_str()),
        }
    }
    without.sort_unstable();
    foreign.sort_unstable();
    let mut warnings = vec![];
    if !without.is_empty() {
        warnings.push(format!(
            "no target, because spec.providerID of the node is empty: {}; the cloud controller \
             manager or the kubelet's --provider-id sets it",
            listed(without.into_iter(), 8)
        ));
    }
    if !foreign.is_empty() {
        warnings.push(format!(
            "no target, because spec.providerID of the node is not aws:///ZONE/INSTANCE: {}; label \
             such nodes {EXCLUDE} to be rid of this warning",
            listed(foreign.into_iter(), 8)
        ));
    }
    (found, warnings)
}

fn eligible(node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let label = |name: &str| node.labels.get(name).map(String::as_str);
    let excluded = label(EXCLUDE).is_some_and(|value| go_bool(value) != Some(false));
    !node.deleting
        && !excluded
        && !NEVER.iter().any(|name| label(name).is_some())
        && label("eks.amazonaws.com/compute-type") != Some("fargate")
        && !GOING.iter().any(|taint| node.taints.contains(*taint))
        && labels
            .iter()
            .all(|(name, value)| label(name) == Some(value))
}

/// `aws:///eu-central-1a/i-0123456789abcdef0`.
fn candidate(provider_id: &str) -> Option<Candidate> {
    let path = provider_id.strip_prefix("aws://")?;
    let (before, instance) = path.rsplit_once('/')?;
    let zone = before.rsplit('/').next().unwrap_or_default();
    (instance.len() > 2 && instance.starts_with("i-")).then(|| Candidate {
        instance: instance.to_owned(),
        zone: zone.to_owned(),
    })
}

/// How many nodes AWS lets into each target group of instances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// In all zones.
    pub total: usize,
    /// In one zone.
    pub of_zone: usize,
}

impl Room {
    /// For a load balancer with so many target groups of instances and so many pods as targets.
    pub fn of(groups: usize, pods: usize, cross_zone: bool, most: Option<usize>) -> Self {
        let groups = groups.max(1);
        let total = if cross_zone {
            OF_ZONE
        } else {
            OF_LOAD_BALANCER
        };
        let share = |limit: usize| limit.saturating_sub(pods) / groups;
        let total = share(total)
            .min(OF_TARGET_GROUP)
            .min(most.unwrap_or(usize::MAX));
        Self {
            total: total.max(1),
            of_zone: share(OF_ZONE).max(1),
        }
    }

    /// The nodes that are registered: always the same ones of the same nodes, and a node that comes
    /// or goes changes one place (rendezvous hashing). Load balancers differ in whom they choose.
    pub fn choose<'a>(self, stack: &str, nodes: &'a BTreeSet<Candidate>) -> Vec<&'a Candidate> {
        let mut of_zone: BTreeMap<&str, usize> = BTreeMap::new();
        for node in nodes {
            *of_zone.entry(&node.zone).or_default() += 1;
        }
        if nodes.len() <= self.total && of_zone.values().all(|count| *count <= self.of_zone) {
            return nodes.iter().collect();
        }
        let mut ranked: Vec<_> = nodes
            .iter()
            .map(|node| {
                let text = format!("{stack}/{}", node.instance);
                (Sha256::digest(text.as_bytes()), node)
            })
            .collect();
        ranked.sort();
        of_zone.clear();
        ranked
            .into_iter()
            .map(|(_, node)| node)
            .filter(|node| {
                let count = of_zone.entry(&node.zone).or_default();
                *count += 1;
                *count <= self.of_zone
            })
            .take(self.total)
            .collect()
    }
}

/// A target group's ports as a slice names them.
#[derive(Clone, Copy, Debug)]
pub struct PortNames<'a> {
    /// Of the Service port.
    pub first: &'a str,
    /// Of the other one when TCP and UDP are one: both must lead to the same number.
    pub second: Option<&'a str>,
}

/// Pods as targets of a group of one family, and how many were left out because TCP and UDP go to
/// different ports.
pub fn pods(
    endpoints: &[Endpoint],
    names: PortNames<'_>,
    family: Family,
    cidrs: &[IpNet],
) -> (BTreeSet<Target>, usize) {
    let (mut targets, mut split) = (BTreeSet::new(), 0);
    for endpoint in endpoints {
        if !endpoint.ready || Family::of(endpoint.address) != family {
            continue;
        }
        let Some(port) = endpoint.ports.get(names.first) else {
            continue;
        };
        if names
            .second
            .is_some_and(|second| endpoint.ports.get(second) != Some(port))
        {
            split += 1;
            continue;
        }
        targets.insert(Target {
            id: endpoint.address.to_string(),
            port: *port,
            zone: outside(endpoint.address, cidrs).then(|| "all".to_owned()),
        });
    }
    (targets, split)
}

fn outside(address: IpAddr, cidrs: &[IpNet]) -> bool {
    !cidrs.iter().any(|cidr| cidr.contains(&address))
}
