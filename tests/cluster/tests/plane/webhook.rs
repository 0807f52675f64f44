//! The admission webhook on the real API server: who is asked, what happens when nobody answers, and
//! that certificates change without anybody noticing (R4 and R6 of the list of hazards).

use cluster::{Consulted, ControlPlane, Options};
use controller::shell::{Certificates, USER_AGENT};
use serde_json::{Value, json};
use tests::{
    fixtures::{bare, enforcing, noted, pool, port_pool, with},
    node_ports::port,
};

use crate::common::{
    chart::{helm, kubectl, rendered, said},
    real,
    webhook::{CONFIGURATION, HOME, Hooked, SECRET, hooked, without_configuration},
};

/// Which entries were asked about the requests of this verb on this Service of this namespace.
fn consulted(plane: &ControlPlane, verb: &str, namespace: &str, name: &str) -> Vec<Consulted> {
    let log = plane.audit().unwrap();
    let about = log.iter().filter(|line| {
        let object = line.object_ref.as_ref();
        line.verb == verb
            && object.is_some_and(|object| {
                object.resource == "services"
                    && object.subresource.is_empty()
                    && object.namespace == namespace
                    && object.name == name
            })
    });
    about
        .flat_map(|line| line.consulted(CONFIGURATION))
        .collect()
}

/// The general entry, asked and answered, with or without a number.
fn answered(given: bool) -> Vec<Consulted> {
    vec![Consulted {
        webhook: "services.portolan.dev".to_owned(),
        mutated: given,
        failed_open: false,
    }]
}

