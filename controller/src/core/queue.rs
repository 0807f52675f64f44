//! Which Service is looked at next. One slot per key; deletions first, then holders, then waiters,
//! oldest first; failures wait with exponential backoff. It never looks at what is to be done.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use model::ServiceKey;

use super::failing::Failing;

/// In which order keys are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rank {
    /// Gone or going: what it frees may serve others.
    Gone,
    /// Holds or shows a number: honoured before anything new.
    Holder,
    /// Has nothing yet.
    Waiter,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Slot {
    rank: Rank,
    created: i64,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    /// Ready keys in order.
    ready: BTreeSet<(Rank, i64, ServiceKey)>,
    /// The slot of each ready key, to find it in `ready`.
    slots: HashMap<ServiceKey, Slot>,
    /// Keys that wait for a time; a key may be here and in `ready`.
    delayed: BTreeSet<(Duration, ServiceKey)>,
    /// The due time of each delayed key, to find it in `delayed`.
    due: HashMap<ServiceKey, Duration>,
    failing: Failing<ServiceKey>,
}

impl Queue {
    /// An empty queue; the seed is for jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            ready: BTreeSet::new(),
            slots: HashMap::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failing: Failing::new(seed),
        }
    }

    /// Marks a key dirty. A key that is ready already keeps the more urgent of the two ranks.
    pub fn push(&mut self, key: &ServiceKey, rank: Rank, created: i64) {
        let mut slot = Slot { rank, created };
        if let Some(old) = self.slots.remove(key) {
            self.ready.remove(&(old.rank, old.created, key.clone()));
            slot.rank = slot.rank.min(old.rank);
        }
        self.ready.insert((slot.rank, slot.created, key.clone()));
        self.slots.insert(key.clone(), slot);
    }

    /// Looks at the key again at that time, unless something makes it dirty before; the earlier of
    /// two times counts.
    pub fn push_at(&mut self, key: &ServiceKey, at: Duration) {
        if let Some(due) = self.due.get(key) {
            if *due <= at {
                return;
            }
            self.delayed.remove(&(*due, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key.clone()));
    }

    /// The key failed: look again after its backoff.
    pub fn failed(&mut self, key: &ServiceKey, now: Duration) {
        let delay = self.failing.delay(key);
        self.push_at(key, now + delay);
    }

    /// The key is at its fixed point: the next failure starts with the shortest delay.
    pub fn succeeded(&mut self, key: &ServiceKey) {
        self.failing.succeeded(key);
    }

    /// Delayed keys whose time has come; the caller ranks and pushes them.
    pub fn take_due(&mut self, now: Duration) -> Vec<ServiceKey> {
        let mut keys = Vec::new();
        while let Some((due, _)) = self.delayed.first() {
            if *due > now {
                break;
            }
            let Some((_, key)) = self.delayed.pop_first() else {
                break;
            };
            self.due.remove(&key);
            keys.push(key);
        }
        keys
    }

    /// The next ready key.
    pub fn pop(&mut self) -> Option<ServiceKey> {
        let (_, _, key) = self.ready.pop_first()?;
        self.slots.remove(&key);
        if let Some(due) = self.due.remove(&key) {
            self.delayed.remove(&(due, key.clone()));
        }
        Some(key)
    }

    /// When the first delayed key is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Whether a key is ready.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many keys are ready or delayed.
    pub fn len(&self) -> usize {
        self.ready.len() + self.delayed.len()
    }

    /// Whether nothing is ready or delayed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ready.clear();
        self.slots.clear();
        self.delayed.clear();
        self.due.clear();
        self.failing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::failing::FIRST_DELAY;
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new("default", name)
    }

    #[test]
    fn deletions_come_first_then_holders_then_the_oldest_waiter() {
        let mut queue = Queue::new(1);
        queue.push(&key("young"), Rank::Waiter, 20);
        queue.push(&key("old"), Rank::Waiter, 10);
        queue.push(&key("holder"), Rank::Holder, 30);
        queue.push(&key("gone"), Rank::Gone, 40);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|k| k.name.to_string())
            .collect();
        assert_eq!(order, ["gone", "holder", "old", "young"]);
    }

    #[test]
    fn a_key_has_one_slot_and_keeps_its_most_urgent_rank() {
        let mut queue = Queue::new(1);
        queue.push(&key("a"), Rank::Gone, 1);
        queue.push(&key("a"), Rank::Waiter, 1);
        queue.push(&key("b"), Rank::Holder, 0);
        assert_eq!(queue.pop(), Some(key("a")));
        assert_eq!(queue.pop(), Some(key("b")));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn each_failure_waits_longer_until_a_success() {
        let mut queue = Queue::new(7);
        let mut delays = Vec::new();
        for _ in 0..4 {
            queue.failed(&key("a"), Duration::ZERO);
            delays.push(queue.next_due().unwrap());
            assert_eq!(queue.take_due(Duration::MAX), [key("a")]);
        }
        // Jitter adds at most the delay itself, so the third is beyond any first.
        assert!(
            delays[0] < 2 * FIRST_DELAY && delays[3] >= 8 * FIRST_DELAY,
            "{delays:?}"
        );
        queue.succeeded(&key("a"));
        queue.failed(&key("a"), Duration::ZERO);
        assert!(queue.next_due().unwrap() < 2 * FIRST_DELAY);
    }

    #[test]
    fn a_dirty_mark_overtakes_a_backoff() {
        let mut queue = Queue::new(1);
        queue.failed(&key("a"), Duration::ZERO);
        queue.push(&key("a"), Rank::Holder, 1);
        assert_eq!(queue.pop(), Some(key("a")));
        assert_eq!(queue.next_due(), None, "its delay went with it");
    }
}
