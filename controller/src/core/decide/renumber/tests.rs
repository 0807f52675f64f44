#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{collections::BTreeMap, time::Duration};

use allocator::{Allocator, Pool, RangeSet, block::Holder};
use model::{Labels, Port, TrafficPolicy, Uid};

use super::*;
use crate::core::{
    decide::decide,
    index::ClassMatch,
    ledger::Ledger,
    record::{LoadBalancerRequest, Rejection},
    shown::{ShownAddresses, ShownPorts},
    translate,
};

/// A Service `default/NAME` of `name/protocol/port/nodePort` entries, created at that time.
fn service(name: &str, created: i64, entries: &[&str]) -> ServiceRecord {
    let entry = |text: &&str| {
        let parts: Vec<&str> = text.split('/').collect();
        ServicePort {
            name: parts[0].into(),
            port: Port {
                protocol: parts[1].parse().unwrap(),
                number: parts[2].parse().unwrap(),
            },
            node_port: parts[3].parse().unwrap(),
        }
    };
    ServiceRecord {
        key: ServiceKey::new("default", name),
        uid: Uid::from(name),
        version: "7".into(),
        created,
        deleting: false,
        labels: Arc::default(),
        service_type: ServiceType::NodePort,
        headless: false,
        class: None,
        allocate_node_ports: true,
        ports: entries.iter().map(entry).collect(),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        families: vec![model::Family::V4],
        family_policy: Some(crate::core::record::FamilyPolicy::SingleStack),
        traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        has_selector: true,
        request: Ok(LoadBalancerRequest::default()),
        ingress: Vec::new(),
        conditions: Vec::new(),
        finalizers: Vec::new(),
        cloud: None,
    }
}

fn asking(
    mut record: ServiceRecord,
    change: impl FnOnce(&mut LoadBalancerRequest),
) -> ServiceRecord {
    if let Ok(request) = &mut record.request {
        change(request);
    }
    record
}

fn numbers(wanted: &[(&str, u16)]) -> Vec<(Arc<str>, u16)> {
    let wanted = wanted.iter();
    wanted.map(|(name, port)| ((*name).into(), *port)).collect()
}

struct Scene {
    allocator: Allocator,
    shown: ShownPorts,
    foreign: BTreeMap<Number, Duration>,
    refused: Option<&'static str>,
    policy: bool,
}

/// `team` has 30000-30003 and enforces; `rest` has 31000-31099 and does not.
fn scene() -> Scene {
    let pool = |name: &str, ports: &str| Pool {
        ports: RangeSet::parse_ports(&[ports.to_owned()]).unwrap(),
        ..Pool::new(name, Use::NodePort)
    };
    let mut allocator = Allocator::new();
    allocator.set_pools(vec![
        Pool {
            enforce: true,
            ..pool("team", "30000-30003")
        },
        pool("rest", "31000-31099"),
    ]);
    Scene {
        allocator,
        shown: ShownPorts::default(),
        foreign: BTreeMap::new(),
        refused: None,
        policy: true,
    }
}

fn relaxed() -> Scene {
    let mut scene = scene();
    let pools = scene.allocator.pools().map(|(pool, _)| Pool {
        enforce: false,
        ..pool.clone()
    });
    let pools = pools.collect();
    scene.allocator.set_pools(pools);
    scene
}

impl Scene {
    fn with(mut self, other: &ServiceRecord) -> Self {
        self.shown.add(other);
        self
    }

    fn holding(mut self, port: u16, by: &ServiceRecord) -> Self {
        let holder = Holder {
            service: by.key.clone(),
            uid: by.uid.clone(),
            usage: Use::NodePort,
            at: "1".into(),
            sharing: None,
        };
        self.allocator.hold(Number::port(port), holder);
        self
    }

    fn decide(&mut self, record: &ServiceRecord, may_renumber: bool) -> super::super::Decision {
        self.shown.add(record);
        let ledger = Ledger::new("test".into());
        decide(&Snapshot {
            record,
            class: ClassMatch::Gone,
            namespace_labels: &Labels::new(),
            allocator: &self.allocator,
            ledger: &ledger,
            aws: false,
            told: None,
            cluster_families: &[],
            server_gives_cluster_ips: false,
            node_port_policy: self.policy,
            shown_ports: &self.shown,
            shown_addresses: &ShownAddresses::default(),
            foreign: &self.foreign,
            refused: self.refused,
            may_renumber,
            now: 0,
        })
    }

    /// `place:from>to`, and after a bar the reason that something stays.
    fn told(&mut self, record: &ServiceRecord) -> String {
        let decision = self.decide(record, true);
        let moves = decision.moves.iter();
        let moves: Vec<String> = moves
            .map(|moved| format!("{}:{}>{}", moved.place, moved.from, moved.to))
            .collect();
        assert_eq!(decision.spec.is_some(), !moves.is_empty());
        let stray = decision.stray.map(|stray| stray.reason.as_str());
        format!("{}|{}", moves.join(" "), stray.unwrap_or_default())
    }
}

