//! The chart is the single source of what is applied to a cluster: rendered by the real helm, taken
//! by the real API server word for word.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "common/chart.rs"]
mod chart;
mod common;

use chart::{NAMESPACE, helm, kubectl, rendered, root, said};
use cluster::{ControlPlane, Options};
use common::real;
use serde_json::Value;

/// Every option on.
const EVERYTHING: &str = "tests/cluster/tests/fixtures/everything.yaml";
/// What is committed for those without helm.
const MANIFESTS: &str = "deploy/manifests/portolan.yaml";

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    (documents.into_iter())
        .filter(|document| !document.is_null())
        .collect()
}

fn apply(plane: &ControlPlane, objects: &[&Value]) {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    kubectl(plane, &arguments, &list.to_string());
}

/// Everything of `part` is in `whole`; the API server may add defaults.
fn assert_contains(place: &str, whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (field, value) in part {
                let place = format!("{place}.{field}");
                match whole.get(field) {
                    Some(found) => assert_contains(&place, found, value),
                    None => panic!("{place} was dropped"),
                }
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{place}");
            for (whole, part) in whole.iter().zip(part) {
                assert_contains(place, whole, part);
            }
        }
        (whole, part) => assert_eq!(whole, part, "{place}"),
    }
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn helm_lint_finds_nothing() {
    for values in [&[][..], &["--values", EVERYTHING]] {
        let output = helm(&[&["lint", "--strict", "deploy/charts/portolan"], values].concat());
        let told = said(&output);
        // It asks for an icon, which would be fetched from somewhere by whoever shows the chart.
        let told = told.replace("[INFO] Chart.yaml: icon is recommended", "");
        assert!(!told.contains('[') || !told.contains("]:"), "{told}");
        assert!(!told.contains("[INFO]"), "{told}");
    }
}

