//! Joining, being declared dead, doubt, falling behind, looking for others, leaving.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::Speaker;
use crate::io::Effect;
use crate::membership::{Membership, Patience};
use crate::message::{Body, Identity, Rank, View};
use crate::standing::{Around, Standing};
use crate::words::Now;

/// Not to have been called for this long means that we may have been stopped: less than it takes
/// peers to declare one dead (a probe and a suspicion, 350 ms).
const STOPPED: Duration = Duration::from_millis(150);
/// How many live peers are asked at once when in doubt.
const ASKED: usize = 3;
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long others may take to answer after the first has.
const AGREE: Duration = Duration::from_millis(50);
/// Without any answer the network is to blame, and clients on our side need us.
const CUT_OFF: Duration = Duration::from_millis(300);
/// The same when a link has come back: a kernel that asked for a neighbour's hardware address in vain
/// asks again after a second (`retrans_time_ms`).
const LINK_CUT_OFF: Duration = Duration::from_millis(1_200);
/// How often others are looked for while at most half of the known are alive.
const HAIL_CUT_OFF: Duration = Duration::from_millis(100);
/// And how often otherwise.
const HAIL: Duration = Duration::from_secs(5);
/// Hails at once while cut off.
const HAILED: usize = 3;
/// Hails at once when somebody has come back.
const SWEPT: usize = 32;
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// How long peers may be ahead before our watch counts as stuck.
const STUCK: Duration = Duration::from_secs(2);
/// How long they may be ahead before a list is asked for.
const RELIST: Duration = Duration::from_secs(1);
/// How long handing over may take.
const LEAVE: Duration = Duration::from_secs(3);

/// We may have been declared dead, because we were stopped or because frames come and go again where
/// they did not: nothing is answered until a peer says otherwise.
#[derive(Debug)]
pub(super) struct Doubt {
    /// From when on nobody is there if nobody has answered.
    alone_at: Duration,
    next: Duration,
    asked: Vec<(SocketAddr, u64)>,
    answers: Vec<SocketAddr>,
    answered: Option<Duration>,
}

impl Doubt {
    const fn new(alone_at: Duration, now: Duration) -> Self {
        Self {
            alone_at,
            next: now,
            asked: Vec::new(),
            answers: Vec::new(),
            answered: None,
        }
    }

    /// A peer that considers us alive answered.
    pub(super) fn answered(&mut self, from: SocketAddr, nonce: u64, now: Duration) {
        if self.asked.contains(&(from, nonce)) && !self.answers.contains(&from) {
            self.answers.push(from);
            self.answered.get_or_insert(now);
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        let agreed = self.answered.map(|answered| answered + AGREE);
        self.next.min(agreed.unwrap_or(self.alone_at))
    }
}

/// Looking for others.
#[derive(Debug, Default)]
pub(super) struct Hails {
    next: Duration,
    swept: Option<Duration>,
    was_cut_off: bool,
}

/// Whether peers have seen what we have not.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// What, since when, and whether a list was asked for.
    ahead: Option<(u64, Duration, bool)>,
}

impl Behind {
    fn is_stuck(&self, now: Duration) -> bool {
        (self.ahead).is_some_and(|(_, since, _)| now.saturating_sub(since) > STUCK)
    }
}

impl Speaker {
    /// Joins as soon as everything is there that it takes.
    pub(super) fn join(&mut self, now: Now) {
        if self.membership.is_some() || self.keys.is_empty() || !self.objects.are_synced() {
            return;
        }
        let own = self.objects.peer(&self.settings.node);
        let Some(ip) = own.and_then(|peer| peer.addresses.first()) else {
            return;
        };
        self.at = Some(SocketAddr::new(*ip, self.settings.port));
        self.begin(now, false);
    }

    /// A life begins.
    fn begin(&mut self, now: Now, has_returned: bool) {
        let Some(addr) = self.at else {
            return;
        };
        let identity = Identity {
            addr,
            bump: self.bump,
        };
        let patience = Patience {
            probe_period: self.settings.probe_period,
            probe_rtt: self.settings.probe_rtt,
            suspicion: self.settings.suspicion,
        };
        let rng = StdRng::from_seed(self.rng.random());
        let nonce = self.rng.random();
        let mut membership = Membership::new(identity, patience, rng, nonce);
        if has_returned {
            membership.returns(now.mono);
        }
        self.membership = Some(membership);
        if self.leaving.is_none() {
            self.standing = Standing::new(now.mono, has_returned);
        }
        self.doubt = None;
        self.hails = Hails::default();
        self.behind = Behind::default();
        self.tell_card(now);
        let me = self.me();
        self.refresh(&me);
        self.see();
    }

