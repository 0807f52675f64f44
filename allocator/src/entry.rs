//! The pools side by side: which of them a number lies in, what each has left, which overlap.
//! Knows numbers, not holders.

use std::collections::{BTreeMap, BTreeSet};

use model::{Number, Space};

use crate::{Pool, PoolState, RangeSet, pool::Stock};

/// One of something for each space.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerSpace<T> {
    v4: T,
    v6: T,
    port: T,
}

impl<T> PerSpace<T> {
    pub(crate) fn from_fn(mut of: impl FnMut(Space) -> T) -> Self {
        Self {
            v4: of(Space::V4),
            v6: of(Space::V6),
            port: of(Space::Port),
        }
    }

    pub(crate) const fn of(&self, space: Space) -> &T {
        match space {
            Space::V4 => &self.v4,
            Space::V6 => &self.v6,
            Space::Port => &self.port,
        }
    }

    pub(crate) const fn of_mut(&mut self, space: Space) -> &mut T {
        match space {
            Space::V4 => &mut self.v4,
            Space::V6 => &mut self.v6,
            Space::Port => &mut self.port,
        }
    }
}

/// A pool and what was worked out about it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pool: Pool,
    pub(crate) state: PoolState,
    pub(crate) stock: PerSpace<Stock>,
    pub(crate) counts: PerSpace<Counts>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) claimed: u64,
    pub(crate) retained: u64,
    /// Taken numbers that could otherwise be handed out.
    pub(crate) gone: u64,
}

impl Counts {
    pub(crate) fn gone(self) -> u128 {
        self.gone.into()
    }

    pub(crate) fn retained(self) -> u128 {
        self.retained.into()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    first: u128,
    last: u128,
    /// Positions in `pools`.
    pools: Vec<u32>,
}

pub(crate) fn positions(stretches: &PerSpace<Vec<Stretch>>, number: Number) -> &[u32] {
    let stretches = stretches.of(number.space);
    let at = stretches.partition_point(|stretch| stretch.last < number.value);
    match stretches.get(at) {
        Some(stretch) if stretch.first <= number.value => &stretch.pools,
        Some(_) | None => &[],
    }
}

/// Changes the counts of every pool that the number lies in.
pub(crate) fn count(
    pools: &mut [Entry],
    stretches: &PerSpace<Vec<Stretch>>,
    number: Number,
    mut change: impl FnMut(&mut Counts, bool),
) {
    for &position in positions(stretches, number) {
        if let Some(entry) = pools.get_mut(position as usize) {
            let in_stock = entry.stock.of(number.space).contains(number.value);
            change(entry.counts.of_mut(number.space), in_stock);
        }
    }
}

/// Cuts the ranges of all pools at each other's ends.
pub(crate) fn stretches(pools: &[Entry], space: Space) -> Vec<Stretch> {
    let mut opens: BTreeMap<u128, Vec<u32>> = BTreeMap::new();
    let mut closes: BTreeMap<u128, Vec<u32>> = BTreeMap::new();
    for (position, entry) in (0u32..).zip(pools) {
        for &(first, last) in entry.pool.ranges(space).ranges() {
            opens.entry(first).or_default().push(position);
            closes.entry(last).or_default().push(position);
        }
    }
    // A stretch ends at a close, or just before an open.
    let ends: BTreeSet<u128> = closes
        .keys()
        .copied()
        .chain(opens.keys().filter_map(|first| first.checked_sub(1)))
        .collect();
    let mut open: Vec<u32> = Vec::new();
    let mut stretches = Vec::new();
    let mut first = 0;
    for end in ends {
        if let Some(opened) = opens.get(&first) {
            open.extend(opened);
            open.sort_unstable();
        }
        if !open.is_empty() {
            stretches.push(Stretch {
                first,
                last: end,
                pools: open.clone(),
            });
        }
        if let Some(closed) = closes.get(&end) {
            open.retain(|position| !closed.contains(position));
        }
        first = end.saturating_add(1);
    }
    stretches
}

/// Which pools hand out numbers: of two with a number in common that both might hand out, the older
/// (then the one whose name comes first), whatever the state of either.
pub(crate) fn states(pools: &[Pool]) -> Vec<PoolState> {
    let spaces = [Space::V4, Space::V6, Space::Port];
    let sets: Vec<Vec<RangeSet>> = pools
        .iter()
        .map(|pool| {
            spaces
                .iter()
                .map(|&space| pool.ranges(space).subtract(pool.reserved(space)))
                .collect()
        })
        .collect();
    let age = |pool: &Pool| (pool.created, pool.name.clone());
    pools
        .iter()
        .zip(&sets)
        .map(|(pool, own)| {
            pools
                .iter()
                .zip(&sets)
                .filter(|(other, _)| age(other) < age(pool))
                .filter(|(_, other)| {
                    own.iter()
                        .zip(*other)
                        .any(|(a, b)| a.intersects(b).is_some())
                })
                .min_by_key(|(other, _)| age(other))
                .map_or(PoolState::Ready, |(other, _)| PoolState::Overlaps {
                    older: other.name.clone(),
                })
        })
        .collect()
}
