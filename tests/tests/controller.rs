//! The real controller over the embedded API server, on a paused clock: first the sentences that hold
//! on any API server ([`tests::suite`]), then what only this one can show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{io::Write as _, time::Duration};

use controller::shell::{Options, State, client_over};
use devapi::faults::{Fault, Faults, Match};
use model::Reason;
use serde_json::{Value, json};
use tests::{
    cluster::addresses,
    fixtures::{bare, pool, with},
    for_every_sentence,
    stage::{Running, Stage, changing, lists, options, watches},
    suite,
};
use tower::Layer as _;

macro_rules! each {
    ($($sentence:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $sentence() {
            suite::$sentence(Stage::devapi().await).await;
        }
    )* };
}

for_every_sentence!(each);

fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

#[tokio::test(start_paused = true)]
async fn every_type_gets_the_numbers_that_kubernetes_would_give_it() {
    let on = Stage::devapi().await;
    let headless = with(
        bare("headless", "ClusterIP"),
        "/spec/clusterIP",
        json!("None"),
    );
    let local = with(
        bare("local", "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    let external = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "external"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    });
    let dual = with(
        bare("dual", "ClusterIP"),
        "/spec/ipFamilyPolicy",
        json!("RequireDualStack"),
    );
    on.create([
        pool("public", &["192.0.2.0/24"]),
        headless,
        external,
        local,
        dual,
    ])
    .await;
    on.create([
        bare("cluster-ip", "ClusterIP"),
        bare("node-port", "NodePort"),
        lb("lb"),
    ])
    .await;
    let running = on.start("one");
    let is_v4 = |o: &Value| {
        o["spec"]["clusterIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.96."))
    };
    let port = |o: &Value| {
        o["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .unwrap_or_default()
    };
    on.cluster
        .until_service("cluster-ip", "has its clusterIP only", |o| {
            is_v4(o) && port(o) == 0
        })
        .await;
    on.cluster
        .until_service("node-port", "has both", |o| is_v4(o) && port(o) >= 30_000)
        .await;
    on.cluster
        .until_service("lb", "has no nodePort", |o| {
            is_v4(o) && port(o) == 0 && addresses(o).len() == 1
        })
        .await;
    on.cluster
        .until_service("local", "has all four", |o| {
            let check = o["spec"]["healthCheckNodePort"]
                .as_u64()
                .unwrap_or_default();
            is_v4(o)
                && port(o) >= 30_000
                && check >= 30_000
                && check != port(o)
                && addresses(o).len() == 1
        })
        .await;
    let dual = on
        .cluster
        .until_service("dual", "has two", |o| {
            o["spec"]["clusterIPs"][1].is_string()
        })
        .await;
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    on.cluster.settled().await;
    assert_eq!(
        on.cluster.service("headless").await["spec"]["clusterIP"],
        "None"
    );
    assert!(
        on.cluster.service("external").await["spec"]
            .get("clusterIP")
            .is_none()
    );
    assert!(
        !on.writes()
            .iter()
            .any(|told| told.contains("services/headless") || told.contains("services/external"))
    );
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_parsed_stops_nobody_and_is_served_when_it_can_be() {
    let on = Stage::devapi().await;
    on.create([
        pool("public", &["192.0.2.0/24"]),
        with(
            pool("bad", &["198.51.100.0/24"]),
            "/spec/priority",
            json!(4242),
        ),
        with(lb("bad"), "/spec/ports/0/port", json!(8123)),
        lb("good"),
    ])
    .await;
    // What a newer API server might send, or a bug: a string where the type has a number.
    let client = changing(on.faults.layer(on.api.clone().unwrap()), watches, |chunk| {
        let text = String::from_utf8_lossy(&chunk).replace("\"port\":8123", "\"port\":\"x\"");
        (
            Duration::ZERO,
            text.replace("\"priority\":4242", "\"priority\":\"high\"")
                .into(),
        )
    });
    let mut running = Running::start(client, options("one"));
    on.cluster.until_address("good", "192.0.2.0").await;
    running.until("idle", |state| state.idle).await;
    on.cluster.settled().await;
    assert!(
        !on.writes()
            .iter()
            .any(|told| told.contains("services/bad") || told.contains("addresspools/bad"))
    );
    // Known already, then unparsable: it stays as last known.
    on.cluster
        .set("good", "/spec/ports/0/port", json!(8123))
        .await;
    on.create([lb("late")]).await;
    on.cluster.until_address("late", "192.0.2.1").await;
    on.cluster.until_address("good", "192.0.2.0").await;
    for name in ["good", "bad"] {
        on.cluster.set(name, "/spec/ports/0/port", json!(81)).await;
    }
    on.cluster.until_address("bad", "192.0.2.2").await;
    on.cluster.delete("AddressPool", "bad").await;
    on.fixed_point(running).await;
}

/// Its watches fail while `meanwhile` happens; then its history is gone, so that it lists again.
async fn blinded(on: &Stage, meanwhile: impl AsyncFnOnce()) {
    let looks = |r: &devapi::faults::RequestInfo| r.verb == "watch" || r.verb == "list";
    on.faults
        .script(Match::any().when(looks), Fault::ServerError(500));
    on.faults.cut_watches();
    let blind = |log: devapi::faults::RequestLog| log.entries().iter().any(|e| e.fault.is_some());
    on.cluster
        .until("its watches fail", async |_| blind(on.faults.log()))
        .await;
    meanwhile().await;
    on.api.as_ref().unwrap().compact();
    on.faults.clear();
}

#[tokio::test(start_paused = true)]
async fn a_list_with_an_object_that_cannot_be_parsed_is_read_apart_from_that() {
    let on = Stage::devapi().await;
    on.create([pool("public", &["192.0.2.0/24"]), lb("known")])
        .await;
    let client = changing(on.faults.layer(on.api.clone().unwrap()), lists, |chunk| {
        let text = String::from_utf8_lossy(&chunk).replace("\"port\":8123", "\"port\":\"x\"");
        (Duration::ZERO, text.into())
    });
    let mut running = Running::start(
        client,
        Options {
            streaming_lists: false,
            ..options("one")
        },
    );
    on.cluster.until_address("known", "192.0.2.0").await;
    on.cluster.settled().await;
    let before = running.state().counters;
    on.faults.log().clear();
    blinded(&on, async || {
        on.cluster
            .set("known", "/spec/ports/0/port", json!(8123))
            .await;
        on.create([
            with(lb("fresh"), "/spec/ports/0/port", json!(8123)),
            lb("good"),
        ])
        .await;
    })
    .await;
    on.cluster.until_address("good", "192.0.2.1").await;
    running.until("idle", |state| state.idle).await;
    on.cluster.settled().await;
    let after = running.state().counters;
    assert_eq!(after.unreadable - before.unreadable, 2, "both are reported");
    assert_eq!(
        after.reads, before.reads,
        "what cannot be read is there: nobody has to ask whether it is gone"
    );
    let of_unreadable =
        |told: &String| told.contains("services/known") || told.contains("services/fresh");
    assert!(!on.writes().iter().any(of_unreadable), "{:?}", on.writes());
    on.cluster.until_address("known", "192.0.2.0").await;
    for name in ["known", "fresh"] {
        on.cluster.set(name, "/spec/ports/0/port", json!(81)).await;
    }
    on.cluster.until_address("fresh", "192.0.2.2").await;
    on.cluster.until_address("known", "192.0.2.0").await;
    on.fixed_point(running).await;
}

#[tokio::test(start_paused = true)]
async fn the_family_that_was_missing_is_added_when_a_pool_of_it_appears() {
    let (four, six) = (("four", "192.0.2.7/32"), ("six", "2001:db8::7/128"));
    for (first, second) in [(four, six), (six, four)] {
        let on = Stage::devapi().await;
        let bare_ip = |range: &str| range.split('/').next().unwrap().to_owned();
        let dual = with(lb("dual"), "/spec/ipFamilyPolicy", json!("PreferDualStack"));
        on.create([pool(first.0, &[first.1]), dual]).await;
        let mut running = on.start("one");
        let allocated = |o: &Value| {
            let conditions = o["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .find(|c| c["type"] == "portolan.dev/AddressAllocated")
                .map_or(Value::Null, |c| c["reason"].clone())
        };
        let partly = on
            .cluster
            .until_service("dual", "has the first", |o| addresses(o).len() == 1)
            .await;
        assert_eq!(addresses(&partly), [bare_ip(first.1)]);
        assert_eq!(allocated(&partly), "PartlyAllocated");
        running.until("idle", |state| state.idle).await;
        assert_eq!(running.state().figures.waiting.values().sum::<usize>(), 1);
        // Having one of two is a fixed point as well.
        on.fixed_point(running).await;

        let mut running = on.start("two");
        running.until("idle", |state| state.idle).await;
        on.create([pool(second.0, &[second.1])]).await;
        let both = on
            .cluster
            .until_service("dual", "has both", |o| addresses(o).len() == 2)
            .await;
        assert_eq!(addresses(&both), [bare_ip(four.1), bare_ip(six.1)]);
        assert_eq!(allocated(&both), "Allocated");
        running.until("idle", |state| state.idle).await;
        assert!(running.state().figures.waiting.is_empty());
        on.fixed_point(running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_and_writes_only_after_every_watch_is_initialised() {
    for plural in [
        "services",
        "namespaces",
        "loadbalancerclasses",
        "addresspools",
        "nodeportpools",
        "allocationblocks",
    ] {
        let on = Stage::devapi().await;
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        on.faults.script(
            Match::any().when(move |r| r.resource == plural && !r.is_write()),
            Fault::ServerError(500),
        );
        let mut running = on.start("one");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!running.state().ready(), "{plural}");
        assert_eq!(on.writes(), [""; 0], "{plural}");
        on.faults.clear();
        running.until("ready", State::ready).await;
        on.cluster.until_address("a", "192.0.2.0").await;
        running.crash().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_hands_back_the_lease_and_the_standby_takes_over_at_once() {
    let on = Stage::devapi().await;
    let mut one = on.campaign(on.client.clone(), "one");
    one.until("leading", |state| state.leading).await;
    let mut two = on.campaign(on.client.clone(), "two");
    two.until("warm", State::ready).await;
    assert!(!two.state().leading);
    one.stop().await;
    let lease = on.cluster.get("Lease", "default/portolan").await.unwrap();
    assert_ne!(lease["spec"]["holderIdentity"], "one", "{lease}");
    two.until("leading", |state| state.leading).await;
    on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
        .await;
    on.cluster.until_address("a", "192.0.2.0").await;
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_writes_nothing_and_takes_over_when_the_leader_dies() {
    let on = Stage::devapi().await;
    let mut one = on.campaign(on.client.clone(), "one");
    one.until("leading", |state| state.leading).await;
    let standby = Faults::new(1);
    let mut two = on.campaign(
        client_over(standby.layer(on.api.clone().unwrap()), "default"),
        "two",
    );
    on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
        .await;
    on.cluster.until_address("a", "192.0.2.0").await;
    on.cluster.settled().await;
    let wrote: Vec<_> = standby
        .log()
        .writes()
        .into_iter()
        .filter(|w| w.request.resource != "leases")
        .collect();
    assert_eq!(wrote, []);
    one.crash().await;
    on.create([lb("b")]).await;
    on.cluster.until_address("b", "192.0.2.1").await;
    assert!(two.state().leading);
    two.until("idle", |state| state.idle).await;
    on.cluster.check().await;
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn losing_the_lease_stops_every_write() {
    let on = Stage::devapi().await;
    on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
        .await;
    let mut one = on.campaign(on.client.clone(), "one");
    on.cluster.until_address("a", "192.0.2.0").await;
    let lease = |r: &devapi::faults::RequestInfo| r.resource == "leases";
    on.faults
        .script(Match::any().when(lease), Fault::ServerError(503));
    one.until("not leading", |state| !state.leading).await;
    on.faults.log().clear();
    on.create([lb("b")]).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let wrote: Vec<_> = on
        .faults
        .log()
        .writes()
        .into_iter()
        .filter(|w| !lease(&w.request))
        .collect();
    assert_eq!(wrote, []);
    assert!(one.state().ready(), "it stays warm");
    on.faults.clear();
    on.cluster.until_address("b", "192.0.2.1").await;
    one.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_compacted_history_is_listed_again_and_misses_no_deletion() {
    let on = Stage::devapi().await;
    on.create([pool("public", &["192.0.2.7/32"]), lb("a"), lb("b")])
        .await;
    let running = on.start("one");
    on.cluster.until_address("a", "192.0.2.7").await;
    blinded(&on, async || {
        on.cluster.delete("Service", "default/a").await;
    })
    .await;
    on.cluster.until_address("b", "192.0.2.7").await;
    on.fixed_point(running).await;
}

/// What `/metrics` says of waiting Services and of pools. Read by a thread of its own: while that
/// runs, the paused clock stands.
async fn scraped(running: &Running) -> String {
    let address = running.state().admin.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: portolan\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    });
    let page = reading.await.unwrap();
    let told = |line: &&str| {
        line.starts_with("portolan_services_waiting{")
            || line.starts_with("portolan_pool_addresses{pool=\"public\"")
    };
    page.lines().filter(told).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_who_waits_and_what_the_pools_have_and_forget_both() {
    let on = Stage::devapi().await;
    on.create([pool("public", &["192.0.2.7/32"]), lb("a")])
        .await;
    let mut running = Running::start(
        on.client.clone(),
        Options {
            admin: Some(([127, 0, 0, 1], 0).into()),
            ..options("one")
        },
    );
    on.cluster.until_address("a", "192.0.2.7").await;
    on.cluster.settled().await;
    on.create([lb("b")]).await;
    on.cluster.settled().await;
    let pools = |claimed: u8| {
        [
            ("capacity", 1),
            ("claimed", claimed),
            ("retained", 0),
            ("available", 1 - claimed),
        ]
        .map(|(state, n)| {
            format!(
                "portolan_pool_addresses{{pool=\"public\",family=\"IPv4\",state=\"{state}\"}} {n}"
            )
        })
        .join("\n")
    };
    let waits = "portolan_services_waiting{reason=\"PoolExhausted\"} 1";
    assert_eq!(scraped(&running).await, format!("{waits}\n{}", pools(1)));

    // Another reason, and no number moves.
    let asking_for = |pool| json!({"portolan.dev/address-pool": pool});
    on.cluster
        .set("b", "/metadata/annotations", asking_for("elsewhere"))
        .await;
    let elsewhere = |state: &State| state.figures.waiting.contains_key(&Reason::PoolNotFound);
    running
        .until("told before the next resync", elsewhere)
        .await;
    let waits = "portolan_services_waiting{reason=\"PoolNotFound\"} 1";
    assert_eq!(scraped(&running).await, format!("{waits}\n{}", pools(1)));
    on.cluster
        .set("b", "/metadata/annotations", asking_for("public"))
        .await;

    on.cluster.delete("Service", "default/a").await;
    on.cluster.until_address("b", "192.0.2.7").await;
    running.until("idle", |state| state.idle).await;
    assert_eq!(scraped(&running).await, pools(1));

    on.cluster.delete("Service", "default/b").await;
    on.cluster.settled().await;
    assert_eq!(scraped(&running).await, pools(0));

    on.cluster.delete("AddressPool", "public").await;
    on.cluster.settled().await;
    assert_eq!(scraped(&running).await, "");
    on.fixed_point(running).await;
}
