//! A real API server, without nodes.

use std::time::Duration;

use aws_tests::{CLASS, Play, figures::Tally, hostname, options, service, start, tcp};
use cluster::{ControlPlane, Options};
use controller::shell::{self, Election};
use moto::{EVERY, Fault, What};
use serde_json::{Value, json};
use tests::stage::Running;

use crate::{client, common::real, stage};

mod rights;

/// Services during a hand-over.
const MANY: usize = 10;

async fn play(plane: &ControlPlane, config: kube::Config) -> Play {
    let aws = start(&[]).await;
    let network = aws.network(3, 5).await.unwrap();
    Play::on(stage(plane, config).await, aws, network).await
}

/// Everything that makes it a load balancer's goes, as `kubectl edit` would do it.
fn to_cluster_ip(service: &mut Value) {
    let spec = service["spec"].as_object_mut().unwrap();
    spec.insert("type".to_owned(), json!("ClusterIP"));
    for field in [
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    ] {
        spec.remove(field);
    }
    for port in spec["ports"].as_array_mut().unwrap() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
}

#[tokio::test]
#[ignore = "real Kubernetes and moto: cargo xtask test, or see CONTRIBUTING"]
async fn a_service_is_provisioned_shown_changed_back_and_forth_and_deleted() {
    let real = real(Options::default()).await;
    let play = play(&real.plane, real.plane.config().await.unwrap()).await;
    let running = play.controller("one");
    let cluster = play.cluster();
    cluster.create(service("web", tcp(80))).await;
    let name = play.ready("web").await;
    let shown = play.elb("DescribeLoadBalancers", &[]).await.all("DNSName");
    assert_eq!(shown, [name]);
    let groups = play.target_groups().await;
    assert_eq!(groups.len(), 1);
    let port = cluster.service("web").await["spec"]["ports"][0]["nodePort"].clone();
    let targets = play.targets(&groups[0]).await;
    assert_eq!(targets.len(), 3);
    assert!(
        targets.keys().all(|t| t.ends_with(&format!(":{port}"))),
        "{targets:?} {port}"
    );
    play.fixed_point(running).await;

    let running = play.controller("two");
    cluster.edit("Service", "default/web", to_cluster_ip).await;
    cluster
        .until_service("web", "has no name and no finalizer", |o| {
            hostname(o).is_none() && o["metadata"]["finalizers"].is_null()
        })
        .await;
    play.nothing_left().await;
    cluster
        .edit("Service", "default/web", |o| {
            o["spec"]["type"] = json!("LoadBalancer");
            o["spec"]["loadBalancerClass"] = json!(CLASS);
        })
        .await;
    play.ready("web").await;
    assert_eq!(play.load_balancers().await.len(), 1);

    cluster.delete("Service", "default/web").await;
    play.gone("web").await;
    play.nothing_left().await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "real Kubernetes and moto: cargo xtask test, or see CONTRIBUTING"]
async fn who_takes_over_in_the_middle_makes_nothing_twice_and_loses_nothing() {
    let real = real(Options::default()).await;
    let config = real.plane.config().await.unwrap();
    let play = play(&real.plane, config.clone()).await;
    let campaign = |identity: &str| {
        let election = Election {
            namespace: "default".to_owned(),
            name: "portolan".to_owned(),
        };
        let options = shell::Options {
            election: Some(election),
            ..options(identity, play.settings())
        };
        Running::start(client(config.clone(), &play.stage.faults), options)
    };
    let mut first = campaign("first");
    first.until("leading", |state| state.leading).await;
    let mut second = campaign("second");
    second.until("synced", |state| state.synced).await;
    assert!(!second.state().leading);

    // Slow enough to be hit in the middle.
    play.aws.fault(Fault {
        action: "*",
        nth: EVERY,
        what: What::Delay(Duration::from_millis(50)),
    });
    play.aws.forget_calls();
    let cluster = play.cluster();
    for number in 0..MANY {
        cluster
            .create(service(&format!("s{number}"), tcp(80)))
            .await;
    }
    cluster
        .until("some load balancers are made", async |_| {
            Tally::of(&play.aws.calls()).count("CreateLoadBalancer") >= MANY / 2
        })
        .await;
    first.crash().await;
    let listeners = Tally::of(&play.aws.calls()).count("CreateListener");
    assert!(listeners < MANY, "it was through already");
    play.aws.resume();

    second.until("leading", |state| state.leading).await;
    let mut names = Vec::new();
    for number in 0..MANY {
        names.push(play.ready(&format!("s{number}")).await);
    }
    let mut made = play.elb("DescribeLoadBalancers", &[]).await.all("DNSName");
    names.sort();
    made.sort();
    assert_eq!(names, made);
    assert_eq!(made.len(), MANY);
    let groups = play.target_groups().await;
    assert_eq!(groups.len(), MANY);
    for group in groups {
        assert_eq!(play.targets(&group).await.len(), 3);
    }
    for number in 0..MANY {
        cluster
            .delete("Service", &format!("default/s{number}"))
            .await;
    }
    for number in 0..MANY {
        play.gone(&format!("s{number}")).await;
    }
    play.nothing_left().await;
    second.stop().await;
}