#[test]
fn what_is_changed_and_what_is_not() {
    let web = |port: u16| service("web", 5, &[&format!("http/TCP/80/{port}")]);
    let node_ports =
        |record, wanted: &[(&str, u16)]| asking(record, |r| r.node_ports = numbers(wanted));
    let pool = |record, name: &str| asking(record, |r| r.node_port_pool = Some(name.into()));
    let typed = |record, service_type| ServiceRecord { service_type, ..record };
    let rows: Vec<(&str, Scene, ServiceRecord, &str)> = vec![
        ("fits", scene(), web(30_002), "|"),
        ("outside the enforcing pool", scene(), web(31_000), "0:31000>30000|"),
        ("outside every pool", scene(), web(32_000), "0:32000>30000|"),
        ("nobody enforces", relaxed(), web(32_000), "|"),
        ("no pool at all", Scene { policy: false, ..scene() }, web(32_000), "|"),
        ("ClusterIP", scene(), typed(web(0), ServiceType::ClusterIp), "|"),
        ("ExternalName", scene(), typed(web(32_000), ServiceType::ExternalName), "|"),
        ("asked for another", relaxed(), node_ports(web(31_000), &[("http", 31_007)]), "0:31000>31007|"),
        ("asked for what it has", relaxed(), node_ports(web(31_000), &[("http", 31_000)]), "|"),
        ("asked for what no pool has", relaxed(), node_ports(web(31_000), &[("http", 32_000)]), "|AddressNotInPool"),
        (
            "asked for what the enforcing pool lacks",
            scene(),
            node_ports(web(31_000), &[("http", 31_000)]),
            "|NodePortOutsidePolicy",
        ),
        ("asked for a pool", relaxed(), pool(web(31_000), "team"), "0:31000>30000|"),
        ("asked for a pool that has it", relaxed(), pool(web(31_000), "rest"), "|"),
        ("asked for a pool that is not", relaxed(), pool(web(31_000), "none"), "|PoolNotFound"),
        ("asked for a pool beside the enforcing one", scene(), pool(web(31_000), "rest"), "|PoolNotAdmitted"),
        ("keeps", scene(), asking(web(31_000), |r| r.keep_node_ports = true), "|"),
        (
            "cannot be read",
            scene(),
            ServiceRecord {
                request: Err(Rejection { reason: Reason::InvalidRequest, message: String::new() }),
                ..web(31_000)
            },
            "|InvalidRequest",
        ),
        (
            "being deleted",
            scene(),
            ServiceRecord { deleting: true, ..web(31_000) },
            "|",
        ),
        (
            "the health check's stays",
            scene(),
            ServiceRecord {
                health_check_node_port: 31_009,
                ..typed(web(30_000), ServiceType::LoadBalancer)
            },
            "|NodePortOutsidePolicy",
        ),
        (
            "each port by itself",
            scene(),
            service("web", 5, &["a/TCP/80/31000", "b/TCP/81/30001", "c/TCP/82/31002"]),
            "0:31000>30000 2:31002>30002|",
        ),
        (
            "protocols of one port go together",
            scene(),
            service("web", 5, &["a/TCP/53/31000", "b/UDP/53/31000", "c/SCTP/53/31000"]),
            "0:31000>30000 1:31000>30000 2:31000>30000|",
        ),
        (
            "but only if they did before",
            scene(),
            service("web", 5, &["a/TCP/53/31000", "b/UDP/53/31001"]),
            "0:31000>30000 1:31001>30001|",
        ),
        (
            "the one that fits is joined",
            scene(),
            service("web", 5, &["a/TCP/53/30003", "b/UDP/53/31000"]),
            "1:31000>30003|",
        ),
        (
            "what is left goes to whom it reaches",
            scene(),
            service("web", 5, &["a/TCP/1/30000", "b/TCP/2/30001", "c/TCP/3/30002", "d/TCP/4/31003", "e/TCP/5/31004"]),
            "3:31003>30003|PoolExhausted",
        ),
    ];
    for (what, mut scene, record, expected) in rows {
        assert_eq!(scene.told(&record), expected, "{what}");
    }
}

#[test]
fn a_number_that_somebody_shows_is_never_picked_though_nobody_has_claimed_it() {
    let other = service("other", 9, &["http/TCP/80/30000"]);
    let web = service("web", 5, &["http/TCP/80/31000"]);
    assert_eq!(scene().with(&other).told(&web), "0:31000>30001|");
}

