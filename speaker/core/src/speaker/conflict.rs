//! Somebody else claims an address that we answer for (RFC 5227 2.4). Peers settle it among
//! themselves. If it is nobody whom we know to be alive, it may be a peer on the other side of a
//! partition that heals now: silence and a question to all first, and only then defence.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use wire::{Claim, Mac};

use super::Speaker;
use crate::words::Now;

/// How long the other side of a partition has to answer.
const HOLD: Duration = Duration::from_millis(150);
/// How often an address is silent for that at most: as RFC 5227's DEFEND_INTERVAL.
const HOLD_EVERY: Duration = Duration::from_secs(10);
/// How long after the last claim a conflict is over.
const OVER: Duration = Duration::from_secs(60);
/// Conflicts that are remembered: addresses that we own are few, but strangers make claims.
const MOST: usize = 4_096;

#[derive(Debug)]
struct Conflict {
    mac: Mac,
    /// Whether it is nobody of ours for sure: the other side did not answer.
    is_foreign: bool,
    seen: Duration,
    held: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    by_ip: FxHashMap<IpAddr, Conflict>,
    seen: u64,
    next: Duration,
}

impl Conflicts {
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Who else has this address.
    pub(super) fn of(&self, ip: IpAddr) -> Option<Mac> {
        let conflict = self.by_ip.get(&ip)?;
        conflict.is_foreign.then_some(conflict.mac)
    }
}

impl Speaker {
    /// A frame came. Questions that come while in doubt wait until it is over: whoever asked has not
    /// asked again yet, and what is not ours by then is not answered. Nothing else is heard while
    /// silent.
    pub(super) fn frame(&mut self, link: u32, bytes: &[u8], now: Now) {
        if self.is_asleep() {
            return;
        }
        if let Some(claim) = self.responder.handle(link, bytes, now.mono)
            && self.doubt.is_none()
        {
            self.claimed(claim, now);
        }
    }

    fn claimed(&mut self, claim: Claim, now: Now) {
        let Claim { ip, mac, link } = claim;
        let node = self.peers.of_mac(mac.0).cloned();
        let is_peer = node.as_ref().is_some_and(|node| self.is_alive(node));
        if is_peer || self.links.is_ours(mac) {
            return;
        }
        self.conflicts.seen += 1;
        let known = self.conflicts.by_ip.get_mut(&ip);
        if let Some(conflict) = known {
            conflict.seen = now.mono;
            if conflict.mac == mac && conflict.is_foreign {
                return self.responder.defend(ip, link, now.mono);
            }
            if now.mono.saturating_sub(conflict.held) < HOLD_EVERY {
                conflict.mac = mac;
                if now.mono.saturating_sub(conflict.held) >= HOLD {
                    conflict.is_foreign = true;
                    self.report.is_stale = true;
                    self.responder.defend(ip, link, now.mono);
                }
                return;
            }
        }
        if self.conflicts.by_ip.len() < MOST || self.conflicts.by_ip.contains_key(&ip) {
            let conflict = Conflict {
                mac,
                is_foreign: false,
                seen: now.mono,
                held: now.mono,
            };
            self.conflicts.by_ip.insert(ip, conflict);
        }
        self.responder.hold(ip, now.mono + HOLD);
        // Whose MAC it is first.
        if let Some(addr) = node.and_then(|node| self.peers.get(&node).map(|peer| peer.addr)) {
            self.hail(addr, now);
        }
        self.sweep(now);
    }

    /// A peer is back: what it claimed while it was away is no conflict any more.
    pub(super) fn reconcile(&mut self, now: Now) {
        let conflicts = std::mem::take(&mut self.conflicts.by_ip);
        for (ip, conflict) in conflicts {
            let node = self.peers.of_mac(conflict.mac.0);
            if node.is_some_and(|node| self.is_alive(node)) {
                self.responder.hold(ip, now.mono);
                self.report.is_stale = true;
            } else {
                self.conflicts.by_ip.insert(ip, conflict);
            }
        }
    }

    /// Silence that nobody explained is over; old conflicts are.
    pub(super) fn tick_conflicts(&mut self, now: Now) {
        if self.conflicts.by_ip.is_empty() || now.mono < self.conflicts.next {
            return;
        }
        self.conflicts.next = now.mono + HOLD / 3;
        let mut defend = Vec::new();
        let before = self.conflicts.by_ip.len();
        self.conflicts.by_ip.retain(|ip, conflict| {
            if !conflict.is_foreign && now.mono.saturating_sub(conflict.held) >= HOLD {
                conflict.is_foreign = true;
                defend.push(*ip);
            }
            let is_owned = self.holdings.places_of(*ip).is_some();
            is_owned && now.mono.saturating_sub(conflict.seen) < OVER
        });
        if before != self.conflicts.by_ip.len() || !defend.is_empty() {
            self.report.is_stale = true;
        }
        for ip in defend {
            for link in self.holdings.places_of(ip).unwrap_or_default() {
                self.responder.defend(ip, link, now.mono);
            }
        }
    }
}
