//! nodePorts by policy over the embedded API server, on a paused clock: first the sentences that hold
//! on any API server ([`tests::node_ports`]), then what only a paused clock, a broken wire or a lying
//! server can show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use controller::{
    core::{engine::NodePorts, pace::ServerRange},
    shell::{self, Options},
};
use devapi::faults::{Fault, Match};
use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tests::{
    cluster::condition,
    fixtures::{enforcing, node_port, noted, port_pool},
    for_every_node_port_sentence,
    node_ports::{port, sentences, told},
    stage::{Running, Stage, options},
};
use tower::ServiceExt as _;

macro_rules! each {
    ($($sentence:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $sentence() {
            sentences::$sentence(Stage::devapi().await).await;
        }
    )* };
}

for_every_node_port_sentence!(each);

fn rest() -> Value {
    port_pool("rest", &["31000-31099"])
}

fn team() -> Value {
    enforcing(port_pool("team", &["30010-30019"]))
}

/// A controller whose API server refuses these nodePorts, in kube-apiserver's words.
fn over(on: &Stage, refuse: impl Fn(u64) -> Option<String> + Send + Sync + 'static) -> Running {
    let client = on.client.clone();
    let refuse = Arc::new(refuse);
    let send = tower::service_fn(move |request: Request<Body>| {
        let (client, refuse) = (client.clone(), Arc::clone(&refuse));
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let patch: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let words = patch.as_array().into_iter().flatten().find_map(|step| {
                let path = step["path"].as_str()?;
                path.ends_with("/nodePort")
                    .then(|| refuse(step["value"].as_u64()?))?
            });
            if let Some(words) = words {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                    "reason": "Invalid", "message": words, "metadata": {},
                });
                let mut answer = Response::new(Body::from(status.to_string().into_bytes()));
                *answer.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
                return Ok::<_, tower::BoxError>(answer);
            }
            let request = Request::from_parts(parts, Body::from(bytes.to_vec()));
            let answer = client.send(request).await?;
            Ok(answer)
        }
    });
    let client = shell::client_over(send.boxed_clone(), "default");
    Running::start(client, options("one"))
}

fn taken(port: u64) -> String {
    format!(
        "Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
    )
}

