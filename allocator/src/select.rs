//! Finds a new number: an explicit one, or one of the pools in order. Judges pools, searches the
//! one that serves, and says of every other why not.

use std::sync::Arc;

use model::{Number, Space, Use};

use crate::{
    Allocator, PoolState, RangeSet, Strategy,
    block::BlockId,
    decide::Want,
    entry::Entry,
    pool::{FNV_BASIS, Stock, fnv, stable_hash},
    verdict::{Considered, Grant, Missing, Why},
    words,
};

/// `Stable` hashes into so many of a pool's first numbers, so that those of many Services lie in
/// few ledger blocks (design G2).
const STABLE_NUMBERS: u128 = 65_536;

impl Allocator {
    /// A number that the uid does not hold yet.
    pub(crate) fn acquire(
        &self,
        want: Want<'_>,
        held: &[Number],
        considered: &mut Vec<Considered>,
    ) -> Result<Grant, Missing> {
        if let Some(number) = want.explicit() {
            return self.acquire_explicit(want, number, considered);
        }
        if let Some(grant) = self.take_up(want, held, considered) {
            return Ok(grant);
        }
        self.acquire_any(want, considered)
    }

    /// The Service shows a number that no block has: migration or a lost ledger. It stays where it
    /// is, under the rules for what is held, if nobody else has it.
    fn take_up(
        &self,
        want: Want<'_>,
        held: &[Number],
        considered: &mut Vec<Considered>,
    ) -> Option<Grant> {
        let request = want.request;
        let shown = request.shown.iter().copied();
        let (number, entry) = shown
            .filter(|number| number.space == want.space && !held.contains(number))
            .filter(|number| !request.exclude.contains(number))
            .filter(|number| !self.is_quarantined(BlockId::of(*number)))
            .filter(|&number| self.occupied(want, number).is_none())
            .find_map(|number| Some((number, self.keeper(want, number, request.pool)?)))?;
        considered.push(consider(want, entry, Why::Chosen));
        Some(fresh(number, entry))
    }

    fn acquire_explicit(
        &self,
        want: Want<'_>,
        number: Number,
        considered: &mut Vec<Considered>,
    ) -> Result<Grant, Missing> {
        let request = want.request;
        let enforcing = self.enforcing(want);
        let mut refused: Option<(&Entry, Why)> = None;
        for entry in self.entries_containing(number) {
            let why = (self.unfit(want, entry, enforcing))
                .or_else(|| not_asked_for(want, entry))
                .or_else(|| unavailable(entry))
                .or_else(|| self.refuses(want, entry, number));
            let Some(why) = why else {
                considered.push(consider(want, entry, Why::Chosen));
                return Ok(fresh(number, entry));
            };
            considered.push(consider(want, entry, why.clone()));
            // Of several the one that came furthest.
            let better = refused
                .as_ref()
                .is_none_or(|(_, before)| words::rank(&why) < words::rank(before));
            if better {
                refused = Some((entry, why));
            }
        }
        if let Some(name) = request.pool {
            let Some(entry) = self.entry(name, request.usage) else {
                return Err(words::pool_not_found(want, name));
            };
            if !entry.pool.ranges(number.space).contains(number.value) {
                considered.push(consider(want, entry, Why::NotContained));
                return Err(words::explicit(
                    want,
                    number,
                    &entry.pool,
                    &Why::NotContained,
                ));
            }
        }
        Err(match refused {
            Some((entry, why)) => words::explicit(want, number, &entry.pool, &why),
            None => words::in_no_pool(want, number),
        })
    }

