//! Every request that went through the layer, for tests that count writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use super::{Fault, RequestInfo};

/// One request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The request.
    pub request: RequestInfo,
    /// The code of the reply: the server's where it was asked, even if the reply was then lost. `None`: no reply (yet).
    pub status: Option<u16>,
    /// The fault it met.
    pub fault: Option<Fault>,
}

/// The log. Clones share it. It keeps everything: tests clear it between phases.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Logged>,
    /// Counts clearings, so that late replies do not land on other entries.
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    index: usize,
    generation: u64,
}

impl RequestLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, request: RequestInfo, fault: Option<Fault>) -> Entry {
        let mut inner = self.lock();
        inner.entries.push(Logged {
            request,
            status: None,
            fault,
        });
        Entry {
            index: inner.entries.len() - 1,
            generation: inner.generation,
        }
    }

    pub(super) fn end(&self, entry: Entry, status: StatusCode) {
        let mut inner = self.lock();
        if inner.generation == entry.generation
            && let Some(logged) = inner.entries.get_mut(entry.index)
        {
            logged.status = Some(status.as_u16());
        }
    }

    /// All requests in the order they were made.
    #[must_use]
    pub fn entries(&self) -> Vec<Logged> {
        self.lock().entries.clone()
    }

    /// The requests that may have changed something.
    #[must_use]
    pub fn writes(&self) -> Vec<Logged> {
        self.lock()
            .entries
            .iter()
            .filter(|e| e.request.is_write())
            .cloned()
            .collect()
    }

    /// How many requests had this verb on this plural resource (its subresources included).
    #[must_use]
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.lock()
            .entries
            .iter()
            .filter(|e| e.request.verb == verb && e.request.resource == resource)
            .count()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.generation += 1;
    }
}