fn within(namespace: &str, name: &str, type_: &str) -> Value {
    with(bare(name, type_), "/metadata/namespace", json!(namespace))
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn name_of(entry: &Value) -> &str {
    entry["name"].as_str().unwrap()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_api_server_asks_from_the_first_pool_to_the_last() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let asked = |name: &str| consulted(&real.plane, "create", "default", name);
    let replica = on.start("one").await;
    on.on
        .create([
            pool("outside", &["192.0.2.0/24"]),
            bare("before", "NodePort"),
        ])
        .await;
    on.on.cluster.settled().await;
    assert_eq!(on.entries().await, [Value::Null; 0]);
    assert_eq!(asked("before"), []);
    on.on.create([port_pool("team", &["30010-30019"])]).await;
    on.until_entries(1).await;
    on.on.create([bare("web", "NodePort")]).await;
    assert_eq!(asked("web"), answered(true));
    assert_eq!(port(&on.on.cluster.service("web").await), 30_010);
    on.on.cluster.delete("NodePortPool", "team").await;
    on.until_entries(0).await;
    on.on.create([bare("after", "NodePort")]).await;
    assert_eq!(asked("after"), []);
    on.stop(replica).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn only_those_who_can_get_a_number_are_asked_about_and_only_when_their_spec_changes() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let asked = |verb: &str, name: &str| consulted(&real.plane, verb, "default", name);
    let replica = on.start("one").await;
    on.on.create([port_pool("team", &["30010-30019"])]).await;
    on.until_entries(1).await;
    let headless = |name: &str| with(bare(name, "ClusterIP"), "/spec/clusterIP", json!("None"));
    let alias = |name: &str| {
        let alias = with(
            bare(name, "ExternalName"),
            "/spec/externalName",
            json!("example.com"),
        );
        with(alias, "/spec/ports", json!([]))
    };
    on.on
        .create([
            bare("inside1", "ClusterIP"),
            headless("headless1"),
            alias("alias1"),
            bare("lb1", "LoadBalancer"),
        ])
        .await;
    for name in ["inside1", "headless1", "alias1"] {
        assert_eq!(
            asked("create", name),
            [],
            "{name}: only nodePorts are given"
        );
    }
    assert_eq!(asked("create", "lb1"), answered(true));
    // With clusterIPs to give, everybody who has one is.
    let inside = with(
        pool("inside", &["10.96.200.0/24"]),
        "/spec/usage",
        json!("ClusterIP"),
    );
    on.on.create([inside]).await;
    let until = "the condition on types is gone";
    on.on
        .cluster
        .until(until, async |_| {
            let entries = on.entries().await;
            !entries[0].to_string().contains("with-node-ports")
        })
        .await;
    on.is_known().await;
    on.on
        .create([
            bare("inside2", "ClusterIP"),
            headless("headless2"),
            alias("alias2"),
        ])
        .await;
    assert_eq!(asked("create", "inside2"), answered(true));
    assert_eq!(asked("create", "headless2"), []);
    assert_eq!(asked("create", "alias2"), []);
    // An update that leaves the spec as it was is nobody's business, nor is a status.
    let cluster = &on.on.cluster;
    let web = "default/inside2";
    cluster
        .edit("Service", web, |o| {
            o["metadata"]["labels"] = json!({"a": "b"})
        })
        .await;
    cluster
        .edit("Service", web, |o| *o = noted(o.clone(), "a", "b"))
        .await;
    cluster
        .edit_status("Service", web, |o| o["status"]["conditions"] = json!([]))
        .await;
    assert_eq!(asked("update", "inside2"), []);
    cluster
        .set("inside2", "/spec/ports/0/port", json!(81))
        .await;
    assert_eq!(asked("update", "inside2"), answered(false));
    // What is being deleted gets nothing any more.
    let hold = |o: &mut Value| o["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.edit("Service", web, hold).await;
    cluster.delete("Service", web).await;
    cluster
        .set("inside2", "/spec/ports/0/port", json!(82))
        .await;
    assert_eq!(asked("update", "inside2").len(), 1);
    on.stop(replica).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r6_with_nobody_there_everybody_goes_on_but_whom_an_enforcing_pool_binds() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    let bound = |name: &str, ports: &str, field: &str, value: Value| {
        with(
            enforcing(port_pool(name, &[ports])),
            &format!("/spec/{field}"),
            value,
        )
    };
    let gold = json!({"matchLabels": {"tier": "gold"}});
    on.on
        .create([
            namespace("listed", json!({})),
            namespace("labelled", json!({"team": "a"})),
            namespace("free", json!({"team": "b"})),
            port_pool("open", &["30010-30019"]),
            with(
                bound("team", "30020-30029", "namespaces", json!(["listed"])),
                "/spec/namespaceSelector",
                json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}),
            ),
            bound("golden", "30030-30039", "serviceSelector", gold),
        ])
        .await;
    on.until_entries(4).await;
    let entries = on.entries().await;
    let names: Vec<&str> = entries.iter().map(name_of).collect();
    assert_eq!(
        names,
        [
            "golden.nodeportpools.portolan.dev",
            "team.nodeportpools.portolan.dev",
            "team.by-label.nodeportpools.portolan.dev",
            "services.portolan.dev",
        ]
    );
    on.crash(replica).await;

    let refused = async |object: Value, by: &str| {
        let refused = on.on.cluster.try_create(object).await.unwrap_err();
        let told = refused.to_string();
        assert!(
            told.contains(&format!("failed calling webhook \"{by}\"")),
            "{told}"
        );
    };
    let gold = |object: Value| with(object, "/metadata/labels", json!({"tier": "gold"}));
    refused(
        within("listed", "a", "NodePort"),
        "team.nodeportpools.portolan.dev",
    )
    .await;
    refused(
        within("labelled", "a", "NodePort"),
        "team.by-label.nodeportpools.portolan.dev",
    )
    .await;
    refused(
        gold(within("free", "a", "LoadBalancer")),
        "golden.nodeportpools.portolan.dev",
    )
    .await;
    // Neither of these is bound: another namespace, no nodePort, a namespace that is never asked about.
    let free = [
        within("free", "b", "NodePort"),
        within("free", "c", "LoadBalancer"),
        within("listed", "d", "ClusterIP"),
        gold(within("kube-system", "e", "NodePort")),
        gold(within(HOME, "f", "NodePort")),
    ];
    on.on.create(free).await;
    let open = consulted(&real.plane, "create", "free", "b");
    assert_eq!(
        open,
        [Consulted {
            failed_open: true,
            ..answered(false).remove(0)
        }]
    );
    for namespace in ["kube-system", HOME] {
        let name = if namespace == HOME { "f" } else { "e" };
        assert_eq!(consulted(&real.plane, "create", namespace, name), []);
    }
    // When somebody is there again, nobody waits.
    let replica = on.start("two").await;
    on.on.create([within("listed", "a", "NodePort")]).await;
    on.stop(replica).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn r4_a_dry_run_is_answered() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    on.enforce(port_pool("team", &["30010-30019"])).await;
    let request = http::Request::post("/api/v1/namespaces/default/services?dryRun=All")
        .header("content-type", "application/json")
        .body(bare("web", "NodePort").to_string().into_bytes())
        .unwrap();
    let made: Value = on.on.cluster.client().request(request).await.unwrap();
    assert_eq!(made["metadata"]["name"], "web");
    assert_eq!(consulted(&real.plane, "create", "default", "web").len(), 2);
    assert_eq!(on.on.cluster.get("Service", "default/web").await, None);
    on.stop(replica).await;
}

