//! What is kept about an owned address, and the groups that owned addresses need.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::schedule::{Burst, Pace, Schedule};
use crate::{Mac, ndp};

/// A link of an address.
#[derive(Debug)]
struct Place {
    link: u32,
    defended: Option<Duration>,
}

/// An address that is owned.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// In the order that was asked for, each once.
    places: Vec<Place>,
    /// Silent before this time.
    pub(super) held_until: Duration,
    /// A whole round was handed out since it was owned.
    pub(super) announced: bool,
    burst: Option<Burst>,
    /// When the next round is due; `None` before the first burst and when nothing is repeated.
    due: Option<Duration>,
}

impl Owned {
    pub(super) fn links(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().map(|place| place.link)
    }

    pub(super) fn is_on(&self, link: u32) -> bool {
        self.links().any(|own| own == link)
    }

    pub(super) fn is_held(&self, now: Duration) -> bool {
        now < self.held_until
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.burst.is_some()
    }

    /// Replaces the links: which came, and which went.
    pub(super) fn set_links(&mut self, links: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let went: Vec<u32> = self.links().filter(|own| !links.contains(own)).collect();
        self.places.retain(|place| links.contains(&place.link));
        let mut came = Vec::new();
        for link in links {
            if !self.is_on(*link) {
                came.push(*link);
                self.places.push(Place {
                    link: *link,
                    defended: None,
                });
            }
        }
        (came, went)
    }

    /// Begins a burst at `now`.
    pub(super) fn restart(&mut self, now: Duration) {
        self.burst = Some(Burst::default());
        self.due = Some(now);
    }

    /// A round is handed out now.
    pub(super) fn advance(&mut self, pace: &mut Pace, now: Duration) {
        self.due = self.burst.get_or_insert_default().advance(pace, now);
    }

    /// Enters into the schedule when the next round may be handed out: not while it is held, and not
    /// without a link.
    pub(super) fn reschedule(
        &self,
        ip: IpAddr,
        usable: &BTreeMap<u32, Mac>,
        schedule: &mut Schedule,
    ) {
        let has_link = self.links().any(|link| usable.contains_key(&link));
        match self.due {
            Some(due) if has_link => schedule.set(ip, due.max(self.held_until)),
            Some(_) | None => schedule.remove(ip),
        }
    }

    /// Whether to defend it on this link now; then, not again for `interval`.
    pub(super) fn may_defend(&mut self, link: u32, interval: Duration, now: Duration) -> bool {
        if self.is_held(now) {
            return false;
        }
        let Some(place) = self.places.iter_mut().find(|place| place.link == link) else {
            return false;
        };
        let last = place.defended;
        let may = last.is_none_or(|last| now.saturating_sub(last) >= interval);
        if may {
            place.defended = Some(now);
        }
        may
    }
}

/// How many owned addresses need which solicited-node group on which link.
#[derive(Debug, Default)]
pub(super) struct Groups {
    needed: BTreeMap<(u32, Ipv6Addr), usize>,
}

impl Groups {
    pub(super) fn change(&mut self, ip: Ipv6Addr, came: &[u32], went: &[u32]) {
        let group = ndp::solicited_node(ip);
        for link in came {
            let count = self.needed.entry((*link, group)).or_default();
            *count = count.saturating_add(1);
        }
        for link in went {
            let Some(count) = self.needed.get_mut(&(*link, group)) else {
                continue;
            };
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.needed.remove(&(*link, group));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Ipv6Addr)> + '_ {
        self.needed.keys().copied()
    }
}
