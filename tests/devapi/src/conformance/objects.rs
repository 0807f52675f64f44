//! Create, get, update, delete, list: what holds for every kind.

use http::Method;
use serde_json::{Value, json};

use super::probe::{JSON, Probe, at, ensure, http_port, same, service, set, unique, version};
use super::{Outcome, list};

list![
    a_new_object_gets_uid_time_and_version,
    a_taken_name_is_refused,
    an_object_in_a_missing_namespace_is_refused,
    a_missing_object_is_not_found,
    generate_name_draws_a_name,
    a_bad_name_is_refused_in_kubernetes_words,
    an_update_with_an_old_version_conflicts,
    an_update_without_a_version_is_unconditional_for_services,
    an_update_that_changes_nothing_keeps_the_version,
    an_update_with_the_uid_of_a_deleted_object_conflicts,
    system_metadata_cannot_be_changed_by_an_update,
    dry_run_changes_nothing,
    a_finalizer_holds_a_deleted_object,
    no_finalizer_may_be_added_while_deleting,
    delete_preconditions_are_checked,
    delete_collection_deletes_what_the_selector_matches,
    label_selectors_narrow_a_list,
    field_selectors_narrow_a_list,
    an_unknown_field_selector_is_refused,
    chunks_of_a_list_show_one_version,
    strict_validation_refuses_unknown_fields,
    unknown_fields_are_dropped,
    a_wrong_type_is_a_bad_request,
    an_event_shows_in_both_groups,
    events_are_found_by_involved_object,
    a_lease_needs_a_version_for_an_update,
    an_unknown_resource_is_not_found,
    deleting_a_namespace_deletes_what_is_in_it,
    tables_have_the_columns_of_services,
    discovery_lists_short_names,
];

async fn a_new_object_gets_uid_time_and_version(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    for pointer in [
        "/metadata/uid",
        "/metadata/creationTimestamp",
        "/metadata/resourceVersion",
    ] {
        ensure(
            at(&made, pointer).is_string(),
            format!("{pointer} is missing in {made}"),
        )?;
    }
    same(&made, "/metadata/namespace", p.namespace.as_str())
}

async fn a_taken_name_is_refused(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let body = service("a", json!({"ports": http_port()}));
    let refusal = p.refused(Method::POST, &p.services(""), JSON, body).await?;
    refusal.says(409, "AlreadyExists", "services \"a\" already exists")
}

async fn an_object_in_a_missing_namespace_is_refused(p: &Probe<'_>) -> Outcome {
    let missing = unique("missing");
    let path = format!("/api/v1/namespaces/{missing}/services");
    let body = service("a", json!({"ports": http_port()}));
    let refusal = p.refused(Method::POST, &path, JSON, body).await?;
    refusal.says(
        404,
        "NotFound",
        &format!("namespaces \"{missing}\" not found"),
    )
}

async fn a_missing_object_is_not_found(p: &Probe<'_>) -> Outcome {
    for method in [Method::GET, Method::DELETE] {
        let refusal = p
            .refused(method, &p.services("/none"), JSON, Value::Null)
            .await?;
        refusal.says(404, "NotFound", "services \"none\" not found")?;
    }
    Ok(())
}

async fn generate_name_draws_a_name(p: &Probe<'_>) -> Outcome {
    let body = json!({"metadata": {"generateName": "some-"}, "spec": {"ports": http_port()}});
    let first = p.post(&p.services(""), body.clone()).await?;
    let second = p.post(&p.services(""), body).await?;
    let name = at(&first, "/metadata/name").as_str().unwrap_or_default();
    ensure(
        name.starts_with("some-") && name.len() == 10,
        format!("unexpected name {name}"),
    )?;
    ensure(
        at(&first, "/metadata/name") != at(&second, "/metadata/name"),
        "the same name was drawn twice",
    )
}

async fn a_bad_name_is_refused_in_kubernetes_words(p: &Probe<'_>) -> Outcome {
    let body = service("Not_Good", json!({"ports": http_port()}));
    let refusal = p.refused(Method::POST, &p.services(""), JSON, body).await?;
    refusal.says(
        422,
        "Invalid",
        "Service \"Not_Good\" is invalid: metadata.name: Invalid value: \"Not_Good\": a",
    )
}

