//! Announcements and Speakers as the real controller writes them over the embedded API server, and
//! what it tells Services of what the speakers say. Who answers is said by the test, in the speakers'
//! place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use controller::shell::{Options, SecretName};
use devapi::faults::{Fault, Match};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, condition},
    fixtures::{bare, pool, set, with},
    stage::{Running, Stage, changing, options, watches},
};
use tower::Layer as _;

fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

fn announced(name: &str, addresses: &[&str]) -> Value {
    with(pool(name, addresses), "/spec/announce", json!({"l2": {}}))
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

/// The endpoints of a Service: on which node, and whether it is ready.
fn slice(service: &str, endpoints: &[(&str, bool)]) -> Value {
    let endpoint = |(node, ready): &(&str, bool)| json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default", "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn said(node: &str, addresses: &[&str], at: u32) -> Value {
    let announced = |ip: &&str| json!({"ip": ip, "interfaces": ["eth0"], "since": format!("2026-11-29T00:00:{at:02}.000Z")});
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "SpeakerStatus",
        "metadata": {"name": node},
        "spec": {"announced": addresses.iter().map(announced).collect::<Vec<_>>()},
    })
}

/// Two nodes, an announced pool, and Service `web` with an endpoint on the first node.
async fn stage() -> Stage {
    let on = Stage::devapi().await;
    on.create([
        announced("lan", &["192.0.2.0/24"]),
        node("a", "10.0.0.1"),
        node("b", "10.0.0.2"),
        slice("web", &[("a", true)]),
        said("a", &[], 0),
        said("b", &[], 0),
    ])
    .await;
    on
}

/// A node's speaker says that it answers for these addresses.
async fn says(on: &Stage, node: &str, addresses: &[&str], at: u32) {
    let new = said(node, addresses, at);
    on.cluster
        .edit("SpeakerStatus", node, |object| {
            object["spec"] = new["spec"].clone();
        })
        .await;
}

async fn until_spec(on: &Cluster, kind: &str, name: &str, spec: Value) {
    on.until(&format!("{kind} {name} is {spec}"), async |cluster| {
        let object = cluster.get(kind, name).await;
        object.is_some_and(|object| object["spec"] == spec)
    })
    .await;
}

async fn until_gone(on: &Cluster, kind: &str, name: &str) {
    on.until(&format!("{kind} {name} is gone"), async |cluster| {
        cluster.get(kind, name).await.is_none()
    })
    .await;
}

fn web() -> Value {
    json!({
        "addresses": [{"ip": "192.0.2.0"}], "pools": ["lan"], "services": ["default/web"],
    })
}

fn local(nodes: &[&str]) -> Value {
    with(web(), "/nodes", json!(nodes))
}

/// `web` is served, and the second node says that it answers.
async fn served() -> (Stage, Running) {
    let on = stage().await;
    let running = on.start("one");
    on.create([lb("web")]).await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    says(&on, "b", &["192.0.2.0"], 1).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    on.cluster.settled().await;
    on.faults.log().clear();
    (on, running)
}

async fn until_ready(on: &Stage, message: &str) {
    until_says(on, "True", "Ready", message).await;
}

