//! Two real controllers that both believe they lead, on one embedded API server, one of them with a
//! stale view: no number is ever shown by two Services, and they end in one fixed point.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code; JSON indexing yields null"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use controller::shell::Options;
use serde_json::json;
use tests::{
    fixtures::{bare, pool},
    stage::{Running, Stage, changing, options, watches},
};
use tower::Layer as _;

async fn rivals(seed: u64, addresses: &[&str], services: u64, steps: usize) {
    let on = Stage::devapi().await;
    let mut rng = fastrand::Rng::with_seed(seed);
    on.create([pool("public", addresses)]).await;
    let late = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let stale = changing(
        on.faults
            .layer(on.api.clone().expect("the embedded server")),
        watches,
        move |chunk| {
            let wait = late.lock().expect("no panic").u64(..3_000);
            (Duration::from_millis(wait), chunk)
        },
    );
    let one = on.start("one");
    let two = Running::start(
        stale,
        Options {
            seed: 1,
            ..options("two")
        },
    );
    for step in 0..steps {
        let name = format!("svc-{}", rng.u64(..services));
        let key = format!("default/{name}");
        let there = on.cluster.get("Service", &key).await.is_some();
        match rng.u8(..10) {
            _ if !there => on.create([bare(&name, "LoadBalancer")]).await,
            0..5 => on.cluster.delete("Service", &key).await,
            5..8 => {
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
            _ => {
                let last = rng.u8(..128);
                let wanted = json!(format!("192.0.2.{last}"));
                on.cluster
                    .set(
                        &name,
                        "/metadata/annotations/portolan.dev~1addresses",
                        wanted,
                    )
                    .await;
            }
        }
        if rng.u8(..4) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(..2_000))).await;
        }
        if step % 8 == 0 {
            on.cluster.check_unique().await;
        }
    }
    on.cluster.settled().await;
    on.cluster.check().await;
    two.stop().await;
    on.fixed_point(one).await;
}

#[tokio::test(start_paused = true)]
async fn two_leaders_never_give_one_number_twice() {
    rivals(1, &["192.0.2.0/25", "2001:db8::/120"], 150, 300).await;
}

#[tokio::test(start_paused = true)]
async fn two_leaders_agree_where_numbers_are_scarce() {
    for seed in 2..5 {
        println!("seed {seed}");
        rivals(seed, &["192.0.2.0/28"], 30, 100).await;
    }
}
