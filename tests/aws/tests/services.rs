//! One Service after another, with a whole controller and an AWS: what is made, what is written back,
//! what is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use aws_tests::{Play, hostname, service, tcp};
use serde_json::json;

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_service_gets_a_load_balancer_and_leaves_nothing() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    let cluster = play.cluster();
    cluster.create(service("web", tcp(80))).await;
    let name = play.ready("web").await;
    assert!(name.contains(".elb."), "{name}");
    let groups = play.target_groups().await;
    assert_eq!(groups.len(), 1);
    assert_eq!(play.targets(&groups[0]).await.len(), 3);
    println!("{:?}", play.aws.counts());
    assert!(play.elb_calls() <= 8, "{:?}", play.aws.counts());

    play.fixed_point(running).await;

    let running = play.controller("two");
    cluster.delete("Service", "default/web").await;
    play.gone("web").await;
    play.nothing_left().await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn three_ports_take_fourteen_calls() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    let ports = json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "https", "port": 443, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]);
    play.cluster().create(service("web", ports)).await;
    play.ready("web").await;
    println!("{:?}", play.aws.counts());
    assert!(play.elb_calls() <= 14, "{:?}", play.aws.counts());
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn another_type_takes_the_load_balancer_away() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    let cluster = play.cluster();
    cluster.create(service("web", tcp(80))).await;
    play.ready("web").await;
    cluster
        .edit("Service", "default/web", |o| {
            o["spec"]["type"] = json!("ClusterIP");
            o["spec"]["loadBalancerClass"].take();
            for port in o["spec"]["ports"].as_array_mut().unwrap() {
                port["nodePort"].take();
            }
        })
        .await;
    let service = cluster
        .until_service("web", "has no name and no finalizer", |o| {
            hostname(o).is_none() && o["metadata"]["finalizers"].is_null()
        })
        .await;
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(service["status"]["conditions"].is_null(), "{service}");
    play.nothing_left().await;
    cluster
        .edit("Service", "default/web", |o| {
            o["spec"]["type"] = json!("LoadBalancer");
            o["spec"]["loadBalancerClass"] = json!(aws_tests::CLASS);
        })
        .await;
    play.ready("web").await;
    play.fixed_point(running).await;
}
