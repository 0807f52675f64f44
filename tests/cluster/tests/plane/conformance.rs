//! The conformance list of devapi on the real kube-apiserver, which is the truth: a check that
//! fails here is wrong.

use cluster::Options;
use devapi::conformance::{Cluster, checks};

use crate::common::real;

struct Truth(kube::Client);

impl Cluster for Truth {
    fn client(&self) -> kube::Client {
        self.0.clone()
    }

    fn allocates_numbers(&self) -> bool {
        true
    }
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_real_api_server_passes_every_check() {
    let real = real(Options {
        controller_manager: true, // namespaces are emptied
    })
    .await;
    let mut config = real.plane.config().await.unwrap();
    config.default_retry = false;
    let truth = Truth(kube::Client::try_from(config).unwrap());
    let mut failed = Vec::new();
    for check in checks() {
        match check.run(&truth).await {
            Ok(()) => println!("ok: {}", check.name),
            Err(why) => {
                println!("FAILED: {}: {why}", check.name);
                failed.push(check.name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} checks are wrong: {failed:#?}",
        failed.len(),
        checks().len()
    );
}