async fn an_update_with_an_old_version_conflicts(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    p.merge(
        &p.services("/a"),
        json!({"metadata": {"labels": {"x": "1"}}}),
    )
    .await?;
    let refusal = p.refused(Method::PUT, &p.services("/a"), JSON, old).await?;
    let words = "Operation cannot be fulfilled on services \"a\": the object has been modified; please apply your changes to the latest version and try again";
    refusal.says(409, "Conflict", words)
}

async fn an_update_without_a_version_is_unconditional_for_services(p: &Probe<'_>) -> Outcome {
    let mut object = p.service("a", json!({"ports": http_port()})).await?;
    set(&mut object, &["metadata", "resourceVersion"], Value::Null);
    set(&mut object, &["metadata", "labels"], json!({"x": "1"}));
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/metadata/labels/x", "1")
}

async fn an_update_that_changes_nothing_keeps_the_version(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    let new = p.put(&p.services("/a"), &old).await?;
    same(&new, "/metadata/resourceVersion", version(&old))?;
    let patched = p
        .merge(&p.services("/a"), json!({"spec": {"type": "ClusterIP"}}))
        .await?;
    same(&patched, "/metadata/resourceVersion", version(&old))
}

async fn an_update_with_the_uid_of_a_deleted_object_conflicts(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    p.delete(&p.services("/a")).await?;
    let refusal = p
        .refused(Method::PUT, &p.services("/a"), JSON, old.clone())
        .await?;
    refusal.says(409, "Conflict", "Precondition failed: UID in precondition")?;
    p.service("a", json!({"ports": http_port()})).await?;
    let refusal = p.refused(Method::PUT, &p.services("/a"), JSON, old).await?;
    refusal.says(409, "Conflict", "Precondition failed: UID in precondition")
}

async fn system_metadata_cannot_be_changed_by_an_update(p: &Probe<'_>) -> Outcome {
    let old = p.service("a", json!({"ports": http_port()})).await?;
    let mut object = old.clone();
    set(&mut object, &["metadata", "uid"], Value::Null);
    set(&mut object, &["metadata", "creationTimestamp"], Value::Null);
    set(&mut object, &["metadata", "labels"], json!({"x": "1"}));
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/metadata/uid", at(&old, "/metadata/uid").clone())?;
    same(
        &new,
        "/metadata/creationTimestamp",
        at(&old, "/metadata/creationTimestamp").clone(),
    )
}

async fn dry_run_changes_nothing(p: &Probe<'_>) -> Outcome {
    let body = service("a", json!({"ports": http_port()}));
    p.post(&p.services("?dryRun=All"), body).await?;
    p.refused(Method::GET, &p.services("/a"), JSON, Value::Null)
        .await?
        .says(404, "NotFound", "")?;
    let made = p.service("a", json!({"ports": http_port()})).await?;
    let shown = p
        .merge(
            &p.services("/a?dryRun=All"),
            json!({"metadata": {"labels": {"x": "1"}}}),
        )
        .await?;
    same(&shown, "/metadata/labels/x", "1")?;
    p.delete(&p.services("/a?dryRun=All")).await?;
    let now = p.get(&p.services("/a")).await?;
    same(&now, "/metadata/resourceVersion", version(&made))
}

async fn a_finalizer_holds_a_deleted_object(p: &Probe<'_>) -> Outcome {
    let mut body = service("a", json!({"ports": http_port()}));
    set(
        &mut body,
        &["metadata", "finalizers"],
        json!(["example.com/hold"]),
    );
    p.post(&p.services(""), body).await?;
    p.delete(&p.services("/a")).await?;
    let held = p.get(&p.services("/a")).await?;
    ensure(
        at(&held, "/metadata/deletionTimestamp").is_string(),
        "no deletionTimestamp",
    )?;
    // A second deletion changes nothing.
    p.delete(&p.services("/a")).await?;
    same(
        &p.get(&p.services("/a")).await?,
        "/metadata/resourceVersion",
        version(&held),
    )?;
    p.merge(&p.services("/a"), json!({"metadata": {"finalizers": null}}))
        .await?;
    p.refused(Method::GET, &p.services("/a"), JSON, Value::Null)
        .await?
        .says(404, "NotFound", "")
}

