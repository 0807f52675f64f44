//! Every Service of `examples/aws/` through the controller's own translation and DESIRED, in a VPC of
//! its own: each is accepted without a warning and asks for what `docs/aws.md` says of it.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use aws::{
    input::{Class, Endpoint, Input, Network, Node, SecurityGroup, Subnet},
    tags,
};
use controller::core::{
    record::{Provider, ServiceRecord},
    translate,
};
use crds::LoadBalancerClass;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

const CLUSTER: &str = "production";
/// What whoever adopts a load balancer is always told.
const ADOPTED: &str = "the load balancer is adopted, so that its own security groups decide who may \
    connect, and the nodes must let it in by rules of its owner";

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn objects<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    serde_saphyr::from_multiple(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn classes() -> BTreeMap<String, Class> {
    let objects: Vec<LoadBalancerClass> = objects("examples/aws/classes.yaml");
    let classes = objects.into_iter().map(|mut object| {
        object.metadata.uid = Some("uid".to_owned());
        object.metadata.resource_version = Some("1".to_owned());
        let record = translate::class(&object).unwrap();
        let Provider::Aws(class) = record.provider else {
            panic!("{} is not of AWS", record.name);
        };
        let class = Class {
            cluster: CLUSTER.to_owned(),
            ..Arc::unwrap_or_clone(class)
        };
        (record.class_name.to_string(), class)
    });
    classes.collect()
}

/// As a real API server completes them: TCP and UDP on one port get the same nodePort.
fn services() -> Vec<ServiceRecord> {
    let objects: Vec<Service> = objects("examples/aws/services.yaml");
    let services = objects.into_iter().map(|mut object| {
        let name = object.metadata.name.clone().unwrap();
        object.metadata.uid = Some(format!("uid-{name}"));
        object.metadata.resource_version = Some("1".to_owned());
        let spec = object.spec.as_mut().unwrap();
        let families = vec!["IPv4".to_owned()];
        spec.ip_families.get_or_insert(families);
        if spec.external_traffic_policy.as_deref() == Some("Local") {
            spec.health_check_node_port = Some(32000);
        }
        for port in spec.ports.as_mut().unwrap() {
            port.node_port = Some(30000 + port.port % 1000);
            port.protocol.get_or_insert("TCP".to_owned());
        }
        translate::service(&object).unwrap_or_else(|error| panic!("{name}: {}", error.message))
    });
    services.collect()
}

fn subnet(id: &str, name: &str, n: u8, public: bool) -> Subnet {
    let zone = if n % 2 == 1 { "a" } else { "b" };
    let role = if public { "elb" } else { "internal-elb" };
    let tags = [
        ("Name".to_owned(), name.to_owned()),
        (format!("kubernetes.io/role/{role}"), "1".to_owned()),
    ];
    Subnet {
        id: id.to_owned(),
        zone: format!("eu-central-1{zone}"),
        ipv4: format!("10.0.{n}.0/24").parse().ok(),
        ipv6: vec![format!("2001:db8:0:{n}::/64").parse().unwrap()],
        available: 200,
        tags: tags.into(),
        public,
        outpost: None,
    }
}

/// 10.0.0.0/16 with two private and two public subnets, the security groups of the examples, that of
/// the nodes and the one that they let in.
fn network() -> Network {
    let group = |id: &str, tags: &[(&str, &str)]| {
        let tags = tags.iter();
        let group = SecurityGroup {
            name: id.to_owned(),
            tags: tags
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..SecurityGroup::default()
        };
        (id.to_owned(), group)
    };
    Network {
        vpc: "vpc-1".to_owned(),
        cidrs: vec![
            "10.0.0.0/16".parse().unwrap(),
            "2001:db8::/56".parse().unwrap(),
        ],
        subnets: vec![
            subnet("subnet-aaa", "private-a", 1, false),
            subnet("subnet-bbb", "private-b", 2, false),
            subnet("subnet-ccc", "public-a", 3, true),
            subnet("subnet-ddd", "public-b", 4, true),
        ],
        security_groups: [
            group("sg-aaa", &[("Name", "any")]),
            group("sg-bbb", &[("Name", "web")]),
            group("sg-nodes", &[("kubernetes.io/cluster/production", "owned")]),
            group(
                "sg-traffic",
                &[(tags::CLUSTER, CLUSTER), (tags::STACK, tags::TRAFFIC)],
            ),
        ]
        .into(),
    }
}

fn nodes() -> Vec<Node> {
    let node = |name: &str, zone: &str| Node {
        name: name.to_owned(),
        provider_id: format!("aws:///{zone}/i-{name}"),
        labels: [("topology.kubernetes.io/zone".into(), zone.into())].into(),
        taints: BTreeSet::new(),
        deleting: false,
    };
    vec![node("n1", "eu-central-1a"), node("n2", "eu-central-1b")]
}

/// A pod of each family for every port of the Service.
fn endpoints(service: &aws::input::Service) -> Vec<Endpoint> {
    let ports: BTreeMap<String, u16> = (service.ports.iter())
        .map(|port| (port.name.clone(), 8080))
        .collect();
    ["10.0.1.77", "2001:db8:0:1::77"]
        .map(|address| Endpoint {
            address: address.parse().unwrap(),
            ports: ports.clone(),
            ready: true,
        })
        .into()
}

/// What should exist for these, which share a load balancer if they are several.
fn wanted(class: &Class, services: &[&ServiceRecord]) -> Value {
    let services: Vec<aws::input::Service> = (services.iter())
        .map(|record| {
            if let Err(rejection) = &record.request {
                panic!("{}: {}", record.key, rejection.message);
            }
            aws::input::Service::clone(record.cloud.as_ref().unwrap())
        })
        .collect();
    let endpoints = services
        .iter()
        .map(|service| (service.key.clone(), endpoints(service)))
        .collect();
    let input = Input {
        class,
        services: &services,
        nodes: &nodes(),
        endpoints: &endpoints,
        network: &network(),
        existing: None,
    };
    let key = &services[0].key;
    let wanted =
        aws::desired(&input).unwrap_or_else(|rejection| panic!("{key}: {}", rejection.message));
    let known = |warning: &&String| *key.name != *"adopting" || *warning != ADOPTED;
    let warnings: Vec<&String> = wanted.warnings.iter().filter(known).collect();
    assert_eq!(warnings, Vec::<&String>::new(), "{key}");
    serde_json::to_value(wanted).unwrap()
}

/// Service, place in the wanted state, value: the thing that the example is about.
fn expectations() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("public", "/loadBalancer/scheme", json!("internet-facing")),
        (
            "nodes",
            "/targetGroups/default~1nodes:80/targetType",
            json!("instance"),
        ),
        ("dns", "/listeners/53/protocol", json!("TCP_UDP")),
        ("tls", "/listeners/443/protocol", json!("TLS")),
        ("tls", "/listeners/443/alpn", json!("HTTP2Preferred")),
        ("tls", "/listeners/80/protocol", json!("TCP")),
        (
            "tls-to-pods",
            "/targetGroups/default~1tls-to-pods:443/protocol",
            json!("TLS"),
        ),
        (
            "proxy-protocol",
            "/targetGroups/default~1proxy-protocol:80/attributes/proxy_protocol_v2.enabled",
            json!("true"),
        ),
        (
            "checked",
            "/targetGroups/default~1checked:80/healthCheck",
            json!({"protocol": "HTTP", "port": "9090", "path": "/ready", "successCodes": "200-299",
                "interval": 15, "timeout": 5, "healthyThreshold": 2, "unhealthyThreshold": 2}),
        ),
        (
            "local",
            "/targetGroups/default~1local:80/healthCheck/port",
            json!("32000"),
        ),
        (
            "subnets",
            "/loadBalancer/subnets/1/subnet",
            json!("subnet-bbb"),
        ),
        (
            "elastic-ips",
            "/loadBalancer/subnets/0/allocation",
            json!("eipalloc-aaa"),
        ),
        (
            "private-addresses",
            "/loadBalancer/subnets/1/privateIpv4",
            json!("10.0.2.10"),
        ),
        (
            "dualstack",
            "/loadBalancer/ipAddressType",
            json!("dualstack"),
        ),
        ("dualstack", "/loadBalancer/ipv6SourceNat", json!(true)),
        (
            "ipv6-addresses",
            "/loadBalancer/subnets/0/ipv6",
            json!("2001:db8:0:1::10"),
        ),
        (
            "ipv6-addresses",
            "/targetGroups/default~1ipv6-addresses:80/ipv6",
            json!(true),
        ),
        (
            "attributes",
            "/loadBalancer/attributes/deletion_protection.enabled",
            json!("true"),
        ),
        (
            "attributes",
            "/targetGroups/default~1attributes:80/attributes/deregistration_delay.timeout_seconds",
            json!("5"),
        ),
        (
            "attributes",
            "/targetGroups/default~1attributes:443/attributes/deregistration_delay.timeout_seconds",
            json!("60"),
        ),
        (
            "attributes",
            "/listeners/443/attributes/tcp.idle_timeout.seconds",
            json!("600"),
        ),
        (
            "own-security-groups",
            "/loadBalancer/securityGroups",
            json!(["sg-aaa", "sg-bbb", "sg-traffic"]),
        ),
        ("own-security-groups", "/securityGroup", Value::Null),
        ("tagged", "/loadBalancer/tags/team", json!("shop")),
        (
            "tagged",
            "/loadBalancer/tags/cost-center",
            json!("platform"),
        ),
        (
            "some-nodes",
            "/targetGroups/default~1some-nodes:80/targets/0/id",
            json!("i-n1"),
        ),
        (
            "some-nodes",
            "/targetGroups/default~1some-nodes:80/targets/1",
            Value::Null,
        ),
        ("kept", "/loadBalancer/name", json!("shop")),
        (
            "adopting",
            "/adopt",
            json!(
                "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/edge/0123456789abcdef"
            ),
        ),
    ]
}