/// What our controllers have written, Leases aside.
fn writes(plane: &ControlPlane) -> Vec<String> {
    let log = plane.audit().unwrap();
    let ours = log
        .iter()
        .filter(|line| line.user_agent == USER_AGENT && line.is_write());
    let ours = ours.filter(|line| line.resource() != "leases");
    ours.map(|line| format!("{} {}", line.verb, line.request_uri))
        .collect()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_restart_writes_nothing_and_what_somebody_changes_is_put_right() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let one = on.start("one").await;
    let pool = enforcing(port_pool("team", &["30010-30019"]));
    on.on
        .create([with(pool, "/spec/namespaces", json!(["default"]))])
        .await;
    on.until_entries(2).await;
    on.on.cluster.settled().await;
    on.stop(one).await;
    let (before, entries) = (writes(&real.plane).len(), on.entries().await);
    let mut two = on.start("two").await;
    two.running
        .until("leading and idle", |state| state.leading && state.idle)
        .await;
    on.on.cluster.settled().await;
    assert_eq!(writes(&real.plane)[before..], [""; 0]);

    let spoil = |o: &mut Value| o["webhooks"][0]["failurePolicy"] = json!("Ignore");
    let kind = "MutatingWebhookConfiguration";
    on.on.cluster.edit(kind, CONFIGURATION, spoil).await;
    on.on
        .cluster
        .until("it is put right", async |_| on.entries().await == entries)
        .await;
    let lose = |o: &mut Value| o["webhooks"] = json!([]);
    on.on.cluster.edit(kind, CONFIGURATION, lose).await;
    on.until_entries(2).await;
    assert_eq!(on.entries().await, entries);
    // Without our label it is somebody else's.
    on.on
        .cluster
        .edit(kind, CONFIGURATION, |o| {
            o["metadata"]["labels"] = json!({});
            o["webhooks"] = json!([]);
        })
        .await;
    on.on.cluster.delete("NodePortPool", "team").await;
    on.on.cluster.settled().await;
    assert_eq!(on.entries().await, [Value::Null; 0]);
    on.stop(two).await;
}

fn data<'a>(secret: &'a Value, entry: &str) -> &'a str {
    secret["data"][entry].as_str().unwrap_or_default()
}

