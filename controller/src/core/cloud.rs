//! What the engine and a cloud's provider tell each other about one Service. The engine decides
//! whether a load balancer is wanted and writes what became of it; how it comes about is the
//! provider's business (`providers/aws`), which never looks at Kubernetes' status.

use std::sync::Arc;

use model::{Reason, Rejection, ServiceKey, Uid};

/// What is wanted for a Service. The newest one counts.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Which Service.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// Unix seconds: of Services that share a load balancer the oldest has the first word.
    pub created: i64,
    /// What for; `None`: nothing is wanted any longer, whatever was made must go.
    pub wanted: Option<Wanted>,
    /// What its annotations say, also when nothing is wanted any longer: `on-delete` counts then.
    pub service: Arc<aws::input::Service>,
    /// The name that its status shows.
    pub shown: Option<Arc<str>>,
}

/// A load balancer is wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// On these terms.
    pub class: Arc<aws::input::Class>,
}

/// What became of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Of which Service.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// Which request: they are numbered.
    pub answers: u64,
    /// What to tell the user.
    pub told: Told,
}

/// What to tell the user of a load balancer, whoever says so.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// What is there.
    pub state: State,
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub message: String,
}

/// What is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Clients find it by this name.
    Serving(Arc<str>),
    /// Not what is wanted, for now; what was there before stays.
    Waiting,
    /// Nothing: the Service may go.
    Gone,
}

impl From<&Rejection> for Told {
    /// Nothing is asked of the cloud; what is there stays.
    fn from(rejection: &Rejection) -> Self {
        Self {
            state: State::Waiting,
            reason: rejection.reason,
            message: rejection.message.clone(),
        }
    }
}
