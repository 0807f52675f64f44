#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use allocator::block::{BlockId, Claim};
use model::{Rejection, Use};
use serde_json::{Value, json};

use super::*;
use crate::core::{holdings::Group, translate};

/// A Service of type LoadBalancer, the older the smaller its number.
fn service(given: &mut Given, name: &str, age: u8, spec: Value) {
    let mut spec = spec;
    spec["type"] = json!("LoadBalancer");
    let service = json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
        },
        "spec": spec,
    });
    let service = serde_json::from_value(service).unwrap();
    given.record(&translate::service(&service).unwrap(), &[]);
}

fn ports(ports: &[(&str, u16)]) -> Value {
    let ports: Vec<Value> = (ports.iter().enumerate())
        .map(|(place, (protocol, port))| {
            json!({"name": format!("p{place}"), "port": 80 + place, "protocol": protocol, "nodePort": port})
        })
        .collect();
    json!({"ports": ports})
}

fn health(port: u16) -> Value {
    json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local", "healthCheckNodePort": port})
}

fn cluster_ip(ip: &str) -> Value {
    json!({"ports": [{"port": 80}], "clusterIP": ip, "clusterIPs": [ip]})
}

fn claim(given: &mut Given, number: Number, usage: Use, name: &str) {
    let holder = Holder {
        service: ServiceKey::new("shop", name),
        uid: format!("uid-{name}").as_str().into(),
        usage,
        at: "1".into(),
        sharing: None,
    };
    given.claim(number, &Claim::Held(vec![holder]));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn parent(name: &str) -> Option<Parent> {
    Some(Parent {
        group: String::new(),
        resource: "services".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    })
}

/// `KIND NUMBER SERVICE` of each.
fn found(given: &Given) -> Vec<String> {
    let findings = compare(given);
    let told = findings.iter().map(|finding| {
        let service = finding.service.as_deref().unwrap_or("-");
        format!("{} {} {service}", finding.kind.reason(), finding.number)
    });
    told.collect()
}

#[test]
fn of_two_on_one_node_port_the_younger_is_told_and_another_protocol_is_no_double() {
    let mut given = Given::default();
    service(&mut given, "young", 9, ports(&[("TCP", 30_080)]));
    service(
        &mut given,
        "old",
        1,
        ports(&[("TCP", 30_080), ("UDP", 30_053)]),
    );
    service(&mut given, "youngest", 10, ports(&[("TCP", 30_080)]));
    service(&mut given, "udp", 11, ports(&[("TCP", 30_053)]));
    assert_eq!(
        found(&given),
        [
            "DuplicateNodePort 30080 young",
            "DuplicateNodePort 30080 youngest"
        ]
    );
    let note = compare(&given).remove(0).note;
    assert!(
        note.starts_with("30080 is that of Service shop/old too, which is older: set another"),
        "{note}"
    );
}

#[test]
fn of_two_on_one_health_check_node_port_or_cluster_ip_the_younger_is_told() {
    let mut given = Given::default();
    service(&mut given, "old", 1, health(30_080));
    service(&mut given, "young", 9, health(30_080));
    service(&mut given, "port", 10, ports(&[("TCP", 30_080)]));
    service(&mut given, "first", 1, cluster_ip("10.96.0.7"));
    service(&mut given, "second", 2, cluster_ip("10.96.0.7"));
    assert_eq!(
        found(&given),
        [
            "DuplicateNodePort 30080 port",
            "DuplicateHealthCheckNodePort 30080 young",
            "DuplicateClusterIP 10.96.0.7 second",
        ]
    );
}

#[test]
fn a_claim_of_nobody_has_leaked_and_one_that_is_not_shown_yet_has_not() {
    let mut given = Given::default();
    service(&mut given, "web", 1, ports(&[]));
    claim(&mut given, Number::port(30_080), Use::NodePort, "gone");
    claim(&mut given, Number::port(30_081), Use::NodePort, "web");
    assert_eq!(found(&given), ["LeakedClaim 30080 gone"]);
}

#[test]
fn a_number_that_is_claimed_for_another_living_service_is_told_to_who_shows_it() {
    let mut given = Given::default();
    service(&mut given, "shows", 1, ports(&[("TCP", 30_080)]));
    service(&mut given, "holds", 2, ports(&[]));
    claim(&mut given, Number::port(30_080), Use::NodePort, "holds");
    assert_eq!(found(&given), ["NumberConflict 30080 shows"]);
    // Of one that is gone the claim goes, and there is nothing to tell this one.
    let mut given = Given::default();
    service(&mut given, "shows", 1, ports(&[("TCP", 30_080)]));
    claim(&mut given, Number::port(30_080), Use::NodePort, "gone");
    assert_eq!(found(&given), ["LeakedClaim 30080 gone"]);
}

#[test]
fn cluster_ips_are_compared_with_ip_address_objects_only_where_these_are_known() {
    let mut given = Given::default();
    for (name, address) in [
        ("right", "10.96.0.1"),
        ("none", "10.96.0.2"),
        ("wrong", "10.96.0.3"),
        ("lost", "10.96.0.4"),
        ("six", "fd00::6"),
    ] {
        service(&mut given, name, 1, cluster_ip(address));
    }
    assert_eq!(found(&given), [""; 0]);
    let pool = Parent {
        group: "portolan.dev".to_owned(),
        resource: "addresspools".to_owned(),
        namespace: String::new(),
        name: "right".to_owned(),
    };
    given.recorded(Recorded::from([
        (ip("10.96.0.1"), parent("right")),
        (ip("10.96.0.3"), Some(pool)),
        (ip("10.96.0.4"), None),
        (ip("fd00::6"), parent("six")),
    ]));
    assert_eq!(
        found(&given),
        [
            "ClusterIPNotRecorded 10.96.0.2 none",
            "ClusterIPOfAnother 10.96.0.3 wrong",
            "ClusterIPOfAnother 10.96.0.4 lost",
        ]
    );
    let notes: Vec<String> = compare(&given).into_iter().map(|it| it.note).collect();
    let note = notes.get(1).unwrap();
    assert!(
        note.starts_with("IPAddress 10.96.0.3 is that of addresspools/right:"),
        "{note}"
    );
}

#[test]
fn external_addresses_may_be_had_by_several() {
    let mut given = Given::default();
    for name in ["one", "two"] {
        let service = json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "1"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        });
        let service = serde_json::from_value(service).unwrap();
        given.record(&translate::service(&service).unwrap(), &[]);
    }
    assert_eq!(found(&given), [""; 0]);
}

