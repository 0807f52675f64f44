//! Numbers that Services get while they are created, on the real API server, by replicas whose
//! webhook it asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use allocator::block::Claim;
use cluster::Options;
use controller::core::admit::KEPT;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tests::{
    cluster::Cluster,
    fixtures::{bare, cluster_pool, enforcing, node_port, port_pool, with},
    stage::Running,
};
use tokio::net::TcpListener;

use crate::common::{
    real,
    webhook::{Hooked, Replica, hooked},
};

fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().unwrap();
    ports
        .iter()
        .map(|port| port["nodePort"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_service_is_created_with_the_numbers_of_its_pool() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    on.on.create([port_pool("team", &["30010-30019"])]).await;
    on.until_entries(1).await;
    let local = with(
        bare("local", "LoadBalancer"),
        "/spec/externalTrafficPolicy",
        json!("Local"),
    );
    on.on.create([bare("web", "NodePort"), local]).await;
    let web = on.on.cluster.get("Service", "default/web").await.unwrap();
    assert_eq!(node_ports(&web), [30_010]);
    let local = on.on.cluster.get("Service", "default/local").await.unwrap();
    assert_eq!(node_ports(&local), [30_011]);
    assert_eq!(local["spec"]["healthCheckNodePort"], json!(30_012));
    on.stop(replica).await;
}

/// What there is to be said of a Service: its policy, its families, the families of its addresses.
fn shape(service: &Value) -> Value {
    let families: Vec<&str> = addresses(service)
        .iter()
        .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    let spec = &service["spec"];
    json!([spec["ipFamilyPolicy"], spec["ipFamilies"], families])
}

fn addresses(service: &Value) -> Vec<IpAddr> {
    let all = service["spec"]["clusterIPs"].as_array();
    let all = all.into_iter().flatten();
    all.filter_map(|ip| ip.as_str().unwrap().parse().ok())
        .collect()
}

fn in_pool(address: &IpAddr) -> bool {
    let text = address.to_string();
    text.starts_with("10.96.200.") || text.starts_with("fd00:10:96::c8")
}

/// What became of it: its shape, or the words of the refusal without what is the object's own.
fn outcome(made: kube::Result<Value>, name: &str) -> Value {
    match made {
        Ok(service) => shape(&service),
        Err(kube::Error::Api(status)) => {
            let words = status.message.replace(name, "NAME");
            // The addresses of the two differ.
            let words: Vec<&str> = words
                .split(|c: char| c == '"' || c == '[' || c == ']' || c.is_whitespace())
                .filter(|word| word.parse::<IpAddr>().is_err())
                .collect();
            json!([status.code, words.join(" ")])
        }
        Err(error) => panic!("{error}"),
    }
}

/// Families that a Service asks for, as its policy and its addresses do: none, one, two.
const FAMILIES: [&[&str]; 5] = [
    &[],
    &["IPv4"],
    &["IPv6"],
    &["IPv4", "IPv6"],
    &["IPv6", "IPv4"],
];
const POLICIES: [Option<&str>; 4] = [
    None,
    Some("SingleStack"),
    Some("PreferDualStack"),
    Some("RequireDualStack"),
];

/// Sets what is given.
fn asking(mut service: Value, policy: Option<&str>, families: &[&str], ips: &[String]) -> Value {
    let spec = &mut service["spec"];
    if let Some(policy) = policy {
        spec["ipFamilyPolicy"] = json!(policy);
    }
    if !families.is_empty() {
        spec["ipFamilies"] = json!(families);
    }
    if let Some(first) = ips.first() {
        spec["clusterIP"] = json!(first);
        spec["clusterIPs"] = json!(ips);
    }
    service
}

/// Every combination of kind, policy, families and addresses: 2.5 of the facts, and what it leaves
/// out.
fn family_table() -> Vec<(String, impl Fn(u16) -> Value)> {
    let mut table = Vec::new();
    for kind in ["plain", "headless", "headless without selector"] {
        for policy in POLICIES {
            for families in FAMILIES {
                for ips in FAMILIES {
                    if kind != "plain" && !ips.is_empty() {
                        continue;
                    }
                    let told = format!("{kind}, {policy:?}, {families:?}, clusterIPs {ips:?}");
                    // `last` is free and the pool's, or of no pool.
                    let make = move |last: u16| {
                        let ips: Vec<String> = match kind {
                            "plain" => (ips.iter())
                                .map(|family| match *family {
                                    "IPv4" => format!("10.96.{}.{}", last >> 8, last & 0xff),
                                    _ => format!("fd00:10:96::{last:x}"),
                                })
                                .collect(),
                            _ => vec!["None".to_owned()],
                        };
                        let service = bare("NAME", "ClusterIP");
                        let service = match kind {
                            "headless without selector" => service,
                            _ => with(service, "/spec/selector", json!({"app": "web"})),
                        };
                        asking(service, policy, families, &ips)
                    };
                    table.push((told, make));
                }
            }
        }
    }
    table
}

fn named(service: Value, namespace: &str, name: &str) -> Value {
    let service = with(service, "/metadata/name", json!(name));
    with(service, "/metadata/namespace", json!(namespace))
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn families_and_policies_are_what_the_api_server_makes_of_them_and_addresses_the_pools() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    let ranges = ["10.96.200.0/24", "fd00:10:96::c800/120"];
    on.on.create([cluster_pool("inside", &ranges)]).await;
    on.until_entries(1).await;
    let cluster = &on.on.cluster;
    // Nobody is asked about this namespace: there the API server does what it always does.
    const WITHOUT: &str = "kube-system";
    let (mut last, mut given) = (128_u16, 0);
    for (number, (told, make)) in family_table().into_iter().enumerate() {
        let name = format!("s{number:03}");
        let without = named(make(0x0500 + last), WITHOUT, &name);
        let with = named(make(0xc800 + last), "default", &name);
        last = if last == 250 { 128 } else { last + 1 };
        let asked_for = addresses(&with);
        let without = cluster.try_create(without).await;
        let with = cluster.try_create(with).await;
        if let Ok(service) = &with {
            let got = addresses(service);
            assert!(got.iter().all(in_pool), "{told}: {got:?}");
            assert!(got.starts_with(&asked_for), "{told}: {got:?}");
            given += got.len();
        }
        assert_eq!(outcome(with, &name), outcome(without, &name), "{told}");
        for namespace in ["default", WITHOUT] {
            cluster
                .delete("Service", &format!("{namespace}/{name}"))
                .await;
        }
    }
    assert!(given > 60, "only {given} addresses in the whole table");

    // The same of changes.
    let v4 = json!(["IPv4"]);
    let v6 = json!(["IPv6"]);
    let (v4v6, v6v4) = (json!(["IPv4", "IPv6"]), json!(["IPv6", "IPv4"]));
    let changes = [
        ("SingleStack", json!({"ipFamilyPolicy": "PreferDualStack"})),
        ("SingleStack", json!({"ipFamilyPolicy": "RequireDualStack"})),
        (
            "SingleStack",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": v4v6}),
        ),
        (
            "SingleStack",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": v6v4}),
        ),
        ("SingleStack", json!({"ipFamilies": v4v6})),
        ("SingleStack", json!({"ipFamilies": v6})),
        ("RequireDualStack", json!({"ipFamilyPolicy": "SingleStack"})),
        (
            "RequireDualStack",
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": v6}),
        ),
        ("RequireDualStack", json!({"ipFamilies": v4})),
        (
            "PreferDualStack",
            json!({"ipFamilyPolicy": "RequireDualStack"}),
        ),
    ];
    for (number, (policy, change)) in changes.into_iter().enumerate() {
        let told = format!("{policy}, then {change}");
        let name = format!("u{number:03}");
        let mut shapes = Vec::new();
        for namespace in [WITHOUT, "default"] {
            let service = asking(bare("NAME", "ClusterIP"), Some(policy), &[], &[]);
            let before = cluster.create(named(service, namespace, &name)).await;
            let key = format!("{namespace}/{name}");
            let changed = cluster
                .replace("Service", &key, "", |o| {
                    for (field, value) in change.as_object().unwrap() {
                        o["spec"][field] = value.clone();
                    }
                })
                .await;
            if let Ok(service) = &changed
                && namespace == "default"
            {
                let got = addresses(service);
                assert!(got.iter().all(in_pool), "{told}: {got:?}");
                assert_eq!(got.first(), addresses(&before).first(), "{told}");
            }
            shapes.push(outcome(changed, &name));
        }
        assert_eq!(shapes[1], shapes[0], "{told}");
    }
    on.stop(replica).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r5_what_a_replacement_leaves_out_stays_and_namespaces_are_known_before_their_services() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let cluster = &on.on.cluster;
    // From before, with numbers of no pool.
    let old = asking(
        node_port("old", 31_000),
        Some("PreferDualStack"),
        &["IPv4", "IPv6"],
        &["10.96.7.7".to_owned(), "fd00:10:96::707".to_owned()],
    );
    let single = asking(
        bare("single", "ClusterIP"),
        None,
        &[],
        &["10.96.7.8".to_owned()],
    );
    on.on.create([old, single]).await;
    let replica = on.start("one").await;
    let teams = json!({"matchLabels": {"team": "a"}});
    let ranges = ["10.96.200.0/24", "fd00:10:96::c800/120"];
    on.on
        .create([
            cluster_pool("inside", &ranges),
            with(
                enforcing(port_pool("team", &["30010-30019"])),
                "/spec/namespaceSelector",
                teams.clone(),
            ),
        ])
        .await;
    on.until_entries(2).await;

    // An update as a client sends it that knows only its own fields.
    for name in ["old", "single"] {
        let key = format!("default/{name}");
        let before = cluster.service(name).await;
        let after = cluster
            .replace("Service", &key, "", |object| {
                let spec = object["spec"].as_object_mut().unwrap();
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
                spec["sessionAffinity"] = json!("ClientIP");
                for port in spec["ports"].as_array_mut().unwrap() {
                    port.as_object_mut().unwrap().remove("nodePort");
                }
            })
            .await
            .unwrap();
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ports"] {
            assert_eq!(after["spec"][field], before["spec"][field], "{name}");
        }
    }

    // A namespace and a Service in it, one right after the other.
    for number in 0..5 {
        let name = format!("team-{number}");
        let labels = json!({"team": "a"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}});
        cluster.create(namespace).await;
        let web = named(bare("web", "NodePort"), &name, "web");
        let web = cluster.create(web).await;
        assert_eq!(node_ports(&web), [30_010 + number]);
    }
    on.stop(replica).await;
}

