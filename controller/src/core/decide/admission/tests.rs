#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{collections::BTreeMap, sync::Arc};

use allocator::{Admission as Admitting, Allocator, Pool, RangeSet, block::Holder};
use model::{Labels, ServiceKey, Uid};
use serde_json::{Value, json};

use super::*;
use crate::core::{
    index::ClassMatch,
    ledger::Ledger,
    shown::{ShownAddresses, ShownPorts},
    translate,
};

const NOW: i64 = 1_000;

/// What a Service `default/web` is admitted to.
struct Scene {
    allocator: Allocator,
    ports: ShownPorts,
    addresses: ShownAddresses,
    families: Vec<Family>,
    policy: bool,
}

fn addresses_of(entries: &[&str]) -> (RangeSet, RangeSet) {
    let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    RangeSet::parse_addresses(&entries).unwrap()
}

/// Pools `team` (30000-30003), `four` (10.96.0.16-19) and `six` (fd00::10-13).
fn pools(enforce: bool) -> Vec<Pool> {
    let team = Pool {
        ports: RangeSet::parse_ports(&["30000-30003".to_owned()]).unwrap(),
        enforce,
        ..Pool::new("team", Use::NodePort)
    };
    let (v4, v6) = addresses_of(&["10.96.0.16-10.96.0.19", "fd00::10-fd00::13"]);
    // What the API server does not take: its ServiceCIDRs are known.
    let (unusable_v4, unusable_v6) = addresses_of(&["10.0.0.0/16", "fd01::/64"]);
    let unusable = Pool { unusable_v4, unusable_v6, enforce, ..Pool::new("four", Use::ClusterIp) };
    let six = Pool { v6, name: "six".into(), ..unusable.clone() };
    let four = Pool { v4, ..unusable };
    vec![team, four, six]
}

fn of(pools: Vec<Pool>, families: &[Family]) -> Scene {
    let mut allocator = Allocator::new();
    allocator.set_pools(pools);
    Scene {
        allocator,
        ports: ShownPorts::default(),
        addresses: ShownAddresses::default(),
        families: families.to_vec(),
        policy: true,
    }
}

/// Only about nodePorts.
fn ports(enforce: bool) -> Scene {
    of(pools(enforce).into_iter().take(1).collect(), &[Family::V4])
}

/// Only about clusterIPs, in a dual-stack cluster.
fn addresses(enforce: bool) -> Scene {
    of(pools(enforce).into_iter().skip(1).collect(), &[Family::V4, Family::V6])
}

/// Without the pool of IPv6.
fn four_only(enforce: bool) -> Scene {
    let pools = pools(enforce).into_iter().filter(|pool| &*pool.name == "four");
    of(pools.collect(), &[Family::V4, Family::V6])
}

fn service(name: &str, spec: &Value) -> ServiceRecord {
    let mut spec = spec.clone();
    let annotations = spec.as_object_mut().unwrap().remove("annotations");
    let metadata = json!({
        "namespace": "default", "name": name, "uid": name, "resourceVersion": "1",
        "annotations": annotations,
    });
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    translate::service(&serde_json::from_value(object).unwrap()).unwrap()
}

impl Scene {
    fn admit(&self, old: &Value, new: &Value) -> Admission {
        let record = service("web", new);
        let old = (!old.is_null()).then(|| service("web", old));
        let ledger = Ledger::new("test".into());
        let snapshot = Snapshot {
            record: &record,
            class: ClassMatch::Gone,
            namespace_labels: &Labels::new(),
            allocator: &self.allocator,
            ledger: &ledger,
            aws: false,
            told: None,
            cluster_families: &self.families,
            server_gives_cluster_ips: true,
            node_port_policy: self.policy,
            shown_ports: &self.ports,
            shown_addresses: &self.addresses,
            foreign: &BTreeMap::new(),
            refused: None,
            may_renumber: false,
            now: NOW,
        };
        admit(&snapshot, old.as_ref())
    }

