//! Repair on the real API server: what is left in the ledger of Services that are gone, what two
//! Services both have, and every change of type. What the API server lets nobody create is written
//! into etcd past it.

use std::{collections::BTreeMap, time::Duration};

use allocator::block::Claim;
use cluster::{ControlPlane, Options};
use controller::{
    core::{
        engine::NodePorts,
        repair::Kind::{self, DuplicateClusterIp, DuplicateHealthCheckNodePort, DuplicateNodePort},
    },
    shell,
};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, addresses},
    fixtures::{bare, cluster_pool, enforcing, node_port, noted, pool, port_pool, set, with},
    node_ports::port,
    stage::{Running, Stage, options},
};

use crate::common::{real, stage::stage};

/// Two looks of a real controller are five minutes apart.
const LOOK: Duration = Duration::from_secs(3);

fn start(on: &Stage, identity: &str) -> Running {
    let node_ports = NodePorts {
        renumber_per_second: 1_000,
        ..NodePorts::default()
    };
    let options = shell::Options {
        look_every: LOOK,
        node_ports,
        ..options(identity)
    };
    Running::start(on.client.clone(), options)
}

/// Every claim in the ledger: number, kind, Service and whether that is its uid.
async fn claims(cluster: &Cluster) -> Vec<String> {
    let services = cluster.all("Service").await;
    let mut told = Vec::new();
    for (number, claim) in cluster.ledger().await {
        let Claim::Held(holders) = claim else {
            continue;
        };
        for holder in holders {
            let lives =
                (services.iter()).any(|service| service["metadata"]["uid"] == holder.uid.as_str());
            let lives = if lives { "" } else { " gone" };
            told.push(format!("{number} {}{lives}", holder.service.name));
        }
    }
    told.sort();
    told
}

async fn until_claims(on: &Stage, wanted: &[&str]) {
    let what = format!("the ledger has {wanted:?}");
    on.cluster
        .until(&what, async |cluster| claims(cluster).await == wanted)
        .await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn what_happens_while_no_controller_runs_leaves_no_claim_behind() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([port_pool("all", &["30010-30029"])]).await;
    let names = ["gone", "again", "plain", "edited"];
    for (place, name) in (0..).zip(names) {
        on.create([node_port(name, 30_010 + place)]).await;
    }
    let running = on.start("one");
    let before = ["30010 gone", "30011 again", "30012 plain", "30013 edited"];
    until_claims(&on, &before).await;
    running.stop().await;

    on.cluster.delete("Service", "default/gone").await;
    // Deleted and created again, as from a backup: another uid.
    on.cluster.delete("Service", "default/again").await;
    on.create([node_port("again", 30_011)]).await;
    on.cluster
        .set("plain", "/spec/type", json!("ClusterIP"))
        .await;
    let block = on.cluster.all("AllocationBlock").await.remove(0);
    let block = block["metadata"]["name"].as_str().unwrap();
    let edit = |o: &mut Value| {
        let lines = o["spec"]["claims"].as_str().unwrap().lines();
        let edited = lines.map(|line| match line.starts_with("30013 ") {
            true => "30013 NodePort default/edited nobody 1",
            false => line,
        });
        o["spec"]["claims"] = json!(edited.collect::<Vec<_>>().join("\n"));
    };
    on.cluster.edit("AllocationBlock", block, edit).await;

    let running = on.start("two");
    until_claims(&on, &["30011 again", "30013 edited"]).await;
    on.cluster.settled().await; // Events come after
    for name in ["gone", "again", "edited"] {
        assert_eq!(on.cluster.events(name, "LeakedClaim").await, 1, "{name}");
        assert_eq!(on.cluster.our_events(name).await.len(), 1, "{name}");
    }
    let told = on.cluster.our_events("gone").await.remove(0);
    assert_eq!(
        told["note"],
        "30010 of this Service, whose deletion was not seen, is free again: a quorum read finds no Service of this name"
    );
    // What a living Service does not show needs no grace and is no leak.
    assert_eq!(on.cluster.our_events("plain").await.len(), 0);
    assert_eq!(running.state().counters.leaks_released, 3);
    on.fixed_point(running).await;
}

