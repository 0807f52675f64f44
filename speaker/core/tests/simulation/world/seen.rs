//! What is seen from outside, and what should be.

use std::net::IpAddr;
use std::sync::Arc;

use speaker_core::{Announcement, Figures, Phase};

use super::{Change, World};

impl World {
    pub(crate) fn figures(&self, node: usize) -> Figures {
        self.nodes[node].speaker.as_ref().unwrap().figures()
    }

    /// The addresses that a node answers for, by its own report of now.
    pub(crate) fn owned(&self, node: usize) -> Vec<IpAddr> {
        let at = &self.nodes[node];
        match (&at.report, &at.speaker) {
            (Some(report), Some(_)) => report.announced.iter().map(|row| row.ip).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn owners(&self, ip: &str) -> Vec<usize> {
        let ip: IpAddr = ip.parse().unwrap();
        (0..self.nodes.len())
            .filter(|node| self.owned(*node).contains(&ip))
            .collect()
    }

    /// The function's answer, computed here anew from what is true.
    pub(crate) fn rightful(&self, key: &str, spec: &Announcement) -> Option<usize> {
        let mut best: Option<(u8, f64, usize)> = None;
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(speaker) = &node.speaker else {
                continue;
            };
            let Some((_, Change::Peer(_, Some(peer)))) =
                self.current.get(&(true, node.name.clone()))
            else {
                continue;
            };
            let is_named = spec
                .nodes
                .as_ref()
                .is_none_or(|nodes| nodes.contains(&node.name));
            let weight = |pool: &Arc<str>| {
                peer.pools
                    .iter()
                    .find(|w| w.name == *pool)
                    .map(|w| w.weight)
            };
            let weights: Option<Vec<u8>> = spec.pools.iter().map(weight).collect();
            let (Some(weights), true, false) = (weights, is_named, peer.excluded || !node.has_link)
            else {
                continue;
            };
            let tier = match (peer.last_choice, speaker.figures().phase) {
                (_, Phase::Waiting | Phase::Leaving) => continue,
                (true, Phase::Settled | Phase::Joining) => 2,
                (false, Phase::Settled) => 0,
                (false, Phase::Joining) => 1,
            };
            let (key, name) = (speaker_core::hash(key), speaker_core::hash(&node.name));
            let score =
                speaker_core::score(key, name, weights.into_iter().min().unwrap_or(u8::MAX));
            if best.is_none_or(|(t, s, _)| tier < t || (tier == t && score > s)) {
                best = Some((tier, score, number));
            }
        }
        best.map(|(_, _, number)| number)
    }

    /// Everybody agrees, and it is the function's answer.
    pub(crate) fn assert_converged(&self) {
        if let Err(why) = self.check_converged() {
            panic!("at {:?}: {why}", self.now);
        }
    }

    pub(crate) fn check_converged(&self) -> Result<(), String> {
        let mut wanted: Vec<Vec<IpAddr>> = vec![Vec::new(); self.nodes.len()];
        for ((is_peer, name), (_, change)) in &self.current {
            if let (false, Change::Announcement(_, Some(spec))) = (is_peer, change)
                && let Some(owner) = self.rightful(name, spec)
            {
                wanted[owner].extend(spec.addresses.iter().map(|address| address.ip));
            }
        }
        for (node, mut wanted) in wanted.into_iter().enumerate() {
            wanted.sort_unstable();
            let owned = self.owned(node);
            if owned != wanted {
                let figures = self.nodes[node].speaker.as_ref().map(|s| s.figures());
                return Err(format!(
                    "node-{node} announces {owned:?} instead of {wanted:?}; {figures:?}"
                ));
            }
        }
        Ok(())
    }
}
