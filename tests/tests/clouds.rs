//! What the engine asks of a cloud and writes of its answers, with a scripted provider in the cloud's
//! place: our finalizer first, then the request, then the name; and off again when nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::sync::{Arc, Mutex};

use controller::{
    core::cloud::{Outcome, State},
    shell::{Options, Order, Provider, Seat},
};
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

/// A provider that answers each request at once.
fn scripted(asked: &Asked, answer: fn(&Order) -> (State, Reason)) -> Provider {
    let asked = Arc::clone(asked);
    Provider(Arc::new(move |seat: Seat| {
        let asked = Arc::clone(&asked);
        Box::pin(async move {
            loop {
                seat.orders.filled().await;
                for order in seat.orders.take() {
                    let request = &order.request;
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
                            state,
                            reason,
                            message: "the provider's own words".to_owned(),
                        },
                    );
                }
            }
        })
    }))
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

fn with_provider(identity: &str, answer: fn(&Order) -> (State, Reason), asked: &Asked) -> Options {
    Options {
        aws: Some(scripted(asked, answer)),
        ..options(identity)
    }
}

fn start(on: &Stage, answer: fn(&Order) -> (State, Reason), asked: &Asked) -> Running {
    Running::start(on.client.clone(), with_provider("one", answer, asked))
}

/// Neither a wait nor a restart writes anything.
async fn stays(on: &Stage, running: Running, answer: fn(&Order) -> (State, Reason)) {
    let options = with_provider("restarted", answer, &Asked::default());
    on.fixed_point_of(running, options).await;
}

fn has_finalizer(service: &Value) -> bool {
    service["metadata"]["finalizers"] == json!([FINALIZER])
}

fn shows(service: &Value, ingress: &Value) -> bool {
    service["status"]["loadBalancer"]["ingress"] == *ingress
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_is_asked_for_after_our_finalizer_and_its_name_shown() {
    let on = stage().await;
    let asked = Asked::default();
    let running = start(&on, obedient, &asked);
    on.create([web()]).await;
    let name = json!([{"hostname": "web.example"}]);
    on.cluster
        .until_service("web", "its name", |service| shows(service, &name))
        .await;
    let service = on.cluster.service("web").await;
    assert!(has_finalizer(&service));
    let ready = condition(&service, "LoadBalancerReady").unwrap();
    assert_eq!(ready["status"], "True");
    assert_eq!(ready["message"], "the provider's own words");
    on.cluster.settled().await;
    let shown = Some("web.example".to_owned());
    assert_eq!(*asked.lock().unwrap(), [(true, None), (true, shown)]);
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_service_goes_when_the_provider_says_that_nothing_is_left() {
    let on = stage().await;
    let asked = Asked::default();
    let running = start(&on, obedient, &asked);
    on.create([web()]).await;
    on.cluster
        .until_service("web", "our finalizer", has_finalizer)
        .await;
    on.cluster.settled().await;
    on.cluster.delete("Service", "default/web").await;
    on.cluster
        .until("it is gone", async |cluster| {
            cluster.get("Service", "default/web").await.is_none()
        })
        .await;
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert!(!last.0, "{last:?}");
    stays(&on, running, obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_type_loses_our_finalizer_and_stays() {
    let on = stage().await;
    let running = start(&on, obedient, &Asked::default());
    on.create([web()]).await;
    on.cluster
        .until_service("web", "our finalizer", has_finalizer)
        .await;
    on.cluster.settled().await;
    on.cluster
        .edit("Service", "default/web", |service| {
            service["spec"]["type"] = json!("ClusterIP");
            service["spec"]
                .as_object_mut()
                .unwrap()
                .remove("loadBalancerClass");
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
    let on = stage().await;
    let blocked = |order: &Order| match order.request.wanted {
        Some(_) => (State::Serving("web.example".into()), Reason::Ready),
        None => (State::Waiting, Reason::DeletionBlocked),
    };
    let running = start(&on, blocked, &Asked::default());
    on.create([web()]).await;
    on.cluster
        .until_service("web", "our finalizer", has_finalizer)
        .await;
    on.cluster.settled().await;
    on.cluster.delete("Service", "default/web").await;
    on.cluster
        .until_service("web", "why it stays", |service| {
            condition(service, "LoadBalancerReady")
                .is_some_and(|ready| ready["reason"] == "DeletionBlocked")
        })
        .await;
    on.cluster.settled().await;
    let service = on.cluster.service("web").await;
    assert!(has_finalizer(&service));
    assert!(shows(&service, &json!([{"hostname": "web.example"}])));
    assert_eq!(on.cluster.events("web", "DeletionBlocked").await, 1);
    stays(&on, running, blocked).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_success_leaves_the_name_and_says_why() {
    let on = stage().await;
    let running = start(&on, obedient, &Asked::default());
    on.create([web()]).await;
    let name = json!([{"hostname": "web.example"}]);
    on.cluster
        .until_service("web", "its name", |service| shows(service, &name))
        .await;
    running.stop().await;
    let denied = |_: &Order| (State::Waiting, Reason::AccessDenied);
    let running = start(&on, denied, &Asked::default());
    on.cluster.until_reason("web", "Allocated").await;
    on.cluster
        .until_service("web", "why", |service| {
            condition(service, "LoadBalancerReady")
                .is_some_and(|ready| ready["reason"] == "AccessDenied")
        })
        .await;
    assert!(shows(&on.cluster.service("web").await, &name));
    stays(&on, running, denied).await;
}
