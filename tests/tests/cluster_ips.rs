//! clusterIPs where the API server gives them itself, on the simulated world: what pools hand out of
//! its ServiceCIDRs, and that nobody's address is touched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::net::IpAddr;

use controller::core::effect::Kind;
use serde_json::{Value, json};
use tests::{
    fixtures::{bare, cluster_pool, pool, set, with},
    sim::World,
};

fn settled(objects: Vec<Value>) -> World {
    let mut world = World::new(1, 1);
    for object in objects {
        world.store.create(object);
    }
    world.rest();
    world
}

fn writes(world: &World, what: &str) -> u64 {
    world.store.writes.get(what).copied().unwrap_or_default()
}

fn spec<'a>(world: &'a World, name: &str) -> &'a Value {
    let name = format!("default/{name}");
    &world.store.get(Kind::Service, &name).unwrap()["spec"]
}

fn edit(world: &mut World, name: &str, pointer: &str, value: Value) {
    let name = format!("default/{name}");
    (world.store).edit(Kind::Service, &name, |o| set(o, pointer, value));
}

fn service_cidr(cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs},
    })
}

/// Ready of the pool: status, reason, message.
fn ready(world: &World, pool: &str) -> (String, String, String) {
    let pool = world.store.get(Kind::AddressPool, pool).unwrap();
    let ready = tests::cluster::condition(pool, "Ready").unwrap();
    let text = |field: &str| ready[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[test]
fn where_the_api_server_gives_cluster_ips_a_service_that_it_completed_is_never_written() {
    let prefers = |name: &str, address: &str| {
        let service = with(bare(name, "ClusterIP"), "/spec/clusterIP", json!(address));
        let service = with(service, "/spec/clusterIPs", json!([address]));
        let service = with(service, "/spec/ipFamilies", json!(["IPv4"]));
        with(service, "/spec/ipFamilyPolicy", json!("PreferDualStack"))
    };
    let mut world = settled(vec![
        service_cidr(&["10.0.0.0/16", "fd00::/112"]),
        cluster_pool("both", &["10.0.0.16-10.0.0.31", "fd00::10-fd00::1f"]),
        prefers("inside", "10.0.0.20"),
        prefers("outside", "10.0.9.9"),
    ]);
    assert_eq!(
        writes(&world, "service spec"),
        0,
        "{:?}",
        world.store.writes
    );
    let claimed = |world: &World| {
        let pool = world.store.get(Kind::AddressPool, "both").unwrap();
        pool["status"]["ipv4"]["claimed"].as_u64()
    };
    assert_eq!(claimed(&world), Some(1), "what is shown is in the ledger");
    // SingleStack after all: the API server takes the secondary away, not we.
    edit(
        &mut world,
        "inside",
        "/spec/clusterIPs",
        json!(["10.0.0.20", "fd00::10"]),
    );
    edit(
        &mut world,
        "inside",
        "/spec/ipFamilyPolicy",
        json!("SingleStack"),
    );
    world.rest();
    assert_eq!(
        spec(&world, "inside")["clusterIPs"],
        json!(["10.0.0.20", "fd00::10"])
    );
    world.store.delete(Kind::Service, "default/inside");
    world.rest();
    assert_eq!(claimed(&world), Some(0));
}

#[test]
fn a_pool_says_what_lies_outside_the_service_cidrs_and_gives_none_of_it() {
    let mut world = settled(vec![
        service_cidr(&["10.0.0.0/24"]),
        cluster_pool("part", &["10.0.0.0-10.0.0.31", "10.1.0.16-10.1.0.31"]),
        cluster_pool("static", &["10.0.0.8-10.0.0.15"]),
        cluster_pool("none", &["10.2.0.0/24", "fd00::/112"]),
        pool("external", &["192.0.2.0/28"]),
    ]);
    let told = |world: &World, pool: &str| ready(world, pool).2;
    let is = |status: &str, reason: &str, message: &str| {
        (status.to_owned(), reason.to_owned(), message.to_owned())
    };
    assert_eq!(ready(&world, "static").1, "PoolOverlap");
    world.store.edit(Kind::AddressPool, "part", |o| {
        o["spec"]["addresses"] = json!(["10.0.0.16-10.0.0.31", "10.1.0.16-10.1.0.31"]);
    });
    world.rest();
    assert_eq!(
        ready(&world, "part"),
        is(
            "True",
            "Ready",
            "hands out numbers, but not 10.1.0.16-10.1.0.31: outside every ServiceCIDR (10.0.0.0/24); outside the static band, at 10.0.0.17-10.0.0.31, the API server, too, gives addresses to Services that ask for none, and only Kubernetes 1.34 and later lets addresses be reserved"
        ),
    );
    assert_eq!(
        ready(&world, "static"),
        is("True", "Ready", "hands out numbers")
    );
    assert_eq!(
        ready(&world, "none"),
        is(
            "False",
            "ClusterIPOutOfRange",
            "all of its addresses lie outside every ServiceCIDR (10.0.0.0/24): nothing is given"
        ),
    );
    assert_eq!(told(&world, "external"), "hands out numbers");
    let available = |world: &World, pool: &str| {
        let pool = world.store.get(Kind::AddressPool, pool).unwrap();
        pool["status"]["ipv4"]["available"].as_u64()
    };
    assert_eq!(available(&world, "part"), Some(16));
    assert_eq!(available(&world, "none"), None, "it has none");
    // Another one is added, and removed: the pool follows at once, and nobody's address moves.
    let more = with(
        service_cidr(&["10.1.0.0/24"]),
        "/metadata/name",
        json!("more"),
    );
    world.store.create(more);
    let taken = with(
        bare("taken", "ClusterIP"),
        "/spec/clusterIP",
        json!("10.1.0.16"),
    );
    let taken = with(taken, "/spec/clusterIPs", json!(["10.1.0.16"]));
    world.store.create(taken);
    world.rest();
    assert_eq!(available(&world, "part"), Some(31));
    world.store.edit(Kind::ServiceCidr, "more", |o| {
        o["status"]["conditions"] = json!([{
            "type": "Ready", "status": "False", "reason": "Terminating",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
    });
    world.rest();
    assert_eq!(available(&world, "part"), Some(16));
    assert_eq!(spec(&world, "taken")["clusterIPs"], json!(["10.1.0.16"]));
    world.store.delete(Kind::ServiceCidr, "more");
    world.rest();
    let block = world.store.get(Kind::Block, "v4-10-1-0-0").unwrap();
    assert_eq!(block["spec"]["claims"].as_str().unwrap().lines().count(), 1);
}

/// The addresses that are reserved, in order.
fn reserved(world: &World) -> Vec<String> {
    let objects = world.store.all(Kind::Reservation);
    let names = objects.map(|o| o["metadata"]["name"].as_str().unwrap());
    let mut addresses: Vec<IpAddr> = names.map(|name| name.parse().unwrap()).collect();
    addresses.sort();
    addresses.iter().map(ToString::to_string).collect()
}

fn at(name: &str, address: &str) -> Value {
    let service = with(bare(name, "ClusterIP"), "/spec/clusterIP", json!(address));
    with(service, "/spec/clusterIPs", json!([address]))
}

fn new_enough(objects: Vec<Value>) -> World {
    let mut world = World::new(1, 1);
    world.store.server_version = Some((1, 34));
    for object in objects {
        world.store.create(object);
    }
    world.rest();
    world
}

#[test]
fn free_addresses_outside_the_static_band_are_reserved_and_follow_pool_services_and_ledger() {
    let four = "10.0.1.1-10.0.1.4";
    let mut world = new_enough(vec![
        service_cidr(&["10.0.0.0/16"]),
        with(
            cluster_pool("team", &[four]),
            "/spec/retainFor",
            json!("1h"),
        ),
        cluster_pool("static", &["10.0.0.16-10.0.0.31"]),
        at("web", "10.0.1.2"),
    ]);
    let all = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"];
    let free = ["10.0.1.1", "10.0.1.3", "10.0.1.4"];
    assert_eq!(reserved(&world), free);
    let told = "hands out numbers; outside the static band, at 10.0.1.1-10.0.1.4, the API server, too, gives addresses to Services that ask for none, but what is free there is reserved";
    assert_eq!(ready(&world, "team").2, told);
    assert_eq!(ready(&world, "static").2, "hands out numbers");
    // The webhook hands one over, and the Service comes.
    world.store.delete(Kind::Reservation, "10.0.1.3");
    world.store.create(at("next", "10.0.1.3"));
    world.rest();
    assert_eq!(reserved(&world), ["10.0.1.1", "10.0.1.4"]);
    // Kept for its name by the pool: reserved again; and when that has ended, for good.
    world.store.delete(Kind::Service, "default/next");
    world.settle();
    assert_eq!(reserved(&world), free);
    world.store.delete(Kind::Service, "default/web");
    for _ in 0..8 {
        world.settle();
    }
    world.rest();
    assert_eq!(reserved(&world), all);

    for (field, value) in [
        ("/spec/disabled", json!(true)),
        ("/spec/usage", json!("LoadBalancer")),
        ("/spec/reserved", json!([four])),
        ("/spec/addresses", json!(["10.0.0.1-10.0.0.4"])),
    ] {
        let before = world.store.get(Kind::AddressPool, "team").unwrap()["spec"].clone();
        (world.store).edit(Kind::AddressPool, "team", |o| set(o, field, value));
        world.rest();
        assert_eq!(reserved(&world), [""; 0], "{field}");
        (world.store).edit(Kind::AddressPool, "team", |o| o["spec"] = before);
        world.rest();
        assert_eq!(reserved(&world), all, "{field}");
    }
    world.store.delete(Kind::AddressPool, "team");
    world.rest();
    assert_eq!(reserved(&world), [""; 0]);
}

#[test]
fn whatever_fails_the_reservations_come_to_what_the_pool_has_free() {
    for seed in 0..60 {
        let mut world = World::new(seed, 2);
        world.store.server_version = Some((1, 36));
        world.faults = true;
        world.store.create(service_cidr(&["10.0.0.0/16"]));
        world
            .store
            .create(cluster_pool("team", &["10.0.1.1-10.0.1.6"]));
        for step in 0..4_000 {
            world.step();
            if step % 40 != 0 {
                continue;
            }
            let replica = world.rng.usize(..2);
            let address = format!("10.0.1.{}", world.rng.u8(1..=6));
            let name = format!("s{}", world.rng.u8(..6));
            match world.rng.u8(..10) {
                0 => world.crash(replica),
                1 => {
                    let disabled = json!(world.rng.bool());
                    world.store.edit(Kind::AddressPool, "team", |o| {
                        o["spec"]["disabled"] = disabled;
                    });
                }
                2..6 => world
                    .store
                    .delete(Kind::Service, &format!("default/{name}")),
                _ => {
                    // As the API server does it: nobody has the address, and the webhook has taken
                    // the reservation away.
                    let same = |o: &Value| {
                        o["spec"]["clusterIP"] == address || o["metadata"]["name"] == name
                    };
                    let taken = world.store.all(Kind::Service).any(same);
                    if !taken {
                        world.store.delete(Kind::Reservation, &address);
                        world.store.create(at(&name, &address));
                    }
                }
            }
        }
        world.store.edit(Kind::AddressPool, "team", |o| {
            o["spec"]["disabled"] = json!(false)
        });
        world.settle();
        let shown: Vec<String> = world
            .store
            .all(Kind::Service)
            .map(|o| o["spec"]["clusterIP"].as_str().unwrap().to_owned())
            .collect();
        let free = (1..=6).map(|last| format!("10.0.1.{last}"));
        let free: Vec<String> = free.filter(|address| !shown.contains(address)).collect();
        assert_eq!(reserved(&world), free, "seed {seed}");
        world.check();
        let before = world.store.writes.clone();
        world.crash(0);
        world.crash(1);
        world.settle();
        assert_eq!(world.store.writes, before, "seed {seed}");
    }
}
