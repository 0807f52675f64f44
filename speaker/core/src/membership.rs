//! Who is alive: foca (SWIM with suspicion), its timers kept here, and four things on top of it.
//!
//! * A suspect is asked directly until its time is up, so that losses kill nobody.
//! * Who finds one dead says so, and the caller tells everybody: gossip alone takes rounds.
//! * Who hears nobody at all is probably cut off itself: what it finds out then is *lost* instead
//!   of dead, and it tells nobody.
//!
//! * Who has just returned may be heard by nobody yet although it hears: a kernel asks again for a
//!   neighbour's hardware address only after a second. Whom it does not hear is lost, too.
//!
//! A life that was declared dead stays dead. Its owner begins a new one by a new `Membership`:
//! nothing that it knew outlives that, since what it took for dead may be alive.

mod cards;
mod patience;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, Member, OwnedNotification, PostcardCodec, Timer};
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;

use crate::message::{Card, Identity, View};
use cards::Cards;
pub(crate) use patience::Patience;
use patience::config;

/// Payload of foca's messages: the rest of a datagram is for card and envelope.
pub(crate) const MOST_BYTES: usize = 700;
/// How often a suspect is asked: ten times in the default suspicion, so that a tenth of all
/// datagrams lost (each way) kills one suspect in ten million.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// How long one that returned finds nobody dead: twice the time after which Linux asks again for a
/// neighbour that did not answer (`retrans_time_ms`).
const RETURNS: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug)]
pub(crate) enum Event {
    /// Foca's bytes to that life.
    Send(Identity, Vec<u8>),
    /// Alive now.
    Up(Identity),
    /// Not any more.
    Down(Identity),
    /// Dead, as we found out ourselves: everybody is to be told.
    Found(Identity),
    /// It is a suspect: ask it with this nonce.
    Ask(SocketAddr, u64),
    /// Somebody's card, by gossip.
    Card(Card),
    /// The others think that we are dead.
    Defunct,
}

#[derive(Debug)]
struct Suspect {
    /// When it became one, for the last time.
    since: Duration,
    /// Of the questions since then.
    nonce: u64,
    ask: Duration,
    /// When it last answered one.
    answered: Option<Duration>,
    /// Of foca's, one for each time that it became one.
    timers: u32,
}

impl Suspect {
    fn has_answered_since(&self, then: Duration) -> bool {
        self.answered.is_some_and(|answered| answered >= then)
    }

    fn next_question(&self) -> Option<Duration> {
        (!self.has_answered_since(self.since)).then_some(self.ask)
    }
}

/// One life in the membership.
pub(crate) struct Membership {
    foca: Foca<Identity, PostcardCodec, StdRng, Cards>,
    runtime: AccumulatingRuntime<Identity>,
    cards: mpsc::Receiver<Card>,
    patience: Patience,
    timers: BTreeMap<(Duration, u64), Timer<Identity>>,
    timer: u64,
    views: FxHashMap<SocketAddr, View>,
    suspects: FxHashMap<SocketAddr, Suspect>,
    /// When each live peer was last heard: none of these is in the future.
    heard: BTreeMap<SocketAddr, Duration>,
    nonce: u64,
    events: VecDeque<Event>,
    transmissions_for: usize,
    /// Until then whoever is not heard is lost, not dead.
    returns_until: Duration,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Membership")
            .field("identity", self.foca.identity())
            .field("views", &self.views)
            .finish_non_exhaustive()
    }
}

impl Membership {
    pub(crate) fn new(identity: Identity, patience: Patience, rng: StdRng, nonce: u64) -> Self {
        let (inbox, cards) = mpsc::channel();
        let handler = Cards {
            newest: FxHashMap::default(),
            inbox,
        };
        Self {
            foca: Foca::with_custom_broadcast(
                identity,
                config(patience, 0),
                rng,
                PostcardCodec,
                handler,
            ),
            runtime: AccumulatingRuntime::new(),
            cards,
            patience,
            timers: BTreeMap::new(),
            timer: 0,
            views: FxHashMap::default(),
            suspects: FxHashMap::default(),
            heard: BTreeMap::new(),
            nonce,
            events: VecDeque::new(),
            transmissions_for: 0,
            returns_until: Duration::ZERO,
        }
    }

    /// This life begins because the one before was declared dead.
    pub(crate) const fn returns(&mut self, now: Duration) {
        self.returns_until = now.saturating_add(RETURNS);
    }

