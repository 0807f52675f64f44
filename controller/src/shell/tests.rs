//! A scripted API server, and the loop and its parts run against it.

use std::{
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use allocator::block::BlockId;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, header, request::Parts as Head};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use model::{ServiceKey, Space};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tower::BoxError;

use super::{
    client_over,
    drive::{Blind, Machine, Mandate, World, drive},
    election,
    metrics::{Exposition, Metrics},
    run::{self, Election, Error, Options, Parts, State, admin, run, together},
};
use crate::core::{
    effect::{Effect, Failure, Input, Now, Observed, ServicePatch},
    engine::{Counters, Figures},
};

/// What the scripted API server does with a request.
pub(super) enum Answer {
    /// Answers this.
    Json(u16, Value),
    /// Answers these lines and keeps the stream open.
    Stream(Vec<Value>),
    /// Answers after so long.
    Late(Duration, Value),
    /// Never answers.
    Silence,
    /// Closes the connection.
    Cut,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: Head,
    pub(super) body: Value,
}

impl Seen {
    pub(super) fn header(&self, name: header::HeaderName) -> &str {
        self.head
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    pub(super) fn path(&self) -> &str {
        self.head.uri.path()
    }

    pub(super) fn watches(&self) -> bool {
        self.query().contains("watch=true")
    }
}

/// Every request that arrived, in order.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn writes(&self) -> Vec<Seen> {
        let mut all = self.all();
        all.retain(|seen| seen.head.method != Method::GET);
        all
    }
}

/// An API server that does what the script says.
pub(super) fn scripted(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (Client, Log) {
    let (log, script) = (Log::default(), Arc::new(script));
    let seen_by = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, script) = (seen_by.clone(), Arc::clone(&script));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let seen = Seen { head, body };
            let answer = script(&seen);
            log.0.lock().unwrap().push(seen);
            let (status, lines, open) = match answer {
                Answer::Json(status, body) => (status, vec![body], false),
                Answer::Stream(lines) => (200, lines, true),
                Answer::Late(delay, body) => {
                    sleep(delay).await;
                    (200, vec![body], false)
                }
                Answer::Silence => pending().await,
                Answer::Cut => return Err(BoxError::from("connection reset")),
            };
            let lines = stream::iter(lines)
                .map(|line| Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{line}\n")))));
            let body: UnsyncBoxBody<Bytes, BoxError> = if open {
                StreamBody::new(lines.chain(stream::pending())).boxed_unsync()
            } else {
                StreamBody::new(lines).boxed_unsync()
            };
            Ok(Response::builder().status(status).body(body)?)
        }
    });
    (client_over(service, "default"), log)
}

pub(super) fn added(object: Value) -> Value {
    json!({ "type": "ADDED", "object": object })
}

pub(super) fn listed() -> Value {
    json!({ "type": "BOOKMARK", "object": {
        "apiVersion": "v1", "kind": "Any",
        "metadata": {
            "resourceVersion": "5",
            "annotations": { "k8s.io/initial-events-end": "true" },
        },
    }})
}

pub(super) fn refusal(code: u16, reason: &str, message: &str, name: &str) -> Answer {
    Answer::Json(
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": { "name": name },
        }),
    )
}

pub(super) fn load_balancer() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": "shop", "name": "web", "uid": "u-1", "resourceVersion": "3",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster",
            "ports": [{ "port": 80, "protocol": "TCP" }],
        },
        "status": { "loadBalancer": {} },
    })
}

/// One pool, one default class, one Service that waits for an address; every write succeeds.
fn small_cluster(seen: &Seen) -> Answer {
    let resource = seen.path().rsplit('/').next().unwrap_or_default();
    if seen.watches() {
        let meta = |name: &str| {
            json!({
                "name": name, "uid": name, "resourceVersion": "2", "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            })
        };
        let object = match resource {
            "services" => Some(load_balancer()),
            "namespaces" => Some(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": meta("shop"),
            })),
            "addresspools" => Some(json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
                "metadata": meta("pool"), "spec": { "addresses": ["192.0.2.0/24"] },
            })),
            "loadbalancerclasses" => Some(json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
                "metadata": meta("class"),
                "spec": { "className": "portolan.dev/pool", "default": true, "pool": {} },
            })),
            _ => None,
        };
        return Answer::Stream(object.map(added).into_iter().chain([listed()]).collect());
    }
    match (&seen.head.method, resource) {
        (&Method::GET, name) => refusal(404, "NotFound", "not found", name),
        _ => Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" } })),
    }
}

