//! nodePorts by policy on the real API server: every sentence of [`tests::node_ports`], then the
//! hazards that only a server has which gives nodePorts itself, each by the number that the list of
//! hazards gives it (R3 the server's own picks, R7 and R8 duplicates, R9 the form of a patch).

use std::time::Duration;

use cluster::Options;
use controller::{
    core::refusal::{self, Refusal},
    shell::{self, USER_AGENT},
};
use serde_json::{Value, json};
use tests::{
    cluster::{condition, reason_of},
    fixtures::{bare, enforcing, node_port, noted, port_pool, with},
    for_every_node_port_sentence,
    node_ports::{port, sentences, told},
};
use tower::ServiceExt as _;

use crate::common::{each, real, stage::stage};

for_every_node_port_sentence!(each);

fn team() -> Value {
    enforcing(port_pool("team", &["30010-30019"]))
}

fn inside(service: &Value) -> bool {
    (30_010..30_020).contains(&port(service))
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r3_what_the_server_picks_outside_the_pool_is_changed_and_inside_is_kept() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    let local = with(
        bare("lb", "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    on.create([bare("before", "NodePort"), team()]).await;
    assert!(!inside(&on.cluster.service("before").await));
    let running = on.start("one");
    on.create([bare("after", "NodePort"), local]).await;
    for name in ["before", "after", "lb"] {
        on.cluster.until_service(name, "is inside", inside).await;
    }
    let lb = on
        .cluster
        .until_service("lb", "is told", |o| told(o).contains("healthCheckNodePort"))
        .await;
    assert!(lb["spec"]["healthCheckNodePort"].as_u64().unwrap() > 30_085);
    on.cluster.check_unique().await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r8_of_two_services_on_one_node_port_the_younger_is_changed() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([port_pool("all", &["30010-30019"]), node_port("old", 30_010)])
        .await;
    // kube-apiserver frees the port of whatever goes, whether or not that had it: an ExternalName is
    // not asked for its nodePort when it comes, and gives it back when it goes.
    let stray = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "stray"},
        "spec": {
            "type": "ExternalName", "externalName": "example.com",
            "ports": [{"name": "http", "port": 80, "nodePort": 30010}],
        },
    });
    on.create([stray]).await;
    on.cluster.delete("Service", "default/stray").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    on.create([node_port("young", 30_010)]).await;
    assert_eq!(port(&on.cluster.service("old").await), 30_010);
    let running = on.start("one");
    let young = on
        .cluster
        .until_service("young", "has another", |o| port(o) != 30_010)
        .await;
    assert!(inside(&young));
    on.cluster.settled().await;
    let old = on.cluster.service("old").await;
    assert_eq!((port(&old), reason_of(&old)), (30_010, ""));
    let events = on.cluster.our_events("young").await;
    assert_eq!(events.len(), 1, "{events:#?}");
    let note = events[0]["note"].as_str().unwrap();
    assert!(
        note.contains("Service default/old, which is older, has 30010 too"),
        "{note}"
    );
    on.cluster.check_unique().await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r9_a_patch_touches_nothing_but_the_node_port() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns", "appProtocol": "a"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 5353},
        {"name": "sctp", "port": 53, "protocol": "SCTP"},
    ]);
    on.create([with(bare("dns", "NodePort"), "/spec/ports", ports)])
        .await;
    let mut before = on.cluster.service("dns").await;
    let running = on.start("one");
    on.create([team()]).await;
    let after = on.cluster.until_service("dns", "is inside", inside).await;
    for place in 0..3 {
        let moved = after["spec"]["ports"][place]["nodePort"].clone();
        assert_eq!(
            moved, after["spec"]["ports"][0]["nodePort"],
            "one number for all"
        );
        before["spec"]["ports"][place]["nodePort"] = moved;
    }
    assert_eq!(after["spec"], before["spec"]);
    let audit = real.plane.audit().unwrap();
    let patches: Vec<_> = audit
        .iter()
        .filter(|line| line.user_agent == USER_AGENT && line.is_write())
        .filter(|line| line.resource() == "services")
        .collect();
    assert_eq!(patches.len(), 1, "{patches:#?}");
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r2_two_controllers_without_a_lease_give_no_node_port_twice() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([enforcing(port_pool("team", &["30000-30019"]))])
        .await;
    let (one, two) = (on.start("one"), on.start("two"));
    for number in 0..12 {
        on.create([bare(&format!("s{number}"), "NodePort")]).await;
    }
    for number in 0..12 {
        let name = format!("s{number}");
        on.cluster
            .until_service(&name, "is inside", |o| (30_000..30_020).contains(&port(o)))
            .await;
        on.cluster.check_unique().await;
    }
    on.cluster.settled().await;
    two.stop().await;
    on.fixed_point(one).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_words_of_the_real_api_server_are_understood() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([node_port("a", 30_010), node_port("b", 30_011)])
        .await;
    let refused = async |number: u64| {
        let change = |o: &mut Value| o["spec"]["ports"][0]["nodePort"] = json!(number);
        let refused = on.cluster.replace("Service", "default/b", "", change).await;
        refusal::read(&refused.unwrap_err().to_string())
    };
    assert_eq!(refused(30_010).await.first(), Some(&Refusal::Taken(30_010)));
    let range = Refusal::OutOfRange {
        first: 30_000,
        last: 32_767,
    };
    assert_eq!(refused(20_000).await.first(), Some(&range));
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_foreign_claim_that_no_service_shows_makes_another_number_be_taken() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([team(), bare("web", "NodePort")]).await;
    // The watch of Services is behind: it does not tell of this one until it is cut.
    let web = on.cluster.service("web").await;
    let hidden = noted(
        node_port("hidden", 30_010),
        "portolan.dev/keep-node-ports",
        "true",
    );
    let client = on.client.clone();
    let cluster = on.cluster.client();
    let done = std::sync::Arc::new(tokio::sync::OnceCell::new());
    let send = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, cluster, hidden) = (client.clone(), cluster.clone(), hidden.clone());
        let done = done.clone();
        async move {
            // Just before the change is sent somebody else takes the number.
            let is_change = request.method() == http::Method::PATCH
                && request.uri().path().ends_with("/services/web");
            if is_change {
                done.get_or_init(|| async {
                    let hidden: k8s_openapi::api::core::v1::Service =
                        serde_json::from_value(hidden).unwrap();
                    let services: kube::Api<k8s_openapi::api::core::v1::Service> =
                        kube::Api::namespaced(cluster, "default");
                    services
                        .create(&kube::api::PostParams::default(), &hidden)
                        .await
                        .unwrap();
                })
                .await;
            }
            let answer = client.send(request).await?;
            Ok::<_, tower::BoxError>(answer)
        }
    });
    let client = shell::client_over(send.boxed_clone(), "default");
    let running = tests::stage::Running::start(client, tests::stage::options("one"));
    let moved = on.cluster.until_service("web", "is inside", inside).await;
    assert_ne!(port(&moved), port(&web));
    assert_ne!(port(&moved), 30_010);
    on.cluster.settled().await;
    assert_eq!(port(&on.cluster.service("hidden").await), 30_010);
    on.cluster.check_unique().await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn an_upgrade_from_unmanaged_changes_what_does_not_fit_and_nothing_else() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    for number in 0..6_u16 {
        on.create([node_port(&format!("fits{number}"), 30_010 + number)])
            .await;
    }
    for number in 0..3 {
        on.create([bare(&format!("random{number}"), "NodePort")])
            .await;
    }
    // The youngest: it is the one for whom nothing is left.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    on.create([node_port("youngest", 30_019)]).await;
    let running = on.start("one");
    on.cluster.settled().await;
    let ours = ["patch loadbalancerclasses/default/status"];
    assert_eq!(on.writes(), ours, "without a pool nothing is written");
    let team = with(team(), "/spec/exclude", json!(["30019"]));
    let team = with(team, "/spec/strategy", json!("Stable"));
    on.create([team]).await;
    let fits = |o: &Value| (30_010..30_019).contains(&port(o));
    for name in ["random0", "random1", "random2"] {
        on.cluster.until_service(name, "fits", fits).await;
    }
    // Nine fit, ten want: the last one waits and says so.
    let youngest = on
        .cluster
        .until_service("youngest", "is told", |o| told(o).contains("PoolExhausted"))
        .await;
    assert_eq!(port(&youngest), 30_019);
    for number in 0..6_u16 {
        let fits = on.cluster.service(&format!("fits{number}")).await;
        assert_eq!(port(&fits), u64::from(30_010 + number));
        assert_eq!(fits["metadata"].get("generation"), None);
        assert_eq!(condition(&fits, "NodePortsAllocated"), None);
    }
    on.fixed_point(running).await;
}
