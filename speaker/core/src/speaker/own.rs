//! From who owns what to what is answered and listened to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use wire::filter::{Filter, program};

use super::Speaker;
use crate::handover::{Place, Step};
use crate::io::Effect;
use crate::links::Links;
use crate::message::{Rank, Sight};
use crate::ownership::{Candidate, Key};
use crate::score::hash;
use crate::words::{Announcement, Link, Now};

/// Which sockets and groups the shell has.
#[derive(Debug, Default)]
pub(super) struct Listening {
    is_stale: bool,
    filters: BTreeMap<u32, Filter>,
    groups: BTreeSet<(u32, Ipv6Addr)>,
}

impl Speaker {
    /// Whether that node may own something, as far as everybody can tell.
    fn candidate(&self, node: &Arc<str>) -> Option<Candidate> {
        let card = if *node == self.settings.node {
            self.membership.is_some().then_some(&self.card)?
        } else {
            self.peers.get(node)?.card.as_ref()?
        };
        let peer = self.objects.peer(node)?;
        let is_settled = match card.rank {
            Rank::Joining => false,
            Rank::Settled | Rank::Founding => true,
            Rank::Leaving => return None,
        };
        (!peer.excluded).then(|| Candidate {
            settled: is_settled,
            last_choice: peer.last_choice,
            pools: peer.pools.clone(),
            unable: card.unable.clone(),
        })
    }

    /// Something about that node changed.
    pub(super) fn refresh(&mut self, node: &Arc<str>) {
        let candidate = self.candidate(node);
        self.table.set_node(node, candidate);
        self.see();
    }

    /// What we see has changed.
    pub(super) fn see(&mut self) {
        let mut sight = Sight {
            version: self.objects.version(),
            alive: 1,
            settled: 0,
            least: u64::MAX,
        };
        let mut count = |hash: u64| {
            sight.settled += 1;
            sight.least = sight.least.min(hash);
        };
        if self.card.is_settled() {
            count(hash(&self.card.node));
        }
        let mut alive = 0;
        for (_, peer) in self.peers.iter() {
            if let Some(card) = &peer.card {
                alive += 1;
                if card.is_settled() {
                    count(peer.hash);
                }
            }
        }
        sight.alive += alive;
        self.sight = sight;
    }

    pub(super) fn announcement_changed(&mut self, key: Key, now: Now) {
        self.table
            .set_announcement(key, self.objects.announcement(key));
        self.assess(key);
        self.tell_card(now);
        match self.objects.announcement(key) {
            Some(_) if self.holdings.get(key).is_some() => self.place(key, now),
            Some(_) => {}
            None => {
                if let Some(holding) = self.holdings.drop(key) {
                    self.release(&holding.places, now);
                }
            }
        }
        self.report.is_stale = true;
    }

    pub(super) fn peer_changed(&mut self, node: &Arc<str>, now: Now) {
        if self.objects.peer(node).is_none() && *node != self.settings.node && !self.is_alive(node)
        {
            self.peers.remove(node);
        }
        self.refresh(node);
        if *node == self.settings.node {
            self.objects
                .keys()
                .into_iter()
                .for_each(|key| self.assess(key));
            self.move_to(now);
            self.tell_card(now);
            self.report.is_stale = true;
        }
    }

    pub(super) fn links_changed(&mut self, links: &[Link], now: Now) {
        let own = self.at.map(|at| at.ip());
        let carrying = |links: &Links| own.map(|own| links.carrying(own)).unwrap_or_default();
        let before = carrying(&self.links);
        if !self.links.set(links) {
            return;
        }
        if !carrying(&self.links).is_subset(&before) {
            self.link_came(now);
        }
        let usable: Vec<wire::Link> = (self.links.usable())
            .map(|link| wire::Link {
                id: link.index,
                mac: link.mac,
            })
            .collect();
        self.responder.set_links(&usable);
        self.objects
            .keys()
            .into_iter()
            .for_each(|key| self.assess(key));
        for key in self.holdings.keys() {
            self.place(key, now);
        }
        self.tell_card(now);
        self.listening.is_stale = true;
        self.report.is_stale = true;
    }

    /// Whether we could announce that one, if it is for us at all.
    fn assess(&mut self, key: Key) {
        let node = &self.settings.node;
        let pools = self.objects.peer(node).map(|peer| &peer.pools);
        let is_for_us = |spec: &&Announcement| {
            let mut names = spec.pools.iter();
            let is_allowed =
                names.all(|name| pools.is_some_and(|of| of.iter().any(|pool| pool.name == *name)));
            is_allowed && (spec.nodes.as_ref()).is_none_or(|nodes| nodes.contains(node))
        };
        let spec = self.objects.announcement(key).filter(is_for_us);
        self.links.assess(key, spec);
        self.report.is_stale = true;
    }

    /// Does what the new owners mean.
    pub(super) fn settle(&mut self, now: Now) {
        let changed = self.table.take_changed();
        if self.is_asleep() {
            return; // waking takes everything into account
        }
        for key in changed {
            self.decide(key, now);
        }
    }