/// Waits until the state is so, at most an hour of virtual time.
async fn until(states: &mut watch::Receiver<State>, is: impl FnMut(&State) -> bool) {
    let waited = timeout(Duration::from_secs(3600), states.wait_for(is)).await;
    drop(
        waited
            .expect("comes within an hour")
            .expect("the run goes on"),
    );
}

#[tokio::test(start_paused = true)]
async fn every_request_says_who_we_are_and_every_write_who_writes() {
    let (client, log) = scripted(small_cluster);
    let mut options = Options::single("test");
    options.election = Some(Election {
        namespace: "portolan".into(),
        name: "lease".into(),
    });
    let mut states = options.observe();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(run(client, options, async { drop(stopped.await) }));
    until(&mut states, |state| state.counters.status_writes > 0).await;
    drop(stop);
    running.await.unwrap().unwrap();

    let user_agent = concat!("portolan/", env!("CARGO_PKG_VERSION"));
    for seen in log.all() {
        assert_eq!(seen.header(header::USER_AGENT), user_agent, "{seen:?}");
    }
    let writes = log.writes();
    for part in ["leases", "allocationblocks", "services/web/status"] {
        assert!(
            writes.iter().any(|seen| seen.path().contains(part)),
            "no write to {part}"
        );
    }
    for seen in writes {
        assert!(seen.query().contains("fieldManager=portolan"), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_hands_back_the_lease() {
    let (client, log) = scripted(small_cluster);
    let mut options = Options::single("test");
    options.election = Some(Election {
        namespace: "portolan".into(),
        name: "lease".into(),
    });
    let mut states = options.observe();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(run(client, options, async { drop(stopped.await) }));
    until(&mut states, |state| state.leading).await;
    drop(stop);
    running.await.unwrap().unwrap();
    let last = log.writes().pop().expect("something was written");
    assert_eq!(
        last.path(),
        "/apis/coordination.k8s.io/v1/namespaces/portolan/leases/lease"
    );
    assert_eq!(last.body["spec"]["holderIdentity"], "");
    assert_eq!(last.body["metadata"]["resourceVersion"], "9");
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_ready_and_writes_nothing() {
    let (client, log) = scripted(|seen| {
        if seen.path().contains("leases") {
            return Answer::Json(
                200,
                json!({ "metadata": { "resourceVersion": Instant::now().elapsed().as_nanos().to_string() },
                    "spec": { "holderIdentity": "other" } }),
            );
        }
        small_cluster(seen)
    });
    let mut options = Options::single("test");
    options.election = Some(Election {
        namespace: "portolan".into(),
        name: "lease".into(),
    });
    let mut states = options.observe();
    let running = tokio::spawn(run(client, options, pending()));
    until(&mut states, State::ready).await;
    assert!(!states.borrow().leading);
    assert_eq!(log.writes().len(), 0);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ready_before_every_kind_is_listed() {
    let (client, _log) = scripted(|seen| {
        if seen.path().ends_with("allocationblocks") {
            return Answer::Stream(Vec::new());
        }
        small_cluster(seen)
    });
    let options = Options::single("test");
    let mut states = options.observe();
    let running = tokio::spawn(run(client, options, pending()));
    until(&mut states, |state| state.leading).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!states.borrow().ready());
    running.abort();
}

/// How a run ends in which one of two parts beside the engine does this.
async fn ending(
    faulty: impl Future<Output = run::Ended> + Send + 'static,
) -> (&'static str, Option<String>) {
    let mut parts = Parts::default();
    parts.spawn("a steady part", pending());
    parts.spawn("the faulty part", faulty);
    let ended = timeout(Duration::from_secs(3600), together(&mut parts, pending())).await;
    let Error::Ended { part, source } = ended.expect("ends at once").unwrap_err() else {
        panic!("it is said which part ended");
    };
    (part, source.map(|source| source.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_part_that_ends_ends_the_run_and_is_named() {
    assert_eq!(ending(async { Ok(()) }).await, ("the faulty part", None));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_ends_the_run_and_is_named_with_its_reason() {
    let faulty = async { Err("on purpose".into()) };
    let (part, source) = ending(faulty).await;
    assert_eq!(
        (part, source.as_deref()),
        ("the faulty part", Some("on purpose"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_ends_the_run_and_is_named() {
    let mut parts = Parts::default();
    parts.spawn("a steady part", pending());
    let ended = together(&mut parts, async { Err(Blind) })
        .await
        .unwrap_err();
    assert_eq!(ended.to_string(), "the engine ended unexpectedly");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_ends_the_run_and_is_named() {
    for (resource, part) in [
        ("services", "Service"),
        ("namespaces", "Namespace"),
        ("loadbalancerclasses", "LoadBalancerClass"),
        ("addresspools", "AddressPool"),
        ("nodeportpools", "NodePortPool"),
        ("allocationblocks", "AllocationBlock"),
        ("lease", election::TASK),
    ] {
        let (client, _log) = scripted(move |seen| {
            assert!(
                !seen.path().ends_with(&format!("/{resource}")),
                "on purpose"
            );
            small_cluster(seen)
        });
        let mut options = Options::single("test");
        options.election = Some(Election {
            namespace: "portolan".into(),
            name: "lease".into(),
        });
        let running = timeout(Duration::from_secs(3600), run(client, options, pending()));
        let ended = running.await.expect("ends at once").unwrap_err();
        assert_eq!(ended.to_string(), format!("{part} ended unexpectedly"));
        let source = std::error::Error::source(&ended)
            .expect("says why")
            .to_string();
        assert!(source.contains("panicked"), "{source}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_admin_port_that_is_taken_ends_the_run_and_is_named() {
    let (client, _log) = scripted(small_cluster);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = Options::single("test");
    options.admin = Some(taken.local_addr().unwrap());
    let ended = run(client, options, pending()).await.unwrap_err();
    assert!(ended.to_string().contains("--admin-address"), "{ended}");
}

mod questions;

/// An engine that asks for what it is given and remembers what it is told.
#[derive(Default)]
struct Script {
    effects: Vec<Effect>,
    told: Arc<Mutex<Vec<(Duration, Input)>>>,
}

impl Machine for Script {
    fn handle(&mut self, input: Input, now: Now) {
        self.told.lock().unwrap().push((now.mono, input));
    }

    fn poll(&mut self, _now: Now) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn next_deadline(&self, _now: Duration) -> Option<Duration> {
        None
    }

    fn synced(&self) -> bool {
        true
    }

    fn idle(&self) -> bool {
        true
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::default()
    }

    fn asked(&self) -> crate::core::hook::Asked {
        crate::core::hook::Asked::default()
    }
}

fn status_write(pass: u64) -> Effect {
    Effect::WriteService {
        pass,
        key: ServiceKey::new("shop", "web"),
        patch: ServicePatch::Status(json!({ "metadata": { "resourceVersion": "3" } })),
    }
}

fn world(client: Client) -> (World, mpsc::Sender<Observed>, watch::Sender<Mandate>) {
    let (sender, inbox) = mpsc::channel(4);
    let started = Instant::now();
    let mandate = watch::Sender::new(Some(started + Duration::from_secs(3600)));
    let world = World {
        orders: Arc::default(),
        outcomes: Arc::default(),
        desk: Arc::default(),
        told: Arc::default(),
        client,
        identity: "test".into(),
        concurrency: 2,
        started,
        wall: || 0,
        metrics: Metrics::default(),
        state: watch::Sender::default(),
        inbox,
        mandate: mandate.subscribe(),
        questions: None,
        asked: watch::Sender::default(),
    };
    (world, sender, mandate)
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_what_is_under_way_and_starts_nothing_new() {
    let written = json!({ "metadata": { "resourceVersion": "4" } });
    let (client, log) = scripted(move |_| Answer::Late(Duration::from_secs(3), written.clone()));
    let (world, _inbox, _mandate) = world(client);
    let mut machine = Script {
        effects: (0..5).map(status_write).collect(),
        ..Script::default()
    };
    let started = Instant::now();
    drive(&mut machine, world, sleep(Duration::from_secs(1)))
        .await
        .unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert_eq!(log.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_does_not_wait_for_ever() {
    let (client, _log) = scripted(|_| Answer::Silence);
    let (world, _inbox, _mandate) = world(client);
    let mut machine = Script {
        effects: vec![status_write(0)],
        ..Script::default()
    };
    let started = Instant::now();
    drive(&mut machine, world, sleep(Duration::from_secs(1)))
        .await
        .unwrap();
    assert!(started.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn losing_the_lease_drops_every_write_at_once() {
    let (client, log) = scripted(|_| Answer::Silence);
    let (world, _inbox, mandate) = world(client);
    mandate.send_replace(Some(Instant::now() + Duration::from_secs(2)));
    let mut machine = Script {
        effects: (0..5).map(status_write).collect(),
        ..Script::default()
    };
    let told = Arc::clone(&machine.told);
    drive(&mut machine, world, sleep(Duration::from_secs(3)))
        .await
        .unwrap();
    // Two were sent, three waited: all five are answered, none is sent after the mandate's end.
    assert_eq!(log.writes().len(), 2);
    let told = told.lock().unwrap();
    let lost: Vec<_> = told
        .iter()
        .filter(|(_, input)| {
            matches!(
                input,
                Input::ServiceWritten {
                    result: Err(Failure::Unknown(_)),
                    ..
                }
            )
        })
        .map(|(at, _)| at.as_secs())
        .collect();
    assert_eq!(lost, [2; 5]);
    assert!(
        told.iter()
            .any(|(_, input)| *input == Input::Leading(false))
    );
}

#[tokio::test(start_paused = true)]
async fn thousands_of_service_writes_do_not_starve_the_ledger() {
    let (client, log) = scripted(|_| Answer::Silence);
    let (world, _inbox, _mandate) = world(client);
    let mut machine = Script {
        effects: (0..2_000).map(status_write).collect(),
        ..Script::default()
    };
    machine.effects.push(Effect::ReadBlock {
        id: BlockId {
            space: Space::V4,
            index: 0,
        },
    });
    drive(&mut machine, world, sleep(Duration::from_secs(1)))
        .await
        .unwrap();
    assert!(
        log.all()
            .iter()
            .any(|seen| seen.path().contains("allocationblocks"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_no_watch_is_left() {
    let (client, _log) = scripted(|_| Answer::Silence);
    let (world, inbox, _mandate) = world(client);
    drop(inbox);
    let ended = drive(&mut Script::default(), world, pending()).await;
    assert!(ended.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_result_and_a_watch_event_both_reach_the_engine() {
    let written = json!({ "metadata": { "resourceVersion": "4" } });
    let (client, _log) = scripted(move |_| Answer::Json(200, written.clone()));
    let (world, inbox, _mandate) = world(client);
    inbox
        .try_send(Observed::NamespaceDeleted("shop".into()))
        .unwrap();
    let mut machine = Script {
        effects: vec![status_write(7)],
        ..Script::default()
    };
    let told = Arc::clone(&machine.told);
    drive(&mut machine, world, sleep(Duration::from_secs(1)))
        .await
        .unwrap();
    let told = told.lock().unwrap();
    assert!(
        told.iter()
            .any(|(_, input)| matches!(input, Input::Observed(_)))
    );
    assert!(told.iter().any(|(_, input)| matches!(
        input,
        Input::ServiceWritten { pass: 7, result: Ok(version), .. } if &**version == "4"
    )));
}

#[test]
fn readyz_follows_the_watches_and_healthz_does_not() {
    let state = watch::Sender::<State>::default();
    let exposition = Exposition::new(&Metrics::default(), state.subscribe(), None);
    let admin = admin(exposition, state.subscribe());
    let status = |path: &str| admin.answer(&Method::GET, path).status().as_u16();
    assert_eq!(
        [status("/healthz"), status("/readyz"), status("/else")],
        [200, 503, 404]
    );
    state.send_modify(|state| state.synced = true);
    assert_eq!(status("/readyz"), 200);
    // With a webhook it must have a certificate to show, too.
    state.send_modify(|state| state.webhook = Some(([127, 0, 0, 1], 9443).into()));
    assert_eq!(status("/readyz"), 503);
    state.send_modify(|state| state.certificate = true);
    assert_eq!(status("/readyz"), 200);
    state.send_modify(|state| state.draining = true);
    assert_eq!([status("/healthz"), status("/readyz")], [200, 503]);
}

#[test]
fn metrics_tell_requests_and_the_engines_counters() {
    let state = watch::Sender::<State>::default();
    let metrics = Metrics::default();
    metrics.request(
        super::metrics::Verb::Block,
        super::metrics::Outcome::Conflict,
    );
    state.send_modify(|state| state.counters.status_writes = 3);
    let exposition = Exposition::new(&metrics, state.subscribe(), None);
    let page = exposition.render().unwrap();
    for line in [
        "portolan_requests_total{kind=\"Block\",outcome=\"Conflict\"} 1",
        "portolan_status_writes_total 3",
        "portolan_leader 0",
        "# EOF",
    ] {
        assert!(page.contains(line), "{line} is missing in {page}");
    }
}
