//! With `aws.enabled` the chart grants what the controller uses when it serves AWS, and of what it
//! grants for that nothing is left unused. That the rest is used is shown by `tests/cluster`.

use aws_tests::{CLASS, hostname, options, service, tcp};
use cluster::Options;
use controller::shell::{self, Election};
use serde_json::json;
use tests::stage::Running;

use super::{play, to_cluster_ip};
use crate::{
    chart::{NAMESPACE, kubectl},
    client,
    common::real,
    rights::{granted, log, refused, roles, used},
};

/// As the chart names it.
const LEASE: &str = "portolan-controller";

#[tokio::test]
#[ignore = "real Kubernetes and moto: cargo xtask test, or see CONTRIBUTING"]
async fn the_chart_grants_exactly_what_serving_aws_uses() {
    let real = real(Options::default()).await;
    let plane = &real.plane;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    });
    let with = roles(&["--set", "aws.enabled=true,aws.clusterName=test"]);
    let without = granted(&roles(&[]));
    let objects = [&[namespace][..], &with].concat();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    kubectl(plane, &apply, &list.to_string());
    let token = plane.service_account_token(NAMESPACE, "portolan").await;
    let config = plane.config_as(&token.unwrap()).await.unwrap();
    let play = play(plane, config.clone()).await;

    let start = |identity: &str, streaming_lists: bool| {
        let election = Election {
            namespace: NAMESPACE.to_owned(),
            name: LEASE.to_owned(),
        };
        let options = shell::Options {
            election: Some(election),
            streaming_lists,
            ..options(identity, play.settings())
        };
        Running::start(client(config.clone(), &play.stage.faults), options)
    };
    let mut one = start("one", true);
    one.until("leading", |state| state.leading).await;
    let cluster = play.cluster();
    for name in ["a", "b", "c"] {
        cluster.create(service(name, tcp(80))).await;
    }
    for name in ["a", "b", "c"] {
        play.ready(name).await;
    }
    play.add_nodes(3..4).await;
    let groups = play.target_groups().await;
    cluster
        .until("the node is a target", async |_| {
            play.targets(&groups[0]).await.len() == 4
        })
        .await;
    // What waits is told so by an Event.
    let refused_one = aws_tests::annotated(service("d", tcp(80)), &[("scheme", "sideways")]);
    cluster.create(refused_one).await;
    play.says("d", "InvalidRequest").await;
    cluster.delete("Service", "default/a").await;
    play.gone("a").await;
    cluster.edit("Service", "default/b", to_cluster_ip).await;
    cluster
        .until_service("b", "has no name and no finalizer", |o| {
            hostname(o).is_none() && o["metadata"]["finalizers"].is_null()
        })
        .await;
    cluster
        .edit("Service", "default/b", |o| {
            o["spec"]["type"] = json!("LoadBalancer");
            o["spec"]["loadBalancerClass"] = json!(CLASS);
        })
        .await;
    play.ready("b").await;
    one.stop().await;
    let mut two = start("two", false);
    two.until("idle", |state| state.idle && state.leading).await;
    cluster.settled().await;
    two.stop().await;

    let log = log(plane);
    assert_eq!(refused(&log), [""; 0]);
    let (with, used) = (granted(&with), used(&log));
    let ungranted: Vec<_> = used.difference(&with).collect();
    assert!(ungranted.is_empty(), "{ungranted:?}");
    let for_aws = with.difference(&without);
    let unused: Vec<_> = for_aws.filter(|right| !used.contains(*right)).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
}
