//! What objects become.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

use kube::core::ObjectList;
use serde_json::{Value, json};

use super::*;

fn announcement(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "Announcement",
        "metadata": {
            "name": name,
            "resourceVersion": "42",
            "managedFields": [{"manager": "portolan", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": spec,
    })
}

fn spec() -> Value {
    json!({
        "addresses": [
            {"ip": "203.0.113.5", "interfaces": ["eth*"]},
            {"ip": "2001:db8::5"},
        ],
        "pools": ["lan"],
        "services": ["shop/web"],
        "nodes": ["node-1"],
    })
}

fn apply<S: Watched>(object: Value) -> Seen {
    let object = serde_json::from_value::<Lean<S>>(object).unwrap();
    translated(Event::Apply(object), &mut Names::default()).unwrap()
}

#[test]
fn an_announcement_is_told_in_the_cores_words() {
    let seen = apply::<crds::AnnouncementSpec>(announcement("203.0.113.5", &spec()));
    let expected = Announcement {
        addresses: vec![
            speaker_core::Address {
                ip: [203, 0, 113, 5].into(),
                interfaces: Some(vec!["eth*".into()]),
            },
            speaker_core::Address {
                ip: "2001:db8::5".parse().unwrap(),
                interfaces: None,
            },
        ],
        pools: vec!["lan".into()],
        services: vec!["shop/web".into()],
        nodes: Some(vec!["node-1".into()]),
    };
    let expected = Seen::Announcement {
        name: "203.0.113.5".into(),
        version: 42,
        spec: Some(expected),
    };
    assert_eq!(seen, expected);
}

#[test]
fn a_speaker_is_told_with_its_owner() {
    let object = json!({
        "metadata": {
            "name": "node-1",
            "resourceVersion": "7",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u-1"},
            ],
        },
        "spec": {
            "addresses": ["10.0.0.2", "fd00::2"],
            "pools": [{"name": "lan", "weight": 3}],
            "lastChoice": true,
            "excluded": {"reason": "Tainted", "message": "m"},
        },
    });
    let lean = serde_json::from_value::<Lean<crds::SpeakerSpec>>(object.clone()).unwrap();
    assert_eq!(lean.owner().unwrap().uid, "u-1");
    let expected = Seen::Peer {
        node: "node-1".into(),
        version: 7,
        spec: Some(Peer {
            addresses: vec![[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()],
            pools: vec![speaker_core::PoolWeight {
                name: "lan".into(),
                weight: 3,
            }],
            last_choice: true,
            excluded: true,
        }),
    };
    assert_eq!(apply::<crds::SpeakerSpec>(object), expected);
}

#[test]
fn an_object_that_cannot_be_read_counts_as_none_and_the_list_is_read_all_the_same() {
    let wrong = [
        json!({"addresses": "none"}),
        json!({"addresses": [{"ip": "203.0.113.300"}], "pools": [], "services": []}),
        json!(7),
    ];
    for spec in &wrong {
        let seen = apply::<crds::AnnouncementSpec>(announcement("a", spec));
        let none = Seen::Announcement {
            name: "a".into(),
            version: 42,
            spec: None,
        };
        assert_eq!(seen, none, "{spec}");
    }
    let list = json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "AnnouncementList",
        "metadata": {"resourceVersion": "43"},
        "items": [announcement("a", &wrong[0]), announcement("b", &spec())],
    });
    let list: ObjectList<Lean<crds::AnnouncementSpec>> =
        serde_json::from_str(&list.to_string()).unwrap();
    let readable: Vec<bool> = list
        .items
        .iter()
        .map(|object| object.spec.is_ok())
        .collect();
    assert_eq!(readable, [false, true]);
}

#[test]
fn a_deletion_is_told_with_its_version() {
    let object = serde_json::from_value::<Lean<crds::AnnouncementSpec>>(announcement("a", &spec()));
    let seen = translated(Event::Delete(object.unwrap()), &mut Names::default());
    let gone = Seen::Announcement {
        name: "a".into(),
        version: 42,
        spec: None,
    };
    assert_eq!(seen, Some(gone));
}

#[test]
fn names_that_repeat_are_kept_once_and_forgotten_with_their_last_object() {
    let mut names = Names::default();
    let spec: crds::AnnouncementSpec = serde_json::from_value(spec()).unwrap();
    let (one, two) = (
        spec.words(&mut names).unwrap(),
        spec.words(&mut names).unwrap(),
    );
    assert!(Arc::ptr_eq(&one.pools[0], &two.pools[0]));
    drop(one);
    names.forget_unused();
    assert!(Arc::ptr_eq(
        &spec.words(&mut names).unwrap().pools[0],
        &two.pools[0]
    ));
    drop(two);
    names.forget_unused();
    assert_eq!(format!("{names:?}"), "Names({})");
}
