//! What two tasks tell each other about Services: the newest word about each counts, so it is never
//! longer than there are Services, and nobody waits to put something in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use model::ServiceKey;
use tokio::sync::Notify;

/// The newest word about each Service.
#[derive(Debug)]
pub struct Mailbox<T> {
    letters: Mutex<HashMap<ServiceKey, T>>,
    ring: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            letters: Mutex::default(),
            ring: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Replaces what was there about this Service.
    pub fn put(&self, key: ServiceKey, letter: T) {
        self.lock().insert(key, letter);
        self.ring.notify_one();
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    /// Until something may be there. One task waits; dropped and called again it misses nothing.
    pub async fn filled(&self) {
        self.ring.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ServiceKey, T>> {
        // Nothing in here can be half done.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
