//! The newest snapshot, shared by all workers: who renews it, and what a listing cannot know yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Account, Change};
use aws::wanted::Tags;

/// AWS lists what was just made or deleted with some delay: what we wrote shortly before a listing
/// began counts more than the listing.
const GRACE: Duration = Duration::from_secs(30);

/// The tags of one resource, ours or not.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) tags: Tags,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct State {
    account: Arc<Account>,
    /// When the listing began that it comes from.
    listed: Option<Instant>,
    /// Tags by ARN, also of what is not ours, so that they are not asked for again.
    tags: HashMap<String, Known>,
    /// What was written, as long as a listing may not show it.
    written: Vec<(Instant, Change)>,
}

/// The newest snapshot.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// One listing at a time.
    flight: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            flight: Semaphore::new(1),
        }
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The one who may list; others wait behind and then find a young snapshot. Never closed.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.flight.acquire().await.ok()
    }

    /// The snapshot, if its listing began at most `max_age` ago.
    pub(crate) fn fresh(&self, max_age: Duration, now: Instant) -> Option<Arc<Account>> {
        self.with(|state| {
            let age = now.saturating_duration_since(state.listed?);
            (age <= max_age).then(|| Arc::clone(&state.account))
        })
    }

    /// The snapshot, however old.
    pub(crate) fn newest(&self) -> Option<Arc<Account>> {
        self.with(|state| state.listed.map(|_| Arc::clone(&state.account)))
    }

    /// Tags that were read at most `max_age` ago.
    pub(crate) fn known(&self, arn: &str, max_age: Duration, now: Instant) -> Option<Known> {
        self.with(|state| {
            let known = state.tags.get(arn)?;
            let age = now.saturating_duration_since(known.at);
            (age <= max_age).then(|| known.clone())
        })
    }

    /// Writes down what was written in AWS.
    pub(crate) fn note(&self, change: Change, cluster: &str, now: Instant) {
        self.with(|state| {
            if let Change::Created(resource) = &change {
                state.tags.remove(resource.arn());
            }
            retell(&mut state.tags, &change, now);
            Arc::make_mut(&mut state.account).note(change.clone(), cluster);
            state.written.push((now, change));
            // Before the first listing nothing else forgets; a listing takes less than `GRACE`
            // times four, or fails.
            let oldest = now.checked_sub(GRACE * 4);
            state
                .written
                .retain(|(at, _)| oldest.is_none_or(|oldest| *at >= oldest));
        });
    }

    /// A listing that began at `began` becomes the snapshot; `tags`: of every resource listed.
    pub(crate) fn install(
        &self,
        mut account: Account,
        mut tags: HashMap<String, Known>,
        cluster: &str,
        began: Instant,
    ) -> Arc<Account> {
        self.with(|state| {
            state.written.retain(|(at, _)| *at + GRACE >= began);
            for (at, change) in &state.written {
                account.replay(change.clone(), cluster);
                retell(&mut tags, change, *at);
            }
            state.tags = tags;
            state.account = Arc::new(account);
            state.listed = Some(began);
            Arc::clone(&state.account)
        })
    }
}

/// What a change means for the tags that are remembered.
fn retell(tags: &mut HashMap<String, Known>, change: &Change, at: Instant) {
    match change {
        Change::Created(resource) => {
            let known = || Known {
                tags: resource.tags().clone(),
                at,
            };
            tags.entry(resource.arn().to_owned()).or_insert_with(known);
        }
        Change::Gone(arn) => {
            tags.remove(arn);
        }
        Change::Tagged(arn, more) => {
            if let Some(known) = tags.get_mut(arn) {
                known.tags.extend(more.clone());
            }
        }
        Change::Untagged(arn, keys) => {
            if let Some(known) = tags.get_mut(arn) {
                known.tags.retain(|key, _| !keys.contains(key));
            }
        }
        Change::Active(_)
        | Change::Subnets(..)
        | Change::SecurityGroups(..)
        | Change::IpAddressType(..)
        | Change::HealthCheck(..)
        | Change::Forwards(..)
        | Change::ForwardsOnly(..)
        | Change::Authorized(..)
        | Change::Revoked(..) => {}
    }
}
