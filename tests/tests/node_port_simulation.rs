//! nodePorts by policy under everything that may go wrong, beside an API server that gives nodePorts
//! itself: several writers that all believe they lead, stale caches, lost and late replies, crashes,
//! users who change their minds. The store asserts at each write that what Portolan writes is
//! claimed for that very Service (rule 2 of the proof of G1), and refuses what another one has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{collections::BTreeSet, time::Duration};

use controller::core::effect::Kind;
use serde_json::{Value, json};
use tests::{
    fixtures::{enforcing, port_pool, set, with},
    sim::{World, node_ports},
};

/// Histories per test; `PORTOLAN_SEEDS` asks for more.
fn seeds(default: u64) -> u64 {
    std::env::var("PORTOLAN_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// A port that the server would give: free, and anywhere.
fn some_port(world: &mut World, name: &str) -> Option<u16> {
    (0..20)
        .map(|_| world.rng.u16(30_000..30_030))
        .find(|port| world.store.port_is_free(*port, name))
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": port}],
        },
    })
}

/// A user's act, chosen by chance.
fn act(world: &mut World, doubles: bool) {
    let name = format!("svc-{}", world.rng.u8(..5));
    let key = format!("default/{name}");
    let Some(port) = some_port(world, &key) else {
        return;
    };
    let there = world.store.get(Kind::Service, &key).is_some();
    let note = |world: &mut World, annotation: &str, value: Value| {
        let place = format!("/metadata/annotations/portolan.dev~1{annotation}");
        world
            .store
            .edit(Kind::Service, &key, |o| set(o, &place, value));
    };
    match world.rng.u8(..12) {
        0..4 if !there => {
            world.store.create(service(&name, port));
        }
        0..2 => world.store.delete(Kind::Service, &key),
        2..4 => world.store.edit(Kind::Service, &key, |o| {
            // Between types, and by hand to another number.
            match o["spec"]["type"] == "NodePort" {
                true if port % 2 == 0 => {
                    o["spec"]["type"] = json!("ClusterIP");
                    o["spec"]["ports"][0]
                        .as_object_mut()
                        .unwrap()
                        .remove("nodePort");
                }
                _ => {
                    o["spec"]["type"] = json!("NodePort");
                    o["spec"]["ports"][0]["nodePort"] = json!(port);
                }
            }
        }),
        4 | 5 => {
            let asked = match world.rng.u8(..3) {
                0 => Value::Null,
                _ => json!(format!("http={}", world.rng.u16(30_000..30_012))),
            };
            note(world, "node-ports", asked);
        }
        6 => {
            let keep = match world.rng.bool() {
                true => json!("true"),
                false => Value::Null,
            };
            note(world, "keep-node-ports", keep);
        }
        7 => {
            let touched = world.rng.u8(..99).to_string();
            world.store.edit(Kind::Service, &key, |o| {
                set(o, "/metadata/labels/touched", json!(touched))
            });
        }
        8 | 9 => {
            let ports = ["30000-30003", "30002-30007", "30004-30005"][world.rng.usize(..3)];
            world.store.edit(Kind::NodePortPool, "team", |o| {
                o["spec"]["ports"] = json!([ports])
            });
        }
        10 if doubles => {
            // What kube-apiserver lets pass at times: a number that another has.
            let other = format!("default/svc-{}", world.rng.u8(..5));
            let theirs = world.store.get(Kind::Service, &other).map(node_ports);
            if let Some(port) = theirs.and_then(|ports| ports.first().copied()) {
                world.store.edit(Kind::Service, &key, |o| {
                    o["spec"]["type"] = json!("NodePort");
                    o["spec"]["ports"][0]["nodePort"] = json!(port);
                });
            }
        }
        _ => {}
    }
}

fn world(seed: u64, replicas: usize) -> World {
    let mut world = World::new(seed, replicas);
    world.store.judges_ports = true;
    world
        .store
        .create(enforcing(port_pool("team", &["30000-30003"])));
    world.store.create(with(
        port_pool("rest", &["30010-30029"]),
        "/spec/autoAssign",
        json!(false),
    ));
    world
}

