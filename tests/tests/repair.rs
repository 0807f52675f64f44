//! What repair mends and what it only tells, on simulated time: leaked claims go after a grace and
//! by proof, what does not agree is told once and only when it stays.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use controller::core::{
    effect::{Input, Kind, Now},
    engine::{LEAK_GRACE, LOOK_EVERY},
    repair::{Kind as Found, Parent, Recorded},
};
use serde_json::{Value, json};
use tests::{
    fixtures::{cluster_pool, default_class, node_port, noted, port_pool, with},
    sim::World,
};

const SECOND: Duration = Duration::from_secs(1);

/// As the API server leaves it: with a cluster IP of its own.
fn complete(name: &str, port: u16, ip: &str) -> Value {
    let service = node_port(name, port);
    let service = with(service, "/spec/clusterIP", json!(ip));
    let service = with(service, "/spec/clusterIPs", json!([ip]));
    let service = with(service, "/spec/ipFamilies", json!(["IPv4"]));
    with(service, "/spec/ipFamilyPolicy", json!("SingleStack"))
}

fn web(port: u16) -> Value {
    complete("web", port, "10.96.0.1")
}

/// With a pool that covers every port and changes none.
fn world() -> World {
    let mut world = World::new(1, 1);
    world.store.create(default_class());
    world.store.create(port_pool("all", &["30000-30099"]));
    world
}

/// Numbers in the ledger, without whose.
fn claimed(world: &World) -> Vec<String> {
    let claims = world.claims().into_iter();
    claims.map(|(number, ..)| number.to_string()).collect()
}

fn events(world: &World, reason: &str) -> u64 {
    let count = world.store.writes.get(&format!("event {reason}"));
    count.copied().unwrap_or_default()
}

/// What the only replica has found and stays.
fn open(world: &World) -> Vec<(Found, usize)> {
    let figures = world.replicas[0].engine.figures();
    let some = figures.findings.iter().filter(|(_, count)| **count > 0);
    some.map(|(kind, count)| (*kind, *count)).collect()
}

/// An edit by hand of the only claim of the block of ports.
fn edit_claim(world: &mut World, change: impl FnOnce(&str) -> Vec<String>) {
    let block = world.store.all(Kind::Block).next().unwrap();
    let name = block["metadata"]["name"].as_str().unwrap().to_owned();
    world.store.edit(Kind::Block, &name, |o| {
        let changed = change(o["spec"]["claims"].as_str().unwrap().trim_end());
        o["spec"]["claims"] = json!(changed.join("\n"));
    });
}

#[test]
fn a_claim_whose_service_went_while_no_controller_ran_is_released_after_the_grace() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    assert_eq!(claimed(&world), ["30001"]);
    world.store.delete(Kind::Service, "default/web");
    world.crash(0);
    world.run_until(world.clock + LEAK_GRACE - SECOND);
    assert_eq!(claimed(&world), ["30001"], "released within the grace");
    world.run_until(world.clock + 2 * SECOND);
    assert_eq!(claimed(&world), [""; 0]);
    world.settle();
    assert_eq!(events(&world, "LeakedClaim"), 1);
    let counters = world.replicas[0].engine.counters();
    assert_eq!((counters.releases, counters.leaks_released), (1, 1));
    assert_eq!(open(&world), []);
}

#[test]
fn a_service_whose_deletion_is_seen_leaks_nothing() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    world.store.delete(Kind::Service, "default/web");
    world.run_until(world.clock + SECOND);
    assert_eq!(claimed(&world), [""; 0]);
    world.settle();
    let counters = world.replicas[0].engine.counters();
    assert_eq!((counters.releases, counters.leaks_released), (1, 0));
    assert_eq!(world.store.writes.get("event"), None);
}

#[test]
fn a_service_restored_under_another_uid_keeps_its_numbers_and_no_conflict_is_told() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    world.store.delete(Kind::Service, "default/web");
    world.crash(0);
    world.store.create(web(30_001));
    let uid = world.store.get(Kind::Service, "default/web").unwrap()["metadata"]["uid"].clone();
    world.settle();
    assert_eq!(json!(world.claims()[0].1), uid);
    world.check_no_leak();
    let told: Vec<_> = world
        .store
        .writes
        .keys()
        .filter(|k| k.starts_with("event "))
        .collect();
    assert_eq!(told, ["event LeakedClaim"]);
    let service = world.store.get(Kind::Service, "default/web").unwrap();
    assert_eq!(service["status"]["conditions"], Value::Null);
}

