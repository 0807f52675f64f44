//! On a real Kubernetes: the control plane alone, and with nodes that run pods. AWS is emulated as
//! everywhere.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

#[path = "../../cluster/tests/common/chart.rs"]
mod chart;
#[path = "../../cluster/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;

use aws_tests::{CLASS, CLUSTER, Play, annotated, hostname, options, service, tcp, until};
use cluster::{ControlPlane, Lab, LabOptions, Options};
use controller::shell::{self, Election};
use kube::Client;
use serde_json::{Value, json};
use tests::stage::Running;

/// With a lease, so that one of several leads.
fn campaign(play: &Play, client: Client, identity: &str, namespace: &str) -> Running {
    let election = Election {
        namespace: namespace.to_owned(),
        name: "portolan-controller".to_owned(),
    };
    let options = shell::Options {
        election: Some(election),
        ..options(identity, play.settings())
    };
    Running::start(client, options)
}

mod real {
    use super::*;

    #[tokio::test]
    #[ignore = "real Kubernetes and moto: cargo xtask test"]
    async fn a_service_comes_changes_its_type_and_goes() {
        let real = common::real(Options::default()).await;
        let play = Play::on_plane(&real.plane, real.plane.config().await.unwrap()).await;
        play.add_nodes(0..3).await;
        let running = play.controller("one");
        play.cluster().create(service("web", tcp(80))).await;
        play.ready("web").await;
        let group = play.target_groups().await.remove(0);
        assert_eq!(play.targets(&group).await.len(), 3);
        play.fixed_point(running).await;

        let running = play.controller("two");
        play.cluster()
            .edit("Service", "default/web", |o| {
                let spec = o["spec"].as_object_mut().unwrap();
                spec.insert("type".to_owned(), json!("ClusterIP"));
                for field in [
                    "loadBalancerClass",
                    "allocateLoadBalancerNodePorts",
                    "externalTrafficPolicy",
                ] {
                    spec.remove(field);
                }
                let port = spec["ports"][0].as_object_mut().unwrap();
                port.remove("nodePort");
            })
            .await;
        play.cluster()
            .until_service("web", "has no name and no finalizer", |o| {
                hostname(o).is_none() && o["metadata"]["finalizers"].is_null()
            })
            .await;
        play.nothing_left().await;
        play.cluster()
            .edit("Service", "default/web", |o| {
                o["spec"]["type"] = json!("LoadBalancer");
                o["spec"]["loadBalancerClass"] = json!(CLASS);
            })
            .await;
        play.ready("web").await;
        play.cluster().delete("Service", "default/web").await;
        play.gone("web").await;
        play.nothing_left().await;
        running.stop().await;
    }

    #[tokio::test]
    #[ignore = "real Kubernetes and moto: cargo xtask test"]
    async fn a_hand_over_in_the_middle_loses_and_doubles_nothing() {
        let real = common::real(Options::default()).await;
        let play = Play::on_plane(&real.plane, real.plane.config().await.unwrap()).await;
        play.add_nodes(0..3).await;
        let client = || play.stage.client.clone();
        let mut one = campaign(&play, client(), "one", "default");
        one.until("leading", |state| state.leading).await;
        let mut two = campaign(&play, client(), "two", "default");
        two.until("synced", |state| state.synced).await;
        let names: Vec<String> = (0..10).map(|number| format!("web-{number}")).collect();
        for name in &names {
            play.cluster().create(service(name, tcp(80))).await;
        }
        until("some are made and not all", async || {
            let made = play.aws.counts();
            made.get("CreateLoadBalancer")
                .is_some_and(|made| *made >= 3)
        })
        .await;
        one.crash().await;
        for name in &names {
            play.ready(name).await;
        }
        assert_eq!(play.load_balancers().await.len(), 10);
        assert_eq!(play.target_groups().await.len(), 10);
        let created = play.aws.counts()["CreateLoadBalancer"];
        assert!(created <= 20, "{created}");
        play.cluster().settled().await;
        two.stop().await;
        play.fixed_point(play.controller("three")).await;
    }

