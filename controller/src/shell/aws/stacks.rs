//! Which load balancers are to be looked at, and when: one at a time each, several at once. Pure; the
//! time is given. What the looking does is told by [`super::pass`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use aws::{Rejection, diff::DNS_GRACE, plan::Wait};
use model::ServiceKey;

use crate::shell::Order;

#[cfg(test)]
mod tests;

/// The first pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pause after so many failures in a row and one more. `jitter` is from 0 to 1.
pub(super) fn backoff(failures: u32, jitter: f64) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A Service and where it belongs.
#[derive(Clone, Debug)]
struct Member {
    order: Order,
    /// The stack that it wants to be in. Where that cannot be read, the one before.
    stack: Option<String>,
    /// Stacks that it was in: something of it may be left there.
    leaving: BTreeSet<String>,
}

/// What is known of one load balancer's passes.
#[derive(Debug, Default)]
struct Stack {
    members: BTreeSet<ServiceKey>,
    leaving: BTreeSet<ServiceKey>,
    running: bool,
    due: Option<Duration>,
    /// What the last pass waits for; empty once anything else has changed.
    waits: Vec<Wait>,
    failures: u32,
}

/// One pass to do.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) stack: String,
    /// Those who want it, oldest first.
    pub(super) members: Vec<Order>,
    /// Those who do not any longer.
    pub(super) leaving: Vec<Order>,
    /// Nothing has changed since the pass that ended with these.
    pub(super) waits: Vec<Wait>,
    /// How many passes before have failed, one after the other.
    pub(super) failures: u32,
    /// Nothing has changed, but it is compared closely with what should be.
    pub(super) verify: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    epoch: u64,
    members: HashMap<ServiceKey, Member>,
    stacks: BTreeMap<String, Stack>,
    /// Where the rotation of closer looks has come to.
    rotation: String,
}

impl Stacks {
    /// Takes an order; `found`: in which stacks the account has something of the Service. One whose
    /// annotations cannot be read changes nothing: the rejection is returned, to be told.
    pub(super) fn take(
        &mut self,
        order: Order,
        found: BTreeSet<String>,
        now: Duration,
    ) -> Option<Rejection> {
        if order.epoch > self.epoch {
            // Passes that still run end as those of stacks that nobody knows.
            *self = Self {
                epoch: order.epoch,
                ..Self::default()
            };
        }
        if order.epoch < self.epoch {
            return None;
        }
        let request = &order.request;
        let key = request.key.clone();
        let before = self.members.remove(&key);
        let (old, mut leaving) =
            before.map_or_else(Default::default, |member| (member.stack, member.leaving));
        let (stack, rejection) = match &request.wanted {
            None => (None, None),
            Some(wanted) => match aws::desired::stack(&request.service, &wanted.class) {
                Ok(stack) => (Some(stack), None),
                // It stays where it was, if anywhere.
                Err(rejection) => (old.clone(), Some(rejection)),
            },
        };
        if rejection.is_none() {
            leaving.extend(found);
            leaving.extend(old.clone());
            if request.wanted.is_none() && leaving.is_empty() {
                // Whatever is left would be here.
                leaving.insert(key.to_string());
            }
        }
        if let Some(stack) = &stack {
            leaving.remove(stack);
            let state = self.stacks.entry(stack.clone()).or_default();
            state.members.insert(key.clone());
            state.leaving.remove(&key);
            self.mark(stack, now);
        }
        for old in &leaving {
            let state = self.stacks.entry(old.clone()).or_default();
            state.members.remove(&key);
            state.leaving.insert(key.clone());
            // An old load balancer that nobody else wants stays until the new one serves.
            if request.wanted.is_none() || !state.members.is_empty() {
                self.mark(old, now);
            }
        }
        self.members.insert(
            key,
            Member {
                order,
                stack,
                leaving,
            },
        );
        rejection
    }

    /// Something that it depends on has changed.
    fn mark(&mut self, stack: &str, now: Duration) {
        if let Some(state) = self.stacks.get_mut(stack) {
            state.waits.clear();
            state.due = Some(state.due.map_or(now, |due| due.min(now)));
        }
    }

    /// The endpoints of a Service have changed.
    pub(super) fn mark_service(&mut self, key: &ServiceKey, now: Duration) {
        let stack = self
            .members
            .get(key)
            .and_then(|member| member.stack.clone());
        if let Some(stack) = stack {
            self.mark(&stack, now);
        }
    }

    /// Something that all depend on has changed.
    pub(super) fn mark_all(&mut self, now: Duration) {
        for state in self
            .stacks
            .values_mut()
            .filter(|state| !state.members.is_empty())
        {
            state.waits.clear();
            state.due = Some(state.due.map_or(now, |due| due.min(now)));
        }
    }

