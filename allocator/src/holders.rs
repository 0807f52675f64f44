//! Who holds what, and in which pools it lies. Keeps counts as it goes; decides nothing.
//!
//! A full /16 fits into 8 MiB: a hold is one slot of a slab, found from its number through the
//! [`NumberSpace`] (4 bytes) and from its uid through a table of slots (5 bytes); the slots of one
//! uid are chained.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    sync::Arc,
};

use hashbrown::{
    HashTable,
    hash_table::Entry::{Occupied, Vacant},
};
use model::{Number, ServiceKey, Space, Uid, Use};
use rustc_hash::FxBuildHasher;

use crate::{
    NumberSpace, Pool, PoolState, RangeSet,
    block::{BLOCK_SIZE, BlockId, Holder},
    entry::{Entry, PerSpace, Stretch, count, positions, states, stretches},
    slab::{Body, NONE, RETAINED, Slab},
};

/// Pools and holders.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    /// In the order of selection: higher priority, then name.
    pools: Vec<Entry>,
    /// Which pools a number lies in, as sorted disjoint stretches.
    stretches: PerSpace<Vec<Stretch>>,
    /// What is taken, and the slot of who has it or [`RETAINED`].
    taken: PerSpace<NumberSpace<u32>>,
    slab: Slab,
    /// The first slot of each uid.
    uids: HashTable<u32>,
    /// Sharing key to the numbers that carry it.
    shared: BTreeMap<Arc<str>, BTreeSet<Number>>,
    retained: BTreeMap<Number, (ServiceKey, i64)>,
    /// By when it ends.
    retained_until: BTreeSet<(i64, Number)>,
    retained_for: BTreeMap<ServiceKey, BTreeSet<Number>>,
    quarantined: BTreeSet<BlockId>,
}

/// What a pool has and has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolUsage {
    /// IPv4 addresses.
    pub v4: UsageCounts,
    /// IPv6 addresses.
    pub v6: UsageCounts,
    /// Ports.
    pub ports: UsageCounts,
}

/// Counts of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UsageCounts {
    /// That may be handed out.
    pub capacity: u128,
    /// That Services hold, reserved ones included.
    pub claimed: u128,
    /// That are kept for their former owner.
    pub retained: u128,
    /// That can still be handed out.
    pub available: u128,
}

impl Allocator {
    /// No pools, no holders.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the pools. What is held stays held.
    pub fn set_pools(&mut self, pools: Vec<Pool>) {
        let states = states(&pools);
        self.pools = pools
            .into_iter()
            .zip(states)
            .map(|(pool, state)| Entry {
                stock: PerSpace::from_fn(|space| pool.stock(space)),
                counts: PerSpace::default(),
                pool,
                state,
            })
            .collect();
        self.pools.sort_by(|a, b| {
            (b.pool.priority.cmp(&a.pool.priority)).then_with(|| a.pool.name.cmp(&b.pool.name))
        });
        self.stretches = PerSpace::from_fn(|space| stretches(&self.pools, space));
        for space in [Space::V4, Space::V6, Space::Port] {
            for (value, &slot) in self.taken.of(space).iter() {
                let is_retained = slot == RETAINED;
                count(
                    &mut self.pools,
                    &self.stretches,
                    Number { space, value },
                    |counts, in_stock| {
                        if is_retained {
                            counts.retained += 1;
                        } else {
                            counts.claimed += 1;
                        }
                        counts.gone += u64::from(in_stock);
                    },
                );
            }
        }
    }

    /// The pools in the order of selection: higher priority, then name.
    pub fn pools(&self) -> impl Iterator<Item = (&Pool, &PoolState)> {
        self.pools.iter().map(|entry| (&entry.pool, &entry.state))
    }

    /// The pool of that name, of those that give such numbers: pools of addresses and of ports are
    /// of two kinds and may have one name.
    pub fn pool(&self, name: &str, usage: Use) -> Option<(&Pool, &PoolState)> {
        self.entry(name, usage)
            .map(|entry| (&entry.pool, &entry.state))
    }

    pub(crate) fn entry(&self, name: &str, usage: Use) -> Option<&Entry> {
        let of_ports = |pool: &Pool| pool.serves(Use::NodePort);
        let wanted = match usage {
            Use::LoadBalancer | Use::ClusterIp => false,
            Use::NodePort | Use::HealthCheckNodePort => true,
        };
        (self.pools.iter())
            .find(|entry| &*entry.pool.name == name && of_ports(&entry.pool) == wanted)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.pools.iter()
    }

