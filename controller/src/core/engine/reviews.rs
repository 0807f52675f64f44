//! What the API server asks before it stores a Service: decided on at once, answered when the ledger
//! keeps what was chosen. Every replica does so, leader or not; two that choose one number meet in
//! its block, and the later one chooses again.

use super::*;
use crate::core::{
    admit::{Answer, KEPT, KEPT_AT_LEAST, Review},
    decide::{Admission, admit},
    record::PoolRecord,
};

/// A question without an answer.
#[derive(Debug)]
pub(super) struct Open {
    review: Arc<Review>,
    /// When nobody waits for the answer any more.
    deadline: Duration,
    /// What is answered when `keeping` is empty; `None`: to be decided on.
    answer: Option<Answer>,
    /// Numbers that are on their way into the ledger.
    keeping: BTreeSet<Number>,
    /// Numbers that are on their way into it for others, without which the answer may be a better one.
    awaits: BTreeSet<Number>,
    /// Requests of the ledger before it was asked.
    since: u64,
    /// The block that has to be read first: nobody is refused a number on the word of a cache.
    doubts: Option<BlockId>,
    /// Times decided on.
    tries: u32,
}

/// A question is decided on so often at most; then it has no answer in time.
const TRIES: u32 = 32;
/// After so many times it is refused, or left to the API server, even if others' numbers are still on
/// their way: there may always be some.
const TRIES_OF_WANTING: u32 = 8;
/// A question about a namespace that the watch has not told of is decided on so long before its
/// deadline: who creates a namespace and a Service in it at once is meant by the pools that select it.
const UNKNOWN_NAMESPACE: Duration = Duration::from_secs(1);

impl Engine {
    /// The API server asks.
    pub(super) fn asked(&mut self, review: Arc<Review>, deadline: Duration) {
        let open = Open {
            deadline,
            answer: None,
            keeping: BTreeSet::new(),
            awaits: BTreeSet::new(),
            since: self.ledger.requests(),
            doubts: None,
            tries: 0,
            review,
        };
        self.reviews.insert(open.review.id, open);
    }

    /// All that a replica does that does not lead.
    pub(super) fn follow(&mut self, now: Now) -> Vec<Effect> {
        if self.pools_changed {
            self.set_pools();
        }
        self.ledger.gather(false);
        loop {
            self.attend(now);
            let (effects, changes) = self.ledger.poll(now);
            self.effects.extend(effects);
            if changes.is_empty() {
                break;
            }
            self.apply(changes, now);
        }
        // All else is the leader's.
        let mut effects = std::mem::take(&mut self.effects);
        effects.retain(|effect| {
            matches!(
                effect,
                Effect::Answer { .. } | Effect::WriteBlock { .. } | Effect::ReadBlock { .. }
            )
        });
        effects
    }

    /// Decides on what is new, oldest question first.
    pub(super) fn attend(&mut self, now: Now) {
        self.forget_late(now);
        for open in self.reviews.values_mut() {
            if let Some(id) = open.doubts
                && self.ledger.verify(id, open.since)
            {
                open.doubts = None;
            }
        }
        let undecided = |(id, open): (&u64, &Open)| {
            let waits = open.answer.is_none()
                && open.keeping.is_empty()
                && open.awaits.is_empty()
                && open.doubts.is_none();
            let due = self
                .waits_for_namespace(open)
                .is_none_or(|until| until <= now.mono);
            (waits && due && open.tries < TRIES).then_some(*id)
        };
        let ids: Vec<u64> = self.reviews.iter().filter_map(undecided).collect();
        for id in ids {
            let Some(open) = self.reviews.get_mut(&id) else {
                continue;
            };
            open.tries += 1;
            let (tries, since) = (open.tries, open.since);
            let review = Arc::clone(&open.review);
            let snapshot = self.snapshot(&review.object, now);
            let Admission {
                reserve,
                mut answer,
                doubtful,
            } = admit(&snapshot, review.old.as_deref());
            if review.dry_run {
                answer.takes_nothing();
            }
            if answer.is_wanting() && tries < TRIES_OF_WANTING {
                // What this replica has only chosen for others another may have kept first.
                let awaits = self.ledger.reserving();
                let doubts = doubtful
                    .map(BlockId::of)
                    .filter(|id| awaits.is_empty() && !self.ledger.verify(*id, since));
                if (!awaits.is_empty() || doubts.is_some())
                    && let Some(open) = self.reviews.get_mut(&id)
                {
                    (open.awaits, open.doubts) = (awaits, doubts);
                    continue;
                }
            }
            if review.dry_run || reserve.is_empty() {
                self.answer(id, answer);
                continue;
            }
            let owner = &review.object.key;
            let until = now.wall.saturating_add(KEPT);
            for number in &reserve {
                self.keep(*number, owner, until);
                self.ledger.submit(Op::Reserve {
                    number: *number,
                    owner: owner.clone(),
                    until,
                    at_least: now.wall.saturating_add(KEPT_AT_LEAST),
                    now: now.wall,
                });
            }
            if let Some(open) = self.reviews.get_mut(&id) {
                open.keeping.extend(reserve);
                open.answer = Some(answer);
            }
        }
    }