#[test]
fn a_number_that_the_server_calls_taken_is_passed_over_and_told_to_who_asks_for_it() {
    let mut scene = scene();
    scene.foreign.insert(Number::port(30_000), Duration::ZERO);
    let web = service("web", 5, &["http/TCP/80/31000"]);
    assert_eq!(scene.told(&web), "0:31000>30001|");
    let asks = asking(web, |r| r.node_ports = numbers(&[("http", 30_000)]));
    let stray = scene.decide(&asks, true).stray.unwrap();
    assert_eq!(stray.reason, Reason::AddressInUse);
    assert!(stray.message.contains("30001 is free"), "{}", stray.message);
}

#[test]
fn of_two_on_one_number_the_younger_is_changed_whoever_holds_it() {
    let old = service("old", 1, &["http/TCP/80/31000"]);
    let young = service("young", 2, &["http/TCP/80/31000"]);
    for holder in [&old, &young] {
        let mut scene = relaxed().with(&old).with(&young).holding(31_000, holder);
        assert_eq!(scene.told(&young), "0:31000>31016|");
        assert_eq!(scene.told(&old), "|");
    }
    let keeps = asking(young.clone(), |r| r.keep_node_ports = true);
    let mut scene = relaxed().with(&old).holding(31_000, &old);
    let decision = scene.decide(&keeps, true);
    assert_eq!(decision.missing.unwrap().reason, Reason::NumberConflict);
    // One that goes makes room by itself.
    let going = ServiceRecord { deleting: true, ..old };
    assert_eq!(relaxed().with(&going).told(&young), "|");
}

#[test]
fn nothing_is_claimed_before_its_turn_but_what_was_claimed_before_a_restart_stays() {
    let web = service("web", 5, &["http/TCP/80/31000"]);
    let mut fresh = scene();
    let decision = fresh.decide(&web, false);
    assert_eq!((decision.spec, decision.moves.len()), (None, 1));
    assert!(decision.holds.iter().all(|wanted| wanted.number == Number::port(31_000)));

    let mut again = scene().holding(30_002, &web);
    let decision = again.decide(&web, false);
    assert_eq!(decision.surplus, vec![]);
    let decision = again.decide(&web, true);
    assert_eq!(decision.moves[0].to, 30_002);
    let written = |wanted: &&Wanted| wanted.written;
    let written: Vec<_> = decision.holds.iter().filter(written).collect();
    assert_eq!(written.len(), 1, "claimed once more for this version: {written:?}");
}

#[test]
fn what_the_server_does_not_let_change_is_told_and_not_tried() {
    let mut scene = Scene { refused: Some("no right"), ..scene() };
    let web = service("web", 5, &["http/TCP/80/31000"]);
    let decision = scene.decide(&web, true);
    assert_eq!(decision.moves, vec![]);
    assert!(decision.stray.unwrap().message.contains("no right"));
}

#[test]
fn instance_targets_get_node_ports_from_a_pool_though_kubernetes_gives_none() {
    let class = |target: &str| {
        let class = serde_json::json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
            "metadata": {"name": "aws", "uid": "1", "resourceVersion": "1"},
            "spec": {"className": "aws", "default": true, "aws": {"targetType": target}},
        });
        translate::class(&serde_json::from_value(class).unwrap()).unwrap()
    };
    let service = |keep: bool| {
        let service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": "default", "name": "web", "uid": "2", "resourceVersion": "1",
                "annotations": {"portolan.dev/keep-node-ports": keep.to_string()},
            },
            "spec": {
                "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
                "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "http", "port": 80}],
            },
        });
        translate::service(&serde_json::from_value(service).unwrap()).unwrap()
    };
    for (target, policy, keep, gives) in [
        ("instance", true, false, true),
        ("ip", true, false, false),
        ("instance", false, false, false),
        ("instance", true, true, false),
    ] {
        let (record, class) = (service(keep), class(target));
        let (scene, ledger) = (Scene { policy, ..scene() }, Ledger::new("test".into()));
        let decision = decide(&Snapshot {
            record: &record,
            class: ClassMatch::Ours(&class),
            namespace_labels: &Labels::new(),
            allocator: &scene.allocator,
            ledger: &ledger,
            aws: true,
            told: None,
            cluster_families: &[],
            server_gives_cluster_ips: false,
            node_port_policy: scene.policy,
            shown_ports: &scene.shown,
            shown_addresses: &ShownAddresses::default(),
            foreign: &scene.foreign,
            refused: None,
            may_renumber: false,
            now: 0,
        });
        let written = decision.spec.map(|spec| spec[1].clone());
        let expected = serde_json::json!({"op": "add", "path": "/spec/ports/0/nodePort", "value": 30_000});
        assert_eq!(written, gives.then_some(expected), "{target} {policy} {keep}");
    }
}
