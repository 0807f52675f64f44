//! What the announcer is told: everything when this process begins to lead, then each change. An
//! address is announced from when its claim is committed until its Service is gone or no longer wants
//! it; that its status shows it is not waited for, so that the first answer comes early.

use super::*;
use crate::core::{
    announce::{Told, Wish},
    settle::{self, Announced},
};

/// What a Service wants announced, and what became of it.
#[derive(Debug)]
pub(super) struct Entry {
    wish: Arc<Wish>,
    told: Option<Told>,
    /// It says that something fails, and has not said so before.
    news: bool,
}

impl Entry {
    fn new(wish: Wish) -> Self {
        Self {
            wish: Arc::new(wish),
            told: None,
            news: false,
        }
    }
}

impl Engine {
    /// Everything at once, from what is held and shown: nothing is taken away only because its pass
    /// has not come yet.
    pub(super) fn announce_all(&mut self) {
        self.announced = self
            .index
            .services()
            .filter_map(|record| {
                let shown: BTreeSet<Number> = record.ingress_numbers().collect();
                let held = self.held_addresses(record).filter(|n| shown.contains(n));
                let wish = self.wish_of(record, held)?;
                Some((record.key.clone(), Entry::new(wish)))
            })
            .collect();
        let wishes = self.announced.values().map(|entry| Arc::clone(&entry.wish));
        self.effects.push(Effect::Announce(Word::All(
            self.policies.clone(),
            wishes.collect(),
        )));
    }

    fn held_addresses<'a>(
        &'a self,
        record: &'a ServiceRecord,
    ) -> impl Iterator<Item = Number> + 'a {
        let held = self.allocator.held_by(&record.uid);
        held.filter(|(_, usage)| *usage == Use::LoadBalancer)
            .map(|(number, _)| number)
    }

    /// What a Service with these addresses wants; `None`: nothing.
    fn wish_of(
        &self,
        record: &ServiceRecord,
        addresses: impl Iterator<Item = Number>,
    ) -> Option<Wish> {
        if self.policies.is_empty() {
            return None;
        }
        let addresses: BTreeMap<_, _> = addresses
            .filter_map(|number| {
                let mut pools = self.allocator.pools_containing(number);
                let pool = pools.find(|pool| pool.serves(Use::LoadBalancer))?;
                let announced = self.policies.contains_key(&pool.name);
                announced.then_some((number.address()?, pool.name.clone()))
            })
            .collect();
        (!addresses.is_empty()).then(|| Wish {
            key: record.key.clone(),
            uid: record.uid.clone(),
            addresses,
            local: record.traffic_policy == TrafficPolicy::Local,
        })
    }

    /// What a Service wants after a decision whose claims are committed.
    pub(super) fn wish(&mut self, record: &ServiceRecord, address: &Address) {
        let wish = match address {
            Address::Decided { grants, .. } => {
                self.wish_of(record, grants.iter().map(|grant| grant.number))
            }
            Address::Kept => {
                let shown: BTreeSet<Number> = record.ingress_numbers().collect();
                let held = self.held_addresses(record);
                self.wish_of(record, held.filter(|number| shown.contains(number)))
            }
            Address::Later => return,
            Address::NotOurs | Address::Orphaned(_) | Address::Cloud(..) | Address::Leaving(_) => {
                None
            }
        };
        self.announce(&record.key, wish);
    }

    pub(super) fn announce(&mut self, key: &ServiceKey, wish: Option<Wish>) {
        let known = self.announced.get(key).map(|entry| &*entry.wish);
        if known == wish.as_ref() {
            return;
        }
        let Some(wish) = wish else {
            self.announced.remove(key);
            let word = Word::Wish(key.clone(), None);
            self.effects.push(Effect::Announce(word));
            return;
        };
        let mut entry = Entry::new(wish);
        let word = Word::Wish(key.clone(), Some(Arc::clone(&entry.wish)));
        if let Some(old) = self.announced.remove(key) {
            // What was said of other addresses, or of another Service of this name, is void.
            entry.told = old.told.filter(|told| told.answers(&entry.wish));
            entry.news = old.news && entry.told.is_some();
        }
        self.announced.insert(key.clone(), entry);
        self.effects.push(Effect::Announce(word));
    }

    /// The Service is gone: nobody answers for it any longer.
    pub(super) fn silence(&mut self, key: &ServiceKey, uid: &Uid) {
        let entry = self.announced.get(key);
        if entry.is_some_and(|entry| entry.wish.uid == *uid) {
            self.announce(key, None);
        }
    }

    /// What the Service's status says of the announcing.
    pub(super) fn said(&self, record: &ServiceRecord) -> Announced<'_> {
        match self.announced.get(&record.key) {
            None => Announced::Elsewhere,
            Some(Entry { told: None, .. }) => Announced::Awaited,
            Some(Entry {
                told: Some(told),
                news,
                ..
            }) => Announced::Told(told, *news),
        }
    }

    pub(super) fn told_of_announcing(&mut self, told: Told) {
        let Some(entry) = self.announced.get_mut(&told.key) else {
            return;
        };
        if !told.answers(&entry.wish) || entry.told.as_ref() == Some(&told) {
            return;
        }
        let known = match &entry.told {
            Some(old) => old.failed && old.reason == told.reason,
            // After a restart: the status says what was said before.
            None => (self.index.service(&told.key))
                .is_some_and(|record| settle::says(record, told.reason)),
        };
        entry.news = told.failed && !known;
        let key = told.key.clone();
        entry.told = Some(told);
        self.push(&key);
    }

    /// How pools are announced, from what they say by now.
    pub(super) fn set_policies(&mut self) {
        let pools = self.index.pools().filter(|record| record.pool.is_ok());
        let policies: Policies = pools
            .filter_map(|record| Some((record.name.clone(), record.announce.clone()?)))
            .collect();
        if policies != self.policies {
            self.policies = policies;
            self.effects
                .push(Effect::Announce(Word::Policies(self.policies.clone())));
        }
    }
}
