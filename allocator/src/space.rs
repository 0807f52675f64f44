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
const LAST_LEAF: u128 = u128::MAX >> LEAF_BITS;

/// Occupancy of one space. `V` is noted beside every taken number, 4 bytes a
/// number for the allocator, nothing for `()`.
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
    notes: Notes<V>,
}

/// What is noted beside the numbers of a leaf: one per taken number while they are few, then one
/// per number, so that neither sparse leaves waste room nor full ones time.
#[derive(Clone, Debug)]
enum Notes<V> {
    Packed(Vec<V>),
    Dense(Vec<V>),
}

/// A leaf that takes more than these becomes dense, and stays so until it is empty.
const PACKED: usize = 64;

impl<V: Copy> Leaf<V> {
    const fn empty() -> Self {
        Self {
            taken: Bits::EMPTY,
            notes: Notes::Packed(Vec::new()),
        }
    }

    /// The note beside a number that is taken.
    fn note(&self, at: u8) -> Option<&V> {
        match &self.notes {
            Notes::Packed(notes) => notes.get(self.taken.rank(at)),
            Notes::Dense(notes) => notes.get(usize::from(at)),
        }
    }

    fn put(&mut self, at: u8, note: V) -> Option<V> {
        if self.taken.contains(at) {
            let rank = self.taken.rank(at);
            let old = match &mut self.notes {
                Notes::Packed(notes) => notes.get_mut(rank),
                Notes::Dense(notes) => notes.get_mut(usize::from(at)),
            };
            return old.map(|old| std::mem::replace(old, note));
        }
        match &mut self.notes {
            Notes::Packed(notes) if notes.len() < PACKED => {
                notes.insert(self.taken.rank(at), note);
            }
            Notes::Packed(packed) => {
                let mut dense = vec![note; 256];
                let taken = self.taken;
                let places = (0..=255u8)
                    .zip(&mut dense)
                    .filter(|(at, _)| taken.contains(*at));
                for ((_, place), note) in places.zip(packed.iter()) {
                    *place = *note;
                }
                self.notes = Notes::Dense(dense);
            }
            Notes::Dense(notes) => {
                if let Some(place) = notes.get_mut(usize::from(at)) {
                    *place = note;
                }
            }
        }
        self.taken.set(at);
        None
    }

    fn take(&mut self, at: u8) -> Option<V> {
        if !self.taken.contains(at) {
            return None;
        }
        let note = match &mut self.notes {
            Notes::Packed(notes) => notes.remove(self.taken.rank(at)),
            Notes::Dense(notes) => *notes.get(usize::from(at))?,
        };
        self.taken.clear(at);
        Some(note)
    }
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

impl<V: Copy> NumberSpace<V> {
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
        if leaf.taken.contains(at) {
            leaf.note(at)
        } else {
            None
        }
    }

    /// Takes the number with a note; returns the former note of a number that was taken.
    pub fn put(&mut self, value: u128, note: V) -> Option<V> {
        let (index, at) = split(value);
        let leaf = self.leaves.entry(index).or_insert_with(Leaf::empty);
        let before = leaf.put(at, note);
        if before.is_none() {
            self.len += 1;
            if leaf.taken.is_full() {
                self.mark_full(index);
            }
        }
        before
    }

    /// Frees the number and returns its note.
    pub fn take(&mut self, value: u128) -> Option<V> {
        let (index, at) = split(value);
        let leaf = self.leaves.get_mut(&index)?;
        let was_full = leaf.taken.is_full();
        let note = leaf.take(at)?;
        if leaf.taken.is_empty() {
            self.leaves.remove(&index);
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
            let not_full = self.not_full(&self.full, index);
            if not_full > LAST_LEAF {
                return None;
            }
            if not_full != index {
                (index, at) = (not_full, 0);
            }
            let Some(leaf) = self.leaves.get(&index) else {
                return Some(join(index, at));
            };
            if let Some(free) = leaf.taken.first_clear(at) {
                return Some(join(index, free));
            }
            // Taken from `at` to the leaf's end; beyond the topmost level it may also be full.
            index += 1;
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
            (0..=255).filter_map(move |at| {
                let note = leaf.taken.contains(at).then(|| leaf.note(at))??;
                Some((join(index, at), note))
            })
        })
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