    /// The others took us for dead, or their side is the larger one: silent at once, and a new life
    /// begins that knows nothing, since whom we took for dead may be alive. `via` is one of them.
    pub(super) fn fall(&mut self, via: Option<Identity>, now: Now) {
        self.silence();
        if self.leaving.is_some() {
            return self.finish(now);
        }
        self.bump += 1;
        self.gone.clear();
        for node in self.peers.forget_cards() {
            self.table.set_node(&node, None);
        }
        self.begin(now, true);
        if let (Some(via), Some(membership)) = (via, &mut self.membership) {
            membership.meet(via, now.mono);
            membership.announce(via.addr, now.mono);
        }
        self.pump(now);
    }

    /// Another process of this node has spoken with a later boot: the clock was set back.
    pub(super) fn outlive(&mut self, boot: u64, now: Now) {
        if boot >= self.card.boot {
            self.card.boot = boot + 1;
            self.bump = self.bump.max(boot + 1);
            self.fall(None, now);
        }
    }

    /// Where peers reach us has changed, or not.
    pub(super) fn move_to(&mut self, now: Now) {
        let own = self.objects.peer(&self.settings.node);
        let ip = own.and_then(|peer| peer.addresses.first().copied());
        if let (Some(ip), Some(at)) = (ip, self.at)
            && ip != at.ip()
        {
            self.at = Some(SocketAddr::new(ip, self.settings.port));
            self.fall(None, now);
        }
    }

    /// Notices when time has passed without us.
    pub(super) fn notice(&mut self, now: Now) {
        let last = self.last.replace(now.mono).unwrap_or(now.mono);
        let gap = now.mono.saturating_sub(last);
        if gap <= STOPPED || self.done {
            return;
        }
        if let Some(membership) = &mut self.membership {
            membership.shift(gap);
        }
        self.begin_doubt(CUT_OFF, now);
    }

    /// Datagrams come and go again where they did not: others may have found us dead.
    pub(super) fn link_came(&mut self, now: Now) {
        self.begin_doubt(LINK_CUT_OFF, now);
    }

    /// Asks whether we are alive.
    fn begin_doubt(&mut self, patience: Duration, now: Now) {
        if self.membership.is_some() && !self.done {
            let before = self.doubt.as_ref().map(|doubt| doubt.alone_at);
            let alone_at = (now.mono + patience).max(before.unwrap_or_default());
            self.doubt = Some(Doubt::new(alone_at, now.mono));
        }
    }

    pub(super) fn tick_doubt(&mut self, now: Now) {
        let Some(mut doubt) = self.doubt.take() else {
            return;
        };
        let alive = self.alive();
        // Those who live as far as we know; else all others.
        let known = if alive.is_empty() {
            self.missing()
        } else {
            alive
        };
        let wanted = known.len().min(ASKED);
        let has_agreed = doubt.answers.len() >= wanted
            || (doubt.answered).is_some_and(|at| now.mono >= at + AGREE);
        let is_alone = doubt.answered.is_none() && now.mono >= doubt.alone_at;
        if has_agreed || is_alone {
            return;
        }
        if doubt.next <= now.mono {
            doubt.next = now.mono + ASK_EVERY;
            let unasked = known.iter().filter(|addr| !doubt.answers.contains(addr));
            let chosen = unasked.copied().sample(&mut self.rng, ASKED);
            for addr in chosen {
                let nonce = self.rng.random();
                doubt.asked.push((addr, nonce));
                self.say(addr, Body::Hail { nonce }, now);
            }
        }
        self.doubt = Some(doubt);
    }

    /// Whether our watch is stuck: then others know better who owns what.
    pub(super) fn tick_behind(&mut self, now: Now) {
        let own = self.objects.version();
        self.sight.version = own;
        let peers = self.peers.version();
        match &mut self.behind.ahead {
            Some((version, since, has_asked)) if own < *version => {
                if !*has_asked && now.mono.saturating_sub(*since) >= RELIST {
                    *has_asked = true;
                    self.out.push_back(Effect::Relist);
                }
            }
            Some(_) | None => {
                self.behind.ahead = (own < peers).then_some((peers, now.mono, false));
            }
        }
    }

