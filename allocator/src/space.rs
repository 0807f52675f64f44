//! Which numbers of one space are taken, and what is noted beside each. Finds the lowest free
//! number from a given one in a handful of look-ups, however full the space is. Knows no pools.
//!
//! Leaves of 256 numbers (the same 256 as a ledger block) lie in a hash map under `number / 256`;
//! absent leaves are empty, so a /64 costs what it holds. Above them three more maps note which
//! leaves are full, which groups of 256 leaves are, and so on: a search leaves a full leaf through
//! them instead of walking. A group of 2^32 taken numbers does not fit into memory, so three levels
//! suffice for 128-bit numbers.

use rustc_hash::FxHashMap;

use crate::{bits::Bits, range::RangeSet};

const LEAF_BITS: u32 = 8;

/// Occupancy of one space. `V` is noted beside every taken number, packed: 4 bytes a number for
/// the allocator, nothing for `()`.
#[derive(Clone, Debug)]
pub struct NumberSpace<V = ()> {
    /// Leaf index (number / 256) to what is taken there; never an empty leaf.
    leaves: FxHashMap<u128, Leaf<V>>,
    /// Level i: index / 256^(i+1) of a leaf to which of its 256 children are full; never an empty one.
    full: [FxHashMap<u128, Bits>; 3],
    len: usize,
}

#[derive(Clone, Debug)]
struct Leaf<V> {
    taken: Bits,
    /// One per taken number, in order.
    notes: Vec<V>,
}

impl<V> Default for NumberSpace<V> {
    fn default() -> Self {
        Self {
            leaves: FxHashMap::default(),
            full: Default::default(),
            len: 0,
        }
    }
}

const fn split(value: u128) -> (u128, u8) {
    (value >> LEAF_BITS, (value & 0xff) as u8)
}

const fn join(index: u128, at: u8) -> u128 {
    index << LEAF_BITS | at as u128
}

impl NumberSpace<()> {
    /// Takes a number; false if it was taken.
    pub fn insert(&mut self, value: u128) -> bool {
        !self.contains(value) && self.put(value, ()).is_none()
    }

    /// Frees a number; false if it was free.
    pub fn remove(&mut self, value: u128) -> bool {
        self.take(value).is_some()
    }
}

impl<V> NumberSpace<V> {
    /// An empty space.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many numbers are taken.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the number is taken.
    pub fn contains(&self, value: u128) -> bool {
        let (index, at) = split(value);
        self.leaves
            .get(&index)
            .is_some_and(|leaf| leaf.taken.contains(at))
    }

    /// What is noted beside a taken number.
    pub fn get(&self, value: u128) -> Option<&V> {
        let (index, at) = split(value);
        let leaf = self.leaves.get(&index)?;
        leaf.taken.contains(at).then_some(())?;
        leaf.notes.get(leaf.taken.rank(at))
    }

    /// Takes the number with a note; returns the former note of a number that was taken.
    pub fn put(&mut self, value: u128, note: V) -> Option<V> {
        let (index, at) = split(value);
        let leaf = self.leaves.entry(index).or_insert_with(|| Leaf {
            taken: Bits::default(),
            notes: Vec::new(),
        });
        let rank = leaf.taken.rank(at);
        if leaf.taken.contains(at) {
            return leaf
                .notes
                .get_mut(rank)
                .map(|old| std::mem::replace(old, note));
        }
        leaf.taken.set(at);
        leaf.notes.insert(rank, note);
        let full = leaf.taken.is_full();
        self.len += 1;
        if full {
            self.mark_full(index);
        }
        None
    }

    /// Frees the number and returns its note.
    pub fn take(&mut self, value: u128) -> Option<V> {
        let (index, at) = split(value);
        let leaf = self.leaves.get_mut(&index)?;
        if !leaf.taken.contains(at) {
            return None;
        }
        let was_full = leaf.taken.is_full();
        let note = leaf.notes.remove(leaf.taken.rank(at));
        leaf.taken.clear(at);
        if leaf.taken.is_empty() {
            self.leaves.remove(&index);
        } else if leaf.notes.capacity() > 16 && leaf.notes.len() * 4 < leaf.notes.capacity() {
            leaf.notes.shrink_to(leaf.notes.len() * 2);
        }
        self.len -= 1;
        if was_full {
            self.mark_not_full(index);
        }
        Some(note)
    }

    /// The lowest free number of the set.
    pub fn next_free(&self, set: &RangeSet) -> Option<u128> {
        self.next_free_between(set, 0, u128::MAX)
    }

    /// The first free number of the set from `start` on, then from its beginning.
    pub fn next_free_from(&self, set: &RangeSet, start: u128) -> Option<u128> {
        self.next_free_between(set, start, u128::MAX)
            .or_else(|| self.next_free_between(set, 0, start.checked_sub(1)?))
    }

    /// The lowest free number of the set from `from` to `to`, both included.
    pub fn next_free_between(&self, set: &RangeSet, from: u128, to: u128) -> Option<u128> {
        for &(first, last) in set.ranges_from(from) {
            let start = first.max(from);
            if start > to {
                return None;
            }
            if let Some(free) = self.free_at_or_after(start)
                && free <= last.min(to)
            {
                return Some(free);
            }
        }
        None
    }

    fn free_at_or_after(&self, value: u128) -> Option<u128> {
        let (mut index, mut at) = split(value);
        loop {
            let Some(leaf) = self.leaves.get(&index) else {
                return Some(join(index, at));
            };
            if let Some(free) = leaf.taken.first_clear(at) {
                return Some(join(index, free));
            }
            if index == u128::MAX >> LEAF_BITS {
                return None;
            }
            // Beyond the topmost level the answer may still be full: then once more from there.
            index = self.not_full(&self.full, index + 1);
            at = 0;
        }
    }

    /// The first child from `child` on that is not known to be full, at the level of `levels[0]`.
    fn not_full(&self, levels: &[FxHashMap<u128, Bits>], child: u128) -> u128 {
        let Some((level, above)) = levels.split_first() else {
            return child;
        };
        let (parent, at) = split(child);
        let Some(bits) = level.get(&parent) else {
            return child;
        };
        if let Some(clear) = bits.first_clear(at) {
            return join(parent, clear);
        }
        let parent = self.not_full(above, parent + 1);
        let at = level
            .get(&parent)
            .and_then(|bits| bits.first_clear(0))
            .unwrap_or(0);
        join(parent, at)
    }

    fn mark_full(&mut self, mut index: u128) {
        for level in &mut self.full {
            let (parent, at) = split(index);
            let bits = level.entry(parent).or_default();
            bits.set(at);
            if !bits.is_full() {
                return;
            }
            index = parent;
        }
    }

    fn mark_not_full(&mut self, mut index: u128) {
        for level in &mut self.full {
            let (parent, at) = split(index);
            let Some(bits) = level.get_mut(&parent) else {
                return;
            };
            let was_full = bits.is_full();
            bits.clear(at);
            if bits.is_empty() {
                level.remove(&parent);
            }
            if !was_full {
                return;
            }
            index = parent;
        }
    }

    /// Every taken number with its note, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u128, &V)> {
        self.leaves.iter().flat_map(|(&index, leaf)| {
            (0..=255)
                .filter(|&at| leaf.taken.contains(at))
                .map(move |at| join(index, at))
                .zip(&leaf.notes)
        })
    }
}

#[cfg(test)]
mod tests;
