//! The provider of classes with `spec.aws`: takes what the engine wants of each Service, watches nodes
//! and endpoints, and brings load balancers there.
//!
//! One task owns the stacks; passes over load balancers run beside it, several at once and
//! never two over one. A pass begins anew from what is seen in the account: nothing is remembered of
//! one that has failed.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_cloud::{Cloud, Connect};

use super::{CloudFigures, Provider};

mod cluster;
mod pass;
mod run;
mod stacks;
mod words;

/// What the provider is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach AWS, and the cluster's name.
    pub connect: Connect,
    /// Nodes that come or go within so long are one change.
    pub node_window: Duration,
    /// A load balancer that nothing has changed about is looked at closely every so long, one after
    /// the other: a round takes as long as there are load balancers.
    pub verify_interval: Duration,
    /// The account is listed anew so often: what is gone or has other tags is noticed then.
    pub resync: Duration,
    /// Of the instances in a target group at most so many in a hundred are taken away at once.
    pub removed_percent: u8,
    /// Whoever waits for AWS (a load balancer to become active, targets to be healthy or drained)
    /// asks again after so long.
    pub poll_interval: Duration,
}

impl Settings {
    /// The usual ones.
    pub fn new(connect: Connect) -> Self {
        Self {
            connect,
            node_window: Duration::from_secs(5),
            verify_interval: Duration::from_secs(5),
            resync: Duration::from_secs(600),
            removed_percent: 50,
            poll_interval: Duration::from_secs(10),
        }
    }
}

/// The provider, to be put into [`super::Options::aws`].
pub fn provider(settings: Settings) -> Provider {
    let figures = Arc::<Published>::default();
    let seen = Arc::clone(&figures);
    let start = move |seat| {
        let settings = settings.clone();
        let figures = Arc::clone(&figures);
        futures::FutureExt::boxed(run::run(settings, seat, figures))
    };
    Provider {
        start: Arc::new(start),
        figures: Arc::new(move || seen.read()),
    }
}

/// What is shown of a running provider.
#[derive(Debug, Default)]
struct Published {
    cloud: OnceLock<Cloud>,
    orphans: AtomicU64,
}

impl Published {
    fn read(&self) -> CloudFigures {
        let calls = self.cloud.get().map(Cloud::calls).unwrap_or_default();
        let counts = calls.counts.into_iter();
        CloudFigures {
            calls: counts
                .map(|((operation, outcome), count)| (operation.name(), outcome.name(), count))
                .collect(),
            orphans: self.orphans.load(Ordering::Relaxed),
        }
    }
}
