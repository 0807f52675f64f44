//! An AWS for tests: EC2 and Network Load Balancers on loopback, without an account and without
//! the AWS SDK.
//!
//! The state is [moto](https://github.com/getmoto/moto)'s, a Python program; `portolan_moto/`
//! extends its backends where they lie about Network Load Balancers or lack something, each time
//! with a word on what real AWS does. In front of it a proxy logs each call and injects faults; it
//! decides nothing else. What neither knows, a test of ours must not claim of AWS.
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use moto::{Aws, Fault, What};
//! let aws = Aws::start().await?;
//! let network = aws.network(3, 2).await?;
//! aws.fault(Fault { action: "CreateListener", nth: 1, what: What::Throttle });
//! // ... run what is tested against aws.endpoint() and network.vpc ...
//! assert_eq!(aws.counts().get("CreateLoadBalancer"), Some(&1));
//! # Ok(())
//! # }
//! ```

mod network;
mod proxy;
mod python;
mod query;

use std::collections::BTreeMap;
use std::path::Path;

pub use network::{Health, Instance, Network, SetUpError, Subnet};
pub use proxy::{Call, EVERY, Fault, What};
pub use python::NotAvailable;
pub use query::{Failed, Query, Reply, Service};

/// The region that everything lies in.
pub const REGION: &str = "eu-central-1";

/// Whether it can run on this machine; the first time it installs moto, which takes a minute.
///
/// # Errors
///
/// [`NotAvailable`] says what this machine lacks.
pub fn available() -> Result<(), NotAvailable> {
    python::installed().map(drop)
}

/// A running AWS of one test. Dropping it ends the Python program and the proxy.
#[derive(Debug)]
pub struct Aws {
    moto: python::Moto,
    proxy: proxy::Proxy,
}

impl Aws {
    /// Starts moto and the proxy; the first time on a machine it also installs moto, from PyPI.
    ///
    /// # Errors
    ///
    /// [`NotAvailable`] says what this machine lacks; a test that gets it has not run.
    pub async fn start() -> Result<Self, NotAvailable> {
        Self::start_with(&[]).await
    }

    /// Like [`Aws::start`], with settings of `portolan_moto/settings.py`: `("HEALTH_SECONDS", "0")`.
    ///
    /// # Errors
    ///
    /// As of [`Aws::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self, NotAvailable> {
        let moto = python::Moto::start(settings).await?;
        let proxy = proxy::Proxy::start(moto.port)
            .await
            .map_err(NotAvailable::Loopback)?;
        Ok(Self { moto, proxy })
    }

    /// The URL for what is tested: of the proxy.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.proxy.port)
    }

    /// The URL for setting up and looking: of moto, past faults and the log.
    #[must_use]
    pub fn direct(&self) -> String {
        format!("http://127.0.0.1:{}", self.moto.port)
    }

    /// The Python that has the packages of `requirements.txt`, boto3 among them.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.moto.python
    }

    /// A client of [`Aws::direct`].
    #[must_use]
    pub const fn query(&self) -> Query {
        Query::on(self.moto.port)
    }

    /// A client of [`Aws::endpoint`].
    #[must_use]
    pub const fn query_endpoint(&self) -> Query {
        Query::on(self.proxy.port)
    }

    /// What came through the proxy so far, in the order it came.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.proxy.script().calls.clone()
    }

    /// How often each action came through the proxy so far, those with a fault included.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.proxy.script().calls {
            *counts.entry(call.action.clone()).or_default() += 1;
        }
        counts
    }

    /// Empties the log, so that the next phase of a test is counted alone.
    pub fn forget_calls(&self) {
        self.proxy.script().forget();
    }

    /// Adds a fault. It counts calls from now on; the first added of several that match wins.
    pub fn fault(&self, fault: Fault) {
        self.proxy.script().add(fault);
    }

    /// Lets `n` more calls pass and drops every later connection, as if the caller had died:
    /// the `n`th with its reply, or without it though it was carried out.
    pub fn stop_after(&self, n: usize, with_reply: bool) {
        self.proxy.script().stop_after(n, with_reply);
    }

    /// Ends [`Aws::stop_after`] and all faults.
    pub fn resume(&self) {
        self.proxy.script().resume();
    }
}