    fn held(mut self, number: Number, by: &str, usage: Use) -> Self {
        let holder = Holder {
            service: ServiceKey::new("default", by),
            uid: Uid::from(by),
            usage,
            at: "1".into(),
            sharing: None,
        };
        self.allocator.hold(number, holder);
        self
    }

    fn kept(mut self, port: u16, by: &str, until: i64) -> Self {
        self.allocator.retain(Number::port(port), ServiceKey::new("default", by), until);
        self
    }

    fn showing(mut self, other: &Value) -> Self {
        let other = service("other", other);
        self.ports.add(&other);
        self.addresses.add(&other);
        self
    }

    fn without_policy(mut self) -> Self {
        self.policy = false;
        self
    }
}

/// `field=value` for each change, `!REASON` for a refusal, and `?` for each warning; after a bar what is
/// kept in the ledger.
fn told(admission: &Admission) -> String {
    let answer = match &admission.answer {
        Answer::Allow { patch, warnings, .. } => {
            let changes = patch.iter().map(|op| {
                assert_eq!(op["op"], "add", "R9: an absent field cannot be replaced");
                let field = op["path"].as_str().unwrap().strip_prefix("/spec/").unwrap();
                format!("{field}={}", op["value"]).replace("/nodePort", "")
            });
            changes.chain(warnings.iter().map(|_| "?".to_owned())).collect::<Vec<_>>().join(" ")
        }
        Answer::Deny { reason, .. } => format!("!{reason}"),
    };
    let kept: Vec<String> = admission.reserve.iter().map(ToString::to_string).collect();
    format!("{answer}|{}", kept.join(" ")).replace('"', "")
}

/// What the API server has after that.
fn patched(mut spec: Value, admission: &Admission) -> Value {
    if let Answer::Allow { patch, .. } = &admission.answer {
        for op in patch {
            let path = op["path"].as_str().unwrap().strip_prefix("/spec").unwrap();
            let (parent, field) = path.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[field] = op["value"].clone();
        }
    }
    spec
}

fn port(name: &str, protocol: &str, number: u16, node_port: u16) -> Value {
    let mut port = json!({"name": name, "protocol": protocol, "port": number});
    if node_port != 0 {
        port["nodePort"] = json!(node_port);
    }
    port
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

fn typed(type_: &str, ports: Vec<Value>) -> Value {
    json!({"type": type_, "clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"], "ports": ports})
}

fn web(node_port: u16) -> Value {
    typed("NodePort", vec![port("http", "TCP", 80, node_port)])
}

fn noted(spec: Value, annotation: &str, value: &str) -> Value {
    let name = format!("portolan.dev/{annotation}");
    with(spec, "annotations", json!({name: value}))
}

type Row = (&'static str, Scene, Value, &'static str);

fn check(rows: Vec<Row>) {
    for (what, mut scene, new, expected) in rows {
        let admission = scene.admit(&Value::Null, &new);
        assert_eq!(told(&admission), expected, "{what}");
        // R5: a second invocation, whose object shows what the first one gave.
        if let Answer::Allow { .. } = admission.answer {
            for number in &admission.reserve {
                scene.allocator.retain(*number, ServiceKey::new("default", "web"), NOW + 90);
            }
            let again = scene.admit(&Value::Null, &patched(new, &admission));
            assert!(!told(&again).contains(['=', '!']), "{what}, once more: {again:?}");
            assert_eq!(again.reserve.len(), admission.reserve.len(), "{what}");
        }
    }
}