async fn no_finalizer_may_be_added_while_deleting(p: &Probe<'_>) -> Outcome {
    let mut body = service("a", json!({"ports": http_port()}));
    set(
        &mut body,
        &["metadata", "finalizers"],
        json!(["example.com/hold"]),
    );
    p.post(&p.services(""), body).await?;
    p.delete(&p.services("/a")).await?;
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let refusal = p
        .refused(Method::PATCH, &p.services("/a"), super::probe::MERGE, more)
        .await?;
    let outcome = refusal.says(
        422,
        "Invalid",
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
    );
    p.merge(&p.services("/a"), json!({"metadata": {"finalizers": null}}))
        .await?;
    outcome
}

async fn delete_preconditions_are_checked(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    let options = |preconditions: Value| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
    let wrong = options(json!({"uid": "11111111-1111-4111-8111-111111111111"}));
    let refusal = p
        .refused(Method::DELETE, &p.services("/a"), JSON, wrong)
        .await?;
    refusal.says(409, "Conflict", "does not match the UID in record")?;
    let wrong = options(json!({"resourceVersion": "1"}));
    let refusal = p
        .refused(Method::DELETE, &p.services("/a"), JSON, wrong)
        .await?;
    refusal.says(
        409,
        "Conflict",
        "does not match the ResourceVersion in record",
    )?;
    let right =
        options(json!({"uid": at(&made, "/metadata/uid"), "resourceVersion": version(&made)}));
    p.send(Method::DELETE, &p.services("/a"), JSON, right.to_string())
        .await?;
    Ok(())
}

async fn three(p: &Probe<'_>) -> Outcome {
    for (name, tier) in [("a", "front"), ("b", "front"), ("c", "back")] {
        let mut body = service(name, json!({"ports": http_port()}));
        set(
            &mut body,
            &["metadata", "labels"],
            json!({"tier": tier, name: "yes"}),
        );
        p.post(&p.services(""), body).await?;
    }
    Ok(())
}

async fn names(p: &Probe<'_>, query: &str) -> Result<String, super::Failed> {
    let list = p.get(&p.services(query)).await?;
    let items = at(&list, "/items").as_array().cloned().unwrap_or_default();
    Ok(items
        .iter()
        .filter_map(|i| at(i, "/metadata/name").as_str())
        .collect::<Vec<_>>()
        .join(","))
}

async fn expect_names(p: &Probe<'_>, rows: &[(&str, &str)]) -> Outcome {
    for (query, expected) in rows {
        let seen = names(p, query).await?;
        ensure(
            seen == *expected,
            format!("{query}: expected {expected}, got {seen}"),
        )?;
    }
    Ok(())
}

async fn delete_collection_deletes_what_the_selector_matches(p: &Probe<'_>) -> Outcome {
    three(p).await?;
    p.delete(&p.services("?labelSelector=tier%3Dfront")).await?;
    expect_names(p, &[("", "c")]).await
}

async fn label_selectors_narrow_a_list(p: &Probe<'_>) -> Outcome {
    three(p).await?;
    let rows = [
        ("?labelSelector=tier%3Dfront", "a,b"),
        ("?labelSelector=tier%3D%3Dfront,a", "a"),
        ("?labelSelector=tier!%3Dfront", "c"),
        ("?labelSelector=tier%20in%20(front,back),!b", "a,c"),
        ("?labelSelector=tier%20notin%20(front)", "c"),
        ("?labelSelector=nothing", ""),
    ];
    expect_names(p, &rows).await
}

async fn field_selectors_narrow_a_list(p: &Probe<'_>) -> Outcome {
    three(p).await?;
    let rows = [
        ("?fieldSelector=metadata.name%3Db", "b"),
        ("?fieldSelector=metadata.name!%3Db", "a,c"),
    ];
    expect_names(p, &rows).await
}

