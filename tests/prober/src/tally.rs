//! What was asked and answered. Pure: the time comes as an argument.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;
use wire::Mac;

/// Somebody says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ip: IpAddr,
    pub(crate) mac: Mac,
    /// Unasked, or told to everybody.
    pub(crate) announcement: bool,
}

/// What an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the address was asked for last.
    pub(crate) asked_at: Option<Duration>,
    /// It came from another than the answer before.
    pub(crate) changed: bool,
}

#[derive(Debug, Default)]
struct Address {
    asked: u64,
    answered: u64,
    asked_at: Option<Duration>,
    /// Whether the last question has its answer.
    settled: bool,
    last: Option<(Mac, Duration)>,
    silence: Silence,
    by: BTreeMap<Mac, Holder>,
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
}

/// What is printed at the end, for one address.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Summary {
    pub(crate) asked: u64,
    /// Questions that had an answer before the next was sent.
    pub(crate) answered: u64,
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
        }
    }

    pub(crate) fn asked(&mut self, ip: IpAddr, now: Duration) {
        if let Some(address) = self.addresses.get_mut(&ip) {
            address.asked += 1;
            address.asked_at = Some(now);
            address.settled = false;
        }
    }

    /// `None`: nothing that was asked for.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Duration) -> Option<Seen> {
        let address = (self.addresses.get_mut(&answer.ip)).filter(|_| answer.mac != self.own)?;
        if !answer.announcement && !std::mem::replace(&mut address.settled, true) {
            address.answered += u64::from(address.asked > 0);
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
        if answer.announcement {
            holder.announcements += 1;
        } else {
            holder.answers += 1;
        }
        Some(Seen {
            asked_at: address.asked_at,
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
mod tests {
    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn ip() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn answer(mac: Mac) -> Answer {
        Answer {
            ip: ip(),
            mac,
            announcement: false,
        }
    }

    #[test]
    fn a_silence_between_two_owners_is_found() {
        let mut tally = Tally::new(&[ip()], ME);
        for at in 0..10 {
            tally.asked(ip(), ms(at * 10));
            match at {
                0..3 => drop(tally.answered(&answer(A), ms(at * 10 + 1))),
                3..8 => {}
                _ => drop(tally.answered(&answer(B), ms(at * 10 + 1))),
            }
        }
        let summary = &tally.summary(ms(100))[&ip()];
        assert_eq!((summary.asked, summary.answered), (10, 5));
        assert_eq!(summary.longest_silence_ms, 60.0);
        assert_eq!(
            (summary.silence_from_ms, summary.silence_to_ms),
            (21.0, 81.0)
        );
        assert_eq!(summary.macs.len(), 2);
        assert_eq!(summary.macs[&A.to_string()].last_ms, 21.0);
        assert_eq!(summary.macs[&B.to_string()].first_ms, 81.0);
    }

    #[test]
    fn two_answers_to_one_question_are_one_answered_question() {
        let mut tally = Tally::new(&[ip()], ME);
        tally.asked(ip(), ms(0));
        let first = tally.answered(&answer(A), ms(1)).unwrap();
        let second = tally.answered(&answer(B), ms(2)).unwrap();
        assert!(first.changed && second.changed);
        assert_eq!(first.asked_at, Some(ms(0)));
        assert_eq!(tally.summary(ms(3))[&ip()].answered, 1);
    }

    #[test]
    fn an_announcement_answers_no_question_but_ends_a_silence() {
        let mut tally = Tally::new(&[ip()], ME);
        tally.asked(ip(), ms(0));
        let announcement = Answer {
            announcement: true,
            ..answer(A)
        };
        tally.answered(&announcement, ms(40)).unwrap();
        let summary = &tally.summary(ms(50))[&ip()];
        assert_eq!(summary.answered, 0);
        assert_eq!(summary.longest_silence_ms, 40.0);
        assert_eq!(summary.macs[&A.to_string()].announcements, 1);
    }

    #[test]
    fn what_it_says_itself_and_what_it_did_not_ask_for_do_not_count() {
        let mut tally = Tally::new(&[ip()], ME);
        assert_eq!(tally.answered(&answer(ME), ms(1)), None);
        let other = Answer {
            ip: [192, 0, 2, 2].into(),
            ..answer(A)
        };
        assert_eq!(tally.answered(&other, ms(1)), None);
    }
}
