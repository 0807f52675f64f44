//! What is said to peers and what they say.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng as _;

use super::Speaker;
use super::meeting::{Meeting, Opinion, meeting, opinion};
use super::peers::Admission;
use crate::envelope;
use crate::io::Effect;
use crate::membership::Event;
use crate::message::{Body, Card, Identity, MOST_KEYS, Message, Rank, View};
use crate::ownership::Key;
use crate::score::hash;
use crate::words::Now;

/// How often one peer is told at most that it is out.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// A death is told once more after this long: a lost datagram would cost a round of gossip.
const TELL_AGAIN: Duration = Duration::from_millis(50);

impl Speaker {
    /// Says something to whoever is at that address. Without a cable nothing: the kernel would ask for
    /// that neighbour's hardware address in vain, and when the cable is back, wait before it asks again.
    pub(super) fn say(&mut self, to: SocketAddr, body: Body<'_>, now: Now) {
        if self.at.is_some_and(|at| self.links.are_down(at.ip())) {
            return;
        }
        let Some(membership) = &self.membership else {
            return;
        };
        let message = Message {
            from: membership.identity(),
            counter: self.peers.count(to),
            card: self.card.clone(),
            sight: self.sight,
            you: membership.view(to),
            body,
        };
        let mut nonce = [0; 24];
        self.rng.fill_bytes(&mut nonce);
        let sealed = (message.write()).and_then(|plain| {
            envelope::seal(&self.keys, now.wall.div_euclid(1_000), to, nonce, &plain)
        });
        if let Some(bytes) = sealed {
            self.out.push_back(Effect::Datagram { to, bytes });
        }
    }

    pub(super) fn say_to_all(&mut self, body: &Body<'_>, now: Now) {
        for addr in self.alive() {
            self.say(addr, body.clone(), now);
        }
    }

    pub(super) fn alive(&self) -> Vec<SocketAddr> {
        (self.membership.as_ref()).map_or_else(Vec::new, |membership| membership.alive().collect())
    }

    /// Tells everybody at once that our card is another one, and lets gossip repeat it.
    pub(super) fn tell_card(&mut self, now: Now) {
        let card = Card {
            rank: self.standing.rank(),
            unable: self.links.unable(),
            macs: self.links.macs(),
            seq: self.card.seq,
            boot: self.card.boot,
            node: self.card.node.clone(),
        };
        if card == self.card {
            return;
        }
        self.card = card;
        self.card.seq += 1;
        self.see();
        if let Some(membership) = &mut self.membership {
            membership.spread(&self.card);
        }
        self.say_to_all(&Body::Card, now);
        let me = self.me();
        self.refresh(&me);
    }

    /// Tells a node that is out what we think of it, and asks the others: one that comes back
    /// may not be the only one.
    fn tell(&mut self, identity: Identity, body: &Body<'_>, card: &Card, now: Now) {
        if let Body::Hail { nonce } = body {
            let nonce = *nonce;
            self.say(identity.addr, Body::Hailed { nonce }, now);
        } else if let Some(peer) = self.peers.get_mut(&card.node)
            && (peer.told).is_none_or(|told| now.mono.saturating_sub(told) >= TELL_EVERY)
        {
            peer.told = Some(now.mono);
            self.say(identity.addr, Body::Card, now);
        }
        self.sweep(now);
    }

    /// A datagram came.
    pub(super) fn datagram(&mut self, bytes: &[u8], now: Now) {
        let (Some(at), Some(membership)) = (self.at, &self.membership) else {
            return;
        };
        let mine = membership.identity();
        let Some(plain) = envelope::open(&self.keys, at, bytes) else {
            self.refused += 1;
            return;
        };
        let Some(message) = Message::read(&plain) else {
            self.refused += 1;
            return;
        };
        let Message {
            from,
            counter,
            card,
            sight,
            you,
            body,
        } = message;
        if card.node == self.settings.node || from.addr == at || self.done {
            return;
        }
        match self.peers.admit(&card, from.addr, counter) {
            Admission::Fresh => {}
            Admission::Repeated => {
                self.refused += 1;
                return;
            }
            Admission::Older(boot) => {
                self.refused += 1;
                return self.say(from.addr, Body::Older { boot }, now);
            }
        }
        if let Body::Older { boot } = body {
            return self.outlive(boot, now);
        }
        let view = (self.membership.as_ref()).map_or(View::Unknown, |m| m.view(from.addr));
        if matches!(view, View::Alive { bump } | View::Down { bump } | View::Lost { bump } if bump > from.bump)
        {
            return; // from before it began anew
        }
        // Of another life: not known yet.
        let mine_of_it = match opinion(view, from.bump) {
            Opinion::Stale => Opinion::Unknown,
            known @ (Opinion::Unknown | Opinion::Alive | Opinion::Down | Opinion::Lost) => known,
        };
        let settled = (self.sight.settled > 0, sight.settled > 0);
        match meeting(mine_of_it, opinion(you, mine.bump), settled.0, settled.1) {
            Meeting::Ignore => return,
            Meeting::Tell => return self.tell(from, &body, &card, now),
            Meeting::Sides
                if (self.sight).outweighs(&sight, (hash(&self.card.node), hash(&card.node))) =>
            {
                return self.tell(from, &body, &card, now);
            }
            Meeting::Sides | Meeting::Fall => return self.fall(Some(from), now),
            Meeting::Remind => self.say(from.addr, Body::Card, now),
            Meeting::Join => {
                if let Some(membership) = &mut self.membership {
                    membership.meet(from, now.mono);
                    membership.announce(from.addr, now.mono);
                }
            }
            Meeting::Peer => {}
        }
        if let Some(membership) = &mut self.membership {
            membership.hear(from.addr, now.mono);
        }
        self.peers.set_sight(&card.node, sight);
        self.pump(now);
        self.store_card(card, now);
        self.read(from, body, now);
        self.pump(now);
    }

