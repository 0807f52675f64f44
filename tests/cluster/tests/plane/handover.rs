//! From AWS Load Balancer Controller to Portolan and back: the commands of the guide, as they stand
//! there, on a real API server with everything that LBC leaves in a cluster.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cluster::{Binary, ControlPlane, Options};
use serde_json::{Value, json};

use crate::common::{
    chart::{kubectl, root, said},
    real,
};

const GUIDE: &str = "docs/from-aws-load-balancer-controller.md";
const LBC: &str = "service.k8s.aws/resources";
const BINDING: &str = "elbv2.k8s.aws/resources";
const OURS: &str = "portolan.dev/load-balancer-cleanup";

/// Every command of the guide, in order.
fn commands() -> Vec<String> {
    let guide = fs::read_to_string(root().join(GUIDE)).unwrap();
    let lines = guide.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// A shell that has a `kubectl` for this cluster.
struct Shell {
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

impl Shell {
    fn new(plane: &ControlPlane) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Binary::build().unwrap().part("kubectl");
        let program = Path::new(program.get_program()).to_owned();
        let kubectl = folder.path().join("kubectl");
        let text = format!("#!/bin/sh\nexec {} kubectl \"$@\"\n", program.display());
        fs::write(&kubectl, text).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            kubeconfig: plane.kubeconfig(),
            folder,
        }
    }

    fn output(&self, command: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new("bash")
            .args(["-o", "pipefail", "-c", command])
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path())
            .current_dir(root())
            .output()
            .unwrap()
    }

    /// The command of the guide that begins so; there must be one.
    fn runs(&self, begins: &str) -> String {
        let commands = commands();
        let matching: Vec<&String> = commands
            .iter()
            .filter(|command| command.starts_with(begins))
            .collect();
        let [command] = matching.as_slice() else {
            panic!("{begins:?} begins {} commands of the guide", matching.len());
        };
        let output = self.output(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let apply = ["apply", "--server-side", "-f", "-"];
    kubectl(plane, &apply, &list.to_string());
}

fn service(name: &str, class: Option<&str>, finalizers: &[&str]) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "finalizers": finalizers},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    });
    if let Some(class) = class {
        service["spec"]["loadBalancerClass"] = json!(class);
    }
    service
}

fn binding(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
        "metadata": {"name": name, "namespace": "default", "labels": labels,
            "finalizers": [BINDING]},
        "spec": {"targetGroupARN": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/x/y"},
    })
}

/// As LBC's chart has it, reduced to what counts here: nobody answers.
fn webhook(kind: &str, name: &str, group: &str, operations: &[&str], resource: &str) -> Value {
    let version = if group.is_empty() { "v1" } else { "v1beta1" };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": "aws-load-balancer-webhook"},
        "webhooks": [{
            "name": name, "failurePolicy": "Fail", "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {
                "name": "aws-load-balancer-webhook-service", "namespace": "kube-system"}},
            "rules": [{"apiGroups": [group], "apiVersions": [version], "operations": operations,
                "resources": [resource]}],
        }],
    })
}

/// A cluster that LBC has served; it no longer answers.
fn furnish(plane: &ControlPlane) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "targetgroupbindings.elbv2.k8s.aws"},
        "spec": {
            "group": "elbv2.k8s.aws", "scope": "Namespaced",
            "names": {"kind": "TargetGroupBinding", "listKind": "TargetGroupBindingList",
                "plural": "targetgroupbindings", "singular": "targetgroupbinding"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}],
        },
    });
    apply(plane, &[definition]);
    let ours = root().join("deploy/charts/portolan/crds");
    let install = ["apply", "--server-side", "-f", ours.to_str().unwrap()];
    kubectl(plane, &install, "");
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ];
    kubectl(plane, &wait, "");
    let deployment = |namespace: &str, name: &str, replicas: u32| {
        let labels = json!({"app.kubernetes.io/name": name});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "controller", "image": "none"}]}}},
        })
    };
    let nlb = Some("service.k8s.aws/nlb");
    apply(
        plane,
        &[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "portolan-system"}}),
            deployment("kube-system", "aws-load-balancer-controller", 2),
            deployment("portolan-system", "portolan", 0),
            service("web", nlb, &[LBC]),
            service("guarded", nlb, &["example.com/other", LBC]),
            service(
                "classic",
                None,
                &["service.kubernetes.io/load-balancer-cleanup"],
            ),
            binding(
                "of-web",
                json!({"service.k8s.aws/stack-name": "web",
                "service.k8s.aws/stack-namespace": "default"}),
            ),
            binding(
                "of-ingress",
                json!({"ingress.k8s.aws/stack-name": "web",
                "ingress.k8s.aws/stack-namespace": "default"}),
            ),
            binding("by-hand", json!({})),
        ],
    );
    apply(
        plane,
        &[
            webhook(
                "MutatingWebhookConfiguration",
                "mservice.elbv2.k8s.aws",
                "",
                &["CREATE"],
                "services",
            ),
            webhook(
                "ValidatingWebhookConfiguration",
                "vtargetgroupbinding.elbv2.k8s.aws",
                "elbv2.k8s.aws",
                &["CREATE", "UPDATE"],
                "targetgroupbindings",
            ),
        ],
    );
}

fn get(plane: &ControlPlane, kind: &str, name: &str) -> Value {
    let get = ["get", "-n", "default", "-o", "json", kind, name];
    serde_json::from_str(&kubectl(plane, &get, "")).unwrap()
}

fn finalizers(plane: &ControlPlane, service: &str) -> Value {
    get(plane, "service", service)["metadata"]["finalizers"].clone()
}

