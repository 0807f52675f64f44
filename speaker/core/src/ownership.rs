//! Who owns what: a function of the announcements and of the candidates, computed alike by all.
//! It knows nothing of time, of peers or of what is being handed over.
//!
//! Only what a change can move is computed: when a node goes or gets worse, its own announcements;
//! when it comes or gets better, one score per announcement.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::score::{hash, score};
use crate::words::{Announcement, PoolWeight};

#[cfg(test)]
mod tests;

/// How an announcement is named where its name would be long: [`hash`] of its name.
pub(crate) type Key = u64;

/// A live node that may own something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Whether its rejoin delay is over.
    pub(crate) settled: bool,
    /// Only when no other is left.
    pub(crate) last_choice: bool,
    /// The pools that it may announce.
    pub(crate) pools: Vec<PoolWeight>,
    /// Hashes of the pools that it has no interface for.
    pub(crate) unable: Vec<u32>,
}

/// The hash of a pool's name in [`Candidate::unable`]. 0 stands for all pools.
pub(crate) fn pool_hash(name: &str) -> u32 {
    let folded = hash(name) >> 32;
    u32::try_from(folded).unwrap_or(u32::MAX).max(1)
}

/// The best tier with a candidate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Settled,
    Joining,
    LastChoice,
}

impl Candidate {
    const fn tier(&self) -> Tier {
        match (self.last_choice, self.settled) {
            (true, _) => Tier::LastChoice,
            (false, true) => Tier::Settled,
            (false, false) => Tier::Joining,
        }
    }

    /// The smallest weight over these pools; None: one of them is not for this node.
    fn weight(&self, pools: &[Arc<str>]) -> Option<u8> {
        let mut least = u8::MAX;
        for pool in pools {
            let of = self.pools.iter().find(|weight| weight.name == *pool)?;
            least = least.min(of.weight);
        }
        let is_able = self.unable.is_empty() || !pools.iter().any(|pool| self.is_unable(pool));
        is_able.then_some(least)
    }

    fn is_unable(&self, pool: &str) -> bool {
        self.unable.contains(&0) || self.unable.contains(&pool_hash(pool))
    }
}

#[derive(Debug)]
struct Node {
    hash: u64,
    candidate: Candidate,
}

#[derive(Clone, Debug)]
struct Best {
    node: Arc<str>,
    tier: Tier,
    score: f64,
}

impl Best {
    fn beats(&self, other: &Self) -> bool {
        (self.tier.cmp(&other.tier))
            .then_with(|| other.score.total_cmp(&self.score))
            .then_with(|| self.node.cmp(&other.node))
            .is_lt()
    }
}

#[derive(Debug)]
struct Row {
    pools: Vec<Arc<str>>,
    /// Sorted.
    nodes: Option<Vec<Arc<str>>>,
    best: Option<Best>,
}

impl Row {
    fn is_for(&self, node: &Arc<str>) -> bool {
        (self.nodes.as_ref()).is_none_or(|nodes| nodes.binary_search(node).is_ok())
    }

    /// The node's place in this row, unless `than` is of a better tier.
    fn rate(&self, key: Key, name: &Arc<str>, node: &Node, than: Option<Tier>) -> Option<Best> {
        let tier = node.candidate.tier();
        if than.is_some_and(|than| than < tier) || !self.is_for(name) {
            return None;
        }
        let weight = node.candidate.weight(&self.pools)?;
        Some(Best {
            node: name.clone(),
            tier,
            score: score(key, node.hash, weight),
        })
    }
}

/// Announcements, candidates, and who owns what.
#[derive(Debug, Default)]
pub(crate) struct Table {
    nodes: FxHashMap<Arc<str>, Node>,
    rows: FxHashMap<Key, Row>,
    of: FxHashMap<Arc<str>, FxHashSet<Key>>,
    /// Rows whose owner changed since they were last taken.
    changed: Vec<Key>,
    scores: u64,
}