    fn acquire_any(
        &self,
        want: Want<'_>,
        considered: &mut Vec<Considered>,
    ) -> Result<Grant, Missing> {
        let request = want.request;
        if let Some(name) = request.pool
            && self.entry(name, request.usage).is_none()
        {
            return Err(words::pool_not_found(want, name));
        }
        let enforcing = self.enforcing(want);
        let (selective, general): (Vec<&Entry>, Vec<&Entry>) = self
            .entries()
            .filter(|entry| {
                entry.pool.serves(request.usage) || request.pool == Some(&*entry.pool.name)
            })
            .partition(|entry| entry.pool.admission.is_selective());
        let begin = considered.len();
        let mut candidates: Vec<&Entry> = Vec::new();
        for entry in selective.into_iter().chain(general) {
            let why = not_asked_for(want, entry)
                .or_else(|| self.unfit(want, entry, enforcing))
                .or_else(|| {
                    (request.pool.is_none() && !entry.pool.auto_assign)
                        .then_some(Why::AutoAssignOff)
                })
                .or_else(|| unavailable(entry));
            match why {
                Some(why) => considered.push(consider(want, entry, why)),
                None => candidates.push(entry),
            }
        }
        let found =
            (self.shared_one(want, &candidates)).or_else(|| self.retained_one(want, &candidates));
        let mut chosen: Option<&Entry> = None;
        let mut grant = None;
        if let Some((number, entry)) = found {
            chosen = Some(entry);
            grant = Some(fresh(number, entry));
        }
        for entry in candidates {
            if let Some(chosen) = chosen {
                let why = if std::ptr::eq(chosen, entry) {
                    Why::Chosen
                } else {
                    Why::ComesAfter {
                        chosen: chosen.pool.name.clone(),
                    }
                };
                considered.push(consider(want, entry, why));
            } else if let Some(number) = self.pick(want, entry) {
                considered.push(consider(want, entry, Why::Chosen));
                chosen = Some(entry);
                grant = Some(fresh(number, entry));
            } else {
                considered.push(consider(want, entry, self.exhausted(want, entry)));
            }
        }
        grant.ok_or_else(|| {
            let considered = considered.get(begin..).unwrap_or_default();
            words::none_serves(want, considered, enforcing.is_some(), |name| {
                self.entry(name, want.request.usage)
                    .map(|entry| &entry.pool)
            })
        })
    }

    /// An enforcing pool that admits the Service.
    fn enforcing(&self, want: Want<'_>) -> Option<&Arc<str>> {
        self.entries()
            .find(|entry| {
                entry.pool.enforce && entry.pool.serves(want.request.usage) && want.admitted(entry)
            })
            .map(|entry| &entry.pool.name)
    }

    /// Why the pool may not serve the Service at all.
    fn unfit(&self, want: Want<'_>, entry: &Entry, enforcing: Option<&Arc<str>>) -> Option<Why> {
        let (request, pool) = (want.request, &entry.pool);
        if !pool.serves(request.usage) {
            return Some(Why::WrongUse { usage: pool.usage });
        }
        if pool.ranges(want.space).is_empty() {
            return Some(Why::WrongFamily);
        }
        if request
            .allowed_pools
            .is_some_and(|allowed| !allowed.iter().any(|name| **name == *pool.name))
        {
            return Some(Why::NotAllowedByClass);
        }
        if !want.admitted(entry) {
            let namespace = &request.service.namespace;
            let by_namespace = pool
                .admission
                .admits_namespace(namespace, request.namespace_labels);
            return Some(if by_namespace {
                Why::ServiceNotAdmitted
            } else {
                Why::NamespaceNotAdmitted {
                    namespace: namespace.clone(),
                }
            });
        }
        enforcing
            .filter(|_| !pool.enforce)
            .map(|by| Why::FallThroughStopped { by: by.clone() })
    }

    /// Why a pool that serves the Service does not give this number.
    fn refuses(&self, want: Want<'_>, entry: &Entry, number: Number) -> Option<Why> {
        let stock = entry.stock.of(number.space);
        if want.request.exclude.contains(&number) {
            return Some(Why::PickedAlready);
        }
        if stock.is_buggy(number.value) {
            return Some(Why::Buggy);
        }
        if entry.pool.unusable(number.space).contains(number.value) {
            return Some(outside(number.space));
        }
        if !stock.contains(number.value) {
            return Some(Why::Reserved);
        }
        if self.is_quarantined(BlockId::of(number)) {
            return Some(Why::LedgerDamaged);
        }
        self.occupied(want, number)
    }

    /// Why somebody else's hold or retention is in the way.
    pub(crate) fn occupied(&self, want: Want<'_>, number: Number) -> Option<Why> {
        if let Some((owner, until)) = self.retained(number) {
            return (owner != want.request.service && until > want.now).then(|| Why::RetainedFor {
                owner: owner.clone(),
                until,
            });
        }
        self.clash(want, number)
    }

    /// The lowest number of the candidates that carries the sharing key and may be shared.
    fn shared_one<'a>(
        &self,
        want: Want<'_>,
        candidates: &[&'a Entry],
    ) -> Option<(Number, &'a Entry)> {
        let sharing = want.request.sharing?;
        self.sharing(&sharing.key)
            .find_map(|number| self.of_candidates(want, candidates, number))
    }

