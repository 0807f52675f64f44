//! What each peer said last. It does not say who lives: that is the membership's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::envelope::Window;
use crate::message::{Card, Sight};
use crate::score::hash;

/// One node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// Of its name.
    pub(super) hash: u64,
    boot: u64,
    window: Window,
    /// None: it is not alive, or has not said anything in this life.
    pub(super) card: Option<Card>,
    pub(super) sight: Sight,
    /// Its process when it was last taken for dead.
    pub(super) died: Option<u64>,
    macs: Vec<[u8; 6]>,
    /// When it was last told what we think of it.
    pub(super) told: Option<Duration>,
}

/// Whether a datagram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Fresh,
    Repeated,
    /// Of an earlier process than one that has spoken already.
    Older(u64),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    all: FxHashMap<Arc<str>, Peer>,
    at: FxHashMap<SocketAddr, Arc<str>>,
    of_mac: FxHashMap<[u8; 6], Arc<str>>,
    /// Of the next message to each.
    counters: FxHashMap<SocketAddr, u64>,
    version: u64,
}

impl Peers {
    pub(super) fn get(&self, node: &str) -> Option<&Peer> {
        self.all.get(node)
    }

    pub(super) fn get_mut(&mut self, node: &str) -> Option<&mut Peer> {
        self.all.get_mut(node)
    }

    pub(super) fn node_at(&self, addr: SocketAddr) -> Option<&Arc<str>> {
        self.at.get(&addr)
    }

    pub(super) fn of_mac(&self, mac: [u8; 6]) -> Option<&Arc<str>> {
        self.of_mac.get(&mac)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.all.iter()
    }

    /// The highest resourceVersion that any has seen.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// The number of the next message to that address.
    pub(super) fn count(&mut self, to: SocketAddr) -> u64 {
        let counter = self.counters.entry(to).or_default();
        *counter += 1;
        *counter
    }

    /// Whether the datagram is neither a repetition nor of a former process.
    pub(super) fn admit(&mut self, card: &Card, from: SocketAddr, counter: u64) -> Admission {
        let fresh = |boot| Peer {
            addr: from,
            hash: hash(&card.node),
            boot,
            window: Window::default(),
            card: None,
            sight: Sight::default(),
            died: None,
            macs: Vec::new(),
            told: None,
        };
        let peer = (self.all.entry(card.node.clone())).or_insert_with(|| fresh(card.boot));
        if card.boot < peer.boot {
            return Admission::Older(peer.boot);
        }
        if card.boot > peer.boot {
            peer.boot = card.boot;
            peer.window = Window::default();
        }
        if !peer.window.admit(counter) {
            return Admission::Repeated;
        }
        if peer.addr != from {
            self.at.remove(&peer.addr);
            peer.addr = from;
        }
        if self.at.get(&from) != Some(&card.node) {
            self.at.insert(from, card.node.clone());
        }
        Admission::Fresh
    }

    /// What it sees now.
    pub(super) fn set_sight(&mut self, node: &str, sight: Sight) {
        self.version = self.version.max(sight.version);
        if let Some(peer) = self.all.get_mut(node) {
            peer.sight = sight;
        }
    }

    /// Its card; whether it is a new one.
    pub(super) fn set_card(&mut self, card: Card) -> bool {
        let Some(peer) = self.all.get_mut(&card.node) else {
            return false;
        };
        if peer
            .card
            .as_ref()
            .is_some_and(|known| !card.is_newer(known))
        {
            return false;
        }
        if peer.macs != card.macs {
            for mac in &peer.macs {
                if self.of_mac.get(mac) == Some(&card.node) {
                    self.of_mac.remove(mac);
                }
            }
            for mac in &card.macs {
                self.of_mac.insert(*mac, card.node.clone());
            }
            peer.macs.clone_from(&card.macs);
        }
        peer.card = Some(card);
        true
    }

    /// It is not alive: its card says nothing any more.
    pub(super) fn forget_card(&mut self, node: &str) {
        if let Some(peer) = self.all.get_mut(node) {
            peer.card = None;
            peer.died = Some(peer.boot);
        }
    }

    /// A new life of ours: nobody's card is known.
    pub(super) fn forget_cards(&mut self) -> Vec<Arc<str>> {
        for peer in self.all.values_mut() {
            peer.card = None;
            peer.died = None;
        }
        self.all.keys().cloned().collect()
    }

    /// The node is no more.
    pub(super) fn remove(&mut self, node: &str) {
        if let Some(peer) = self.all.remove(node) {
            self.at.remove(&peer.addr);
            self.counters.remove(&peer.addr);
            self.of_mac.retain(|_, of| **of != *node);
        }
    }
}
