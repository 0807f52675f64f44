//! What the engine does for users, on the simulated world: one sentence, one test. Every history
//! ends in a fixed point: [`World::settle`] runs on until a resync later nothing has been written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use controller::core::effect::Kind;
use serde_json::{Value, json};
use tests::{
    fixtures::{bare, cluster_pool, default_class, load_balancer, pool, set, with},
    sim::World,
};

fn world() -> World {
    let mut world = World::new(1, 1);
    world.store.create(default_class());
    world
}

fn settled(objects: Vec<Value>) -> World {
    let mut world = world();
    for object in objects {
        world.store.create(object);
    }
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    world.rest();
    world.check();
    world.check_no_leak();
}

/// Everything that can happen at once, once; the clock stands.
fn turn(world: &mut World) {
    for kind in Kind::ALL {
        while world.deliver(0, kind) {}
    }
    world.poll(0);
    world.tick += 1_000;
    while world.serve() {}
    while world.receive(0) {}
}

fn writes(world: &World, what: &str) -> u64 {
    world.store.writes.get(what).copied().unwrap_or_default()
}

fn spec<'a>(world: &'a World, name: &str) -> &'a Value {
    &world
        .store
        .get(Kind::Service, &format!("default/{name}"))
        .unwrap()["spec"]
}

fn address(world: &World, name: &str) -> Option<String> {
    world.address(&format!("default/{name}"))
}

fn condition(world: &World, name: &str) -> String {
    world
        .condition(&format!("default/{name}"))
        .unwrap_or_else(|| "none".to_owned())
}

fn annotated(service: Value, annotation: &str, value: &str) -> Value {
    let pointer = format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
    with(service, &pointer, json!(value))
}

fn edit(world: &mut World, name: &str, pointer: &str, value: Value) {
    world
        .store
        .edit(Kind::Service, &format!("default/{name}"), |o| {
            set(o, pointer, value)
        });
}

#[test]
fn a_load_balancer_gets_the_lowest_free_address_with_one_status_write_and_no_event() {
    let world = settled(vec![pool("public", &["192.0.2.0/24"]), load_balancer("a")]);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    assert_eq!(
        condition(&world, "a"),
        "True Allocated: 192.0.2.0 from pool public"
    );
    assert_eq!(writes(&world, "service status"), 1);
    assert_eq!(
        writes(&world, "service spec"),
        0,
        "it has its clusterIP already"
    );
    assert_eq!(
        writes(&world, "block create") + writes(&world, "block update"),
        1
    );
    assert_eq!(writes(&world, "event"), 0);
    let ingress =
        &world.store.get(Kind::Service, "default/a").unwrap()["status"]["loadBalancer"]["ingress"];
    assert_eq!(*ingress, json!([{"ip": "192.0.2.0", "ipMode": "VIP"}]));
}

#[test]
fn every_type_gets_the_numbers_kubernetes_would_give_it() {
    let headless = with(
        bare("headless", "ClusterIP"),
        "/spec/clusterIP",
        json!("None"),
    );
    let external = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "external"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    });
    let local = with(
        bare("local", "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    let world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        cluster_pool("cluster", &["10.96.0.0/24"]),
        bare("cluster-ip", "ClusterIP"),
        bare("node-port", "NodePort"),
        local,
        headless,
        external,
    ]);
    // 10.96.0.0/24 has a static band of 16: dynamic numbers begin at .17 (KEP-3070).
    let ip = |name: &str| {
        spec(&world, name)["clusterIP"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    assert_eq!(
        [ip("cluster-ip"), ip("node-port"), ip("local")],
        ["10.96.0.17", "10.96.0.18", "10.96.0.19"]
    );
    // 30000-32767 has a static band of 86 (KEP-3668).
    assert_eq!(spec(&world, "node-port")["ports"][0]["nodePort"], 30086);
    assert_eq!(spec(&world, "local")["ports"][0]["nodePort"], 30087);
    assert_eq!(spec(&world, "local")["healthCheckNodePort"], 30088);
    assert_eq!(spec(&world, "cluster-ip")["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec(&world, "cluster-ip")["ports"][0].get("nodePort"), None);
    assert_eq!(spec(&world, "headless")["clusterIP"], "None");
    assert_eq!(spec(&world, "headless").get("clusterIPs"), None);
    assert_eq!(spec(&world, "external").get("clusterIP"), None);
    assert_eq!(writes(&world, "service spec"), 3);
    assert_eq!(
        writes(&world, "service status"),
        1,
        "only the load balancer has something to say"
    );
}

#[test]
fn tcp_and_udp_of_one_port_share_a_node_port_and_explicit_ones_are_kept() {
    let mut dns = bare("dns", "NodePort");
    dns["spec"]["ports"] = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "web", "port": 80, "protocol": "TCP", "nodePort": 30086},
    ]);
    let world = settled(vec![cluster_pool("cluster", &["10.96.0.0/24"]), dns]);
    let ports = &spec(&world, "dns")["ports"];
    assert_eq!(
        ports[0]["nodePort"], 30087,
        "30086 is taken by hand: {ports}"
    );
    assert_eq!(ports[1]["nodePort"], 30087);
    assert_eq!(ports[2]["nodePort"], 30086);
}