    /// The lowest number of the candidates that is kept for the Service.
    fn retained_one<'a>(
        &self,
        want: Want<'_>,
        candidates: &[&'a Entry],
    ) -> Option<(Number, &'a Entry)> {
        self.retained_for(want.request.service)
            .find_map(|number| self.of_candidates(want, candidates, number))
    }

    fn of_candidates<'a>(
        &self,
        want: Want<'_>,
        candidates: &[&'a Entry],
        number: Number,
    ) -> Option<(Number, &'a Entry)> {
        let entry = candidates.iter().find(|entry| {
            number.space == want.space
                && entry.pool.ranges(number.space).contains(number.value)
                && self.refuses(want, entry, number).is_none()
                && !want.passes_over(number)
        })?;
        Some((number, entry))
    }

    /// A free number by the pool's strategy.
    fn pick(&self, want: Want<'_>, entry: &Entry) -> Option<Number> {
        let stock = entry.stock.of(want.space);
        if stock.capacity <= entry.counts.of(want.space).gone() {
            return None;
        }
        let request = want.request;
        let hash = match entry.pool.strategy {
            Strategy::LowestFree => None,
            Strategy::Stable => Some(stable_hash(
                &request.service.namespace,
                &request.service.name,
                request.stable_salt,
            )),
            Strategy::Random => Some(fnv(
                fnv(FNV_BASIS, request.uid.as_str()),
                request.stable_salt.unwrap_or_default(),
            )),
        };
        [&stock.first, &stock.then].into_iter().find_map(|set| {
            let start = hash.and_then(|hash| {
                let numbers = set.len().min(STABLE_NUMBERS);
                set.nth(u128::from(hash).checked_rem(numbers)?)
            });
            let start = start.unwrap_or(0);
            self.search(want, stock, set, start, u128::MAX)
                .or_else(|| self.search(want, stock, set, 0, start.checked_sub(1)?))
        })
    }

    fn search(
        &self,
        want: Want<'_>,
        stock: &Stock,
        set: &RangeSet,
        mut from: u128,
        to: u128,
    ) -> Option<Number> {
        loop {
            let value = self.space(want.space).next_free_between(set, from, to)?;
            let number = want.number(value);
            let block = BlockId::of(number);
            let skip_to = if self.is_quarantined(block) {
                block.last().value
            } else if stock.is_buggy(value)
                || want.request.exclude.contains(&number)
                || want.passes_over(number)
            {
                value
            } else {
                return Some(number);
            };
            from = skip_to.checked_add(1)?;
        }
    }

    /// Why nothing was found in a pool that serves the Service.
    fn exhausted(&self, want: Want<'_>, entry: &Entry) -> Why {
        let counts = entry.counts.of(want.space);
        let capacity = entry.stock.of(want.space).capacity;
        if capacity == 0 && !entry.pool.unusable(want.space).is_empty() {
            return outside(want.space);
        }
        if self.has_quarantine(want.space) && counts.gone() < capacity {
            Why::LedgerDamaged
        } else {
            Why::Full {
                capacity,
                retained: counts.retained(),
            }
        }
    }
}

fn fresh(number: Number, entry: &Entry) -> Grant {
    Grant {
        number,
        pool: Some(entry.pool.name.clone()),
        fresh: true,
        keep_terms: false,
    }
}

fn consider(want: Want<'_>, entry: &Entry, why: Why) -> Considered {
    Considered {
        pool: entry.pool.name.clone(),
        family: want.family(),
        why,
    }
}

fn not_asked_for(want: Want<'_>, entry: &Entry) -> Option<Why> {
    want.request
        .pool
        .is_some_and(|name| *name != *entry.pool.name)
        .then_some(Why::NotAskedFor)
}

/// Why the pool hands out nothing new to anybody.
fn unavailable(entry: &Entry) -> Option<Why> {
    match &entry.state {
        PoolState::Overlaps { older } => Some(Why::Overlaps {
            older: older.clone(),
        }),
        PoolState::Ready => entry.pool.disabled.then_some(Why::Disabled),
    }
}

/// The API server would not take it.
const fn outside(space: Space) -> Why {
    match space {
        Space::V4 | Space::V6 => Why::OutsideServiceCidrs,
        Space::Port => Why::OutsideServerRange,
    }
}

/// What one number is called.
pub(crate) const fn noun(usage: Use) -> &'static str {
    match usage {
        Use::LoadBalancer => "address",
        Use::ClusterIp => "cluster IP",
        Use::NodePort => "node port",
        Use::HealthCheckNodePort => "health check node port",
    }
}