    pub(crate) const fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// How we consider whoever is at that address.
    pub(crate) fn view(&self, addr: SocketAddr) -> View {
        self.views.get(&addr).copied().unwrap_or(View::Unknown)
    }

    pub(crate) fn is_alive(&self, addr: SocketAddr) -> bool {
        matches!(self.view(addr), View::Alive { .. })
    }

    /// Live peers.
    pub(crate) fn alive(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.heard.keys().copied()
    }

    /// How many peers live.
    pub(crate) fn count(&self) -> usize {
        self.heard.len()
    }

    /// That life spoke: it is known from now on, unless it is dead.
    pub(crate) fn meet(&mut self, identity: Identity, now: Duration) {
        let alive = std::iter::once(Member::alive(identity));
        let _ = self.foca.apply_many(alive, true, &mut self.runtime);
        self.drain(now);
    }

    /// A live peer spoke.
    pub(crate) fn hear(&mut self, addr: SocketAddr, now: Duration) {
        if let Some(heard) = self.heard.get_mut(&addr) {
            *heard = now;
        }
    }

    /// A suspect may have answered.
    pub(crate) fn answered(&mut self, addr: SocketAddr, nonce: u64, now: Duration) {
        if let Some(suspect) = self.suspects.get_mut(&addr)
            && suspect.nonce == nonce
        {
            suspect.answered = Some(now);
        }
    }

