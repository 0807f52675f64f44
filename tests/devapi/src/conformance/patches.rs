//! The four patch formats.

use http::Method;
use serde_json::{Value, json};

use super::probe::{
    APPLY, JSON_PATCH, MERGE, Probe, STRATEGIC, at, ensure, http_port, same, service, set, version,
};
use super::{Outcome, list};

list![
    a_merge_patch_sets_and_removes,
    a_patch_with_another_version_conflicts,
    a_json_patch_that_replaces_the_version_conflicts,
    a_patch_with_the_right_version_is_performed,
    a_failed_json_patch_test_is_unprocessable,
    a_json_patch_is_applied_whole_or_not_at_all,
    a_patch_of_a_missing_object_is_not_found,
    an_unknown_patch_format_is_refused,
    strategic_merge_knows_ports_by_port,
    strategic_merge_adds_finalizers_as_a_set,
    strategic_merge_knows_conditions_by_type,
    strategic_merge_deletes_by_directive,
    apply_creates_what_is_absent,
    apply_merges_ports_by_port_and_protocol,
    apply_twice_changes_nothing,
];

async fn send(p: &Probe<'_>, kind: &str, body: Value) -> Result<Value, super::Failed> {
    Ok(
        p.send(Method::PATCH, &p.services("/a"), kind, body.to_string())
            .await?,
    )
}

async fn a_merge_patch_sets_and_removes(p: &Probe<'_>) -> Outcome {
    let mut body = service("a", json!({"ports": http_port()}));
    set(
        &mut body,
        &["metadata", "labels"],
        json!({"x": "1", "y": "2"}),
    );
    p.post(&p.services(""), body).await?;
    let new = send(
        p,
        MERGE,
        json!({"metadata": {"labels": {"x": null, "z": "3"}}}),
    )
    .await?;
    same(&new, "/metadata/labels", json!({"y": "2", "z": "3"}))
}

async fn a_patch_with_another_version_conflicts(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    p.merge(
        &p.services("/a"),
        json!({"metadata": {"labels": {"x": "1"}}}),
    )
    .await?;
    let patch = json!({"metadata": {"resourceVersion": version(&old), "labels": {"x": "2"}}});
    for kind in [MERGE, STRATEGIC] {
        let refusal = p
            .refused(Method::PATCH, &p.services("/a"), kind, patch.clone())
            .await?;
        refusal.says(409, "Conflict", "the object has been modified")?;
    }
    Ok(())
}

async fn a_json_patch_that_replaces_the_version_conflicts(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    p.merge(
        &p.services("/a"),
        json!({"metadata": {"labels": {"x": "1"}}}),
    )
    .await?;
    let patch = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&old)},
        {"op": "add", "path": "/metadata/labels/x", "value": "2"},
    ]);
    let refusal = p
        .refused(Method::PATCH, &p.services("/a"), JSON_PATCH, patch)
        .await?;
    refusal.says(409, "Conflict", "the object has been modified")
}

async fn a_patch_with_the_right_version_is_performed(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    let patch = json!({"metadata": {"resourceVersion": version(&old), "labels": {"x": "2"}}});
    let new = send(p, MERGE, patch).await?;
    same(&new, "/metadata/labels/x", "2")?;
    ensure(version(&new) != version(&old), "the version did not change")
}

async fn a_failed_json_patch_test_is_unprocessable(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let patch = json!([{"op": "test", "path": "/spec/type", "value": "NodePort"}]);
    let refusal = p
        .refused(Method::PATCH, &p.services("/a"), JSON_PATCH, patch)
        .await?;
    refusal.says(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    )
}

async fn a_json_patch_is_applied_whole_or_not_at_all(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    let patch = json!([
        {"op": "add", "path": "/metadata/labels", "value": {"x": "1"}},
        {"op": "remove", "path": "/spec/nothing"},
    ]);
    p.refused(Method::PATCH, &p.services("/a"), JSON_PATCH, patch)
        .await?
        .says(422, "Invalid", "")?;
    same(
        &p.get(&p.services("/a")).await?,
        "/metadata/resourceVersion",
        version(&old),
    )
}

async fn a_patch_of_a_missing_object_is_not_found(p: &Probe<'_>) -> Outcome {
    let refusal = p
        .refused(Method::PATCH, &p.services("/a"), MERGE, json!({"spec": {}}))
        .await?;
    refusal.says(404, "NotFound", "services \"a\" not found")
}