    pub(super) fn tick_standing(&mut self, now: Now) {
        if self.membership.is_none() {
            return;
        }
        let around = self.around(now);
        let was_asleep = self.standing.is_asleep();
        let before = self.standing.rank();
        self.standing
            .tick(now.mono, self.settings.rejoin_delay, &around);
        if before != self.standing.rank() {
            self.tell_card(now);
        }
        if was_asleep && !self.standing.is_asleep() {
            self.wake(now);
        }
    }

    fn around(&self, now: Now) -> Around {
        let mut around = Around {
            alive: self.sight.alive as usize,
            known: (self.objects.known()).max(1),
            is_behind: self.behind.is_stuck(now.mono),
            ..Around::default()
        };
        if self.standing.rank() == Rank::Settled && !self.standing.is_asleep() {
            return around; // nothing else is asked then
        }
        for (_, peer) in self.peers.iter() {
            if let Some(card) = &peer.card {
                around.expected = around.expected.max(peer.sight.alive as usize);
                around.is_any_settled |= card.is_settled();
                around.is_any_founding |= card.rank == Rank::Founding;
            }
        }
        around
    }

    /// The known nodes that are not alive in our view.
    fn missing(&self) -> Vec<SocketAddr> {
        let Some(membership) = &self.membership else {
            return Vec::new();
        };
        (self.objects.peers())
            .filter(|(node, _)| **node != self.settings.node)
            .filter_map(|(_, peer)| {
                Some(SocketAddr::new(
                    *peer.addresses.first()?,
                    self.settings.port,
                ))
            })
            .filter(|addr| !membership.is_alive(*addr))
            .collect()
    }

    pub(super) fn tick_hails(&mut self, now: Now) {
        let Some(membership) = &self.membership else {
            return;
        };
        let is_cut_off = (membership.count() + 1) * 2 <= self.objects.known();
        if is_cut_off != self.hails.was_cut_off {
            self.hails.was_cut_off = is_cut_off;
            self.hails.next = now.mono;
        }
        if self.hails.next > now.mono {
            return;
        }
        let (count, every) = if is_cut_off {
            (HAILED, HAIL_CUT_OFF)
        } else {
            (1, HAIL)
        };
        self.hails.next = now.mono + every;
        self.hail_missing(count, now);
    }

    fn hail_missing(&mut self, count: usize, now: Now) {
        let missing = self.missing().into_iter();
        for addr in missing.sample(&mut self.rng, count) {
            self.hail(addr, now);
        }
    }

    pub(super) fn hail(&mut self, addr: SocketAddr, now: Now) {
        let nonce = self.rng.random();
        self.say(addr, Body::Hail { nonce }, now);
    }

    /// One whom we thought dead has spoken: the network may have healed, so all others are asked.
    pub(super) fn sweep(&mut self, now: Now) {
        let is_recent = |swept| now.mono.saturating_sub(swept) < SWEEP_EVERY;
        if !self.hails.swept.is_some_and(is_recent) {
            self.hails.swept = Some(now.mono);
            self.hail_missing(SWEPT, now);
        }
    }

    /// Whether that node lives and has not been replaced.
    pub(super) fn is_alive(&self, node: &str) -> bool {
        let (Some(membership), Some(peer)) = (&self.membership, self.peers.get(node)) else {
            return false;
        };
        matches!(membership.view(peer.addr), View::Alive { .. })
    }

    /// SIGTERM.
    pub(super) fn leave(&mut self, now: Now) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(now.mono + LEAVE);
        self.standing.leave();
        if self.is_asleep() {
            return self.finish(now);
        }
        self.tell_card(now);
        self.settle(now);
    }

    pub(super) fn tick_leaving(&mut self, now: Now) {
        if let Some(deadline) = self.leaving
            && (now.mono >= deadline || !self.holdings.is_ceding())
        {
            self.finish(now);
        }
    }

    fn finish(&mut self, now: Now) {
        if self.done {
            return;
        }
        self.silence();
        if let Some(membership) = &mut self.membership {
            let identity = membership.identity();
            membership.leave(now.mono);
            self.say_to_all(&Body::Gone { identity }, now);
            while let Some(event) = (self.membership.as_mut()).and_then(|m| m.event()) {
                if let crate::membership::Event::Send(to, bytes) = event {
                    self.say(to.addr, Body::Foca(&bytes), now);
                }
            }
        }
        self.done = true;
        self.listen();
        self.out.push_back(Effect::Done);
    }
}
