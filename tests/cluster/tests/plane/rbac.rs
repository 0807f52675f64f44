//! The controller's rights are exactly what it uses: it runs with its ServiceAccount from the chart
//! through all that it can do, then the audit log is compared with the roles, both ways.

use std::time::Duration;

use cluster::{ControlPlane, Options, balancer::Balancer};
use controller::{
    core::{certificates::Terms, hook::Target},
    shell::{self, Certificates, Election, SecretName, Webhook},
};
use devapi::faults::{Fault, Faults, Match};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, addresses, condition},
    fixtures::{bare, cluster_pool, default_class, pool, with},
    stage::{Running, options},
};
use tower::Layer as _;

use crate::common::{
    chart::{NAMESPACE, kubectl, rendered},
    real,
    rights::{granted, log, refused, roles, used},
};

/// How long nothing may be written before the cluster counts as settled.
const QUIET: Duration = Duration::from_secs(3);
/// Two looks of a real controller are five minutes apart.
const LOOK: Duration = Duration::from_secs(1);
/// As the chart names it.
const LEASE: &str = "portolan-controller";
/// Likewise.
const KEYS: &str = "portolan-speaker-keys";
/// Likewise.
const CERTIFICATE: &str = "portolan-webhook";

fn apply(plane: &ControlPlane, objects: &str) {
    let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    kubectl(plane, &apply, objects);
}

struct Scene {
    cluster: Cluster,
    faults: Faults,
    config: kube::Config,
    /// By which the API server finds the webhooks.
    balancer: Balancer,
}

impl Scene {
    /// With streaming lists, which newer API servers have, or with pages.
    fn start(&self, identity: &str, streaming_lists: bool) -> Running {
        let real = shell::client(self.config.clone()).unwrap();
        let send = tower::service_fn(move |request| {
            let real = real.clone();
            async move { real.send(request).await }
        });
        let client = shell::client_over(self.faults.layer(send), "default");
        let election = Election {
            namespace: NAMESPACE.to_owned(),
            name: LEASE.to_owned(),
        };
        let speaker_keys = Some(SecretName {
            namespace: NAMESPACE.to_owned(),
            name: KEYS.to_owned(),
        });
        let target = Target::Url(self.balancer.url());
        let webhook = Webhook {
            address: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            certificates: Certificates::Own(
                SecretName {
                    namespace: NAMESPACE.to_owned(),
                    name: CERTIFICATE.to_owned(),
                },
                // Rotated while the test runs.
                Terms {
                    valid: 60,
                    renew: 58,
                    overlap: 1,
                    ..Terms::new(vec![target.host()])
                },
            ),
            target,
            namespace: NAMESPACE.to_owned(),
            configuration: "portolan".to_owned(),
        };
        let options = shell::Options {
            election: Some(election),
            webhook: Some(webhook),
            speaker_keys,
            streaming_lists,
            look_every: LOOK,
            ..options(identity)
        };
        Running::start(client, options)
    }

    async fn until_says(&self, kind: &str, name: &str, type_: &str) {
        self.cluster
            .until(&format!("{kind} {name} says {type_}"), async |cluster| {
                let object = cluster.get(kind, name).await.unwrap();
                condition(&object, type_).is_some()
            })
            .await;
    }
}

fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