async fn secret(on: &Hooked) -> Value {
    let key = format!("{HOME}/{SECRET}");
    on.on.cluster.get("Secret", &key).await.unwrap_or_default()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn certificates_change_under_load_and_no_request_fails() {
    let real = real(Options::default()).await;
    let mut on = hooked(&real.plane).await;
    // The next one is made after six seconds and shown three seconds later.
    on.terms.valid = 30;
    on.terms.renew = 24;
    on.terms.overlap = 3;
    let (one, two) = (on.start("one").await, on.start("two").await);
    on.enforce(port_pool("team", &["30000-32767"])).await;
    let first = secret(&on).await;
    let mut seen = vec![data(&first, "tls.crt").to_owned()];
    let mut made = 0;
    while seen.len() < 4 {
        let name = format!("s{made}");
        // Who lets nothing pass is asked first.
        on.on.create([bare(&name, "NodePort")]).await;
        let asked = consulted(&real.plane, "create", "default", &name);
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked.iter().all(|asked| !asked.failed_open), "{asked:?}");
        on.on
            .cluster
            .delete("Service", &format!("default/{name}"))
            .await;
        made += 1;
        let shown = data(&secret(&on).await, "tls.crt").to_owned();
        if seen.last() != Some(&shown) {
            seen.push(shown);
        }
    }
    assert!(made > 20, "only {made} requests in three rotations");
    on.stop(one).await;
    on.stop(two).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_secret_that_is_lost_or_spoilt_is_made_anew_and_one_of_a_human_stays() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    on.enforce(port_pool("team", &["30010-30019"])).await;
    let key = format!("{HOME}/{SECRET}");
    let goes_on = async |name: &str| {
        let until = format!("a Service {name} can be made");
        on.on
            .cluster
            .until(&until, async |cluster| {
                cluster.try_create(bare(name, "NodePort")).await.is_ok()
            })
            .await;
    };
    let first = secret(&on).await;
    on.on.cluster.delete("Secret", &key).await;
    on.on
        .cluster
        .until("there is another", async |_| {
            let now = secret(&on).await;
            !data(&now, "tls.crt").is_empty() && data(&now, "tls.crt") != data(&first, "tls.crt")
        })
        .await;
    goes_on("lost").await;
    on.on
        .cluster
        .edit("Secret", &key, |o| {
            o["data"]["tls.key"] = json!("bm9uc2Vuc2U=")
        })
        .await;
    on.on
        .cluster
        .until("it is repaired", async |_| {
            data(&secret(&on).await, "tls.key").len() > 100
        })
        .await;
    goes_on("spoilt").await;
    // Somebody takes it over and spoils it: their business.
    on.on
        .cluster
        .edit("Secret", &key, |o| {
            o["metadata"]["labels"] = json!({});
            o["data"]["tls.key"] = json!("bm9uc2Vuc2U=");
        })
        .await;
    on.on.cluster.settled().await;
    assert_eq!(data(&secret(&on).await, "tls.key"), "bm9uc2Vuc2U=");
    goes_on("foreign").await;
    on.stop(replica).await;
}