#[test]
fn a_block_that_cannot_be_read_is_nobodys_and_passes_no_filter() {
    let mut given = Given::default();
    let id = BlockId::of(Number::port(30_080));
    let why = Rejection {
        reason: Reason::LedgerDamaged,
        message: "why".to_owned(),
    };
    given.unreadable(id, &why);
    service(&mut given, "old", 1, ports(&[("TCP", 30_080)]));
    service(&mut given, "young", 2, ports(&[("TCP", 30_080)]));
    let block = format!("LedgerDamaged {} -", id.name());
    assert_eq!(
        found(&given),
        ["DuplicateNodePort 30080 young".to_owned(), block]
    );
    let passing = |filter: Filter| {
        let findings = given.report(&filter).findings;
        findings.len()
    };
    assert_eq!(passing(Filter::default()), 2);
    let rows = [
        (
            Filter {
                number: Some(Number::port(30_080)),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                number: Some(Number::port(30_081)),
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                group: Some(Group::NodePort),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                group: Some(Group::ClusterIp),
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                namespace: Some("shop".to_owned()),
                ..Filter::default()
            },
            1,
        ),
        (
            Filter {
                namespace: Some("other".to_owned()),
                ..Filter::default()
            },
            0,
        ),
    ];
    for (filter, expected) in rows {
        let told = format!("{filter:?}");
        assert_eq!(passing(filter), expected, "{told}");
    }
}

#[test]
fn people_and_programs_are_told_the_same() {
    let mut given = Given::default();
    service(&mut given, "old", 1, ports(&[("TCP", 30_080)]));
    service(&mut given, "young", 2, ports(&[("TCP", 30_080)]));
    let report = given.report(&Filter::default());
    let table = report.to_string();
    let line = table
        .lines()
        .find(|line| line.starts_with("DuplicateNodePort"));
    let line = line.unwrap();
    assert!(
        line.starts_with("DuplicateNodePort   30080    shop/young   30080 is that of"),
        "{line}"
    );
    let json = serde_json::to_value(&report).unwrap();
    let finding = json.pointer("/findings/0").unwrap();
    assert_eq!(finding.pointer("/kind"), Some(&json!("DuplicateNodePort")));
    assert_eq!(finding.pointer("/service"), Some(&json!("young")));
    assert_eq!(finding.as_object().unwrap().len(), 5);
}
