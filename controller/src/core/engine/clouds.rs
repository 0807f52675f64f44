//! What the cloud's provider is told: once per Service and again whenever it changes. The provider
//! retries by itself; here nothing waits for it.

use super::*;
use crate::core::cloud::{Outcome, Request, State, Told, Wanted as CloudWanted};

/// What the cloud has been told about a Service, and what it has answered.
#[derive(Debug)]
pub(super) struct Cloud {
    number: u64,
    request: Arc<Request>,
    outcome: Option<Outcome>,
}

impl Cloud {
    /// Whether the last request has not been answered at all.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.is_none()
    }
}

impl Engine {
    /// What the cloud has said of this Service last.
    pub(super) fn told(&self, key: &ServiceKey, uid: &Uid) -> Option<&Told> {
        let outcome = self.clouds.get(key)?.outcome.as_ref()?;
        (outcome.uid == *uid).then_some(&outcome.told)
    }

    /// Tells the provider, when our finalizer is on the Service (G4) and it has not been told.
    pub(super) fn converge(&mut self, record: &ServiceRecord, address: &Address) {
        let wanted = match address {
            Address::Cloud(class, _) => Some(CloudWanted {
                class: class.clone(),
            }),
            Address::Leaving(_) => None,
            Address::NotOurs
            | Address::Kept
            | Address::Orphaned(_)
            | Address::Later
            | Address::Decided { .. } => return,
        };
        if !self.aws {
            return; // nobody is there to be told
        }
        let Some(service) = record.cloud.clone().filter(|_| record.has_finalizer()) else {
            return;
        };
        if wanted.is_some() && record.request.is_err() {
            return; // what cannot be read changes nothing
        }
        let request = Request {
            key: record.key.clone(),
            uid: record.uid.clone(),
            created: record.created,
            wanted,
            service,
            shown: record.shown_hostname().cloned(),
        };
        let known = self.clouds.get(&record.key);
        if known.is_some_and(|known| *known.request == request) {
            return;
        }
        // An answer to a request for the same end stays valid until there is a newer one; whether
        // it is gone must be said anew.
        let outcome = known
            .filter(|known| {
                known.request.uid == request.uid
                    && known.request.wanted.is_some() == request.wanted.is_some()
            })
            .and_then(|known| known.outcome.clone());
        self.next_request += 1;
        let cloud = Cloud {
            number: self.next_request,
            request: Arc::new(request),
            outcome,
        };
        self.effects.push(Effect::Converge {
            number: cloud.number,
            epoch: self.epoch,
            request: cloud.request.clone(),
        });
        self.clouds.insert(record.key.clone(), cloud);
    }

    /// The Service is gone, its finalizer taken off by somebody else, maybe: what was made must go.
    pub(super) fn forsake(&mut self, key: &ServiceKey, uid: &Uid) {
        let Some(cloud) = self
            .clouds
            .get(key)
            .filter(|cloud| cloud.request.uid == *uid)
        else {
            return;
        };
        let gone =
            (cloud.outcome.as_ref()).is_some_and(|outcome| outcome.told.state == State::Gone);
        if !gone {
            self.next_request += 1;
            self.effects.push(Effect::Converge {
                number: self.next_request,
                epoch: self.epoch,
                request: Arc::new(Request {
                    wanted: None,
                    ..Request::clone(&cloud.request)
                }),
            });
        }
        self.clouds.remove(key);
    }

    pub(super) fn converged(&mut self, outcome: Outcome) {
        let Some(cloud) = self.clouds.get_mut(&outcome.key) else {
            return;
        };
        if cloud.number != outcome.answers || cloud.outcome.as_ref() == Some(&outcome) {
            return; // the answer to a later request is on its way
        }
        let key = outcome.key.clone();
        cloud.outcome = Some(outcome);
        self.push(&key);
    }
}