    /// Its load balancer serves: those that it was behind before may go, once clients have had the
    /// time to learn the new name.
    pub(super) fn served(&mut self, key: &ServiceKey, now: Duration) {
        let Some(member) = self.members.get(key) else {
            return;
        };
        let grace = Duration::from_secs(DNS_GRACE.unsigned_abs());
        for old in &member.leaving {
            if let Some(state) = self.stacks.get_mut(old).filter(|state| !state.running) {
                state.due.get_or_insert(now + grace);
            }
        }
    }

    /// One that is due and not being looked at; it is from now on.
    pub(super) fn next(&mut self, now: Duration) -> Option<Job> {
        let due = |state: &Stack| !state.running && state.due.is_some_and(|due| due <= now);
        let (name, state) = self.stacks.iter_mut().find(|(_, state)| due(state))?;
        state.running = true;
        state.due = None;
        let name = name.clone();
        self.job(&name)
    }

    /// The next in the rotation, if nobody looks at it; it is looked at from now on.
    pub(super) fn verify(&mut self) -> Option<Job> {
        let idle = |(name, state): (&String, &Stack)| {
            (!state.running && state.due.is_none() && !state.members.is_empty())
                .then(|| name.clone())
        };
        let after = self.stacks.range(format!("{}\0", self.rotation)..);
        let name = after.chain(self.stacks.iter()).find_map(idle)?;
        self.rotation.clone_from(&name);
        self.stacks.get_mut(&name)?.running = true;
        Some(Job {
            verify: true,
            ..self.job(&name)?
        })
    }

    fn job(&self, stack: &str) -> Option<Job> {
        let state = self.stacks.get(stack)?;
        let order = |key| Some(self.members.get(key)?.order.clone());
        let mut members: Vec<Order> = state.members.iter().filter_map(order).collect();
        members.sort_by(|a, b| {
            let age = |order: &Order| (order.request.created, order.request.key.clone());
            age(a).cmp(&age(b))
        });
        Some(Job {
            stack: stack.to_owned(),
            members,
            leaving: state.leaving.iter().filter_map(order).collect(),
            waits: state.waits.clone(),
            failures: state.failures,
            verify: false,
        })
    }

    /// A pass is over: again after so long, or when something changes. With `left`, nothing is left
    /// of those that were leaving; returns those of whom nothing is left anywhere.
    pub(super) fn done(
        &mut self,
        job: &Job,
        again: Option<Duration>,
        waits: Vec<Wait>,
        left: bool,
        now: Duration,
    ) -> BTreeSet<ServiceKey> {
        let mut gone = BTreeSet::new();
        let Some(state) = self.stacks.get_mut(&job.stack) else {
            return gone;
        };
        state.running = false;
        state.failures = 0;
        if state.due.is_none() {
            state.waits = waits;
        }
        if let Some(again) = again {
            let at = now + again;
            state.due = Some(state.due.map_or(at, |due| due.min(at)));
        }
        for order in job.leaving.iter().filter(|_| left) {
            let key = &order.request.key;
            let member = self.members.get_mut(key);
            // One that has come back and left again since waits for another pass.
            let Some(member) = member.filter(|member| member.order.number == order.number) else {
                continue;
            };
            state.leaving.remove(key);
            member.leaving.remove(&job.stack);
            if member.stack.is_none() && member.leaving.is_empty() {
                self.members.remove(key);
                gone.insert(key.clone());
            }
        }
        if state.members.is_empty() && state.leaving.is_empty() && state.due.is_none() {
            self.stacks.remove(&job.stack);
        }
        gone
    }

    /// A pass has only found that what it waits for is not there yet.
    pub(super) fn still(&mut self, job: &Job, again: Duration, now: Duration) {
        if let Some(state) = self.stacks.get_mut(&job.stack) {
            state.running = false;
            let at = now + again;
            state.due = Some(state.due.map_or(at, |due| due.min(at)));
        }
    }

    /// A pass has failed; returns the pause. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, job: &Job, jitter: f64, now: Duration) -> Duration {
        let Some(state) = self.stacks.get_mut(&job.stack) else {
            return LONGEST_PAUSE;
        };
        state.running = false;
        state.waits.clear();
        let pause = backoff(state.failures, jitter);
        state.failures = state.failures.saturating_add(1);
        let at = now + pause;
        // Whatever has changed meanwhile does not make AWS be asked sooner.
        state.due = Some(at);
        pause
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let waiting = self.stacks.values().filter(|state| !state.running);
        waiting.filter_map(|state| state.due).min()
    }
}