    /// What a live peer said.
    fn read(&mut self, from: Identity, body: Body<'_>, now: Now) {
        match body {
            Body::Foca(bytes) => {
                if let Some(membership) = &mut self.membership {
                    membership.receive(bytes, now.mono);
                }
            }
            Body::Hail { nonce } => self.say(from.addr, Body::Hailed { nonce }, now),
            Body::Hailed { nonce } => {
                if let Some(membership) = &mut self.membership {
                    membership.answered(from.addr, nonce, now.mono);
                }
                if let Some(doubt) = &mut self.doubt {
                    doubt.answered(from.addr, nonce, now.mono);
                }
            }
            Body::Gone { identity } => {
                if let Some(membership) = &mut self.membership
                    && identity.addr != membership.identity().addr
                {
                    membership.bury(identity, now.mono);
                }
            }
            Body::Yield { keys } => {
                // Whatever made the sender offer may have come to us with the same datagram.
                self.pump(now);
                self.settle(now);
                self.take(from.addr, &keys, now);
            }
            Body::Taken { keys } => {
                if let Some(node) = self.peers.node_at(from.addr).cloned() {
                    for key in self.holdings.taken(&node, &keys) {
                        self.drop_holding(key);
                    }
                }
            }
            Body::Card | Body::Older { .. } => {}
        }
    }

    /// Somebody's card, by whatever way it came.
    pub(super) fn store_card(&mut self, card: Card, now: Now) {
        let node = card.node.clone();
        let is_alive = self.is_alive(&node);
        if node == self.settings.node || !is_alive {
            return;
        }
        let boot = card.boot;
        if !self.peers.set_card(card) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.died.take() == Some(boot)
        {
            // Its process lived on while we thought it dead: clients may remember it.
            self.announce_again(now);
        }
        self.refresh(&node);
    }

    /// Does what the membership wants done.
    pub(super) fn pump(&mut self, now: Now) {
        while let Some(event) = (self.membership.as_mut()).and_then(|m| m.event()) {
            match event {
                Event::Send(to, bytes) => self.say(to.addr, Body::Foca(&bytes), now),
                Event::Up(identity) => {
                    self.say(identity.addr, Body::Card, now);
                    self.life_changed(identity, now);
                }
                Event::Down(identity) => self.life_changed(identity, now),
                Event::Found(identity) => {
                    self.deaths += 1;
                    // The dead one, too: it may only be slow.
                    self.say(identity.addr, Body::Gone { identity }, now);
                    self.say_to_all(&Body::Gone { identity }, now);
                    self.gone.push_back((now.mono + TELL_AGAIN, identity));
                }
                Event::Ask(addr, nonce) => self.say(addr, Body::Hail { nonce }, now),
                Event::Card(card) => self.store_card(card, now),
                Event::Defunct => return self.fall(None, now),
            }
        }
    }

    pub(super) fn tick_gone(&mut self, now: Now) {
        while let Some((at, identity)) = self.gone.front().copied()
            && at <= now.mono
        {
            self.gone.pop_front();
            let bump = identity.bump;
            let is_down = (self.membership.as_ref())
                .is_some_and(|m| m.view(identity.addr) == View::Down { bump });
            if is_down {
                self.say_to_all(&Body::Gone { identity }, now);
            }
        }
    }

    fn life_changed(&mut self, identity: Identity, now: Now) {
        let Some(node) = self.peers.node_at(identity.addr).cloned() else {
            return self.see();
        };
        if !self.is_alive(&node) {
            self.peers.forget_card(&node);
        }
        self.refresh(&node);
        let _ = now;
    }

    /// A peer offers these: tells it which we have.
    fn take(&mut self, from: SocketAddr, keys: &[Key], now: Now) {
        if self.is_silent() || self.standing.rank() == Rank::Leaving {
            return;
        }
        let taken: Vec<Key> = (keys.iter().copied())
            .filter(|key| self.has_announced(*key))
            .collect();
        if !taken.is_empty() {
            self.say(from, Body::Taken { keys: taken }, now);
        }
    }

    /// Offers what is not ours any more to those whose it is.
    pub(super) fn offer(&mut self, now: Now) {
        if self.doubt.is_some() {
            return;
        }
        for (node, keys) in self.holdings.offers(now.mono) {
            if let Some(addr) = self.peers.get(&node).map(|peer| peer.addr) {
                for keys in keys.chunks(MOST_KEYS) {
                    let keys = keys.to_vec();
                    self.say(addr, Body::Yield { keys }, now);
                }
            }
        }
    }
}
