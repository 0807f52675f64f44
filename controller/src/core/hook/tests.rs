use allocator::{Operator, Pool, RangeSet, Requirement, Selector, Strategy};
use model::{Labels, Uid};
use proptest::{
    prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::subsequence,
    strategy::Strategy as Generator,
};

use super::*;
use crate::core::record::{PoolStatus, Rejection};

fn terms() -> Terms {
    Terms {
        target: Target::Service {
            namespace: "portolan-system".to_owned(),
            name: "portolan-webhook".to_owned(),
            port: 443,
        },
        path: "/services",
        exempt: vec!["kube-system".to_owned(), "portolan-system".to_owned()],
        own: "portolan-system".to_owned(),
    }
}

fn bundle() -> Bundle {
    Bundle::Ours(b"authorities".as_slice().into())
}

fn record(name: &str, usage: Use, enforce: bool, admission: Admission) -> PoolRecord {
    let kind = match usage {
        Use::NodePort | Use::HealthCheckNodePort => PoolKind::NodePort,
        Use::ClusterIp | Use::LoadBalancer => PoolKind::Address,
    };
    let pool = Pool {
        name: name.into(),
        created: 0,
        uid: Uid::from(name),
        usage,
        v4: RangeSet::default(),
        v6: RangeSet::default(),
        ports: RangeSet::default(),
        reserved_v4: RangeSet::default(),
        reserved_v6: RangeSet::default(),
        excluded_ports: RangeSet::default(),
        unusable_v4: RangeSet::default(),
        unusable_v6: RangeSet::default(),
        unusable_ports: RangeSet::default(),
        auto_assign: true,
        priority: 0,
        disabled: false,
        admission,
        enforce,
        strategy: Strategy::LowestFree,
        retain_for: None,
        avoid_buggy_ips: false,
    };
    PoolRecord {
        kind,
        name: name.into(),
        version: "1".into(),
        generation: 1,
        pool: Ok(pool),
        announce: None,
        status: PoolStatus::default(),
    }
}

fn asked(pools: &[PoolRecord]) -> Asked {
    Asked::of(pools)
}

fn entries(pools: &[PoolRecord]) -> Vec<MutatingWebhook> {
    webhooks(
        &asked(pools),
        &terms(),
        &ByteString(b"authorities".to_vec()),
    )
}

fn configuration(webhooks: Option<Vec<MutatingWebhook>>) -> MutatingWebhookConfiguration {
    let mut found = MutatingWebhookConfiguration::default();
    found.metadata.labels = Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into());
    found.metadata.resource_version = Some("7".to_owned());
    found.webhooks = webhooks;
    found
}

fn condition_names(entry: &MutatingWebhook) -> Vec<&str> {
    let conditions = entry.match_conditions.as_ref().unwrap();
    conditions
        .iter()
        .map(|condition| condition.name.as_str())
        .collect()
}

#[test]
fn nobody_is_asked_unless_a_pool_could_give_a_number() {
    let everybody = Admission::default;
    let broken = PoolRecord {
        pool: Err(Rejection::invalid("no")),
        ..record("a", Use::NodePort, true, everybody())
    };
    let outside = record("b", Use::LoadBalancer, true, everybody());
    assert_eq!(entries(&[]), []);
    assert_eq!(entries(&[broken, outside]), []);
    let ports = record("c", Use::NodePort, false, everybody());
    let [only] = &entries(std::slice::from_ref(&ports))[..] else {
        unreachable!()
    };
    assert_eq!(only.failure_policy.as_deref(), Some("Ignore"));
    assert_eq!(
        condition_names(only),
        [
            "not-by-portolan",
            "spec-differs",
            "not-being-deleted",
            "with-node-ports"
        ]
    );
    let inside = record("d", Use::ClusterIp, false, everybody());
    let both = entries(&[ports, inside]);
    assert_eq!(
        condition_names(&both[0]),
        [
            "not-by-portolan",
            "spec-differs",
            "not-being-deleted",
            "not-an-alias",
            "not-headless"
        ]
    );
}