async fn an_unknown_field_selector_is_refused(p: &Probe<'_>) -> Outcome {
    let path = p.services("?fieldSelector=spec.nonsense%3Da");
    let refusal = p.refused(Method::GET, &path, JSON, Value::Null).await?;
    refusal.says(
        400,
        "BadRequest",
        "field label not supported: spec.nonsense",
    )
}

async fn chunks_of_a_list_show_one_version(p: &Probe<'_>) -> Outcome {
    three(p).await?;
    let first = p.get(&p.services("?limit=2")).await?;
    same(&first, "/metadata/remainingItemCount", 1)?;
    let token = at(&first, "/metadata/continue")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure(!token.is_empty(), "no continue token")?;
    // What happens after the first chunk is not seen in the second.
    p.delete(&p.services("/c")).await?;
    p.service("d", json!({"ports": http_port()})).await?;
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", "2")
        .append_pair("continue", &token)
        .finish();
    let second = p.get(&p.services(&format!("?{query}"))).await?;
    same(&second, "/items/0/metadata/name", "c")?;
    same(&second, "/items/1", Value::Null)?;
    same(&second, "/metadata/resourceVersion", version(&first))?;
    same(&second, "/metadata/continue", Value::Null)
}

async fn strict_validation_refuses_unknown_fields(p: &Probe<'_>) -> Outcome {
    let body = service("a", json!({"ports": http_port(), "nonsense": 1}));
    let refusal = p
        .refused(
            Method::POST,
            &p.services("?fieldValidation=Strict"),
            JSON,
            body,
        )
        .await?;
    refusal.says(
        400,
        "BadRequest",
        "strict decoding error: unknown field \"spec.nonsense\"",
    )
}

async fn unknown_fields_are_dropped(p: &Probe<'_>) -> Outcome {
    let made = p
        .service("a", json!({"ports": http_port(), "nonsense": 1}))
        .await?;
    same(&made, "/spec/nonsense", Value::Null)
}

async fn a_wrong_type_is_a_bad_request(p: &Probe<'_>) -> Outcome {
    let body = service("a", json!({"ports": "eighty"}));
    let refusal = p.refused(Method::POST, &p.services(""), JSON, body).await?;
    refusal.says(
        400,
        "BadRequest",
        "Service in version \"v1\" cannot be handled as a Service",
    )
}

fn event(p: &Probe<'_>) -> Value {
    json!({
        "metadata": {"name": "started", "namespace": p.namespace}, "eventTime": "2026-01-02T03:04:05.000006Z",
        "regarding": {"kind": "Service", "apiVersion": "v1", "name": "a", "namespace": p.namespace},
        "reason": "Waiting", "action": "Allocate", "note": "no address is free", "type": "Warning",
        "reportingController": "portolan.dev/controller", "reportingInstance": "one",
    })
}

async fn an_event_shows_in_both_groups(p: &Probe<'_>) -> Outcome {
    let made = p
        .post(
            &format!("/apis/events.k8s.io/v1/namespaces/{}/events", p.namespace),
            event(p),
        )
        .await?;
    same(&made, "/note", "no address is free")?;
    same(&made, "/apiVersion", "events.k8s.io/v1")?;
    let core = p
        .get(&format!(
            "/api/v1/namespaces/{}/events/started",
            p.namespace
        ))
        .await?;
    same(&core, "/apiVersion", "v1")?;
    same(&core, "/message", "no address is free")?;
    same(&core, "/involvedObject/name", "a")?;
    same(&core, "/reportingComponent", "portolan.dev/controller")?;
    same(&core, "/metadata/uid", at(&made, "/metadata/uid").clone())
}