    fn decide(&mut self, key: Key, now: Now) {
        let owner = self.table.owner(key);
        let is_me = owner.is_some_and(|owner| *owner == self.settings.node);
        let is_leaving = self.leaving.is_some();
        match (self.holdings).decide(key, owner, is_me, is_leaving, now.mono) {
            Step::Stay => {}
            Step::Take => {
                self.place(key, now);
                let count = self.holdings.get(key).map_or(0, |of| of.places.len());
                self.takeovers += u64::try_from(count).unwrap_or(u64::MAX);
            }
            Step::Resume => {
                self.place(key, now);
                self.announce(key, now);
            }
            Step::Drop => self.drop_holding(key),
        }
    }

    /// It knows its peers: takes what it owns.
    pub(super) fn wake(&mut self, now: Now) {
        self.table.take_changed();
        for key in self.table.owned_by(&self.settings.node) {
            self.decide(key, now);
        }
    }

    /// Answers for that announcement where its addresses belong as of now.
    fn place(&mut self, key: Key, now: Now) {
        let Some(spec) = self.objects.announcement(key) else {
            return;
        };
        let places: Vec<Place> = (spec.addresses.iter())
            .map(|address| (address.ip, self.links.choose(address)))
            .collect();
        let before = self.holdings.get(key).map(|of| of.places.clone());
        self.holdings.place(key, places.clone(), now.wall);
        for (ip, _) in &places {
            self.answer(*ip, now);
        }
        let is_gone = |(ip, _): &Place| !places.iter().any(|(other, _)| other == ip);
        let gone: Vec<Place> = before.into_iter().flatten().filter(is_gone).collect();
        self.release(&gone, now);
        self.listening.is_stale = true;
        self.report.is_stale = true;
    }

    /// Answers for an address on all links of all holdings that it is in, or is silent.
    fn answer(&mut self, ip: IpAddr, now: Now) {
        match self.holdings.places_of(ip) {
            Some(links) => self.responder.own(ip, &links, now.mono),
            None => self.responder.disown(ip),
        }
    }

    /// These addresses are in their announcement no more. One that has moved to another one is
    /// answered for until that one's owner has it.
    fn release(&mut self, places: &[Place], now: Now) {
        for (ip, links) in places {
            if let Some(key) = self.objects.with(*ip)
                && let Some(owner) = self.table.owner(key)
                && !self.is_asleep()
            {
                if *owner != self.settings.node && !self.holdings.owns(key) {
                    // Others of its addresses may have come this way before.
                    let held = self.holdings.get(key).map(|of| of.places.clone());
                    let mut places = held.unwrap_or_default();
                    places.retain(|(other, _)| other != ip);
                    places.push((*ip, links.clone()));
                    self.holdings.place(key, places, now.wall);
                }
                self.decide(key, now);
            }
            self.answer(*ip, now);
        }
        self.listening.is_stale = true;
        self.report.is_stale = true;
    }

    pub(super) fn drop_holding(&mut self, key: Key) {
        if let Some(holding) = self.holdings.drop(key) {
            for (ip, _) in holding.places {
                if self.holdings.places_of(ip).is_none() {
                    self.responder.disown(ip);
                }
            }
        }
        self.listening.is_stale = true;
        self.report.is_stale = true;
    }

    /// Answers for nothing.
    pub(super) fn silence(&mut self) {
        for key in self.holdings.keys() {
            self.drop_holding(key);
        }
    }

    pub(super) fn has_announced(&self, key: Key) -> bool {
        let is_out = |(ip, links): &Place| links.is_empty() || self.responder.has_announced(*ip);
        self.holdings.owns(key)
            && (self.holdings.get(key)).is_some_and(|of| of.places.iter().all(is_out))
    }

    fn announce(&mut self, key: Key, now: Now) {
        if let Some(holding) = self.holdings.get(key) {
            for (ip, _) in &holding.places {
                self.responder.announce_again(*ip, now.mono);
            }
        }
    }

    /// Clients may remember somebody else, who is silent now.
    pub(super) fn announce_again(&mut self, now: Now) {
        self.reconcile(now);
        for key in self.holdings.keys() {
            if self.holdings.owns(key) {
                self.announce(key, now);
            }
        }
    }

    /// Has the shell listen for exactly what is answered for.
    pub(super) fn listen(&mut self) {
        if !std::mem::take(&mut self.listening.is_stale) {
            return;
        }
        let mut wanted: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        for (_, holding) in self.holdings.iter() {
            for (ip, links) in &holding.places {
                for link in links {
                    wanted.entry(*link).or_default().insert(*ip);
                }
            }
        }
        let filters: BTreeMap<u32, Filter> = (wanted.into_iter())
            .map(|(link, ips)| (link, program(ips)))
            .collect();
        let groups: BTreeSet<(u32, Ipv6Addr)> = self.responder.groups().collect();
        for (link, filter) in &filters {
            if self.listening.filters.get(link) != Some(filter) {
                let filter = Some(filter.clone());
                self.out.push_back(Effect::Listen {
                    link: *link,
                    filter,
                });
            }
        }
        for (link, group) in groups.difference(&self.listening.groups).copied() {
            self.out.push_back(Effect::Join { link, group });
        }
        for (link, group) in self.listening.groups.difference(&groups).copied() {
            self.out.push_back(Effect::Part { link, group });
        }
        for link in self.listening.filters.keys() {
            if !filters.contains_key(link) {
                let link = *link;
                self.out.push_back(Effect::Listen { link, filter: None });
            }
        }
        self.listening.filters = filters;
        self.listening.groups = groups;
    }
}