/// Everything that a running controller does.
async fn live(on: &Scene) {
    let cluster = &on.cluster;
    cluster.create(default_class()).await;
    cluster.create(pool("public", &["192.0.2.0/30"])).await;
    let ports = json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
        "metadata": {"name": "ports"}, "spec": {"ports": ["30000-30100"]},
    });
    cluster.create(ports).await;
    // Cluster IPs of a pool are compared with the objects that Kubernetes keeps of them.
    cluster
        .create(cluster_pool("inside", &["10.96.0.0/24"]))
        .await;
    for object in [
        lb("a"),
        bare("with-node-ports", "LoadBalancer"),
        bare("inside", "ClusterIP"),
        bare("ports", "NodePort"),
        with(
            bare("headless", "ClusterIP"),
            "/spec/clusterIP",
            json!("None"),
        ),
    ] {
        cluster.create(object).await;
    }
    for (kind, name) in [
        ("AddressPool", "public"),
        ("NodePortPool", "ports"),
        ("LoadBalancerClass", "default"),
    ] {
        on.until_says(kind, name, "Ready").await;
    }
    let has_one = |o: &Value| addresses(o).len() == 1;
    for name in ["a", "with-node-ports"] {
        cluster.until_service(name, "has an address", has_one).await;
    }
    // A write of the ledger whose fate is unknown is looked up.
    on.faults
        .script(
            Match::verb("update").resource("allocationblocks"),
            Fault::LostReply,
        )
        .times(1);
    cluster.create(lb("b")).await;
    cluster.until_service("b", "has an address", has_one).await;
    // Numbers move, statuses are repaired, types change, somebody waits and is told so.
    cluster
        .edit("AddressPool", "public", |o| {
            o["spec"]["addresses"] = json!(["198.51.100.0/30"]);
        })
        .await;
    cluster
        .until_service("a", "has moved", |o| {
            addresses(o).iter().all(|a| a.starts_with("198.51.100."))
        })
        .await;
    cluster
        .edit_status("Service", "default/a", |o| {
            o["status"]["loadBalancer"] = json!({"ingress": [{"ip": "203.0.113.1"}]});
        })
        .await;
    cluster
        .until_service("a", "is repaired", |o| {
            addresses(o).iter().all(|a| a.starts_with("198.51.100."))
        })
        .await;
    cluster
        .set("inside", "/spec/type", json!("LoadBalancer"))
        .await;
    cluster
        .until_service("inside", "has an address", has_one)
        .await;
    cluster.create(lb("waits")).await;
    cluster.until_reason("waits", "PoolExhausted").await;
    cluster.delete("Service", "default/b").await;
    cluster
        .until_service("waits", "has an address", has_one)
        .await;
    cluster
        .until("an Event was written", async |cluster| {
            cluster.events("waits", "PoolExhausted").await == 1
        })
        .await;
    cluster
        .until("IPAddress objects were listed", async |_| {
            on.faults.log().count("list", "ipaddresses") > 0
        })
        .await;
}

/// Announcements and Speakers are made, changed and deleted.
async fn announces(on: &Scene) {
    let cluster = &on.cluster;
    let lan = pool("lan", &["203.0.113.0/30"]);
    let lan = with(lan, "/spec/autoAssign", json!(false));
    cluster
        .create(with(lan, "/spec/announce", json!({"l2": {}})))
        .await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gate", "labels": {}},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    });
    cluster.create(node).await;
    let pool = "/metadata/annotations/portolan.dev~1address-pool";
    cluster.create(with(lb("gated"), pool, json!("lan"))).await;
    let until = async |kind: &str, name: &str, what: &str, holds: fn(&Value) -> bool| {
        cluster
            .until(&format!("{kind} {name} {what}"), async |cluster| {
                let object = cluster.get(kind, name).await;
                holds(&object.unwrap_or_default())
            })
            .await;
    };
    let is_there = |o: &Value| !o["spec"].is_null();
    let is_gone = |o: &Value| o["spec"].is_null();
    until("Speaker", "gate", "is there", is_there).await;
    let nobody = |o: &Value| o["spec"]["nodes"] == json!([]);
    until("Announcement", "203.0.113.0", "is nobody's", nobody).await;
    let endpoints = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default", "name": "gated-1",
            "labels": {"kubernetes.io/service-name": "gated"},
        },
        "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.0.0.9"], "nodeName": "gate"}],
    });
    cluster.create(endpoints).await;
    let anybody = |o: &Value| o["spec"]["nodes"].is_null();
    until("Announcement", "203.0.113.0", "is anybody's", anybody).await;
    cluster
        .edit("Node", "gate", |node| {
            node["spec"]["unschedulable"] = json!(true)
        })
        .await;
    let last = |o: &Value| o["spec"]["lastChoice"] == true;
    until("Speaker", "gate", "is the last choice", last).await;
    cluster.delete("Service", "default/gated").await;
    until("Announcement", "203.0.113.0", "is gone", is_gone).await;
    cluster.delete("Node", "gate").await;
    until("Speaker", "gate", "is gone", is_gone).await;
}

