//! Figures of the whole: N LoadBalancer Services on the embedded API server, which runs as its own
//! process, and the shipped binary as another, so that its memory and CPU are its own.
//!
//! `cargo bench -p tests --bench services -- [--services 5000]...` prints one JSON object.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption must end the run"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use controller::shell;
use devapi::DevApi;
use futures::{StreamExt as _, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, addresses},
    fixtures::{bare, cluster_pool, default_class, pool, with},
    program::{self, Controller, Process, QUIET},
};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--serve") {
        return serve().await;
    }
    let mut sizes: Vec<usize> = arguments
        .windows(2)
        .filter(|two| two[0] == "--services")
        .map(|two| two[1].parse().unwrap())
        .collect();
    if sizes.is_empty() {
        sizes = vec![5_000, 10_000];
    }
    let binary = program::release();
    let mut runs = Vec::new();
    for services in sizes {
        runs.push(run(&binary, services).await);
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let told = json!({"machine": {"cpus": cpus, "load": program::load()}, "runs": runs});
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

/// The API server: prints its kubeconfig's path and serves until its parent ends it.
async fn serve() {
    let api = DevApi::new(devapi::Options {
        history: 200_000,
        ..devapi::Options::default()
    });
    let (address, _server) = api
        .serve(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let path =
        std::env::temp_dir().join(format!("portolan-bench-{}.kubeconfig", std::process::id()));
    fs::write(&path, api.kubeconfig(address)).unwrap();
    println!("{}", path.display());
    std::future::pending().await
}

async fn version(cluster: &Cluster) -> u64 {
    // The server's resourceVersion counts every change.
    let request = http::Request::get("/api/v1/namespaces")
        .body(Vec::new())
        .unwrap();
    let list: Value = cluster.client().request(request).await.unwrap();
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

async fn run(binary: &Path, services: usize) -> Value {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--serve")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut kubeconfig = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut kubeconfig)
        .unwrap();
    let server = Process::from(child);
    let kubeconfig = kubeconfig.trim();
    let parsed = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .unwrap();
    let cluster = Cluster::new(shell::client(config).unwrap(), QUIET, true);

    cluster.install().await;
    for object in [
        cluster_pool("cluster", &["10.96.0.0/15"]),
        pool("public", &["10.200.0.0/15"]),
        default_class(),
    ] {
        cluster.create(object).await;
    }
    let begun = Instant::now();
    stream::iter(0..services)
        .for_each_concurrent(8, |n| {
            let service = bare(&format!("service-{n:05}"), "LoadBalancer");
            let service = with(service, "/spec/allocateLoadBalancerNodePorts", json!(false));
            let service = with(
                service,
                "/spec/selector",
                json!({"app": format!("app-{n:05}")}),
            );
            let cluster = cluster.clone();
            async move { drop(cluster.create(service).await) }
        })
        .await;
    let created = begun.elapsed();
    let before = version(&cluster).await;

    let first = Controller::start(binary, kubeconfig, "bench", &["--leader-elect=false"]);
    first.assigned(services).await;
    let assigned = first.begun.elapsed();
    let cpu_assigned = first.process.cpu();
    let writes = first.quiet().await;
    let changes = version(&cluster).await - before;
    let (peak, settled) = (first.process.memory("VmHWM"), first.process.memory("VmRSS"));
    let shown = cluster.all("Service").await;
    let addressed = shown
        .iter()
        .filter(|service| addresses(service).len() == 1)
        .count();
    assert_eq!(addressed, services, "every Service shows an address");
    cluster.check().await;
    first.process.stop().await;

    let before = version(&cluster).await;
    let again = Controller::start(binary, kubeconfig, "bench", &["--leader-elect=false"]);
    again.ready().await;
    let ready = again.begun.elapsed();
    let restart_writes = again.quiet().await;
    let restart_changes = version(&cluster).await - before;
    let (restart_peak, restart_settled) =
        (again.process.memory("VmHWM"), again.process.memory("VmRSS"));
    let restart_cpu = again.process.cpu();
    let server_cpu = server.cpu();
    again.process.stop().await;
    drop(server);
    let _gone = fs::remove_file(kubeconfig);

    let sum = |kind: &str| -> u64 {
        writes
            .iter()
            .filter(|(name, _)| name.split('.').next() == Some(kind))
            .map(|(_, count)| count)
            .sum()
    };
    let each = |kind: &str| sum(kind) as f64 / services as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let limit = if services <= 5_000 { 32.0 } else { 64.0 };
    let tick = assigned.as_secs_f64();
    json!({
        "services": services,
        "seconds": {"created": created.as_secs_f64(), "assigned": tick, "restart_ready": ready.as_secs_f64()},
        "writes": writes,
        "writes_each": {
            "status": each("ServiceStatus"), "spec": each("ServiceSpec"), "ledger": each("Block"),
            "event": each("Event"), "pool_status_per_second": sum("PoolStatus") as f64 / tick.max(1.0),
        },
        "changes_on_the_server": changes,
        "restart": {"writes": restart_writes, "changes_on_the_server": restart_changes},
        "peak_rss_mib": {"first": mib(peak), "restart": mib(restart_peak), "limit": limit},
        "rss_mib": {"first": mib(settled), "restart": mib(restart_settled)},
        "cpu_seconds": {"assigned": cpu_assigned, "restart": restart_cpu, "server": server_cpu},
        "goals_met": {
            "one_status_write": sum("ServiceStatus") == services as u64,
            "one_spec_write": sum("ServiceSpec") == services as u64,
            "ledger": each("Block") <= 0.1,
            // Two pools and a class.
            "pool_status": sum("PoolStatus") as f64 <= 2.0 * (tick + 2.0),
            "no_event": sum("Event") == 0,
            "restart": restart_changes == 0,
            "memory": mib(peak.max(restart_peak)) <= limit,
        },
    })
}
