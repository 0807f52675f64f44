//! How the nodes let the load balancers in. One security group a cluster and VPC, the *traffic
//! group*, is on every load balancer that has security groups; the nodes' groups let it in on every
//! port, by two rules each that do not change when Services do.
//!
//! It is never the one that AWS Load Balancer Controller makes for the same end, which goes with
//! that. It has no rules of its own: it opens nothing, and stays when the last Service goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    annotations::{self, PREFIX, Request},
    input::{Class, Network, SecurityGroup, Service},
    listed, names,
    security::Groups,
    tags,
    wanted::{self, Rule, Source, Tags},
};

#[cfg(test)]
mod tests;

/// Kubernetes' tag on what belongs to a cluster, followed by its name.
const CLUSTER_TAG: &str = "kubernetes.io/cluster/";
/// What the groups of classic load balancers are called (cloud-provider-aws); they have
/// [`CLUSTER_TAG`] and no node has them.
const CLASSIC: &str = "k8s-elb-";

/// The id of the traffic group, if it is there.
pub fn traffic_group<'a>(network: &'a Network, cluster: &str) -> Option<&'a str> {
    let mut groups = network.security_groups.iter();
    groups
        .find(|(_, group)| {
            tags::stack(&group.tags, cluster).is_some_and(|stack| stack == tags::TRAFFIC)
        })
        .map(|(id, _)| id.as_str())
}

/// The nodes' security groups, as far as they are in the VPC: those that are named; without any, all
/// that are tagged for the cluster and made by neither Portolan nor LBC.
pub fn node_groups<'a>(network: &'a Network, cluster: &str, named: &[String]) -> BTreeSet<&'a str> {
    let groups = network.security_groups.iter();
    groups
        .filter(|(id, group)| match named.is_empty() {
            true => is_nodes(group, cluster),
            false => named.contains(id),
        })
        .map(|(id, _)| id.as_str())
        .collect()
}

fn is_nodes(group: &SecurityGroup, cluster: &str) -> bool {
    let made = [tags::CLUSTER, tags::LBC_CLUSTER].map(|key| group.tags.contains_key(key));
    group.tags.contains_key(&format!("{CLUSTER_TAG}{cluster}"))
        && !made.contains(&true)
        && !group.name.starts_with(CLASSIC)
}

/// What keeps the nodes from letting the load balancers in. Rules need the id of the traffic group,
/// so that they are asked for when that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Nothing; or no group of the nodes is known, and nothing can be done.
    Nothing,
    /// The traffic group.
    TrafficGroup(wanted::SecurityGroup),
    /// Rules, by the id of the nodes' group.
    Rules(BTreeMap<String, BTreeSet<Rule>>),
}

/// What is to be written next.
pub fn missing(network: &Network, cluster: &str, named: &[String]) -> Missing {
    let nodes = node_groups(network, cluster, named);
    if nodes.is_empty() {
        return Missing::Nothing;
    }
    let Some(traffic) = traffic_group(network, cluster) else {
        return Missing::TrafficGroup(wanted_group(cluster));
    };
    let wanted = rules(traffic);
    let missing: BTreeMap<String, BTreeSet<Rule>> = (nodes.into_iter())
        .filter_map(|id| {
            let there = &network.security_groups.get(id)?.rules;
            let missing: BTreeSet<Rule> = (wanted.iter())
                .filter(|rule| !there.iter().any(|there| covers(there, rule)))
                .cloned()
                .collect();
            (!missing.is_empty()).then(|| (id.to_owned(), missing))
        })
        .collect();
    match missing.is_empty() {
        true => Missing::Nothing,
        false => Missing::Rules(missing),
    }
}

/// The traffic group as it is to be.
fn wanted_group(cluster: &str) -> wanted::SecurityGroup {
    wanted::SecurityGroup {
        name: names::traffic_security_group(cluster),
        description: "[k8s] Nodes let in the load balancers that have this group".to_owned(),
        rules: BTreeSet::new(),
        tags: Tags::from(
            [(tags::CLUSTER, cluster), (tags::STACK, tags::TRAFFIC)]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
    }
}

/// On each of the nodes' groups.
fn rules(traffic: &str) -> [Rule; 2] {
    ["tcp", "udp"].map(|protocol| Rule {
        protocol,
        from: 0,
        to: 65535,
        source: Source::SecurityGroup(traffic.to_owned()),
    })
}

/// Whether one rule lets in all that the other does. `-1` is every protocol.
fn covers(there: &Rule, rule: &Rule) -> bool {
    there.source == rule.source
        && (there.protocol == "-1"
            || (there.protocol == rule.protocol && there.from <= rule.from && there.to >= rule.to))
}

/// Whether rules on the nodes' groups are kept for a Service: unless it gives security groups or
/// says so. A Service that is wrong needs none.
pub fn managed(service: &Service, class: &Class) -> bool {
    annotations::request(service, class).is_ok_and(|request| {
        !request.without_security_groups && is_managed(&request, request.security_groups.is_empty())
    })
}

fn is_managed(request: &Request, made: bool) -> bool {
    request.manage_node_rules.unwrap_or(made) && request.adopt.is_none()
}

/// The traffic group for a load balancer with these groups, and what a user should know.
pub(crate) fn traffic(
    network: &Network,
    class: &Class,
    request: &Request,
    groups: &Groups,
) -> (Option<String>, Vec<String>) {
    let made = match groups {
        Groups::Managed => true,
        Groups::Given(_) => false,
        Groups::None(_) => {
            let asked = request.manage_node_rules != Some(false) && request.adopt.is_none();
            let warning = format!(
                "the load balancer has no security group, so that the nodes' groups cannot name it: \
                 let clients and health checks in by rules of your own, and add {PREFIX}manage-\
                 backend-security-group-rules: \"false\" once you have"
            );
            return (None, asked.then_some(warning).into_iter().collect());
        }
    };
    if !is_managed(request, made) {
        return (None, vec![]);
    }
    let mut warnings = vec![];
    let field = format!(
        "spec.aws.nodeSecurityGroups of LoadBalancerClass {}",
        class.name
    );
    let nodes = node_groups(network, &class.cluster, &class.node_security_groups);
    let strangers = (class.node_security_groups.iter()).filter(|id| !nodes.contains(id.as_str()));
    let strangers: Vec<&str> = strangers.map(String::as_str).collect();
    if !strangers.is_empty() {
        warnings.push(format!(
            "{field} has {}, which {} does not have: write ids of its security groups",
            listed(strangers.iter().copied(), 4),
            network.vpc
        ));
    } else if nodes.is_empty() {
        warnings.push(format!(
            "no security group of {} is tagged {CLUSTER_TAG}{}, so that nothing lets the load \
             balancer in to the nodes: tag the security groups of the nodes, or write them into \
             {field}",
            network.vpc, class.cluster
        ));
    }
    let traffic = traffic_group(network, &class.cluster).map(str::to_owned);
    if traffic.is_none() && !nodes.is_empty() {
        warnings.push(format!(
            "security group {} is not there yet, which {} shall let in: it is made before the load \
             balancer",
            names::traffic_security_group(&class.cluster),
            listed(nodes.iter().copied(), 4)
        ));
    }
    (traffic, warnings)
}
