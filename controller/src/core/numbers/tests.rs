use std::sync::Arc;

use model::{Port, ServiceKey, TrafficPolicy, Uid};

use super::*;
use crate::core::record::LoadBalancerRequest;

const V4: &str = "203.0.113.1";
const V6: &str = "2001:db8::1";

fn record() -> ServiceRecord {
    ServiceRecord {
        key: ServiceKey::new("shop", "web"),
        uid: Uid::from("1"),
        version: "7".into(),
        created: 0,
        deleting: false,
        labels: Arc::default(),
        service_type: ServiceType::ClusterIp,
        headless: false,
        class: None,
        allocate_node_ports: true,
        ports: Vec::new(),
        cluster_ips: Vec::new(),
        families: Vec::new(),
        family_policy: None,
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

/// `v4v6` and the like; `-` for none.
fn family_list(text: &str) -> Vec<Family> {
    match text {
        "-" => vec![],
        "v4" => vec![Family::V4],
        "v6" => vec![Family::V6],
        "v4v6" => vec![Family::V4, Family::V6],
        "v6v4" => vec![Family::V6, Family::V4],
        "v4v4" => vec![Family::V4, Family::V4],
        other => panic!("{other}"),
    }
}

fn address_list(text: &str) -> Vec<IpAddr> {
    let address = |family: &Family| match family {
        Family::V4 => V4.parse().unwrap(),
        Family::V6 => V6.parse().unwrap(),
    };
    family_list(text).iter().map(address).collect()
}

fn policy(text: &str) -> Option<FamilyPolicy> {
    match text {
        "-" => None,
        "Single" => Some(FamilyPolicy::SingleStack),
        "Prefer" => Some(FamilyPolicy::PreferDualStack),
        "Require" => Some(FamilyPolicy::RequireDualStack),
        other => panic!("{other}"),
    }
}

/// The kind of Service in facts/kubernetes.md section 2.5.
#[derive(Clone, Copy)]
enum Shape {
    Normal,
    HeadlessWithSelector,
    HeadlessWithoutSelector,
}
use Shape::{HeadlessWithSelector, HeadlessWithoutSelector, Normal};

fn service(shape: Shape, given_policy: &str, given: &str, addresses: &str) -> ServiceRecord {
    let (headless, has_selector) = match shape {
        Normal => (false, true),
        HeadlessWithSelector => (true, true),
        HeadlessWithoutSelector => (true, false),
    };
    ServiceRecord {
        headless,
        has_selector,
        family_policy: policy(given_policy),
        families: family_list(given),
        cluster_ips: address_list(addresses),
        ..record()
    }
}

/// `Prefer v4v6`, or a part of the message.
fn plan(cluster: &str, record: &ServiceRecord) -> Result<(FamilyPolicy, Vec<Family>), String> {
    families(record, &family_list(cluster))
        .map(|plan| (plan.policy, plan.families))
        .map_err(|rejection| rejection.message)
}

fn expect(cluster: &str, record: &ServiceRecord, wanted: &str, row: &str) {
    let found = plan(cluster, record);
    match wanted.strip_prefix("error ") {
        Some(text) => {
            let message = found.expect_err(row);
            assert!(message.contains(text), "{row}: {message}");
        }
        None => {
            let (wanted_policy, wanted_families) = wanted.split_once(' ').unwrap();
            let wanted = (policy(wanted_policy).unwrap(), family_list(wanted_families));
            assert_eq!(found, Ok(wanted), "{row}");
        }
    }
}

const NOT_DUAL: &str = "error this cluster is not configured for dual-stack services";
const NOT_CONFIGURED: &str = "error is not configured on this cluster";
const MANY_FAMILIES: &str = "error must be 'RequireDualStack' or 'PreferDualStack' when multiple \
                             IP families are specified";
const MANY_ADDRESSES: &str = "error must be 'RequireDualStack' or 'PreferDualStack' when multiple \
                              cluster IPs are specified";
const MISMATCH: &str =
    "error put both lists in the same order; the primary may not change once set";

#[test]
fn a_new_service_gets_the_families_kubernetes_gives_it() {
    // cluster, shape, policy, families, clusterIPs, result; facts/kubernetes.md section 2.5.
    let rows = [
        ("v4", Normal, "-", "-", "-", "Single v4"),
        ("v4", Normal, "Single", "-", "-", "Single v4"),
        ("v4", Normal, "-", "v4", "-", "Single v4"),
        ("v4", Normal, "Single", "v4", "-", "Single v4"),
        ("v4", HeadlessWithSelector, "-", "-", "-", "Single v4"),
        ("v4", HeadlessWithSelector, "Single", "v4", "-", "Single v4"),
        ("v4", Normal, "Prefer", "-", "-", "Prefer v4"),
        ("v4", Normal, "Prefer", "v4", "-", "Prefer v4"),
        ("v4", HeadlessWithSelector, "Prefer", "-", "-", "Prefer v4"),
        ("v4", Normal, "Require", "-", "-", NOT_DUAL),
        ("v4", Normal, "Require", "v4", "-", NOT_DUAL),
        ("v4", Normal, "Require", "v4v6", "-", NOT_DUAL),
        ("v4", HeadlessWithSelector, "Require", "-", "-", NOT_DUAL),
        ("v4", Normal, "-", "v6", "-", NOT_CONFIGURED),
        ("v4", Normal, "Single", "v6", "-", NOT_CONFIGURED),
        ("v4", Normal, "Prefer", "v6", "-", NOT_CONFIGURED),
        ("v4", Normal, "-", "v4v6", "-", MANY_FAMILIES),
        ("v4", Normal, "Single", "v4v6", "-", MANY_FAMILIES),
        (
            "v4",
            Normal,
            "Prefer",
            "v4v6",
            "-",
            "error spec.ipFamilies[1]: IPv6 is not configured",
        ),
        ("v4", HeadlessWithoutSelector, "-", "-", "-", "Require v4v6"),
        (
            "v4",
            HeadlessWithoutSelector,
            "-",
            "v4",
            "-",
            "Require v4v6",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "-",
            "v6",
            "-",
            "Require v6v4",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Single",
            "-",
            "-",
            "Single v4",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Single",
            "v4",
            "-",
            "Single v4",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Single",
            "v6",
            "-",
            "Single v6",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Prefer",
            "-",
            "-",
            "Prefer v4v6",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Prefer",
            "v6",
            "-",
            "Prefer v6v4",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Require",
            "-",
            "-",
            "Require v4v6",
        ),
        (
            "v4",
            HeadlessWithoutSelector,
            "Require",
            "v6",
            "-",
            "Require v6v4",
        ),
        ("v4v6", Normal, "-", "-", "-", "Single v4"),
        ("v4v6", Normal, "-", "v4", "-", "Single v4"),
        ("v4v6", Normal, "-", "v6", "-", "Single v6"),
        ("v4v6", Normal, "Single", "-", "-", "Single v4"),
        ("v4v6", Normal, "Single", "v6", "-", "Single v6"),
        ("v4v6", Normal, "Prefer", "-", "-", "Prefer v4v6"),
        ("v4v6", Normal, "Prefer", "v4", "-", "Prefer v4v6"),
        ("v4v6", Normal, "Prefer", "v6", "-", "Prefer v6v4"),
        ("v4v6", Normal, "Require", "-", "-", "Require v4v6"),
        ("v4v6", Normal, "Require", "v4", "-", "Require v4v6"),
        ("v4v6", Normal, "Require", "v6", "-", "Require v6v4"),
        ("v4v6", Normal, "-", "-", "v6", "Single v6"),
        ("v4v6", Normal, "Prefer", "-", "v6", "Prefer v6v4"),
        ("v4v6", Normal, "Prefer", "v6", "v6", "Prefer v6v4"),
        ("v4v6", Normal, "Prefer", "v6v4", "v6", "Prefer v6v4"),
        ("v4v6", Normal, "Require", "-", "v6", "Require v6v4"),
        ("v4v6", Normal, "Require", "v6v4", "v6", "Require v6v4"),
        ("v4v6", Normal, "-", "-", "v4v6", MANY_ADDRESSES),
        ("v4v6", Normal, "-", "v4v6", "v4v6", MANY_ADDRESSES),
        ("v4v6", Normal, "Single", "-", "v4v6", MANY_ADDRESSES),
        ("v4v6", Normal, "Single", "v4", "v4v6", MANY_ADDRESSES),
        ("v4v6", Normal, "Prefer", "-", "v4v6", "Prefer v4v6"),
        ("v4v6", Normal, "Prefer", "v4", "v4v6", "Prefer v4v6"),
        ("v4v6", Normal, "Require", "v4v6", "v4v6", "Require v4v6"),
        ("v4v6", Normal, "Prefer", "v6", "v4v6", MISMATCH),
        ("v4v6", Normal, "Require", "v6v4", "v4v6", MISMATCH),
        ("v6v4", Normal, "Prefer", "-", "-", "Prefer v6v4"),
        (
            "v4v6",
            Normal,
            "Prefer",
            "v4v4",
            "-",
            "error may name each family once",
        ),
        (
            "v4v6",
            Normal,
            "Prefer",
            "-",
            "v4v4",
            "error at most one address of each family",
        ),
    ];
    for (cluster, shape, policy, given, addresses, wanted) in rows {
        let row = format!("{cluster} {policy} {given} {addresses} -> {wanted}");
        expect(
            cluster,
            &service(shape, policy, given, addresses),
            wanted,
            &row,
        );
    }
}

#[test]
fn a_changed_service_gets_the_families_kubernetes_gives_it() {
    // policy, families and clusterIPs after the user's change; dual-stack cluster, headful.
    let rows = [
        ("1 IP, Single: stays 1", "Single", "v4", "v4", "Single v4"),
        (
            "1 IP, policy removed: stays 1",
            "-",
            "v4",
            "v4",
            "Single v4",
        ),
        (
            "1 IP, Single, dual families: error",
            "Single",
            "v4v6",
            "v4",
            MANY_FAMILIES,
        ),
        (
            "1 IP, dual IPs without policy: error",
            "-",
            "v4",
            "v4v6",
            MANY_ADDRESSES,
        ),
        ("1 IP, Prefer: upgrade", "Prefer", "v4", "v4", "Prefer v4v6"),
        (
            "1 IP, Require: upgrade",
            "Require",
            "v4",
            "v4",
            "Require v4v6",
        ),
        (
            "1 IP, Require, both families",
            "Require",
            "v4v6",
            "v4",
            "Require v4v6",
        ),
        (
            "1 IP, Prefer, explicit second",
            "Prefer",
            "v4",
            "v4v6",
            "Prefer v4v6",
        ),
        (
            "1 IP, Prefer, swapped: error",
            "Prefer",
            "v6v4",
            "v4",
            MISMATCH,
        ),
        (
            "2 IPs, Require: stays 2",
            "Require",
            "v4v6",
            "v4v6",
            "Require v4v6",
        ),
        (
            "2 IPs, Prefer: stays 2",
            "Prefer",
            "v4v6",
            "v4v6",
            "Prefer v4v6",
        ),
        (
            "2 IPs, Single: downgrade",
            "Single",
            "v4v6",
            "v4v6",
            "Single v4",
        ),
        (
            "2 IPs, Single, v6 first: downgrade",
            "Single",
            "v6v4",
            "v6v4",
            "Single v6",
        ),
        (
            "2 IPs, Single, one left by hand",
            "Single",
            "v4",
            "v4",
            "Single v4",
        ),
        // kube-apiserver refuses these two; without the old object the lost part comes back.
        (
            "2 IPs, Require, one IP removed",
            "Require",
            "v4v6",
            "v4",
            "Require v4v6",
        ),
        (
            "2 IPs, Require, one family removed",
            "Require",
            "v4",
            "v4v6",
            "Require v4v6",
        ),
    ];
    for (row, policy, given, addresses, wanted) in rows {
        expect(
            "v4v6",
            &service(Normal, policy, given, addresses),
            wanted,
            row,
        );
    }
}

#[test]
fn a_complete_service_comes_out_as_it_is_whatever_the_cluster_is() {
    let complete = [
        (Normal, "Single", "v6", "v6"),
        (Normal, "Prefer", "v4v6", "v4v6"),
        (Normal, "Require", "v6v4", "v6v4"),
        (HeadlessWithSelector, "Require", "v4v6", "-"),
        (HeadlessWithoutSelector, "Prefer", "v6v4", "-"),
    ];
    for (shape, given_policy, given, addresses) in complete {
        for cluster in ["-", "v4", "v6", "v4v6", "v6v4"] {
            let wanted = format!("{given_policy} {given}");
            let record = service(shape, given_policy, given, addresses);
            expect(cluster, &record, &wanted, &format!("{cluster}: {wanted}"));
        }
    }
}

#[test]
fn prefer_dual_stack_with_one_family_is_complete_where_there_is_one() {
    for cluster in ["-", "v4"] {
        expect(
            cluster,
            &service(Normal, "Prefer", "v4", "v4"),
            "Prefer v4",
            cluster,
        );
    }
}

#[test]
fn every_plan_is_a_fixed_point_once_it_is_written() {
    let lists = ["-", "v4", "v6", "v4v6", "v6v4"];
    let policies = ["-", "Single", "Prefer", "Require"];
    for shape in [Normal, HeadlessWithSelector, HeadlessWithoutSelector] {
        for (cluster, given) in lists.iter().flat_map(|a| lists.map(|b| (*a, b))) {
            for given_policy in policies {
                let mut record = service(shape, given_policy, given, "-");
                let Ok((policy, families)) = plan(cluster, &record) else {
                    continue;
                };
                record.family_policy = Some(policy);
                record.families.clone_from(&families);
                if !record.headless {
                    record.cluster_ips = families
                        .iter()
                        .map(|family| {
                            address_list(if *family == Family::V4 { "v4" } else { "v6" })[0]
                        })
                        .collect();
                }
                let again = plan(cluster, &record);
                assert_eq!(
                    again,
                    Ok((policy, families)),
                    "{cluster} {given_policy} {given}"
                );
            }
        }
    }
}

#[test]
fn without_a_cluster_ip_pool_an_empty_service_waits_for_one() {
    let rejection = families(&record(), &[]).unwrap_err();
    assert_eq!(rejection.reason, Reason::NoPool);
}

#[test]
fn external_name_is_left_alone() {
    let record = ServiceRecord {
        service_type: ServiceType::ExternalName,
        ..record()
    };
    assert_eq!(families(&record, &[]).unwrap().families, vec![]);
}

/// A NodePort Service of `name/protocol/port/nodePort` entries.
fn with_ports(entries: &[&str]) -> ServiceRecord {
    let entry = |text: &&str| {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap();
        ServicePort {
            name: next().into(),
            port: Port {
                protocol: next().parse().unwrap(),
                number: next().parse().unwrap(),
            },
            node_port: next().parse().unwrap(),
        }
    };
    ServiceRecord {
        service_type: ServiceType::NodePort,
        ports: entries.iter().map(entry).collect(),
        ..record()
    }
}

fn asking(mut record: ServiceRecord, wanted: &[(&str, u16)]) -> ServiceRecord {
    record.request = Ok(LoadBalancerRequest {
        node_ports: wanted
            .iter()
            .map(|(name, port)| ((*name).into(), *port))
            .collect(),
        ..LoadBalancerRequest::default()
    });
    record
}

fn need(indices: &[usize], explicit: Option<u16>) -> PortNeed {
    PortNeed {
        indices: indices.to_vec(),
        explicit,
    }
}

#[test]
fn node_ports_follow_the_create_algorithm() {
    let rows: [(&str, &[&str], Vec<PortNeed>); 9] = [
        ("one port", &["a/TCP/80/0"], vec![need(&[0], None)]),
        (
            "two ports",
            &["a/TCP/80/0", "b/TCP/443/0"],
            vec![need(&[0], None), need(&[1], None)],
        ),
        (
            "TCP and UDP share",
            &["a/TCP/53/0", "b/UDP/53/0"],
            vec![need(&[0, 1], None)],
        ),
        (
            "the later one has it",
            &["a/TCP/53/0", "b/UDP/53/30053"],
            vec![need(&[0], Some(30053))],
        ),
        (
            "the first one has it",
            &["a/TCP/53/30053", "b/UDP/53/0"],
            vec![need(&[1], Some(30053))],
        ),
        (
            "both have one",
            &["a/TCP/53/30053", "b/UDP/53/30054"],
            vec![],
        ),
        (
            "the first that is set counts",
            &["a/TCP/53/0", "b/UDP/53/30053", "c/SCTP/53/30054"],
            vec![need(&[0], Some(30053))],
        ),
        (
            "explicit ones come first, so the order bug cannot happen",
            &["a/TCP/80/0", "b/TCP/443/0", "c/UDP/443/31000"],
            vec![need(&[1], Some(31000)), need(&[0], None)],
        ),
        (
            "a number that another port of the protocol has is not shared",
            &["a/TCP/80/30080", "b/UDP/80/0", "c/UDP/81/30080"],
            vec![need(&[1], None)],
        ),
    ];
    for (row, ports, wanted) in rows {
        assert_eq!(node_ports(&with_ports(ports)), wanted, "{row}");
    }
}

#[test]
fn the_annotation_fills_in_empty_ports_and_is_shared() {
    let record = with_ports(&["a/TCP/80/0", "b/TCP/53/0", "c/UDP/53/0", "d/TCP/90/30090"]);
    let record = asking(record, &[("c", 30053), ("d", 30091)]);
    let wanted = vec![need(&[1, 2], Some(30053)), need(&[0], None)];
    assert_eq!(node_ports(&record), wanted);
}

#[test]
fn the_annotation_may_ask_for_one_number_a_protocol() {
    let record = asking(
        with_ports(&["a/TCP/53/0", "b/UDP/53/0"]),
        &[("a", 30053), ("b", 30054)],
    );
    assert_eq!(
        node_ports(&record),
        vec![need(&[0], Some(30053)), need(&[1], Some(30054))]
    );
}

#[test]
fn an_unreadable_request_does_not_keep_a_service_from_its_node_ports() {
    let mut record = with_ports(&["a/TCP/80/0"]);
    record.request = Err(invalid("x"));
    assert_eq!(node_ports(&record), vec![need(&[0], None)]);
}

#[test]
fn an_unreadable_port_needs_nothing() {
    assert_eq!(node_ports(&with_ports(&["a/TCP/0/0"])), vec![]);
}

#[test]
fn only_types_that_need_node_ports_get_them() {
    let with = |service_type, allocate_node_ports| ServiceRecord {
        service_type,
        allocate_node_ports,
        ..with_ports(&["a/TCP/80/0"])
    };
    let rows = [
        (ServiceType::NodePort, true, 1),
        (ServiceType::LoadBalancer, true, 1),
        (ServiceType::LoadBalancer, false, 0),
        (ServiceType::ClusterIp, true, 0),
        (ServiceType::ExternalName, true, 0),
    ];
    for (service_type, allocate, wanted) in rows {
        let needs = node_ports(&with(service_type, allocate));
        assert_eq!(needs.len(), wanted, "{service_type:?} {allocate}");
    }
}

#[test]
fn the_patch_writes_everything_that_was_empty_on_the_version_it_was_decided_on() {
    let record = with_ports(&["a/TCP/80/0", "b/TCP/443/30443"]);
    let found = NumbersFound {
        cluster_ips: address_list("v4v6"),
        plan: Some(FamilyPlan {
            policy: FamilyPolicy::RequireDualStack,
            families: family_list("v4v6"),
        }),
        node_ports: vec![(0, 30080), (1, 30443)],
        health_check_node_port: Some(30999),
    };
    let wanted = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/spec/clusterIP", "value": V4},
        {"op": "add", "path": "/spec/clusterIPs", "value": [V4, V6]},
        {"op": "add", "path": "/spec/ipFamilies", "value": ["IPv4", "IPv6"]},
        {"op": "add", "path": "/spec/ipFamilyPolicy", "value": "RequireDualStack"},
        {"op": "add", "path": "/spec/ports/0/nodePort", "value": 30080},
        {"op": "add", "path": "/spec/healthCheckNodePort", "value": 30999},
    ]);
    assert_eq!(spec_patch(&record, &found), Some(wanted));
}

#[test]
fn a_released_secondary_leaves_the_primary_untouched() {
    let record = service(Normal, "Single", "v4v6", "v4v6");
    let found = NumbersFound {
        cluster_ips: address_list("v4"),
        plan: families(&record, &family_list("v4v6")).ok(),
        ..NumbersFound::default()
    };
    let wanted = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/spec/clusterIPs", "value": [V4]},
        {"op": "add", "path": "/spec/ipFamilies", "value": ["IPv4"]},
    ]);
    assert_eq!(spec_patch(&record, &found), Some(wanted));
}

#[test]
fn a_service_that_has_it_all_is_not_patched() {
    let record = ServiceRecord {
        ports: with_ports(&["a/TCP/80/30080"]).ports,
        health_check_node_port: 30999,
        ..service(Normal, "Single", "v4", "v4")
    };
    let found = NumbersFound {
        cluster_ips: address_list("v4"),
        plan: families(&record, &family_list("v4")).ok(),
        node_ports: vec![(0, 30080), (5, 30081)],
        health_check_node_port: Some(30999),
    };
    assert_eq!(spec_patch(&record, &found), None);
    assert_eq!(spec_patch(&record, &NumbersFound::default()), None);
}
