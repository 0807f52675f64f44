//! Who is answered, when which address is announced, and who else claims one.
//!
//! It never speaks for an address that it does not own or that is held, nor on a link that is not the
//! address's, and never holds more answers than [`MOST_ANSWERS`]. What to do about a claim is the
//! caller's to decide: [`Responder::hold`], [`Responder::defend`] or [`Responder::disown`].

mod conflict;
mod owned;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{Mac, arp, ndp};
use conflict::{Asked, Heard};
use owned::{Groups, Owned};
pub use schedule::Settings;
use schedule::{Pace, Schedule};

/// Answers that wait to be polled. More than one per frame never arise, so this is reached only by a
/// caller that handles without polling; askers whose answer is dropped ask again.
const MOST_ANSWERS: usize = 1024;

/// An interface that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub id: u32,
    /// Its link-layer address.
    pub mac: Mac,
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where: the index of an interface.
    pub link: u32,
    /// From the Ethernet header on, without padding.
    pub bytes: Vec<u8>,
}

/// Somebody else says that they have an address that we own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub ip: IpAddr,
    /// Where they say it is.
    pub mac: Mac,
    /// Where it was heard.
    pub link: u32,
}

/// An answer that waits to be polled: it is made only then, if the address is still ours.
#[derive(Clone, Copy, Debug)]
struct Answer {
    link: u32,
    asked: Asked,
}

/// One frame of an announcement.
#[derive(Clone, Copy, Debug)]
struct Announcement {
    ip: IpAddr,
    link: u32,
    reply: bool,
    /// The last one of a round on all links.
    completes: bool,
}

/// Answers for owned addresses, announces them, and tells of claims by others. Sans-IO: frames and the
/// time go in, frames come out of [`Self::poll`].
#[derive(Debug)]
pub struct Responder {
    pace: Pace,
    links: BTreeMap<u32, Mac>,
    owned: FxHashMap<IpAddr, Owned>,
    groups: Groups,
    schedule: Schedule,
    /// What is left of the rounds that have begun, and defences.
    announcements: VecDeque<Announcement>,
    answers: VecDeque<Answer>,
    /// Answers and announcements take turns: neither can starve the other.
    answered_last: bool,
    answered: u64,
}