/// A copy of a Service that is there, which is younger.
fn twin(service: &Value, name: &str) -> Value {
    let mut twin = service.clone();
    let metadata = &mut twin["metadata"];
    metadata["name"] = json!(name);
    metadata["uid"] = json!("11111111-2222-4333-8444-555555555555");
    metadata["creationTimestamp"] = json!("2037-01-01T00:00:00Z");
    for field in ["resourceVersion", "managedFields"] {
        metadata.as_object_mut().unwrap().remove(field);
    }
    twin
}

/// `reason` is that of the one Event about it.
async fn doubled(plane: &ControlPlane, on: &Stage, old: Value, kind: Kind, reason: &str) {
    let of = old["metadata"]["name"].as_str().unwrap().to_owned();
    on.create([old]).await;
    let running = start(on, "one");
    on.cluster.settled().await;
    let young = format!("{of}-twin");
    let old = on.cluster.service(&of).await;
    let mut copy = twin(&old, &young);
    // It has this one number only with the other.
    if kind != DuplicateNodePort {
        set(&mut copy, "/spec/ports/0/nodePort", Value::Null);
    }
    if kind != DuplicateClusterIp {
        let ip = old["spec"]["clusterIP"].as_str().unwrap();
        let (front, last) = ip.rsplit_once('.').unwrap();
        let another = if last == "254" { 253 } else { 254 };
        let ip = format!("{front}.{another}");
        copy["spec"]["clusterIP"] = json!(ip);
        copy["spec"]["clusterIPs"] = json!([ip]);
    }
    plane.smuggle(&copy).await.unwrap();
    on.cluster
        .until(&format!("{young} is told {reason}"), async |cluster| {
            cluster.events(&young, reason).await == 1
        })
        .await;
    let note = on.cluster.our_events(&young).await;
    let note = note.iter().find(|event| event["reason"] == reason).unwrap()["note"].clone();
    let note = note.as_str().unwrap();
    assert!(note.contains(&format!("Service default/{of} ")), "{note}");
    let mut running = running;
    running
        .until("found", |state| state.figures.findings[&kind] == 1)
        .await;
    // Nothing is changed, and it is not told again.
    on.cluster.settled().await;
    assert_eq!(on.cluster.events(&young, reason).await, 1);
    assert_eq!(on.cluster.service(&young).await["spec"], copy["spec"]);
    assert_eq!(on.cluster.service(&of).await["spec"], old["spec"]);
    on.cluster
        .delete("Service", &format!("default/{young}"))
        .await;
    running
        .until("over", |state| state.figures.findings[&kind] == 0)
        .await;
    on.cluster.settled().await;
    on.cluster.check().await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r8_two_on_one_number_that_may_not_change_are_told_once_and_left_alone() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([
        port_pool("all", &["30010-30019"]),
        cluster_pool("cluster", &["10.96.0.0/24"]),
        pool("public", &["192.0.2.0/24"]),
    ])
    .await;
    let keeps = |name: &str, port: u16| {
        let service = node_port(name, port);
        noted(service, "portolan.dev/keep-node-ports", "true")
    };
    let local = with(
        bare("local", "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    let local = with(local, "/spec/allocateLoadBalancerNodePorts", json!(false));
    let local = with(local, "/spec/healthCheckNodePort", json!(30_020));
    let rows = [
        (keeps("outside", 30_021), DuplicateNodePort),
        (local, DuplicateHealthCheckNodePort),
        (bare("inner", "ClusterIP"), DuplicateClusterIp),
    ];
    for (service, kind) in rows {
        doubled(&real.plane, &on, service, kind, kind.reason().as_str()).await;
    }
    // Where the ledger has it for the other one, a condition says so, and its Event is the only one.
    let inside = keeps("inside", 30_010);
    doubled(
        &real.plane,
        &on,
        inside,
        DuplicateNodePort,
        "NumberConflict",
    )
    .await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_cluster_ip_whose_ip_address_is_missing_or_anothers_is_told_until_kubernetes_mends_it() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([
        cluster_pool("cluster", &["10.96.0.0/12"]),
        bare("web", "ClusterIP"),
    ])
    .await;
    let mut running = start(&on, "one");
    on.cluster.settled().await;
    let ip = on.cluster.service("web").await["spec"]["clusterIP"].clone();
    let ip = ip.as_str().unwrap();
    let kubectl = |arguments: &[&str]| {
        let output = real.plane.kubectl().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let foreign = real.plane.folder().join("foreign.json");
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": ip},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "other"}},
    });
    std::fs::write(&foreign, object.to_string()).unwrap();
    for (kind, touched) in [
        (Kind::ClusterIpNotRecorded, "one"),
        (Kind::ClusterIpOfAnother, "two"),
    ] {
        kubectl(&["delete", "ipaddress", ip]);
        if kind == Kind::ClusterIpOfAnother {
            kubectl(&["create", "-f", foreign.to_str().unwrap()]);
        }
        running
            .until("found", |state| state.figures.findings[&kind] == 1)
            .await;
        let reason = kind.reason().as_str();
        on.cluster
            .until("it is told", async |cluster| {
                cluster.events("web", reason).await == 1
            })
            .await;
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("web", reason).await, 1);
        // kube-apiserver looks at a Service every three minutes, and whenever it changes.
        on.cluster
            .set("web", "/metadata/labels/touched", json!(touched))
            .await;
        running
            .until("over", |state| state.figures.findings[&kind] == 0)
            .await;
    }
    assert_eq!(on.cluster.our_events("web").await.len(), 2);
    running.stop().await;
}