#[test]
fn a_claim_committed_before_a_crash_and_never_shown_is_released() {
    for wanted in 0..60 {
        // The nodePort is claimed and the process dies before, or after, it is written.
        let mut world = world();
        world.store.create(web(30_050));
        world.store.edit(Kind::NodePortPool, "all", |o| {
            o["spec"]["ports"] = json!(["30000-30009"]);
            o["spec"]["enforce"] = json!(true);
        });
        let mut served = 0;
        while served < wanted && world.work() {
            served += 1;
        }
        world.crash(0);
        // By then there is nothing to write any longer.
        world.store.edit(Kind::NodePortPool, "all", |o| {
            o["spec"]["ports"] = json!(["30000-30099"]);
        });
        world.settle();
        world.check_no_leak();
        assert_eq!(claimed(&world).len(), 1, "crash after {wanted} requests");
    }
}

#[test]
fn a_holder_that_nobody_is_goes_and_the_claim_of_who_shows_the_number_comes_back() {
    for (field, becomes) in [
        ("uid", ""),
        ("name", "default/nobody"),
        ("namespace", "nowhere/web"),
    ] {
        let mut world = world();
        world.store.create(web(30_001));
        world.settle();
        edit_claim(&mut world, |claim| {
            let uid = claim.split(' ').nth(3).unwrap();
            vec![match field {
                "uid" => claim.replace(uid, "nobody"),
                _ => claim.replace("default/web", becomes),
            }]
        });
        world.settle();
        world.check_no_leak();
        // A claim under the wrong name is corrected, and never given up in between.
        let releases = world.replicas[0].engine.counters().releases;
        assert_eq!(releases, u64::from(field == "uid"), "{field}");
        let uid = &world.store.get(Kind::Service, "default/web").unwrap()["metadata"]["uid"];
        assert_eq!(json!(world.claims()[0].1), *uid, "{field}");
        let block = world.store.all(Kind::Block).next().unwrap();
        let claim = block["spec"]["claims"].as_str().unwrap();
        assert!(claim.starts_with("30001 NodePort default/web "), "{claim}");
    }
}

#[test]
fn of_two_holders_of_one_number_the_one_that_does_not_show_it_goes() {
    let mut world = world();
    world.store.create(web(30_001));
    world.store.create(complete("other", 30_002, "10.96.0.2"));
    world.settle();
    let other = world.store.get(Kind::Service, "default/other").unwrap()["metadata"]["uid"].clone();
    edit_claim(&mut world, |claim| {
        let other = other.as_str().unwrap();
        let second = format!("30001 NodePort default/other {other} 1");
        vec![claim.to_owned(), second]
    });
    world.settle();
    world.check_no_leak();
    assert_eq!(claimed(&world), ["30001", "30002"]);
}

#[test]
fn a_deleted_block_is_made_again_from_what_services_show() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    let name = world.store.all(Kind::Block).next().unwrap()["metadata"]["name"].clone();
    world.store.delete(Kind::Block, name.as_str().unwrap());
    world.settle();
    assert_eq!(claimed(&world), ["30001"]);
}

#[test]
fn a_block_that_cannot_be_read_is_an_open_finding_until_it_can() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    edit_claim(&mut world, |claim| vec![claim.replace("30001 ", "many ")]);
    world.settle();
    assert_eq!(open(&world), [(Found::UnreadableBlock, 1)]);
    let writes = world.store.writes.clone();
    world.settle();
    assert_eq!(world.store.writes, writes);
    edit_claim(&mut world, |claim| vec![claim.replace("many ", "30001 ")]);
    world.settle();
    assert_eq!(open(&world), []);
    assert_eq!(claimed(&world), ["30001"]);
}

#[test]
fn two_on_one_number_that_nobody_may_change_are_told_once_and_only_when_they_stay() {
    let local = |name: &str, ip: &str| {
        let service = complete(name, 0, ip);
        let service = with(service, "/spec/type", json!("LoadBalancer"));
        let service = with(service, "/spec/allocateLoadBalancerNodePorts", json!(false));
        let service = with(service, "/spec/externalTrafficPolicy", json!("Local"));
        with(service, "/spec/healthCheckNodePort", json!(30_500))
    };
    let keeps = |name: &str, ip: &str| {
        let service = complete(name, 30_600, ip);
        noted(service, "portolan.dev/keep-node-ports", "true")
    };
    let rows = [
        (
            Found::DuplicateHealthCheckNodePort,
            local("old", "10.96.0.1"),
            local("young", "10.96.0.2"),
        ),
        (
            Found::DuplicateNodePort,
            keeps("old", "10.96.0.1"),
            keeps("young", "10.96.0.2"),
        ),
        (
            Found::DuplicateClusterIp,
            complete("old", 30_601, "10.97.0.1"),
            complete("young", 30_602, "10.97.0.1"),
        ),
    ];
    for (kind, old, young) in rows {
        let mut world = world();
        world
            .store
            .create(cluster_pool("cluster", &["10.96.0.0/24"]));
        world.store.create(old);
        world.store.create(young);
        world.run_until(world.clock + LOOK_EVERY + SECOND);
        assert_eq!(open(&world), [], "{kind:?} at the first look");
        assert_eq!(events(&world, kind.reason().as_str()), 0);
        world.run_until(world.clock + LOOK_EVERY + SECOND);
        assert_eq!(open(&world), [(kind, 1)]);
        assert_eq!(events(&world, kind.reason().as_str()), 1);
        // Neither later looks nor a restart tell it again: an Event has a name by what it says.
        world.settle();
        world.crash(0);
        world.settle();
        assert_eq!(open(&world), [(kind, 1)]);
        assert_eq!(events(&world, kind.reason().as_str()), 1);
        world.store.delete(Kind::Service, "default/young");
        world.settle();
        assert_eq!(open(&world), []);
    }
}