    pub(crate) fn entries_containing(&self, number: Number) -> impl Iterator<Item = &Entry> {
        positions(&self.stretches, number)
            .iter()
            .filter_map(|&position| self.pools.get(position as usize))
    }

    /// The pools that the number lies in, reserved or not; several only when they overlap.
    pub fn pools_containing(&self, number: Number) -> impl Iterator<Item = &Pool> {
        self.entries_containing(number).map(|entry| &entry.pool)
    }

    /// Notes a holder. The same uid and use again replaces `at` and `sharing`. Ends a retention.
    pub fn hold(&mut self, number: Number, holder: Holder) {
        if let Some(sharing) = &holder.sharing {
            self.shared
                .entry(sharing.key.clone())
                .or_default()
                .insert(number);
        }
        let slot = self.slab.next_free();
        match self.taken.of_mut(number.space).put(number.value, slot) {
            None => {
                count(
                    &mut self.pools,
                    &self.stretches,
                    number,
                    |counts, in_stock| {
                        counts.claimed += 1;
                        counts.gone += u64::from(in_stock);
                    },
                );
                self.fill_and_chain(number, holder);
            }
            Some(RETAINED) => {
                self.forget_retention(number);
                count(&mut self.pools, &self.stretches, number, |counts, _| {
                    counts.retained = counts.retained.saturating_sub(1);
                    counts.claimed += 1;
                });
                self.fill_and_chain(number, holder);
            }
            Some(before) => {
                self.taken.of_mut(number.space).put(number.value, before);
                self.join(number, before, holder);
            }
        }
    }

    fn fill_and_chain(&mut self, number: Number, holder: Holder) {
        let hash = Self::hash(&holder.uid);
        let slot = self.slab.fill(number, Body::One(holder));
        self.chain(hash, slot);
    }

    /// A further holder of a number that has some, or new terms of one.
    fn join(&mut self, number: Number, slot: u32, holder: Holder) {
        let known = self
            .slab
            .holders_mut(slot)
            .iter_mut()
            .find(|known| known.uid == holder.uid && known.usage == holder.usage);
        if let Some(known) = known {
            let before = std::mem::replace(known, holder);
            if let Some(sharing) = before.sharing {
                self.forget_key(&sharing.key, number);
            }
            return;
        }
        let part = Body::Part {
            uid: holder.uid.clone(),
            usage: holder.usage,
        };
        let hash = Self::hash(&holder.uid);
        if let Some(group) = self.slab.make_group(slot) {
            self.taken.of_mut(number.space).put(number.value, group);
            self.slab.push_holder(group, holder);
        } else {
            self.slab.push_holder(slot, holder);
        }
        let part = self.slab.fill(number, part);
        self.chain(hash, part);
    }

    /// Removes a holder; false if there was no such one.
    pub fn unhold(&mut self, number: Number, uid: &Uid, usage: Use) -> bool {
        let Some(&slot) = self.taken.of(number.space).get(number.value) else {
            return false;
        };
        if slot == RETAINED {
            return false;
        }
        let Some(position) = self
            .slab
            .holders(slot)
            .iter()
            .position(|holder| holder.uid == *uid && holder.usage == usage)
        else {
            return false;
        };
        if let Some(own) = self.unchain(number, uid, usage) {
            if own == slot {
                let body = self.slab.empty(slot);
                self.vacate(number);
                if let Body::One(holder) = body
                    && let Some(sharing) = holder.sharing
                {
                    self.forget_key(&sharing.key, number);
                }
                return true;
            }
            self.slab.empty(own);
        }
        let (removed, left) = self.slab.remove_holder(slot, position);
        if left == 0 {
            self.slab.empty(slot);
            self.vacate(number);
        }
        if let Some(sharing) = removed.and_then(|holder| holder.sharing) {
            self.forget_key(&sharing.key, number);
        }
        true
    }

    fn vacate(&mut self, number: Number) {
        self.taken.of_mut(number.space).take(number.value);
        count(
            &mut self.pools,
            &self.stretches,
            number,
            |counts, in_stock| {
                counts.claimed = counts.claimed.saturating_sub(1);
                counts.gone = counts.gone.saturating_sub(u64::from(in_stock));
            },
        );
    }