#[test]
fn every_example_is_accepted_without_a_warning_and_asks_for_what_it_is_about() {
    let (classes, services) = (classes(), services());
    let expectations = expectations();
    for record in &services {
        let class = &classes[record.class.as_deref().unwrap()];
        let wanted = wanted(class, &[record]);
        let name = &*record.key.name;
        for (_, place, value) in expectations.iter().filter(|(of, _, _)| *of == name) {
            let found = wanted.pointer(place).unwrap_or(&Value::Null);
            assert_eq!(found, value, "{name}: {place} of {wanted:#}");
        }
    }
}

#[test]
fn services_of_a_group_share_a_load_balancer() {
    let (classes, services) = (classes(), services());
    let shared = services
        .iter()
        .filter(|record| record.key.name.starts_with("shared-"));
    let wanted = wanted(&classes["example.com/nlb"], &shared.collect::<Vec<_>>());
    let ports: Vec<&String> = wanted["listeners"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["25", "80"]);
    assert_eq!(wanted["stack"], "default/group:edge");
}

#[test]
fn who_may_connect_is_in_the_rules_of_the_security_group() {
    let (classes, services) = (classes(), services());
    let limited = services
        .iter()
        .find(|record| &*record.key.name == "limited");
    let wanted = wanted(&classes["example.com/nlb"], &[limited.unwrap()]);
    let rules = wanted["securityGroup"]["rules"].to_string();
    for source in ["192.0.2.0/24", "pl-0123456789abcdef0", "icmp"] {
        assert!(rules.contains(source), "{source}: {rules}");
    }
    assert!(!rules.contains("0.0.0.0/0"), "{rules}");
}