/// Creates these at once; the numbers of those that were made, the words for those that were not.
async fn at_once(on: &Hooked, names: &[String]) -> (Vec<u64>, Vec<String>) {
    let made: Vec<kube::Result<Value>> = stream::iter(names)
        .map(|name| on.on.cluster.try_create(bare(name, "NodePort")))
        .buffer_unordered(64)
        .collect()
        .await;
    let (mut numbers, mut refused) = (Vec::new(), Vec::new());
    for made in made {
        match made {
            Ok(service) => numbers.extend(node_ports(&service)),
            Err(kube::Error::Api(status)) => {
                assert_eq!(status.code, 422, "{}", status.message);
                refused.push(status.message.clone());
            }
            Err(error) => panic!("{error}"),
        }
    }
    (numbers, refused)
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:02}")).collect()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r2_of_64_creations_at_once_by_three_replicas_only_those_are_refused_for_whom_nothing_is_left()
 {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replicas = [
        on.start("one").await,
        on.start("two").await,
        on.start("three").await,
    ];
    on.enforce(port_pool("hundred", &["30100-30199"])).await;
    // 100 numbers, and nobody else who could have one.
    let (first, refused) = at_once(&on, &names("a", 64)).await;
    assert_eq!((first.len(), refused), (64, Vec::new()));
    let (second, refused) = at_once(&on, &names("b", 64)).await;
    assert_eq!((second.len(), refused.len()), (36, 28), "{refused:?}");
    for told in refused {
        assert!(told.contains("hundred"), "{told}");
    }
    let all: BTreeSet<u64> = first.into_iter().chain(second).collect();
    assert_eq!(all.len(), 100, "no number twice");
    assert_eq!((all.first(), all.last()), (Some(&30_100), Some(&30_199)));
    until_ledger(&on.on.cluster, "all are claimed", |ledger| {
        ledger.len() == 100 && ledger.values().all(|claim| claim.starts_with("held"))
    })
    .await;
    for replica in replicas {
        on.stop(replica).await;
    }
}

