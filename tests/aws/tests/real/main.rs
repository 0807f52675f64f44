//! The whole controller before moto and a real Kubernetes. What the embedded API server and moto
//! show together is in the other files.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use cluster::ControlPlane;
use controller::shell;
use devapi::faults::Faults;
use tests::{cluster::Cluster, stage::Stage};
use tower::Layer as _;

#[path = "../../../cluster/tests/common/chart.rs"]
mod chart;
#[path = "../../../cluster/tests/common/mod.rs"]
mod common;
mod kubernetes;
mod lab;
#[path = "../../../cluster/tests/common/rights.rs"]
mod rights;

/// How long nothing may be written before the cluster counts as settled.
const QUIET: Duration = Duration::from_secs(3);

/// A client of the real API server as this user, through faults that are logged.
fn client(config: kube::Config, faults: &Faults) -> kube::Client {
    let real = shell::client(config).unwrap();
    let send = tower::service_fn(move |request| {
        let real = real.clone();
        async move { real.send(request).await }
    });
    shell::client_over(faults.layer(send), "default")
}

/// The controllers are this user. Cluster IPs and nodePorts are the API server's.
async fn stage(plane: &ControlPlane, config: kube::Config) -> Stage {
    let faults = Faults::new(7);
    let stage = Stage {
        cluster: Cluster::new(plane.client().await.unwrap(), QUIET, false),
        client: client(config, &faults),
        faults,
        api: None,
    };
    stage.cluster.install().await;
    stage
}
