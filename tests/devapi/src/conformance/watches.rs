//! Watches.

use http::Method;
use serde_json::{Value, json};

use super::probe::{JSON, Probe, at, ensure, http_port, same, version};
use super::{Outcome, list};

list![
    a_watch_sees_what_happens_after_its_version,
    a_watch_without_a_version_starts_with_what_is_there,
    a_watch_with_a_selector_sees_objects_come_and_go,
    a_watch_of_one_namespace_sees_no_other,
    a_watch_sees_one_event_per_change_and_none_for_no_change,
    a_deletion_carries_a_version_of_its_own,
    a_streaming_list_ends_with_a_bookmark,
    send_initial_events_needs_not_older_than,
    a_watch_ends_after_its_timeout,
    a_watch_from_before_compaction_is_told_so,
    a_finalized_deletion_is_seen_as_a_change_and_then_a_deletion,
];

async fn label(p: &Probe<'_>, name: &str, labels: Value) -> Result<Value, super::Failed> {
    p.merge(
        &p.services(&format!("/{name}")),
        json!({"metadata": {"labels": labels}}),
    )
    .await
}

async fn now(p: &Probe<'_>) -> Result<String, super::Failed> {
    Ok(version(&p.get(&p.services("")).await?))
}

async fn a_watch_sees_what_happens_after_its_version(p: &Probe<'_>) -> Outcome {
    p.service("before", json!({"ports": http_port()})).await?;
    let from = now(p).await?;
    let mut watch = p
        .watch(&p.services(&format!("?watch=true&resourceVersion={from}")))
        .await?;
    p.service("a", json!({"ports": http_port()})).await?;
    label(p, "a", json!({"x": "1"})).await?;
    p.delete(&p.services("/a")).await?;
    watch.expect("ADDED", "a").await?;
    watch.expect("MODIFIED", "a").await?;
    watch.expect("DELETED", "a").await?;
    Ok(())
}

async fn a_watch_without_a_version_starts_with_what_is_there(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let mut watch = p.watch(&p.services("?watch=true")).await?;
    watch.expect("ADDED", "a").await?;
    p.service("b", json!({"ports": http_port()})).await?;
    watch.expect("ADDED", "b").await?;
    Ok(())
}

async fn a_watch_with_a_selector_sees_objects_come_and_go(p: &Probe<'_>) -> Outcome {
    let from = now(p).await?;
    let query = format!("?watch=true&labelSelector=x&resourceVersion={from}");
    let mut watch = p.watch(&p.services(&query)).await?;
    p.service("a", json!({"ports": http_port()})).await?;
    label(p, "a", json!({"x": "1"})).await?;
    label(p, "a", json!({"x": "2"})).await?;
    let left = label(p, "a", json!({"x": null})).await?;
    watch.expect("ADDED", "a").await?;
    watch.expect("MODIFIED", "a").await?;
    let gone = watch.expect("DELETED", "a").await?;
    same(&gone, "/metadata/resourceVersion", version(&left))
}

async fn a_watch_of_one_namespace_sees_no_other(p: &Probe<'_>) -> Outcome {
    let other = Probe::new(p.cluster).await?;
    let from = now(p).await?;
    let mut watch = p
        .watch(&p.services(&format!("?watch=true&resourceVersion={from}")))
        .await?;
    other
        .service("theirs", json!({"ports": http_port()}))
        .await?;
    p.service("ours", json!({"ports": http_port()})).await?;
    let outcome = watch.expect("ADDED", "ours").await;
    other.clean_up().await;
    outcome.map(|_| ())
}

async fn a_watch_sees_one_event_per_change_and_none_for_no_change(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    let from = now(p).await?;
    let mut watch = p
        .watch(&p.services(&format!("?watch=true&resourceVersion={from}")))
        .await?;
    p.put(&p.services("/a"), &made).await?;
    let changed = label(p, "a", json!({"x": "1"})).await?;
    label(p, "a", json!({"x": "1"})).await?;
    p.service("end", json!({"ports": http_port()})).await?;
    let seen = watch.expect("MODIFIED", "a").await?;
    same(&seen, "/metadata/resourceVersion", version(&changed))?;
    watch.expect("ADDED", "end").await?;
    Ok(())
}

async fn a_deletion_carries_a_version_of_its_own(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    let query = format!("?watch=true&resourceVersion={}", version(&made));
    let mut watch = p.watch(&p.services(&query)).await?;
    p.delete(&p.services("/a")).await?;
    let gone = watch.expect("DELETED", "a").await?;
    let number = |v: &Value| version(v).parse::<u64>().unwrap_or_default();
    ensure(
        number(&gone) > number(&made),
        format!("deleted at {} after {}", version(&gone), version(&made)),
    )
}

async fn a_streaming_list_ends_with_a_bookmark(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let query = "?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = p.watch(&p.services(query)).await?;
    same(&watch.next().await?, "/type", "ADDED")?;
    let end = watch.next().await?;
    same(&end, "/type", "BOOKMARK")?;
    same(
        &end,
        "/object/metadata/annotations/k8s.io~1initial-events-end",
        "true",
    )?;
    ensure(
        at(&end, "/object/metadata/resourceVersion").is_string(),
        "the bookmark has no version",
    )?;
    p.service("b", json!({"ports": http_port()})).await?;
    watch.expect("ADDED", "b").await?;
    Ok(())
}

async fn send_initial_events_needs_not_older_than(p: &Probe<'_>) -> Outcome {
    let path = p.services("?watch=true&allowWatchBookmarks=true&sendInitialEvents=true");
    let refusal = p.refused(Method::GET, &path, JSON, Value::Null).await?;
    refusal.says(
        422,
        "Invalid",
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    )
}

async fn a_watch_ends_after_its_timeout(p: &Probe<'_>) -> Outcome {
    let from = now(p).await?;
    p.watch(&p.services(&format!(
        "?watch=true&timeoutSeconds=1&resourceVersion={from}"
    )))
    .await?
    .ends()
    .await
}

async fn a_watch_from_before_compaction_is_told_so(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    label(p, "a", json!({"x": "1"})).await?;
    if !p.cluster.compact().await {
        return Ok(()); // Nothing can be said about this cluster.
    }
    let query = format!("?watch=true&resourceVersion={}", version(&made));
    let mut watch = p.watch(&p.services(&query)).await?;
    let (kind, status) = watch.change().await?;
    ensure(
        kind == "ERROR",
        format!("expected ERROR, got {kind} of {status}"),
    )?;
    same(&status, "/code", 410)?;
    same(&status, "/reason", "Expired")?;
    let words = at(&status, "/message").as_str().unwrap_or_default();
    ensure(
        words.starts_with("too old resource version"),
        format!("message is {words}"),
    )
}

async fn a_finalized_deletion_is_seen_as_a_change_and_then_a_deletion(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    p.merge(
        &p.services("/a"),
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    )
    .await?;
    let from = now(p).await?;
    let mut watch = p
        .watch(&p.services(&format!("?watch=true&resourceVersion={from}")))
        .await?;
    p.delete(&p.services("/a")).await?;
    let marked = watch.expect("MODIFIED", "a").await?;
    ensure(
        at(&marked, "/metadata/deletionTimestamp").is_string(),
        "no deletionTimestamp",
    )?;
    p.merge(&p.services("/a"), json!({"metadata": {"finalizers": null}}))
        .await?;
    watch.expect("DELETED", "a").await?;
    Ok(())
}
