//! Every Service of `examples/aws`, which `docs/aws.md` shows, by a whole controller in an AWS: each is
//! served, and AWS has what it asks for. Ids that the examples make up become those of the network.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

#[path = "../../cluster/tests/common/real.rs"]
mod common;

use std::{fs, path::Path};

use aws_tests::{Play, hostname, reason};
use serde_json::{Value, json};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The network that the examples speak of, and the examples with its ids.
async fn examples(play: &Play) -> Vec<Value> {
    let network = &play.network;
    let [a, b, _] = network.subnets.as_slice() else {
        panic!("three zones")
    };
    let prefix = play.aws.dual_stack(network).await.unwrap();
    let name = |id: &str, name: &str| {
        [
            ("ResourceId.1", id.to_owned()),
            ("Tag.1.Key", "Name".to_owned()),
            ("Tag.1.Value", name.to_owned()),
        ]
    };
    let tag = async |id: &str, text: &str| {
        let pairs = name(id, text);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, &**value)).collect();
        play.ec2("CreateTags", &pairs).await;
    };
    tag(&b.id, "zone-b").await;
    tag(&network.security_group, "web").await;
    let group = [
        ("GroupName", "other"),
        ("GroupDescription", "other"),
        ("VpcId", &*network.vpc),
    ];
    let group = play.ec2("CreateSecurityGroup", &group).await;
    let group = group.first("groupId").unwrap();
    let mut addresses = vec![];
    for _ in 0..2 {
        let made = play.ec2("AllocateAddress", &[("Domain", "vpc")]).await;
        addresses.push(made.first("allocationId").unwrap());
    }
    let list = [
        ("PrefixListName", "offices"),
        ("AddressFamily", "IPv4"),
        ("MaxEntries", "5"),
    ];
    let list = play.ec2("CreateManagedPrefixList", &list).await;
    let list = list.first("prefixListId").unwrap();
    let certificate = play.aws.certificate("web").await.unwrap();
    let strangers = play
        .stranger("edge", Some(("portolan.dev/adoptable", aws_tests::CLUSTER)))
        .await;

    let words = [
        ("subnet-aaa", a.id.clone()),
        ("subnet-bbb", b.id.clone()),
        ("private-b", "zone-b".to_owned()),
        ("public-a", a.id.clone()),
        ("public-b", "zone-b".to_owned()),
        ("10.0.1.10, 10.0.2.10", "10.0.0.10, 10.0.1.10".to_owned()),
        ("2001:db8:0:1::10", format!("{prefix}0::10")),
        ("2001:db8:0:2::10", format!("{prefix}1::10")),
        // The examples' VPC has two zones.
        (
            "auto_assigned, auto_assigned",
            ["auto_assigned"; 3].join(", "),
        ),
        ("eipalloc-aaa", addresses[0].clone()),
        ("eipalloc-bbb", addresses[1].clone()),
        ("pl-0123456789abcdef0", list),
        ("sg-aaa", group),
        (
            "arn:aws:acm:eu-central-1:123456789012:certificate/11111111-2222-3333-4444-555555555555",
            certificate,
        ),
        (
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/edge/0123456789abcdef",
            strangers,
        ),
    ];
    let mut text = read("examples/aws/services.yaml");
    for (made_up, real) in &words {
        assert!(text.contains(made_up), "no example has {made_up}");
        text = text.replace(made_up, real);
    }
    objects(&text)
}