/// Where nobody answers, what a policy does not allow could otherwise never be changed.
#[test]
fn what_portolan_itself_writes_is_not_asked_about() {
    for entry in entries(&[record("c", Use::NodePort, true, Admission::default())]) {
        let conditions = entry.match_conditions.unwrap();
        assert_eq!(
            conditions[0].expression,
            "!request.userInfo.username.startsWith('system:serviceaccount:portolan-system:')"
        );
    }
}

#[test]
fn what_is_as_it_should_be_is_not_written_and_nothing_of_somebody_elses_is() {
    let asked = asked(&[record("c", Use::NodePort, true, Admission::default())]);
    let next = |found: Option<&MutatingWebhookConfiguration>, asked: &Asked| {
        step(found, asked, &terms(), &bundle())
    };
    let empty = configuration(None);
    let Step::Write(patch) = next(Some(&empty), &asked) else {
        unreachable!()
    };
    assert_eq!(patch["metadata"], json!({"resourceVersion": "7"}));
    let webhooks: Vec<MutatingWebhook> = serde_json::from_value(patch["webhooks"].clone()).unwrap();
    let full = configuration(Some(webhooks));
    assert_eq!(next(Some(&full), &asked), Step::Nothing);
    assert!(trusts(Some(&full), b"authorities"));
    assert!(!trusts(Some(&full), b"others"));
    assert!(
        trusts(Some(&empty), b"others"),
        "nobody is asked, so nobody waits"
    );

    let nobody = Asked::default();
    for empty in [empty, configuration(Some(Vec::new()))] {
        assert_eq!(next(Some(&empty), &nobody), Step::Nothing);
    }
    assert!(
        matches!(next(Some(&full), &nobody), Step::Write(patch) if patch["webhooks"] == json!([]))
    );
    assert_eq!(next(None, &asked), Step::Missing);
    let mut foreign = full;
    foreign.metadata.labels = None;
    assert_eq!(next(Some(&foreign), &nobody), Step::Foreign);
}

#[test]
fn who_injects_the_bundle_is_not_written_over_and_new_entries_have_it_at_once() {
    let one = record("a", Use::NodePort, false, Admission::default());
    let two = record("b", Use::NodePort, true, Admission::default());
    let read = Bundle::Injected(b"read".as_slice().into());
    let write = |found: &MutatingWebhookConfiguration, asked: &Asked| match step(
        Some(found),
        asked,
        &terms(),
        &read,
    ) {
        Step::Write(patch) => serde_json::from_value(patch["webhooks"].clone()).unwrap(),
        Step::Nothing | Step::Missing | Step::Foreign => Vec::<MutatingWebhook>::new(),
    };
    let of = |entries: &[MutatingWebhook]| -> Vec<Vec<u8>> {
        let bundles = entries
            .iter()
            .map(|entry| entry.client_config.ca_bundle.clone());
        bundles.map(|bundle| bundle.unwrap().0).collect()
    };
    let first = write(&configuration(None), &asked(std::slice::from_ref(&one)));
    assert_eq!(of(&first), [b"read"]);
    let mut found = configuration(Some(first));
    let entry = found.webhooks.as_mut().unwrap().first_mut().unwrap();
    entry.client_config.ca_bundle = Some(ByteString(b"injected".to_vec()));
    assert_eq!(write(&found, &asked(std::slice::from_ref(&one))), []);
    assert_eq!(
        of(&write(&found, &asked(&[one, two]))),
        [b"injected", b"injected"]
    );
}

#[test]
fn a_pool_with_the_longest_name_has_an_entry_of_its_own() {
    let long = |end: &str| format!("{}.{end}", "a".repeat(249));
    let pools = [long("b"), long("c")].map(|name| {
        let both = Admission {
            namespaces: Some(["x".to_owned()].into()),
            namespace_selector: Some(Selector::default()),
            service_selector: None,
        };
        record(&name, Use::ClusterIp, true, both)
    });
    let names: std::collections::BTreeSet<String> = entries(&pools)
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names.len(), 5);
    assert!(names.iter().all(|name| name.len() <= 253), "{names:?}");
}