impl Responder {
    /// One that owns nothing. `seed` spreads what is repeated.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            pace: Pace::new(settings, seed),
            links: BTreeMap::new(),
            owned: FxHashMap::default(),
            groups: Groups::default(),
            schedule: Schedule::default(),
            announcements: VecDeque::new(),
            answers: VecDeque::new(),
            answered_last: false,
            answered: 0,
        }
    }

    /// The interfaces that may be used from now on. An owned address whose link came, or got another
    /// link-layer address, is announced again.
    pub fn set_links(&mut self, links: &[Link]) {
        let links: BTreeMap<u32, Mac> = links.iter().map(|link| (link.id, link.mac)).collect();
        let before = std::mem::replace(&mut self.links, links);
        if before == self.links {
            return;
        }
        let fresh: Vec<u32> = (self.links.iter())
            .filter(|(id, mac)| before.get(id) != Some(mac))
            .map(|(id, _)| *id)
            .collect();
        for (ip, owned) in &mut self.owned {
            if fresh.iter().any(|link| owned.is_on(*link)) {
                // The time is not known here, and any poll comes after zero.
                owned.restart(Duration::ZERO);
            }
            owned.reschedule(*ip, &self.links, &mut self.schedule);
        }
    }

    /// Owns an address on these links, and begins a burst of announcements. Of an address that is
    /// owned already, the links are replaced; with no new one among them, there is no burst.
    pub fn own(&mut self, ip: IpAddr, links: &[u32], now: Duration) {
        let owned = self.owned.entry(ip).or_default();
        let (came, went) = owned.set_links(links);
        if !came.is_empty() || !owned.has_begun() {
            owned.announced = false;
            owned.restart(now);
        }
        owned.reschedule(ip, &self.links, &mut self.schedule);
        if let IpAddr::V6(ip) = ip {
            self.groups.change(ip, &came, &went);
        }
    }

    /// Begins a burst again: clients may remember somebody else.
    pub fn announce_again(&mut self, ip: IpAddr, now: Duration) {
        if let Some(owned) = self.owned.get_mut(&ip) {
            owned.restart(now);
            owned.reschedule(ip, &self.links, &mut self.schedule);
        }
    }

    /// Is silent for an address from now on.
    pub fn disown(&mut self, ip: IpAddr) {
        let Some(owned) = self.owned.remove(&ip) else {
            return;
        };
        self.schedule.remove(ip);
        self.announcements.retain(|waiting| waiting.ip != ip);
        // Who asked before would be answered when it is owned again.
        self.answers.retain(|waiting| waiting.asked.ip() != ip);
        if let IpAddr::V6(ip) = ip {
            let links: Vec<u32> = owned.links().collect();
            self.groups.change(ip, &[], &links);
        }
    }

    /// Is silent for an owned address until then. What was to be announced is announced then. The
    /// last call counts: an earlier time shortens the silence.
    pub fn hold(&mut self, ip: IpAddr, until: Duration) {
        if let Some(owned) = self.owned.get_mut(&ip) {
            owned.held_until = until;
            owned.reschedule(ip, &self.links, &mut self.schedule);
        }
    }

    /// Announces an owned address once and at once on the link where somebody else claimed it, unless
    /// that was done less than `defend_interval` ago (RFC 5227 2.4 (c)).
    pub fn defend(&mut self, ip: IpAddr, link: u32, now: Duration) {
        let interval = self.pace.settings().defend_interval;
        let Some(owned) = self.owned.get_mut(&ip) else {
            return;
        };
        if self.links.contains_key(&link) && owned.may_defend(link, interval, now) {
            self.announcements.extend(announce(ip, link));
        }
    }

    /// Hears a frame. An answer to it waits to be polled.
    pub fn handle(&mut self, link: u32, frame: &[u8], now: Duration) -> Option<Claim> {
        let own = *self.links.get(&link)?;
        let heard = Heard::read(frame)?;
        if heard.stations().any(|mac| self.is_ours(mac)) {
            return None;
        }
        if let Some(asked) = heard.asked(own)
            && let Some(owned) = self.owned.get(&asked.ip())
            && owned.is_on(link)
            && !owned.is_held(now)
            && self.answers.len() < MOST_ANSWERS
        {
            self.answers.push_back(Answer { link, asked });
        }
        let (ip, mac) = heard.claimed()?;
        let owned = self.owned.get(&ip)?;
        owned.is_on(link).then_some(Claim { ip, mac, link })
    }

    /// The next frame to send, if any is due. To be called until there is none.
    pub fn poll(&mut self, now: Duration) -> Option<Frame> {
        let frame = if self.answered_last {
            (self.next_announcement(now)).or_else(|| self.next_answer(now))
        } else {
            (self.next_answer(now)).or_else(|| self.next_announcement(now))
        };
        if frame.is_none() {
            self.answered_last = false;
        }
        frame
    }

    /// When to poll next; a time that has passed means at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.answers.is_empty() && self.announcements.is_empty() {
            self.schedule.first()
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Whether a whole announcement, on every usable link, was handed out since the address was owned
    /// (or owned on one more link).
    #[must_use]
    pub fn has_announced(&self, ip: IpAddr) -> bool {
        self.owned.get(&ip).is_some_and(|owned| owned.announced)
    }

    /// The solicited-node groups that must be joined on each usable link so that solicitations for
    /// owned addresses are heard, in ascending order, each once.
    pub fn groups(&self) -> impl Iterator<Item = (u32, Ipv6Addr)> + '_ {
        (self.groups.iter()).filter(|(link, _)| self.links.contains_key(link))
    }

    /// How many answers were handed out.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.answered
    }

    fn is_ours(&self, mac: Mac) -> bool {
        self.links.values().any(|own| *own == mac)
    }

    /// Our link-layer address on a link, if we may speak for the address there now.
    fn voice(&self, ip: IpAddr, link: u32, now: Duration) -> Option<Mac> {
        let owned = self.owned.get(&ip)?;
        let mac = *self.links.get(&link)?;
        (owned.is_on(link) && !owned.is_held(now)).then_some(mac)
    }

    fn next_answer(&mut self, now: Duration) -> Option<Frame> {
        while let Some(Answer { link, asked }) = self.answers.pop_front() {
            if let Some(mac) = self.voice(asked.ip(), link, now) {
                self.answered = self.answered.saturating_add(1);
                self.answered_last = true;
                let bytes = asked.answer(mac);
                return Some(Frame { link, bytes });
            }
        }
        None
    }

    fn next_announcement(&mut self, now: Duration) -> Option<Frame> {
        loop {
            while let Some(next) = self.announcements.pop_front() {
                let Some(mac) = self.voice(next.ip, next.link, now) else {
                    self.begin_anew(next.ip, now);
                    continue;
                };
                if next.completes
                    && let Some(owned) = self.owned.get_mut(&next.ip)
                {
                    owned.announced = true;
                }
                self.answered_last = false;
                let bytes = written(next.ip, mac, next.reply);
                let link = next.link;
                return Some(Frame { link, bytes });
            }
            self.begin_round(now)?;
        }
    }

    /// A frame of a round could not be handed out: until a whole round was, the address counts as not
    /// announced, so the next must not wait.
    fn begin_anew(&mut self, ip: IpAddr, now: Duration) {
        let Some(owned) = self.owned.get_mut(&ip) else {
            return;
        };
        if !owned.announced {
            self.announcements.retain(|waiting| waiting.ip != ip);
            owned.restart(now);
            owned.reschedule(ip, &self.links, &mut self.schedule);
        }
    }

    /// Puts the frames of the round that is due longest into the queue.
    fn begin_round(&mut self, now: Duration) -> Option<()> {
        let ip = self.schedule.due(now)?;
        let Some(owned) = self.owned.get_mut(&ip) else {
            self.schedule.remove(ip);
            return Some(());
        };
        let links = owned.links().filter(|link| self.links.contains_key(link));
        self.announcements
            .extend(links.flat_map(|link| announce(ip, link)));
        if let Some(last) = self.announcements.back_mut() {
            last.completes = true;
        }
        owned.advance(&mut self.pace, now);
        owned.reschedule(ip, &self.links, &mut self.schedule);
        Some(())
    }
}

/// The frames that announce an address once on one link.
fn announce(ip: IpAddr, link: u32) -> impl Iterator<Item = Announcement> {
    let one = |reply| Announcement {
        ip,
        link,
        reply,
        completes: false,
    };
    let again = ip.is_ipv4().then(|| one(true));
    std::iter::once(one(false)).chain(again)
}

fn written(ip: IpAddr, mac: Mac, reply: bool) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) if reply => arp::Packet::gratuitous_reply(mac, ip).write(),
        IpAddr::V4(ip) => arp::Packet::announcement(mac, ip).write(),
        IpAddr::V6(ip) => ndp::Message::announcement(mac, ip).write(),
    }
}
