//! Who may answer: the rules as tables.

use allocator::{Operator, Requirement, Selector};

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];
type Named<'a> = &'a [(&'a str, &'a [&'a str])];

#[test]
fn a_node_is_excluded_by_label_taint_condition_or_its_deletion_and_by_nothing_else() {
    let taint = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    let condition = |type_: &str, status: &str| json!({"status": {"conditions": [{"type": type_, "status": status}]}});
    let label = |value: &str| json!({"metadata": {"labels": {EXCLUDED_BY_LABEL: value}}});
    let rows = [
        (json!({}), None),
        (label(""), Some("Labelled")),
        // By its presence, as Kubernetes does.
        (label("false"), Some("Labelled")),
        (taint("node.kubernetes.io/out-of-service"), Some("Tainted")),
        (
            taint("node.kubernetes.io/network-unavailable"),
            Some("Tainted"),
        ),
        (
            taint("node.cloudprovider.kubernetes.io/shutdown"),
            Some("Tainted"),
        ),
        (
            taint("node.cloudprovider.kubernetes.io/uninitialized"),
            Some("Tainted"),
        ),
        // The speakers know better.
        (taint("node.kubernetes.io/not-ready"), None),
        (taint("node.kubernetes.io/unreachable"), None),
        (condition("Ready", "Unknown"), None),
        // It serves until it goes.
        (taint("ToBeDeletedByClusterAutoscaler"), None),
        (taint("karpenter.sh/disrupted"), None),
        (taint("node.kubernetes.io/unschedulable"), None),
        (taint("dedicated"), None),
        (
            condition("NetworkUnavailable", "True"),
            Some("NetworkUnavailable"),
        ),
        (condition("NetworkUnavailable", "False"), None),
        (condition("NetworkUnavailable", "Unknown"), None),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            Some("Deleted"),
        ),
    ];
    for (mut object, expected) in rows {
        object["metadata"]["uid"] = json!("u");
        let told = object.to_string();
        let excluded = a_node(object).unwrap().excluded;
        let reason = excluded.as_ref().map(|excluded| excluded.reason.as_str());
        assert_eq!(reason, expected, "{told}");
    }
}

#[test]
fn a_node_that_is_cordoned_or_about_to_go_is_the_last_choice() {
    let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
    let rows = [
        (json!({}), false),
        (json!({"unschedulable": true}), true),
        (taint("ToBeDeletedByClusterAutoscaler"), true),
        (taint("karpenter.sh/disrupted"), true),
        (taint("DeletionCandidateOfClusterAutoscaler"), false),
    ];
    for (spec, expected) in rows {
        let told = spec.to_string();
        let node = a_node(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap();
        assert_eq!(node.last_choice, expected, "{told}");
    }
}

#[test]
fn a_heartbeat_changes_nothing_that_is_kept_of_a_node() {
    let at = |time: &str| {
        a_node(json!({
            "metadata": {"uid": "u", "resourceVersion": time},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": time},
            ]},
        }))
    };
    assert_eq!(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:10Z"));
}

#[test]
fn a_nodes_internal_addresses_are_kept_in_order_and_what_is_none_is_left_out() {
    let node = a_node(json!({"metadata": {"uid": "u"}, "status": {"addresses": [
        {"type": "Hostname", "address": "a"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
        {"type": "InternalIP", "address": "fd00::2"},
        {"type": "InternalIP", "address": "nonsense"},
        {"type": "InternalIP", "address": "10.0.0.2"},
        {"type": "InternalIP", "address": "fd00::2"},
    ]}}));
    assert_eq!(node.unwrap().addresses, [ip("fd00::2"), ip("10.0.0.2")]);
}

fn selector(key: &str, value: &str) -> Selector {
    Selector {
        requirements: vec![Requirement {
            key: key.to_owned(),
            operator: Operator::In,
            values: [value.to_owned()].into(),
        }],
    }
}

#[test]
fn of_the_preferred_entries_that_a_node_matches_the_highest_weight_counts() {
    let policy = Policy {
        interfaces: None,
        nodes: Some(selector("zone", "one")),
        preferred: vec![(5, selector("disk", "ssd")), (9, selector("net", "fast"))],
    };
    let rows: [(Pairs<'_>, Option<u32>); 5] = [
        (&[], None),
        (&[("net", "fast")], None),
        (&[("zone", "one")], Some(1)),
        (&[("zone", "one"), ("disk", "ssd")], Some(5)),
        (
            &[("zone", "one"), ("disk", "ssd"), ("net", "fast")],
            Some(9),
        ),
    ];
    for (labels, expected) in rows {
        let owned = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        assert_eq!(policy.weight(&owned.collect()), expected, "{labels:?}");
    }
}

/// Which nodes an Announcement of `web`, and of `api` with the same address, says.
fn nodes(web: bool, api: Option<bool>, slices: &[(&str, Pairs<'_>)]) -> Value {
    let mut wishes = vec![wish("web", &["192.0.2.1"], web)];
    wishes.extend(api.map(|local| wish("api", &["192.0.2.1"], local)));
    let mut world = lan(&wishes);
    for (service, on) in slices {
        world.slice(service, on);
    }
    world.settle();
    world.announcement("192.0.2.1")["nodes"].clone()
}

#[test]
fn with_policy_local_only_nodes_with_a_serving_endpoint_may_answer() {
    let rows: [(Pairs<'_>, Value); 8] = [
        (&[], json!([])),
        (&[("a", "ready")], json!(["a"])),
        (
            &[("a", "ready"), ("b", "ready"), ("b", "ready")],
            json!(["a", "b"]),
        ),
        (&[("a", "starting"), ("b", "gone")], json!([])),
        // KEP-1669: one that goes counts while nobody is ready anywhere.
        (&[("a", "going"), ("b", "ready")], json!(["b"])),
        (&[("a", "going"), ("b", "gone")], json!(["a"])),
        // On no node: a slice that somebody wrote by hand.
        (&[("", "ready")], json!([])),
        (&[("", "ready"), ("a", "ready")], json!(["a"])),
    ];
    for (on, expected) in rows {
        assert_eq!(nodes(true, None, &[("web", on)]), expected, "{on:?}");
    }
}

#[test]
fn with_policy_cluster_any_node_may_answer_while_anything_serves_anywhere() {
    let rows: [(Pairs<'_>, Value); 6] = [
        (&[], json!([])),
        (&[("a", "ready")], Value::Null),
        (&[("elsewhere", "ready")], Value::Null),
        (&[("", "ready")], Value::Null),
        (&[("a", "going")], Value::Null),
        (&[("a", "gone"), ("b", "starting")], json!([])),
    ];
    for (on, expected) in rows {
        assert_eq!(nodes(false, None, &[("web", on)]), expected, "{on:?}");
    }
}

#[test]
fn services_that_share_an_address_are_answered_for_where_all_that_have_endpoints_are_served() {
    let (a, b, ab): (&[_], &[_], &[_]) = (
        &[("a", "ready")],
        &[("b", "ready")],
        &[("a", "ready"), ("b", "ready")],
    );
    let rows: [(bool, &[_], bool, &[_], Value); 8] = [
        (true, a, true, ab, json!(["a"])),
        (true, ab, true, ab, json!(["a", "b"])),
        // One that has none at all is served nowhere and hinders nobody.
        (true, a, true, &[], json!(["a"])),
        (true, a, true, b, json!([])),
        (true, a, false, b, json!(["a"])),
        (true, &[], false, b, Value::Null),
        (true, &[], false, &[], json!([])),
        (false, &[], false, b, Value::Null),
    ];
    for (web_local, web, api_local, api, expected) in rows {
        let found = nodes(web_local, Some(api_local), &[("web", web), ("api", api)]);
        assert_eq!(found, expected, "{web_local} {web:?} {api_local} {api:?}");
    }
}

#[test]
fn a_slice_belongs_to_the_service_that_its_label_names_and_one_of_names_serves_nothing() {
    let object = |labels: Value, type_: &str| {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web-1", "labels": labels},
            "addressType": type_, "endpoints": [{"addresses": ["x"], "nodeName": "a"}],
        }))
        .unwrap();
        super::slice(&slice).map(|(key, slice)| (key.to_string(), slice.len()))
    };
    let label = json!({"kubernetes.io/service-name": "web"});
    let web = |endpoints| Some(("shop/web".to_owned(), endpoints));
    assert_eq!(object(label.clone(), "IPv4"), web(1));
    assert_eq!(object(label, "FQDN"), web(0));
    assert_eq!(object(json!({"app": "web"}), "IPv4"), None);
}

#[test]
fn addresses_are_one_group_when_a_chain_of_services_connects_them() {
    let rows: [(Named<'_>, Named<'_>); 4] = [
        (
            &[("web", &["192.0.2.1"]), ("api", &["192.0.2.2"])],
            &[("192.0.2.1", &["shop/web"]), ("192.0.2.2", &["shop/api"])],
        ),
        (
            &[("web", &["2001:db8::5", "192.0.2.1"])],
            &[("192.0.2.1", &["shop/web"])],
        ),
        (
            &[("web", &["2001:db8::5"])],
            &[("2001-db8-0-0-0-0-0-5", &["shop/web"])],
        ),
        (
            &[
                ("web", &["192.0.2.1", "2001:db8::5"]),
                ("api", &["2001:db8::5", "192.0.2.2"]),
                ("dns", &["192.0.2.2"]),
                ("alone", &["192.0.2.3"]),
            ],
            &[
                ("192.0.2.1", &["shop/api", "shop/dns", "shop/web"]),
                ("192.0.2.3", &["shop/alone"]),
            ],
        ),
    ];
    for (wishes, expected) in rows {
        let wishes: Vec<_> = wishes
            .iter()
            .map(|(name, ips)| wish(name, ips, false))
            .collect();
        let mut world = lan(&wishes);
        world.settle();
        let found: Vec<(&str, Vec<&str>)> = world
            .announcements
            .iter()
            .map(|(name, spec)| (&**name, spec.services.iter().map(String::as_str).collect()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, all)| (*name, all.to_vec()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn an_announcement_has_the_interfaces_and_pools_of_each_address() {
    let mut world = World::new();
    let fast = Policy {
        interfaces: Some(vec!["eth*".to_owned()]),
        ..Policy::default()
    };
    let mut policies = policies(&["lan"]);
    policies.insert("six".into(), Arc::new(fast));
    let wish = wish("web", &["192.0.2.1", "2001:db8::1@six"], false);
    world.hear(Word::All(policies, vec![wish]));
    world.settle();
    let expected = json!({
        "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1", "interfaces": ["eth*"]}],
        "pools": ["lan", "six"], "services": ["shop/web"], "nodes": [],
    });
    assert_eq!(world.announcement("192.0.2.1"), expected);
}