#[tokio::test(start_paused = true)]
async fn a_number_that_the_api_server_calls_taken_is_left_for_a_while_and_another_tried() {
    let on = Stage::devapi().await;
    on.create([rest(), team(), node_port("web", 31_000)]).await;
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tries);
    let running = over(&on, move |port| {
        seen.lock().unwrap().push(port);
        (port < 30_012).then(|| taken(port))
    });
    on.cluster
        .until_service("web", "has the third", |o| port(o) == 30_012)
        .await;
    on.cluster.settled().await;
    assert_eq!(*tries.lock().unwrap(), [30_010, 30_011, 30_012]);
    assert_eq!(on.cluster.events("web", "NodePortMoved").await, 1);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_asked_number_that_the_api_server_calls_taken_says_so_and_comes_when_it_is_free() {
    let on = Stage::devapi().await;
    let asking = noted(
        node_port("web", 31_000),
        "portolan.dev/node-ports",
        "http=31042",
    );
    on.create([rest(), asking]).await;
    let free = Arc::new(Mutex::new(BTreeSet::<u64>::new()));
    let seen = Arc::clone(&free);
    let running = over(&on, move |port| {
        (!seen.lock().unwrap().contains(&port)).then(|| taken(port))
    });
    let web = on
        .cluster
        .until_service("web", "is told", |o| told(o).contains("AddressInUse"))
        .await;
    assert!(told(&web).contains("no Service shows it"), "{}", told(&web));
    assert_eq!(port(&web), 31_000);
    // It is tried again from time to time, which never settles.
    tokio::time::sleep(Duration::from_secs(700)).await;
    free.lock().unwrap().insert(31_042);
    tokio::time::sleep(Duration::from_secs(700)).await;
    on.cluster
        .until_service("web", "has it", |o| port(o) == 31_042 && told(o).is_empty())
        .await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn the_range_is_learnt_from_a_refusal_and_nothing_outside_it_is_tried_again() {
    let on = Stage::devapi().await;
    on.create([
        rest(),
        enforcing(port_pool("team", &["30000-30003", "31900-31903"])),
    ])
    .await;
    on.create([node_port("web", 31_000), node_port("two", 31_001)])
        .await;
    let tries = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&tries);
    let running = over(&on, move |port| {
        if port >= 30_500 {
            return None;
        }
        *seen.lock().unwrap() += 1;
        Some(format!(
            "spec.ports[0].nodePort: Invalid value: {port}: provided port is not in the valid range. The range of valid ports is 30500-32767"
        ))
    });
    for name in ["web", "two"] {
        on.cluster
            .until_service(name, "is inside", |o| (31_900..31_904).contains(&port(o)))
            .await;
    }
    on.cluster.settled().await;
    assert!(
        *tries.lock().unwrap() <= 2,
        "once for each that was under way"
    );
    let pool = on.cluster.get("NodePortPool", "team").await.unwrap();
    let message = condition(&pool, "Ready").unwrap()["message"].clone();
    assert_eq!(
        message,
        "hands out numbers, but not 30000-30003: outside the API server's node port range 30500-32767"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_understood_is_told_and_tried_again() {
    let on = Stage::devapi().await;
    on.create([rest(), team(), node_port("web", 31_000)]).await;
    let open = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&open);
    let running = over(&on, move |_| {
        (!*seen.lock().unwrap()).then(|| "a policy forbids it".to_owned())
    });
    let web = on
        .cluster
        .until_service("web", "is told", |o| {
            told(o).contains("a policy forbids it")
        })
        .await;
    assert_eq!(port(&web), 31_000);
    *open.lock().unwrap() = true;
    on.cluster
        .until_service("web", "is changed", |o| {
            port(o) == 30_010 && told(o).is_empty()
        })
        .await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_services_are_changed_in_a_second_than_allowed_and_the_oldest_first() {
    let on = Stage::devapi().await;
    on.create([rest(), enforcing(port_pool("team", &["30000-30063"]))])
        .await;
    for number in 0..12_u16 {
        on.create([node_port(&format!("s{number:02}"), 31_000 + number)])
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let node_ports = NodePorts {
        renumber_per_second: 2,
        ..NodePorts::default()
    };
    let began = tokio::time::Instant::now();
    let running = Running::start(
        on.client.clone(),
        Options {
            node_ports,
            ..options("one")
        },
    );
    on.cluster
        .until_service("s11", "is changed", |o| port(o) < 31_000)
        .await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(4_900), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let mut moved = Vec::new();
    for line in on.faults.log().writes() {
        let request = &line.request;
        if request.resource == "services" && request.subresource.is_none() {
            moved.extend(request.name.clone());
        }
    }
    let last: Vec<_> = moved.iter().rev().take(4).rev().collect();
    assert_eq!(last, ["s08", "s09", "s10", "s11"], "{moved:?}");
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_flag_bounds_what_is_handed_out_and_the_pool_says_so() {
    let on = Stage::devapi().await;
    on.create([
        rest(),
        enforcing(port_pool("team", &["20000-20003", "30090-30093"])),
        port_pool("beyond", &["20010-20019"]),
        port_pool("static", &["30000-30001"]),
        node_port("web", 31_000),
    ])
    .await;
    let node_ports = NodePorts {
        range: ServerRange::parse("30000-32767"),
        ..NodePorts::default()
    };
    let running = Running::start(
        on.client.clone(),
        Options {
            node_ports,
            ..options("one")
        },
    );
    on.cluster
        .until_service("web", "is inside both", |o| port(o) == 30_090)
        .await;
    on.cluster.settled().await;
    for (name, status, words) in [
        (
            "team",
            "True",
            "but not 20000-20003: outside the API server's node port range 30000-32767",
        ),
        (
            "beyond",
            "False",
            "none of its ports lies in the API server's node port range",
        ),
        ("rest", "True", "outside the static band 30000-30085"),
        ("static", "True", "hands out numbers"),
    ] {
        let pool = on.cluster.get("NodePortPool", name).await.unwrap();
        let ready = condition(&pool, "Ready").unwrap();
        assert_eq!(ready["status"], status, "{ready}");
        assert!(
            ready["message"].as_str().unwrap().contains(words),
            "{ready}"
        );
    }
    running.stop().await;
}

/// Every single request of the controller is once the last one that it sends, and once the one whose
/// reply is lost.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_a_change_ends_in_the_same_state() {
    for fault in [Fault::CrashBefore, Fault::LostReply] {
        for step in 0..12_usize {
            let on = Stage::devapi().await;
            on.create([
                rest(),
                team(),
                node_port("web", 31_000),
                node_port("fits", 30_010),
            ])
            .await;
            let running = on.start("one");
            on.faults
                .script(Match::writes(), fault)
                .after(step)
                .times(1);
            on.cluster
                .until_service("web", "is changed", |o| port(o) == 30_011)
                .await;
            on.cluster.settled().await;
            running.stop().await;
            let again = on.start("two");
            on.cluster.settled().await;
            assert_eq!(port(&on.cluster.service("fits").await), 30_010);
            on.fixed_point(again).await;
        }
    }
}