#[test]
fn leaving_the_type_releases_the_numbers_and_clears_the_conditions() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.7/32"]),
        cluster_pool("cluster", &["10.96.0.0/24"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.7"));
    assert!(
        condition(&world, "b").starts_with("False PoolExhausted"),
        "{}",
        condition(&world, "b")
    );
    edit(&mut world, "a", "/spec/type", json!("ClusterIP"));
    settle(&mut world);
    assert_eq!(condition(&world, "a"), "none");
    assert_eq!(
        address(&world, "b").as_deref(),
        Some("192.0.2.7"),
        "a freed number wakes who waits"
    );
}

#[test]
fn a_freed_number_goes_to_the_oldest_waiter() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.7/32"]),
        load_balancer("a"),
        load_balancer("z-older"),
        load_balancer("b-younger"),
    ]);
    world.store.delete(Kind::Service, "default/a");
    settle(&mut world);
    assert_eq!(address(&world, "z-older").as_deref(), Some("192.0.2.7"));
    assert_eq!(address(&world, "b-younger"), None);
}

#[test]
fn a_service_that_starts_to_wait_gets_one_warning_and_says_what_to_change() {
    let mut world = settled(vec![load_balancer("a")]);
    assert!(
        condition(&world, "a").starts_with("False NoPool: "),
        "{}",
        condition(&world, "a")
    );
    assert_eq!(writes(&world, "event NoPool"), 1);
    world.store.create(pool("public", &["192.0.2.0/24"]));
    settle(&mut world);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    assert_eq!(writes(&world, "event"), 1, "ordinary success is no Event");
}

#[test]
fn a_tenant_cannot_take_a_number_of_a_pool_that_does_not_admit_it() {
    let tenant = with(
        pool("tenant-b", &["198.51.100.0/24"]),
        "/spec/namespaces",
        json!(["tenant-b"]),
    );
    let world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        tenant,
        annotated(
            load_balancer("by-name"),
            "portolan.dev/address-pool",
            "tenant-b",
        ),
        annotated(
            load_balancer("by-number"),
            "portolan.dev/addresses",
            "198.51.100.9",
        ),
    ]);
    for name in ["by-name", "by-number"] {
        assert_eq!(address(&world, name), None);
        assert!(
            condition(&world, name).starts_with("False PoolNotAdmitted"),
            "{}",
            condition(&world, name)
        );
    }
}

#[test]
fn two_services_share_an_address_by_key_and_never_with_the_same_port() {
    let shared = |name: &str, port: u16| {
        let service = annotated(load_balancer(name), "portolan.dev/sharing-key", "web");
        with(
            service,
            "/spec/ports",
            json!([{"port": port, "protocol": "TCP"}]),
        )
    };
    let world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("first"),
        shared("a", 80),
        shared("b", 443),
        shared("c", 80),
    ]);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.1"));
    assert_eq!(
        address(&world, "b").as_deref(),
        Some("192.0.2.1"),
        "the key steers to its address"
    );
    assert_eq!(
        address(&world, "c").as_deref(),
        Some("192.0.2.2"),
        "port 80 is taken there"
    );
}

