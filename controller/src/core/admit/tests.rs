#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use serde_json::json;

use super::*;

fn read(object: Value, old: Value) -> Result<Review, Rejection> {
    let request = json!({
        "uid": "call", "name": "", "namespace": "default", "operation": "CREATE",
        "kind": {"group": "", "version": "v1", "kind": "Service"},
        "resource": {"group": "", "version": "v1", "resource": "services"},
        "userInfo": {}, "object": object, "oldObject": old, "dryRun": true,
    });
    review(7, &serde_json::from_value(request).unwrap())
}

fn named(metadata: Value) -> Value {
    json!({"metadata": metadata, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
}

#[test]
fn an_object_that_is_being_created_is_read_without_name_uid_and_version() {
    let key = |metadata| {
        let review = read(named(metadata), Value::Null).unwrap();
        assert_eq!(
            (review.id, &*review.call, review.dry_run),
            (7, "call", true)
        );
        assert_eq!(review.object.uid.as_str(), "call");
        assert_eq!(review.old, None);
        review.object.key.to_string()
    };
    assert_eq!(key(json!({"name": "web"})), "default/web");
    assert_eq!(
        key(json!({"name": "web", "namespace": "other"})),
        "other/web"
    );
    assert_eq!(key(json!({"generateName": "web-"})), "default/web-*call");
    assert_eq!(
        key(json!({"name": "", "generateName": "web-"})),
        "default/web-*call"
    );
}

#[test]
fn one_that_changes_has_the_identity_of_what_is_stored() {
    let stored =
        named(json!({"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "5"}));
    // An update without preconditions names neither.
    let review = read(named(json!({"name": "web"})), stored).unwrap();
    let object = &review.object;
    assert_eq!((object.uid.as_str(), &*object.version), ("u", "5"));
    assert_eq!(review.old.unwrap().uid, object.uid);
}

#[test]
fn what_cannot_be_told_apart_from_others_is_not_judged() {
    assert!(read(Value::Null, Value::Null).is_err());
    assert!(read(named(json!({})), Value::Null).is_err());
    assert!(read(named(json!({"generateName": ""})), Value::Null).is_err());
}

#[test]
fn names_that_kubernetes_refuses_afterwards_never_become_words_of_the_ledger() {
    let long = "a".repeat(64);
    for name in [
        "a b", "a/b", "a*b", "a\nb", "-a", "a-", "A", "\u{e4}", &long,
    ] {
        let named = named(json!({"name": name}));
        assert!(read(named, Value::Null).is_err(), "{name}");
    }
    for prefix in ["a b-", "a/", "a*", "a\n", "-a", "A", " "] {
        let named = named(json!({"generateName": prefix}));
        assert!(read(named, Value::Null).is_err(), "{prefix}");
    }
    for namespace in ["a b", "a/b", "A"] {
        let named = named(json!({"name": "web", "namespace": namespace}));
        assert!(read(named, Value::Null).is_err(), "{namespace}");
    }
    // What is longer than the API server uses is left out.
    let review = read(named(json!({"generateName": long})), Value::Null).unwrap();
    let name = format!("{}*call", "a".repeat(58));
    assert_eq!(*review.object.key.name, *name);
}

#[test]
fn what_is_kept_for_a_name_to_be_made_is_for_every_name_made_of_it() {
    let owner = ServiceKey::new("default", "web-*call");
    for (namespace, name, is) in [
        ("default", "web-x7k2p", true),
        ("default", "web-*other", true),
        ("other", "web-x7k2p", false),
        ("default", "web", false),
        ("default", "api-x7k2p", false),
    ] {
        assert_eq!(
            is_kept_for(&owner, &ServiceKey::new(namespace, name)),
            is,
            "{namespace}/{name}"
        );
    }
    let web = ServiceKey::new("default", "web");
    assert!(is_kept_for(&web, &web));
    assert!(!is_kept_for(&web, &ServiceKey::new("default", "web-1")));
    assert_eq!(name(&web), "Service default/web");
    assert_eq!(
        name(&owner),
        "a Service default/web-\u{2026} that is being created"
    );
}
