//! The race for a cluster IP on a real kube-apiserver: while it gives addresses to Services that ask
//! for none, others ask for addresses of a pool, as the webhook makes them do: the IPAddress that
//! reserves the address is deleted, then the Service is created. How many are refused because the
//! API server has picked that very address, with reservations and without.
//!
//! `cargo bench -p cluster --bench reserve -- [--rounds 3]` prints one JSON object; with
//! `--profile dev` before the dashes it builds quicker, and the figures are the API server's all the
//! same. Needs the programs of `cargo xtask cluster build`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption must end the run"
)]

use std::time::{Duration, Instant};

use cluster::{ControlPlane, Options};
use futures::{StreamExt as _, stream};
use kube::{Client, api::DeleteParams, core::Request as Requests};
use serde_json::{Value, json};
use tests::{
    cluster::Cluster,
    fixtures::{bare, cluster_pool, default_class, with},
    program,
    stage::{Running, options},
};

/// 1,022 addresses, of which the API server picks 958: a race is likely enough to be counted.
const RANGE: &str = "10.96.0.0/22";
/// 256 of them are the pool's.
const POOL: &str = "10.96.1.0-10.96.1.255";
/// So many Services ask for none: with the pool's they would be all there are.
const DYNAMIC: usize = 600;
/// Requests under way, of either sort.
const IN_FLIGHT: usize = 8;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds: usize = (arguments.windows(2))
        .find(|two| two[0] == "--rounds")
        .map_or(3, |two| two[1].parse().unwrap());
    let mut runs = Vec::new();
    for reserved in [true, false] {
        for _ in 0..rounds {
            runs.push(run(reserved).await);
        }
    }
    let sum = |reserved: bool, field: &str| -> u64 {
        let runs = runs.iter().filter(|run| run["reserved"] == reserved);
        runs.map(|run| run[field].as_u64().unwrap()).sum()
    };
    let total = |reserved: bool| {
        json!({
            "asked": sum(reserved, "asked"),
            "refused": sum(reserved, "refused"),
            "picked_from_the_pool": sum(reserved, "picked_from_the_pool"),
        })
    };
    let cpus = std::thread::available_parallelism().unwrap().get();
    let told = json!({
        "machine": {"cpus": cpus, "load": program::load()},
        "kubernetes": cluster::VERSION,
        "with_reservations": total(true),
        "without": total(false),
        "runs": runs,
    });
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

/// A client that sends what it is told once.
async fn client(plane: &ControlPlane) -> Client {
    let mut config = plane.config().await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn last_two(address: &str) -> (u8, u8) {
    let mut parts = address.rsplit('.').map(|part| part.parse().unwrap());
    let last = parts.next().unwrap();
    (parts.next().unwrap(), last)
}

async fn run(reserved: bool) -> Value {
    let plane = ControlPlane::start_on(RANGE, Options::default())
        .await
        .unwrap();
    let client = client(&plane).await;
    let cluster = Cluster::new(client.clone(), Duration::from_secs(3), false);
    cluster.install().await;
    cluster.create(default_class()).await;
    cluster.create(cluster_pool("team", &[POOL])).await;
    let controller = controller::shell::Options {
        reserve_cluster_ips: reserved,
        ..options("one")
    };
    let running = Running::start(client.clone(), controller);
    let begun = Instant::now();
    if reserved {
        cluster
            .until("the pool is reserved", async |cluster| {
                let all = cluster.all("IPAddress").await;
                all.len() > 256 // and that of `kubernetes`
            })
            .await;
    }
    let reserving = begun.elapsed();

    let begun = Instant::now();
    let dynamic = stream::iter(0..DYNAMIC).map(|number| {
        let cluster = cluster.clone();
        async move {
            let made = cluster
                .try_create(bare(&format!("d{number}"), "ClusterIP"))
                .await;
            let made = made.unwrap();
            let address = made["spec"]["clusterIP"].as_str().unwrap();
            last_two(address).0 == 1
        }
    });
    let dynamic = dynamic.buffer_unordered(IN_FLIGHT).filter(|picked| {
        let picked = *picked;
        async move { picked }
    });
    let explicit = stream::iter(0..=255_u8).map(|last| {
        let (cluster, client) = (cluster.clone(), client.clone());
        async move {
            let address = format!("10.96.1.{last}");
            let path = "/apis/networking.k8s.io/v1/ipaddresses";
            let delete = Requests::new(path).delete(&address, &DeleteParams::default());
            let ours = json!("portolan.dev");
            let label = "ipaddress.kubernetes.io/managed-by";
            let found = cluster.get("IPAddress", &address).await;
            if found.is_some_and(|o| o["metadata"]["labels"][label] == ours) {
                let _gone_already: kube::Result<Value> = client.request(delete.unwrap()).await;
            }
            let open = Instant::now();
            let service = with(
                bare(&format!("e{last}"), "ClusterIP"),
                "/spec/clusterIP",
                json!(address),
            );
            let made = cluster.try_create(service).await;
            let refused = match made {
                Ok(_) => false,
                Err(error) if error.to_string().contains("already allocated") => true,
                Err(error) => panic!("{error}"),
            };
            (refused, open.elapsed().as_secs_f64() * 1_000.0)
        }
    });
    let explicit = explicit.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>();
    let (picked, explicit) = tokio::join!(dynamic.count(), explicit);
    let seconds = begun.elapsed().as_secs_f64();
    running.stop().await;
    let mut open: Vec<f64> = explicit.iter().map(|(_, open)| *open).collect();
    open.sort_by(f64::total_cmp);
    json!({
        "reserved": reserved,
        "seconds_to_reserve_256": reserved.then_some(reserving.as_secs_f64()),
        "asked": explicit.len(),
        "dynamic": DYNAMIC,
        "refused": explicit.iter().filter(|(refused, _)| *refused).count(),
        "picked_from_the_pool": picked,
        "seconds": seconds,
        "ms_from_deletion_to_service": {
            "median": open[open.len() / 2],
            "worst": open[open.len() - 1],
        },
    })
}
