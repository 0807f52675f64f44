//! What the speakers say: who answers for an address, and which pools a node cannot announce.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crds::{SpeakerStatusSpec, Unable};
use jiff::Timestamp;

/// Somebody answers for an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// What cannot be read is older than everything.
    since: Option<Timestamp>,
    pub(super) interfaces: Vec<String>,
    /// The hardware address of another machine that answers, too.
    pub(super) conflict: Option<String>,
}

/// Everything that is said.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_address: HashMap<IpAddr, BTreeMap<Arc<str>, Answer>>,
    by_node: BTreeMap<Arc<str>, Status>,
}

#[derive(Debug, Default)]
struct Status {
    addresses: BTreeSet<IpAddr>,
    unable: Vec<Unable>,
}

impl Answers {
    /// Keeps what a node's speaker says, `None`: forgets it. Returns the addresses about which
    /// something else is said now, and whether what the node can do at all has changed.
    pub(super) fn set(
        &mut self,
        node: &Arc<str>,
        said: Option<&SpeakerStatusSpec>,
    ) -> (BTreeSet<IpAddr>, bool) {
        let mut changed = BTreeSet::new();
        let mut answers = BTreeMap::new();
        // An entry that cannot be read is left out and harms no other.
        for one in said.into_iter().flat_map(|said| &said.announced) {
            if let Ok(ip) = one.ip.parse::<IpAddr>() {
                let answer = Answer {
                    since: one.since.parse().ok(),
                    interfaces: one.interfaces.clone(),
                    conflict: one.conflict.clone(),
                };
                answers.insert(ip, answer);
            }
        }
        let old = self.by_node.remove(node);
        for ip in old.iter().flat_map(|old| &old.addresses) {
            if !answers.contains_key(ip)
                && let Some(nodes) = self.by_address.get_mut(ip)
            {
                nodes.remove(node);
                if nodes.is_empty() {
                    self.by_address.remove(ip);
                }
                changed.insert(*ip);
            }
        }
        let addresses = answers.keys().copied().collect();
        for (ip, answer) in answers {
            let nodes = self.by_address.entry(ip).or_default();
            if nodes.get(node) != Some(&answer) {
                nodes.insert(Arc::clone(node), answer);
                changed.insert(ip);
            }
        }
        let unable = said.map(|said| said.unable.clone());
        let able_changed = old.map(|old| old.unable) != unable;
        if let Some(unable) = unable {
            self.by_node
                .insert(Arc::clone(node), Status { addresses, unable });
        }
        (changed, able_changed)
    }

    /// The nodes that have said anything.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_node.keys()
    }

    /// The addresses that a node says it answers for.
    pub(super) fn of(&self, node: &str) -> impl Iterator<Item = IpAddr> {
        let status = self.by_node.get(node).into_iter();
        status.flat_map(|status| status.addresses.iter().copied())
    }

    /// Whether the node's speaker has said anything.
    pub(super) fn speaks(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }

    /// Why it cannot announce a pool.
    pub(super) fn unable(&self, node: &str, pool: &str) -> Option<&str> {
        let unable = &self.by_node.get(node)?.unable;
        let found = unable.iter().find(|unable| unable.pool == pool)?;
        Some(&found.message)
    }

    /// Who answers for an address: of several the one that has begun last, as the others have not
    /// said yet that they have ceased.
    pub(super) fn to(
        &self,
        ip: IpAddr,
        counts: impl Fn(&str) -> bool,
    ) -> Option<(&Arc<str>, &Answer)> {
        let nodes = self.by_address.get(&ip)?.iter();
        nodes
            .filter(|(node, _)| counts(node))
            .max_by(|(a, one), (b, other)| (one.since, a).cmp(&(other.since, b)))
    }
}
