//! One node's speaker: ties who lives, who owns what, and who is answered. It does no IO and knows
//! no time but what it is told.
//!
//! It never answers for an address while it does not know whether it may: before it has joined
//! ([`Standing::is_asleep`]), after it may have been stopped ([`life::Doubt`]), and after it learned
//! that the others took it for dead ([`Speaker::fall`]).

mod conflict;
mod life;
mod meeting;
mod own;
mod peers;
mod report;
mod talk;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wire::Responder;

use crate::handover::Holdings;
use crate::io::{Effect, Figures, Input, Phase, Settings};
use crate::keys::KeyRing;
use crate::links::Links;
use crate::membership::Membership;
use crate::message::{Card, Identity, Rank, Sight};
use crate::objects::Objects;
use crate::ownership::Table;
use crate::score::hash;
use crate::standing::Standing;
use crate::words::{Kind, Now};

use conflict::Conflicts;
use life::{Behind, Doubt, Hails};
use own::Listening;
use peers::Peers;

/// How long the shell may leave the speaker alone; the deadline is never further away.
const BEAT: Duration = Duration::from_millis(50);

/// One node's speaker.
#[derive(Debug)]
pub struct Speaker {
    settings: Settings,
    rng: StdRng,
    keys: KeyRing,
    objects: Objects,
    links: Links,
    /// Where peers reach us, once we have joined.
    at: Option<SocketAddr>,
    membership: Option<Membership>,
    bump: u64,
    peers: Peers,
    standing: Standing,
    card: Card,
    sight: Sight,
    table: Table,
    holdings: Holdings,
    responder: Responder,
    listening: Listening,
    conflicts: Conflicts,
    doubt: Option<Doubt>,
    hails: Hails,
    behind: Behind,
    /// Deaths to be told once more, then.
    gone: VecDeque<(Duration, Identity)>,
    leaving: Option<Duration>,
    done: bool,
    report: report::Pending,
    /// When it was last called.
    last: Option<Duration>,
    out: VecDeque<Effect>,
    takeovers: u64,
    refused: u64,
    deaths: u64,
}

impl Speaker {
    /// A speaker that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        let mut rng = StdRng::from_seed(settings.seed);
        let card = Card {
            node: settings.node.clone(),
            boot: settings.boot,
            seq: 1,
            rank: Rank::Joining,
            unable: Vec::new(),
            macs: Vec::new(),
        };
        Self {
            responder: Responder::new(settings.wire, rng.random()),
            bump: settings.boot,
            keys: KeyRing::default(),
            objects: Objects::default(),
            links: Links::default(),
            at: None,
            membership: None,
            peers: Peers::default(),
            standing: Standing::new(now.mono, false),
            card,
            sight: Sight::default(),
            table: Table::default(),
            holdings: Holdings::default(),
            listening: Listening::default(),
            conflicts: Conflicts::default(),
            doubt: None,
            hails: Hails::default(),
            behind: Behind::default(),
            gone: VecDeque::new(),
            leaving: None,
            done: false,
            report: report::Pending::default(),
            last: None,
            out: VecDeque::new(),
            takeovers: 0,
            refused: 0,
            deaths: 0,
            settings,
            rng,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.notice(now);
        match input {
            Input::Frame { link, bytes } => return self.frame(link, bytes, now),
            Input::Datagram { from: _, bytes } => self.datagram(bytes, now),
            Input::Announcement {
                name,
                version,
                spec,
            } => {
                let key = hash(&name);
                if self.objects.set_announcement(name, version, spec) {
                    self.announcement_changed(key, now);
                }
            }
            Input::Peer {
                node,
                version,
                spec,
            } => {
                if self.objects.set_peer(node.clone(), version, spec) {
                    self.peer_changed(&node, now);
                }
            }
            Input::Restarted(kind) => {
                let at = self.peers.version();
                self.objects.restarted(kind, at);
            }
            Input::Synced(kind) => self.synced(kind, now),
            Input::Links(links) => self.links_changed(links, now),
            // Without any key it could neither hear nor be heard, and would take all for dead.
            Input::Keys(keys) if keys.is_empty() => {}
            Input::Keys(keys) => self.keys = keys,
            Input::Leave => self.leave(now),
        }
        self.tick(now);
    }

    fn synced(&mut self, kind: Kind, now: Now) {
        let (keys, nodes) = self.objects.synced(kind);
        for key in keys {
            self.objects.remove_announcement(key);
            self.announcement_changed(key, now);
        }
        for node in nodes {
            self.objects.set_peer(node.clone(), 0, None);
            self.peer_changed(&node, now);
        }
    }

    /// The next thing to do; None: nothing until an input comes or the deadline.
    pub fn poll(&mut self, now: Now) -> Option<Effect> {
        if self.last != Some(now.mono) {
            self.notice(now);
            self.tick(now);
        }
        if self.out.is_empty() {
            self.listen();
        }
        if let Some(effect) = self.out.pop_front() {
            return Some(effect);
        }
        if self.is_silent() {
            return self.next_report(now);
        }
        match self.responder.poll(now.mono) {
            Some(wire::Frame { link, bytes }) => Some(Effect::Frame { link, bytes }),
            None => self.next_report(now),
        }
    }

    /// When `poll` is to be called again at the latest, on the monotonic clock. Never further away
    /// than 50 ms: the speaker tells by it whether it was stopped.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let last = self.last.unwrap_or_default();
        let frames = (!self.is_silent()).then(|| self.responder.deadline());
        let timers = [
            self.membership.as_ref().and_then(Membership::deadline),
            self.holdings.deadline(),
            self.doubt.as_ref().map(Doubt::deadline),
            frames.flatten(),
            (!self.out.is_empty()).then_some(last),
        ];
        let timers = timers.into_iter().flatten();
        timers.chain([last + BEAT]).min().map(|at| at.max(last))
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            owned: self.holdings.addresses(),
            takeovers: self.takeovers,
            conflicts: self.conflicts.seen(),
            answered: self.responder.answered(),
            peers: self.membership.as_ref().map_or(0, Membership::count),
            refused: self.refused,
            deaths: self.deaths,
            scores: self.table.scores(),
            phase: match (&self.membership, self.standing.rank()) {
                (_, Rank::Leaving) => Phase::Leaving,
                (None, _) => Phase::Waiting,
                (Some(_), Rank::Joining) => Phase::Joining,
                (Some(_), Rank::Settled | Rank::Founding) => Phase::Settled,
            },
            silent: self.is_silent(),
        }
    }

    /// Whether it must not send a frame now.
    fn is_silent(&self) -> bool {
        self.doubt.is_some() || self.is_asleep()
    }

    fn is_asleep(&self) -> bool {
        self.membership.is_none() || self.standing.is_asleep() || self.done
    }

    fn me(&self) -> Arc<str> {
        self.settings.node.clone()
    }

    /// What time brings.
    fn tick(&mut self, now: Now) {
        if self.done {
            return;
        }
        self.join(now);
        if let Some(membership) = &mut self.membership {
            membership.tick(now.mono);
        }
        self.pump(now);
        self.tick_doubt(now);
        self.tick_behind(now);
        self.tick_standing(now);
        self.tick_hails(now);
        self.tick_gone(now);
        self.settle(now);
        self.offer(now);
        self.tick_conflicts(now);
        self.tick_leaving(now);
    }
}