#[test]
fn a_service_may_outlive_nothing_but_its_load_balancer() {
    let (classes, services) = (classes(), services());
    let kept = services.iter().find(|record| &*record.key.name == "kept");
    let request = aws::annotations::request(
        kept.unwrap().cloud.as_ref().unwrap(),
        &classes["example.com/nlb"],
    );
    assert!(request.unwrap().retain);
}

#[test]
fn a_class_limits_how_many_nodes_are_targets() {
    assert_eq!(classes()["example.com/few-nodes"].max_targets, Some(50));
}

#[test]
fn every_example_is_shown_in_the_guide() {
    let guide = read("docs/aws.md");
    let quoted: Vec<&str> = guide
        .split("```yaml file=examples/aws/services.yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let text = read("examples/aws/services.yaml");
    let examples = text.split("---\n");
    // A quotation may leave out what all have in common.
    let shown = |example: &&str| quoted.iter().any(|part| example.contains(part));
    let name = |example: &str| {
        let mut lines = example.lines();
        let name = lines.find_map(|line| line.strip_prefix("  name: "));
        name.map(str::to_owned)
    };
    let missing = examples.filter(|example| !shown(example)).map(name);
    assert_eq!(missing.collect::<Vec<_>>(), Vec::new());
    for part in quoted {
        let of = text
            .split("---\n")
            .filter(|example| example.contains(part))
            .count();
        assert_eq!(of, 1, "which Service is this of? {part}");
    }
}
