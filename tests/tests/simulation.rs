//! G1 under everything that may go wrong: N writers that all believe they lead, stale caches, lost
//! and late replies, conflicts, crashes at every step, users who change their minds. Many seeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use controller::core::effect::Kind;
use serde_json::{Value, json};
use tests::{
    fixtures::{bare, cluster_pool, default_class, load_balancer, pool, set},
    sim::World,
};

/// Histories per test; `PORTOLAN_SEEDS` asks for more.
fn seeds(default: u64) -> u64 {
    std::env::var("PORTOLAN_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// A user's act, chosen by chance.
fn act(world: &mut World) {
    let name = format!("svc-{}", world.rng.u8(..8));
    let key = format!("default/{name}");
    let there = world.store.get(Kind::Service, &key).is_some();
    match world.rng.u8(..12) {
        0..5 if !there => {
            let mut service = if world.rng.bool() {
                bare(&name, "LoadBalancer")
            } else {
                load_balancer(&name)
            };
            if world.rng.u8(..4) == 0 {
                set(
                    &mut service,
                    "/metadata/annotations/portolan.dev~1sharing-key",
                    json!("shared"),
                );
                let port = 1000 + u16::from(world.rng.u8(..3));
                service["spec"]["ports"][0]["port"] = json!(port);
            }
            if world.rng.u8(..5) == 0 {
                let last = world.rng.u8(..6);
                set(
                    &mut service,
                    "/metadata/annotations/portolan.dev~1addresses",
                    json!(format!("192.0.2.{last}")),
                );
            }
            world.store.create(service);
        }
        0..5 => world.store.delete(Kind::Service, &key),
        5 | 6 => {
            let type_ = if world.rng.bool() {
                "ClusterIP"
            } else {
                "LoadBalancer"
            };
            world.store.edit(Kind::Service, &key, |o| {
                if o["spec"]["type"] != type_ {
                    o["spec"]["type"] = json!(type_);
                    if type_ == "ClusterIP" {
                        for port in o["spec"]["ports"].as_array_mut().unwrap() {
                            port.as_object_mut().unwrap().remove("nodePort");
                        }
                    }
                }
            });
        }
        7 => {
            // A manual edit of the status: to be repaired, and never to be believed.
            let last = world.rng.u8(..8);
            let lb = world
                .store
                .get(Kind::Service, &key)
                .is_some_and(|o| o["spec"]["type"] == "LoadBalancer");
            if lb && last == 7 {
                world.store.edit(Kind::Service, &key, |o| {
                    set(o, "/status/loadBalancer", Value::Null)
                });
            }
        }
        8 => {
            let label = world.rng.u8(..9);
            world.store.edit(Kind::Service, &key, |o| {
                set(o, "/metadata/labels/touched", json!(label.to_string()))
            });
        }
        9 => {
            let addresses = if world.rng.bool() {
                "192.0.2.0/30"
            } else {
                "192.0.2.2-192.0.2.5"
            };
            world.store.edit(Kind::AddressPool, "public", |o| {
                o["spec"]["addresses"] = json!([addresses])
            });
        }
        _ => {}
    }
}

fn world(seed: u64, replicas: usize) -> World {
    let mut world = World::new(seed, replicas);
    world.store.create(default_class());
    world.store.create(pool("public", &["192.0.2.0/30"]));
    world
        .store
        .create(cluster_pool("cluster", &["10.96.0.0/24"]));
    world
}

fn history(seed: u64, replicas: usize, edits_pools: bool) {
    let mut world = world(seed, replicas);
    world.faults = true;
    for round in 0..1500 {
        if round % 9 == 0 {
            let before = world.store.get(Kind::AddressPool, "public").cloned();
            act(&mut world);
            if !edits_pools && let Some(before) = before {
                world.store.edit(Kind::AddressPool, "public", |o| {
                    o["spec"] = before["spec"].clone()
                });
            }
        }
        match world.rng.u8(..200) {
            0 => {
                let replica = world.rng.usize(..replicas);
                world.crash(replica);
            }
            1 => {
                let replica = world.rng.usize(..replicas);
                let kind = Kind::ALL[world.rng.usize(..Kind::ALL.len())];
                world.list(replica, kind);
            }
            2 => world.clock += Duration::from_secs(world.rng.u64(1..40)),
            _ => world.step(),
        }
        world.check();
    }
    world.settle();
    world.check();
    world.check_no_leak();
    let writes = world.store.writes.clone();
    for replica in 0..replicas {
        world.crash(replica);
    }
    world.settle();
    assert_eq!(
        world.store.writes, writes,
        "a restart with nothing to do writes nothing"
    );
}

#[test]
fn one_writer_that_crashes_and_loses_replies_never_gives_a_number_twice() {
    for seed in 0..seeds(60) {
        run(seed, 1, true);
    }
}

#[test]
fn two_writers_with_stale_caches_never_give_a_number_twice() {
    for seed in 0..seeds(60) {
        run(1000 + seed, 2, true);
    }
}

#[test]
fn four_writers_with_stale_caches_never_give_a_number_twice() {
    for seed in 0..seeds(30) {
        run(2000 + seed, 4, false);
    }
}

/// Two replicas, two Services, few addresses, and a user who edits nothing but pools and labels:
/// what one replica wants to write the other thinks surplus.
fn quarrel(seed: u64) {
    let mut world = world(seed, 2);
    world.store.create(load_balancer("svc-0"));
    world.store.create(load_balancer("svc-1"));
    for round in 0..800 {
        if round % 6 == 0 {
            let name = format!("default/svc-{}", world.rng.u8(..2));
            match world.rng.u8(..6) {
                0..3 => {
                    let (first, last) =
                        [(0, 1), (1, 2), (2, 3), (0, 0), (3, 3)][world.rng.usize(..5)];
                    let addresses = json!([format!("192.0.2.{first}-192.0.2.{last}")]);
                    world.store.edit(Kind::AddressPool, "public", |o| {
                        o["spec"]["addresses"] = addresses
                    });
                }
                3 => {
                    let label = world.rng.u8(..99).to_string();
                    world.store.edit(Kind::Service, &name, |o| {
                        set(o, "/metadata/labels/touched", json!(label))
                    });
                }
                4 => {
                    let type_ = if world.rng.bool() {
                        "ClusterIP"
                    } else {
                        "LoadBalancer"
                    };
                    world
                        .store
                        .edit(Kind::Service, &name, |o| o["spec"]["type"] = json!(type_));
                }
                _ => {
                    let wish = match world.rng.u8(..5) {
                        4 => Value::Null,
                        last => json!(format!("192.0.2.{last}")),
                    };
                    world.store.edit(Kind::Service, &name, |o| {
                        set(o, "/metadata/annotations/portolan.dev~1addresses", wish);
                    });
                }
            }
        }
        if world.rng.u8(..30) == 0 {
            world.clock += Duration::from_secs(31);
        }
        world.step();
        world.check();
    }
    world.settle();
    world.check();
    world.check_no_leak();
}

#[test]
fn writers_that_see_different_pools_never_free_what_the_other_uses() {
    for seed in 0..seeds(400) {
        let result = std::panic::catch_unwind(|| quarrel(seed));
        if let Err(panic) = result {
            eprintln!("seed {seed} of the quarrel");
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(seed: u64, replicas: usize, edits_pools: bool) {
    if let Some(only) = std::env::var("PORTOLAN_SEED")
        .ok()
        .and_then(|n| n.parse::<u64>().ok())
        && only != seed
    {
        return;
    }
    let result = std::panic::catch_unwind(|| history(seed, replicas, edits_pools));
    if let Err(panic) = result {
        eprintln!("seed {seed} with {replicas} replicas");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_crash_before_or_after_any_single_request_converges_without_duplicate_or_leak() {
    // The same history each time, with the crash one request later.
    for lost in [false, true] {
        for crash_after in 0..40 {
            let mut world = world(7, 1);
            for n in 0..3 {
                world
                    .store
                    .create(bare(&format!("svc-{n}"), "LoadBalancer"));
            }
            let mut served = 0;
            let mut quiet = 0;
            while quiet < 3 {
                quiet += 1;
                for kind in Kind::ALL {
                    while world.deliver(0, kind) {
                        quiet = 0;
                    }
                }
                world.poll(0);
                world.clock += Duration::from_millis(200);
                world.tick += 1_000;
                if world.serve() {
                    quiet = 0;
                    served += 1;
                    if served == crash_after && !lost {
                        world.receive(0);
                    }
                    if served == crash_after {
                        world.crash(0);
                    }
                    if served == 12 {
                        world.store.delete(Kind::Service, "default/svc-1");
                    }
                }
                while world.receive(0) {}
                world.check();
            }
            world.settle();
            world.check();
            world.check_no_leak();
            assert!(world.address("default/svc-0").is_some());
            assert!(world.address("default/svc-2").is_some());
            assert_ne!(
                world.address("default/svc-0"),
                world.address("default/svc-2")
            );
        }
    }
}

#[test]
fn the_seeds_really_produce_conflicts_moves_and_waits() {
    // A simulation in which nothing ever goes wrong would prove nothing.
    let (mut conflicts, mut releases, mut events) = (0, 0, 0);
    for seed in 0..10 {
        let mut world = world(1000 + seed, 2);
        world.faults = true;
        for round in 0..1500 {
            if round % 9 == 0 {
                act(&mut world);
            }
            world.step();
        }
        for replica in &world.replicas {
            let counters = replica.engine.counters();
            conflicts += counters.ledger_conflicts + counters.service_conflicts;
            releases += counters.releases;
        }
        events += world.store.writes.get("event").copied().unwrap_or_default();
    }
    assert!(
        conflicts > 50 && releases > 20 && events > 10,
        "{conflicts} {releases} {events}"
    );
}
