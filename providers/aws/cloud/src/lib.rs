//! What talks to AWS: looks ([`account`], [`observe`]) and acts ([`apply`]). It decides nothing about
//! load balancers: what should be is DESIRED's, and what is to be done is DIFF's.
//!
//! Every call goes through [`call`], and nothing here waits for AWS to finish something.

use std::{sync::Arc, time::Duration};

pub mod account;
mod admit;
pub mod apply;
pub mod call;
pub mod client;
mod convert;
mod listing;
mod network;
pub mod observe;
pub mod throttle;

pub use account::Account;
pub use apply::{Made, Progress};
pub use call::{Calls, Error, Operation, Outcome};
pub use client::Connect;
pub use observe::Depth;
pub use throttle::{Limit, Limits, Purpose};

/// After so long without an answer it is not known whether a call was carried out.
const TIMEOUT: Duration = Duration::from_secs(10);

/// AWS, as seen by one cluster in one region. Cheap to clone: all clones share connections, buckets
/// and the account's snapshot.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Inner>,
    purpose: Purpose,
}

struct Inner {
    elb: aws_sdk_elasticloadbalancingv2::Client,
    ec2: aws_sdk_ec2::Client,
    region: String,
    vpc: String,
    cluster: String,
    throttle: throttle::Throttle,
    counters: call::Counters,
    account: account::Shared,
    networks: network::Kept,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud")
            .field("region", &self.inner.region)
            .field("vpc", &self.inner.vpc)
            .field("cluster", &self.inner.cluster)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

impl Cloud {
    /// The same, for calls that only verify what is believed already: they pass
    /// [`Limits::verify`] first.
    #[must_use]
    pub fn for_verification(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            purpose: Purpose::Verify,
        }
    }

    /// The same, for calls that somebody waits for.
    #[must_use]
    pub fn for_changes(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            purpose: Purpose::Change,
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.inner.region
    }

    /// The VPC that the cluster is in.
    #[must_use]
    pub fn vpc(&self) -> &str {
        &self.inner.vpc
    }

    /// The cluster's name, as tags have it.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// How many calls had which outcome since the process began.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.inner.counters.snapshot()
    }

    /// Share of the configured rates that is in force: 1 unless AWS has throttled lately.
    #[must_use]
    pub fn share(&self, service: throttle::Service) -> f64 {
        let now = std::time::Instant::now();
        self.inner
            .throttle
            .with(|buckets| buckets.share(service, now))
    }
}
