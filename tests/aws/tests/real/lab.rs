//! Real pods as targets: a cluster with two nodes that run them. Whether traffic arrives is AWS's
//! business, which moto does not do.

use std::collections::{BTreeMap, BTreeSet};

use aws_tests::{Play, annotated, class, service, start};
use cluster::{Lab, LabOptions, NotAvailable, lab::AGNHOST};
use serde_json::{Value, json};

use crate::{chart::kubectl, stage};

async fn lab() -> Lab {
    let lab = Lab::start(LabOptions::default()).await;
    lab.unwrap_or_else(|error| match error.downcast_ref::<NotAvailable>() {
        Some(why) => panic!("NOT RUN, no nodes here: {why}"),
        None => panic!("{error:#}"),
    })
}

/// Pods on all nodes; `http` is this port.
fn deployment(replicas: u32, port: u16) -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
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
                        "name": "netexec", "image": AGNHOST, "imagePullPolicy": "Never",
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

struct Town {
    lab: Lab,
    play: Play,
}

impl Town {
    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        kubectl(self.lab.plane(), arguments, input)
    }

    fn apply(&self, object: &Value) {
        let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        self.kubectl(&apply, &object.to_string());
    }

    /// Address and node of each pod that is ready and stays.
    fn pods(&self) -> BTreeMap<String, String> {
        let get = ["get", "pods", "-l", "app=web", "-o", "json"];
        let list: Value = serde_json::from_str(&self.kubectl(&get, "")).unwrap();
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

    /// Waits until there are so many pods and the targets are exactly they, on this port.
    async fn follows(&self, pods: usize, port: u16) -> BTreeMap<String, String> {
        let groups = self.play.target_groups().await;
        assert_eq!(groups.len(), 1);
        let what = format!("the targets are {pods} pods on port {port}");
        self.play
            .cluster()
            .until(&what, async |_| {
                let targets = self.play.targets(&groups[0]).await;
                let targets: BTreeSet<String> = targets.into_keys().collect();
                let there = self.pods();
                let wanted = there.keys().map(|address| format!("{address}:{port}"));
                there.len() == pods && targets == wanted.collect()
            })
            .await;
        self.pods()
    }
}

#[tokio::test]
#[ignore = "real Kubernetes with nodes, and moto: cargo xtask test, or see CONTRIBUTING"]
async fn targets_are_the_pods_and_follow_them() {
    let lab = lab().await;
    let aws = start(&[]).await;
    let network = aws.network(3, 3).await.unwrap();
    let config = lab.plane().config().await.unwrap();
    let stage = stage(lab.plane(), config).await;
    stage.cluster.create(class(json!({}))).await;
    let play = Play {
        stage,
        aws,
        network,
    };
    let town = Town { lab, play };
    let play = &town.play;
    town.apply(&deployment(3, 8080));
    let running = play.controller("one");
    let ports = json!([{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]);
    let mut web = annotated(service("web", ports), &[("nlb-target-type", "ip")]);
    web["spec"]["selector"] = json!({"app": "web"});
    web["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    play.cluster().create(web).await;
    play.ready("web").await;

    let pods = town.follows(3, 8080).await;
    let nodes: BTreeSet<&String> = pods.values().collect();
    assert_eq!(nodes.len(), 2, "{pods:?}");
    for replicas in [5, 1] {
        let scale = format!("--replicas={replicas}");
        town.kubectl(&["scale", "deployment", "web", &scale], "");
        town.follows(replicas, 8080).await;
    }
    let before = town.pods();
    town.kubectl(&["delete", "pods", "-l", "app=web", "--wait=false"], "");
    let replaced = async |_: &tests::cluster::Cluster| {
        let now = town.pods();
        !now.is_empty() && now.keys().all(|address| !before.contains_key(address))
    };
    play.cluster().until("the pod is replaced", replaced).await;
    town.follows(1, 8080).await;

    // A named port is each pod's own.
    town.apply(&deployment(3, 9090));
    town.follows(3, 9090).await;

    // `Play::fixed_point` would count the kubelets' Events.
    running.stop().await;
    play.aws.forget_calls();
    play.stage.faults.log().clear();
    let mut running = play.controller("two");
    running.until("idle", |state| state.idle).await;
    assert_eq!(play.writes(), [""; 0]);
    assert_eq!(play.stage.writes(), [""; 0]);

    play.cluster().delete("Service", "default/web").await;
    play.gone("web").await;
    play.nothing_left().await;
    running.stop().await;
}