    /// In memory, so that the next question gets another number.
    fn keep(&mut self, number: Number, owner: &ServiceKey, until: i64) {
        let known = self.allocator.retained(number);
        if known.is_none_or(|(known, known_until)| known != owner || known_until < until) {
            self.allocator.retain(number, owner.clone(), until);
            self.statuses_dirty = true;
        }
    }

    /// A reservation has ended.
    pub(super) fn reservation_ended(&mut self, number: Number, owner: &ServiceKey, fate: Fate) {
        let kept = fate == Fate::Committed;
        match kept {
            true => self.counters.reserved += 1,
            false => self.counters.reserved_elsewhere += 1,
        }
        let elsewhere = self.allocator.retained(number);
        if !kept && elsewhere.is_some_and(|(known, _)| known == owner) {
            self.unretained(number);
        }
        let mut ready = Vec::new();
        for (id, open) in &mut self.reviews {
            open.awaits.remove(&number);
            if open.review.object.key != *owner || !open.keeping.remove(&number) {
                continue;
            }
            if !kept {
                open.answer = None;
            }
            if open.keeping.is_empty() && open.answer.is_some() {
                ready.push(*id);
            }
        }
        for id in ready {
            if let Some(answer) = self
                .reviews
                .get_mut(&id)
                .and_then(|open| open.answer.take())
            {
                self.answer(id, answer);
            }
        }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        self.reviews.remove(&id);
        self.effects.push(Effect::Answer { id, answer });
    }

    /// Nobody waits for these any longer; what is kept for them is given back by its time.
    pub(super) fn forget_late(&mut self, now: Now) {
        let before = self.reviews.len();
        self.reviews.retain(|_, open| open.deadline > now.mono);
        let late = before.saturating_sub(self.reviews.len());
        self.counters.reviews_late += u64::try_from(late).unwrap_or_default();
    }

    /// When the next of them is late, or does not wait for its namespace any longer.
    pub(super) fn next_late(&self) -> Option<Duration> {
        let when = |open: &Open| match self.waits_for_namespace(open) {
            Some(until) if open.tries == 0 && self.synced() => until,
            Some(_) | None => open.deadline,
        };
        self.reviews.values().map(when).min()
    }

    /// Until when it waits for its namespace, if that is not known and a pool selects by its labels.
    fn waits_for_namespace(&self, open: &Open) -> Option<Duration> {
        let namespace = &open.review.object.key.namespace;
        let selects = |record: &PoolRecord| {
            let pool = record.pool.as_ref();
            pool.is_ok_and(|pool| pool.admission.namespace_selector.is_some())
        };
        let waits = !self.index.knows_namespace(namespace) && self.index.pools().any(selects);
        waits.then(|| open.deadline.saturating_sub(UNKNOWN_NAMESPACE))
    }

    /// What was on its way into the ledger was dropped: everything is decided on anew, and gets the
    /// same where the ledger keeps it.
    pub(super) fn ask_again(&mut self) {
        for open in self.reviews.values_mut() {
            open.answer = None;
            open.keeping.clear();
            open.awaits.clear();
            open.doubts = None;
        }
    }
}
