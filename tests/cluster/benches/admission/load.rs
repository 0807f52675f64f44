//! One replica: Services a second, waits, and writes of the ledger.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tests::fixtures::bare;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::{
    tap::Tap,
    town::{Town, told},
};

/// Creations under way where the rate is measured: the API server is busy all the time.
const IN_FLIGHT: usize = 24;
/// Rounds of each side.
const ROUNDS: usize = 3;
/// Issue 7: at 50 creations per second.
const EVERY: Duration = Duration::from_millis(20);
/// So many of them: half a minute.
const CREATIONS: usize = 1_500;
/// Issue 7: at 64 in flight.
const MANY: usize = 64;
/// So many in all, in rounds that the pool holds.
const WRITES_ROUNDS: usize = 2;
const WRITES_EACH: usize = 1_500;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n:05}")).collect()
}

/// Creates them, so many at once; seconds.
async fn create(town: &Town, names: &[String], in_flight: usize) -> f64 {
    let begun = Instant::now();
    stream::iter(names)
        .for_each_concurrent(in_flight, |name| async move {
            town.cluster.create(bare(name, "NodePort")).await;
        })
        .await;
    begun.elapsed().as_secs_f64()
}

/// Services a second with the webhook asked and not, in turns.
pub async fn rate(binary: PathBuf, services: usize) -> Value {
    let town = Town::new(binary).await;
    let replica = town.replica("bench", None).await;
    let (mut with, mut without, mut rounds) = (0.0, 0.0, Vec::new());
    for round in 0..=ROUNDS {
        // Each side begins as often as the other.
        let order = [round % 2 == 0, round % 2 != 0];
        for asking in order {
            town.ask(asking).await;
            let mark = town.settled().await;
            let names = names(&format!("r{round}-{asking}"), services);
            let cpu = replica.controller.process.cpu();
            let seconds = create(&town, &names, IN_FLIGHT).await;
            let cpu = replica.controller.process.cpu() - cpu;
            let (writes, _) = town.ledger_writes(mark);
            town.delete(names).await;
            // The first is for caches to fill.
            if round > 0 {
                *(if asking { &mut with } else { &mut without }) += seconds;
                rounds.push(json!({
                    "asked": asking, "per_second": services as f64 / seconds,
                    "controller_cpu_seconds": cpu, "ledger_writes": writes,
                }));
            }
        }
    }
    let all = (services * ROUNDS) as f64;
    json!({
        "services_each": services * ROUNDS,
        "in_flight": IN_FLIGHT,
        "with_per_second": all / with,
        "without_per_second": all / without,
        "ratio": without / with,
        "rounds": rounds,
    })
}

/// Fifty requests a second whether or not the last one is done; milliseconds of each.
async fn paced<F>(requests: impl Iterator<Item = F>) -> Vec<f64>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = Vec::new();
    for request in requests {
        ticks.tick().await;
        under_way.push(tokio::spawn(async move {
            let begun = Instant::now();
            request.await;
            begun.elapsed().as_secs_f64() * 1_000.0
        }));
    }
    join_all(under_way)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

async fn creations(town: &Town, names: &[String]) -> Vec<f64> {
    paced(names.iter().map(|name| {
        let (cluster, service) = (town.cluster.clone(), bare(name, "NodePort"));
        async move {
            cluster.create(service).await;
        }
    }))
    .await
}

/// Updates of the smallest object there is.
async fn small_writes(town: &Town) -> Vec<f64> {
    let maps: Api<ConfigMap> = Api::namespaced(town.cluster.client(), "default");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "small"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    paced((0..CREATIONS).map(|number| {
        let (maps, mut map) = (maps.clone(), map.clone());
        map.data = Some(BTreeMap::from([("n".to_owned(), number.to_string())]));
        async move {
            let written = maps.replace("small", &PostParams::default(), &map).await;
            written.unwrap();
        }
    }))
    .await
}

/// What a question waits for its answer, and what a creation takes with it and without.
pub async fn latency(binary: PathBuf) -> Value {
    let town = Town::new(binary).await;
    let tap = Tap::open().await;
    let replica = town.replica("bench", Some(tap.url())).await;
    let notes = tap.to(replica.address);
    town.ask(true).await;
    let warm = names("warm", 100);
    creations(&town, &warm).await;
    town.delete(warm).await;
    let mark = town.settled().await;
    notes.take();
    let begun = Instant::now();
    let all = names("with", CREATIONS);
    let with = creations(&town, &all).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (writes, _) = town.ledger_writes(mark);
    // The last one of each connection is noted when that ends.
    let admission = notes.take();
    town.delete(all).await;
    town.ask(false).await;
    town.settled().await;
    let all = names("without", CREATIONS);
    let without = creations(&town, &all).await;
    town.delete(all).await;
    town.settled().await;
    // What no answer that is committed first can be quicker than, under the same load.
    let all = names("beside", CREATIONS);
    let (_, small) = tokio::join!(creations(&town, &all), small_writes(&town));
    json!({
        "creations_per_second": CREATIONS as f64 / seconds,
        "admission": told(admission),
        "creation_with": told(with),
        "creation_without": told(without),
        "smallest_write": told(small),
        "ledger_writes_per_creation": writes as f64 / CREATIONS as f64,
        "connections": notes.connections(),
    })
}

/// Writes of the ledger, reservations and claims, while 64 creations are under way.
pub async fn writes(binary: PathBuf) -> Value {
    let town = Town::new(binary).await;
    let _replica = town.replica("bench", None).await;
    town.ask(true).await;
    let (mut all, mut refused, mut seconds) = (0, 0, 0.0);
    for round in 0..WRITES_ROUNDS {
        let mark = town.settled().await;
        let names = names(&format!("w{round}"), WRITES_EACH);
        seconds += create(&town, &names, MANY).await;
        town.settled().await;
        let writes = town.ledger_writes(mark);
        all += writes.0;
        refused += writes.1;
        town.delete(names).await;
    }
    let creations = WRITES_ROUNDS * WRITES_EACH;
    json!({
        "creations": creations,
        "in_flight": MANY,
        "per_second": creations as f64 / seconds,
        "writes": all,
        "conflicts": refused,
        "per_creation": all as f64 / creations as f64,
    })
}