#[test]
fn what_kubernetes_mends_by_itself_is_not_told() {
    let mut world = world();
    world
        .store
        .create(cluster_pool("cluster", &["10.96.0.0/24"]));
    world.store.create(web(30_001));
    world.store.recorded = Some(Recorded::new());
    world.run_until(world.clock + LOOK_EVERY + SECOND);
    let parent = Parent {
        group: String::new(),
        resource: "services".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
    };
    let ip = "10.96.0.1".parse().unwrap();
    world.store.recorded = Some(Recorded::from([(ip, Some(parent.clone()))]));
    world.settle();
    assert_eq!(open(&world), []);
    assert_eq!(world.store.writes.get("event"), None);
    for (kind, recorded) in [
        (Found::ClusterIpNotRecorded, Recorded::new()),
        (
            Found::ClusterIpOfAnother,
            Recorded::from([(
                ip,
                Some(Parent {
                    name: "other".to_owned(),
                    ..parent
                }),
            )]),
        ),
    ] {
        world.store.recorded = Some(recorded);
        world.settle();
        assert_eq!(open(&world), [(kind, 1)]);
        assert_eq!(events(&world, kind.reason().as_str()), 1);
    }
}

#[test]
fn without_a_pool_nothing_is_looked_for() {
    let mut world = World::new(1, 1);
    for (name, port) in [("old", 30_001), ("young", 30_001)] {
        world.store.create(complete(name, port, "10.96.0.1"));
    }
    world.store.recorded = Some(Recorded::new());
    world.settle();
    world.settle();
    assert_eq!(open(&world), []);
    assert_eq!(world.store.writes.len(), 0, "{:?}", world.store.writes);
}

#[test]
fn repairs_are_counted_by_kind() {
    let mut world = world();
    world.store.create(complete("old", 30_001, "10.96.0.1"));
    world.store.create(complete("young", 30_001, "10.96.0.2"));
    world.settle();
    let counters = world.replicas[0].engine.counters();
    assert_eq!((counters.renumbered, counters.doubles_renumbered), (1, 1));
    assert_eq!(open(&world), []);
}

#[test]
fn that_another_number_is_free_meanwhile_is_no_news() {
    let mut world = world();
    world.store.edit(Kind::NodePortPool, "all", |o| {
        o["spec"]["enforce"] = json!(true);
    });
    let local = complete("local", 30_001, "10.96.0.1");
    let local = with(local, "/spec/type", json!("LoadBalancer"));
    let local = with(local, "/spec/externalTrafficPolicy", json!("Local"));
    let local = with(local, "/spec/healthCheckNodePort", json!(30_500));
    world.store.create(local);
    world.settle();
    let told = |world: &World| {
        let service = world.store.get(Kind::Service, "default/local").unwrap();
        let conditions = service["status"]["conditions"].to_string();
        assert!(conditions.contains("for example 30016"), "{conditions}");
    };
    told(&world);
    world.store.create(complete("other", 30_016, "10.96.0.2"));
    world.settle();
    let writes = world.store.writes.clone();
    world.crash(0);
    world.settle();
    told(&world);
    assert_eq!(world.store.writes, writes);
    assert_eq!(writes.get("service status"), Some(&1));
}

fn lead(world: &mut World, leading: bool) {
    let now = Now {
        mono: world.clock,
        wall: 1_800_000_000,
    };
    let engine = &mut world.replicas[0].engine;
    engine.handle(Input::Leading(leading), now);
}

#[test]
fn a_standby_that_saw_the_deletion_needs_no_grace_when_it_leads() {
    let mut world = world();
    world.store.create(web(30_001));
    world.settle();
    lead(&mut world, false);
    world.store.delete(Kind::Service, "default/web");
    world.run_until(world.clock + SECOND);
    assert_eq!(claimed(&world), ["30001"]);
    lead(&mut world, true);
    world.run_until(world.clock + SECOND);
    assert_eq!(claimed(&world), [""; 0]);
    world.settle();
    assert_eq!(world.store.writes.get("event"), None);
}
