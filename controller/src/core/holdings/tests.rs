#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::net::IpAddr;

use allocator::block::BlockId;
use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::*;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(name: &str, spec: Value, ingress: &[&str]) -> v1::Service {
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
    read(json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
}

/// Of type NodePort with these ports: protocol, port, nodePort.
fn node_port(name: &str, ports: &[(&str, u16, u16)]) -> v1::Service {
    let ports = ports.iter().map(|(protocol, port, node_port)| {
        json!({"name": format!("{protocol}-{port}").to_lowercase(), "protocol": protocol, "port": port, "nodePort": node_port})
    });
    service(
        name,
        json!({"type": "NodePort", "ports": ports.collect::<Vec<_>>()}),
        &[],
    )
}

fn external(name: &str, ips: &[&str]) -> v1::Service {
    service(
        name,
        json!({"type": "LoadBalancer", "ports": [{"port": 80}]}),
        ips,
    )
}

fn pool(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": spec,
    })
}

/// The ledger's claims: number, kind and whose.
fn ledger(given: &mut Given, claims: &[(&str, &str, &str)]) {
    for (number, kind, name) in claims {
        claim(
            given,
            &[&format!("{number} {kind} shop/{name} uid-{name} 1")],
        );
    }
}

fn retained(given: &mut Given, number: &str, name: &str) {
    claim(
        given,
        &[&format!("{number} Retained shop/{name} 4070908800")],
    );
}

/// These claims of one number, in a block of their own.
fn claim(given: &mut Given, claims: &[&str]) {
    let number = claims[0].split(' ').next().unwrap();
    let number = match number.parse::<IpAddr>() {
        Ok(address) => Number::from(address),
        Err(_) => Number::port(number.parse().unwrap()),
    };
    given.block(&read(json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "AllocationBlock",
        "metadata": {"name": BlockId::of(number).name(), "uid": "b", "resourceVersion": "1"},
        "spec": {"formatVersion": 2, "sequence": 1, "writer": "w", "claims": claims.join("\n")},
    })));
}

fn node_port_pool(given: &mut Given, name: &str, spec: Value) {
    given.node_port_pool(&read(pool("NodePortPool", name, spec)));
}

fn address_pool(given: &mut Given, name: &str, spec: Value) {
    given.address_pool(&read(pool("AddressPool", name, spec)));
}

/// `NUMBER KIND STATE SERVICE` of each row.
fn rows(given: &Given) -> Vec<String> {
    rows_of(&given.report(&Filter::default()))
}

fn rows_of(report: &Report) -> Vec<String> {
    let rows = report.numbers.iter();
    rows.map(|row| {
        format!(
            "{} {} {} {}",
            row.number,
            row.kind.as_str(),
            row.state.as_str(),
            row.service
        )
    })
    .collect()
}

#[test]
fn every_state_follows_from_service_ledger_and_pool() {
    let mut given = Given::default();
    node_port_pool(&mut given, "web", json!({"ports": ["30100-30199"]}));
    for (name, port) in [
        ("held", 30100),
        ("unclaimed", 30101),
        ("unmanaged", 31544),
        ("thief", 30102),
        ("squatter", 30103),
    ] {
        given.service(&node_port(name, &[("TCP", 80, port)]));
    }
    given.service(&node_port("pending", &[("TCP", 80, 0)]));
    ledger(
        &mut given,
        &[
            ("30100", "NodePort", "held"),
            ("30102", "NodePort", "victim"),
            ("30104", "NodePort", "pending"),
            ("30105", "NodePort", "gone"),
        ],
    );
    retained(&mut given, "30103", "former");
    let expected = [
        "30100 NodePort Held held",
        "30101 NodePort Unclaimed unclaimed",
        "30102 NodePort Orphaned victim",
        "30102 NodePort Conflict thief",
        "30103 NodePort Retained former",
        "30103 NodePort Conflict squatter",
        "30104 NodePort Pending pending",
        "30105 NodePort Orphaned gone",
        "31544 NodePort Unmanaged unmanaged",
    ];
    assert_eq!(rows(&given), expected);
    let report = given.report(&Filter::default());
    let disagreements = report.numbers.iter().filter(|r| r.state.is_disagreement());
    for row in disagreements {
        assert!(row.note.is_some(), "{row:?}: says what to do");
    }
    let kept = report.numbers.iter().find(|row| row.service == "former");
    let kept = kept.unwrap();
    assert_eq!(kept.until.as_deref(), Some("2099-01-01T00:00:00Z"));
    assert_eq!(kept.pool.as_deref(), Some("web"));
}

