//! Figures of load balancers in AWS: how many calls what takes, with N Services on the embedded API
//! server, the whole controller in this process, and moto.
//!
//! `cargo bench -p aws-tests --bench aws -- [--services 1000]` prints one JSON object. Seconds are
//! moto's, which does one call after the other, but for those under AWS's published limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption must end the run"
)]

use std::{fs, time::Duration};

use aws_cloud::Limits;
use aws_tests::{
    figures::{self, Many, NODES},
    tcp,
};
use serde_json::{Value, json};
use tests::program;

/// As `--aws-verify-seconds`.
const VERIFY_SECONDS: f64 = 5.0;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let services = arguments
        .windows(2)
        .find(|two| two[0] == "--services")
        .map_or(1000, |two| two[1].parse().unwrap());
    let provision = json!({
        "one_port": provision(tcp(80)).await,
        "three_ports": provision(figures::three_ports()).await,
    });
    let many = many(services).await;
    let cpus = std::thread::available_parallelism().unwrap().get();
    let told = json!({
        "machine": {"cpus": cpus, "load": program::load()},
        "provision": provision,
        "many": many,
    });
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

async fn provision(ports: Value) -> Value {
    let [first, next] = figures::provision(ports).await;
    json!({"first_of_a_cluster": first.calls.json(), "next": next.calls.json()})
}

async fn many(services: usize) -> Value {
    let many = Many::new(services).await;
    eprintln!("creating {services} Services");
    let (running, created) = many.create().await;
    running.stop().await;
    let peak = peak_rss();

    eprintln!("restarting");
    let (running, restarted) = many.restart(many.settings()).await;
    running.stop().await;
    let (running, as_shipped) = many.restart(many.settings_as_shipped()).await;
    running.stop().await;

    eprintln!("listing anew");
    let every = Duration::from_secs(30);
    let times = 3;
    let resynced = many.resync(every, times).await;
    let listings = resynced.calls.count("DescribeSecurityGroups") / 2;

    eprintln!("adding nodes");
    let (running, _) = many.restart(many.settings()).await;
    let one = many.nodes(NODES..NODES + 1).await;
    let ten = many.nodes(NODES + 1..NODES + 11).await;
    running.stop().await;

    eprintln!("looking closely");
    let verified = many.verify().await;
    let looks = verified.calls.count("DescribeListeners");
    let calls = verified.calls.reads() as f64 / looks as f64;
    let budget = Limits::default().verify.rate;
    let seconds = VERIFY_SECONDS.max(calls / budget);
    json!({
        "services": services,
        "created": created.json(services),
        "restart": restarted.json(services),
        "restart_with_published_limits": as_shipped.json(services),
        "resync": {
            "resyncs": times, "listings": listings, "all": resynced.json(services),
            "reads_each": resynced.calls.reads() as f64 / f64::from(times) / services as f64,
        },
        "one_node": one.json(services),
        "ten_nodes": ten.json(services),
        "verification": {
            "load_balancers": looks, "calls": verified.calls.json(), "calls_each": calls,
            "every_seconds": VERIFY_SECONDS, "calls_a_second": calls / seconds,
            "hours_for_a_round_of_1000": seconds * 1000.0 / 3600.0,
        },
        // Of this process: the embedded API server, the controller, and the log of the proxy.
        "peak_rss_mib": peak,
        "goals_met": {
            "one_port": created.calls.elb() <= 8 * services + 200,
            "restart_reads": restarted.calls.reads() <= services.max(80) * 15 / 100 + 50,
            "restart_writes": restarted.calls.writes() + restarted.kubernetes_writes.len() == 0,
            "resync_writes": resynced.calls.writes() + resynced.kubernetes_writes.len() == 0,
            "one_node": one.calls.count("RegisterTargets") == services,
            "ten_nodes": ten.calls.count("RegisterTargets") == services,
            "verification_writes": verified.calls.writes() == 0,
        },
    })
}

fn peak_rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}