async fn until_says(on: &Stage, status: &str, reason: &str, message: &str) {
    on.cluster
        .until_service("web", &format!("says {reason}: {message}"), |o| {
            condition(o, "LoadBalancerReady").is_some_and(|c| {
                c["status"] == status && c["reason"] == reason && c["message"] == message
            })
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_address_of_an_announced_pool_gets_an_announcement_and_each_node_a_speaker() {
    let (on, running) = served().await;
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let spec = json!({"addresses": [address], "pools": [{"name": "lan", "weight": 1}]});
        until_spec(&on.cluster, "Speaker", name, spec).await;
        let speaker = on.cluster.get("Speaker", name).await.unwrap();
        let node = on.cluster.get("Node", name).await.unwrap();
        let owner = json!([{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"],
        }]);
        assert_eq!(speaker["metadata"]["ownerReferences"], owner);
        let labels = json!({"app.kubernetes.io/managed-by": "portolan"});
        assert_eq!(speaker["metadata"]["labels"], labels);
    }
    assert_eq!(on.cluster.our_events("web").await, [Value::Null; 0]);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn the_announcement_is_there_a_quarter_of_a_second_after_the_service() {
    let on = stage().await;
    let mut running = on.start("one");
    running.until("idle", |state| state.idle).await;
    on.cluster.settled().await;
    let began = tokio::time::Instant::now();
    on.create([lb("web")]).await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(250), "{took:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_policy_local_the_nodes_follow_the_endpoints() {
    let (on, running) = served().await;
    let policy = "/spec/externalTrafficPolicy";
    on.cluster.set("web", policy, json!("Local")).await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", local(&["a"])).await;
    for (endpoints, expected) in [
        (
            slice("web", &[("a", true), ("b", true)]),
            local(&["a", "b"]),
        ),
        (slice("web", &[("a", false), ("b", true)]), local(&["b"])),
        (slice("web", &[]), local(&[])),
    ] {
        on.cluster
            .edit("EndpointSlice", "default/web-1", |object| {
                object["endpoints"] = endpoints["endpoints"].clone();
            })
            .await;
        until_spec(&on.cluster, "Announcement", "192.0.2.0", expected).await;
    }
    says(&on, "b", &[], 2).await;
    let message = "192.0.2.0 announced by no node: no endpoint of default/web is ready";
    until_says(&on, "False", "NotAnnounced", message).await;
    // Pods come and go: that is no failure.
    assert_eq!(on.cluster.our_events("web").await, [Value::Null; 0]);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_of_itself_is_in_its_speaker_and_nothing_else_is_written() {
    let (on, running) = served().await;
    let spec = |more: Value| {
        let mut spec = json!({"addresses": ["10.0.0.2"], "pools": [{"name": "lan", "weight": 1}]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    on.cluster
        .edit("Node", "b", |node| {
            node["spec"]["unschedulable"] = json!(true)
        })
        .await;
    until_spec(
        &on.cluster,
        "Speaker",
        "b",
        spec(json!({"lastChoice": true})),
    )
    .await;
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    on.cluster
        .edit("Node", "b", |node| {
            node["spec"]["unschedulable"] = Value::Null;
            node["metadata"]["labels"][label] = json!("");
        })
        .await;
    let excluded = json!({"excluded": {
        "reason": "Labelled", "message": format!("the node has the label {label}"),
    }});
    until_spec(&on.cluster, "Speaker", "b", spec(excluded)).await;
    // A heartbeat.
    on.cluster
        .edit_status("Node", "a", |node| {
            node["status"]["conditions"] = json!([
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-29T00:00:00Z"},
            ]);
        })
        .await;
    on.cluster.settled().await;
    assert_eq!(on.writes(), ["patch speakers/b"; 2]);
    on.cluster.delete("Node", "b").await;
    until_gone(&on.cluster, "Speaker", "b").await;
    // Its speaker's word does not count any longer.
    let message = "192.0.2.0 announced by no node: a: it does not answer";
    until_says(&on, "False", "NotAnnounced", message).await;
    assert_eq!(on.cluster.events("web", "NotAnnounced").await, 1);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_move_to_another_node_is_one_write_of_the_status_and_no_event() {
    let (on, running) = served().await;
    says(&on, "a", &["192.0.2.0"], 2).await;
    says(&on, "b", &[], 2).await;
    until_ready(&on, "192.0.2.0 announced from node a on eth0").await;
    on.cluster.settled().await;
    assert_eq!(on.writes(), ["patch services/web/status"]);
    // The old one ceases first, and the new one says so soon after.
    says(&on, "a", &[], 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    says(&on, "b", &["192.0.2.0"], 4).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    on.cluster.settled().await;
    assert_eq!(on.writes(), ["patch services/web/status"; 2]);
    assert_eq!(on.cluster.our_events("web").await, [Value::Null; 0]);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn that_nobody_answers_is_said_with_each_nodes_reason_and_one_event() {
    let (on, running) = served().await;
    on.cluster
        .edit("SpeakerStatus", "b", |object| {
            object["spec"] = json!({"unable": [
                {"pool": "lan", "message": "no interface that is up matches eth1"},
            ]});
        })
        .await;
    on.cluster.delete("SpeakerStatus", "a").await;
    let message = "192.0.2.0 announced by no node: b: no interface that is up matches eth1; a: no \
                   speaker runs there";
    until_says(&on, "False", "NotAnnounced", message).await;
    on.cluster.settled().await;
    assert_eq!(on.cluster.our_events("web").await.len(), 1);
    let writes = on.writes();
    let statuses = writes.iter().filter(|told| told.contains("/status"));
    assert!(statuses.count() <= 2, "{writes:?}");
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn another_machine_with_the_address_is_said_and_its_end_too() {
    let (on, running) = served().await;
    on.cluster
        .edit("SpeakerStatus", "b", |object| {
            object["spec"]["announced"][0]["conflict"] = json!("02:00:00:00:00:09");
        })
        .await;
    let message = "192.0.2.0 announced from node b on eth0; another machine, 02:00:00:00:00:09, \
                   answers for 192.0.2.0, too: give one of the two another address";
    until_says(&on, "False", "AddressConflict", message).await;
    assert_eq!(on.cluster.events("web", "AddressConflict").await, 1);
    says(&on, "b", &["192.0.2.0"], 1).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_goes_takes_its_announcement_with_it() {
    let (on, running) = served().await;
    on.cluster.delete("Service", "default/web").await;
    until_gone(&on.cluster, "Announcement", "192.0.2.0").await;
    on.cluster.settled().await;
    assert!(on.cluster.get("Speaker", "a").await.is_some());
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_announced_any_longer_leaves_nothing() {
    let (on, running) = served().await;
    let announce = async |announce: Value| {
        on.cluster
            .edit("AddressPool", "lan", |pool| {
                set(pool, "/spec/announce", announce.clone());
            })
            .await;
    };
    announce(Value::Null).await;
    until_gone(&on.cluster, "Announcement", "192.0.2.0").await;
    for name in ["a", "b"] {
        until_gone(&on.cluster, "Speaker", name).await;
    }
    let message =
        "the address is assigned; whoever announces the pool's addresses brings the traffic";
    until_ready(&on, message).await;
    announce(json!({"l2": {"interfaces": ["eth1"]}})).await;
    let spec = with(web(), "/addresses/0/interfaces", json!(["eth1"]));
    until_spec(&on.cluster, "Announcement", "192.0.2.0", spec).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_labels_that_can_be_nobodys_says_so() {
    let on = stage().await;
    let running = on.start("one");
    let selector = json!({"l2": {"nodeSelector": {"matchLabels": {"zone": "a b"}}}});
    on.create([with(
        pool("odd", &["198.51.100.0/24"]),
        "/spec/announce",
        selector,
    )])
    .await;
    on.cluster
        .until("the pool says so", async |cluster| {
            let pool = cluster.get("AddressPool", "odd").await.unwrap();
            condition(&pool, "Ready").is_some_and(|ready| {
                ready["reason"] == "PoolInvalid"
                    && ready["message"].as_str().unwrap().contains(
                        "spec.announce.l2.nodeSelector: \"a b\" is no value of label zone",
                    )
            })
        })
        .await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn without_an_announced_pool_nothing_is_watched_for_it() {
    let on = Stage::devapi().await;
    on.create([
        pool("lan", &["192.0.2.0/24"]),
        node("a", "10.0.0.1"),
        slice("web", &[("a", true)]),
        lb("web"),
    ])
    .await;
    let running = on.start("one");
    on.cluster.until_address("web", "192.0.2.0").await;
    on.cluster.settled().await;
    for resource in [
        "nodes",
        "endpointslices",
        "speakerstatuses",
        "announcements",
        "speakers",
    ] {
        let log = on.faults.log();
        let asked = log.count("list", resource) + log.count("watch", resource);
        assert_eq!(asked, 0, "{resource}");
    }
    assert_eq!(on.cluster.all("Speaker").await, [Value::Null; 0]);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_announcement_changed_by_hand_is_put_back_and_one_that_nobody_wants_goes() {
    let (on, running) = served().await;
    on.cluster
        .edit("Announcement", "192.0.2.0", |object| {
            object["spec"]["nodes"] = json!(["nobody"]);
        })
        .await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    on.cluster.delete("Announcement", "192.0.2.0").await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    let stray = |name: &str, labels: Value| {
        json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "Announcement",
            "metadata": {"name": name, "labels": labels}, "spec": web(),
        })
    };
    on.create([
        stray(
            "192.0.2.8",
            json!({"app.kubernetes.io/managed-by": "portolan"}),
        ),
        stray("192.0.2.9", json!({})),
    ])
    .await;
    until_gone(&on.cluster, "Announcement", "192.0.2.8").await;
    on.cluster.settled().await;
    assert!(on.cluster.get("Announcement", "192.0.2.9").await.is_some());
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn services_that_share_an_address_are_one_announcement() {
    let on = stage().await;
    let running = on.start("one");
    let shared = |name: &str, port: u16| {
        let key = "/metadata/annotations/portolan.dev~1sharing-key";
        let service = with(lb(name), key, json!("k"));
        with(service, "/spec/ports/0/port", json!(port))
    };
    on.create([shared("web", 80), shared("api", 81)]).await;
    let spec = with(web(), "/services", json!(["default/api", "default/web"]));
    until_spec(&on.cluster, "Announcement", "192.0.2.0", spec).await;
    on.cluster.delete("Service", "default/api").await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    on.fixed_point(running).await;
}

/// What is there in the end, whatever happened on the way.
async fn until_served(on: &Stage) {
    until_spec(&on.cluster, "Announcement", "192.0.2.0", local(&["a"])).await;
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let spec = json!({"addresses": [address], "pools": [{"name": "lan", "weight": 1}]});
        until_spec(&on.cluster, "Speaker", name, spec).await;
    }
    until_gone(&on.cluster, "Speaker", "c").await;
    until_gone(&on.cluster, "Announcement", "192.0.2.9").await;
    until_ready(on, "192.0.2.0 announced from node a on eth0").await;
}

/// The controller dies at its k-th write, performed or not; whether it got so far. On the way it
/// creates, replaces and deletes.
async fn dies_at(k: usize, performed: bool) -> bool {
    let on = stage().await;
    let ours = json!({"app.kubernetes.io/managed-by": "portolan"});
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "labels": ours}, "spec": spec,
        })
    };
    on.create([
        object("Announcement", "192.0.2.0", web()),
        object("Announcement", "192.0.2.9", web()),
        object("Speaker", "b", json!({"addresses": ["10.0.0.9"]})),
        object("Speaker", "c", json!({"addresses": ["10.0.0.3"]})),
        with(lb("web"), "/spec/externalTrafficPolicy", json!("Local")),
    ])
    .await;
    says(&on, "a", &["192.0.2.0"], 1).await;
    if performed {
        on.faults
            .script(Match::writes(), Fault::LostReply)
            .after(k)
            .times(1);
    }
    on.faults
        .script(Match::writes(), Fault::CrashBefore)
        .after(k);
    let first = on.start("first");
    let mut reached = false;
    for _ in 0..4_000 {
        let log = on.faults.log();
        reached = log.writes().iter().any(|write| write.fault.is_some());
        if reached {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.crash().await;
    on.faults.clear();
    let second = on.start("second");
    until_served(&on).await;
    on.fixed_point(second).await;
    reached
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_write_converges() {
    let mut writes = 0;
    while dies_at(writes, false).await {
        writes += 1;
    }
    assert!(writes >= 12, "{writes} writes only");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_whose_reply_is_lost_converges() {
    let mut writes = 0;
    while dies_at(writes, true).await {
        writes += 1;
    }
    assert!(writes >= 12, "{writes} writes only");
}

#[tokio::test(start_paused = true)]
async fn any_answer_of_the_api_server_is_overcome() {
    for fault in [
        Fault::Conflict,
        Fault::TooManyRequests(1),
        Fault::ServerError(500),
        Fault::LostReply,
        Fault::CrashBefore,
        Fault::Delay(Duration::from_secs(12)),
    ] {
        let on = stage().await;
        for resource in ["announcements", "speakers"] {
            let writes = Match::writes().resource(resource);
            on.faults.script(writes, fault).times(3);
        }
        let running = on.start("one");
        on.create([lb("web")]).await;
        until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
        on.cluster.settled().await;
        says(&on, "b", &["192.0.2.0"], 1).await;
        until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
        on.faults.clear();
        on.fixed_point(running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_nothing_away_while_it_does_not_know_everything() {
    for blind in [
        "nodes",
        "endpointslices",
        "announcements",
        "speakers",
        "speakerstatuses",
    ] {
        let (on, running) = served().await;
        running.stop().await;
        on.faults.script(
            Match::any().when(move |request| request.resource == blind && !request.is_write()),
            Fault::ServerError(500),
        );
        let mut again = on.start("two");
        again.until("idle", |state| state.idle).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(on.writes(), [""; 0], "{blind}");
        on.faults.clear();
        on.fixed_point(again).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_node_slice_or_status_affects_itself_only() {
    let on = stage().await;
    let odd = |object: Value| with(object, "/metadata/annotations/odd", json!("4242"));
    on.create([
        odd(node("odd", "10.0.0.9")),
        odd(slice("odd", &[("a", true)])),
        odd(said("odd", &["192.0.2.0"], 9)),
        lb("odd"),
        lb("web"),
    ])
    .await;
    // What a newer API server might send, or a bug: a number where the type has a string.
    let client = changing(on.faults.layer(on.api.clone().unwrap()), watches, |chunk| {
        let text = String::from_utf8_lossy(&chunk).replace("\"odd\":\"4242\"", "\"odd\":4242");
        (Duration::ZERO, text.into())
    });
    let running = Running::start(client, options("one"));
    on.cluster.until_address("web", "192.0.2.1").await;
    let spec = with(web(), "/addresses", json!([{"ip": "192.0.2.1"}]));
    until_spec(&on.cluster, "Announcement", "192.0.2.1", spec).await;
    says(&on, "b", &["192.0.2.1"], 1).await;
    until_ready(&on, "192.0.2.1 announced from node b on eth0").await;
    on.cluster.settled().await;
    assert!(on.cluster.get("Speaker", "odd").await.is_none());
    let announcement = on.cluster.get("Announcement", "192.0.2.0").await.unwrap();
    assert_eq!(announcement["spec"]["nodes"], json!([]));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_writes_nothing_and_whoever_leads_next_finds_everything_right() {
    let on = stage().await;
    let mut one = on.campaign(on.client.clone(), "one");
    one.until("leading", |state| state.leading).await;
    let mut two = on.campaign(on.client.clone(), "two");
    two.until("synced", |state| state.synced).await;
    on.create([lb("web")]).await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", web()).await;
    says(&on, "b", &["192.0.2.0"], 1).await;
    until_ready(&on, "192.0.2.0 announced from node b on eth0").await;
    on.cluster.settled().await;
    one.stop().await;
    two.until("leading", |state| state.leading).await;
    on.cluster.settled().await;
    on.faults.log().clear();
    on.cluster
        .edit("EndpointSlice", "default/web-1", |object| {
            object["endpoints"] = json!([])
        })
        .await;
    until_spec(&on.cluster, "Announcement", "192.0.2.0", local(&[])).await;
    let writes = on.writes();
    let of_ours = writes.iter().filter(|told| told.contains("announcements"));
    assert_eq!(of_ours.count(), 1, "{writes:?}");
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_addresses_that_move_cost_one_status_each() {
    let on = stage().await;
    let running = on.start("one");
    let names: Vec<String> = (0..200).map(|i| format!("s{i}")).collect();
    for name in &names {
        on.create([lb(name), slice(name, &[("a", true)])]).await;
    }
    let addresses: Vec<String> = (0..200).map(|i| format!("192.0.2.{i}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    says(&on, "a", &addresses, 1).await;
    let until_all = async |node: &str| {
        let on_node = format!("announced from node {node} on eth0");
        on.cluster
            .until(&on_node, async |cluster| {
                let services = cluster.all("Service").await;
                services.iter().all(|service| {
                    condition(service, "LoadBalancerReady")
                        .is_some_and(|ready| ready["message"].as_str().unwrap().contains(&on_node))
                })
            })
            .await;
    };
    until_all("a").await;
    on.cluster.settled().await;
    on.faults.log().clear();
    says(&on, "b", &addresses, 2).await;
    says(&on, "a", &[], 2).await;
    until_all("b").await;
    on.cluster.settled().await;
    let writes = on.writes();
    assert_eq!(writes.len(), 200, "{:?}", &writes[..3]);
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn where_there_are_speakers_what_a_former_process_left_goes_though_no_pool_is_announced() {
    let (on, running) = served().await;
    running.crash().await;
    on.cluster
        .edit("AddressPool", "lan", |pool| {
            set(pool, "/spec/announce", Value::Null);
        })
        .await;
    let speakers = Options {
        speaker_keys: Some(SecretName {
            namespace: "default".to_owned(),
            name: "keys".to_owned(),
        }),
        ..options("two")
    };
    let again = Running::start(on.client.clone(), speakers);
    until_gone(&on.cluster, "Announcement", "192.0.2.0").await;
    for name in ["a", "b"] {
        until_gone(&on.cluster, "Speaker", name).await;
    }
    again.stop().await;
}