fn no_port_twice(world: &World) {
    let mut seen = BTreeSet::new();
    for service in world.store.all(Kind::Service) {
        for port in node_ports(service) {
            assert!(seen.insert(port), "{port} is shown twice");
        }
    }
}

/// Where two Services show one port, the one that does not hold it is told so.
fn doubles_are_told(world: &World) {
    let services: Vec<&Value> = world.store.all(Kind::Service).collect();
    for one in &services {
        for other in &services {
            let both = node_ports(one);
            let mut both = both
                .intersection(&node_ports(other))
                .copied()
                .collect::<Vec<_>>();
            both.retain(|_| one["metadata"]["name"] != other["metadata"]["name"]);
            let pools = [30_000..30_008, 30_010..30_030];
            both.retain(|port| pools.iter().any(|pool| pool.contains(port)));
            if !both.is_empty() {
                let conflict = |o: &Value| o["status"].to_string().contains("NumberConflict");
                let told = conflict(one) || conflict(other) || told(one) || told(other);
                let nobodys = world.claims().iter().all(|(number, ..)| {
                    !both
                        .iter()
                        .any(|port| *number == model::Number::port(*port))
                });
                assert!(told || nobodys, "{both:?}: {one} {other}");
            }
        }
    }
}

fn told(service: &Value) -> bool {
    let conditions = service["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "portolan.dev/NodePortsAllocated")
}

/// Whoever is bound to the pool is in it, or keeps what it has by its own wish, or is told why not.
fn everybody_fits(world: &World) {
    let pool = world.store.get(Kind::NodePortPool, "team").unwrap();
    let text = pool["spec"]["ports"][0].as_str().unwrap();
    let (first, last) = text.split_once('-').unwrap();
    let pool: std::ops::RangeInclusive<u16> = first.parse().unwrap()..=last.parse().unwrap();
    for service in world.store.all(Kind::Service) {
        let keeps = !service["metadata"]["annotations"]["portolan.dev/keep-node-ports"].is_null();
        for port in node_ports(service) {
            assert!(
                pool.contains(&port) || keeps || told(service),
                "{port} does not fit {text}: {service}"
            );
        }
    }
}

/// Returns how many nodePorts were changed.
fn run(seed: u64, replicas: usize, doubles: bool) -> u64 {
    let mut world = world(seed, replicas);
    world.faults = true;
    for round in 0..1_200 {
        if round % 9 == 0 {
            act(&mut world, doubles);
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
        if !doubles {
            no_port_twice(&world);
        }
    }
    world.settle();
    if !doubles {
        no_port_twice(&world);
    }
    doubles_are_told(&world);
    everybody_fits(&world);
    world.check_no_leak();
    let writes = world.store.writes.clone();
    for replica in 0..replicas {
        world.crash(replica);
    }
    world.settle();
    assert_eq!(
        world.store.writes, writes,
        "seed {seed}: a restart with nothing to do writes nothing"
    );
    let moved = writes.get("event NodePortMoved");
    moved.copied().unwrap_or_default()
}

#[test]
fn one_writer_that_crashes_and_loses_replies_writes_no_port_that_is_not_claimed() {
    let moved: u64 = (0..seeds(60)).map(|seed| run(seed, 1, false)).sum();
    assert!(moved > 0);
}

#[test]
fn two_writers_with_stale_caches_write_no_port_that_is_not_claimed() {
    let moved: u64 = (0..seeds(40)).map(|seed| run(1_000 + seed, 2, false)).sum();
    assert!(moved > 0);
}

#[test]
fn of_two_services_on_one_port_one_is_changed_or_both_are_told() {
    let moved: u64 = (0..seeds(60)).map(|seed| run(2_000 + seed, 1, true)).sum();
    assert!(moved > 0);
}