#[test]
fn node_ports_of_a_service_that_is_created() {
    let lb = |ports| typed("LoadBalancer", ports);
    let one = || vec![port("http", "TCP", 80, 0)];
    let dns = |tcp, udp| typed("NodePort", vec![port("tcp", "TCP", 53, tcp), port("udp", "UDP", 53, udp)]);
    let many = |count: u16| typed("NodePort", (0..count).map(|n| port(&format!("p{n}"), "TCP", 80 + n, 0)).collect());
    let local = |spec| with(spec, "externalTrafficPolicy", json!("Local"));
    let elsewhere = || {
        let admission = Admitting { namespaces: Some(["other".to_owned()].into()), ..Admitting::default() };
        of(vec![Pool { admission, ..pools(false).remove(0) }], &[Family::V4])
    };
    check(vec![
        ("one", ports(false), web(0), "ports/0=30000|30000"),
        ("two", ports(false), many(2), "ports/0=30000 ports/1=30001|30000 30001"),
        ("protocols of one port share", ports(false), dns(0, 0), "ports/0=30000 ports/1=30000|30000"),
        ("with what one of them has", ports(false), dns(0, 30_002), "ports/0=30002|30002"),
        ("a load balancer", ports(false), lb(one()), "ports/0=30000|30000"),
        ("one that needs none", ports(false), with(lb(one()), "allocateLoadBalancerNodePorts", json!(false)), "|"),
        ("and a health check", ports(false), local(lb(one())), "ports/0=30000 healthCheckNodePort=30001|30000 30001"),
        ("which a NodePort has not", ports(false), local(web(0)), "ports/0=30000|30000"),
        ("a ClusterIP", ports(true), typed("ClusterIP", one()), "|"),
        ("an ExternalName", ports(true), json!({"type": "ExternalName", "externalName": "a.example"}), "|"),
        ("no NodePortPool", ports(false).without_policy(), web(0), "|"),
        ("a pool that is not for it", elsewhere(), web(0), "|"),
        ("asked for by name", elsewhere(), noted(web(0), "node-port-pool", "team"), "?|"),
        ("a pool that is not there", ports(false), noted(web(0), "node-port-pool", "none"), "?|"),
        ("asked for", ports(false), noted(web(0), "node-ports", "http=30002"), "ports/0=30002|30002"),
        ("asked for and somebody's", ports(false).held(Number::port(30_002), "other", Use::NodePort), noted(web(0), "node-ports", "http=30002"), "?|"),
        ("kept as they are", ports(false), noted(web(0), "keep-node-ports", "true"), "|"),
        ("full", ports(false), many(5), "ports/0=30000 ports/1=30001 ports/2=30002 ports/3=30003 ?|30000 30001 30002 30003"),
        ("full, enforced", ports(true), many(5), "!PoolExhausted|"),
        ("explicit", ports(true), web(30_002), "|30002"),
        ("explicit and elsewhere", ports(false), web(31_000), "|"),
        ("explicit and forbidden", ports(true), web(31_000), "!NodePortOutsidePolicy|"),
        ("explicit and not of the pool that is asked for", ports(false), noted(web(31_000), "node-port-pool", "team"), "!NodePortOutsidePolicy|"),
        ("explicit and kept", ports(false), noted(noted(web(31_000), "node-port-pool", "team"), "keep-node-ports", "true"), "|"),
        ("explicit and kept, enforced", ports(true), noted(web(31_000), "keep-node-ports", "true"), "!NodePortOutsidePolicy|"),
        ("explicit and held", ports(false).held(Number::port(30_002), "other", Use::NodePort), web(30_002), "!AddressInUse|"),
        ("explicit and held by one of its name", ports(false).held(Number::port(30_002), "web", Use::NodePort), web(30_002), "|30002"),
        ("explicit and shown", ports(false).showing(&web(30_002)), web(30_002), "!AddressInUse|"),
        ("explicit and promised", ports(false).kept(30_002, "other", NOW + 1), web(30_002), "!AddressInUse|"),
        ("explicit and not promised any more", ports(false).kept(30_002, "other", NOW), web(30_002), "|30002"),
        ("what is promised to it", ports(false).kept(30_002, "web", NOW + 1), web(0), "ports/0=30002|30002"),
        ("what is promised is passed over", ports(false).kept(30_000, "other", NOW + 1), web(0), "ports/0=30001|30001"),
        ("what is shown is passed over", ports(false).showing(&web(30_000)), web(0), "ports/0=30001|30001"),
        ("unreadable", ports(false), noted(web(0), "node-ports", "nonsense"), "?|"),
        ("unreadable, enforced", ports(true), noted(web(0), "node-ports", "nonsense"), "!InvalidRequest|"),
        ("unreadable, enforced, of no concern", ports(true), noted(typed("ClusterIP", one()), "node-ports", "nonsense"), "?|"),
        ("an explicit health check", ports(true), with(local(lb(one())), "healthCheckNodePort", json!(31_000)), "!NodePortOutsidePolicy|"),
    ]);
}