/// What the ledger says of each nodePort: `held by` a Service, or `kept for` one.
async fn ledger(cluster: &Cluster) -> BTreeMap<String, String> {
    let says = |claim: Claim| match claim {
        Claim::Held(holders) => {
            let holders = holders.iter().map(|holder| holder.service.to_string());
            format!("held by {}", holders.collect::<Vec<_>>().join(", "))
        }
        Claim::Retained { owner, .. } => format!("kept for {owner}"),
    };
    let claims = cluster.ledger().await.into_iter();
    claims
        .map(|(number, claim)| (number.to_string(), says(claim)))
        .collect()
}

async fn until_ledger(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&BTreeMap<String, String>) -> bool,
) {
    cluster
        .until(what, async |cluster| holds(&ledger(cluster).await))
        .await;
}

/// How far the clock of the replicas is set forward, in seconds.
static FORWARD: AtomicI64 = AtomicI64::new(0);

fn set_forward() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from(since).unwrap() + FORWARD.load(Ordering::Relaxed)
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r1_r4_what_is_never_stored_keeps_a_number_for_90_seconds_and_a_dry_run_for_none() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let cluster = &on.on.cluster;
    let mut options = on.options("one");
    options.wall = set_forward;
    let mut running = Running::start(on.on.client.clone(), options);
    running.until("ready", |state| state.ready()).await;
    let address = running.state().webhook.unwrap();
    on.balancer.add(address);
    let replica = Replica { running, address };
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"namespace": "default", "name": "none"},
        "spec": {"hard": {"services.loadbalancers": "0"}},
    });
    let another = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "another"},
        "webhooks": [{
            "name": "another.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "timeoutSeconds": 1,
            "objectSelector": {"matchLabels": {"another": "refuses"}},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["services"],
            }],
        }],
    });
    on.on
        .create([quota, another, port_pool("team", &["30010-30019"])])
        .await;
    cluster
        .edit_status("ResourceQuota", "default/none", |o| {
            o["status"] = json!({
                "hard": {"services.loadbalancers": "0"},
                "used": {"services.loadbalancers": "0"},
            });
        })
        .await;
    on.until_entries(1).await;

    // A dry run says what there would be, and nobody has it afterwards.
    let services = Api::<Service>::namespaced(cluster.client(), "default");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let service: Service = serde_json::from_value(bare("dry", "NodePort")).unwrap();
    let told = services.create(&dry, &service).await.unwrap();
    assert_eq!(node_ports(&json!(told)), [30_010]);
    assert_eq!(cluster.get("Service", "default/dry").await, None);
    assert_eq!(ledger(cluster).await, BTreeMap::new());

    // Refused after we have answered: by a quota, by another webhook.
    let refused = async |service: Value, by: &str| {
        let refused = cluster.try_create(service).await.unwrap_err().to_string();
        assert!(refused.contains(by), "{refused}");
    };
    let labels = json!({"another": "refuses"});
    refused(bare("over", "LoadBalancer"), "exceeded quota").await;
    let unwanted = with(bare("unwanted", "NodePort"), "/metadata/labels", labels);
    refused(unwanted.clone(), "another.example.com").await;
    let kept = ledger(cluster).await;
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["30010", "30011"]);
    assert!(
        kept.values().all(|says| says.starts_with("kept")),
        "{kept:?}"
    );
    // The API server looks at names after it has asked: such a one keeps nothing, and the ledger can
    // still be read.
    refused(bare("a b", "NodePort"), "metadata.name").await;
    let mut unnamed = with(
        bare("x", "NodePort"),
        "/metadata/generateName",
        json!("a b-"),
    );
    unnamed["metadata"].as_object_mut().unwrap().remove("name");
    refused(unnamed, "a b-").await;
    assert_eq!(ledger(cluster).await, kept);
    // Who tries again has the same one, and it costs no write.
    let block = async || {
        let blocks = cluster.all("AllocationBlock").await;
        blocks[0]["metadata"]["resourceVersion"].clone()
    };
    let before = block().await;
    refused(unwanted, "another.example.com").await;
    assert_eq!((ledger(cluster).await, block().await), (kept, before));
    // Others have others.
    let web = cluster.create(bare("web", "NodePort")).await;
    assert_eq!(node_ports(&web), [30_012]);
    until_ledger(cluster, "the third is held", |ledger| {
        ledger
            .get("30012")
            .is_some_and(|says| says.starts_with("held"))
    })
    .await;

    FORWARD.store(KEPT + 1, Ordering::Relaxed);
    // Whatever happens next makes the replica look at its clock.
    on.on.create([bare("tick", "ClusterIP")]).await;
    until_ledger(cluster, "nothing is kept any more", |ledger| {
        ledger.keys().map(String::as_str).eq(["30012"])
    })
    .await;
    let next = cluster.create(bare("next", "NodePort")).await;
    assert_eq!(node_ports(&next), [30_010]);
    on.stop(replica).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn an_upgrade_keeps_what_fits_and_a_webhook_that_hangs_keeps_nobody() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let cluster = &on.on.cluster;
    // From before: two that fit, and one that does not.
    on.on
        .create([
            node_port("fits", 30_010),
            node_port("fits-too", 30_012),
            node_port("odd", 31_000),
        ])
        .await;
    let replica = on.start("one").await;
    on.on.create([port_pool("team", &["30010-30019"])]).await;
    on.until_entries(1).await;
    let new = cluster.create(bare("new", "NodePort")).await;
    assert_eq!(node_ports(&new), [30_011], "what is shown is nobody else's");
    // A change of something else leaves a nodePort alone, whether it fits or not.
    for (name, port) in [("fits", 30_010), ("odd", 31_000)] {
        cluster
            .set(name, "/spec/sessionAffinity", json!("ClientIP"))
            .await;
        assert_eq!(node_ports(&cluster.service(name).await), [port], "{name}");
    }
    // And a new port of an old Service is the pool's.
    let ports = json!([
        {"name": "http", "port": 80, "nodePort": 30_012},
        {"name": "https", "port": 443},
    ]);
    cluster.set("fits-too", "/spec/ports", ports).await;
    assert_eq!(
        node_ports(&cluster.service("fits-too").await),
        [30_012, 30_013]
    );

    // Somebody who takes the question and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    on.stop(replica).await;
    on.balancer.add(silent.local_addr().unwrap());
    let begun = Instant::now();
    cluster.create(bare("hasty", "NodePort")).await;
    let took = begun.elapsed();
    let asked = Duration::from_secs(5)..Duration::from_secs(12);
    assert!(
        asked.contains(&took),
        "the API server waits for five seconds, not {took:?}"
    );
}
