//! The real controller on the real control plane: every sentence of [`tests::suite`], then what
//! only the audit log, CEL's cost and kubectl can show.

use cluster::{AuditLine, ControlPlane, Options};
use controller::shell::{self, USER_AGENT};
use serde_json::{Value, json};
use tests::{
    cluster::addresses,
    fixtures::{bare, pool, with},
    for_every_sentence,
    stage::Running,
    suite as sentences,
};

use crate::common::{each, real, stage::stage};

for_every_sentence!(each);

fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

/// What the controller has written, by the log of the API server: Leases aside.
fn writes(plane: &ControlPlane) -> Vec<AuditLine> {
    let ours = |line: &AuditLine| line.user_agent == USER_AGENT && line.is_write();
    let mut lines = plane.audit().unwrap();
    lines.retain(|line| ours(line) && line.resource() != "leases");
    lines
}

fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = plane.kubectl().args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    text
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_real_api_server_accepts_the_cost_of_our_rules_and_names_no_fault_in_a_schema() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    let condition = |crd: &Value, of: &str| {
        let conditions = crd["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions.find(|condition| condition["type"] == of)
    };
    let mut names = Vec::new();
    for crd in on.cluster.all("CustomResourceDefinition").await {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        on.cluster
            .until(&format!("{name} is established"), async |cluster| {
                let crd = cluster.get("CustomResourceDefinition", &name).await;
                condition(&crd.unwrap(), "Established").is_some_and(|c| c["status"] == "True")
            })
            .await;
        let crd = on.cluster.get("CustomResourceDefinition", &name).await;
        assert_eq!(condition(&crd.unwrap(), "NonStructuralSchema"), None);
        names.push(name);
    }
    assert_eq!(names.len(), 7, "{names:?}");
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_audit_log_shows_one_status_write_for_each_service_and_none_after_a_restart() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([pool("public", &["192.0.2.0/24"])]).await;
    for number in 0..20 {
        on.create([lb(&format!("s{number}"))]).await;
    }
    let running = on.start("one");
    for number in 0..20 {
        let name = format!("s{number}");
        on.cluster
            .until_service(&name, "has an address", |o| addresses(o).len() == 1)
            .await;
    }
    on.cluster.settled().await;
    running.stop().await;
    let first = writes(&real.plane);
    let status = first.iter().filter(|w| w.resource() == "services/status");
    assert_eq!(status.count(), 20, "{first:#?}");
    let mut again = on.start("two");
    again.until("idle", |state| state.idle).await;
    on.cluster.settled().await;
    let second = writes(&real.plane);
    assert_eq!(
        second.len(),
        first.len(),
        "{:#?}",
        second.get(first.len()..)
    );
    again.stop().await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn two_controllers_without_a_lease_give_no_address_twice() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([pool("public", &["192.0.2.0/27"])]).await;
    let one = on.start("one");
    let two = Running::start(
        shell::client(real.plane.config().await.unwrap()).unwrap(),
        shell::Options::single("two"),
    );
    for number in 0..32 {
        on.create([lb(&format!("s{number}"))]).await;
    }
    for number in 0..32 {
        let name = format!("s{number}");
        on.cluster
            .until_service(&name, "has an address", |o| addresses(o).len() == 1)
            .await;
    }
    on.cluster.settled().await;
    on.cluster.check().await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn kubectl_describe_shows_why_a_service_waits() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    let running = on.start("one");
    on.create([lb("a")]).await;
    on.cluster
        .until("an Event tells it", async |cluster| {
            !cluster.our_events("a").await.is_empty()
        })
        .await;
    let told = kubectl(&real.plane, &["describe", "service", "a"]);
    assert!(told.contains("Events:\n"), "{told}");
    assert!(told.contains("Warning"), "{told}");
    let shown = kubectl(&real.plane, &["get", "service", "a"]);
    assert!(shown.contains("<pending>"), "{shown}");
    running.stop().await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_restarted_api_server_is_found_again() {
    let mut real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
        .await;
    let running = on.start("one");
    on.cluster.until_address("a", "192.0.2.0").await;
    real.plane.restart_api_server().await.unwrap();
    on.create([lb("b")]).await;
    on.cluster.until_address("b", "192.0.2.1").await;
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn portolan_owns_its_part_of_the_status_and_users_may_apply_the_rest_again() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([pool("public", &["192.0.2.0/24"])]).await;
    let running = on.start("one");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.yaml");
    let apply = |app: &str| {
        let service = with(lb("a"), "/metadata/labels", json!({"app": app}));
        std::fs::write(&file, service.to_string()).unwrap();
        let file = file.to_str().unwrap();
        kubectl(&real.plane, &["apply", "--server-side", "-f", file]);
    };
    apply("first");
    on.cluster.until_address("a", "192.0.2.0").await;
    on.cluster.settled().await;
    let service = on.cluster.service("a").await;
    let owners = service["metadata"]["managedFields"].as_array().unwrap();
    let ours: Vec<_> = owners
        .iter()
        .filter(|o| o["manager"] == "portolan")
        .collect();
    assert_eq!(ours.len(), 1, "{owners:#?}");
    assert_eq!(ours[0]["subresource"], "status");
    let fields = |at: &Value| -> Vec<String> { at.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(fields(&ours[0]["fieldsV1"]), ["f:status"]);
    let status = &ours[0]["fieldsV1"]["f:status"];
    assert_eq!(fields(status), ["f:conditions", "f:loadBalancer"]);
    // No conflict, and nothing of ours is lost.
    apply("second");
    on.cluster.settled().await;
    let service = on.cluster.service("a").await;
    assert_eq!(service["metadata"]["labels"]["app"], "second");
    assert_eq!(addresses(&service), ["192.0.2.0"]);
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn who_wants_no_node_ports_gets_an_address_and_neither_node_ports_nor_a_finalizer() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([
        pool("public", &["192.0.2.0/24"]),
        lb("a"),
        bare("b", "LoadBalancer"),
    ])
    .await;
    let running = on.start("one");
    for name in ["a", "b"] {
        on.cluster
            .until_service(name, "has an address", |o| addresses(o).len() == 1)
            .await;
    }
    on.cluster.settled().await;
    let port = |service: &Value| service["spec"]["ports"][0]["nodePort"].clone();
    let (without, with_port) = (on.cluster.service("a").await, on.cluster.service("b").await);
    assert_eq!(port(&without), Value::Null);
    assert!(port(&with_port).as_u64().is_some_and(|port| port >= 30_000));
    for service in [without, with_port] {
        assert_eq!(service["metadata"]["finalizers"], Value::Null);
    }
    on.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_exposed_hello_world_of_the_documentation_gets_its_address() {
    let real = real(Options::default()).await;
    let on = stage(&real.plane).await;
    on.create([pool("public", &["192.0.2.0/24"])]).await;
    let running = on.start("one");
    let create = [
        "create",
        "deployment",
        "hello-world",
        "--image=hello",
        "--port=8080",
    ];
    kubectl(&real.plane, &create);
    let expose = ["expose", "deployment", "hello-world", "--type=LoadBalancer"];
    kubectl(&real.plane, &[&expose[..], &["--name=my-service"]].concat());
    on.cluster.until_address("my-service", "192.0.2.0").await;
    let shown = kubectl(&real.plane, &["get", "service", "my-service"]);
    assert!(shown.contains("192.0.2.0"), "{shown}");
    on.fixed_point(running).await;
}
