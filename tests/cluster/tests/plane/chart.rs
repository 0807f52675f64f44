//! The chart is the single source of what is applied to a cluster: rendered by the real helm, taken
//! by the real API server word for word.

use cluster::{ControlPlane, Options};
use serde_json::Value;

use crate::common::{
    chart::{self, NAMESPACE, helm, kubectl, rendered, root, said},
    real,
};

/// Every option on.
const EVERYTHING: &str = "tests/cluster/tests/fixtures/everything.yaml";
/// What is committed for those without helm, and what it is rendered with.
const MANIFESTS: [(&str, &[&str]); 2] = [
    ("deploy/manifests/portolan.yaml", &[]),
    (
        "deploy/manifests/portolan-speaker.yaml",
        &["--set", "speaker.enabled=true"],
    ),
];

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
    for (manifests, values) in MANIFESTS {
        let arguments = ["--include-crds", "--set", "namespace.create=true"];
        let text = format!(
            "# Rendered from deploy/charts/portolan; `PORTOLAN_BLESS=1 cargo test -p cluster --test plane -- \
             --ignored manifests` writes it anew.\n{}",
            rendered(&[&arguments[..], values].concat())
        );
        let path = root().join(manifests);
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == text, "{manifests} is not what the chart says");
    }
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
            "aws.enabled=true",
            "aws.clusterName is empty",
            "for example --set aws.clusterName=production",
        ),
        (
            "aws.clusterName=my cluster",
            "at '/aws/clusterName'",
            "does not match pattern",
        ),
        (
            "aws.region=Frankfurt",
            "at '/aws/region'",
            "does not match pattern",
        ),
        (
            "aws.vpcId=main",
            "at '/aws/vpcId'",
            "does not match pattern",
        ),
        (
            "serviceAccount.annotations.a=1",
            "at '/serviceAccount/annotations/a'",
            "want string",
        ),
        (
            "nodePorts.range=high",
            "at '/nodePorts/range'",
            "does not match pattern",
        ),
        (
            "ownsServiceNumbers=maybe",
            "at '/ownsServiceNumbers'",
            "want boolean",
        ),
        ("webhook.port=443", "at '/webhook/port'", "minimum"),
        (
            "webhook.certManager.issuerRef.issuer=x",
            "at '/webhook/certManager/issuerRef'",
            "'issuer' not allowed",
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
        ("speaker.port=0", "at '/speaker/port'", "minimum"),
        (
            "speaker.rejoinDelay=30",
            "at '/speaker/rejoinDelay'",
            "want string",
        ),
        (
            "speaker.admin.address=localhost",
            "at '/speaker/admin/address'",
            "does not match pattern",
        ),
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
        "nodePorts.manage=true,nodePorts.range=30000-31000",
        "nodePorts.range=30000+1000",
        "aws.enabled=true,aws.clusterName=My_cluster.1",
        "aws.region=us-gov-west-1",
        "speaker.enabled=true,speaker.admin.address=::1",
        "webhook.enabled=false",
        "webhook.certManager.enabled=true,webhook.certManager.issuerRef.name=internal",
    ] {
        rendered(&["--set", value]);
    }
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_speaker_alone_is_root_with_one_capability_and_the_namespace_allows_it_only_then() {
    let create = ["--set", "namespace.create=true"];
    let on = ["--set", "speaker.enabled=true"];
    let level = |objects: &[Value]| {
        let labels = &of_kind(objects, "Namespace")["metadata"]["labels"];
        labels["pod-security.kubernetes.io/enforce"].clone()
    };
    let without = documents(&rendered(&create));
    assert_eq!(level(&without), "restricted");
    assert!(without.iter().all(|object| object["kind"] != "DaemonSet"));
    let with = documents(&rendered(&[create, on].concat()));
    assert_eq!(level(&with), "privileged");

    let pod = |kind: &str| &of_kind(&with, kind)["spec"]["template"]["spec"];
    let security = |kind: &str| &pod(kind)["containers"][0]["securityContext"];
    let (controller, speaker) = (pod("Deployment"), pod("DaemonSet"));
    assert_eq!(controller["securityContext"]["runAsNonRoot"], true);
    assert_eq!(controller["hostNetwork"], Value::Null);
    let none = serde_json::json!({"drop": ["ALL"]});
    assert_eq!(security("Deployment")["capabilities"], none);
    assert_eq!(speaker["securityContext"]["runAsUser"], 0);
    assert_eq!(
        security("DaemonSet"),
        &serde_json::json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
        })
    );
    for pod in [controller, speaker] {
        let profile = &pod["securityContext"]["seccompProfile"]["type"];
        assert_eq!(profile, "RuntimeDefault");
    }
}