#[test]
fn families_may_come_from_different_pools_and_require_is_all_or_nothing() {
    let dual = |name: &str, policy: &str| {
        let mut service = load_balancer(name);
        service["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        service["spec"]["clusterIPs"] = json!(["10.0.0.1", "fd00::1"]);
        service["spec"]["ipFamilyPolicy"] = json!(policy);
        service
    };
    let mut world = settled(vec![
        pool("four", &["192.0.2.0/24"]),
        dual("prefer", "PreferDualStack"),
        dual("require", "RequireDualStack"),
    ]);
    assert_eq!(address(&world, "prefer").as_deref(), Some("192.0.2.0"));
    assert!(
        condition(&world, "prefer").starts_with("True PartlyAllocated"),
        "{}",
        condition(&world, "prefer")
    );
    assert_eq!(address(&world, "require"), None);
    assert!(
        condition(&world, "require").starts_with("False "),
        "{}",
        condition(&world, "require")
    );
    world.store.create(pool("six", &["2001:db8::/112"]));
    settle(&mut world);
    for name in ["prefer", "require"] {
        let object = world
            .store
            .get(Kind::Service, &format!("default/{name}"))
            .unwrap();
        let ingress = object["status"]["loadBalancer"]["ingress"]
            .as_array()
            .unwrap();
        assert_eq!(ingress.len(), 2, "{ingress:?}");
    }
    assert_eq!(
        address(&world, "prefer").as_deref(),
        Some("192.0.2.0"),
        "what it had stays"
    );
}

#[test]
fn editing_a_pool_moves_only_those_whose_address_is_in_it_no_longer() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.1-192.0.2.4"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    world.store.edit(Kind::AddressPool, "public", |o| {
        o["spec"]["addresses"] = json!(["192.0.2.2-192.0.2.9"])
    });
    let before = writes(&world, "service status");
    settle(&mut world);
    assert_eq!(address(&world, "b").as_deref(), Some("192.0.2.2"));
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.3"));
    assert_eq!(writes(&world, "service status"), before + 1);
    assert_eq!(writes(&world, "event AddressMoved"), 1);
}

#[test]
fn deleting_a_class_hands_out_nothing_new_and_releases_nothing() {
    let mut world = settled(vec![pool("public", &["192.0.2.0/24"]), load_balancer("a")]);
    world.store.delete(Kind::Class, "default");
    world.store.create(load_balancer("b"));
    settle(&mut world);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    assert_eq!(address(&world, "b"), None);
    world.store.create(default_class());
    settle(&mut world);
    assert_eq!(address(&world, "b").as_deref(), Some("192.0.2.1"));
}

#[test]
fn another_controllers_class_is_never_touched() {
    let foreign = with(
        load_balancer("a"),
        "/spec/loadBalancerClass",
        json!("example.com/other"),
    );
    let world = settled(vec![pool("public", &["192.0.2.0/24"]), foreign]);
    assert_eq!(address(&world, "a"), None);
    assert_eq!(condition(&world, "a"), "none");
    assert_eq!(writes(&world, "service status"), 0);
}

#[test]
fn a_status_changed_by_hand_is_put_back_and_said_so() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    edit(
        &mut world,
        "a",
        "/status/loadBalancer/ingress",
        json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]),
    );
    world.settle();
    assert_eq!(
        address(&world, "a").as_deref(),
        Some("192.0.2.0"),
        "not the one of b"
    );
    assert_eq!(writes(&world, "event Repaired"), 1);
    settle(&mut world);
}

#[test]
fn a_service_made_again_under_its_name_is_another_one() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    world.store.delete(Kind::Service, "default/a");
    world.store.create(load_balancer("a"));
    settle(&mut world);
    assert!(address(&world, "a").is_some());
    assert_eq!(world.claims().len(), 2);
}

#[test]
fn a_service_made_again_while_nobody_watched_frees_what_the_old_one_held() {
    let mut world = settled(vec![pool("public", &["192.0.2.0/30"]), load_balancer("a")]);
    world.store.delete(Kind::Service, "default/a");
    world.store.create(load_balancer("a"));
    world.store.create(load_balancer("b"));
    world.crash(0);
    settle(&mut world);
    assert_eq!(world.claims().len(), 2, "{:?}", world.claims());
}

