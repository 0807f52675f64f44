//! Crashes at every write and everything an API server may answer, with the real controller on a
//! paused clock. Whatever happens, it converges: no duplicate, no leak, then no write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]
#![expect(clippy::indexing_slicing, reason = "JSON indexing yields null")]

use std::time::Duration;

use devapi::faults::{Fault, Match};
use serde_json::{Value, json};
use tests::{
    cluster::addresses,
    fixtures::{bare, pool, with},
    stage::Stage,
};

/// A LoadBalancer with every number there is: two clusterIPs, nodePort, healthCheckNodePort, two addresses.
fn everything(name: &str) -> Value {
    let service = with(
        bare(name, "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    with(service, "/spec/ipFamilyPolicy", json!("RequireDualStack"))
}

fn has_everything(o: &Value) -> bool {
    let spec = &o["spec"];
    let port = |value: &Value| value.as_u64().is_some_and(|port| port >= 30_000);
    addresses(o).len() == 2
        && spec["clusterIPs"]
            .as_array()
            .is_some_and(|ips| ips.len() == 2)
        && port(&spec["ports"][0]["nodePort"])
        && port(&spec["healthCheckNodePort"])
}

/// The controller dies at its k-th write, performed or not; whether it got so far.
async fn dies_at(k: usize, performed: bool) -> bool {
    let on = Stage::devapi().await;
    on.create([
        pool("public", &["192.0.2.0/24", "2001:db8::/112"]),
        everything("a"),
    ])
    .await;
    if performed {
        on.faults
            .script(Match::writes(), Fault::LostReply)
            .after(k)
            .times(1);
    }
    // And it never gets to anything after that.
    on.faults
        .script(Match::writes(), Fault::CrashBefore)
        .after(k);
    let mut first = on.start("first");
    let log = on.faults.log();
    let mut reached = false;
    for _ in 0..6_000 {
        reached = log.writes().iter().any(|write| write.fault.is_some());
        if reached {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if !reached {
        first.until("idle", |state| state.idle).await;
    }
    first.crash().await;
    on.faults.clear();
    // While nobody runs, another Service comes: it must not get what the first was about to get.
    on.create([everything("b")]).await;
    let second = on.start("second");
    for name in ["a", "b"] {
        on.cluster
            .until_service(name, "has everything", has_everything)
            .await;
    }
    on.fixed_point(second).await;
    reached
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_write_converges() {
    let mut writes = 0;
    while dies_at(writes, false).await {
        writes += 1;
    }
    // Blocks of two clusterIPs, of ports and of two addresses, spec, status, pool and class statuses.
    assert!(writes >= 8, "{writes} writes only");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_whose_reply_is_lost_converges() {
    let mut writes = 0;
    while dies_at(writes, true).await {
        writes += 1;
    }
    assert!(writes >= 8, "{writes} writes only");
}

/// Deleted between crash and restart: nothing of it may stay in the ledger.
#[tokio::test(start_paused = true)]
async fn a_service_deleted_while_the_controller_was_dead_leaves_nothing() {
    for k in 0..10 {
        let on = Stage::devapi().await;
        on.create([
            pool("public", &["192.0.2.0/24", "2001:db8::/112"]),
            everything("a"),
        ])
        .await;
        on.faults
            .script(Match::writes(), Fault::CrashBefore)
            .after(k);
        let first = on.start("first");
        on.cluster
            .until("it tried", async |_| {
                on.faults
                    .log()
                    .writes()
                    .iter()
                    .any(|write| write.fault.is_some())
                    || k > 8
            })
            .await;
        first.crash().await;
        on.faults.clear();
        on.cluster.delete("Service", "default/a").await;
        let mut second = on.start("second");
        second.until("idle", |state| state.idle).await;
        on.fixed_point(second).await;
    }
}

async fn storm(seed: u64) {
    let on = Stage::devapi().await;
    let mut rng = fastrand::Rng::with_seed(seed);
    on.create([pool("public", &["192.0.2.0/28", "2001:db8::/124"])])
        .await;
    let reads = || Match::any().when(|r| r.verb == "watch" || r.verb == "list");
    let faults = &on.faults;
    faults
        .script(Match::writes(), Fault::Delay(Duration::from_millis(700)))
        .chance(0.1);
    faults.script(Match::writes(), Fault::LostReply).chance(0.1);
    faults
        .script(Match::writes(), Fault::CrashBefore)
        .chance(0.05);
    faults.script(Match::writes(), Fault::Conflict).chance(0.05);
    faults
        .script(Match::any(), Fault::TooManyRequests(1))
        .chance(0.05);
    faults
        .script(Match::any(), Fault::ServerError(500))
        .chance(0.03);
    faults
        .script(Match::any(), Fault::ServerError(504))
        .chance(0.03);
    faults.script(reads(), Fault::Expired).chance(0.1);
    faults
        .script(reads(), Fault::Cut(rng.usize(1..20)))
        .chance(0.3);
    let mut running = on.start("0");
    for step in 0..250 {
        let name = format!("svc-{}", rng.u8(..20));
        let key = format!("default/{name}");
        let there = on.cluster.get("Service", &key).await.is_some();
        match rng.u8(..10) {
            _ if !there => {
                let service = if rng.bool() {
                    everything(&name)
                } else {
                    bare(&name, "LoadBalancer")
                };
                on.create([service]).await;
            }
            0..4 => on.cluster.delete("Service", &key).await,
            4 => {
                on.cluster
                    .set(
                        &name,
                        "/metadata/annotations/portolan.dev~1sharing-key",
                        json!("k"),
                    )
                    .await;
            }
            5 | 6 => {
                on.cluster
                    .edit("Service", &key, |o| {
                        let to = if o["spec"]["type"] == "ClusterIP" {
                            "LoadBalancer"
                        } else {
                            "ClusterIP"
                        };
                        o["spec"]["type"] = json!(to);
                    })
                    .await;
            }
            7 => on.faults.cut_watches(),
            8 if step % 5 == 0 => {
                running.crash().await;
                running = on.start(&step.to_string());
            }
            _ => tokio::time::sleep(Duration::from_secs(2)).await,
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(..400))).await;
        on.cluster.check_unique().await;
        if let (90, Some(api)) = (step % 100, &on.api) {
            api.compact();
        }
    }
    on.faults.clear();
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn any_weather_converges_while_services_come_and_go() {
    let seeds = std::env::var("PORTOLAN_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(6);
    for seed in 0..seeds {
        println!("seed {seed}");
        storm(seed).await;
    }
}