/// What a Service may be, by the fields that make it so.
fn types() -> BTreeMap<&'static str, Value> {
    let nothing = json!({
        "type": "ClusterIP", "externalName": null, "externalTrafficPolicy": null,
        "allocateLoadBalancerNodePorts": null, "healthCheckNodePort": null,
    });
    let with = |fields: Value| {
        let mut all = nothing.clone();
        let all_fields = all.as_object_mut().unwrap();
        all_fields.extend(fields.as_object().unwrap().clone());
        all
    };
    BTreeMap::from([
        ("cluster-ip", with(json!({}))),
        ("node-port", with(json!({"type": "NodePort"}))),
        ("lb", with(json!({"type": "LoadBalancer"}))),
        (
            "lb-local",
            with(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})),
        ),
        (
            "lb-without",
            with(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false})),
        ),
        (
            "external-name",
            with(json!({"type": "ExternalName", "externalName": "example.com"})),
        ),
        ("headless", with(json!({"clusterIP": "None"}))),
    ])
}

/// nodePorts, ports for health checks and external addresses that such a Service has.
fn expected(type_: &str) -> (usize, usize, usize) {
    match type_ {
        "node-port" => (2, 0, 0),
        "lb" => (2, 0, 1),
        "lb-local" => (2, 1, 1),
        "lb-without" => (0, 0, 1),
        _ => (0, 0, 0),
    }
}

/// A cluster IP may be taken or given back only on the way from or to ExternalName.
fn may(from: &str, to: &str) -> bool {
    let apart = |a: &str, b: &str| a == "headless" && !["headless", "external-name"].contains(&b);
    !apart(from, to) && !apart(to, from)
}

fn become_(service: &mut Value, from: &str, to: &str) {
    let fields = types()[to].as_object().unwrap().clone();
    for (field, value) in fields {
        set(service, &format!("/spec/{field}"), value);
    }
    if to == "external-name" {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            set(service, &format!("/spec/{field}"), Value::Null);
        }
    }
    if from != to && expected(to).0 == 0 {
        for place in 0..2 {
            set(
                service,
                &format!("/spec/ports/{place}/nodePort"),
                Value::Null,
            );
        }
    }
}