#[test]
fn a_claim_that_another_writer_may_be_about_to_use_stays_until_the_service_has_moved_on() {
    for seed in 0..20 {
        rival_claim(seed);
    }
}

fn rival_claim(seed: u64) {
    let mut world = settled(vec![pool("public", &["192.0.2.0/24"]), load_balancer("a")]);
    world.rng.seed(seed);
    let service = world.store.get(Kind::Service, "default/a").unwrap().clone();
    let [uid, at] = ["uid", "resourceVersion"].map(|field| service["metadata"][field].as_str());
    let (uid, at) = (uid.unwrap(), at.unwrap());
    let rival = format!("192.0.2.9 LoadBalancer default/a {uid} {at}\n");
    world.store.edit(Kind::Block, "v4-192-0-2-0", |o| {
        let claims = o["spec"]["claims"].as_str().unwrap();
        o["spec"]["claims"] = json!(format!("{claims}{rival}"));
    });
    for _ in 0..200 {
        for kind in Kind::ALL {
            while world.deliver(0, kind) {}
        }
        world.poll(0);
        world.tick += 1_000;
        world.serve();
        world.receive(0);
        world.clock += std::time::Duration::from_secs(1);
        let now = world.store.get(Kind::Service, "default/a").unwrap();
        if now["metadata"]["resourceVersion"] == service["metadata"]["resourceVersion"] {
            assert_eq!(world.claims().len(), 2, "no newer version proves it unused");
        }
    }
    settle(&mut world);
    assert_eq!(
        world.claims().len(),
        1,
        "the fence proved that the claim was never used"
    );
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
}

#[test]
fn a_claim_no_longer_wanted_by_a_service_without_conditions_is_released_and_leaves_no_trace() {
    let mut prefer = bare("a", "ClusterIP");
    set(
        &mut prefer,
        "/spec/ipFamilyPolicy",
        json!("PreferDualStack"),
    );
    let mut world = settled(vec![cluster_pool("cluster", &["10.96.0.0/24"]), prefer]);
    let before = world.store.get(Kind::Service, "default/a").unwrap().clone();
    // A pool of the other family comes and is gone again before its claim is used.
    world
        .store
        .create(cluster_pool("other", &["fd00:10:96::/112"]));
    while world.deliver(0, Kind::AddressPool) {}
    world.poll(0);
    world.tick += 1_000;
    while world.serve() {}
    assert_eq!(world.claims().len(), 2, "the second family is claimed");
    world.store.delete(Kind::AddressPool, "other");
    while world.deliver(0, Kind::AddressPool) {}
    settle(&mut world);
    assert_eq!(world.claims().len(), 1);
    let after = world.store.get(Kind::Service, "default/a").unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["status"]["conditions"], Value::Null);
    assert_eq!(writes(&world, "service status"), 2, "there and back");
}

#[test]
fn a_retained_number_waits_for_its_former_owner() {
    let mut world = settled(vec![
        with(
            pool("public", &["192.0.2.0/31"]),
            "/spec/retainFor",
            json!("30m"),
        ),
        load_balancer("a"),
    ]);
    world.store.delete(Kind::Service, "default/a");
    world.store.create(load_balancer("b"));
    // Not settle(): that would wait for the retention to run out.
    for _ in 0..50 {
        turn(&mut world);
    }
    assert_eq!(
        address(&world, "b").as_deref(),
        Some("192.0.2.1"),
        "192.0.2.0 is kept for a"
    );
    world.store.create(load_balancer("a"));
    settle(&mut world);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
}

#[test]
fn addresses_found_in_statuses_are_adopted_before_anything_new_is_given() {
    let served = |name: &str, ip: &str| {
        with(
            load_balancer(name),
            "/status/loadBalancer/ingress",
            json!([{"ip": ip, "ipMode": "VIP"}]),
        )
    };
    let world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("older-but-new"),
        served("a", "192.0.2.0"),
        served("b", "192.0.2.1"),
    ]);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    assert_eq!(address(&world, "b").as_deref(), Some("192.0.2.1"));
    assert_eq!(
        address(&world, "older-but-new").as_deref(),
        Some("192.0.2.2")
    );
}

