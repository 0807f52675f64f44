//! What was asked and answered. Pure: the time comes as an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use serde::Serialize;
use wire::Mac;

/// A question without an answer for so long has none: clients have asked again, or given up.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Somebody says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ip: IpAddr,
    pub(crate) mac: Mac,
    /// Who had asked; `None`: it is an announcement, unasked or told to everybody.
    pub(crate) to: Option<IpAddr>,
}

/// What an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the question was sent that it answers.
    pub(crate) asked_at: Option<Duration>,
    /// It came from another than the answer before.
    pub(crate) changed: bool,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) ip: IpAddr,
    /// When it was sent.
    pub(crate) at: Duration,
}

/// The last question of a source.
#[derive(Clone, Copy, Debug)]
struct Question {
    at: Duration,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct Address {
    asked: u64,
    answered: u64,
    unanswered: u64,
    slowest: Duration,
    /// By source, those whose patience is not over.
    questions: BTreeMap<IpAddr, Question>,
    last: Option<(Mac, Duration)>,
    silence: Silence,
    by: BTreeMap<Mac, Holder>,
}

impl Address {
    /// That question counts no more.
    fn gives_up(&mut self, ip: IpAddr, question: Question) -> Option<Unanswered> {
        self.unanswered += u64::from(!question.is_answered);
        let at = question.at;
        (!question.is_answered).then_some(Unanswered { ip, at })
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Silence {
    from: Duration,
    to: Duration,
}

impl Silence {
    fn longest(self, from: Duration, to: Duration) -> Self {
        if to.saturating_sub(from) > self.to.saturating_sub(self.from) {
            Self { from, to }
        } else {
            self
        }
    }
}

#[derive(Debug)]
struct Holder {
    answers: u64,
    announcements: u64,
    first: Duration,
    last: Duration,
}

/// All that happened.
#[derive(Debug)]
pub(crate) struct Tally {
    own: Mac,
    addresses: BTreeMap<IpAddr, Address>,
    /// All questions whose patience is not over, the oldest first: address, source, when.
    waiting: VecDeque<(IpAddr, IpAddr, Duration)>,
}

/// What is printed at the end, for one address.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Summary {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) unanswered: u64,
    /// Questions without an answer at the end, whose patience was not over.
    pub(crate) open: u64,
    pub(crate) slowest_ms: f64,
    pub(crate) longest_silence_ms: f64,
    pub(crate) silence_from_ms: f64,
    pub(crate) silence_to_ms: f64,
    pub(crate) macs: BTreeMap<String, ByMac>,
}

/// What is printed at the end, for one hardware address.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct ByMac {
    pub(crate) answers: u64,
    pub(crate) announcements: u64,
    pub(crate) first_ms: f64,
    pub(crate) last_ms: f64,
}

impl Tally {
    /// What `own` says is not counted.
    pub(crate) fn new(addresses: &[IpAddr], own: Mac) -> Self {
        let addresses = addresses.iter().map(|ip| (*ip, Address::default()));
        Self {
            own,
            addresses: addresses.collect(),
            waiting: VecDeque::new(),
        }
    }

    /// Asked for `ip` from that source. What was asked from there before can have no answer any more.
    pub(crate) fn asked(&mut self, ip: IpAddr, from: IpAddr, now: Duration) -> Option<Unanswered> {
        let address = self.addresses.get_mut(&ip)?;
        address.asked += 1;
        self.waiting.push_back((ip, from, now));
        let question = Question {
            at: now,
            is_answered: false,
        };
        let before = address.questions.insert(from, question)?;
        address.gives_up(ip, before)
    }

    /// Questions whose patience is over by now.
    pub(crate) fn overdue(&mut self, now: Duration) -> Vec<Unanswered> {
        let mut all = Vec::new();
        while let Some((ip, from, at)) = self.waiting.front().copied()
            && now.saturating_sub(at) >= PATIENCE
        {
            self.waiting.pop_front();
            let Some(address) = self.addresses.get_mut(&ip) else {
                continue;
            };
            if address.questions.get(&from).is_some_and(|of| of.at == at)
                && let Some(question) = address.questions.remove(&from)
            {
                all.extend(address.gives_up(ip, question));
            }
        }
        all
    }

    /// `None`: nothing that was asked for.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Duration) -> Option<Seen> {
        let address = (self.addresses.get_mut(&answer.ip)).filter(|_| answer.mac != self.own)?;
        let question = answer.to.and_then(|to| address.questions.get_mut(&to));
        let asked_at = question.as_ref().map(|question| question.at);
        if let Some(question) = question
            && !std::mem::replace(&mut question.is_answered, true)
        {
            address.answered += 1;
            address.slowest = address.slowest.max(now.saturating_sub(question.at));
        }
        let (before, since) = address.last.unzip();
        address.last = Some((answer.mac, now));
        address.silence = (address.silence).longest(since.unwrap_or_default(), now);
        let holder = address.by.entry(answer.mac).or_insert(Holder {
            answers: 0,
            announcements: 0,
            first: now,
            last: now,
        });
        holder.last = now;
        if answer.to.is_none() {
            holder.announcements += 1;
        } else {
            holder.answers += 1;
        }
        Some(Seen {
            asked_at,
            changed: before != Some(answer.mac),
        })
    }

    pub(crate) fn summary(&self, end: Duration) -> BTreeMap<IpAddr, Summary> {
        let one = |address: &Address| {
            let since = address.last.map(|(_, at)| at).unwrap_or_default();
            let silence = address.silence.longest(since, end);
            let holder = |(mac, holder): (&Mac, &Holder)| {
                let by = ByMac {
                    answers: holder.answers,
                    announcements: holder.announcements,
                    first_ms: crate::millis(holder.first),
                    last_ms: crate::millis(holder.last),
                };
                (mac.to_string(), by)
            };
            Summary {
                asked: address.asked,
                answered: address.answered,
                unanswered: address.unanswered,
                open: address.asked - address.answered - address.unanswered,
                slowest_ms: crate::millis(address.slowest),
                longest_silence_ms: crate::millis(silence.to.saturating_sub(silence.from)),
                silence_from_ms: crate::millis(silence.from),
                silence_to_ms: crate::millis(silence.to),
                macs: address.by.iter().map(holder).collect(),
            }
        };
        (self.addresses.iter())
            .map(|(ip, address)| (*ip, one(address)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
