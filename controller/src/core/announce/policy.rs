//! `AddressPool.spec.announce.l2` with its selectors read: which nodes, with which weight.

use std::{collections::BTreeMap, sync::Arc};

use allocator::Selector;
use model::Labels;

/// How the pools that are announced are announced, by name.
pub type Policies = BTreeMap<Arc<str>, Arc<Policy>>;

/// How one pool is announced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// On which interfaces; `None`: the speaker finds them.
    pub interfaces: Option<Vec<String>>,
    /// By which nodes; `None`: by any.
    pub nodes: Option<Selector>,
    /// Nodes with a larger share.
    pub preferred: Vec<(u32, Selector)>,
}

impl Policy {
    /// The share of a node with these labels; `None`: it may not announce the pool.
    pub fn weight(&self, labels: &Labels) -> Option<u32> {
        if !self
            .nodes
            .as_ref()
            .is_none_or(|nodes| nodes.matches(labels))
        {
            return None;
        }
        let preferred = self.preferred.iter();
        let matching = preferred.filter(|(_, nodes)| nodes.matches(labels));
        Some(matching.map(|(weight, _)| *weight).max().unwrap_or(1))
    }
}
