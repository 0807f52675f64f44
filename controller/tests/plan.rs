//! `portolan plan -f`: the built binary, offline. `PORTOLAN_BLESS=1` writes what it prints into the
//! documentation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

fn run(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .current_dir(root())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // It may end without reading.
    let _unread = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Prints and succeeds.
fn ok(arguments: &[&str], stdin: &str) -> String {
    let done = run(arguments, stdin);
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stdout)
}

/// Fails, with this on stderr.
fn refused(arguments: &[&str], stdin: &str) -> String {
    let done = run(arguments, stdin);
    assert!(!done.status.success(), "{}", text(&done.stdout));
    assert_eq!(text(&done.stdout), "", "nothing half done is printed");
    text(&done.stderr)
}

/// The plan of manifests, as JSON, and the exit code.
fn plan(manifests: &str) -> (Value, i32) {
    let arguments = ["plan", "-f", "-", "-o", "json", "--network"];
    let network = "docs/plan/network.yaml";
    let done = run(&[&arguments[..], &[network]].concat(), manifests);
    let code = done.status.code().unwrap();
    let printed = serde_json::from_slice(&done.stdout);
    (
        printed.unwrap_or_else(|_| panic!("{}", text(&done.stderr))),
        code,
    )
}

/// `shop/NAME` of type LoadBalancer with one TCP port.
fn service(name: &str, port: u16, annotations: &[(&str, &str)]) -> String {
    let lines = annotations.iter();
    let lines: String = lines
        .map(|(key, value)| format!("    {key}: \"{value}\"\n"))
        .collect();
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  namespace: shop
  name: {name}
  annotations:
    any: thing
{lines}
spec:
  type: LoadBalancer
  ports: [{{name: main, port: {port}, targetPort: 8080}}]
"
    )
}

