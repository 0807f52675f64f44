//! clusterIPs by pools on the real API server, which gives every Service its own while it is created:
//! what its ServiceCIDRs make of a pool, and that no Service that it has completed is touched.

use cluster::{ControlPlane, Options};
use controller::shell::USER_AGENT;
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, condition, key_of},
    fixtures::{bare, cluster_pool, with},
    stage::Stage,
};

use crate::common::{Real, real, real_by, stage::stage, webhook::hooked};

/// With the controller that looks after ServiceCIDRs.
const MANAGED: Options = Options {
    controller_manager: true,
};

fn cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": name}, "spec": {"cidrs": cidrs},
    })
}

/// A Service that asks for these clusterIPs.
fn at(name: &str, addresses: &[&str]) -> Value {
    let service = with(
        bare(name, "ClusterIP"),
        "/spec/clusterIP",
        json!(addresses[0]),
    );
    let service = with(service, "/spec/clusterIPs", json!(addresses));
    match addresses.len() {
        1 => service,
        _ => with(service, "/spec/ipFamilyPolicy", json!("RequireDualStack")),
    }
}

/// What the pool says of itself: its condition Ready.
fn told(pool: &Value) -> &str {
    let message = condition(pool, "Ready").and_then(|ready| ready["message"].as_str());
    message.unwrap_or_default()
}

async fn until_pool(on: &Cluster, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    on.until(&format!("pool {name} {what}"), async |cluster| {
        let pool = cluster.get("AddressPool", name).await;
        pool.is_some_and(|pool| holds(&pool))
    })
    .await;
    on.get("AddressPool", name).await.unwrap()
}

fn claimed(pool: &Value) -> (i64, i64) {
    let of = |family: &str| {
        pool["status"][family]["claimed"]
            .as_i64()
            .unwrap_or_default()
    };
    (of("ipv4"), of("ipv6"))
}

/// Everything about Services but what others may write.
async fn services(on: &Cluster) -> Vec<(String, Value)> {
    let services = on.all("Service").await.into_iter();
    let mut services: Vec<_> = services
        .map(|o| {
            let name = o["metadata"]["name"].as_str().unwrap().to_owned();
            (name, o["metadata"]["resourceVersion"].clone())
        })
        .collect();
    services.sort_by(|a, b| a.0.cmp(&b.0));
    services
}

fn writes_to_services(plane: &ControlPlane) -> Vec<String> {
    let audit = plane.audit().unwrap();
    let ours = audit
        .iter()
        .filter(|line| line.user_agent == USER_AGENT && line.is_write())
        .filter(|line| line.resource().starts_with("services"));
    ours.map(|line| line.request_uri.clone()).collect()
}