async fn events_are_found_by_involved_object(p: &Probe<'_>) -> Outcome {
    p.post(
        &format!("/apis/events.k8s.io/v1/namespaces/{}/events", p.namespace),
        event(p),
    )
    .await?;
    let query = |name: &str| {
        format!(
            "/api/v1/namespaces/{}/events?fieldSelector=involvedObject.name%3D{name},involvedObject.kind%3DService",
            p.namespace
        )
    };
    same(
        &p.get(&query("a")).await?,
        "/items/0/metadata/name",
        "started",
    )?;
    same(&p.get(&query("b")).await?, "/items/0", Value::Null)
}

async fn a_lease_needs_a_version_for_an_update(p: &Probe<'_>) -> Outcome {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
        p.namespace
    );
    let spec = json!({"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.000006Z"});
    let mut lease = p
        .post(&path, json!({"metadata": {"name": "lead"}, "spec": spec}))
        .await?;
    same(&lease, "/spec/renewTime", "2026-01-02T03:04:05.000006Z")?;
    set(&mut lease, &["spec", "holderIdentity"], "two");
    let path = format!("{path}/lead");
    let newer = p.put(&path, &lease).await?;
    same(&newer, "/spec/holderIdentity", "two")?;
    p.refused(Method::PUT, &path, JSON, lease.clone())
        .await?
        .says(409, "Conflict", "the object has been modified")?;
    set(&mut lease, &["metadata", "resourceVersion"], Value::Null);
    let refusal = p.refused(Method::PUT, &path, JSON, lease).await?;
    refusal.says(422, "Invalid", "must be specified for an update")
}

async fn an_unknown_resource_is_not_found(p: &Probe<'_>) -> Outcome {
    let path = format!("/api/v1/namespaces/{}/nonsenses", p.namespace);
    let refusal = p.refused(Method::GET, &path, JSON, Value::Null).await?;
    refusal.says(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

async fn deleting_a_namespace_deletes_what_is_in_it(p: &Probe<'_>) -> Outcome {
    let name = unique("doomed");
    p.post("/api/v1/namespaces", json!({"metadata": {"name": name}}))
        .await?;
    let services = format!("/api/v1/namespaces/{name}/services");
    let mut body = service("a", json!({"ports": http_port()}));
    set(
        &mut body,
        &["metadata", "finalizers"],
        json!(["example.com/hold"]),
    );
    p.post(&services, body).await?;
    p.delete(&format!("/api/v1/namespaces/{name}")).await?;
    let refusal = p
        .refused(
            Method::POST,
            &services,
            JSON,
            service("b", json!({"ports": http_port()})),
        )
        .await?;
    refusal.says(403, "Forbidden", "because it is being terminated")?;
    p.merge(
        &format!("{services}/a"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await?;
    Ok(())
}

async fn tables_have_the_columns_of_services(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port(), "clusterIP": "None"}))
        .await?;
    let table = p
        .get_as(
            &p.services(""),
            "application/json;as=Table;g=meta.k8s.io;v=v1",
        )
        .await?;
    same(&table, "/kind", "Table")?;
    let columns = at(&table, "/columnDefinitions")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<&str> = columns
        .iter()
        .filter_map(|c| at(c, "/name").as_str())
        .collect();
    let expected = [
        "Name",
        "Type",
        "Cluster-IP",
        "External-IP",
        "Port(s)",
        "Age",
        "Selector",
    ];
    ensure(names == expected, format!("columns are {names:?}"))?;
    let cells = at(&table, "/rows/0/cells")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let cells: Vec<&str> = cells.iter().filter_map(Value::as_str).take(5).collect();
    ensure(
        cells == ["a", "ClusterIP", "None", "<none>", "80/TCP"],
        format!("cells are {cells:?}"),
    )
}

async fn discovery_lists_short_names(p: &Probe<'_>) -> Outcome {
    let list = p.get("/api/v1").await?;
    let resources = at(&list, "/resources")
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (name, short) in [
        ("services", "svc"),
        ("nodes", "no"),
        ("namespaces", "ns"),
        ("events", "ev"),
    ] {
        let found = resources
            .iter()
            .find(|r| at(r, "/name") == name)
            .cloned()
            .unwrap_or_default();
        same(&found, "/shortNames/0", short)?;
    }
    Ok(())
}