#[test]
fn node_ports_of_a_service_that_changes() {
    let lb = |node_port: u16| typed("LoadBalancer", vec![port("http", "TCP", 80, node_port)]);
    let spared = |spec| with(spec, "allocateLoadBalancerNodePorts", json!(false));
    let local = |spec| with(spec, "externalTrafficPolicy", json!("Local"));
    let two = |first, second| typed("NodePort", vec![port("http", "TCP", 80, first), port("more", "TCP", 81, second)]);
    let alias = json!({"type": "ExternalName", "externalName": "a.example", "ports": [port("http", "TCP", 80, 31_000)]});
    let bad = |spec| noted(spec, "node-ports", "nonsense");
    let labelled = |spec| with(spec, "sessionAffinity", json!("ClientIP"));
    for (what, scene, old, new, expected) in [
        ("an old stray stays", ports(true), web(31_000), labelled(web(31_000)), "|"),
        ("a new one is judged", ports(true), web(31_000), web(31_001), "!NodePortOutsidePolicy|"),
        ("R5: left out, the API server keeps it", ports(true), web(31_000), web(0), "|"),
        ("unless another port has it now", ports(true), web(30_001), two(0, 30_001), "ports/0=30000|30000"),
        ("a new port gets one", ports(true), web(31_000), two(31_000, 0), "ports/1=30000|30000"),
        ("beside one that is left out", ports(true), web(30_000), two(0, 0), "ports/1=30001|30001"),
        ("from ClusterIP", ports(true), typed("ClusterIP", vec![port("http", "TCP", 80, 0)]), web(0), "ports/0=30000|30000"),
        ("from an alias, which nobody has judged", ports(true), alias.clone(), web(31_000), "!NodePortOutsidePolicy|"),
        ("to an alias", ports(true), web(31_000), alias, "|"),
        ("spared until now", ports(true), spared(lb(0)), lb(0), "ports/0=30000|30000"),
        ("spared from now on", ports(true), lb(31_000), spared(lb(31_000)), "|"),
        ("Local from now on", ports(true), lb(31_000), local(lb(31_000)), "healthCheckNodePort=30000|30000"),
        ("Local before", ports(true), with(local(lb(31_000)), "healthCheckNodePort", json!(31_009)), local(lb(31_000)), "|"),
        ("an old mistake keeps nobody from a change", ports(true), bad(web(31_000)), labelled(bad(web(31_000))), "|"),
        ("but has nothing new", ports(true), bad(web(31_000)), bad(two(31_000, 0)), "!InvalidRequest|"),
    ] {
        assert_eq!(told(&scene.admit(&old, &new)), expected, "{what}");
    }
}

fn asking(policy: &str, families: &[&str], ips: &[&str]) -> Value {
    let mut spec = json!({"type": "ClusterIP", "selector": {"app": "web"}, "ports": [port("http", "TCP", 80, 0)]});
    if !policy.is_empty() {
        spec["ipFamilyPolicy"] = json!(policy);
    }
    if !families.is_empty() {
        spec["ipFamilies"] = json!(families);
    }
    if let Some(first) = ips.first() {
        spec["clusterIP"] = json!(first);
        spec["clusterIPs"] = json!(ips);
    }
    spec
}