#[test]
fn protocols_of_one_node_port_are_one_row_and_collide_only_with_their_own() {
    let mut given = Given::default();
    given.service(&node_port("dns", &[("TCP", 53, 30053), ("UDP", 53, 30053)]));
    given.service(&node_port("sctp", &[("SCTP", 9, 30053)]));
    given.service(&node_port("udp", &[("UDP", 9, 30053)]));
    let report = given.report(&Filter::default());
    let expected = [
        "30053 NodePort Unmanaged sctp",
        "30053 NodePort Conflict dns",
        "30053 NodePort Conflict udp",
    ];
    assert_eq!(rows_of(&report), expected);
    assert_eq!(report.numbers[1].protocols, ["TCP", "UDP"]);
    assert_eq!(report.numbers[1].ports, ["TCP/53", "UDP/53"]);
    let note = report.numbers[1].note.as_deref().unwrap();
    assert!(note.starts_with("shop/udp has it too"), "{note}");
}

#[test]
fn another_protocol_of_a_claimed_node_port_is_no_conflict() {
    let mut given = Given::default();
    node_port_pool(&mut given, "web", json!({"ports": ["30053"]}));
    given.service(&node_port("tcp", &[("TCP", 53, 30053)]));
    given.service(&node_port("udp", &[("UDP", 53, 30053)]));
    ledger(&mut given, &[("30053", "NodePort", "tcp")]);
    let expected = ["30053 NodePort Held tcp", "30053 NodePort Unclaimed udp"];
    assert_eq!(rows(&given), expected);
}

#[test]
fn a_health_check_node_port_is_a_port_of_its_own_kind() {
    let mut given = Given::default();
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30081,
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    given.service(&service("web", spec, &[]));
    ledger(&mut given, &[("30081", "HealthCheckNodePort", "web")]);
    let expected = [
        "30080 NodePort Unmanaged web",
        "30081 HealthCheckNodePort Held web",
    ];
    assert_eq!(rows(&given), expected);
    assert_eq!(
        given.report(&Filter::default()).numbers[1].protocols,
        ["TCP"]
    );
}

#[test]
fn addresses_have_three_kinds_and_each_its_own_rules() {
    let mut given = Given::default();
    address_pool(&mut given, "ext", json!({"addresses": ["203.0.113.0/24"]}));
    let ips = json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ports": [{"port": 1}], "externalIPs": ["203.0.113.9", "198.51.100.1"]});
    given.service(&service("a", ips, &[]));
    let twin =
        json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 1}]});
    given.service(&service("twin", twin, &[]));
    // On the nodes' own address as others give it; in our pool only one of the two is claimed.
    given.service(&external("b", &["192.0.2.1", "203.0.113.1"]));
    given.service(&external("c", &["192.0.2.1", "203.0.113.1"]));
    ledger(&mut given, &[("203.0.113.1", "LoadBalancer", "b")]);
    let expected = [
        "10.96.0.7 ClusterIP Conflict a",
        "10.96.0.7 ClusterIP Conflict twin",
        "fd00::7 ClusterIP Unmanaged a",
        "192.0.2.1 LoadBalancer Unmanaged b",
        "192.0.2.1 LoadBalancer Unmanaged c",
        "198.51.100.1 ExternalIP Unmanaged a",
        "203.0.113.1 LoadBalancer Conflict b",
        "203.0.113.1 LoadBalancer Conflict c",
        "203.0.113.9 ExternalIP Unclaimed a",
    ];
    assert_eq!(rows(&given), expected);
}

#[test]
fn a_shared_address_names_those_it_is_shared_with() {
    let mut given = Given::default();
    given.service(&external("a", &["203.0.113.1"]));
    given.service(&external("b", &["203.0.113.1"]));
    let terms = r#"{"key":"k","policy":"Cluster"}"#;
    let held = |name: &str| format!("203.0.113.1 LoadBalancer shop/{name} uid-{name} 1 {terms}");
    claim(&mut given, &[&held("a"), &held("b")]);
    let report = given.report(&Filter::default());
    let notes: Vec<_> = report.numbers.iter().map(|row| row.note.clone()).collect();
    let with = |name: &str| Some(format!("shared with shop/{name}"));
    assert_eq!(notes, [with("b"), with("a")]);
    assert!(report.numbers.iter().all(|row| row.state == State::Held));
}