async fn an_unknown_patch_format_is_refused(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let refusal = p
        .refused(
            Method::PATCH,
            &p.services("/a"),
            "application/json",
            json!({}),
        )
        .await?;
    refusal.says(415, "UnsupportedMediaType", "415: Unsupported Media Type")
}

async fn strategic_merge_knows_ports_by_port(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    p.service("a", json!({"ports": ports})).await?;
    let new = send(
        p,
        STRATEGIC,
        json!({"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}),
    )
    .await?;
    same(&new, "/spec/ports/0/targetPort", 80)?;
    same(&new, "/spec/ports/1/targetPort", 8081)?;
    same(&new, "/spec/ports/1/name", "b")
}

async fn strategic_merge_adds_finalizers_as_a_set(p: &Probe<'_>) -> Outcome {
    let mut body = service("a", json!({"ports": http_port()}));
    set(
        &mut body,
        &["metadata", "finalizers"],
        json!(["example.com/one"]),
    );
    p.post(&p.services(""), body).await?;
    let new = send(
        p,
        STRATEGIC,
        json!({"metadata": {"finalizers": ["example.com/two"]}}),
    )
    .await?;
    let two = at(&new, "/metadata/finalizers")
        .as_array()
        .map_or(0, Vec::len);
    let gone = send(p, STRATEGIC, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/one", "example.com/two"]}})).await?;
    ensure(two == 2, format!("finalizers are {new}"))?;
    same(&gone, "/metadata/finalizers", Value::Null)
}

async fn strategic_merge_knows_conditions_by_type(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let condition = |kind: &str, status: &str| {
        let patch = json!({"status": {"conditions": [{
            "type": kind, "status": status, "reason": "Because", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z",
        }]}});
        patch.to_string()
    };
    for (kind, status) in [
        ("example.com/One", "True"),
        ("example.com/Two", "True"),
        ("example.com/One", "False"),
    ] {
        p.send(
            Method::PATCH,
            &p.services("/a/status"),
            STRATEGIC,
            condition(kind, status),
        )
        .await?;
    }
    let now = p.get(&p.services("/a")).await?;
    let list = at(&now, "/status/conditions")
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure(list.len() == 2, format!("conditions are {list:?}"))?;
    let one = list
        .iter()
        .find(|c| at(c, "/type") == "example.com/One")
        .cloned()
        .unwrap_or_default();
    same(&one, "/status", "False")
}

async fn strategic_merge_deletes_by_directive(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    p.service("a", json!({"ports": ports})).await?;
    let new = send(
        p,
        STRATEGIC,
        json!({"spec": {"ports": [{"port": 80, "$patch": "delete"}]}}),
    )
    .await?;
    same(&new, "/spec/ports/0/name", "b")?;
    same(&new, "/spec/ports/1", Value::Null)
}

async fn apply(p: &Probe<'_>, spec: Value) -> Result<Value, super::Failed> {
    let path = p.services("/a?fieldManager=check&force=true");
    Ok(
        p.send(Method::PATCH, &path, APPLY, service("a", spec).to_string())
            .await?,
    )
}

async fn apply_creates_what_is_absent(p: &Probe<'_>) -> Outcome {
    apply(p, json!({"ports": [{"port": 80, "protocol": "TCP"}]})).await?;
    same(&p.get(&p.services("/a")).await?, "/spec/ports/0/port", 80)
}

async fn apply_merges_ports_by_port_and_protocol(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    p.service("a", json!({"ports": ports})).await?;
    let ports = json!([{"name": "u", "port": 53, "protocol": "UDP", "targetPort": 5353}]);
    let new = apply(p, json!({"ports": ports})).await?;
    same(&new, "/spec/ports/0/targetPort", 53)?;
    same(&new, "/spec/ports/1/targetPort", 5353)
}

async fn apply_twice_changes_nothing(p: &Probe<'_>) -> Outcome {
    let first = apply(p, json!({"ports": [{"port": 80, "protocol": "TCP"}]})).await?;
    let second = apply(p, json!({"ports": [{"port": 80, "protocol": "TCP"}]})).await?;
    same(&second, "/metadata/resourceVersion", version(&first))
}
