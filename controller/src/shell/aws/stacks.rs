//! Which load balancers are to be looked at, and when: one at a time each, several at once. Pure; the
//! time is given. What the looking does is told by [`super::pass`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use aws::Rejection;
use model::ServiceKey;

use crate::shell::Order;

/// The first pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A Service and where it belongs.
#[derive(Clone, Debug)]
struct Member {
    order: Order,
    /// The stack, unless its annotations cannot be read: then it stays where it was, if anywhere.
    stack: Option<String>,
}

/// What is known of one load balancer's passes.
#[derive(Debug, Default)]
struct Stack {
    members: BTreeSet<ServiceKey>,
    /// Services that left it and wait to be told that nothing of theirs is left.
    leaving: BTreeMap<ServiceKey, Order>,
    running: bool,
    due: Option<Duration>,
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
    /// Takes an order. A Service whose annotations cannot be read changes nothing: the rejection is
    /// returned, to be told.
    pub(super) fn take(&mut self, order: Order, now: Duration) -> Option<Rejection> {
        if order.epoch > self.epoch {
            *self = Self {
                epoch: order.epoch,
                ..Self::default()
            };
        }
        if order.epoch < self.epoch {
            return None;
        }
        let key = order.request.key.clone();
        let before = self
            .members
            .get(&key)
            .and_then(|member| member.stack.clone());
        let mut rejection = None;
        let stack = match &order.request.wanted {
            Some(wanted) => match aws::desired::stack(&order.request.service, &wanted.class) {
                Ok(stack) => Some(stack),
                Err(why) => {
                    rejection = Some(why);
                    before.clone()
                }
            },
            None => None,
        };
        if let Some(old) = before.filter(|old| Some(old) != stack.as_ref()) {
            let state = self.stacks.entry(old.clone()).or_default();
            state.members.remove(&key);
            state.leaving.insert(key.clone(), order.clone());
            self.mark(&old, now);
        } else if order.request.wanted.is_none() {
            // Not known to this process: what a former one made is found by its tags.
            let stack = former(&order);
            let state = self.stacks.entry(stack.clone()).or_default();
            state.leaving.insert(key.clone(), order.clone());
            self.mark(&stack, now);
        }
        match &stack {
            Some(stack) => {
                let state = self.stacks.entry(stack.clone()).or_default();
                state.members.insert(key.clone());
                state.leaving.remove(&key);
                self.mark(stack, now);
                self.members.insert(
                    key,
                    Member {
                        order,
                        stack: Some(stack.clone()),
                    },
                );
            }
            None if rejection.is_some() => {
                self.members.insert(key, Member { order, stack: None });
            }
            None => {
                self.members.remove(&key);
            }
        }
        rejection
    }

    /// Something that it depends on has changed.
    pub(super) fn mark(&mut self, stack: &str, now: Duration) {
        if let Some(state) = self.stacks.get_mut(stack) {
            state.due = Some(now);
        }
    }

    /// The endpoints of a Service have changed.
    pub(super) fn mark_service(&mut self, key: &ServiceKey, now: Duration) {
        if let Some(stack) = self
            .members
            .get(key)
            .and_then(|member| member.stack.clone())
        {
            self.mark(&stack, now);
        }
    }

    /// Something that all depend on has changed.
    pub(super) fn mark_all(&mut self, now: Duration) {
        for state in self.stacks.values_mut() {
            state.due = Some(state.due.map_or(now, |due| due.min(now)));
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
        self.job(&name)
    }

    fn job(&self, stack: &str) -> Option<Job> {
        let state = self.stacks.get(stack)?;
        let members = state.members.iter().filter_map(|key| self.members.get(key));
        let mut members: Vec<Order> = members.map(|member| member.order.clone()).collect();
        members.sort_by(|a, b| {
            let age = |order: &Order| (order.request.created, order.request.key.clone());
            age(a).cmp(&age(b))
        });
        Some(Job {
            stack: stack.to_owned(),
            members,
            leaving: state.leaving.values().cloned().collect(),
        })
    }

    /// A pass is over: again after so long, or when something changes. Those that were leaving have
    /// left if `left`.
    pub(super) fn done(&mut self, job: &Job, again: Option<Duration>, left: bool, now: Duration) {
        let Some(state) = self.stacks.get_mut(&job.stack) else {
            return;
        };
        state.running = false;
        state.failures = 0;
        if left {
            for order in &job.leaving {
                let key = &order.request.key;
                let newer = state
                    .leaving
                    .get(key)
                    .is_some_and(|now| now.number > order.number);
                if !newer {
                    state.leaving.remove(key);
                }
            }
        }
        if let Some(again) = again {
            let at = now + again;
            state.due = Some(state.due.map_or(at, |due| due.min(at)));
        }
        if state.members.is_empty() && state.leaving.is_empty() && state.due.is_none() {
            self.stacks.remove(&job.stack);
        }
    }

    /// A pass has failed; returns the pause. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, job: &Job, jitter: f64, now: Duration) -> Duration {
        let Some(state) = self.stacks.get_mut(&job.stack) else {
            return LONGEST_PAUSE;
        };
        state.running = false;
        let doubled = FIRST_PAUSE.saturating_mul(1 << state.failures.min(16));
        state.failures = state.failures.saturating_add(1);
        let pause = doubled
            .min(LONGEST_PAUSE)
            .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let at = now + pause;
        state.due = Some(state.due.map_or(at, |due| due.min(at)));
        pause
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let waiting = self.stacks.values().filter(|state| !state.running);
        waiting.filter_map(|state| state.due).min()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Their names: whatever else carries our tags is an orphan.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.stacks.keys().cloned().collect()
    }
}

/// Where a Service that nobody remembers belonged: its annotations say, or its own name does.
fn former(order: &Order) -> String {
    let request = &order.request;
    aws::desired::former_stack(&request.service)
}