#[test]
fn it_is_found_by_name_or_by_address() {
    assert_eq!(
        terms().target.host(),
        "portolan-webhook.portolan-system.svc"
    );
    for (url, host) in [
        ("https://192.0.2.1:9443", "192.0.2.1"),
        ("https://[2001:db8::1]:9443", "2001:db8::1"),
        ("https://hook.example.com", "hook.example.com"),
    ] {
        assert_eq!(Target::Url(url.to_owned()).host(), host);
    }
}

/// As Kubernetes judges a selector: all of it must hold.
fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let requirements = selector.and_then(|selector| selector.match_expressions.as_deref());
    requirements.unwrap_or_default().iter().all(|requirement| {
        let value = labels.get(&requirement.key);
        let values = requirement.values.as_deref().unwrap_or_default();
        let listed = value.is_some_and(|value| values.contains(value));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => unreachable!("{other}"),
        }
    })
}

/// What the API server refuses a configuration for.
fn is_sound(selector: Option<&LabelSelector>) -> bool {
    let requirements = selector.and_then(|selector| selector.match_expressions.as_deref());
    requirements.unwrap_or_default().iter().all(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        let compares = ["In", "NotIn"].contains(&requirement.operator.as_str());
        !requirement.key.contains("not")
            && !values.contains(&"not one".to_owned())
            && compares != values.is_empty()
    })
}

fn labels() -> impl Generator<Value = Labels> {
    let values = subsequence(vec!["a", "b"], 0..=2);
    (values.clone(), values).prop_map(|(keys, values)| {
        let pairs = keys.iter().zip(values.iter().chain(["c"].iter().cycle()));
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    })
}

fn a_selector() -> impl Generator<Value = Selector> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist)
    ];
    // Some of which no label can have.
    let values = subsequence(vec!["a", "b", "c", "not one"], 1..=2);
    let requirement =
        ("[ab]|not/a/key", operator, values).prop_map(|(key, operator, values)| Requirement {
            key,
            operator,
            values: values.into_iter().map(str::to_owned).collect(),
        });
    prop::collection::vec(requirement, 0..3).prop_map(|requirements| Selector { requirements })
}

proptest! {
    /// G8: what must not pass is exactly what the pool binds, and never a Service of kube-system or
    /// of Portolan's own namespace.
    #[test]
    fn entries_that_let_nothing_pass_select_exactly_whom_the_pool_admits(
        namespaces in prop::option::of(subsequence(vec!["shop", "kube-system", "portolan-system"], 0..=3)),
        namespace_selector in prop::option::of(a_selector()),
        service_selector in prop::option::of(a_selector()),
        namespace in prop::sample::select(vec!["shop", "bank", "kube-system", "portolan-system"]),
        namespace_labels in labels(),
        service_labels in labels(),
    ) {
        let admission = Admission {
            namespaces: namespaces.map(|names| names.into_iter().map(str::to_owned).collect()),
            namespace_selector,
            service_selector,
        };
        let exempt = terms().exempt.iter().any(|exempt| exempt == namespace);
        let bound = !exempt && admission.admits(namespace, &namespace_labels, &service_labels);
        let mut all = namespace_labels;
        all.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
        let entries = entries(&[record("team", Use::NodePort, true, admission)]);
        for entry in &entries {
            prop_assert!(is_sound(entry.namespace_selector.as_ref()));
            prop_assert!(is_sound(entry.object_selector.as_ref()));
        }
        let asks = |entry: &&MutatingWebhook| {
            selects(entry.namespace_selector.as_ref(), &all)
                && selects(entry.object_selector.as_ref(), &service_labels)
        };
        let (fail, ignore): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| entry.failure_policy.as_deref() == Some("Fail"));
        prop_assert_eq!(fail.into_iter().any(|entry| asks(&entry)), bound);
        prop_assert_eq!(ignore.into_iter().any(|entry| asks(&entry)), !exempt);
    }
}
