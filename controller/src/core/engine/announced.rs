//! What the announcer is told: everything when this process begins to lead, then each change. An
//! address is announced from when its claim is committed until its Service is gone or no longer wants
//! it; that its status shows it is not waited for, so that the first answer comes early.

use super::*;
use crate::core::settle::Announced;

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
                Some((record.key.clone(), (Arc::new(wish), None)))
            })
            .collect();
        let wishes = self.announced.values().map(|(wish, _)| Arc::clone(wish));
        self.effects.push(Effect::Announce(Word::All(
            self.policies.clone(),
            wishes.collect(),
        )));
    }

    fn held_addresses<'a>(&'a self, record: &'a ServiceRecord) -> impl Iterator<Item = Number> + 'a {
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
            Address::NotOurs
            | Address::Orphaned(_)
            | Address::Cloud(..)
            | Address::Leaving(_) => None,
        };
        self.announce(&record.key, wish);
    }

    pub(super) fn announce(&mut self, key: &ServiceKey, wish: Option<Wish>) {
        let known = self.announced.get(key);
        if known.map(|(wish, _)| &**wish) == wish.as_ref() {
            return;
        }
        let wish = wish.map(Arc::new);
        match &wish {
            Some(wish) => {
                // What was said of other addresses, or of another Service of this name, is void.
                let told = known.and_then(|(_, told)| told.clone());
                let told = told.filter(|told| told.answers(wish));
                self.announced.insert(key.clone(), (Arc::clone(wish), told));
            }
            None => drop(self.announced.remove(key)),
        }
        self.effects
            .push(Effect::Announce(Word::Wish(key.clone(), wish)));
    }

    /// The Service is gone: nobody answers for it any longer.
    pub(super) fn silence(&mut self, key: &ServiceKey, uid: &Uid) {
        if (self.announced.get(key)).is_some_and(|(wish, _)| wish.uid == *uid) {
            self.announce(key, None);
        }
    }

    /// What the Service's status says of the announcing.
    pub(super) fn said(&self, record: &ServiceRecord) -> Announced<'_> {
        match self.announced.get(&record.key) {
            None => Announced::Elsewhere,
            Some((_, None)) => Announced::Awaited,
            Some((_, Some(told))) => Announced::Told(told),
        }
    }

    pub(super) fn announced(&mut self, told: Told) {
        let Some((wish, known)) = self.announced.get_mut(&told.key) else {
            return;
        };
        if !told.answers(wish) || known.as_ref() == Some(&told) {
            return;
        }
        let key = told.key.clone();
        *known = Some(told);
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