impl Table {
    /// An announcement came, changed, or went.
    pub(crate) fn set_announcement(&mut self, key: Key, spec: Option<&Announcement>) {
        let Some(spec) = spec else {
            if let Some(row) = self.rows.remove(&key)
                && let Some(best) = row.best
            {
                self.unlist(&best.node, key);
                self.changed.push(key);
            }
            return;
        };
        let mut nodes = spec.nodes.clone();
        if let Some(nodes) = &mut nodes {
            nodes.sort_unstable();
        }
        let row = self.rows.entry(key).or_insert(Row {
            pools: Vec::new(),
            nodes: None,
            best: None,
        });
        row.pools.clone_from(&spec.pools);
        row.nodes = nodes;
        self.choose(key);
    }

    /// A node became a candidate, another one, or none.
    pub(crate) fn set_node(&mut self, name: &Arc<str>, candidate: Option<Candidate>) {
        let before = self.nodes.get(name).map(|node| &node.candidate);
        if before == candidate.as_ref() {
            return;
        }
        let comes = candidate.is_some();
        match candidate {
            Some(candidate) => {
                let hash = hash(name);
                let node = Node { hash, candidate };
                self.nodes.insert(name.clone(), node);
            }
            None => {
                self.nodes.remove(name);
            }
        }
        let mut own: Vec<Key> =
            (self.of.get(name)).map_or_else(Vec::new, |of| of.iter().copied().collect());
        own.sort_unstable();
        if comes {
            self.offer(name);
        }
        own.into_iter().for_each(|key| self.choose(key));
    }

    /// Gives a node what it is better for than the present owners.
    fn offer(&mut self, name: &Arc<str>) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let mut won = Vec::new();
        for (key, row) in &self.rows {
            let best = row.best.as_ref();
            if best.is_some_and(|best| best.node == *name) {
                continue; // chosen anew anyway
            }
            let Some(place) = row.rate(*key, name, node, best.map(|best| best.tier)) else {
                continue;
            };
            self.scores += 1;
            if best.is_none_or(|best| place.beats(best)) {
                won.push((*key, place));
            }
        }
        won.sort_unstable_by_key(|(key, _)| *key);
        for (key, place) in won {
            self.give(key, Some(place));
        }
    }

    /// Computes one row from scratch.
    fn choose(&mut self, key: Key) {
        let Some(row) = self.rows.get(&key) else {
            return;
        };
        let mut best: Option<Best> = None;
        let mut scores = 0;
        let mut consider = |name: &Arc<str>, node: &Node| {
            let than = best.as_ref().map(|best| best.tier);
            if let Some(place) = row.rate(key, name, node, than) {
                scores += 1;
                if best.as_ref().is_none_or(|best| place.beats(best)) {
                    best = Some(place);
                }
            }
        };
        match &row.nodes {
            Some(names) => names.iter().for_each(|name| {
                if let Some(node) = self.nodes.get(name) {
                    consider(name, node);
                }
            }),
            None => (self.nodes.iter()).for_each(|(name, node)| consider(name, node)),
        }
        self.scores += scores;
        self.give(key, best);
    }

    fn give(&mut self, key: Key, best: Option<Best>) {
        let Some(row) = self.rows.get_mut(&key) else {
            return;
        };
        let after = best.as_ref().map(|best| best.node.clone());
        let before = std::mem::replace(&mut row.best, best).map(|best| best.node);
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.unlist(&before, key);
        }
        if let Some(after) = after {
            self.of.entry(after).or_default().insert(key);
        }
        self.changed.push(key);
    }

    fn unlist(&mut self, node: &Arc<str>, key: Key) {
        if let Some(of) = self.of.get_mut(node) {
            of.remove(&key);
            if of.is_empty() {
                self.of.remove(node);
            }
        }
    }

    /// Who owns an announcement.
    pub(crate) fn owner(&self, key: Key) -> Option<&Arc<str>> {
        (self.rows.get(&key)?.best.as_ref()).map(|best| &best.node)
    }

    /// What a node owns, in the order of keys.
    pub(crate) fn owned_by(&self, node: &str) -> Vec<Key> {
        let mut keys: Vec<Key> =
            (self.of.get(node)).map_or_else(Vec::new, |of| of.iter().copied().collect());
        keys.sort_unstable();
        keys
    }

    /// The rows whose owner changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.changed)
    }

    /// How many scores were computed.
    pub(crate) const fn scores(&self) -> u64 {
        self.scores
    }
}