    /// The key no longer leads to the number, unless another holder has it.
    fn forget_key(&mut self, key: &Arc<str>, number: Number) {
        let still = self
            .holders(number)
            .iter()
            .any(|holder| holder.sharing.as_ref().is_some_and(|s| s.key == *key));
        if still {
            return;
        }
        if let Some(numbers) = self.shared.get_mut(key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.shared.remove(key);
            }
        }
    }

    /// Keeps a number that nobody holds for a former owner until then (Unix seconds). Does nothing
    /// to a number that is held.
    pub fn retain(&mut self, number: Number, owner: ServiceKey, until: i64) {
        match self.taken.of(number.space).get(number.value) {
            Some(&RETAINED) => self.forget_retention(number),
            Some(_) => return,
            None => {
                self.taken.of_mut(number.space).put(number.value, RETAINED);
                count(
                    &mut self.pools,
                    &self.stretches,
                    number,
                    |counts, in_stock| {
                        counts.retained += 1;
                        counts.gone += u64::from(in_stock);
                    },
                );
            }
        }
        self.retained_until.insert((until, number));
        self.retained_for
            .entry(owner.clone())
            .or_default()
            .insert(number);
        self.retained.insert(number, (owner, until));
    }

    /// Ends a retention.
    pub fn unretain(&mut self, number: Number) {
        if !self.retained.contains_key(&number) {
            return;
        }
        self.forget_retention(number);
        self.taken.of_mut(number.space).take(number.value);
        count(
            &mut self.pools,
            &self.stretches,
            number,
            |counts, in_stock| {
                counts.retained = counts.retained.saturating_sub(1);
                counts.gone = counts.gone.saturating_sub(u64::from(in_stock));
            },
        );
    }

    fn forget_retention(&mut self, number: Number) {
        let Some((owner, until)) = self.retained.remove(&number) else {
            return;
        };
        self.retained_until.remove(&(until, number));
        if let Some(numbers) = self.retained_for.get_mut(&owner) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.retained_for.remove(&owner);
            }
        }
    }

    /// For whom the number is kept and until when.
    pub fn retained(&self, number: Number) -> Option<(&ServiceKey, i64)> {
        self.retained
            .get(&number)
            .map(|(owner, until)| (owner, *until))
    }

    /// What is kept for a Service of that name, lowest first.
    pub fn retained_for(&self, owner: &ServiceKey) -> impl Iterator<Item = Number> {
        self.retained_for.get(owner).into_iter().flatten().copied()
    }

    /// Every number that is kept for somebody.
    pub fn all_retained(&self) -> impl Iterator<Item = (Number, &ServiceKey, i64)> {
        self.retained
            .iter()
            .map(|(&number, (owner, until))| (number, owner, *until))
    }

    /// The numbers whose retention has ended by then, first ended first.
    pub fn expired(&self, now: i64) -> Vec<Number> {
        self.retained_until
            .iter()
            .take_while(|(until, _)| *until <= now)
            .map(|&(_, number)| number)
            .collect()
    }

    /// When the next retention ends that has not by then (Unix seconds).
    pub fn next_expiry(&self, now: i64) -> Option<i64> {
        let last = |until: &&(i64, Number)| until.0 > now;
        self.retained_until
            .iter()
            .find(last)
            .map(|&(until, _)| until)
    }

    /// Nothing of the block is handed out from now on, because what it records cannot be read.
    pub fn quarantine(&mut self, block: BlockId) {
        self.quarantined.insert(block);
    }

    /// The block can be read again.
    pub fn lift_quarantine(&mut self, block: BlockId) {
        self.quarantined.remove(&block);
    }

    /// Whether nothing of the block is handed out.
    pub fn is_quarantined(&self, block: BlockId) -> bool {
        self.quarantined.contains(&block)
    }

    pub(crate) fn has_quarantine(&self, space: Space) -> bool {
        self.quarantined.iter().any(|block| block.space == space)
    }

    /// Who holds the number, the longest holder first.
    pub fn holders(&self, number: Number) -> &[Holder] {
        match self.taken.of(number.space).get(number.value) {
            Some(&slot) => self.slab.holders(slot),
            None => &[],
        }
    }

    /// Whether anybody holds the number or it is kept for somebody.
    pub fn is_taken(&self, number: Number) -> bool {
        self.taken.of(number.space).contains(number.value)
    }

    /// The lowest number of the set that is free, whatever the pools say.
    pub fn next_free(&self, space: Space, set: &RangeSet) -> Option<Number> {
        let value = self.taken.of(space).next_free(set)?;
        Some(Number { space, value })
    }

    pub(crate) fn space(&self, space: Space) -> &NumberSpace<u32> {
        self.taken.of(space)
    }

    pub(crate) fn sharing(&self, key: &str) -> impl Iterator<Item = Number> {
        self.shared.get(key).into_iter().flatten().copied()
    }

    /// What the uid holds and for what, in no particular order.
    pub fn held_by(&self, uid: &Uid) -> impl Iterator<Item = (Number, Use)> {
        let mut slot = self.first_of(uid).unwrap_or(NONE);
        std::iter::from_fn(move || {
            let node = self.slab.get(slot)?;
            slot = node.next();
            Some((node.number(), node.usage()?))
        })
    }

    /// Every holder of every number, in no particular order.
    pub fn all_holds(&self) -> impl Iterator<Item = (Number, &Holder)> {
        self.slab.nodes().flat_map(|node| {
            node.holders()
                .iter()
                .map(move |holder| (node.number(), holder))
        })
    }

    /// The first numbers of a pool, in the order in which they are given, that lie within the set,
    /// whether or not they are taken.
    pub fn first_given(
        &self,
        (pool, usage): (&str, Use),
        space: Space,
        within: &RangeSet,
    ) -> impl Iterator<Item = Number> {
        let stock = self.entry(pool, usage).map(|entry| entry.stock.of(space));
        let sets = stock.into_iter().flat_map(|stock| {
            [&stock.first, &stock.then].map(|set| (stock, set.subtract(&set.subtract(within))))
        });
        sets.flat_map(move |(stock, set)| {
            let values = set.ranges().to_vec().into_iter();
            values
                .flat_map(|(first, last)| first..=last)
                .filter(|&value| !stock.is_buggy(value))
                .map(move |value| Number { space, value })
        })
    }

    /// What the pool has and has left; all zero for an unknown one.
    pub fn usage(&self, pool: &str, usage: Use) -> PoolUsage {
        self.entry(pool, usage)
            .map_or_else(PoolUsage::default, |entry| {
                let of = |space| self.usage_of(entry, space);
                PoolUsage {
                    v4: of(Space::V4),
                    v6: of(Space::V6),
                    ports: of(Space::Port),
                }
            })
    }

    pub(crate) fn usage_of(&self, entry: &Entry, space: Space) -> UsageCounts {
        let stock = entry.stock.of(space);
        let counts = entry.counts.of(space);
        // Rarely any, and at most 256 numbers each.
        let damaged = self
            .quarantined
            .iter()
            .filter(|block| block.space == space)
            .flat_map(|block| {
                let first = block.first().value;
                first..first.saturating_add(BLOCK_SIZE)
            })
            .filter(|&value| stock.contains(value) && !self.is_taken(Number { space, value }))
            .count();
        UsageCounts {
            capacity: stock.capacity,
            claimed: counts.claimed.into(),
            retained: counts.retained.into(),
            available: stock
                .capacity
                .saturating_sub(counts.gone.into())
                .saturating_sub(damaged as u128),
        }
    }

    fn hash(uid: &Uid) -> u64 {
        FxBuildHasher.hash_one(uid)
    }

    fn first_of(&self, uid: &Uid) -> Option<u32> {
        self.uids
            .find(Self::hash(uid), |&slot| self.slab.uid(slot) == Some(uid))
            .copied()
    }

    /// Puts the slot at the front of its uid's chain; `hash` is that uid's.
    fn chain(&mut self, hash: u64, slot: u32) {
        let Self { uids, slab, .. } = self;
        let uid = slab.uid(slot);
        let same = |&first: &u32| slab.uid(first) == uid;
        let hash_of = |&slot: &u32| slab.uid(slot).map_or(0, Self::hash);
        let next = match uids.entry(hash, same, hash_of) {
            Occupied(mut first) => std::mem::replace(first.get_mut(), slot),
            Vacant(place) => {
                place.insert(slot);
                NONE
            }
        };
        slab.set_next(slot, next);
    }

    /// Takes the slot with that number and use out of the uid's chain and returns it.
    fn unchain(&mut self, number: Number, uid: &Uid, usage: Use) -> Option<u32> {
        let Self { uids, slab, .. } = self;
        let found = uids.find_entry(Self::hash(uid), |&slot| slab.uid(slot) == Some(uid));
        let mut entry = found.ok()?;
        let mut before = NONE;
        let mut slot = *entry.get();
        loop {
            let node = slab.get(slot)?;
            let next = node.next();
            if node.number() == number && node.usage() == Some(usage) {
                if before != NONE {
                    slab.set_next(before, next);
                } else if next == NONE {
                    entry.remove();
                } else {
                    *entry.get_mut() = next;
                }
                return Some(slot);
            }
            before = slot;
            slot = next;
        }
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