fn bindings(plane: &ControlPlane) -> Vec<String> {
    let all = kubectl(plane, &["get", "targetgroupbindings", "-o", "json"], "");
    let all: Value = serde_json::from_str(&all).unwrap();
    let items = all["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let metadata = &item["metadata"];
            format!("{} {}", metadata["name"], metadata["finalizers"])
        })
        .collect()
}

fn replicas(plane: &ControlPlane, namespace: &str, name: &str) -> String {
    let path = "jsonpath={.spec.replicas}";
    let get = ["get", "-n", namespace, "deployment", name, "-o", path];
    kubectl(plane, &get, "")
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_guide_from_lbc_takes_everything_over_and_back_and_touches_nothing_else() {
    let real = real(Options::default()).await;
    let plane = &real.plane;
    furnish(plane);
    let classes = fs::read_to_string(root().join("examples/aws/classes.yaml")).unwrap();
    kubectl(plane, &["apply", "--server-side", "-f", "-"], &classes);
    let shell = Shell::new(plane);
    let before = get(plane, "service", "classic");

    // runs: kubectl get services --all-namespaces --output custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,CLASS:.spec.loadBalancerClass,FINALIZERS:.metadata.finalizers
    let services = shell.runs("kubectl get services --all-namespaces --output custom-columns");
    let of_lbc: Vec<&str> = services.lines().filter(|line| line.contains(LBC)).collect();
    assert_eq!(of_lbc.len(), 2, "{services}");

    // What the guide says of the webhooks is so: nothing works while they are there and LBC is not.
    let commands = commands();
    let mut replaces = commands.iter().filter(|c| c.contains("| kubectl replace"));
    let refused = shell.output(replaces.next().unwrap());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("vtargetgroupbinding.elbv2.k8s.aws"),
        "{told}"
    );

    // runs: kubectl scale deployment aws-load-balancer-controller --namespace kube-system --replicas 0
    shell.runs("kubectl scale deployment aws-load-balancer-controller");
    let lbc = replicas(plane, "kube-system", "aws-load-balancer-controller");
    assert_eq!(lbc, "0");
    // runs: kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration aws-load-balancer-webhook
    shell.runs("kubectl delete mutatingwebhookconfiguration,");
    // runs: kubectl get pods --namespace kube-system --selector app.kubernetes.io/name=aws-load-balancer-controller
    assert_eq!(shell.runs("kubectl get pods --namespace kube-system"), "");

    // runs: kubectl get targetgroupbindings --all-namespaces --selector service.k8s.aws/stack-name --output yaml | sed '/- elbv2.k8s.aws\/resources$/d' | kubectl replace -f -
    shell.runs("kubectl get targetgroupbindings --all-namespaces");
    // runs: kubectl delete targetgroupbindings --all-namespaces --selector service.k8s.aws/stack-name
    shell.runs("kubectl delete targetgroupbindings --all-namespaces");
    let kept = [
        format!("\"by-hand\" [\"{BINDING}\"]"),
        format!("\"of-ingress\" [\"{BINDING}\"]"),
    ];
    assert_eq!(bindings(plane), kept);

    // runs: kubectl get services --all-namespaces --output yaml | sed '/- service.k8s.aws\/resources$/d' | kubectl replace -f -
    shell.runs("kubectl get services --all-namespaces --output yaml | sed '/- service");
    assert_eq!(finalizers(plane, "web"), Value::Null);
    assert_eq!(finalizers(plane, "guarded"), json!(["example.com/other"]));
    assert_eq!(get(plane, "service", "classic"), before);

    // Portolan takes over: its finalizer, its condition.
    // runs: kubectl scale deployment portolan --namespace portolan-system --replicas 2
    shell.runs("kubectl scale deployment portolan --namespace portolan-system --replicas 2");
    assert_eq!(replicas(plane, "portolan-system", "portolan"), "2");
    let condition = json!({"status": {"conditions": [{
        "type": "portolan.dev/LoadBalancerReady", "status": "True", "reason": "Ready",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let ours = json!({"metadata": {"finalizers": [OURS]}});
    for (more, patch) in [(&[][..], ours), (&["--subresource", "status"], condition)] {
        let patch = patch.to_string();
        let arguments = ["patch", "service", "web", "--type", "merge", "-p", &patch];
        kubectl(plane, &[&arguments[..], more].concat(), "");
    }
    // runs: kubectl get services --all-namespaces --output jsonpath='{range .items[?(@.spec.loadBalancerClass=="service.k8s.aws/nlb")]}{.metadata.namespace}/{.metadata.name} {.status.conditions[?(@.type=="portolan.dev/LoadBalancerReady")].reason}{"\n"}{end}'
    let ready = shell.runs("kubectl get services --all-namespaces --output jsonpath");
    assert_eq!(ready, "default/guarded \ndefault/web Ready\n");

    // And back.
    // runs: kubectl scale deployment portolan --namespace portolan-system --replicas 0
    shell.runs("kubectl scale deployment portolan --namespace portolan-system --replicas 0");
    assert_eq!(replicas(plane, "portolan-system", "portolan"), "0");
    // runs: kubectl delete loadbalancerclass from-lbc
    shell.runs("kubectl delete loadbalancerclass");
    // runs: kubectl get services --all-namespaces --output yaml | sed '/- portolan.dev\/load-balancer-cleanup$/d' | kubectl replace -f -
    shell.runs("kubectl get services --all-namespaces --output yaml | sed '/- portolan");
    assert_eq!(finalizers(plane, "web"), Value::Null);
    assert_eq!(get(plane, "service", "classic"), before);
    let names = said(&shell.output("kubectl get services --output name"));
    assert!(names.contains("service/web\n"), "{names}");
}
