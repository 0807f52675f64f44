//! What happens when something changes: without outage, with few calls, and not at all where nothing
//! is to be done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use aws_tests::{Play, annotated, full, hostname, node, options, service, tcp, until};
use controller::shell::Options;
use serde_json::json;
use tests::stage::Running;

const WEB: &str = "default/web";

async fn annotate(play: &Play, name: &str, value: Option<&str>) {
    play.cluster()
        .edit("Service", WEB, |o| match value {
            Some(value) => o["metadata"]["annotations"][full(name)] = json!(value),
            None => {
                let annotations = o["metadata"]["annotations"].as_object_mut().unwrap();
                annotations.remove(&full(name));
            }
        })
        .await;
}

/// Seconds that have gone by on the wall beside those of the clock.
static PASSED: AtomicI64 = AtomicI64::new(0);

fn wall() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from(now).unwrap() + PASSED.load(Ordering::SeqCst)
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn another_scheme_is_another_load_balancer_made_first() {
    let play = Play::new(&[]).await;
    let on_wall = Options {
        wall,
        ..options("one", play.settings())
    };
    let running = Running::start(play.stage.client.clone(), on_wall);
    play.cluster().create(service("web", tcp(80))).await;
    let before = play.ready("web").await;
    let [old] = &*play.load_balancers().await else {
        panic!("not one")
    };

    annotate(&play, "scheme", Some("internet-facing")).await;
    let shows_another = |o: &serde_json::Value| hostname(o).is_some_and(|name| name != before);
    play.cluster()
        .until_service("web", "shows another name", shows_another)
        .await;
    // Clients that still know the old name are served for DNS_GRACE.
    assert!(play.load_balancers().await.contains(old));
    assert_eq!(play.load_balancers().await.len(), 2);
    let deleted = || play.writes().contains(&"DeleteLoadBalancer".to_owned());
    assert!(!deleted());

    PASSED.store(301, Ordering::SeqCst);
    until("the old one is gone", async || {
        !play.load_balancers().await.contains(old)
    })
    .await;
    play.says("web", "Ready").await;
    assert_eq!(play.target_groups().await.len(), 1);
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn other_targets_get_traffic_when_they_are_healthy() {
    let play = Play::new(&[("HEALTH_SECONDS", "1")]).await;
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    let name = play.ready("web").await;
    play.cluster()
        .create(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "default", "name": "web-1",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.77"], "conditions": {"ready": true}}],
        }))
        .await;
    let old = play.target_groups().await.remove(0);
    until("the nodes are healthy", async || {
        let targets = play.targets(&old).await;
        targets.values().all(|state| state == "healthy")
    })
    .await;
    play.aws.forget_calls();
    annotate(&play, "nlb-target-type", Some("ip")).await;
    until("the new group alone is left", async || {
        let groups = play.target_groups().await;
        groups.len() == 1
            && play
                .targets(&groups[0])
                .await
                .contains_key("10.0.0.77:8080")
    })
    .await;
    assert_eq!(play.ready("web").await, name, "the load balancer stays");
    // First it joins with weight 0, later it has all the traffic, and only then the old one goes.
    let calls = play.aws.calls();
    let at = |action: &str, nth: usize| {
        let mut found = calls.iter().enumerate().filter(|(_, c)| c.action == action);
        found
            .nth(nth)
            .unwrap_or_else(|| panic!("no {action} {nth}"))
            .0
    };
    let weights = |call: &moto::Call| {
        let weights = call
            .parameters
            .iter()
            .filter(|(key, _)| key.ends_with(".Weight"));
        let mut weights: Vec<&str> = weights.map(|(_, value)| &**value).collect();
        weights.sort_unstable();
        weights.join(" ")
    };
    assert_eq!(weights(&calls[at("ModifyListener", 0)]), "0 1");
    assert!(at("CreateTargetGroup", 0) < at("RegisterTargets", 0));
    assert!(at("RegisterTargets", 0) < at("ModifyListener", 0));
    assert!(at("ModifyListener", 1) < at("DeleteTargetGroup", 0));
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn nodes_that_come_are_one_call_for_each_target_group() {
    let play = Play::new(&[]).await;
    let mut settings = play.settings();
    settings.node_window = Duration::from_secs(2); // all come within it, on a busy machine too
    let running = play.controller_with("one", settings);
    for name in ["a", "b", "web"] {
        play.cluster().create(service(name, tcp(80))).await;
        play.ready(name).await;
    }
    play.aws.forget_calls();
    for (number, instance) in play.network.instances[3..].iter().enumerate() {
        play.cluster()
            .create(node(&format!("late{number}"), &instance.provider_id))
            .await;
    }
    let groups = play.target_groups().await;
    until("all are targets", async || {
        for group in &groups {
            if play.targets(group).await.len() != 5 {
                return false;
            }
        }
        true
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await; // another window
    let counts = play.aws.counts();
    assert_eq!(counts.get("RegisterTargets"), Some(&3), "{counts:?}");
    // What was applied is written down beside: one AddTags a load balancer.
    assert_eq!(play.writes().len(), 6, "{counts:?}");
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_node_that_is_not_ready_stays_and_one_that_leaves_drains() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    play.ready("web").await;
    play.aws.forget_calls();
    play.cluster()
        .edit("Node", "n0", |o| {
            o["metadata"]["labels"]["seen"] = json!("twice");
            o["spec"]["taints"] =
                json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]);
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(play.aws.counts().len(), 0, "{:?}", play.aws.counts());

    play.cluster()
        .edit("Node", "n0", |o| {
            o["metadata"]["labels"]["node.kubernetes.io/exclude-from-external-load-balancers"] =
                json!("");
        })
        .await;
    let group = play.target_groups().await.remove(0);
    until("it is no target", async || {
        let targets = play.targets(&group).await;
        targets.len() == 2 && !play.says("web", "Ready").await.is_empty()
    })
    .await;
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_node_without_provider_id_is_named_and_stops_nobody() {
    let play = Play::new(&[]).await;
    play.cluster().create(node("bare", "")).await;
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    let message = play.says("web", "Ready").await;
    assert!(
        message.contains("bare") && message.contains("providerID"),
        "{message}"
    );
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn an_attribute_is_reset_when_its_annotation_goes() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    let cross_zone = "load_balancing.cross_zone.enabled";
    let web = annotated(
        service("web", tcp(80)),
        &[("attributes", &format!("{cross_zone}=true"))],
    );
    play.cluster().create(web).await;
    play.ready("web").await;
    let arn = play.load_balancers().await.remove(0);
    let value = async || {
        let text = play.attributes(&arn).await;
        let after = text.split(cross_zone).nth(1).unwrap().to_owned();
        after.split("<Value>").nth(1).unwrap().starts_with("true")
    };
    assert!(value().await);
    annotate(&play, "attributes", None).await;
    until("it is as AWS has it", async || !value().await).await;
    play.says("web", "Ready").await;
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn what_somebody_deletes_or_changes_in_aws_is_mended() {
    let play = Play::new(&[]).await;
    let mut settings = play.settings();
    settings.verify_interval = Duration::from_millis(200);
    settings.resync = Duration::from_secs(1);
    let running = play.controller_with("one", settings);
    play.cluster().create(service("web", tcp(80))).await;
    play.ready("web").await;
    let group = play.target_groups().await.remove(0);
    let targets = play.targets(&group).await;
    let victim = targets.keys().next().unwrap().split(':').next().unwrap();
    let parameters = [
        ("TargetGroupArn", group.as_str()),
        ("Targets.member.1.Id", victim),
    ];
    play.elb("DeregisterTargets", &parameters).await;
    until("it is registered again", async || {
        let there = play.targets(&group).await;
        there.len() == 3 && there.values().all(|state| state != "draining")
    })
    .await;
    let arn = play.load_balancers().await.remove(0);
    play.elb("DeleteLoadBalancer", &[("LoadBalancerArn", &arn)])
        .await;
    until("it is made again", async || {
        let there = play.load_balancers().await;
        there.len() == 1 && there[0] != arn
    })
    .await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn closer_looks_that_wait_for_their_budget_hold_up_nobody() {
    let play = Play::new(&[]).await;
    let mut settings = play.settings();
    settings.verify_interval = Duration::from_millis(50);
    settings.connect.limits.verify = aws_cloud::Limit {
        burst: 1,
        rate: 0.01,
    };
    let running = play.controller_with("one", settings);
    // As many as passes run at once.
    let names: Vec<String> = (0..16).map(|number| format!("web-{number}")).collect();
    for name in &names {
        play.cluster().create(service(name, tcp(80))).await;
    }
    for name in &names {
        play.ready(name).await;
    }
    // Long enough for a look at each to have begun.
    tokio::time::sleep(Duration::from_secs(2)).await;
    play.cluster().create(service("late", tcp(80))).await;
    let late = tokio::time::timeout(Duration::from_secs(20), play.ready("late"));
    assert!(late.await.is_ok(), "a new Service waits for closer looks");
    running.stop().await;
}
