use model::{Reason, Space, Uid};

use super::*;
use crate::shell::tests::{Answer, Log, refusal, scripted};

fn key() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

fn status_write() -> Effect {
    Effect::WriteService {
        pass: 1,
        key: key(),
        patch: ServicePatch::Status(json!({ "metadata": { "resourceVersion": "3" } })),
    }
}

fn block() -> BlockId {
    BlockId {
        space: Space::V4,
        index: 0x00c0_0002,
    }
}

fn note(text: &str) -> EventNote {
    EventNote {
        key: key(),
        uid: Uid::from("u-1"),
        warning: true,
        reason: Reason::PoolExhausted,
        note: text.to_owned(),
    }
}

async fn performed(
    effect: Effect,
    script: impl Fn() -> Answer + Send + Sync + 'static,
) -> (Option<Input>, Log, Metrics) {
    let (client, log) = scripted(move |_| script());
    let metrics = Metrics::default();
    let input = perform(
        &client,
        call(effect, "test", 1_767_225_600).unwrap(),
        &metrics,
    )
    .await;
    (input, log, metrics)
}

async fn failure_of_a_write(script: impl Fn() -> Answer + Send + Sync + 'static) -> Failure {
    match performed(status_write(), script).await.0 {
        Some(Input::ServiceWritten {
            result: Err(failure),
            ..
        }) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_told_in_the_words_of_the_contract() {
    let unknown = || Failure::Unknown("why".to_owned());
    let refused = || Failure::Refused("why".to_owned());
    let rows = [
        (400, "BadRequest", refused()),
        (401, "Unauthorized", unknown()),
        (403, "Forbidden", refused()),
        (404, "NotFound", Failure::NotFound),
        (408, "Timeout", unknown()),
        (409, "AlreadyExists", Failure::Conflict),
        (409, "Conflict", Failure::Conflict),
        (413, "RequestEntityTooLarge", refused()),
        (422, "Invalid", refused()),
        (429, "TooManyRequests", unknown()),
        (500, "InternalError", unknown()),
        (503, "ServiceUnavailable", unknown()),
        (504, "Timeout", unknown()),
    ];
    for (code, reason, expected) in rows {
        let told = failure_of_a_write(move || refusal(code, reason, "why", "web")).await;
        assert_eq!(told, expected, "{code} {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_within_ten_seconds_means_unknown() {
    let began = tokio::time::Instant::now();
    let told = failure_of_a_write(|| Answer::Silence).await;
    assert_eq!(told, Failure::Unknown("no answer within 10 s".to_owned()));
    assert_eq!(began.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_means_unknown() {
    let told = failure_of_a_write(|| Answer::Cut).await;
    assert!(matches!(told, Failure::Unknown(_)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_read_means_unknown() {
    let told = failure_of_a_write(|| Answer::Json(200, json!("ok"))).await;
    assert!(matches!(told, Failure::Unknown(_)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_tried_once() {
    let (_, log, _) = performed(status_write(), || {
        refusal(503, "ServiceUnavailable", "", "")
    })
    .await;
    assert_eq!(log.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_write_goes_to_its_place_in_its_form() {
    const MERGE: &str = "application/merge-patch+json";
    let spec = |version: Option<&str>| Effect::WriteBlock {
        id: block(),
        version: version.map(Into::into),
        spec: crds::AllocationBlockSpec::default(),
    };
    let patch = || json!({ "metadata": { "resourceVersion": "3" } });
    let blocks = "/apis/portolan.dev/v1alpha1/allocationblocks";
    let rows = [
        (
            Effect::WriteService {
                pass: 1,
                key: key(),
                patch: ServicePatch::Spec(json!([])),
            },
            "PATCH /api/v1/namespaces/shop/services/web".to_owned(),
            "application/json-patch+json",
        ),
        (
            status_write(),
            "PATCH /api/v1/namespaces/shop/services/web/status".to_owned(),
            MERGE,
        ),
        (spec(None), format!("POST {blocks}"), "application/json"),
        (
            spec(Some("7")),
            format!("PUT {blocks}/{}", block().name()),
            "application/json",
        ),
        (
            Effect::WritePoolStatus {
                kind: PoolKind::NodePort,
                name: "p".into(),
                patch: patch(),
            },
            "PATCH /apis/portolan.dev/v1alpha1/nodeportpools/p/status".to_owned(),
            MERGE,
        ),
        (
            Effect::WriteClassStatus {
                name: "c".into(),
                patch: patch(),
            },
            "PATCH /apis/portolan.dev/v1alpha1/loadbalancerclasses/c/status".to_owned(),
            MERGE,
        ),
        (
            Effect::WriteReservation {
                address: [10, 0, 1, 1].into(),
                change: Change::Create {
                    pool: "p".into(),
                    uid: Uid::from("1"),
                },
            },
            "POST /apis/networking.k8s.io/v1/ipaddresses".to_owned(),
            "application/json",
        ),
        (
            Effect::Emit(note("full")),
            "POST /apis/events.k8s.io/v1/namespaces/shop/events".to_owned(),
            "application/json",
        ),
    ];
    for (effect, place, form) in rows {
        let replied = || Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" } }));
        let (_, log, _) = performed(effect, replied).await;
        let seen = &log.all()[0];
        assert_eq!(format!("{} {}", seen.head.method, seen.path()), place);
        assert_eq!(seen.header(header::CONTENT_TYPE), form, "{place}");
        assert!(seen.query().ends_with("fieldManager=portolan"), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_ours_by_label_parent_and_owner() {
    let effect = Effect::WriteReservation {
        address: "fd00::101".parse().unwrap(),
        change: Change::Create {
            pool: "team".into(),
            uid: Uid::from("7"),
        },
    };
    let (input, log, _) = performed(effect, || Answer::Json(201, json!({}))).await;
    let address = "fd00::101".parse().unwrap();
    let result = Ok(());
    assert_eq!(input, Some(Input::ReservationWritten { address, result }));
    let wanted = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": "fd00::101",
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv6",
                "ipaddress.kubernetes.io/managed-by": "portolan.dev",
            },
            "ownerReferences": [{
                "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "name": "team", "uid": "7",
            }],
        },
        "spec": {"parentRef": {
            "group": "portolan.dev", "resource": "addresspools", "name": "team",
        }},
    });
    assert_eq!(log.all()[0].body, wanted);
    // And read back as what it is.
    let mut made = wanted;
    made["metadata"]["uid"] = "8".into();
    made["metadata"]["resourceVersion"] = "9".into();
    let made: IPAddress = serde_json::from_value(made).unwrap();
    let record = translate::reservation(&made).unwrap();
    assert_eq!(record.pool, Some(("team".into(), Uid::from("7"))));
    assert_eq!((record.address, &*record.version), (address, "9"));
}

#[tokio::test(start_paused = true)]
async fn only_this_very_reservation_is_deleted() {
    let effect = Effect::WriteReservation {
        address: [10, 0, 1, 1].into(),
        change: Change::Delete {
            uid: Uid::from("7"),
            version: "9".into(),
        },
    };
    let (input, log, _) = performed(effect, || Answer::Json(200, json!({"kind": "Status"}))).await;
    let (address, result) = (IpAddr::from([10, 0, 1, 1]), Ok(()));
    assert_eq!(input, Some(Input::ReservationWritten { address, result }));
    let seen = &log.all()[0];
    assert_eq!(seen.head.method, http::Method::DELETE);
    assert_eq!(
        seen.path(),
        "/apis/networking.k8s.io/v1/ipaddresses/10.0.1.1"
    );
    let preconditions = json!({"uid": "7", "resourceVersion": "9"});
    assert_eq!(seen.body["preconditions"], preconditions);
}

#[tokio::test(start_paused = true)]
async fn replacing_a_block_carries_its_precondition() {
    let effect = Effect::WriteBlock {
        id: block(),
        version: Some("7".into()),
        spec: crds::AllocationBlockSpec::default(),
    };
    let (_, log, _) = performed(effect, || Answer::Silence).await;
    assert_eq!(log.all()[0].body["metadata"]["resourceVersion"], "7");
}

#[tokio::test(start_paused = true)]
async fn a_read_proves_absence_only_by_a_404_that_names_the_object() {
    let read = || Effect::ReadService {
        pass: 1,
        key: key(),
    };
    let result = |input| match input {
        Some(Input::ServiceRead { result, .. }) => result,
        other => panic!("{other:?}"),
    };
    let gone = performed(read(), || refusal(404, "NotFound", "", "web"))
        .await
        .0;
    assert_eq!(result(gone), Ok(None));
    for doubtful in [("NotFound", ""), ("NotFound", "other"), ("", "web")] {
        let (reason, name) = doubtful;
        let input = performed(read(), move || refusal(404, reason, "", name))
            .await
            .0;
        assert!(
            matches!(result(input), Err(Failure::Unknown(_))),
            "{doubtful:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_read_asks_for_no_version() {
    let read = Effect::ReadBlock { id: block() };
    let (_, log, _) = performed(read, || Answer::Silence).await;
    assert_eq!(log.all()[0].query(), "");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_parsed_is_refused_and_not_absent() {
    let read = Effect::ReadBlock { id: block() };
    let broken = || Answer::Json(200, json!({ "metadata": {}, "spec": "?" }));
    let input = performed(read, broken).await.0;
    assert!(
        matches!(
            input,
            Some(Input::BlockRead {
                result: Err(Failure::Refused(_)),
                ..
            })
        ),
        "{input:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_exists_already_is_success() {
    let exists = || refusal(409, "AlreadyExists", "", "");
    let (input, _, metrics) = performed(Effect::Emit(note("full")), exists).await;
    assert_eq!(input, None);
    let done = super::super::metrics::RequestLabels {
        kind: Verb::Event,
        outcome: Outcome::Done,
    };
    assert_eq!(metrics.requests.get_or_create(&done).get(), 1);
}

async fn created(note: EventNote) -> Value {
    let (_, log, _) = performed(Effect::Emit(note), || Answer::Cut).await;
    log.all()[0].body.clone()
}

#[tokio::test(start_paused = true)]
async fn the_same_event_has_the_same_name_in_every_process() {
    let name = |event: &Value| event["metadata"]["name"].as_str().unwrap().to_owned();
    let (one, same) = (created(note("full")).await, created(note("full")).await);
    let other = created(note("still full")).await;
    assert_eq!(name(&one), name(&same));
    assert_ne!(name(&one), name(&other));
    // Pinned: a changed hash would repeat every Event after an upgrade.
    assert_eq!(name(&one), "web.dbecf3d4b1407d6c");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_about_its_service_and_complete() {
    let event = created(note("full")).await;
    assert_eq!(event["regarding"]["uid"], "u-1");
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["reportingController"], "portolan.dev/controller");
    assert_eq!(event["eventTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(
        [&event["type"], &event["reason"]],
        ["Warning", "PoolExhausted"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_note_ends_between_two_characters() {
    let event = created(note(&"é".repeat(600))).await;
    assert_eq!(event["note"], "é".repeat(512));
    let event = created(note(&format!("a{}", "é".repeat(600)))).await;
    assert_eq!(event["note"].as_str().unwrap().len(), 1023);
}