/// Neither an upgrade takes away what the leader filled in, nor does anything of it outlive Portolan.
#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn what_is_filled_in_survives_an_upgrade_and_goes_with_the_chart() {
    let real = real(Options::default()).await;
    let on = without_configuration(&real.plane).await;
    let pool = enforcing(port_pool("team", &["30010-30019"]));
    on.on
        .create([with(pool, "/spec/namespaces", json!(["default"]))])
        .await;
    let kubeconfig = real.plane.kubeconfig();
    let place = [
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--namespace",
        HOME,
    ];
    let helm = |arguments: &[&str]| said(&helm(&[arguments, &place[..]].concat()));
    let chart = rendered(&["--show-only", "templates/webhook.yaml"]);
    let kubectl = |arguments: &[&str]| {
        let arguments = [arguments, &["-f", "-"]].concat();
        kubectl(&real.plane, &arguments, &chart)
    };
    let refused = async |name: &str| {
        let refused = on.on.cluster.try_create(bare(name, "NodePort")).await;
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("failed calling webhook"), "{told}");
    };

    helm(&["install", "portolan", "deploy/charts/portolan"]);
    let replica = on.start("one").await;
    on.until_entries(2).await;
    let entries = on.entries().await;
    helm(&[
        "upgrade",
        "portolan",
        "deploy/charts/portolan",
        "--set",
        "log.format=text",
    ]);
    assert_eq!(on.entries().await, entries);
    on.crash(replica).await;
    refused("a").await;
    helm(&["uninstall", "portolan"]);
    on.is_known().await;
    on.on.create([bare("a", "NodePort")]).await;

    kubectl(&["apply"]);
    let replica = on.start("two").await;
    on.until_entries(2).await;
    kubectl(&["apply"]);
    assert_eq!(on.entries().await, entries);
    kubectl(&["apply", "--server-side", "--force-conflicts"]);
    assert_eq!(on.entries().await, entries);
    on.crash(replica).await;
    refused("b").await;
    kubectl(&["delete"]);
    on.is_known().await;
    on.on.create([bare("b", "NodePort")]).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn whoever_is_refused_sees_why_in_kubectl() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let replica = on.start("one").await;
    on.enforce(port_pool("team", &["30010"])).await;
    on.on.create([bare("first", "NodePort")]).await;
    let path = real.plane.folder().join("second.json");
    std::fs::write(&path, bare("second", "NodePort").to_string()).unwrap();
    // Not this thread: the webhook answers here.
    let mut kubectl = tokio::process::Command::from(real.plane.kubectl());
    let creating = kubectl.args(["create", "-f"]).arg(&path).output();
    let output = creating.await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    let begin = "Error from server (PoolExhausted): ";
    let by = "admission webhook \"team.nodeportpools.portolan.dev\" denied the request: ";
    assert!(told.starts_with(begin) && told.contains(by), "{told}");
    on.stop(replica).await;
}

/// An authority, and what it signs for the balancer, as cert-manager lays it into a folder.
fn lay(folder: &std::path::Path) -> String {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("tls.crt", server.pem()),
        ("tls.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    authority.pem()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_certificate_of_a_folder_is_read_again_and_who_injects_its_authority_is_not_undone() {
    let real = real(Options::default()).await;
    let on = hooked(&real.plane).await;
    let folder = tempfile::tempdir().unwrap();
    lay(folder.path());
    let mut options = on.options("one");
    if let Some(webhook) = &mut options.webhook {
        webhook.certificates = Certificates::Files(folder.path().to_owned());
    }
    let replica = on.start_with(options).await;
    on.on.create([port_pool("team", &["30010-30019"])]).await;
    on.until_entries(1).await;
    // Before anybody injects an authority it is that of the folder.
    on.on.create([bare("before", "NodePort")]).await;
    let asked = |name: &str| consulted(&real.plane, "create", "default", name);
    assert_eq!(asked("before"), answered(true));
    let authority = lay(folder.path());
    let injected = json!(k8s_openapi::ByteString(authority.into_bytes()));
    let kind = "MutatingWebhookConfiguration";
    let inject = |o: &mut Value| o["webhooks"][0]["clientConfig"]["caBundle"] = injected.clone();
    on.on.cluster.edit(kind, CONFIGURATION, inject).await;
    let number = std::cell::Cell::new(0);
    on.on
        .cluster
        .until(
            "the new certificate is shown and believed",
            async |cluster| {
                number.set(number.get() + 1);
                let name = format!("after{}", number.get());
                cluster.create(bare(&name, "ClusterIP")).await;
                cluster.set(&name, "/spec/type", json!("NodePort")).await;
                let asked = consulted(&real.plane, "update", "default", &name);
                cluster.delete("Service", &format!("default/{name}")).await;
                !asked.is_empty() && asked.iter().all(|asked| !asked.failed_open)
            },
        )
        .await;
    on.on.cluster.settled().await;
    assert_eq!(on.entries().await[0]["clientConfig"]["caBundle"], injected);
    assert_eq!(secret(&on).await, Value::Null, "no Secret is made");
    on.stop(replica).await;
}
