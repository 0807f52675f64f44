//! Where holders lie in memory: slots of 104 bytes in chunks, so that growing never moves them all.
//! Knows nothing of what a hold means.

use model::{Number, Space, Uid, Use};

use crate::block::Holder;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;
/// Stands beside a number that nobody holds but that is kept for a former owner.
pub(crate) const RETAINED: u32 = u32::MAX - 1;

const CHUNK: usize = 1024;

/// What a slot holds.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Nothing; `next` leads to the next free slot.
    Free,
    /// The only holder of a number; in the chain of its uid.
    One(Holder),
    /// The holders of a number that has or had several, in order of arrival; in no chain.
    Group(Vec<Holder>),
    /// Stands for one of a group in the chain of its uid.
    Part {
        /// Who.
        uid: Uid,
        /// What for.
        usage: Use,
    },
}

/// A slot.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    body: Body,
    // Two halves, because a u128 would align the whole to 16 bytes.
    high: u64,
    low: u64,
    /// Next of the uid's chain or of the free slots.
    next: u32,
    space: Space,
}

impl Node {
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    pub(crate) const fn number(&self) -> Number {
        Number {
            space: self.space,
            value: (self.high as u128) << 64 | self.low as u128,
        }
    }

    pub(crate) const fn usage(&self) -> Option<Use> {
        match &self.body {
            Body::One(holder) => Some(holder.usage),
            Body::Part { usage, .. } => Some(*usage),
            Body::Group(_) | Body::Free => None,
        }
    }

    const fn uid(&self) -> Option<&Uid> {
        match &self.body {
            Body::One(holder) => Some(&holder.uid),
            Body::Part { uid, .. } => Some(uid),
            Body::Group(_) | Body::Free => None,
        }
    }

    pub(crate) fn holders(&self) -> &[Holder] {
        match &self.body {
            Body::One(holder) => std::slice::from_ref(holder),
            Body::Group(holders) => holders,
            Body::Part { .. } | Body::Free => &[],
        }
    }
}

/// The slots.
#[derive(Clone, Debug)]
pub(crate) struct Slab {
    chunks: Vec<Vec<Node>>,
    len: u32,
    free: u32,
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            free: NONE,
        }
    }
}

impl Slab {
    pub(crate) fn get(&self, slot: u32) -> Option<&Node> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Node> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }

    /// The slot that [`Self::fill`] will use next.
    pub(crate) const fn next_free(&self) -> u32 {
        if self.free == NONE {
            self.len
        } else {
            self.free
        }
    }

    /// Fills a free slot.
    pub(crate) fn fill(&mut self, number: Number, body: Body) -> u32 {
        let slot = self.next_free();
        let node = Node {
            body,
            high: (number.value >> 64) as u64,
            low: number.value as u64,
            next: NONE,
            space: number.space,
        };
        if let Some(old) = self.get_mut(slot) {
            let next = old.next;
            *old = node;
            self.free = next;
        } else {
            if (self.len as usize).is_multiple_of(CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.push(node);
            }
            self.len += 1;
        }
        slot
    }

    /// Frees a slot and returns what it held.
    pub(crate) fn empty(&mut self, slot: u32) -> Body {
        let free = self.free;
        let Some(node) = self.get_mut(slot) else {
            return Body::Free;
        };
        node.next = free;
        let body = std::mem::replace(&mut node.body, Body::Free);
        self.free = slot;
        body
    }

    pub(crate) fn uid(&self, slot: u32) -> Option<&Uid> {
        self.get(slot)?.uid()
    }

    pub(crate) fn set_next(&mut self, slot: u32, next: u32) {
        if let Some(node) = self.get_mut(slot) {
            node.next = next;
        }
    }

    pub(crate) fn holders(&self, slot: u32) -> &[Holder] {
        self.get(slot).map_or(&[], Node::holders)
    }

    pub(crate) fn holders_mut(&mut self, slot: u32) -> &mut [Holder] {
        match self.get_mut(slot).map(|node| &mut node.body) {
            Some(Body::One(holder)) => std::slice::from_mut(holder),
            Some(Body::Group(holders)) => holders,
            Some(Body::Part { .. } | Body::Free) | None => &mut [],
        }
    }

    /// Makes the only holder one of a group and returns the group's slot; the old slot stays in
    /// its chain and stands for it. None if the slot is a group already.
    pub(crate) fn make_group(&mut self, slot: u32) -> Option<u32> {
        let node = self.get_mut(slot)?;
        let number = node.number();
        let Body::One(holder) = &node.body else {
            return None;
        };
        let part = Body::Part {
            uid: holder.uid.clone(),
            usage: holder.usage,
        };
        let Body::One(holder) = std::mem::replace(&mut node.body, part) else {
            return None;
        };
        Some(self.fill(number, Body::Group(vec![holder])))
    }

    pub(crate) fn push_holder(&mut self, group: u32, holder: Holder) {
        if let Some(Node {
            body: Body::Group(holders),
            ..
        }) = self.get_mut(group)
        {
            holders.push(holder);
        }
    }

    /// Removes one of a group; returns it and how many are left.
    pub(crate) fn remove_holder(&mut self, group: u32, position: usize) -> (Option<Holder>, usize) {
        match self.get_mut(group).map(|node| &mut node.body) {
            Some(Body::Group(holders)) if position < holders.len() => {
                (Some(holders.remove(position)), holders.len())
            }
            Some(Body::Group(holders)) => (None, holders.len()),
            Some(Body::One(_) | Body::Part { .. } | Body::Free) | None => (None, 0),
        }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small_enough_for_a_full_16_in_8_mib() {
        assert!(size_of::<Node>() <= 104, "{}", size_of::<Node>());
    }
}