#[test]
fn cluster_ips_of_a_service_that_is_created() {
    let (prefer, require) = ("PreferDualStack", "RequireDualStack");
    let v4 = |last: u8| Number::from(IpAddr::from([10, 96, 0, last]));
    let full = |scene: Scene| (16..20).fold(scene, |scene, last| scene.held(v4(last), &format!("s{last}"), Use::ClusterIp));
    let empty = with(with(asking("", &[], &[]), "clusterIP", json!("")), "clusterIPs", json!([]));
    let alias = json!({"type": "ExternalName", "externalName": "a.example"});
    check(vec![
        ("one", addresses(false), asking("", &[], &[]), "clusterIP=10.96.0.16 clusterIPs=[10.96.0.16]|10.96.0.16"),
        ("R9: fields that are there and empty", addresses(false), empty, "clusterIP=10.96.0.16 clusterIPs=[10.96.0.16]|10.96.0.16"),
        ("of the other family", addresses(false), asking("", &["IPv6"], &[]), "clusterIP=fd00::10 clusterIPs=[fd00::10]|fd00::10"),
        ("both", addresses(false), asking(prefer, &[], &[]), "clusterIP=10.96.0.16 clusterIPs=[10.96.0.16,fd00::10]|10.96.0.16 fd00::10"),
        ("both, in another order", addresses(false), asking(require, &["IPv6"], &[]), "clusterIP=fd00::10 clusterIPs=[fd00::10,10.96.0.16]|fd00::10 10.96.0.16"),
        ("the second one is the API server's", four_only(false), asking(require, &[], &[]), "clusterIP=10.96.0.16 clusterIPs=[10.96.0.16]|10.96.0.16"),
        ("and so is what comes after the first", four_only(false), asking(require, &["IPv6"], &[]), "?|"),
        ("no pool of its only family", four_only(false), asking("", &["IPv6"], &[]), "|"),
        ("which one enforces of the other", four_only(true), asking("", &["IPv6"], &[]), "!FamilyUnavailable|"),
        ("no ServiceCIDR", Scene { families: Vec::new(), ..addresses(false) }, asking("", &[], &[]), "|"),
        ("headless", addresses(true), asking("", &[], &["None"]), "|"),
        ("an ExternalName", addresses(true), alias, "|"),
        ("what Kubernetes refuses", addresses(true), asking("SingleStack", &["IPv4", "IPv6"], &[]), "|"),
        ("explicit", addresses(true), asking("", &[], &["10.96.0.18"]), "|10.96.0.18"),
        ("one of two explicit", addresses(true), asking(prefer, &[], &["10.96.0.18"]), "clusterIPs=[10.96.0.18,fd00::10]|10.96.0.18 fd00::10"),
        ("explicit and elsewhere", addresses(false), asking("", &[], &["10.96.7.7"]), "|"),
        ("explicit and forbidden", addresses(true), asking("", &[], &["10.96.7.7"]), "!AddressNotInPool|"),
        ("explicit and held", addresses(false).held(v4(18), "other", Use::ClusterIp), asking("", &[], &["10.96.0.18"]), "!AddressInUse|"),
        ("what is shown and not claimed yet is passed over", addresses(false).showing(&asking("", &[], &["10.96.0.16"])), asking("", &[], &[]), "clusterIP=10.96.0.17 clusterIPs=[10.96.0.17]|10.96.0.17"),
        ("full", full(addresses(false)), asking("", &[], &[]), "?|"),
        ("full, enforced", full(addresses(true)), asking("", &[], &[]), "!PoolExhausted|"),
    ]);
}