#[test]
fn a_lost_ledger_is_rebuilt_from_the_statuses() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    let (a, b) = (address(&world, "a"), address(&world, "b"));
    let blocks: Vec<String> = world
        .store
        .all(Kind::Block)
        .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    for block in blocks {
        world.store.delete(Kind::Block, &block);
    }
    world.crash(0);
    settle(&mut world);
    assert_eq!((address(&world, "a"), address(&world, "b")), (a, b));
    assert_eq!(world.claims().len(), 2);
}

#[test]
fn shares_across_namespaces_found_at_the_start_stay_and_are_reported() {
    let shared = |namespace: &str, name: &str, port: u16| {
        let mut service = annotated(load_balancer(name), "metallb.io/allow-shared-ip", "k");
        service["metadata"]["namespace"] = json!(namespace);
        service["spec"]["ports"] = json!([{"port": port, "protocol": "TCP"}]);
        with(
            service,
            "/status/loadBalancer/ingress",
            json!([{"ip": "192.0.2.5", "ipMode": "VIP"}]),
        )
    };
    let mut world = world();
    world
        .store
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}));
    world.store.create(pool("public", &["192.0.2.0/24"]));
    world.store.create(shared("default", "a", 80));
    world.store.create(shared("other", "b", 443));
    world.settle();
    assert_eq!(world.address("default/a").as_deref(), Some("192.0.2.5"));
    assert_eq!(world.address("other/b").as_deref(), Some("192.0.2.5"));
    assert_eq!(writes(&world, "event SharingConflict"), 1);
}

#[test]
fn a_damaged_block_is_reported_and_nothing_is_given_from_it() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.0/25", "198.51.100.0/25"]),
        load_balancer("a"),
    ]);
    world.store.edit(Kind::Block, "v4-192-0-2-0", |o| {
        o["spec"]["claims"] = json!("not an address");
    });
    world.store.create(load_balancer("b"));
    world.settle();
    assert_eq!(
        address(&world, "a").as_deref(),
        Some("192.0.2.0"),
        "what is in service stays"
    );
    assert_eq!(address(&world, "b").as_deref(), Some("198.51.100.0"));
    let pool = world.store.get(Kind::AddressPool, "public").unwrap();
    assert!(
        pool["status"].to_string().contains("LedgerDamaged"),
        "{pool}"
    );
    // Restarting with it changes nothing.
    world.crash(0);
    world.settle();
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    assert_eq!(address(&world, "b").as_deref(), Some("198.51.100.0"));
}

#[test]
fn what_is_deleted_while_its_block_is_damaged_is_released_once_the_block_is_mended() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.0/24"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    let good = world.store.get(Kind::Block, "v4-192-0-2-0").unwrap()["spec"]["claims"].clone();
    // One damage that a record can be made of, and one that not even serde can read.
    for damage in [json!("not an address"), json!(7)] {
        world.store.edit(Kind::Block, "v4-192-0-2-0", |o| {
            o["spec"]["claims"] = damage.clone();
        });
        for _ in 0..20 {
            turn(&mut world);
        }
        world.store.delete(Kind::Service, "default/a");
        for _ in 0..100 {
            turn(&mut world);
            world.clock += std::time::Duration::from_secs(1);
        }
        world.store.edit(Kind::Block, "v4-192-0-2-0", |o| {
            o["spec"]["claims"] = good.clone();
        });
        settle(&mut world);
        assert_eq!(world.claims().len(), 1, "{damage}: {:?}", world.claims());
    }
}