    #[tokio::test]
    #[ignore = "real Kubernetes and moto: cargo xtask test"]
    async fn the_roles_of_the_chart_are_enough_and_all_used() {
        let real = common::real(Options::default()).await;
        let plane = &real.plane;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": chart::NAMESPACE},
        });
        let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        chart::kubectl(plane, &apply, &namespace.to_string());
        let set = format!("aws.enabled=true,aws.clusterName={CLUSTER}");
        let show = ["--show-only", "templates/rbac.yaml", "--set", &set];
        chart::kubectl(plane, &apply, &chart::rendered(&show));
        let token = plane
            .service_account_token(chart::NAMESPACE, "portolan")
            .await
            .unwrap();
        let config = plane.config_as(&token).await.unwrap();
        let play = Play::on_plane(plane, config).await;
        play.add_nodes(0..3).await;
        let running = campaign(&play, play.stage.client.clone(), "one", chart::NAMESPACE);
        play.cluster().create(service("web", tcp(80))).await;
        play.ready("web").await;
        play.cluster().delete("Service", "default/web").await;
        play.gone("web").await;
        running.stop().await;

        let user = format!("system:serviceaccount:{}:portolan", chart::NAMESPACE);
        let mut log = plane.audit().unwrap();
        log.retain(|line| line.user.username == user);
        let refused: Vec<_> = log.iter().filter(|line| line.code() == 403).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        // What AWS adds to the roles; the rest is compared where pools are served.
        let used: BTreeSet<String> = log
            .iter()
            .filter(|line| ["nodes", "endpointslices"].contains(&&*line.resource()))
            .map(|line| format!("{}: {}", line.resource(), line.verb))
            .collect();
        let granted = ["nodes", "endpointslices"]
            .iter()
            .flat_map(|kind| ["list", "watch"].map(|verb| format!("{kind}: {verb}")));
        assert_eq!(used, granted.collect());
    }
}

mod lab {
    use super::*;

    /// The addresses of the ready pods, with port 8080.
    async fn pods(play: &Play) -> BTreeSet<String> {
        let slices = play.cluster().all("EndpointSlice").await;
        let ours = slices
            .iter()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "web");
        let endpoints =
            ours.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .map(|endpoint| format!("{}:8080", endpoint["addresses"][0].as_str().unwrap()))
            .collect()
    }

    async fn follows(play: &Play, group: &str, count: usize) {
        until(&format!("{count} pods are the targets"), async || {
            let pods = pods(play).await;
            let targets = play.targets(group).await;
            let targets = targets.into_iter().filter(|(_, state)| state != "draining");
            let targets: BTreeSet<String> = targets.map(|(target, _)| target).collect();
            pods.len() == count && targets == pods
        })
        .await;
    }

    fn scale(plane: &ControlPlane, replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        chart::kubectl(plane, &["scale", "deployment/web", &replicas], "");
    }

    #[tokio::test]
    #[ignore = "real Kubernetes with nodes, and moto: cargo xtask test"]
    async fn targets_are_the_pods_wherever_they_go() {
        let lab = match Lab::start(LabOptions::default()).await {
            Ok(lab) => lab,
            Err(error) => panic!("NOT RUN: {error:#}"),
        };
        let plane = lab.plane();
        let play = Play::on_plane(plane, plane.config().await.unwrap()).await;
        let deployment: Value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "netexec", "image": cluster::lab::AGNHOST,
                            "imagePullPolicy": "Never", "args": ["netexec", "--http-port=8080"],
                            "ports": [{"name": "http", "containerPort": 8080}],
                            "readinessProbe": {
                                "httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1,
                            },
                        }],
                    },
                },
            },
        });
        chart::kubectl(plane, &["apply", "-f", "-"], &deployment.to_string());
        let mut web = annotated(service("web", tcp(80)), &[("nlb-target-type", "ip")]);
        web["spec"]["selector"] = json!({"app": "web"});
        web["spec"]["ports"][0]["targetPort"] = json!("http");
        play.cluster().create(web).await;
        let running = play.controller("one");
        play.ready("web").await;
        let group = play.target_groups().await.remove(0);
        follows(&play, &group, 3).await;
        scale(plane, 5);
        follows(&play, &group, 5).await;
        scale(plane, 1);
        follows(&play, &group, 1).await;
        let before = pods(&play).await;
        chart::kubectl(plane, &["delete", "pod", "-l", "app=web"], "");
        follows(&play, &group, 1).await;
        assert_ne!(pods(&play).await, before, "another pod");
        play.ready("web").await;
        play.cluster().delete("Service", "default/web").await;
        play.gone("web").await;
        play.nothing_left().await;
        running.stop().await;
    }
}