#[test]
fn a_claim_of_an_earlier_service_of_the_name_is_orphaned() {
    let mut given = Given::default();
    given.service(&external("web", &[]));
    claim(&mut given, &["203.0.113.1 LoadBalancer shop/web older 1"]);
    let report = given.report(&Filter::default());
    assert_eq!(rows_of(&report), ["203.0.113.1 LoadBalancer Orphaned web"]);
    assert!(
        report.numbers[0]
            .note
            .as_deref()
            .unwrap()
            .contains("earlier")
    );
}

#[test]
fn filters_leave_what_they_name() {
    let mut given = Given::default();
    node_port_pool(
        &mut given,
        "web",
        json!({"ports": ["30100-30199"], "exclude": ["30150"]}),
    );
    address_pool(&mut given, "ext", json!({"addresses": ["203.0.113.0/24"]}));
    given.service(&node_port("a", &[("TCP", 80, 30100), ("TCP", 81, 31000)]));
    given.service(&external("b", &["203.0.113.1"]));
    let report = |filter: Filter| given.report(&filter);
    let of = |number| Filter {
        number: Some(number),
        ..Filter::default()
    };
    let one = report(of(Number::port(31000)));
    assert_eq!(rows_of(&one), ["31000 NodePort Unmanaged a"]);
    assert_eq!((one.answer, one.pools.len()), (None, 0));
    let group = |group| Filter {
        group: Some(group),
        ..Filter::default()
    };
    let one = report(group(Group::External));
    assert_eq!(rows_of(&one), ["203.0.113.1 LoadBalancer Unclaimed b"]);
    assert_eq!(one.pools.len(), 1);
    assert_eq!(rows_of(&report(group(Group::ClusterIp))).len(), 0);
    let other = Filter {
        namespace: Some("other".to_owned()),
        ..Filter::default()
    };
    assert_eq!(rows_of(&report(other)).len(), 0);

    for (number, says) in [
        (
            30101,
            "no Service has nodePort 30101: NodePortPool web has it",
        ),
        (
            30150,
            "no Service has nodePort 30150: NodePortPool web never hands it out",
        ),
        (30001, "no Service has nodePort 30001: no pool has it"),
    ] {
        let answer = report(of(Number::port(number))).answer;
        assert_eq!(answer.as_deref(), Some(says));
    }
}

