//! What to tell a Service: who answers for its addresses, or why nobody does, node by node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    sync::Arc,
};

use model::{Reason, ServiceKey};

use super::{
    Wish,
    answers::{Answer, Answers},
    endpoints::Endpoints,
    groups::{Group, Groups},
    node::Node,
    policy::Policies,
    wanted,
};

/// So many nodes are named with their reasons; the others are counted.
const NAMED: usize = 5;

/// Everything a verdict may look at.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) policies: &'a Policies,
    pub(super) groups: &'a Groups,
    pub(super) endpoints: &'a Endpoints,
    pub(super) nodes: &'a BTreeMap<Arc<str>, Node>,
    pub(super) answers: &'a Answers,
}

/// What to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) ready: bool,
    pub(super) failed: bool,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// Nobody answers, and somebody could: to be told only if it stays so.
    pub(super) passing: bool,
}

/// Why a node does not answer; those that a user can do something about at once come first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Because {
    Silent,
    Unable(String),
    NoSpeaker,
    NoEndpoint,
    Unreachable,
    Excluded(String),
    NotSelected(String),
}

impl Facts<'_> {
    /// The verdict about a Service whose wish this is; `None` when none of its pools is announced.
    pub(super) fn verdict(&self, wish: &Wish) -> Option<Verdict> {
        let (_, group) = self.groups.of(wish)?;
        let ours = wish.addresses.iter();
        let ours = ours.filter(|(_, pool)| self.policies.contains_key(*pool));
        let ours: Vec<IpAddr> = ours.map(|(ip, _)| *ip).collect();
        if ours.is_empty() {
            return None;
        }
        // Only a node that is there can answer; one whose Speaker is gone has fallen silent.
        let counts = |node: &str| {
            let node = self.nodes.get(node);
            node.is_some_and(|node| !node.addresses.is_empty())
        };
        let answers = ours.iter().map(|ip| (*ip, self.answers.to(*ip, counts)));
        let answers: Vec<Answered<'_>> = answers.collect();
        let silent = answers.iter().filter(|(_, answer)| answer.is_none());
        let silent: Vec<IpAddr> = silent.map(|(ip, _)| *ip).collect();
        if !silent.is_empty() {
            return Some(self.nobody(&silent, group));
        }
        Some(answered(&answers))
    }

    fn nobody(&self, silent: &[IpAddr], group: &Group) -> Verdict {
        let only = wanted::nodes(group, self.groups, self.endpoints);
        let unserved = only.as_ref().is_some_and(BTreeSet::is_empty);
        let (why, passing) = match unserved {
            true => (self.unserved(group), false),
            false => self.each_node(group, only.as_ref()),
        };
        Verdict {
            ready: false,
            failed: !unserved,
            reason: Reason::NotAnnounced,
            message: format!("{} announced by no node: {why}", list(silent)),
            passing,
        }
    }

    fn unserved(&self, group: &Group) -> String {
        let served = |key: &&ServiceKey| self.endpoints.any(key);
        let served: Vec<String> = group.services.iter().filter(served).map(told).collect();
        match served.as_slice() {
            [] => {
                let names: Vec<String> = group.services.iter().map(told).collect();
                format!("no endpoint of {} is ready", shortened(&names, " or "))
            }
            [one] => format!("no endpoint of {one} is on a node"),
            several => format!(
                "no node has endpoints of each of {}, which share an address",
                shortened(several, " and ")
            ),
        }
    }

    /// Each node's reason, and whether one could answer.
    fn each_node(&self, group: &Group, only: Option<&BTreeSet<Arc<str>>>) -> (String, bool) {
        if self.nodes.is_empty() {
            return ("the cluster has no nodes".to_owned(), false);
        }
        let mut reasons: Vec<(Because, &Arc<str>)> = Vec::new();
        for (name, node) in self.nodes {
            reasons.push((self.because(name, node, group, only), name));
        }
        reasons.sort();
        let passing = matches!(reasons.first(), Some((Because::Silent, _)));
        let services: Vec<String> = group.services.iter().map(told).collect();
        let mut text = String::new();
        for (because, node) in reasons.iter().take(NAMED) {
            let separator = if text.is_empty() { "" } else { "; " };
            let why = match because {
                Because::Silent => "it does not answer".to_owned(),
                Because::Unable(message)
                | Because::Excluded(message)
                | Because::NotSelected(message) => message.clone(),
                Because::NoSpeaker => "no speaker runs there".to_owned(),
                Because::NoEndpoint => {
                    format!("no endpoint of {} is there", shortened(&services, " or "))
                }
                Because::Unreachable => "it has no InternalIP".to_owned(),
            };
            let _infallible = write!(text, "{separator}{node}: {why}");
        }
        if let Some(more @ 1..) = reasons.len().checked_sub(NAMED) {
            let _infallible = write!(text, "; and {more} more");
        }
        (text, passing)
    }

    fn because(
        &self,
        name: &Arc<str>,
        node: &Node,
        group: &Group,
        only: Option<&BTreeSet<Arc<str>>>,
    ) -> Because {
        let pools: BTreeSet<&Arc<str>> = group.addresses.values().collect();
        for pool in &pools {
            if let Some(policy) = self.policies.get(*pool)
                && policy.weight(&node.labels).is_none()
            {
                return Because::NotSelected(format!("pool {pool} does not select it"));
            }
        }
        if let Some(excluded) = &node.excluded {
            return Because::Excluded(excluded.message.clone());
        }
        if node.addresses.is_empty() {
            return Because::Unreachable;
        }
        if only.is_some_and(|only| !only.contains(name)) {
            return Because::NoEndpoint;
        }
        if !self.answers.speaks(name) {
            return Because::NoSpeaker;
        }
        let mut pools = pools.into_iter();
        match pools.find_map(|pool| self.answers.unable(name, pool)) {
            Some(message) => Because::Unable(message.to_owned()),
            None => Because::Silent,
        }
    }
}

