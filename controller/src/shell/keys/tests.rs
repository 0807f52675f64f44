use http::Method;

use super::*;
use crate::shell::tests::{Answer, Log, Seen, refusal, scripted};

const NOW: i64 = 1_795_913_400; // 2026-11-29T00:50:00Z

fn secret() -> SecretName {
    SecretName {
        namespace: "portolan".to_owned(),
        name: "portolan-speaker-keys".to_owned(),
    }
}

fn absent() -> Answer {
    refusal(404, "NotFound", "not found", "portolan-speaker-keys")
}

fn there(data: Value) -> Answer {
    Answer::Json(
        200,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "portolan-speaker-keys", "resourceVersion": "7"}, "data": data,
        }),
    )
}

fn writes(log: &Log) -> Vec<Seen> {
    let mut all = log.all();
    all.retain(|seen| seen.head.method != Method::GET);
    all
}

#[tokio::test]
async fn a_key_is_made_once_and_what_is_there_is_never_touched() {
    let (client, log) = scripted(|seen| match seen.head.method {
        Method::GET => absent(),
        _ => there(json!({})),
    });
    assert!(make(&client, &secret(), NOW).await.unwrap());
    let writes_ = writes(&log);
    assert_eq!(writes_.len(), 1);
    assert_eq!(writes_[0].head.method, Method::POST);
    assert_eq!(writes_[0].path(), "/api/v1/namespaces/portolan/secrets");
    let made: Secret = serde_json::from_value(writes_[0].body.clone()).unwrap();
    let data = made.data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["2026-11-29T00-50-00Z"]);
    assert_eq!(data["2026-11-29T00-50-00Z"].0.len(), KEY_BYTES);

    for data in [
        json!({"2026-01-01T00-00-00Z": "a2V5"}),
        json!({}),
        Value::Null,
    ] {
        let (client, log) = scripted(move |_| there(data.clone()));
        assert!(!make(&client, &secret(), NOW).await.unwrap());
        assert!(writes(&log).is_empty());
    }
}

#[tokio::test]
async fn whoever_comes_second_leaves_what_the_first_has_made() {
    let (client, _log) = scripted(|seen| match seen.head.method {
        Method::GET => absent(),
        _ => refusal(
            409,
            "AlreadyExists",
            "already exists",
            "portolan-speaker-keys",
        ),
    });
    assert!(!make(&client, &secret(), NOW).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn keys_are_made_by_the_leader_only_and_a_failure_is_tried_again() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let (client, log) = scripted(move |seen| match seen.head.method {
        Method::GET => absent(),
        _ if tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 => {
            refusal(403, "Forbidden", "not yet", "portolan-speaker-keys")
        }
        _ => there(json!({})),
    });
    let mandate = sync::Sender::<Mandate>::new(None);
    let task = tokio::spawn(keep(client, secret(), mandate.subscribe(), || NOW));
    sleep(Duration::from_secs(60)).await;
    assert!(log.all().is_empty());
    mandate.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(writes(&log).len(), 3);
    task.abort();
}

#[tokio::test]
async fn a_rotation_adds_a_key_and_drops_the_oldest_on_the_version_it_looked_at() {
    let (client, log) = scripted(|_| {
        there(json!({"2026-01-01T00-00-00Z": "YQ==", "2026-06-01T00-00-00Z": "Yg=="}))
    });
    let rotation = rotate(&client, &secret(), NOW).await.unwrap();
    assert_eq!(rotation.in_force.as_deref(), Some("2026-06-01T00-00-00Z"));
    assert_eq!(rotation.drop, ["2026-01-01T00-00-00Z"]);
    let writes = writes(&log);
    assert_eq!(writes.len(), 1);
    let body = &writes[0].body;
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    let data = body["data"].as_object().unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data["2026-01-01T00-00-00Z"], Value::Null);
    let new: ByteString = serde_json::from_value(data["2026-11-29T00-55-00Z"].clone()).unwrap();
    assert_eq!(new.0.len(), KEY_BYTES);
}

#[tokio::test]
async fn a_rotation_without_a_secret_says_who_makes_it() {
    let (client, _log) = scripted(|_| absent());
    let error = rotate(&client, &secret(), NOW)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("--speaker-keys"), "{error}");
}
