//! Where the shared sentences play on a real control plane.

use std::time::Duration;

use cluster::ControlPlane;
use controller::shell;
use devapi::faults::Faults;
use tests::{cluster::Cluster, fixtures::default_class, stage::Stage};
use tower::Layer as _;

/// How long nothing may be written before the cluster counts as settled.
const QUIET: Duration = Duration::from_secs(3);

/// As on devapi, but clusterIPs and nodePorts are the API server's.
pub(crate) async fn stage(plane: &ControlPlane) -> Stage {
    let faults = Faults::new(7);
    let real = shell::client(plane.config().await.unwrap()).unwrap();
    let send = tower::service_fn(move |request| {
        let real = real.clone();
        async move { real.send(request).await }
    });
    let client = shell::client_over(faults.layer(send), "default");
    let cluster = Cluster::new(plane.client().await.unwrap(), QUIET, false);
    cluster.install().await;
    cluster.create(default_class()).await;
    Stage {
        cluster,
        faults,
        client,
        api: None,
    }
}
