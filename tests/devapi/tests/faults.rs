//! The fault layer in front of devapi.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper that cannot go on should panic"
)]

use std::time::Duration;

use devapi::DevApi;
use devapi::faults::{Fault, Faults, Match};
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tower::Layer;

struct Bench {
    faults: Faults,
    services: Api<Service>,
    /// The same server without faults.
    plain: Api<Service>,
    client: kube::Client,
}

fn bench() -> Bench {
    let api = DevApi::default();
    let faults = Faults::new(1);
    let client = kube::Client::new(faults.layer(api.clone()), "default");
    let services = Api::default_namespaced(client.clone());
    Bench {
        faults,
        services,
        plain: Api::default_namespaced(api.client()),
        client,
    }
}

fn service(name: &str) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}))
        .unwrap()
}

impl Bench {
    async fn create(&self, name: &str) -> Result<Service, kube::Error> {
        self.services
            .create(&PostParams::default(), &service(name))
            .await
    }

    async fn exists(&self, name: &str) -> bool {
        self.plain.get_opt(name).await.unwrap().is_some()
    }
}

fn code(result: Result<Service, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_scripted_refusal_is_not_performed() {
    for (fault, expected) in [
        (Fault::Conflict, 409),
        (Fault::Expired, 410),
        (Fault::TooManyRequests(3), 429),
        (Fault::ServerError(503), 503),
        (Fault::ServerError(500), 500),
    ] {
        let bench = bench();
        bench
            .faults
            .script(Match::verb("create").resource("services"), fault);
        assert_eq!(code(bench.create("a").await), expected);
        assert!(!bench.exists("a").await, "{fault:?} was performed");
    }
}

#[tokio::test]
async fn too_many_requests_says_when_to_come_back() {
    let bench = bench();
    bench.faults.script(Match::any(), Fault::TooManyRequests(3));
    let Err(kube::Error::Api(status)) = bench.create("a").await else {
        panic!("accepted")
    };
    assert_eq!(status.details.unwrap().retry_after_seconds, 3);
}

#[tokio::test]
async fn a_rule_lets_some_pass_and_applies_so_many_times() {
    let bench = bench();
    bench
        .faults
        .script(Match::writes(), Fault::Conflict)
        .after(1)
        .times(1);
    assert!(bench.create("a").await.is_ok());
    assert_eq!(code(bench.create("b").await), 409);
    assert!(bench.create("b").await.is_ok());
}

#[tokio::test]
async fn a_lost_reply_was_performed() {
    let bench = bench();
    bench
        .faults
        .script(Match::verb("create"), Fault::LostReply)
        .times(1);
    assert!(matches!(
        bench.create("a").await,
        Err(kube::Error::Service(_))
    ));
    assert!(bench.exists("a").await);
}

#[tokio::test]
async fn a_crash_before_was_not_performed() {
    let bench = bench();
    bench
        .faults
        .script(Match::verb("create"), Fault::CrashBefore)
        .times(1);
    assert!(matches!(
        bench.create("a").await,
        Err(kube::Error::Service(_))
    ));
    assert!(!bench.exists("a").await);
}

#[tokio::test(start_paused = true)]
async fn a_delay_takes_tokio_time_and_then_performs() {
    let bench = bench();
    bench
        .faults
        .script(Match::any(), Fault::Delay(Duration::from_secs(7)))
        .times(1);
    let started = tokio::time::Instant::now();
    bench.create("a").await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 7);
}

#[tokio::test]
async fn rules_match_names_and_subresources() {
    let bench = bench();
    bench.create("a").await.unwrap();
    bench.create("b").await.unwrap();
    bench.faults.script(
        Match::any().subresource("services", "status").name("a"),
        Fault::Conflict,
    );
    let patch = Patch::Merge(json!({"metadata": {"labels": {"x": "1"}}}));
    let params = PatchParams::default();
    assert!(bench.services.patch("a", &params, &patch).await.is_ok());
    assert!(
        bench
            .services
            .patch_status("b", &params, &patch)
            .await
            .is_ok()
    );
    assert_eq!(
        code(bench.services.patch_status("a", &params, &patch).await),
        409
    );
}

async fn lines(bench: &Bench) -> futures::stream::BoxStream<'static, std::io::Result<String>> {
    let path = "/api/v1/namespaces/default/services?watch=true";
    let request = http::Request::builder().uri(path).body(Vec::new()).unwrap();
    bench
        .client
        .request_stream(request)
        .await
        .unwrap()
        .lines()
        .boxed()
}

#[tokio::test]
async fn a_watch_is_cut_after_so_many_events() {
    let bench = bench();
    for name in ["a", "b", "c"] {
        bench.create(name).await.unwrap();
    }
    bench
        .faults
        .script(Match::verb("watch"), Fault::Cut(2))
        .times(1);
    let seen: Vec<_> = lines(&bench).await.collect().await;
    let good = seen.iter().filter(|l| l.is_ok()).count();
    assert_eq!((good, seen.len()), (2, 3), "{seen:?}");
}

#[tokio::test]
async fn open_watches_are_cut_at_a_signal() {
    let bench = bench();
    bench.create("a").await.unwrap();
    let mut watch = lines(&bench).await;
    assert!(watch.next().await.unwrap().is_ok());
    bench.faults.cut_watches();
    assert!(watch.next().await.unwrap().is_err());
}

#[tokio::test]
async fn the_log_tells_writes_with_their_outcome() {
    let bench = bench();
    bench.create("a").await.unwrap();
    bench.services.get("a").await.unwrap();
    let _ = bench.create("a").await;
    let log = bench.faults.log();
    assert_eq!(log.entries().len(), 3);
    let writes: Vec<_> = log
        .writes()
        .into_iter()
        .map(|w| (w.request.verb, w.request.resource, w.status))
        .collect();
    assert_eq!(
        writes,
        [
            ("create", "services".into(), Some(201)),
            ("create", "services".into(), Some(409))
        ]
    );
    assert_eq!(log.count("get", "services"), 1);
    log.clear();
    assert!(log.entries().is_empty());
}