/// The Secret by which speakers know each other must survive upgrades: the chart names it only.
#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_chart_makes_no_secret_and_both_programs_name_the_same_one() {
    let objects = documents(&rendered(&["--set", "speaker.enabled=true"]));
    assert!(objects.iter().all(|object| object["kind"] != "Secret"));
    let pod = |kind: &str| &of_kind(&objects, kind)["spec"]["template"]["spec"];
    let mounted = &pod("DaemonSet")["volumes"][0]["secret"]["secretName"];
    let flag = format!("--speaker-keys={}", mounted.as_str().unwrap());
    let arguments = pod("Deployment")["containers"][0]["args"].as_array();
    assert!(arguments.unwrap().contains(&flag.into()));
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_controller_is_told_of_aws_when_that_is_enabled_and_only_what_is_given() {
    let aws = |sets: &[&str]| -> Vec<String> {
        let sets = sets.iter().flat_map(|value| ["--set", value]);
        let objects = documents(&rendered(&sets.collect::<Vec<_>>()));
        let container =
            &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        // The SDK writes nothing: it reads the token and keeps credentials in memory.
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        let all: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
        let of_aws =
            |flag: &String| flag.starts_with("--cluster-name") || flag.starts_with("--aws");
        all.into_iter().filter(of_aws).collect()
    };
    let (on, name) = ("aws.enabled=true", "aws.clusterName=production");
    let (region, vpc) = ("aws.region=eu-central-1", "aws.vpcId=vpc-0123");
    assert_eq!(aws(&[name, region, vpc]), Vec::<String>::new());
    assert_eq!(aws(&[on, name]), ["--cluster-name=production"]);
    assert_eq!(
        aws(&[on, name, region, vpc]),
        [
            "--cluster-name=production",
            "--aws-region=eu-central-1",
            "--aws-vpc-id=vpc-0123"
        ]
    );
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_network_policy_lets_the_controller_reach_aws_when_that_is_enabled() {
    let egress = |more: &[&str]| -> Vec<String> {
        let only = ["--show-only", "templates/networkpolicy.yaml"];
        let limited = [
            "--set",
            "networkPolicy.apiServer.cidrs[0]=192.0.2.1/32",
            "--set",
            "networkPolicy.apiServer.ports[0]=6443",
        ];
        let objects = documents(&rendered(&[&only[..], &limited[..], more].concat()));
        let mut ways = Vec::new();
        for rule in objects[0]["spec"]["egress"].as_array().unwrap() {
            let to = rule["to"].as_array().map(Vec::as_slice);
            let everywhere = [serde_json::json!({"ipBlock": {"cidr": "everywhere"}})];
            for peer in to.unwrap_or(&everywhere) {
                for port in rule["ports"].as_array().unwrap() {
                    let cidr = peer["ipBlock"]["cidr"].as_str().unwrap();
                    let protocol = port["protocol"].as_str().unwrap();
                    ways.push(format!("{cidr} {protocol} {}", port["port"]));
                }
            }
        }
        ways
    };
    let api_server = "192.0.2.1/32 TCP 6443";
    assert_eq!(egress(&[]), [api_server]);
    assert_eq!(
        egress(&["--set", "aws.enabled=true,aws.clusterName=production"]),
        [
            api_server,
            "everywhere UDP 53",
            "everywhere TCP 53",
            "everywhere TCP 443",
            "169.254.170.23/32 TCP 80",
            "fd00:ec2::23/128 TCP 80",
            "169.254.169.254/32 TCP 80",
            "fd00:ec2::254/128 TCP 80",
        ]
    );
}

/// What a controller would be asked by, and under which names the API server would find it.
#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_controller_is_told_where_the_api_server_finds_the_webhook_and_whose_certificate_it_shows() {
    let flags = |sets: &[&str]| -> Vec<String> {
        let sets = sets.iter().flat_map(|value| ["--set", value]);
        let objects = documents(&rendered(&sets.collect::<Vec<_>>()));
        let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
        let all: Vec<String> =
            serde_json::from_value(pod["containers"][0]["args"].clone()).unwrap();
        let mounted = &pod["volumes"][0]["secret"]["secretName"];
        let mounted = mounted.as_str().map(|name| format!("mounted: {name}"));
        let of_webhook = |flag: &String| flag.starts_with("--webhook");
        all.into_iter().filter(of_webhook).chain(mounted).collect()
    };
    let first = [
        "--webhook-address=[::]:9443",
        "--webhook-service=portolan-system/portolan-webhook",
        "--webhook-configuration=portolan",
    ];
    assert_eq!(flags(&["webhook.enabled=false"]), [""; 0]);
    let own = [&first[..], &["--webhook-secret=portolan-webhook"]].concat();
    assert_eq!(flags(&[]), own);
    let others = [
        "--webhook-certificates=/etc/portolan/webhook",
        "mounted: portolan-webhook-cert-manager",
    ];
    assert_eq!(
        flags(&["webhook.certManager.enabled=true"]),
        [&first[..], &others].concat()
    );
    let objects = documents(&rendered(&[]));
    let service = of_kind(&objects, "Service");
    assert_eq!(service["metadata"]["name"], "portolan-webhook");
    assert_eq!(service["spec"]["ports"][0]["port"], 443);
    let configuration = of_kind(&objects, "MutatingWebhookConfiguration");
    assert_eq!(configuration["metadata"]["name"], "portolan");
    assert_eq!(configuration.get("webhooks"), None, "they are the leader's");
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn helm_installs_it_for_aws_as_documented() {
    let real = real(Options::default()).await;
    let kubeconfig = real.plane.kubeconfig();
    let role = "arn:aws:iam::123456789012:role/portolan";
    let annotation = format!("serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn={role}");
    // runs: helm install portolan deploy/charts/portolan --namespace portolan-system --create-namespace --set aws.enabled=true,aws.clusterName=production --set 'serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::123456789012:role/portolan'
    let install = [
        "install",
        "portolan",
        "deploy/charts/portolan",
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        "aws.enabled=true,aws.clusterName=production",
        "--set",
        &annotation,
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
    ];
    said(&helm(&install));
    let account = [
        "get",
        "-n",
        NAMESPACE,
        "-o",
        "json",
        "serviceaccount",
        "portolan",
    ];
    let account: Value = serde_json::from_str(&kubectl(&real.plane, &account, "")).unwrap();
    let annotations = &account["metadata"]["annotations"];
    assert_eq!(annotations["eks.amazonaws.com/role-arn"], role);
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn the_service_account_has_no_role_in_aws_unless_it_is_given_one() {
    let objects = documents(&rendered(&["--show-only", "templates/rbac.yaml"]));
    let account = of_kind(&objects, "ServiceAccount");
    assert_eq!(account["metadata"]["annotations"], Value::Null);
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn the_api_server_takes_every_manifest_strictly_and_drops_nothing() {
    let real = real(Options::default()).await;
    for others in ["podmonitor-crd.yaml", "cert-manager-crd.yaml"] {
        let others = root().join("tests/cluster/tests/fixtures").join(others);
        let others = documents(&std::fs::read_to_string(others).unwrap());
        apply(&real.plane, &others.iter().collect::<Vec<_>>());
    }
    // runs: kubectl apply --server-side -f deploy/manifests/portolan.yaml
    // runs: kubectl apply --server-side -f deploy/manifests/portolan-speaker.yaml
    for (manifests, _) in MANIFESTS {
        let manifests = root().join(manifests);
        let as_documented = ["apply", "--server-side", "-f", manifests.to_str().unwrap()];
        kubectl(&real.plane, &as_documented, "");
    }
    let authority = ["--set", "webhook.certManager.enabled=true"];
    for values in [&[][..], &["--values", EVERYTHING], &authority] {
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
        assert_eq!(before.len(), 8);
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