async fn create_when_allowed(on: &Stage, service: Value) {
    // A ServiceCIDR is used when the API server's own watch has told it.
    on.cluster
        .until("the API server takes the clusterIP", async |cluster| {
            cluster.try_create(service.clone()).await.is_ok()
        })
        .await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn service_cidrs_that_come_and_go_change_what_a_pool_gives_and_move_nobody() {
    let real = real(MANAGED).await;
    let on = stage(&real.plane).await;
    let running = on.start("one");
    on.create([cluster_pool(
        "team",
        &["10.96.0.16-10.96.0.63", "10.97.0.20-10.97.0.27"],
    )])
    .await;
    let pool = until_pool(&on.cluster, "team", "says what is outside", |pool| {
        told(pool).contains("but not 10.97.0.20-10.97.0.27: outside every ServiceCIDR")
    })
    .await;
    assert!(told(&pool).contains("(10.96.0.0/16, fd00:10:96::/112)"));
    assert_eq!(pool["status"]["ipv4"]["capacity"], 48);

    on.create([cidr("more", &["10.97.0.0/24"])]).await;
    let whole = |pool: &Value| pool["status"]["ipv4"]["capacity"] == 56;
    let pool = until_pool(&on.cluster, "team", "has it all", whole).await;
    assert!(!told(&pool).contains("outside every ServiceCIDR"));
    create_when_allowed(&on, at("web", &["10.97.0.20"])).await;
    until_pool(&on.cluster, "team", "records it", |pool| {
        claimed(pool) == (1, 0)
    })
    .await;

    // Its deletion waits for the Service, once Kubernetes' controller has seen it, and is true at once
    // for us.
    on.cluster
        .until("the ServiceCIDR is looked after", async |cluster| {
            let found = cluster.get("ServiceCIDR", "more").await.unwrap();
            !found["metadata"]["finalizers"].is_null()
        })
        .await;
    on.cluster.delete("ServiceCIDR", "more").await;
    let part = |pool: &Value| pool["status"]["ipv4"]["capacity"] == 48;
    let pool = until_pool(&on.cluster, "team", "has lost it", part).await;
    assert!(told(&pool).contains("10.97.0.20-10.97.0.27: outside every ServiceCIDR"));
    let more = on.cluster.get("ServiceCIDR", "more").await;
    assert!(
        more.is_some(),
        "it stays while a Service has an address of it"
    );
    on.cluster.settled().await;
    let web = on.cluster.service("web").await;
    assert_eq!(web["spec"]["clusterIPs"], json!(["10.97.0.20"]));
    on.cluster.check().await;
    assert_eq!(writes_to_services(&real.plane), [""; 0]);

    on.cluster.delete("Service", "default/web").await;
    on.cluster
        .until("the ServiceCIDR is gone", async |cluster| {
            cluster.get("ServiceCIDR", "more").await.is_none()
        })
        .await;
    until_pool(&on.cluster, "team", "is empty", |pool| {
        claimed(pool) == (0, 0)
    })
    .await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn services_from_before_the_pool_are_recorded_in_both_families_and_not_written() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([
        at("four", &["10.96.0.20"]),
        at("both", &["10.96.0.21", "fd00:10:96::21"]),
        at("six", &["fd00:10:96::22", "10.96.0.22"]),
        bare("elsewhere", "ClusterIP"),
        with(bare("none", "ClusterIP"), "/spec/clusterIP", json!("None")),
    ])
    .await;
    let before = services(&on.cluster).await;
    let running = on.start("one");
    on.create([cluster_pool(
        "team",
        &["10.96.0.16-10.96.0.63", "fd00:10:96::10-fd00:10:96::3f"],
    )])
    .await;
    until_pool(&on.cluster, "team", "records them", |pool| {
        claimed(pool) == (3, 2)
    })
    .await;
    on.cluster.settled().await;
    assert_eq!(
        services(&on.cluster).await,
        before,
        "nothing is written into them"
    );
    on.cluster.check().await;
    on.cluster.delete("Service", "default/both").await;
    until_pool(&on.cluster, "team", "has them back", |pool| {
        claimed(pool) == (2, 1)
    })
    .await;
    // To another family's address and to none: ours follows.
    let alias = |o: &mut Value| {
        let spec = json!({"type": "ExternalName", "externalName": "example.com"});
        o["spec"] = spec;
    };
    on.cluster.edit("Service", "default/six", alias).await;
    until_pool(&on.cluster, "team", "has those back", |pool| {
        claimed(pool) == (1, 0)
    })
    .await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_service_that_prefers_two_families_and_has_one_address_keeps_it() {
    let start = ControlPlane::start_on("10.96.0.0/16", Options::default());
    let mut real = real_by(start).await;
    let on = stage(&real.plane).await;
    let prefers = |name: &str| {
        let policy = json!("PreferDualStack");
        with(bare(name, "ClusterIP"), "/spec/ipFamilyPolicy", policy)
    };
    on.create([prefers("before")]).await;
    on.create([cluster_pool("six", &["fd00:10:96::10-fd00:10:96::3f"])])
        .await;
    let running = on.start("one");
    let out = |pool: &Value| told(pool).contains("all of its addresses lie outside");
    until_pool(&on.cluster, "six", "says that it gives nothing", out).await;
    let check = async |name: &str| {
        on.cluster.settled().await;
        let service = on.cluster.service(name).await;
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack");
        assert_eq!(writes_to_services(&real.plane), [""; 0]);
    };
    check("before").await;
    on.fixed_point(running).await;

    // The cluster becomes dual-stack: the API server upgrades nobody, and neither do we.
    real.plane
        .set_service_cidrs("10.96.0.0/16,fd00:10:96::/112");
    real.plane.restart_api_server().await.unwrap();
    on.cluster
        .until("the ServiceCIDR has both", async |cluster| {
            let found = cluster.get("ServiceCIDR", "kubernetes").await;
            found.is_some_and(|o| o["spec"]["cidrs"].as_array().unwrap().len() == 2)
        })
        .await;
    let running = on.start("two");
    let gives = |pool: &Value| told(pool).starts_with("hands out numbers");
    until_pool(&on.cluster, "six", "gives", gives).await;
    on.cluster.settled().await;
    let service = on.cluster.service("before").await;
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(writes_to_services(&real.plane), [""; 0]);
    on.fixed_point(running).await;
}

/// So few that all of them can be given: 10.96.0.1 to .16 are the static band, .17 to .254 the dynamic.
const SMALL: &str = "10.96.0.0/24";

async fn reservations(on: &Cluster) -> Vec<String> {
    let ours = on.all("IPAddress").await.into_iter().filter(|o| {
        o["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] == "portolan.dev"
    });
    let mut names: Vec<_> = ours
        .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

async fn until_reserved(on: &Cluster, count: usize) -> Vec<String> {
    on.until(
        &format!("{count} addresses are reserved"),
        async |cluster| reservations(cluster).await.len() == count,
    )
    .await;
    reservations(on).await
}

async fn small(options: Options) -> Real {
    real_by(ControlPlane::start_on(SMALL, options)).await
}

fn clash(error: &kube::Error) -> bool {
    error
        .to_string()
        .contains("provided IP is already allocated")
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r3_the_api_server_picks_no_address_of_a_pool_until_nothing_else_is_left() {
    let real = small(Options::default()).await;
    let on = stage(&real.plane).await;
    let running = on.start("one");
    on.create([
        cluster_pool("team", &["10.96.0.33-10.96.0.96"]),
        at("before", &["10.96.0.40"]),
    ])
    .await;
    let reserved = until_reserved(&on.cluster, 63).await;
    assert!(
        !reserved.contains(&"10.96.0.40".to_owned()),
        "a Service has it"
    );
    let pool = on.cluster.get("AddressPool", "team").await.unwrap();
    assert!(
        told(&pool).contains("but what is free there is reserved"),
        "{}",
        told(&pool)
    );
    // One that is asked for is refused as one that is taken.
    let refused = on.cluster.try_create(at("web", &["10.96.0.50"])).await;
    assert!(clash(&refused.unwrap_err()));

    // Everything else: 237 - 63 in the dynamic band and 15 in the static (`kubernetes` has .1).
    let mut given = 0;
    let full = loop {
        let name = format!("s{given}");
        match on.cluster.try_create(bare(&name, "ClusterIP")).await {
            Ok(service) => {
                let address = service["spec"]["clusterIP"].as_str().unwrap();
                let last: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
                assert!(!(33..=96).contains(&last), "{address} is the pool's");
                given += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(full.to_string().contains("range is full"), "{full}");
    assert_eq!(given, 238 - 64 + 15);

    // What the webhook does: it deletes one, and the Service that asks for it gets it.
    on.cluster.delete("IPAddress", "10.96.0.50").await;
    on.create([at("web", &["10.96.0.50"])]).await;
    until_pool(&on.cluster, "team", "records it", |pool| {
        claimed(pool) == (2, 0)
    })
    .await;
    assert_eq!(reservations(&on.cluster).await.len(), 62);
    let before = services(&on.cluster).await;
    on.fixed_point(running).await;
    assert_eq!(services(&on.cluster).await, before);
    assert_eq!(writes_to_services(&real.plane), [""; 0]);
    assert_eq!(
        reservations(&on.cluster).await.len(),
        62,
        "a restart keeps them"
    );

    // They follow Services, and go with the pool.
    let running = on.start("two");
    on.cluster.delete("Service", "default/web").await;
    until_reserved(&on.cluster, 63).await;
    on.cluster
        .edit("AddressPool", "team", |o| {
            o["spec"]["addresses"] = json!(["10.96.0.33-10.96.0.36"])
        })
        .await;
    until_reserved(&on.cluster, 4).await;
    on.cluster.delete("AddressPool", "team").await;
    until_reserved(&on.cluster, 0).await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn reservations_block_no_service_cidr_and_go_with_their_pool_where_no_controller_runs() {
    let real = small(MANAGED).await;
    let on = stage(&real.plane).await;
    let running = on.start("one");
    on.create([
        cidr("more", &["10.97.0.0/24"]),
        cluster_pool("team", &["10.97.0.33-10.97.0.36"]),
    ])
    .await;
    until_reserved(&on.cluster, 4).await;
    let foreign = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": "10.97.0.40", "labels": {"ipaddress.kubernetes.io/managed-by": "somebody"}},
        "spec": {"parentRef": {"group": "portolan.dev", "resource": "addresspools", "name": "team"}},
    });
    on.create([foreign]).await;
    on.cluster.settled().await;
    on.cluster.delete("ServiceCIDR", "more").await;
    on.cluster
        .until("the ServiceCIDR is gone", async |cluster| {
            cluster.get("ServiceCIDR", "more").await.is_none()
        })
        .await;
    until_reserved(&on.cluster, 0).await;
    on.create([cidr("more", &["10.97.0.0/24"])]).await;
    until_reserved(&on.cluster, 4).await;
    on.cluster.settled().await;
    running.stop().await;
    on.cluster.delete("AddressPool", "team").await;
    until_reserved(&on.cluster, 0).await;
    let left = on.cluster.get("IPAddress", "10.97.0.40").await;
    assert!(left.is_some(), "what is not ours is not touched");
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_webhook_hands_reserved_addresses_of_both_families_to_new_services() {
    let real = real(Options::default()).await;
    let hooked = hooked(&real.plane).await;
    let on = &hooked.on;
    let (one, two) = (hooked.start("one").await, hooked.start("two").await);
    on.create([cluster_pool(
        "team",
        &["10.96.8.1-10.96.8.4", "fd00:10:96::801-fd00:10:96::804"],
    )])
    .await;
    hooked.until_entries(1).await;
    until_reserved(&on.cluster, 8).await;
    let prefers = |name: &str| {
        let policy = json!("PreferDualStack");
        with(bare(name, "ClusterIP"), "/spec/ipFamilyPolicy", policy)
    };
    for number in 1..=4 {
        let made = on.cluster.create(prefers(&format!("s{number}"))).await;
        let pair = [
            format!("10.96.8.{number}"),
            format!("fd00:10:96::80{number}"),
        ];
        assert_eq!(made["spec"]["clusterIPs"], json!(pair), "{}", key_of(&made));
    }
    // Nothing is left: it is the API server's, from elsewhere.
    let made = on.cluster.create(prefers("s5")).await;
    let first = made["spec"]["clusterIPs"][0].as_str().unwrap();
    assert!(!first.starts_with("10.96.8."), "{first}");
    until_pool(&on.cluster, "team", "records them", |pool| {
        claimed(pool) == (4, 4)
    })
    .await;
    assert_eq!(reservations(&on.cluster).await, [""; 0]);
    on.cluster.settled().await;
    on.cluster.check().await;
    assert_eq!(writes_to_services(&real.plane), [""; 0]);
    hooked.stop(two).await;
    hooked.stop(one).await;
}