/// An address, and which node says what of it.
type Answered<'a> = (IpAddr, Option<(&'a Arc<str>, &'a Answer)>);

fn answered(answers: &[Answered<'_>]) -> Verdict {
    let mut places: BTreeMap<(&Arc<str>, &[String]), Vec<IpAddr>> = BTreeMap::new();
    let mut conflicts = String::new();
    for (ip, answer) in answers {
        let Some((node, answer)) = answer else {
            continue;
        };
        let place = (*node, answer.interfaces.as_slice());
        places.entry(place).or_default().push(*ip);
        if let Some(mac) = &answer.conflict {
            let _infallible = write!(
                conflicts,
                "; another machine, {mac}, answers for {ip}, too: give one of the two another address"
            );
        }
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by(|(_, a), (_, b)| a.cmp(b));
    let places: Vec<String> = places
        .iter()
        .map(|((node, interfaces), ips)| match interfaces {
            [] => format!("{} announced from node {node}", list(ips)),
            interfaces => {
                let interfaces = interfaces.join(", ");
                format!("{} announced from node {node} on {interfaces}", list(ips))
            }
        })
        .collect();
    let ready = conflicts.is_empty();
    Verdict {
        ready,
        failed: !ready,
        reason: match ready {
            true => Reason::Ready,
            false => Reason::AddressConflict,
        },
        message: format!("{}{conflicts}", places.join("; ")),
        passing: false,
    }
}

fn told(key: &ServiceKey) -> String {
    key.to_string()
}

fn list(ips: &[IpAddr]) -> String {
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    ips.join(" and ")
}

/// At most three of them.
fn shortened(names: &[String], separator: &str) -> String {
    match names {
        [a, b, c, _, ..] => format!("{a}, {b}, {c} and {} more", names.len() - 3),
        few => few.join(separator),
    }
}
