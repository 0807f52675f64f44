//! Announcements and Speakers as the real controller writes them over the embedded API server, and
//! what it tells Services of what the speakers say. Who answers is said by the test, in the speakers'
//! place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use devapi::faults::{Fault, Match};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, condition},
    fixtures::{bare, pool, with},
    stage::{Running, Stage},
};

fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

fn announced(name: &str, addresses: &[&str]) -> Value {
    with(pool(name, addresses), "/spec/announce", json!({"l2": {}}))
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

/// The endpoints of a Service: on which node, and whether it is ready.
fn slice(service: &str, endpoints: &[(&str, bool)]) -> Value {
    let endpoint = |(node, ready): &(&str, bool)| {
        json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default", "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn said(node: &str, addresses: &[&str], at: u32) -> Value {
    let announced = |ip: &&str| {
        json!({"ip": ip, "interfaces": ["eth0"], "since": format!("2026-11-29T00:00:{at:02}.000Z")})
    };
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "SpeakerStatus",
        "metadata": {"name": node},
        "spec": {"announced": addresses.iter().map(announced).collect::<Vec<_>>()},
    })
}

/// Two nodes, an announced pool, and Service `web` with an endpoint on the first node.
async fn stage() -> Stage {
    let on = Stage::devapi().await;
    on.create([
        announced("lan", &["192.0.2.0/24"]),
        node("a", "10.0.0.1"),
        node("b", "10.0.0.2"),
        slice("web", &[("a", true)]),
    ])
    .await;
    on
}

async fn until_spec(on: &Cluster, kind: &str, name: &str, spec: Value) {
    on.until(&format!("{kind} {name} is {spec}"), async |cluster| {
        let object = cluster.get(kind, name).await;
        object.is_some_and(|object| object["spec"] == spec)
    })
    .await;
}

async fn until_gone(on: &Cluster, kind: &str, name: &str) {
    on.until(&format!("{kind} {name} is gone"), async |cluster| {
        cluster.get(kind, name).await.is_none()
    })
    .await;
}

fn web() -> Value {
    json!({
        "addresses": [{"ip": "192.0.2.0"}], "pools": ["lan"], "services": ["default/web"],
    })
}

fn local(nodes: &[&str]) -> Value {
    with(web(), "/nodes", json!(nodes))
}

/// `web` is served, and the second node says that it answers.
async fn served() -> (Stage, Running) {
    let on = stage().await;
    let running = on.start("one");
    on.create([lb("web")]).await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    on.create([said("b", &["192.0.2.0"], 1)]).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    (on, running)
}

async fn until_ready(on: &Stage, message: &str) {
    until_says(on, "True", "Ready", message).await;
}

async fn until_says(on: &Stage, status: &str, reason: &str, message: &str) {
    on.cluster
        .until_service("web", &format!("says {reason}: {message}"), |o| {
            condition(o, "LoadBalancerReady").is_some_and(|c| {
                c["status"] == status && c["reason"] == reason && c["message"] == message
            })
        })
        .await;
}

/// How often the status of `web` has been written since the log was cleared.
fn statuses(on: &Stage) -> usize {
    let writes = on.writes();
    let of_web = |told: &&String| told.as_str() == "patch services/web/status";
    writes.iter().filter(of_web).count()
}

#[tokio::test(start_paused = true)]
async fn an_address_of_an_announced_pool_gets_an_announcement_and_each_node_a_speaker() {
    let (on, running) = served().await;
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let spec = json!({"addresses": [address], "pools": [{"name": "lan", "weight": 1}]});
        until_spec(&on.cluster, "Speaker", name, spec).await;
        let speaker = on.cluster.get("Speaker", name).await.unwrap();
        let node = on.cluster.get("Node", name).await.unwrap();
        let owner = json!([{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"],
        }]);
        assert_eq!(speaker["metadata"]["ownerReferences"], owner);
        let labels = json!({"app.kubernetes.io/managed-by": "portolan"});
        assert_eq!(speaker["metadata"]["labels"], labels);
    }
    assert_eq!(on.cluster.our_events("web").await, [Value::Null; 0]);
    on.fixed_point(running).await;
}
