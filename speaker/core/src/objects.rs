//! The objects that both watches showed, and how new they are.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::ownership::Key;
use crate::score::hash;
use crate::words::{Announcement, Kind, Peer};

/// An object and the list that it was last seen in.
#[derive(Debug)]
struct Seen<T> {
    name: Arc<str>,
    spec: T,
    round: u64,
}

/// How one watch is.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    round: u64,
    is_synced: bool,
    /// What peers had seen when the present list began: it is contained in it.
    begun_at: u64,
    contains: u64,
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    announcements: FxHashMap<Key, Seen<Announcement>>,
    peers: FxHashMap<Arc<str>, Seen<Peer>>,
    /// Which announcements an address is in: two for an instant when it moves to another group.
    of_ip: FxHashMap<IpAddr, Vec<Key>>,
    of_announcements: Watch,
    of_peers: Watch,
    seen: u64,
}

impl Objects {
    const fn watch(&mut self, kind: Kind) -> &mut Watch {
        match kind {
            Kind::Announcements => &mut self.of_announcements,
            Kind::Peers => &mut self.of_peers,
        }
    }

    /// Whether both watches have shown everything once.
    pub(crate) const fn are_synced(&self) -> bool {
        self.of_announcements.is_synced && self.of_peers.is_synced
    }

    /// The highest resourceVersion that these objects contain. Objects that are gone may have had
    /// higher ones than any that a list shows, so a list counts for what peers had seen before it.
    pub(crate) fn version(&self) -> u64 {
        let contains = self.of_announcements.contains.min(self.of_peers.contains);
        self.seen.max(contains)
    }

    /// A list begins, when peers have seen that version.
    pub(crate) const fn restarted(&mut self, kind: Kind, peers_at: u64) {
        let watch = self.watch(kind);
        watch.round += 1;
        watch.begun_at = peers_at;
    }

    /// A list is complete: which announcements and nodes are gone.
    pub(crate) fn synced(&mut self, kind: Kind) -> (Vec<Key>, Vec<Arc<str>>) {
        let watch = self.watch(kind);
        watch.is_synced = true;
        watch.contains = watch.begun_at;
        let round = watch.round;
        match kind {
            Kind::Announcements => {
                let gone = self
                    .announcements
                    .iter()
                    .filter(|(_, seen)| seen.round < round);
                (gone.map(|(key, _)| *key).collect(), Vec::new())
            }
            Kind::Peers => {
                let gone = self.peers.values().filter(|seen| seen.round < round);
                (Vec::new(), gone.map(|seen| seen.name.clone()).collect())
            }
        }
    }

    /// Whether the announcement is another one now.
    pub(crate) fn set_announcement(
        &mut self,
        name: Arc<str>,
        version: u64,
        spec: Option<Announcement>,
    ) -> bool {
        self.seen = self.seen.max(version);
        let key = hash(&name);
        let round = self.of_announcements.round;
        let Some(spec) = spec else {
            return self.remove_announcement(key);
        };
        if let Some(seen) = self.announcements.get_mut(&key)
            && seen.spec == spec
        {
            seen.round = round;
            return false;
        }
        self.remove_announcement(key);
        for address in &spec.addresses {
            self.of_ip.entry(address.ip).or_default().push(key);
        }
        self.announcements.insert(key, Seen { name, spec, round });
        true
    }

    /// Whether there was one.
    pub(crate) fn remove_announcement(&mut self, key: Key) -> bool {
        let Some(seen) = self.announcements.remove(&key) else {
            return false;
        };
        for address in &seen.spec.addresses {
            if let Some(keys) = self.of_ip.get_mut(&address.ip) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.of_ip.remove(&address.ip);
                }
            }
        }
        true
    }

    /// An announcement that has this address.
    pub(crate) fn with(&self, ip: IpAddr) -> Option<Key> {
        self.of_ip.get(&ip)?.first().copied()
    }

    /// Whether the node is another one now.
    pub(crate) fn set_peer(&mut self, name: Arc<str>, version: u64, spec: Option<Peer>) -> bool {
        self.seen = self.seen.max(version);
        let round = self.of_peers.round;
        match spec {
            Some(spec) => {
                let after = spec.clone();
                let seen = Seen {
                    name: name.clone(),
                    spec,
                    round,
                };
                let before = self.peers.insert(name, seen);
                before.is_none_or(|before| before.spec != after)
            }
            None => self.peers.remove(&name).is_some(),
        }
    }

    pub(crate) fn announcement(&self, key: Key) -> Option<&Announcement> {
        self.announcements.get(&key).map(|seen| &seen.spec)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.announcements.keys().copied().collect()
    }

    pub(crate) fn peer(&self, node: &str) -> Option<&Peer> {
        self.peers.get(node).map(|seen| &seen.spec)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.peers.values().map(|seen| (&seen.name, &seen.spec))
    }

    /// How many nodes there are.
    pub(crate) fn known(&self) -> usize {
        self.peers.len()
    }
}
