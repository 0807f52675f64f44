//! A small VPC, a class and Services for the tests of this package.

use std::collections::{BTreeMap, BTreeSet};

use model::{Family, Protocol, ServiceKey};

use crate::{
    annotations::PREFIX,
    input::{
        Class, Endpoint, Existing, Input, Network, Node, SecurityGroup, Service, ServicePort,
        Subnet, TargetPort,
    },
    wanted::{Rule, Scheme, Source, TargetType},
};

/// Names and values as tables write them.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Owned.
pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |text: &str| text.to_owned();
    pairs
        .iter()
        .map(|(key, value)| (owned(key), owned(value)))
        .collect()
}

/// Annotation names in short: what has no slash is under LBC's prefix.
pub(crate) fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let full = |name: &str| match name.contains('/') {
        true => name.to_owned(),
        false => format!("{PREFIX}{name}"),
    };
    pairs
        .iter()
        .map(|(name, value)| (full(name), (*value).to_owned()))
        .collect()
}

/// Class `cloud` of cluster `test`: internal, instance targets.
pub(crate) fn class() -> Class {
    Class {
        name: "cloud".to_owned(),
        region: None,
        cluster: "test".to_owned(),
        scheme: Scheme::Internal,
        target_type: TargetType::Instance,
        annotations: BTreeMap::new(),
        tags: BTreeMap::new(),
        node_security_groups: vec![],
        adoptable: BTreeSet::new(),
        groups_across_namespaces: false,
        max_targets: None,
        security_group_rules: 60,
    }
}

/// Port `number`, nodePort 30000 + `number`, target port 8000 + `number`.
pub(crate) fn port(name: &str, protocol: Protocol, number: u16) -> ServicePort {
    ServicePort {
        name: name.to_owned(),
        protocol,
        port: number,
        node_port: 30000 + number,
        target_port: TargetPort::Number(8000 + number),
    }
}

/// `shop/<name>` with TCP ports `http` 80 and `https` 443.
pub(crate) fn service(name: &str, asked: &[(&str, &str)]) -> Service {
    Service {
        key: ServiceKey::new("shop", name),
        uid: format!("uid-{name}").as_str().into(),
        annotations: annotations(asked),
        ports: vec![
            port("http", Protocol::Tcp, 80),
            port("https", Protocol::Tcp, 443),
        ],
        source_ranges: vec![],
        local: false,
        health_check_node_port: 0,
        families: vec![Family::V4],
    }
}

/// A node in zone a.
pub(crate) fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        provider_id: format!("aws:///eu-central-1a/i-{name}"),
        labels: BTreeMap::new(),
        taints: BTreeSet::new(),
        deleting: false,
    }
}

/// 10.0.`n`.0/24 in zone `zone`, private, tagged for internal load balancers.
pub(crate) fn subnet(id: &str, zone: &str, n: u8) -> Subnet {
    Subnet {
        id: id.to_owned(),
        zone: format!("eu-central-1{zone}"),
        ipv4: format!("10.0.{n}.0/24").parse().ok(),
        ipv6: vec![format!("2001:db8:0:{n}::/64").parse().expect("a CIDR")],
        available: 200,
        tags: map(&[
            ("Name", &format!("name-{id}")),
            ("kubernetes.io/role/internal-elb", "1"),
        ]),
        public: false,
        outpost: None,
    }
}

/// 10.0.0.0/16 with private subnets `subnet-a` and `subnet-b` and public `subnet-p`; the nodes have
/// `sg-nodes`, which lets in `sg-traffic`.
pub(crate) fn network() -> Network {
    let public = Subnet {
        tags: map(&[("Name", "name-subnet-p"), ("kubernetes.io/role/elb", "1")]),
        public: true,
        ..subnet("subnet-p", "a", 3)
    };
    let group = |name: &str| SecurityGroup {
        name: name.to_owned(),
        rules: BTreeSet::new(),
        tags: map(&[("Name", &format!("tag-{name}"))]),
    };
    let nodes = SecurityGroup {
        name: "nodes".to_owned(),
        rules: BTreeSet::from(["tcp", "udp"].map(|protocol| Rule {
            protocol,
            from: 0,
            to: 65535,
            source: Source::SecurityGroup("sg-traffic".to_owned()),
        })),
        tags: map(&[("kubernetes.io/cluster/test", "owned")]),
    };
    let traffic = SecurityGroup {
        name: "portolan-traffic-test".to_owned(),
        rules: BTreeSet::new(),
        tags: map(&[
            ("portolan.dev/cluster", "test"),
            ("portolan.dev/stack", "traffic"),
        ]),
    };
    Network {
        vpc: "vpc-1".to_owned(),
        cidrs: vec![
            "10.0.0.0/16".parse().expect("a CIDR"),
            "2001:db8::/56".parse().expect("a CIDR"),
        ],
        subnets: vec![
            subnet("subnet-b", "b", 2),
            subnet("subnet-a", "a", 1),
            public,
        ],
        security_groups: BTreeMap::from(
            [
                ("sg-1", group("one")),
                ("sg-2", group("two")),
                ("sg-nodes", nodes),
                ("sg-traffic", traffic),
            ]
            .map(|(id, group)| (id.to_owned(), group)),
        ),
    }
}

/// Everything one load balancer depends on, owned.
pub(crate) struct World {
    pub(crate) class: Class,
    pub(crate) services: Vec<Service>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) endpoints: BTreeMap<ServiceKey, Vec<Endpoint>>,
    pub(crate) network: Network,
    pub(crate) existing: Option<Existing>,
}

impl World {
    /// Service `shop/web` with these annotations, and nodes `n1` and `n2`.
    pub(crate) fn asking(asked: &[(&str, &str)]) -> Self {
        Self::of(vec![service("web", asked)])
    }

    pub(crate) fn of(services: Vec<Service>) -> Self {
        Self {
            class: class(),
            services,
            nodes: vec![node("n1"), node("n2")],
            endpoints: BTreeMap::new(),
            network: network(),
            existing: None,
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            class: &self.class,
            services: &self.services,
            nodes: &self.nodes,
            endpoints: &self.endpoints,
            network: &self.network,
            existing: self.existing.as_ref(),
        }
    }
}
