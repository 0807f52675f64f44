//! How long whoever failed waits before the next try: exponentially longer, with jitter, until it
//! succeeds. It never looks at what failed, nor at why.

use std::{collections::HashMap, hash::Hash, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// First delay after a failure; doubled each time.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No failure waits longer.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The backoff of every key that failed and has not succeeded since.
#[derive(Debug)]
pub struct Failing<K> {
    keys: HashMap<K, ExponentialBackoff>,
    seed: u64,
}

impl<K: Clone + Eq + Hash> Failing<K> {
    /// Nobody has failed; the seed is for jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            keys: HashMap::new(),
            seed,
        }
    }

    /// It failed: how long it waits.
    pub fn delay(&mut self, key: &K) -> Duration {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let seed = self.seed;
        let backoff = self.keys.entry(key.clone()).or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(FIRST_DELAY)
                .with_max_delay(LONGEST_DELAY)
                .with_jitter()
                .with_jitter_seed(seed)
                .without_max_times()
                .build()
        });
        backoff.next().unwrap_or(LONGEST_DELAY)
    }

    /// It succeeded: the next failure starts with the shortest delay.
    pub fn succeeded(&mut self, key: &K) {
        self.keys.remove(key);
    }

    /// Forgets every failure.
    pub fn clear(&mut self) {
        self.keys.clear();
    }
}
