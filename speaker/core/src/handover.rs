//! What this node answers for, and what of it it is handing over. The old owner drives: it goes on
//! answering and offers until the new one says that it has announced. So a planned move has no gap,
//! whatever is lost; for an instant both answer, with the new one's announcement the last word.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::ownership::Key;

#[cfg(test)]
mod tests;

/// How often what was not taken is offered again.
const OFFER_EVERY: Duration = Duration::from_millis(50);

/// Where one address is answered for.
pub(crate) type Place = (IpAddr, Vec<u32>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Owned,
    /// To whom (None: nobody can take it, and we leave), and when to offer next.
    Ceding {
        to: Option<Arc<str>>,
        next: Duration,
    },
}

/// An announcement that this node answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Its addresses, and where.
    pub(crate) places: Vec<Place>,
    /// Since when, in Unix milliseconds.
    pub(crate) since: i64,
    state: State,
}

/// What to do about an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Stay,
    /// Begin to answer and announce.
    Take,
    /// Go on answering, and announce: somebody else may have begun to.
    Resume,
    /// Be silent.
    Drop,
}

/// Everything that this node answers for.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    all: FxHashMap<Key, Holding>,
    ceding: BTreeSet<Key>,
    /// Which holdings an address is in: two for an instant when it moves to another group.
    of_ip: FxHashMap<IpAddr, Vec<Key>>,
}

impl Holdings {
    /// What a new owner means. `is_leaving`: what nobody can take is answered to the end.
    pub(crate) fn decide(
        &mut self,
        key: Key,
        owner: Option<&Arc<str>>,
        is_me: bool,
        is_leaving: bool,
        now: Duration,
    ) -> Step {
        let Some(holding) = self.all.get_mut(&key) else {
            return if is_me { Step::Take } else { Step::Stay };
        };
        if is_me {
            let before = std::mem::replace(&mut holding.state, State::Owned);
            self.ceding.remove(&key);
            return match before {
                State::Owned => Step::Stay,
                State::Ceding { .. } => Step::Resume,
            };
        }
        if owner.is_none() && !is_leaving {
            return Step::Drop;
        }
        let is_offered = matches!(&holding.state, State::Ceding { to, .. } if to.as_ref() == owner);
        if !is_offered {
            holding.state = State::Ceding {
                to: owner.cloned(),
                next: now,
            };
            self.ceding.insert(key);
        }
        Step::Stay
    }

    /// It answers for that announcement at those places.
    pub(crate) fn place(&mut self, key: Key, places: Vec<Place>, wall: i64) {
        let holding = self.all.entry(key).or_insert(Holding {
            places: Vec::new(),
            since: wall,
            state: State::Owned,
        });
        let before = std::mem::replace(&mut holding.places, places);
        let after: Vec<IpAddr> = holding.places.iter().map(|(ip, _)| *ip).collect();
        for (ip, _) in &before {
            if !after.contains(ip) {
                self.unlist(*ip, key);
            }
        }
        for ip in after {
            let keys = self.of_ip.entry(ip).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    /// It is silent for that announcement.
    pub(crate) fn drop(&mut self, key: Key) -> Option<Holding> {
        let holding = self.all.remove(&key)?;
        self.ceding.remove(&key);
        holding
            .places
            .iter()
            .for_each(|(ip, _)| self.unlist(*ip, key));
        Some(holding)
    }

    fn unlist(&mut self, ip: IpAddr, key: Key) {
        if let Some(keys) = self.of_ip.get_mut(&ip) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.of_ip.remove(&ip);
            }
        }
    }

    /// Where an address is answered for, if it is.
    pub(crate) fn places_of(&self, ip: IpAddr) -> Option<Vec<u32>> {
        let keys = self.of_ip.get(&ip)?;
        let places = keys.iter().filter_map(|key| self.all.get(key));
        let mut links: Vec<u32> = places
            .flat_map(|holding| &holding.places)
            .filter(|(other, _)| *other == ip)
            .flat_map(|(_, links)| links.iter().copied())
            .collect();
        links.sort_unstable();
        links.dedup();
        Some(links)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Holding> {
        self.all.get(&key)
    }

    /// Whether it is ours to keep.
    pub(crate) fn owns(&self, key: Key) -> bool {
        (self.all.get(&key)).is_some_and(|holding| holding.state == State::Owned)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Holding)> {
        self.all.iter().map(|(key, holding)| (*key, holding))
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.all.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn addresses(&self) -> usize {
        self.of_ip.len()
    }

    /// Whether something waits for a successor.
    pub(crate) fn is_ceding(&self) -> bool {
        let mut ceding = self.ceding.iter().filter_map(|key| self.all.get(key));
        ceding.any(|holding| matches!(holding.state, State::Ceding { to: Some(_), .. }))
    }

    /// What is to be offered to whom now.
    pub(crate) fn offers(&mut self, now: Duration) -> Vec<(Arc<str>, Vec<Key>)> {
        let mut offers: Vec<(Arc<str>, Vec<Key>)> = Vec::new();
        for key in &self.ceding {
            if let Some(holding) = self.all.get_mut(key)
                && let State::Ceding { to: Some(to), next } = &mut holding.state
                && *next <= now
            {
                *next = now + OFFER_EVERY;
                match offers.iter_mut().find(|(node, _)| node == to) {
                    Some((_, keys)) => keys.push(*key),
                    None => offers.push((to.clone(), vec![*key])),
                }
            }
        }
        offers
    }

    /// When to offer next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let ceding = self.ceding.iter().filter_map(|key| self.all.get(key));
        let next = |holding: &Holding| match &holding.state {
            State::Ceding { to: Some(_), next } => Some(*next),
            State::Ceding { to: None, .. } | State::Owned => None,
        };
        ceding.filter_map(next).min()
    }

    /// Which of these that node may take: those that are being handed to it.
    pub(crate) fn taken(&self, by: &Arc<str>, keys: &[Key]) -> Vec<Key> {
        let is_for = |key: &Key| {
            (self.all.get(key)).is_some_and(
                |holding| matches!(&holding.state, State::Ceding { to: Some(to), .. } if to == by),
            )
        };
        keys.iter().copied().filter(is_for).collect()
    }
}