#[test]
fn pools_count_claims_retentions_and_what_services_have_without() {
    let mut given = Given::default();
    node_port_pool(
        &mut given,
        "p",
        json!({"ports": ["30100-30109"], "exclude": ["30109"]}),
    );
    // Of the other resource a pool may have the same name.
    address_pool(
        &mut given,
        "p",
        json!({"addresses": ["203.0.113.0/30", "2001:db8::/64"]}),
    );
    given.service(&node_port("a", &[("TCP", 80, 30100)]));
    given.service(&node_port("b", &[("TCP", 80, 30101)]));
    ledger(
        &mut given,
        &[
            ("30100", "NodePort", "a"),
            ("203.0.113.1", "LoadBalancer", "c"),
        ],
    );
    retained(&mut given, "30102", "d");
    let counts = |fill: &Fill| {
        [
            fill.capacity,
            fill.claimed,
            fill.retained,
            fill.unclaimed,
            fill.available,
        ]
    };
    let pools = given.report(&Filter::default()).pools;
    let found: Vec<_> = pools.iter().map(|p| (p.kind, p.space, counts(p))).collect();
    let expected = [
        ("AddressPool", "IPv4", [4, 1, 0, 0, 3]),
        ("AddressPool", "IPv6", [i64::MAX, 0, 0, 0, i64::MAX]),
        ("NodePortPool", "ports", [9, 1, 1, 1, 6]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_pool_that_hands_out_nothing_says_why() {
    let mut given = Given::default();
    node_port_pool(&mut given, "a", json!({"ports": ["30000-30001"]}));
    node_port_pool(&mut given, "b", json!({"ports": ["30001"]}));
    node_port_pool(
        &mut given,
        "c",
        json!({"ports": ["30002"], "disabled": true}),
    );
    node_port_pool(&mut given, "d", json!({"ports": ["9-1"]}));
    let report = given.report(&Filter::default());
    let states: Vec<_> = report.pools.iter().map(|p| p.state).collect();
    use PoolCondition::{Disabled, Invalid, Overlaps, Ready};
    assert_eq!(states, [Ready, Overlaps, Disabled, Invalid]);
    for (name, says) in [
        ("b", "NodePortPool b overlaps the older pool a"),
        ("c", "NodePortPool c spec.disabled"),
        ("d", "NodePortPool d: spec.ports[0]"),
        ("e", "there is no NodePortPool e"),
    ] {
        let free = given.free(Group::NodePort, Some(name), 1);
        assert!(free.free.is_empty() && !free.complete, "{name}");
        assert!(free.warnings[0].starts_with(says), "{:?}", free.warnings);
    }
    let any = given.free(Group::NodePort, None, 1);
    assert_eq!((any.free.len(), any.complete), (1, true));
}

/// The numbers that are free, with spaces between.
fn free(given: &Given, group: Group, count: usize) -> (String, bool) {
    let free = given.free(group, None, count);
    let numbers: Vec<_> = free.free.into_iter().map(|free| free.number).collect();
    (numbers.join(" "), free.complete)
}

#[test]
fn free_numbers_are_neither_held_nor_kept_nor_excluded() {
    let mut given = Given::default();
    node_port_pool(
        &mut given,
        "p",
        json!({"ports": ["30100-30106"], "exclude": ["30103"]}),
    );
    given.service(&node_port("shows", &[("TCP", 80, 30100)]));
    ledger(&mut given, &[("30101", "NodePort", "claims")]);
    retained(&mut given, "30102", "former");
    let two = free(&given, Group::NodePort, 2);
    assert_eq!(two, ("30104 30105".to_owned(), true));
    let more = free(&given, Group::NodePort, 9);
    assert_eq!(more, ("30104 30105 30106".to_owned(), false));
    let warnings = given.free(Group::NodePort, None, 9).warnings;
    assert_eq!(
        warnings,
        ["NodePortPool p has only 3 free of 9 asked for (ports)"]
    );
}

#[test]
fn free_addresses_leave_out_what_pools_never_give() {
    let mut given = Given::default();
    address_pool(
        &mut given,
        "lb",
        json!({"addresses": ["203.0.113.0/24", "2001:db8::/64"], "avoidBuggyIPs": true}),
    );
    address_pool(
        &mut given,
        "cip",
        json!({"addresses": ["10.96.4.0/30"], "usage": "ClusterIP"}),
    );
    let external = free(&given, Group::External, 2);
    let expected = "203.0.113.1 203.0.113.2 2001:db8:: 2001:db8::1";
    assert_eq!(external, (expected.to_owned(), true));
    let cluster = free(&given, Group::ClusterIp, 9);
    assert_eq!(cluster, ("10.96.4.1 10.96.4.2".to_owned(), false));
}

#[test]
fn free_cluster_ips_are_those_that_the_api_server_takes() {
    let mut given = Given::default();
    let addresses = json!(["10.96.4.0/24", "10.97.0.0/24"]);
    address_pool(
        &mut given,
        "cip",
        json!({"addresses": addresses, "usage": "ClusterIP"}),
    );
    let cidr = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "uid": "c", "resourceVersion": "1"},
        "spec": {"cidrs": ["10.97.0.0/16"]},
    });
    given.service_cidr(&read(cidr));
    let cluster = free(&given, Group::ClusterIp, 2);
    assert_eq!(cluster, ("10.97.0.1 10.97.0.2".to_owned(), true));
}

#[test]
fn nothing_of_a_damaged_block_is_free() {
    let mut given = Given::default();
    node_port_pool(&mut given, "p", json!({"ports": ["30460-30465"]}));
    // Block port-30208 ends with 30463.
    claim(&mut given, &["30460"]);
    assert_eq!(free(&given, Group::NodePort, 2).0, "30464 30465");
    let report = given.report(&Filter {
        number: Some(Number::port(30461)),
        ..Filter::default()
    });
    assert!(
        report
            .answer
            .unwrap()
            .contains("port-30208, which would say so, cannot be read")
    );
    assert_eq!(report.warnings.len(), 1);
}