fn is(service: &Value, type_: &str) -> bool {
    let ports = service["spec"]["ports"].as_array().unwrap();
    let ports = ports.iter().filter(|port| {
        let number = port["nodePort"].as_u64().unwrap_or_default();
        (30_100..30_400).contains(&number)
    });
    let health = service["spec"]["healthCheckNodePort"].as_u64().is_some();
    (ports.count(), usize::from(health), addresses(service).len()) == expected(type_)
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn every_change_of_type_leaves_service_and_ledger_alike() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([
        enforcing(port_pool("team", &["30100-30399"])),
        pool("public", &["192.0.2.0/24"]),
    ])
    .await;
    let pairs: Vec<(&str, &str, String)> = (types().keys())
        .flat_map(|from| types().into_keys().map(|to| (*from, to)))
        .filter(|(from, to)| may(from, to))
        .map(|(from, to)| (from, to, format!("{from}-to-{to}")))
        .collect();
    for (from, _, name) in &pairs {
        let ports = json!([
            {"name": "a", "port": 80, "protocol": "TCP"},
            {"name": "b", "port": 81, "protocol": "UDP"},
        ]);
        let mut service = with(bare(name, "ClusterIP"), "/spec/ports", ports);
        become_(&mut service, from, from);
        on.create([service]).await;
    }
    let running = start(&on, "one");
    for (from, _, name) in &pairs {
        let what = format!("is as {from} is");
        on.cluster.until_service(name, &what, |o| is(o, from)).await;
    }
    on.cluster.settled().await;
    on.cluster.check().await;
    for (from, to, name) in &pairs {
        let key = format!("default/{name}");
        on.cluster
            .edit("Service", &key, |o| become_(o, from, to))
            .await;
    }
    for (_, to, name) in &pairs {
        let what = format!("is as {to} is");
        on.cluster.until_service(name, &what, |o| is(o, to)).await;
    }
    on.cluster.settled().await;
    // What is held is shown, and every nodePort of the pool that is shown is held.
    on.cluster.check().await;
    let claims = claims(&on.cluster).await;
    for (_, to, name) in &pairs {
        let (ports, health, addresses) = expected(to);
        let mine = claims
            .iter()
            .filter(|claim| claim.ends_with(&format!(" {name}")));
        let outside = on.cluster.service(name).await["spec"]["healthCheckNodePort"]
            .as_u64()
            .is_some_and(|port| !(30_100..30_400).contains(&port));
        let held = ports + health + addresses - usize::from(outside);
        assert_eq!(mine.count(), held, "{name}: {claims:?}");
    }
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r7_a_service_that_is_going_keeps_its_numbers_until_the_api_server_frees_them() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    let going = with(
        node_port("going", 30_010),
        "/metadata/finalizers",
        json!(["example.com/hold"]),
    );
    on.create([enforcing(port_pool("team", &["30010-30011"])), going])
        .await;
    let running = on.start("one");
    until_claims(&on, &["30010 going"]).await;
    on.cluster.delete("Service", "default/going").await;
    // Whoever comes meanwhile gets the other number, and the next one none.
    on.create([bare("next", "NodePort")]).await;
    on.cluster
        .until_service("next", "has the other", |o| port(o) == 30_011)
        .await;
    on.create([bare("last", "NodePort")]).await;
    on.cluster
        .until_service("last", "is told", |o| {
            o["status"]["conditions"]
                .to_string()
                .contains("PoolExhausted")
        })
        .await;
    on.cluster.settled().await;
    assert_eq!(claims(&on.cluster).await, ["30010 going", "30011 next"]);
    on.cluster
        .set("going", "/metadata/finalizers", json!([]))
        .await;
    on.cluster
        .until_service("last", "has the number", |o| port(o) == 30_010)
        .await;
    until_claims(&on, &["30010 last", "30011 next"]).await;
    on.fixed_point(running).await;
}
