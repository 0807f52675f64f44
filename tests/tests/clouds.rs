//! What the engine asks of a cloud and writes of its answers, with a scripted provider in the cloud's
//! place: our finalizer first, then the request, then the name; and off again when nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use controller::{
    core::cloud::{Outcome, State, Told},
    shell::{CloudFigures, Options, Order, Provider, Seat},
};
use devapi::faults::{Fault, Match};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt as _};
use model::Reason;
use serde_json::{Value, json};
use tests::{
    cluster::condition,
    fixtures::bare,
    stage::{Running, Stage, options},
};

const FINALIZER: &str = "portolan.dev/load-balancer-cleanup";

/// What the provider was asked, in order: whether it is wanted, and the name shown then.
type Asked = Arc<Mutex<Vec<(bool, Option<String>)>>>;

type Answer = fn(&Order) -> (State, Reason);

/// A provider that answers each request at once.
fn scripted(asked: &Asked, answer: Answer) -> Provider {
    let asked = Arc::clone(asked);
    let start = move |seat: Seat| {
        let asked = Arc::clone(&asked);
        let task = async move {
            loop {
                seat.orders.filled().await;
                for order in seat.orders.take() {
                    let request = &order.request;
                    if request.wanted.is_some() {
                        let services = Api::<Service>::namespaced(seat.client.clone(), "default");
                        let there = services.get(&request.key.name).await.unwrap();
                        assert!(
                            there.finalizers().contains(&FINALIZER.to_owned()),
                            "asked first"
                        );
                    }
                    let shown = request.shown.as_ref().map(ToString::to_string);
                    asked
                        .lock()
                        .unwrap()
                        .push((request.wanted.is_some(), shown));
                    let (state, reason) = answer(&order);
                    seat.outcomes.put(
                        request.key.clone(),
                        Outcome {
                            key: request.key.clone(),
                            uid: request.uid.clone(),
                            answers: order.number,
                            told: Told {
                                state,
                                reason,
                                message: "the provider's own words".to_owned(),
                            },
                        },
                    );
                }
            }
        };
        futures::FutureExt::boxed(task)
    };
    Provider {
        start: Arc::new(start),
        figures: Arc::new(CloudFigures::default),
    }
}

fn obedient(order: &Order) -> (State, Reason) {
    match order.request.wanted {
        Some(_) => (State::Serving("web.example".into()), Reason::Ready),
        None => (State::Gone, Reason::Ready),
    }
}

async fn stage() -> Stage {
    let on = Stage::devapi().await;
    on.create([json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
        "metadata": {"name": "nlb"},
        "spec": {"className": "service.k8s.aws/nlb", "aws": {"targetType": "ip"}},
    })])
    .await;
    on
}

fn web() -> Value {
    let mut web = bare("web", "LoadBalancer");
    web["spec"]["loadBalancerClass"] = json!("service.k8s.aws/nlb");
    web
}

fn with_provider(identity: &str, answer: Answer, asked: &Asked) -> Options {
    Options {
        aws: Some(scripted(asked, answer)),
        ..options(identity)
    }
}

fn start(on: &Stage, answer: Answer, asked: &Asked) -> Running {
    Running::start(on.client.clone(), with_provider("one", answer, asked))
}

/// Neither a wait nor a restart writes anything.
async fn stays(on: &Stage, running: Running, answer: Answer) {
    let options = with_provider("restarted", answer, &Asked::default());
    on.fixed_point_of(running, options).await;
}

fn has_finalizer(service: &Value) -> bool {
    service["metadata"]["finalizers"] == json!([FINALIZER])
}

fn is_served(service: &Value) -> bool {
    service["status"]["loadBalancer"]["ingress"] == json!([{"hostname": "web.example"}])
}

/// Service `web` is there and served.
async fn served(answer: Answer, asked: &Asked) -> (Stage, Running) {
    let on = stage().await;
    let running = start(&on, answer, asked);
    on.create([web()]).await;
    on.cluster.until_service("web", "its name", is_served).await;
    on.cluster.settled().await;
    (on, running)
}

async fn until_ready_says(on: &Stage, reason: &str) {
    let says = |service: &Value| {
        condition(service, "LoadBalancerReady").is_some_and(|ready| ready["reason"] == reason)
    };
    on.cluster.until_service("web", reason, says).await;
}

async fn until_gone(on: &Stage) {
    on.cluster
        .until("it is gone", async |cluster| {
            cluster.get("Service", "default/web").await.is_none()
        })
        .await;
}

