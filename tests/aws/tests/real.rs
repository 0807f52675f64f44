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
#[path = "../../cluster/tests/common/real.rs"]
mod common;
#[path = "../../cluster/tests/common/rights.rs"]
mod rights;

use std::collections::{BTreeMap, BTreeSet};

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
        let roles = rights::roles(&["--set", &set]);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": roles});
        chart::kubectl(plane, &apply, &list.to_string());
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
        // Who cannot be served is told so by an Event, too.
        let wrong = annotated(service("wrong", tcp(80)), &[("scheme", "sideways")]);
        play.cluster().create(wrong).await;
        play.says("wrong", "InvalidRequest").await;
        play.cluster().delete("Service", "default/web").await;
        play.gone("web").await;
        running.stop().await;

        let log = rights::log(plane);
        assert_eq!(rights::refused(&log), [""; 0]);
        let (with, used) = (rights::granted(&roles), rights::used(&log));
        let ungranted: Vec<_> = used.difference(&with).collect();
        assert!(ungranted.is_empty(), "{ungranted:?}");
        // What AWS adds to the roles; the rest is compared where pools are served.
        let without = rights::granted(&rights::roles(&[]));
        let added: Vec<_> = with.difference(&without).collect();
        assert_eq!(added.len(), 4, "{added:?}");
        let unused: Vec<_> = added
            .iter()
            .filter(|right| !used.contains(**right))
            .collect();
        assert!(unused.is_empty(), "{unused:?}");
    }
}

mod lab {
    use super::*;

    /// Pods whose port `http` is this one.
    fn deployment(replicas: u32, port: u16) -> Value {
        let labels = json!({"app": "web"});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "topologySpreadConstraints": [{
                            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "DoNotSchedule",
                            "labelSelector": {"matchLabels": labels},
                        }],
                        "containers": [{
                            "name": "netexec", "image": cluster::lab::AGNHOST,
                            "imagePullPolicy": "Never",
                            "args": ["netexec", format!("--http-port={port}")],
                            "ports": [{"name": "http", "containerPort": port}],
                            "readinessProbe": {
                                "httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1,
                            },
                        }],
                    },
                },
            },
        })
    }

    /// The nodes of the ready pods, by the pods' addresses. Not by EndpointSlices: they are what the
    /// controller goes by.
    fn pods(plane: &ControlPlane) -> BTreeMap<String, String> {
        let get = ["get", "pods", "-l", "app=web", "-o", "json"];
        let list: Value = serde_json::from_str(&chart::kubectl(plane, &get, "")).unwrap();
        let stays = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let pods = list["items"].as_array().unwrap().iter().filter(stays);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        pods.map(|pod| {
            let node = text(&pod["spec"]["nodeName"]);
            (text(&pod["status"]["podIP"]), node)
        })
        .collect()
    }

    /// The targets become exactly so many pods, on this port.
    async fn follows(plane: &ControlPlane, play: &Play, count: usize, port: u16) {
        let group = play.target_groups().await.remove(0);
        until(&format!("{count} pods are the targets"), async || {
            let pods = pods(plane);
            let wanted = pods.keys().map(|address| format!("{address}:{port}"));
            let wanted: BTreeSet<String> = wanted.collect();
            let targets = play.targets(&group).await;
            let targets = targets.into_iter().filter(|(_, state)| state != "draining");
            let targets: BTreeSet<String> = targets.map(|(target, _)| target).collect();
            wanted.len() == count && targets == wanted
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
        let apply = ["apply", "-f", "-"];
        chart::kubectl(plane, &apply, &deployment(3, 8080).to_string());
        let mut web = annotated(service("web", tcp(80)), &[("nlb-target-type", "ip")]);
        web["spec"]["selector"] = json!({"app": "web"});
        web["spec"]["ports"][0]["targetPort"] = json!("http");
        play.cluster().create(web).await;
        let running = play.controller("one");
        play.ready("web").await;
        follows(plane, &play, 3, 8080).await;
        let nodes: BTreeSet<String> = pods(plane).into_values().collect();
        assert_eq!(nodes.len(), 2, "{nodes:?}");
        scale(plane, 5);
        follows(plane, &play, 5, 8080).await;
        scale(plane, 1);
        follows(plane, &play, 1, 8080).await;
        let before = pods(plane);
        chart::kubectl(plane, &["delete", "pod", "-l", "app=web"], "");
        follows(plane, &play, 1, 8080).await;
        assert_ne!(pods(plane), before, "another pod");
        // A named port is each pod's own.
        chart::kubectl(plane, &apply, &deployment(3, 9090).to_string());
        follows(plane, &play, 3, 9090).await;
        play.ready("web").await;
        play.cluster().delete("Service", "default/web").await;
        play.gone("web").await;
        play.nothing_left().await;
        running.stop().await;
    }
}