#[test]
fn an_overlap_switches_off_the_younger_pool_only() {
    let world = settled(vec![
        pool("older", &["192.0.2.0/30"]),
        pool("younger", &["192.0.2.0/24"]),
        pool("other", &["198.51.100.0/24"]),
        annotated(load_balancer("a"), "portolan.dev/address-pool", "younger"),
        annotated(load_balancer("b"), "portolan.dev/address-pool", "older"),
    ]);
    assert!(
        condition(&world, "a").starts_with("False PoolUnavailable"),
        "{}",
        condition(&world, "a")
    );
    assert_eq!(address(&world, "b").as_deref(), Some("192.0.2.0"));
    let status = |name: &str| world.store.get(Kind::AddressPool, name).unwrap()["status"].clone();
    assert!(status("younger").to_string().contains("PoolOverlap"));
    assert!(!status("older").to_string().contains("PoolOverlap"));
}

#[test]
fn an_invalid_pool_says_so_and_stops_nobody() {
    let world = settled(vec![
        pool("reversed", &["192.0.2.9-192.0.2.1"]),
        pool("good", &["198.51.100.0/24"]),
        load_balancer("a"),
    ]);
    assert_eq!(address(&world, "a").as_deref(), Some("198.51.100.0"));
    let status = &world.store.get(Kind::AddressPool, "reversed").unwrap()["status"];
    assert!(status.to_string().contains("PoolInvalid"), "{status}");
}

#[test]
fn a_rejection_after_success_leaves_what_is_held_in_service_and_says_so() {
    let mut world = settled(vec![pool("public", &["192.0.2.0/24"]), load_balancer("a")]);
    edit(
        &mut world,
        "a",
        "/metadata/annotations/portolan.dev~1addresses",
        json!("203.0.113.1"),
    );
    settle(&mut world);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
    let said = condition(&world, "a");
    assert!(
        said.starts_with("False AddressNotInPool") && said.contains("keeps 192.0.2.0"),
        "{said}"
    );
    edit(
        &mut world,
        "a",
        "/metadata/annotations/portolan.dev~1addresses",
        json!("192.0.2.44"),
    );
    settle(&mut world);
    assert_eq!(
        address(&world, "a").as_deref(),
        Some("192.0.2.44"),
        "now the user asks for what can be had"
    );
    assert_eq!(world.claims().len(), 1);
}