fn blocked(order: &Order) -> (State, Reason) {
    match order.request.wanted {
        Some(_) => (State::Serving("web.example".into()), Reason::Ready),
        None => (State::Waiting, Reason::DeletionBlocked),
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_is_asked_for_after_our_finalizer_and_its_name_shown() {
    let asked = Asked::default();
    let (on, running) = served(obedient, &asked).await;
    let service = on.cluster.service("web").await;
    assert!(has_finalizer(&service));
    let ready = condition(&service, "LoadBalancerReady").unwrap();
    assert_eq!(ready["status"], "True");
    assert_eq!(ready["message"], "the provider's own words");
    let shown = Some("web.example".to_owned());
    assert_eq!(*asked.lock().unwrap(), [(true, None), (true, shown)]);
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_while_the_write_of_our_finalizer_is_under_way() {
    let on = stage().await;
    let writes = Match::writes().subresource("services", "status");
    on.faults
        .script(writes, Fault::Delay(Duration::from_secs(1)));
    let running = start(&on, obedient, &Asked::default()); // the provider looks for it
    on.create([web()]).await;
    on.cluster.until_service("web", "its name", is_served).await;
    on.faults.clear();
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_and_not_asked_for() {
    let on = stage().await;
    let asked = Asked::default();
    let running = start(&on, obedient, &asked);
    let mut web = web();
    web["metadata"]["annotations"] = json!({"portolan.dev/addresses": "nonsense"});
    on.create([web]).await;
    until_ready_says(&on, "InvalidRequest").await;
    on.cluster.settled().await;
    assert!(!has_finalizer(&on.cluster.service("web").await));
    assert_eq!(*asked.lock().unwrap(), []);
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_service_goes_when_the_provider_says_that_nothing_is_left() {
    let asked = Asked::default();
    let (on, running) = served(obedient, &asked).await;
    on.cluster.delete("Service", "default/web").await;
    until_gone(&on).await;
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert!(!last.0, "{last:?}");
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_type_loses_our_finalizer_and_stays() {
    let (on, running) = served(obedient, &Asked::default()).await;
    on.cluster
        .edit("Service", "default/web", |service| {
            service["spec"]["type"] = json!("ClusterIP");
            let spec = service["spec"].as_object_mut().unwrap();
            spec.remove("loadBalancerClass");
        })
        .await;
    on.cluster
        .until_service("web", "nothing of ours", |service| {
            service["metadata"]["finalizers"].is_null()
                && condition(service, "LoadBalancerReady").is_none()
        })
        .await;
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_load_balancer_from_going_keeps_the_service_and_is_told() {
    let (on, running) = served(blocked, &Asked::default()).await;
    on.cluster.delete("Service", "default/web").await;
    until_ready_says(&on, "DeletionBlocked").await;
    on.cluster.settled().await;
    let service = on.cluster.service("web").await;
    assert!(has_finalizer(&service));
    assert!(is_served(&service));
    assert_eq!(on.cluster.events("web", "DeletionBlocked").await, 1);
    stays(&on, running, blocked).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_finalizer_was_taken_off_is_not_forgotten() {
    let asked = Asked::default();
    let (on, running) = served(blocked, &asked).await;
    on.cluster.delete("Service", "default/web").await;
    until_ready_says(&on, "DeletionBlocked").await;
    on.cluster.settled().await;
    let before = asked.lock().unwrap().len();
    on.cluster
        .edit("Service", "default/web", |service| {
            service["metadata"]["finalizers"] = json!([]);
        })
        .await;
    until_gone(&on).await;
    on.cluster.settled().await;
    let after = asked.lock().unwrap()[before..].to_vec();
    assert!(matches!(after[..], [(false, _)]), "{after:?}");
    stays(&on, running, blocked).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_a_deleted_service_says_why_it_stays() {
    let (on, running) = served(obedient, &Asked::default()).await;
    running.stop().await;
    let running = on.start("without");
    on.cluster.delete("Service", "default/web").await;
    until_ready_says(&on, "ProviderUnavailable").await;
    assert!(has_finalizer(&on.cluster.service("web").await));
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_success_leaves_the_name_and_says_why() {
    let (on, running) = served(obedient, &Asked::default()).await;
    running.stop().await;
    let denied = |_: &Order| (State::Waiting, Reason::AccessDenied);
    let running = start(&on, denied, &Asked::default());
    until_ready_says(&on, "AccessDenied").await;
    assert!(is_served(&on.cluster.service("web").await));
    stays(&on, running, denied).await;
}