/// The API server asks, and the certificate is rotated meanwhile.
async fn asked_about(on: &Scene) {
    let kind = "MutatingWebhookConfiguration";
    // Kept from the API server's own picks, and handed over by the webhook. Its name is the first of
    // all pools', so that the Service gets an address of it.
    on.cluster
        .create(cluster_pool("asked", &["10.96.9.1-10.96.9.2"]))
        .await;
    let asks = async |cluster: &Cluster| {
        let found = cluster.get(kind, "portolan").await.unwrap();
        found["webhooks"].to_string().contains("not-headless")
    };
    on.cluster.until("the API server asks", asks).await;
    let reserved = async |is: bool| {
        on.cluster
            .until("the address is reserved, or not", async |cluster| {
                cluster.get("IPAddress", "10.96.9.1").await.is_some() == is
            })
            .await;
    };
    reserved(true).await;
    on.cluster
        .until("a Service gets it", async |cluster| {
            cluster.delete("Service", "default/fixed").await;
            let fixed = cluster.create(bare("fixed", "ClusterIP")).await;
            fixed["spec"]["clusterIP"] == "10.96.9.1"
        })
        .await;
    on.cluster.delete("AddressPool", "asked").await;
    on.cluster.delete("Service", "default/fixed").await;
    reserved(false).await;
    let key = format!("{NAMESPACE}/{CERTIFICATE}");
    let shown = async || on.cluster.get("Secret", &key).await.unwrap()["data"]["tls.crt"].clone();
    let first = shown().await;
    on.cluster
        .until("another certificate is shown", async |_| {
            shown().await != first
        })
        .await;
}

/// What an administrator does, with rights of their own.
async fn rotates(plane: &ControlPlane) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name("portolan");
    // runs: portolan rotate-speaker-key --namespace portolan-system
    let rotated = std::process::Command::new(program)
        .args(["rotate-speaker-key", "--namespace", NAMESPACE])
        .env("KUBECONFIG", plane.kubeconfig())
        .output()
        .unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{KEYS}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let secret: Value = plane
        .client()
        .await
        .unwrap()
        .request(request)
        .await
        .unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 2, "{secret}");
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_roles_grant_exactly_what_the_controller_uses() {
    let real = real(Options::default()).await;
    let plane = &real.plane;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    });
    apply(plane, &namespace.to_string());
    let roles = roles(&["--set", "speaker.enabled=true"]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": roles});
    apply(plane, &list.to_string());
    let configuration = rendered(&["--show-only", "templates/webhook.yaml"]);
    apply(plane, &configuration);
    let token = plane.service_account_token(NAMESPACE, "portolan").await;
    let on = Scene {
        cluster: Cluster::new(plane.client().await.unwrap(), QUIET, false),
        faults: Faults::new(7),
        config: plane.config_as(&token.unwrap()).await.unwrap(),
        balancer: Balancer::start().await.unwrap(),
    };
    on.cluster.install().await;

    let mut one = on.start("one", true);
    one.until("leading", |state| state.leading).await;
    let mut two = on.start("two", false);
    two.until("ready", |state| state.ready()).await;
    for replica in [&one, &two] {
        on.balancer.add(replica.state().webhook.unwrap());
    }
    live(&on).await;
    announces(&on).await;
    rotates(plane).await;
    asked_about(&on).await;
    one.stop().await;
    two.until("leading", |state| state.leading).await;
    on.cluster.settled().await;
    two.stop().await;
    // What goes while nobody looks is released after a read that proves it.
    on.cluster.delete("Service", "default/a").await;
    let mut three = on.start("three", true);
    three
        .until("done", |state| state.counters.leaks_released > 0)
        .await;
    on.cluster.settled().await;
    on.cluster.check().await;
    three.stop().await;

    let log = log(plane);
    assert_eq!(refused(&log), [""; 0]);
    let (granted, used) = (granted(&roles), used(&log));
    let difference: Vec<_> = granted.symmetric_difference(&used).collect();
    assert!(
        difference.is_empty(),
        "not both granted and used: {difference:?}\nused: {used:#?}"
    );
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn with_aws_the_roles_also_grant_to_read_nodes_and_endpoints() {
    let aws = ["--set", "aws.enabled=true,aws.clusterName=production"];
    let (without, with) = (granted(&roles(&[])), granted(&roles(&aws)));
    let more: Vec<&String> = with.difference(&without).collect();
    assert_eq!(
        more,
        [
            "/nodes: list",
            "/nodes: watch",
            "discovery.k8s.io/endpointslices: list",
            "discovery.k8s.io/endpointslices: watch",
        ]
    );
    assert!(without.is_subset(&with));
}
