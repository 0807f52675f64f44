//! Every check of the conformance list, on devapi in process and through its HTTP front.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that cannot go on should panic"
)]

use std::net::SocketAddr;

use devapi::conformance::{Cluster, checks};
use devapi::{DevApi, Options};
use futures::future::BoxFuture;

struct InProcess(DevApi);

impl Cluster for InProcess {
    fn client(&self) -> kube::Client {
        self.0.client()
    }

    fn allocates_numbers(&self) -> bool {
        false
    }

    fn compact(&self) -> BoxFuture<'_, bool> {
        self.0.compact();
        Box::pin(async { true })
    }
}

struct OverHttp(DevApi, SocketAddr);

impl Cluster for OverHttp {
    fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(format!("http://{}", self.1).parse().unwrap());
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    fn allocates_numbers(&self) -> bool {
        false
    }

    fn compact(&self) -> BoxFuture<'_, bool> {
        self.0.compact();
        Box::pin(async { true })
    }
}

async fn run_all(title: &str, cluster: &dyn Cluster) {
    let mut failed = Vec::new();
    for check in checks() {
        match check.run(cluster).await {
            Ok(()) => println!("{title}: ok: {}", check.name),
            Err(why) => {
                println!("{title}: FAILED: {}: {why}", check.name);
                failed.push(check.name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} checks failed: {failed:#?}",
        failed.len(),
        checks().len()
    );
}

/// tokio's clock is paused, so nothing waits for real time.
#[tokio::test(start_paused = true)]
async fn devapi_passes_every_check_in_process() {
    run_all("in process", &InProcess(DevApi::new(Options::default()))).await;
}

#[tokio::test]
async fn devapi_passes_every_check_over_http() {
    let api = DevApi::new(Options::default());
    let (address, server) = api.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
    run_all("over HTTP", &OverHttp(api, address)).await;
    server.shutdown().await;
}

#[test]
fn every_check_has_a_name_of_its_own() {
    let mut names: Vec<_> = checks().iter().map(|c| c.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), checks().len());
}
