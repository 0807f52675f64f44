//! What a Kubernetes API server does, as a list of checks over any [`Cluster`].
//!
//! devapi must pass them, and so must a real kube-apiserver, which is the truth: a check the real one fails is wrong.
//! Each check works in a namespace of its own (or with unique names) and leaves it behind empty of finalizers.

mod custom;
mod objects;
mod patches;
mod probe;
mod services;
mod watches;

use futures::future::BoxFuture;

pub use self::probe::{Failed, Probe};

/// A server to check.
pub trait Cluster: Send + Sync {
    /// A client with no retries of its own, so that every answer is seen.
    fn client(&self) -> kube::Client;

    /// Whether the server fills in clusterIPs, ipFamilies, nodePorts and healthCheckNodePorts itself.
    fn allocates_numbers(&self) -> bool;

    /// Makes the server forget its history, where that can be done; `false` where it cannot.
    fn compact(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }
}

/// What a check answers: nothing, or what was expected and what was seen.
pub type Outcome = Result<(), Failed>;

type Run = for<'a> fn(&'a Probe<'a>) -> BoxFuture<'a, Outcome>;

/// One statement about the server.
pub struct Check {
    /// The statement, a sentence in snake case.
    pub name: &'static str,
    run: Run,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

impl Check {
    /// Makes a namespace, runs the check in it and deletes it.
    ///
    /// # Errors
    /// What was expected and what was seen instead.
    pub async fn run(&self, cluster: &dyn Cluster) -> Outcome {
        let probe = Probe::new(cluster).await?;
        let outcome = (self.run)(&probe).await;
        probe.clean_up().await;
        outcome
    }
}

/// Every check.
#[must_use]
pub fn checks() -> Vec<Check> {
    let all = [
        objects::CHECKS,
        patches::CHECKS,
        watches::CHECKS,
        services::CHECKS,
        custom::CHECKS,
    ];
    all.into_iter()
        .flatten()
        .map(|(name, run)| Check { name, run: *run })
        .collect()
}

type Listed = (&'static str, Run);

/// Makes a table of checks from async functions, named by themselves.
macro_rules! list {
    ($($check:ident),* $(,)?) => {
        pub(super) const CHECKS: &[super::Listed] = &[$((stringify!($check), |p| Box::pin($check(p)))),*];
    };
}
use list;