    /// Foca's bytes came.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Duration) {
        // What it cannot read or does not accept concerns nobody else.
        let _ = self.foca.handle_data(bytes, &mut self.runtime);
        self.drain(now);
    }

    /// Asks whoever is there for its members.
    pub(crate) fn announce(&mut self, addr: SocketAddr, now: Duration) {
        let _ = self
            .foca
            .announce(Identity { addr, bump: 0 }, &mut self.runtime);
        self.drain(now);
    }

    /// Somebody else found that one dead.
    pub(crate) fn bury(&mut self, identity: Identity, now: Duration) {
        if self.view(identity.addr)
            == (View::Alive {
                bump: identity.bump,
            })
        {
            let down = std::iter::once(Member::down(identity));
            let _ = self.foca.apply_many(down, true, &mut self.runtime);
            self.drain(now);
        }
    }

    /// Spreads our card by gossip.
    pub(crate) fn spread(&mut self, card: &Card) {
        if let Ok(bytes) = postcard::to_allocvec(card) {
            let _ = self.foca.add_broadcast(&bytes);
        }
    }

    /// Tells the others that we are gone.
    pub(crate) fn leave(&mut self, now: Duration) {
        let _ = self.foca.leave_cluster(&mut self.runtime);
        self.drain(now);
    }

    /// Time has passed without us: nothing that was to happen in it is overdue.
    pub(crate) fn shift(&mut self, gap: Duration) {
        let timers = std::mem::take(&mut self.timers);
        let shifted = (timers.into_iter()).map(|((at, number), timer)| ((at + gap, number), timer));
        self.timers = shifted.collect();
        for suspect in self.suspects.values_mut() {
            suspect.since += gap;
            suspect.ask += gap;
            suspect.answered = suspect.answered.map(|answered| answered + gap);
        }
    }

    /// What is due.
    pub(crate) fn tick(&mut self, now: Duration) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let since = entry.key().0.saturating_sub(self.patience.suspicion);
            let timer = entry.remove();
            match timer {
                Timer::ChangeSuspectToDown { member_id, .. } => {
                    self.judge(member_id, since, timer, now);
                }
                Timer::ProbeRandomMember(_)
                | Timer::SendIndirectProbe { .. }
                | Timer::PeriodicAnnounce(_)
                | Timer::PeriodicAnnounceDown(_)
                | Timer::PeriodicGossip(_)
                | Timer::RemoveDown(_) => {
                    // An incomplete probe cycle is not an error here: it comes of a stop.
                    let _ = self.foca.handle_timer(timer, &mut self.runtime);
                    self.drain(now);
                }
            }
        }
        for (addr, suspect) in &mut self.suspects {
            if suspect.next_question().is_some_and(|ask| ask <= now) {
                suspect.ask = now + ASK_EVERY;
                self.events.push_back(Event::Ask(*addr, suspect.nonce));
            }
        }
        self.resize();
    }

    /// The time of somebody who is a suspect since then is up.
    fn judge(
        &mut self,
        identity: Identity,
        since: Duration,
        timer: Timer<Identity>,
        now: Duration,
    ) {
        let Some(suspect) = self.suspects.get_mut(&identity.addr) else {
            return;
        };
        let has_answered = suspect.has_answered_since(since);
        suspect.timers = suspect.timers.saturating_sub(1);
        if suspect.timers == 0 {
            self.suspects.remove(&identity.addr);
        }
        if has_answered {
            return; // foca suspects it again if it likes
        }
        let is_refuted = !self
            .foca
            .iter_members()
            .any(|member| *member.id() == identity && member.state() == foca::State::Suspect);
        let is_lost = !is_refuted && {
            let mut others = (self.heard.iter()).filter(|(addr, _)| **addr != identity.addr);
            let mut lost = (self.views.values()).filter(|view| matches!(view, View::Lost { .. }));
            let is_heard = others.any(|(_, heard)| *heard >= since);
            let is_alone = !is_heard && (self.heard.len() > 1 || lost.next().is_some());
            is_alone || now < self.returns_until
        };
        if is_lost {
            let down = std::iter::once(Member::down(identity));
            let _ = self.foca.apply_many(down, false, &mut self.runtime);
            self.drain(now);
            if let Some(view) = self.views.get_mut(&identity.addr)
                && *view
                    == (View::Down {
                        bump: identity.bump,
                    })
            {
                *view = View::Lost {
                    bump: identity.bump,
                };
            }
            return;
        }
        let was_alive = self.is_alive(identity.addr);
        let _ = self.foca.handle_timer(timer, &mut self.runtime);
        self.drain(now);
        if was_alive && !self.is_alive(identity.addr) {
            self.events.push_back(Event::Found(identity));
        }
    }

    fn resize(&mut self) {
        let size = self.count() + 1;
        if size > self.transmissions_for * 2 || size * 2 < self.transmissions_for {
            self.transmissions_for = size;
            let _ = self.foca.set_config(config(self.patience, size));
        }
    }

    /// Takes what foca wants done.
    fn drain(&mut self, now: Duration) {
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.events.push_back(Event::Send(to, bytes.to_vec()));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                self.suspect(member_id.addr, now);
            }
            self.timer += 1;
            self.timers.insert((now + after, self.timer), timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(identity) => {
                    self.suspects.remove(&identity.addr);
                    self.set_alive(identity, now);
                    self.events.push_back(Event::Up(identity));
                }
                OwnedNotification::MemberDown(identity) => {
                    self.suspects.remove(&identity.addr);
                    self.heard.remove(&identity.addr);
                    let bump = identity.bump;
                    self.views.insert(identity.addr, View::Down { bump });
                    self.events.push_back(Event::Down(identity));
                }
                OwnedNotification::Rename(before, after) => {
                    if self.is_alive(before.addr) {
                        // The old life is over although nobody had noticed.
                        self.suspects.remove(&before.addr);
                        self.events.push_back(Event::Down(before));
                        self.set_alive(after, now);
                        self.events.push_back(Event::Up(after));
                    }
                }
                OwnedNotification::Defunct => self.events.push_back(Event::Defunct),
                OwnedNotification::Active
                | OwnedNotification::Idle
                | OwnedNotification::Rejoin(_) => {}
            }
        }
        while let Ok(card) = self.cards.try_recv() {
            self.events.push_back(Event::Card(card));
        }
    }

    fn set_alive(&mut self, identity: Identity, now: Duration) {
        let bump = identity.bump;
        self.views.insert(identity.addr, View::Alive { bump });
        self.heard.insert(identity.addr, now);
    }

    fn suspect(&mut self, addr: SocketAddr, now: Duration) {
        self.nonce = self.nonce.wrapping_add(1);
        let timers = self.suspects.get(&addr).map_or(0, |known| known.timers);
        let suspect = Suspect {
            since: now,
            nonce: self.nonce,
            ask: now,
            answered: (self.suspects.get(&addr)).and_then(|known| known.answered),
            timers: timers + 1,
        };
        self.suspects.insert(addr, suspect);
    }

    /// What came of what was done.
    pub(crate) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to tick next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let questions = self.suspects.values().filter_map(Suspect::next_question);
        questions.chain(timer).min()
    }
}