#[test]
fn cluster_ips_of_a_service_that_changes() {
    let (single, prefer, require) = ("SingleStack", "PreferDualStack", "RequireDualStack");
    let alias = json!({"type": "ExternalName", "externalName": "a.example"});
    let (own, both) = (["10.96.9.9"], ["10.96.9.9", "fd00::9"]);
    let old = |policy| asking(policy, &["IPv4"], &own);
    let dual = asking(require, &["IPv4", "IPv6"], &both);
    for (what, old, new, expected) in [
        ("nothing", old(single), old(single), "|"),
        ("left out, the API server keeps it", old(single), asking(single, &["IPv4"], &[]), "|"),
        ("likewise all of them", dual.clone(), asking(require, &["IPv4", "IPv6"], &[]), "|"),
        ("and that there is none", asking("", &[], &["None"]), asking("", &[], &[]), "|"),
        ("no longer an alias", alias.clone(), asking("", &[], &[]), "clusterIP=10.96.0.16 clusterIPs=[10.96.0.16]|10.96.0.16"),
        ("an alias", old(single), alias, "|"),
        ("prefers two", old(single), old(prefer), "clusterIPs=[10.96.9.9,fd00::10]|fd00::10"),
        ("prefers two and leaves out what it has", old(single), asking(prefer, &["IPv4"], &[]), "clusterIP=10.96.9.9 clusterIPs=[10.96.9.9,fd00::10]|fd00::10"),
        ("requires two", old(single), asking(require, &["IPv4", "IPv6"], &own), "clusterIPs=[10.96.9.9,fd00::10]|fd00::10"),
        ("preferred two in a cluster that had one", old(prefer), with(old(prefer), "sessionAffinity", json!("ClientIP")), "|"),
        ("and requires them now", old(prefer), old(require), "clusterIPs=[10.96.9.9,fd00::10]|fd00::10"),
        ("gives one up", dual.clone(), asking(single, &["IPv4", "IPv6"], &both), "|"),
        ("loses one, which Kubernetes refuses", dual.clone(), asking(require, &["IPv4", "IPv6"], &own), "|"),
        ("another first one, which Kubernetes refuses", old(single), asking(prefer, &["IPv4"], &["10.96.0.18"]), "|10.96.0.18"),
    ] {
        assert_eq!(told(&addresses(false).admit(&old, &new)), expected, "{what}");
    }
}

#[test]
fn a_refusal_names_the_field_the_pool_and_a_number_that_is_free() {
    let refusal = |scene: Scene, new: &Value| match scene.admit(&Value::Null, new).answer {
        Answer::Deny { message, .. } => message,
        allowed @ Answer::Allow { .. } => format!("{allowed:?}"),
    };
    let outside = refusal(ports(true), &web(31_000));
    assert_eq!(outside, "spec.ports[TCP/80].nodePort 31000 lies outside pool \"team\"; set a number of it or leave the field empty; 30000 is free");
    let address = refusal(addresses(true), &asking("", &[], &["10.96.7.7"]));
    assert_eq!(address, "spec.clusterIPs 10.96.7.7 lies outside pools \"four\", \"six\"; set a number of it or leave the field empty; 10.96.0.16 is free");
    let promised = refusal(ports(false).kept(30_000, "web-*call", NOW + 1), &{
        let mut other = web(30_000);
        other["annotations"] = json!({});
        other
    });
    assert!(promised.contains("30001 is free"), "{promised}");
}

#[test]
fn what_keeps_an_address_from_the_api_server_goes_only_for_what_the_service_gets() {
    let unreserve = |new: &Value| match addresses(false).admit(&Value::Null, new).answer {
        Answer::Allow { unreserve, .. } => unreserve.iter().map(ToString::to_string).collect(),
        Answer::Deny { .. } => Vec::new(),
    };
    assert_eq!(unreserve(&asking("PreferDualStack", &[], &[])), ["10.96.0.16", "fd00::10"]);
    assert_eq!(unreserve(&asking("", &[], &["10.96.0.18"])), ["10.96.0.18"]);
    assert!(unreserve(&asking("", &[], &["10.96.7.7"])).is_empty());
}

#[test]
fn nothing_is_given_to_what_is_going() {
    let mut record = service("web", &web(0));
    record.deleting = true;
    let scene = ports(true);
    let ledger = Ledger::new("test".into());
    let labels = Arc::<Labels>::default();
    let snapshot = Snapshot {
        record: &record,
        class: ClassMatch::Gone,
        namespace_labels: &labels,
        allocator: &scene.allocator,
        ledger: &ledger,
        aws: false,
        told: None,
        cluster_families: &scene.families,
        server_gives_cluster_ips: true,
        node_port_policy: true,
        shown_ports: &scene.ports,
        shown_addresses: &scene.addresses,
        foreign: &BTreeMap::new(),
        refused: None,
        may_renumber: false,
        now: NOW,
    };
    assert_eq!(told(&admit(&snapshot, None)), "|");
}
