//! Figures on a real kube-apiserver: N pending LoadBalancer Services, the shipped binary as a process
//! of its own, and beside it in the same run a bare loop that only sends the status patches.
//!
//! `cargo bench -p cluster --bench truth -- [--services 5000]` prints one JSON object. Needs the
//! programs of `cargo xtask cluster build`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption must end the run"
)]

use std::{collections::BTreeMap, path::Path, time::Instant};

use cluster::{AuditLine, ControlPlane};
use controller::shell::USER_AGENT;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, addresses},
    fixtures::{bare, default_class, pool, with},
    program::{self, Controller, QUIET},
};

/// As many requests under way as the controller allows itself.
const IN_FLIGHT: usize = 32;

// One thread, as the controller has: what is compared is the same kind of client.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let services = (arguments.windows(2))
        .find(|two| two[0] == "--services")
        .map_or(5_000, |two| two[1].parse().unwrap());
    let binary = program::release();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let run = run(&binary, services).await;
    let machine = json!({"cpus": cpus, "load": program::load()});
    let told = json!({"machine": machine, "kubernetes": cluster::VERSION, "run": run});
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

/// A client that sends what it is told once, and is not the controller to the audit log.
async fn client(plane: &ControlPlane) -> Client {
    let mut config = plane.config().await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Sends one status patch for each Service; seconds.
async fn bare_loop(services: &Api<Service>, patch: impl Fn(usize, &Service) -> Value) -> f64 {
    let all = services.list(&ListParams::default()).await.unwrap().items;
    let ours = all.into_iter().filter(|service| {
        let spec = service.spec.as_ref().unwrap();
        spec.type_.as_deref() == Some("LoadBalancer")
    });
    let patches: Vec<(String, Value)> = ours
        .enumerate()
        .map(|(n, service)| {
            let name = service.metadata.name.clone().unwrap();
            (name, patch(n, &service))
        })
        .collect();
    let begun = Instant::now();
    stream::iter(patches)
        .for_each_concurrent(IN_FLIGHT, |(name, patch)| async move {
            let manager = PatchParams {
                field_manager: Some("bare-loop".to_owned()),
                ..PatchParams::default()
            };
            let patch = Patch::Merge(&patch);
            let patched = services.patch_status(&name, &manager, &patch).await;
            patched.unwrap();
        })
        .await;
    begun.elapsed().as_secs_f64()
}

/// What the controller writes for a Service that gets an address, on the same precondition.
fn assigned(n: usize, service: &Service) -> Value {
    let address = format!("10.201.{}.{}", n / 256, n % 256);
    let condition = |of: &str, reason: &str, message: &str| {
        json!({
            "type": format!("portolan.dev/{of}"), "status": "True", "reason": reason,
            "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let told = format!("{address} from pool public");
    let ready =
        "the address is assigned; whoever announces the pool's addresses brings the traffic";
    json!({
        "metadata": {"resourceVersion": service.metadata.resource_version},
        "status": {
            "loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]},
            "conditions": [
                condition("AddressAllocated", "Allocated", &told),
                condition("LoadBalancerReady", "Ready", ready),
            ],
        },
    })
}

fn pending(_: usize, _: &Service) -> Value {
    json!({"status": {"loadBalancer": null, "conditions": null}})
}

/// What the controller has written, by the API server's own log.
fn ours(plane: &ControlPlane, before: usize) -> Vec<AuditLine> {
    let ours = |line: &AuditLine| line.user_agent == USER_AGENT && line.is_write();
    let lines = plane.audit().unwrap().into_iter().skip(before);
    lines.filter(ours).collect()
}

fn by_kind(lines: &[AuditLine]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in lines {
        let kind = format!("{} {} {}", line.verb, line.resource(), line.code());
        *kinds.entry(kind).or_insert(0) += 1;
    }
    kinds
}

fn count(lines: &[AuditLine], resource: &str) -> usize {
    lines
        .iter()
        .filter(|line| line.resource() == resource)
        .count()
}

/// The shortest time between two status writes of the same pool, in seconds.
fn pool_pause(lines: &[AuditLine]) -> Option<f64> {
    let mut times: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for line in lines
        .iter()
        .filter(|line| line.resource() == "addresspools/status")
    {
        let name = line.object_ref.as_ref().unwrap().name.as_str();
        let time: Timestamp = line.stage_timestamp.parse().unwrap();
        times.entry(name).or_default().push(time);
    }
    let pauses = times.values().flat_map(|times| {
        let pairs = times.windows(2);
        pairs.map(|pair| pair[1].duration_since(pair[0]).as_secs_f64())
    });
    pauses.reduce(f64::min)
}

async fn run(binary: &Path, services: usize) -> Value {
    let plane = ControlPlane::start()
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let kubeconfig = plane.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let client = client(&plane).await;
    let cluster = Cluster::new(client.clone(), QUIET, false);
    cluster.install().await;
    cluster.create(pool("public", &["10.200.0.0/16"])).await;
    cluster.create(default_class()).await;
    let begun = Instant::now();
    stream::iter(0..services)
        .for_each_concurrent(16, |n| {
            let service = bare(&format!("service-{n:05}"), "LoadBalancer");
            let service = with(service, "/spec/allocateLoadBalancerNodePorts", json!(false));
            let app = json!({"app": format!("app-{n:05}")});
            let service = with(service, "/spec/selector", app);
            let cluster = cluster.clone();
            async move { drop(cluster.create(service).await) }
        })
        .await;
    let created = begun.elapsed().as_secs_f64();

    // The loop before and after: the machine's speed drifts, and the server's data grows.
    let api: Api<Service> = Api::default_namespaced(client.clone());
    let mut loops = vec![bare_loop(&api, assigned).await];
    bare_loop(&api, pending).await;

    let before = plane.audit().unwrap().len();
    let lease = ["--lease-namespace", "default"];
    let first = Controller::start(binary, kubeconfig, "bench", &lease);
    first.assigned(services).await;
    let seconds = first.begun.elapsed().as_secs_f64();
    let cpu = first.process.cpu();
    first.quiet().await;
    let peak = first.process.memory("VmHWM");
    let writes = ours(&plane, before);
    let found = cluster.all("Service").await;
    let served = found.iter().filter(|service| addresses(service).len() == 1);
    assert_eq!(served.count(), services, "every Service shows an address");
    cluster.check().await;
    first.process.stop().await;

    let before = plane.audit().unwrap().len();
    let again = Controller::start(binary, kubeconfig, "bench", &lease);
    again.ready().await;
    let ready = again.begun.elapsed().as_secs_f64();
    again.quiet().await;
    let restart = ours(&plane, before);
    let (restart_cpu, restart_peak) = (again.process.cpu(), again.process.memory("VmHWM"));
    again.process.stop().await;

    bare_loop(&api, pending).await;
    loops.push(bare_loop(&api, assigned).await);

    let mean = loops.iter().sum::<f64>() / 2.0;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let pause = pool_pause(&writes);
    let known = ["services/status", "allocationblocks", "addresspools/status"]
        .iter()
        .chain(&["loadbalancerclasses/status", "leases"])
        .map(|resource| count(&writes, resource))
        .sum::<usize>();
    let leases = count(&restart, "leases");
    json!({
        "services": services,
        "seconds": {
            "created": created, "assigned": seconds, "bare_loops": loops, "restart_ready": ready,
        },
        "ratio_to_bare_loop": seconds / mean,
        "writes": by_kind(&writes),
        "shortest_pause_between_status_writes_of_a_pool": pause,
        "restart_writes": by_kind(&restart),
        "cpu_seconds": {"assigned": cpu, "restart": restart_cpu},
        "peak_rss_mib": {"first": mib(peak), "restart": mib(restart_peak)},
        "goals_met": {
            "ratio": seconds <= 1.3 * mean,
            "one_status_write": count(&writes, "services/status") == services,
            "ledger": count(&writes, "allocationblocks") * 10 <= services,
            // A timer may fire a moment early as the server sees it.
            "pool_status": pause.is_none_or(|pause| pause >= 0.95),
            "nothing_else": known == writes.len() && count(&writes, "loadbalancerclasses/status") <= 1,
            "restart": restart.len() == leases,
            "cpu": cpu <= 3.0,
            "memory": mib(peak.max(restart_peak)) <= 32.0,
        },
    })
}