#[test]
fn a_service_that_is_being_deleted_keeps_its_address_until_it_is_gone() {
    let mut world = settled(vec![
        pool("public", &["192.0.2.7/32"]),
        load_balancer("a"),
        load_balancer("b"),
    ]);
    edit(
        &mut world,
        "a",
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    settle(&mut world);
    assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.7"));
    assert_eq!(address(&world, "b"), None);
    world.store.delete(Kind::Service, "default/a");
    settle(&mut world);
    assert_eq!(address(&world, "b").as_deref(), Some("192.0.2.7"));
}

#[test]
fn family_policy_changes_add_and_release_the_second_family() {
    let mut world = settled(vec![
        cluster_pool("cluster", &["10.96.0.0/24", "fd00:10:96::/112"]),
        pool("public", &["192.0.2.0/24", "2001:db8::/112"]),
        bare("a", "LoadBalancer"),
    ]);
    assert_eq!(spec(&world, "a")["clusterIPs"].as_array().unwrap().len(), 1);
    edit(
        &mut world,
        "a",
        "/spec/ipFamilyPolicy",
        json!("PreferDualStack"),
    );
    settle(&mut world);
    assert_eq!(spec(&world, "a")["clusterIPs"].as_array().unwrap().len(), 2);
    assert_eq!(spec(&world, "a")["ipFamilies"], json!(["IPv4", "IPv6"]));
    let ingress = |world: &World| {
        world.store.get(Kind::Service, "default/a").unwrap()["status"]["loadBalancer"]["ingress"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(ingress(&world), 2);
    // The API server trims the secondary when the policy goes back.
    world.store.edit(Kind::Service, "default/a", |o| {
        set(o, "/spec/ipFamilyPolicy", json!("SingleStack"));
        let first = o["spec"]["clusterIPs"][0].clone();
        set(o, "/spec/clusterIPs", json!([first]));
        set(o, "/spec/ipFamilies", json!(["IPv4"]));
    });
    settle(&mut world);
    assert_eq!(ingress(&world), 1);
    let v6: Vec<_> = world
        .claims()
        .into_iter()
        .filter(|(number, ..)| number.space == model::Space::V6)
        .collect();
    assert_eq!(v6, [], "both second numbers are released");
}

#[test]
fn a_thousand_services_cost_one_write_each_and_few_of_the_ledger() {
    let mut world = world();
    world.store.create(pool("public", &["10.1.0.0/16"]));
    world
        .store
        .create(cluster_pool("cluster", &["10.2.0.0/16"]));
    for n in 0..1000 {
        let service = with(
            bare(&format!("svc-{n:04}"), "LoadBalancer"),
            "/spec/allocateLoadBalancerNodePorts",
            json!(false),
        );
        world.store.create(service);
    }
    world.settle();
    assert_eq!(writes(&world, "service spec"), 1000);
    assert_eq!(writes(&world, "service status"), 1000);
    let ledger = writes(&world, "block create") + writes(&world, "block update");
    assert!(ledger <= 200, "{ledger} ledger writes for 2 x 1000 claims");
    assert_eq!(writes(&world, "event"), 0);
}

/// A world of seven bare Services made in one second, in an order of chance, that is listed whole
/// and then steps by chance; the pool has so many addresses.
fn made_at_once(seed: u64, addresses: &str) -> World {
    let mut world = World::new(seed, 1);
    world.store.create(default_class());
    world.store.create(pool("public", &[addresses]));
    world
        .store
        .create(cluster_pool("cluster", &["10.96.0.0/24"]));
    let mut names = ["a", "b", "c", "d", "e", "f", "g"];
    world.rng.shuffle(&mut names);
    for name in names {
        world.store.create(with(
            bare(name, "LoadBalancer"),
            "/metadata/creationTimestamp",
            json!("2026-01-01T00:00:00Z"),
        ));
    }
    world
}

fn having_addresses(world: &World) -> String {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let having = names.into_iter().filter(|n| address(world, n).is_some());
    having.collect()
}

#[test]
fn of_services_made_at_once_the_oldest_get_the_last_addresses() {
    for seed in 0..200 {
        let mut world = made_at_once(seed, "192.0.2.0-192.0.2.2");
        for _ in 0..1_500 {
            world.step();
        }
        settle(&mut world);
        assert_eq!(having_addresses(&world), "abc", "seed {seed}");
    }
}

#[test]
fn a_freed_address_goes_to_the_oldest_waiter_even_while_that_one_is_being_written() {
    for seed in 0..200 {
        let mut world = made_at_once(seed, "192.0.2.0/32");
        for _ in 0..world.rng.u16(50..400) {
            world.step();
        }
        world.store.delete(Kind::Service, "default/a");
        for _ in 0..1_500 {
            world.step();
        }
        settle(&mut world);
        assert_eq!(having_addresses(&world), "b", "seed {seed}");
    }
}

#[test]
fn the_address_an_older_service_asks_for_is_left_to_it() {
    for seed in 0..100 {
        let mut world = made_at_once(seed, "192.0.2.0/24");
        edit(
            &mut world,
            "a",
            "/metadata/annotations/portolan.dev~1addresses",
            json!("192.0.2.0"),
        );
        for _ in 0..1_500 {
            world.step();
        }
        settle(&mut world);
        assert_eq!(address(&world, "a").as_deref(), Some("192.0.2.0"));
        assert_eq!(having_addresses(&world), "abcdefg", "seed {seed}");
    }
}

#[test]
fn a_younger_service_does_not_wait_for_ever_for_an_older_one_that_cannot_be_written() {
    let mut world = made_at_once(1, "192.0.2.0/32");
    let begin = world.clock;
    while address(&world, "b").is_none() {
        for kind in Kind::ALL {
            while world.deliver(0, kind) {}
        }
        // A user who edits the oldest all the time: no write of ours ever fits its version.
        let label = json!(world.tick.to_string());
        world.poll(0);
        edit(&mut world, "a", "/metadata/labels/touched", label);
        world.tick += 1_000;
        while world.serve() {}
        while world.receive(0) {}
        world.clock += std::time::Duration::from_millis(100);
        assert!((world.clock - begin).as_secs() < 10, "b still waits");
    }
    settle(&mut world);
    assert_eq!(having_addresses(&world), "b");
}