const NODES: &str = "
---
kind: List
items:
- {kind: Node, metadata: {name: n1}, spec: {providerID: aws:///eu-central-1a/i-1}}
- {kind: Node, metadata: {name: n2}, spec: {providerID: aws:///eu-central-1b/i-2}}
- {kind: Node, metadata: {name: n3}}
";

const TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
const SCHEME: &str = "service.beta.kubernetes.io/aws-load-balancer-scheme";
const GROUP: &str = "portolan.dev/load-balancer-group";

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item.as_str().unwrap()).collect()
}

/// The actions of the steps of the only load balancer.
fn actions(plan: &Value) -> Vec<&str> {
    assert_eq!(plan["loadBalancers"].as_array().unwrap().len(), 1);
    let steps = plan["loadBalancers"][0]["steps"].as_array().unwrap().iter();
    steps.map(|step| step["action"].as_str().unwrap()).collect()
}

/// What a documented command prints is in the documentation, or is put there.
fn documented(path: &str, begin: &str, end: &str, printed: &str) {
    let path = root().join(path);
    let whole = fs::read_to_string(&path).unwrap_or_default();
    let from = whole.find(begin).map_or(0, |at| at + begin.len());
    let rest = &whole[from..];
    let to = from
        + rest
            .find(end)
            .filter(|_| !end.is_empty())
            .unwrap_or(rest.len());
    if std::env::var_os("PORTOLAN_BLESS").is_some() {
        let new = format!("{}{printed}{}", &whole[..from], &whole[to..]);
        fs::write(&path, new).unwrap();
        return;
    }
    assert!(
        whole[from..to] == *printed,
        "{} differs; PORTOLAN_BLESS=1 writes it. Printed:\n{printed}",
        path.display()
    );
}

#[test]
fn the_documented_commands_print_what_is_documented() {
    // runs: portolan plan -f docs/plan/web.yaml
    let bare = ok(&["plan", "-f", "docs/plan/web.yaml"], "");
    assert!(bare.contains("THE SUBNETS ARE ASSUMED"), "{bare}");
    assert!(bare.contains("className service.k8s.aws/nlb"), "{bare}");

    let whole = [
        "plan",
        "-f",
        "docs/plan/web.yaml",
        "--nodes",
        "docs/plan/nodes.yaml",
        "--network",
        "docs/plan/network.yaml",
        "--cluster-name",
        "demo",
    ];
    // runs: portolan plan -f docs/plan/web.yaml --nodes docs/plan/nodes.yaml --network docs/plan/network.yaml --cluster-name demo
    let printed = ok(&whole, "");
    assert!(!printed.contains("SUBNETS ARE ASSUMED"), "{printed}");
    documented("docs/plan.md", "```text\n", "```", &printed);

    // runs: portolan plan -f docs/plan/web.yaml --nodes docs/plan/nodes.yaml --network docs/plan/network.yaml --cluster-name demo -o json
    let json = ok(&[&whole[..], &["-o", "json"]].concat(), "");
    documented("docs/plan/web.json", "", "", &json);
    assert_eq!(ok(&[&whole[..], &["-o", "json"]].concat(), ""), json);
}

#[test]
fn every_field_of_the_json_is_documented() {
    let everything = [
        service("a", 80, &[(TYPE, "ip"), ("service.beta.kubernetes.io/aws-load-balancer-ssl-cert", "arn:aws:acm:x"), ("service.beta.kubernetes.io/aws-load-balancer-alpn-policy", "HTTP2Only"), ("service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol", "HTTP")]),
        service("b", 80, &[(SCHEME, "internet-facing"), ("service.beta.kubernetes.io/aws-load-balancer-eip-allocations", "eipalloc-1, eipalloc-2")]),
        service("c", 80, &[("service.beta.kubernetes.io/aws-load-balancer-private-ipv4-addresses", "10.0.2.9")]),
        service("d", 80, &[("portolan.dev/adopt", "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/net/x/1")]),
        service("e", 80, &[("service.beta.kubernetes.io/aws-load-balancer-attributes", "deletion_protection.enabled=true"), ("service.beta.kubernetes.io/aws-load-balancer-target-group-attributes", "preserve_client_ip.enabled=true"), ("service.beta.kubernetes.io/aws-load-balancer-listener-attributes.TCP-80", "tcp.idle_timeout.seconds=60")]),
        service("f", 80, &[(SCHEME, "publik")]),
        "---\n{kind: Service, metadata: {namespace: shop, name: g}}\n".to_owned(),
        NODES.to_owned(),
        "---\n{kind: EndpointSlice, metadata: {namespace: shop, name: a-1, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, ports: [{name: main, port: 8080}], endpoints: [{addresses: [192.0.2.1]}]}\n".to_owned(),
    ];
    let (plan, code) = plan(&everything.concat());
    assert_eq!(code, 1, "one is rejected");
    let mut keys = BTreeSet::new();
    collect(&plan, &mut keys);
    for expected in [
        "zone",
        "allocation",
        "privateIpv4",
        "adopt",
        "alpn",
        "path",
        "reason",
        "why",
    ] {
        assert!(
            keys.contains(expected),
            "{expected} is not printed: {plan:#}"
        );
    }
    let page = fs::read_to_string(root().join("docs/plan.md")).unwrap();
    let missing: Vec<_> = (keys.iter())
        .filter(|key| !page.contains(&format!("`{key}`")))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// Names of fields, those of maps that users fill left out.
fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key.clone());
                match key.as_str() {
                    "tags" | "attributes" => {}
                    "listeners" | "targetGroups" => {
                        for value in value.as_object().unwrap().values() {
                            collect(value, keys);
                        }
                    }
                    _ => collect(value, keys),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_service_gets_its_load_balancer_in_order_of_dependence() {
    let (plan, code) = plan(&format!("{}{NODES}", service("web", 80, &[])));
    assert_eq!(code, 0);
    assert_eq!(
        actions(&plan),
        [
            "CreateSecurityGroup",
            "AuthorizeSecurityGroupIngress",
            "CreateTargetGroup",
            "RegisterTargets",
            "CreateLoadBalancer",
            "CreateListener",
            "AddTags",
        ]
    );
    let planned = &plan["loadBalancers"][0];
    assert_eq!(planned["stack"], "shop/web");
    assert_eq!(planned["effect"], "none");
    let group = &planned["wanted"]["targetGroups"]["shop/web:80"];
    assert_eq!(group["targets"].as_array().unwrap().len(), 2);
    assert_eq!(group["port"], 30000, "the first nodePort is assumed");
    let warnings = strings(&planned["warnings"]);
    let says = |words: &str| warnings.iter().any(|warning| warning.contains(words));
    assert!(says("providerID of the node is empty: n3"), "{warnings:?}");
    // The documented network's nodes are tagged for another cluster.
    assert!(says("nothing lets the load balancer in"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
    let used: Vec<_> = (planned["subnets"].as_array().unwrap().iter())
        .map(|verdict| verdict["used"].as_bool().unwrap())
        .collect();
    assert_eq!(used, [false, false, true], "internal by default");
}

#[test]
fn pods_of_slices_are_targets_when_asked_for() {
    let slice = "
---
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: main, port: 8080}]
endpoints:
- {addresses: [10.0.2.7], conditions: {ready: true}}
- {addresses: [10.0.2.8], conditions: {ready: false}}
- {addresses: [192.0.2.1]}
";
    let web = service("web", 80, &[(TYPE, "ip")]);
    let (with, _) = plan(&format!("{web}{slice}"));
    let group = &with["loadBalancers"][0]["wanted"]["targetGroups"]["shop/web:80"];
    assert_eq!(group["targetType"], "ip");
    let expected = serde_json::json!([
        {"id": "10.0.2.7", "port": 8080},
        {"id": "192.0.2.1", "port": 8080, "zone": "all"},
    ]);
    assert_eq!(group["targets"], expected);
    let (without, _) = plan(&web);
    let assumed = strings(&without["assumed"]).join("\n");
    assert!(assumed.contains("no EndpointSlice is given"), "{assumed}");
}

#[test]
fn services_of_a_group_share_and_the_one_without_a_port_is_rejected() {
    let member = |name, port| service(name, port, &[(GROUP, "front")]);
    let all = [
        member("a", 80),
        member("b", 443),
        member("c", 80),
        service("alone", 80, &[]),
    ];
    let (plan, code) = plan(&all.concat());
    assert_eq!(code, 1);
    let planned = plan["loadBalancers"].as_array().unwrap();
    assert_eq!(planned.len(), 2);
    let shared = planned
        .iter()
        .find(|planned| planned["stack"] == "shop/group:front")
        .unwrap();
    assert_eq!(strings(&shared["services"]), ["shop/a", "shop/b", "shop/c"]);
    let ports: Vec<_> = shared["wanted"]["listeners"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(ports, ["443", "80"]);
    let rejected = plan["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0]["service"], "shop/c");
    assert_eq!(rejected[0]["reason"], "ConflictingRequest");
    let message = rejected[0]["message"].as_str().unwrap();
    assert!(
        message.contains("port 80 belongs to the older Service shop/a"),
        "{message}"
    );
}

#[test]
fn the_oldest_of_a_group_is_the_one_that_was_created_first() {
    let member = |name, created: &str| {
        service(name, 80, &[(GROUP, "front")])
            .replace("  annotations:", &format!("{created}  annotations:"))
    };
    let old = "  creationTimestamp: 2020-01-01T00:00:00Z\n";
    let (plan, _) = plan(&[member("a", ""), member("z", old)].concat());
    let planned = &plan["loadBalancers"][0];
    assert_eq!(strings(&planned["services"]), ["shop/z", "shop/a"]);
}

#[test]
fn a_bad_service_is_rejected_by_field_and_cure_and_the_others_are_planned() {
    let all = [
        service("bad", 80, &[(SCHEME, "publik")]),
        service("good", 80, &[]),
        "---\n{kind: Service, metadata: {namespace: shop, name: odd}, spec: {ports: [{port: x}]}}\n"
            .to_owned(),
        service("good", 81, &[]),
        service("nowhere", 80, &[("service.beta.kubernetes.io/aws-load-balancer-subnets", "subnet-none")]),
    ];
    let (plan, code) = plan(&all.concat());
    assert_eq!(code, 1);
    assert_eq!(plan["loadBalancers"].as_array().unwrap().len(), 1);
    assert_eq!(plan["loadBalancers"][0]["stack"], "shop/good");
    let port = &plan["loadBalancers"][0]["wanted"]["listeners"];
    assert!(port.get("80").is_some(), "the first of two is planned");
    let rows = [
        (
            "shop/bad",
            "InvalidRequest",
            "aws-load-balancer-scheme: \"publik\"",
        ),
        ("shop/good", "ConflictingRequest", "there twice"),
        (
            "shop/nowhere",
            "InvalidRequest",
            "\"subnet-none\" is neither the id nor the Name tag",
        ),
        ("shop/odd", "Unreadable", "spec.ports[0].port: invalid type"),
    ];
    let rejected = plan["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), rows.len(), "{rejected:#?}");
    for (found, (service, reason, words)) in rejected.iter().zip(rows) {
        assert_eq!(found["service"], service);
        assert_eq!(found["reason"], reason, "{found}");
        assert!(
            found["message"].as_str().unwrap().contains(words),
            "{found}"
        );
    }
    // The same for people.
    let done = run(&["plan", "-f", "-"], &all.concat());
    assert_eq!(done.status.code(), Some(1));
    let printed = text(&done.stdout);
    assert!(
        printed.contains("\nREJECTED\n  * Service shop/bad (InvalidRequest): "),
        "{printed}"
    );
}

#[test]
fn services_that_are_none_of_awss_are_passed_over_with_a_word() {
    let class = |name: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: portolan.dev/v1alpha1, kind: LoadBalancerClass, metadata: {{name: {name}}}, spec: {spec}}}\n"
        )
    };
    let of = |name: &str, spec: &str| {
        format!("---\n{{kind: Service, metadata: {{name: {name}}}, spec: {spec}}}\n")
    };
    let lb = |class: &str| {
        format!("{{type: LoadBalancer, loadBalancerClass: {class}, ports: [{{port: 80}}]}}")
    };
    let all = [
        class("nlb", "{className: nlb, aws: {scheme: internet-facing}}"),
        class("pool", "{className: pool, pool: {}}"),
        of("a", "{type: ClusterIP}"),
        of("b", "{type: LoadBalancer, ports: [{port: 80}]}"),
        of("c", &lb("other")),
        of("d", &lb("pool")),
        of("e", &lb("nlb")),
    ];
    let (plan, code) = plan(&all.concat());
    assert_eq!(code, 0);
    let skipped = plan["skipped"].as_array().unwrap().iter();
    let skipped: Vec<_> = skipped
        .map(|each| {
            (
                each["service"].as_str().unwrap(),
                each["why"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("default/a", "it is of type ClusterIP"),
        (
            "default/b",
            "it has no spec.loadBalancerClass and no LoadBalancerClass is the default",
        ),
        (
            "default/c",
            "no LoadBalancerClass has the className other it asks for",
        ),
        (
            "default/d",
            "its LoadBalancerClass pool is for addresses from pools",
        ),
    ];
    assert_eq!(skipped, expected);
    let planned = &plan["loadBalancers"][0];
    assert_eq!(planned["class"], "nlb");
    assert_eq!(
        planned["wanted"]["loadBalancer"]["scheme"],
        "internet-facing"
    );
    let assumed = strings(&plan["assumed"]).join("\n");
    assert!(
        !assumed.contains("className"),
        "classes are given: {assumed}"
    );
}

#[test]
fn what_services_name_is_in_the_assumed_network() {
    let web = service(
        "web",
        80,
        &[
            (
                "service.beta.kubernetes.io/aws-load-balancer-subnets",
                "subnet-x, by-name",
            ),
            (
                "service.beta.kubernetes.io/aws-load-balancer-security-groups",
                "sg-x",
            ),
        ],
    );
    let json = ok(&["plan", "-f", "-", "-o", "json"], &web);
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert!(
        strings(&plan["assumed"])
            .iter()
            .any(|a| a.contains("SUBNETS ARE ASSUMED"))
    );
    let balancer = &plan["loadBalancers"][0]["wanted"]["loadBalancer"];
    let expected = serde_json::json!([{"subnet": "subnet-x"}, {"subnet": "by-name"}]);
    assert_eq!(balancer["subnets"], expected);
    assert_eq!(strings(&balancer["securityGroups"]), ["sg-x"]);
}

#[test]
fn node_ports_are_assumed_as_the_api_server_gives_them() {
    let web = "
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ports:
  - {name: dns, port: 53, protocol: TCP}
  - {name: dns-udp, port: 53, protocol: UDP}
  - {name: fixed, port: 80, nodePort: 30000}
";
    let (plan, code) = plan(web);
    assert_eq!(code, 0, "{plan:#}");
    let wanted = &plan["loadBalancers"][0]["wanted"];
    assert_eq!(wanted["listeners"]["53"]["protocol"], "TCP_UDP");
    let groups = &wanted["targetGroups"];
    assert_eq!(groups["default/web:53"]["port"], 30001);
    assert_eq!(groups["default/web:80"]["port"], 30000);
    assert_eq!(groups["default/web:80"]["healthCheck"]["port"], "30002");
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let web = service("web", 80, &[]);
    let with =
        |flag: &'static str, file: &'static str| refused(&["plan", "-f", "-", flag, file], &web);
    let rows = [
        (
            refused(&["plan", "-f", "none.yaml"], ""),
            "cannot read none.yaml",
        ),
        (
            refused(&["plan", "-f", "-"], "a: ["),
            "stdin: this is no YAML: ",
        ),
        (
            refused(&["plan", "-f", "-"], "a: b"),
            "stdin: document 1 is no Kubernetes manifest",
        ),
        (refused(&["plan", "-f", "-"], ""), "no Service is in -"),
        (
            with("--network", "docs/plan/web.yaml"),
            "docs/plan/web.yaml: the network: ",
        ),
        (
            with("--nodes", "docs/plan/web.yaml"),
            "--nodes: no Node is in docs/plan/web.yaml",
        ),
        (
            with("--class", "docs/plan/web.yaml"),
            "--class: no LoadBalancerClass is in ",
        ),
        (
            refused(
                &["plan", "-f", "-"],
                &format!(
                    "{web}---\n{{kind: LoadBalancerClass, metadata: {{name: x}}, spec: {{className: x}}}}"
                ),
            ),
            "LoadBalancerClass x: set exactly one of spec.pool, spec.aws and spec.gcp",
        ),
        (refused(&["plan"], ""), "required"),
        (refused(&["plan", "web"], ""), "write svc/NAME"),
    ];
    for (said, expected) in rows {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[cfg(not(feature = "aws"))]
#[test]
fn a_build_without_aws_says_how_to_get_it() {
    for arguments in [&["plan", "svc/web"][..], &["orphans"]] {
        let said = refused(arguments, "");
        assert!(said.contains("--features aws"), "{said}");
    }
}