/// `PORTOLAN_BLESS=1` writes them anew.
#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_committed_manifests_are_what_the_chart_renders() {
    let arguments = ["--include-crds", "--set", "namespace.create=true"];
    let text = format!(
        "# Rendered from deploy/charts/portolan; `PORTOLAN_BLESS=1 cargo test -p cluster --test chart -- \
         --ignored manifests` writes it anew.\n{}",
        rendered(&arguments)
    );
    let path = root().join(MANIFESTS);
    if std::env::var_os("PORTOLAN_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == text, "{MANIFESTS} is not what the chart says");
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn wrong_values_are_refused_with_the_place_and_the_fault() {
    for (value, place, fault) in [
        ("replica=3", "at ''", "'replica' not allowed"),
        ("replicas=two", "at '/replicas'", "want integer"),
        ("replicas=11", "at '/replicas'", "maximum: got 11, want 10"),
        ("image.tag=a b", "at '/image/tag'", "does not match pattern"),
        (
            "image.digest=sha256:12",
            "at '/image/digest'",
            "does not match pattern",
        ),
        (
            "image.pullPolicy=Sometimes",
            "at '/image/pullPolicy'",
            "'Never'",
        ),
        (
            "imagePullSecrets[0]=x",
            "at '/imagePullSecrets/0'",
            "want object",
        ),
        (
            "nameOverride=-x",
            "at '/nameOverride'",
            "does not match pattern",
        ),
        (
            "loadBalancerClass.className=pool",
            "at '/loadBalancerClass/className'",
            "does not match pattern",
        ),
        (
            "ownsServiceNumbers=maybe",
            "at '/ownsServiceNumbers'",
            "want boolean",
        ),
        ("log.format=xml", "at '/log/format'", "'json'"),
        (
            "metrics.podMonitor.interval=30",
            "at '/metrics/podMonitor/interval'",
            "want string",
        ),
        (
            "networkPolicy.apiServer.ports[0]=70000",
            "at '/networkPolicy/apiServer/ports/0'",
            "maximum",
        ),
        (
            "networkPolicy.apiServer.ports=null",
            "at '/networkPolicy/apiServer'",
            "missing property 'ports'",
        ),
        (
            "networkPolicy.apiServer.cidrs[0]=10.0.0.1",
            "at '/networkPolicy/apiServer/cidrs/0'",
            "does not match pattern",
        ),
        (
            "resources.limits.memory=64MB",
            "at '/resources/limits/memory'",
            "does not match pattern",
        ),
        ("spread=Never", "at '/spread'", "'DoNotSchedule'"),
        ("podLabels.a=1", "at '/podLabels/a'", "want string"),
    ] {
        let output = helm(&[
            "template",
            "portolan",
            "deploy/charts/portolan",
            "--set",
            value,
        ]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} is accepted");
        assert!(
            told.contains(place) && told.contains(fault),
            "{value}: {told}"
        );
    }
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn unusual_but_right_values_are_accepted() {
    for value in [
        "replicas=1",
        "image.repository=registry.example:5000/team/portolan",
        "nameOverride=numbers",
        "resources.limits.memory=0.5Gi",
        "resources.requests.cpu=1",
        "global.anything=1",
        "networkPolicy.apiServer.cidrs[0]=2001:db8::/32",
        "ownsServiceNumbers=true",
    ] {
        rendered(&["--set", value]);
    }
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_api_server_takes_every_manifest_strictly_and_drops_nothing() {
    let real = real(Options::default()).await;
    let monitors =
        std::fs::read_to_string(root().join("tests/cluster/tests/fixtures/podmonitor-crd.yaml"));
    apply(
        &real.plane,
        &documents(&monitors.unwrap()).iter().collect::<Vec<_>>(),
    );
    // runs: kubectl apply --server-side -f deploy/manifests/portolan.yaml
    let manifests = root().join(MANIFESTS);
    let as_documented = ["apply", "--server-side", "-f", manifests.to_str().unwrap()];
    kubectl(&real.plane, &as_documented, "");
    for values in [&[][..], &["--values", EVERYTHING]] {
        // The namespace warns of pods that are not as restricted as they can be.
        let more = ["--include-crds", "--set", "namespace.create=true"];
        let objects = documents(&rendered(&[&more[..], values].concat()));
        let first = |object: &&Value| {
            matches!(
                object["kind"].as_str(),
                Some("Namespace" | "CustomResourceDefinition")
            )
        };
        let (before, after): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(first);
        assert_eq!(before.len(), 5);
        apply(&real.plane, &before);
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ];
        kubectl(&real.plane, &wait, "");
        apply(&real.plane, &after);
        for object in &objects {
            let list = object.to_string();
            let stored = kubectl(&real.plane, &["get", "-o", "json", "-f", "-"], &list);
            let stored: Value = serde_json::from_str(&stored).unwrap();
            // What is read from a pipe is shown as a list.
            let place = format!("{} {}", object["kind"], object["metadata"]["name"]);
            assert_contains(&place, &stored["items"][0], object);
        }
    }
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn helm_installs_upgrades_and_uninstalls_it_and_the_ledger_stays() {
    let real = real(Options::default()).await;
    let kubeconfig = real.plane.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let helm = |arguments: &[&str]| {
        let place = ["--kubeconfig", kubeconfig, "--namespace", NAMESPACE];
        said(&helm(&[arguments, &place[..]].concat()))
    };
    let get = |what: &str| kubectl(&real.plane, &["get", "-A", "-o", "name", what], "");
    // runs: helm install portolan deploy/charts/portolan --namespace portolan-system --create-namespace --set image.repository=registry.example/portolan
    let install = [
        "install",
        "portolan",
        "deploy/charts/portolan",
        "--create-namespace",
        "--set",
        "image.repository=registry.example/portolan",
    ];
    // A class in the same release as its definition.
    let class = ["--set", "loadBalancerClass.create=true"];
    helm(&[&install[..], &class[..]].concat());
    assert_eq!(
        get("loadbalancerclasses"),
        "loadbalancerclass.portolan.dev/pool\n"
    );
    // runs: helm show crds deploy/charts/portolan | kubectl apply --server-side --force-conflicts -f -
    let crds = said(&chart::helm(&["show", "crds", "deploy/charts/portolan"]));
    let mut newer = documents(&crds);
    for crd in &mut newer {
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Newer.".into();
    }
    let newer = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": newer});
    let replace = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    kubectl(&real.plane, &replace, &newer.to_string());
    let block = r#"{"apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": "kept"}, "spec": {"addresses": ["192.0.2.0/24"]}}"#;
    kubectl(&real.plane, &["apply", "--server-side", "-f", "-"], block);
    helm(&[
        "upgrade",
        "portolan",
        "deploy/charts/portolan",
        "--set",
        "replicas=3",
    ]);
    assert_eq!(get("loadbalancerclasses"), "");
    let replicas = [
        "get",
        "-n",
        NAMESPACE,
        "deployment",
        "portolan",
        "-o",
        "jsonpath={.spec.replicas}",
    ];
    assert_eq!(kubectl(&real.plane, &replicas, ""), "3");
    helm(&["uninstall", "portolan"]);
    assert_eq!(get("deployments"), "");
    assert_eq!(get("addresspools"), "addresspool.portolan.dev/kept\n");
}