/// One pod behind each.
fn slice(service: &Value) -> Value {
    let name = service["metadata"]["name"].as_str().unwrap();
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let ports: Vec<Value> = ports
        .map(|port| {
            let number = port["targetPort"].as_u64().unwrap_or(8080);
            json!({"name": port["name"], "port": number,
                "protocol": port["protocol"].as_str().unwrap_or("TCP")})
        })
        .collect();
    let v6 = service["spec"]["ipFamilies"][0] == "IPv6";
    let (kind, address) = match v6 {
        true => ("IPv6", "2001:db8:99::77"),
        false => ("IPv4", "10.0.0.77"),
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": format!("{name}-1"),
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": kind, "ports": ports,
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

/// What AWS has for one Service, each as its answers have it.
struct There {
    load_balancer: String,
    listeners: String,
    groups: String,
    attributes: String,
    tags: String,
    arn: String,
    group_arns: Vec<String>,
}

async fn there(play: &Play, name: &str) -> There {
    let service = play.cluster().service(name).await;
    let shown = hostname(&service).unwrap_or_else(|| panic!("{name} shows no name"));
    let all = play.elb("DescribeLoadBalancers", &[]).await;
    let names = all.all("DNSName");
    let at = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(&shown));
    let arn = all.all("LoadBalancerArn")[at.unwrap()].clone();
    let one = [("LoadBalancerArns.member.1", &*arn)];
    let of = [("LoadBalancerArn", &*arn)];
    let groups = play.elb("DescribeTargetGroups", &of).await;
    There {
        load_balancer: play.elb("DescribeLoadBalancers", &one).await.body,
        listeners: play.elb("DescribeListeners", &of).await.body,
        group_arns: groups.all("TargetGroupArn"),
        groups: groups.body,
        attributes: play.attributes(&arn).await,
        tags: play
            .elb("DescribeTags", &[("ResourceArns.member.1", &*arn)])
            .await
            .body,
        arn,
    }
}

/// The value of `key` among attributes or tags.
fn value_of(body: &str, key: &str) -> String {
    let after = body.split(&format!("<Key>{key}</Key>")).nth(1);
    let after = after.unwrap_or_else(|| panic!("no {key} in {body}"));
    let value = after.split("<Value>").nth(1).unwrap();
    value.split('<').next().unwrap().to_owned()
}

fn has(body: &str, words: &[&str]) {
    for word in words {
        assert!(body.contains(word), "no {word} in {body}");
    }
}

async fn group_attributes(play: &Play, group: &str) -> String {
    let of = [("TargetGroupArn", group)];
    play.elb("DescribeTargetGroupAttributes", &of).await.body
}

/// The rules of the security group that was made for it.
async fn rules(play: &Play, name: &str) -> String {
    let stack = format!("default/{name}");
    let of = [
        ("Filter.1.Name", "tag:portolan.dev/stack"),
        ("Filter.1.Value.1", &*stack),
    ];
    play.ec2("DescribeSecurityGroups", &of).await.body
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn every_example_is_served_as_it_asks() {
    every_example(&Play::new(&[]).await).await;
}

mod real {
    use super::*;

    #[tokio::test]
    #[ignore = "real Kubernetes and moto: cargo xtask test"]
    async fn every_example_is_served_as_it_asks() {
        let real = common::real(cluster::Options::default()).await;
        let config = real.plane.config().await.unwrap();
        let play = Play::on_plane(&real.plane, config).await;
        play.add_nodes(0..3).await;
        every_example(&play).await;
    }
}

async fn every_example(play: &Play) {
    for class in objects(&read("examples/aws/classes.yaml")) {
        // The play has one of that name and that class already.
        if class["spec"]["className"] != aws_tests::CLASS {
            let mut class = class;
            let name = class["metadata"]["name"].as_str().unwrap().to_owned();
            class["metadata"]["name"] = json!(format!("example-{name}"));
            play.cluster().create(class).await;
        }
    }
    let services = examples(play).await;
    play.cluster()
        .edit("Node", "n0", |node| {
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("eu-central-1a");
        })
        .await;
    let running = play.controller("one");
    for service in &services {
        play.cluster().create(service.clone()).await;
        play.cluster().create(slice(service)).await;
    }
    for service in &services {
        let name = service["metadata"]["name"].as_str().unwrap();
        play.ready(name).await;
    }

    has(
        &there(play, "public").await.load_balancer,
        &["<Scheme>internet-facing<"],
    );
    let nodes = there(play, "nodes").await;
    has(&nodes.load_balancer, &["<Scheme>internal<"]);
    has(&nodes.groups, &["<TargetType>instance<"]);
    assert_eq!(play.targets(&nodes.group_arns[0]).await.len(), 3);

    let dns = there(play, "dns").await;
    has(&dns.listeners, &["<Protocol>TCP_UDP<", "<Port>53<"]);
    has(&dns.groups, &["<Protocol>TCP_UDP<", "<TargetType>ip<"]);
    assert_eq!(dns.group_arns.len(), 1);

    let tls = there(play, "tls").await;
    has(
        &tls.listeners,
        &[
            "<Protocol>TLS<",
            "<Protocol>TCP<",
            "server-certificate/web",
            "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "HTTP2Preferred",
        ],
    );
    has(
        &there(play, "tls-to-pods").await.groups,
        &["<Protocol>TLS<"],
    );

    let proxied = there(play, "proxy-protocol").await;
    let attributes = group_attributes(play, &proxied.group_arns[0]).await;
    assert_eq!(value_of(&attributes, "proxy_protocol_v2.enabled"), "true");

    let checked = there(play, "checked").await;
    has(
        &checked.groups,
        &[
            "<HealthCheckProtocol>HTTP<",
            "<HealthCheckPath>/ready<",
            "<HealthCheckPort>9090<",
            "<HealthCheckIntervalSeconds>15<",
            "<HealthCheckTimeoutSeconds>5<",
            "<HealthyThresholdCount>2<",
            "<UnhealthyThresholdCount>2<",
            "<HttpCode>200-299<",
        ],
    );
    let local = play.cluster().service("local").await;
    let port = local["spec"]["healthCheckNodePort"].as_u64().unwrap();
    has(
        &there(play, "local").await.groups,
        &[
            "<HealthCheckProtocol>HTTP<",
            "<HealthCheckPath>/healthz<",
            &format!("<HealthCheckPort>{port}<"),
        ],
    );

    let [a, b, c] = play.network.subnets.as_slice() else {
        panic!("three zones")
    };
    let subnets = there(play, "subnets").await.load_balancer;
    has(&subnets, &[&a.id, &b.id]);
    assert!(!subnets.contains(&c.id));
    has(&nodes.load_balancer, &[&a.id, &b.id, &c.id]);
    has(
        &there(play, "elastic-ips").await.load_balancer,
        &["<AllocationId>eipalloc-"],
    );
    has(
        &there(play, "private-addresses").await.load_balancer,
        &[
            "<PrivateIPv4Address>10.0.0.10<",
            "<PrivateIPv4Address>10.0.1.10<",
        ],
    );
    let dualstack = there(play, "dualstack").await.load_balancer;
    has(&dualstack, &["<IpAddressType>dualstack<"]);
    has(
        &there(play, "ipv6-addresses").await.load_balancer,
        &["<IpAddressType>dualstack<", "::10<"],
    );

    let attributes = there(play, "attributes").await;
    for (key, value) in [
        ("load_balancing.cross_zone.enabled", "false"),
        ("deletion_protection.enabled", "true"),
        (
            "dns_record.client_routing_policy",
            "availability_zone_affinity",
        ),
    ] {
        assert_eq!(value_of(&attributes.attributes, key), value, "{key}");
    }
    let mut delays = vec![];
    for group in &attributes.group_arns {
        let text = group_attributes(play, group).await;
        delays.push(value_of(&text, "deregistration_delay.timeout_seconds"));
        let termination = "deregistration_delay.connection_termination.enabled";
        assert_eq!(value_of(&text, termination), "true");
    }
    delays.sort();
    assert_eq!(delays, ["5", "60"]);

    has(
        &rules(play, "limited").await,
        &["192.0.2.0/24", "<prefixListId>pl-", "<ipProtocol>icmp<"],
    );
    let own = there(play, "own-security-groups").await.load_balancer;
    has(&own, &[&play.network.security_group]);
    assert!(
        !rules(play, "own-security-groups")
            .await
            .contains("<groupId>")
    );

    let tagged = there(play, "tagged").await.tags;
    assert_eq!(value_of(&tagged, "team"), "shop");
    assert_eq!(value_of(&tagged, "cost-center"), "platform");
    assert_eq!(value_of(&tagged, "portolan.dev/cluster"), "test");
    assert_eq!(value_of(&tagged, "service.k8s.aws/stack"), "default/tagged");

    let some = there(play, "some-nodes").await;
    assert_eq!(play.targets(&some.group_arns[0]).await.len(), 1);

    let (web, mail) = (
        there(play, "shared-web").await,
        there(play, "shared-mail").await,
    );
    assert_eq!(web.arn, mail.arn);
    assert_eq!(web.group_arns.len(), 2);
    has(
        &there(play, "adopting").await.load_balancer,
        &["<LoadBalancerName>edge<"],
    );
    has(
        &there(play, "kept").await.load_balancer,
        &["<LoadBalancerName>shop<"],
    );

    play.fixed_point(running).await;

    // And away with all of them: what is protected, kept or somebody else's stays.
    let running = play.controller("two");
    for service in &services {
        let name = service["metadata"]["name"].as_str().unwrap();
        play.cluster()
            .delete("Service", &format!("default/{name}"))
            .await;
    }
    let message = play
        .cluster()
        .until_service("attributes", "is blocked", |o| {
            reason(o) == "DeletionBlocked"
        })
        .await;
    has(&message.to_string(), &["protected against deletion"]);
    for service in &services {
        let name = service["metadata"]["name"].as_str().unwrap();
        if name != "attributes" {
            play.gone(name).await;
        }
    }
    let left = play.elb("DescribeLoadBalancers", &[]).await;
    let mut names = left.all("LoadBalancerName");
    names.retain(|name| !name.starts_with("k8s-default-attribut"));
    names.sort();
    assert_eq!(names, ["edge", "shop"]);
    running.stop().await;
}
