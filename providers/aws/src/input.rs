//! What DESIRED looks at: Services, nodes, endpoints, the class and the network, in types that know
//! neither Kubernetes' client nor AWS's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{Family, Labels, Protocol, ServiceKey, Uid};

use crate::{
    seen::Seen,
    wanted::{Rule, Scheme, TargetType},
};

/// Everything one load balancer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The class and the cluster.
    pub class: &'a Class,
    /// The Services behind it, oldest first: one, unless they share it
    /// (`portolan.dev/load-balancer-group`).
    pub services: &'a [Service],
    /// Every node of the cluster.
    pub nodes: &'a [Node],
    /// Endpoints of each Service; read for ip targets only.
    pub endpoints: &'a BTreeMap<ServiceKey, Vec<Endpoint>>,
    /// The VPC.
    pub network: &'a Network,
    /// The load balancer that is there already, as far as it decides defaults (LBC: an existing one
    /// keeps its scheme and its subnets unless told otherwise).
    pub existing: Option<&'a Existing>,
}

/// What of an existing load balancer decides defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Whether it has security groups: one made without can never get any.
    pub has_security_groups: bool,
}

impl Existing {
    /// Of what is seen of a stack.
    #[must_use]
    pub fn of(seen: &Seen) -> Option<Self> {
        let there = seen.load_balancers.first()?;
        let subnets = there.subnets.iter();
        Some(Self {
            scheme: there.scheme,
            subnets: subnets.map(|mapping| mapping.subnet.clone()).collect(),
            has_security_groups: !there.security_groups.is_empty(),
        })
    }
}

/// A LoadBalancerClass with `spec.aws`, and the cluster it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// `metadata.name`.
    pub name: String,
    /// The region that it asks for; none: the controller's.
    pub region: Option<String>,
    /// The cluster's name: part of names and tags, so that clusters in one account do not meet.
    pub cluster: String,
    /// The scheme of Services that do not say.
    pub scheme: Scheme,
    /// The target type of Services that do not say.
    pub target_type: TargetType,
    /// Annotations in force for every Service that does not set the same one, by full name.
    pub annotations: BTreeMap<String, String>,
    /// Tags on everything.
    pub tags: BTreeMap<String, String>,
    /// Ids of the nodes' security groups; without any, those that are tagged for the cluster.
    pub node_security_groups: Vec<String>,
    /// ARNs of load balancers that Services of the class may adopt.
    pub adoptable: BTreeSet<String>,
    /// Services of different namespaces may share a load balancer.
    pub groups_across_namespaces: bool,
    /// At most so many nodes are targets of one target group; fewer where AWS's quotas ask for it.
    pub max_targets: Option<usize>,
    /// Rules that fit into one security group (AWS: 60 unless raised).
    pub security_group_rules: usize,
}

/// A Service of type LoadBalancer, as far as AWS is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// `metadata.annotations`: untrusted.
    pub annotations: BTreeMap<String, String>,
    /// `spec.ports`, in order.
    pub ports: Vec<ServicePort>,
    /// `spec.loadBalancerSourceRanges`: untrusted.
    pub source_ranges: Vec<String>,
    /// `spec.externalTrafficPolicy: Local`.
    pub local: bool,
    /// `spec.healthCheckNodePort`; 0 when there is none.
    pub health_check_node_port: u16,
    /// `spec.ipFamilies`, primary first.
    pub families: Vec<Family>,
}

/// One entry of `spec.ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// The name; empty when there is none.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The nodePort; 0 when there is none.
    pub node_port: u16,
    /// `targetPort`.
    pub target_port: TargetPort,
}

/// `targetPort`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container's port.
    Name(String),
}

/// A node, as far as it can be a target. Whether it is Ready is not asked (KEP-3458): the load
/// balancer's own health checks know better.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `spec.providerID`, e.g. `aws:///eu-central-1a/i-0123456789abcdef0`; empty when there is none.
    pub provider_id: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Keys of `spec.taints`.
    pub taints: BTreeSet<String>,
    /// Being deleted.
    pub deleting: bool,
}

/// One endpoint of a Service, from its EndpointSlices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The slice's ports by name (`""` for the one without): the same protocol as the Service's.
    pub ports: BTreeMap<String, u16>,
    /// `conditions.ready`: one that terminates is not, also while it still serves.
    pub ready: bool,
}

/// A VPC as it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// `vpc-…`.
    pub vpc: String,
    /// Its CIDRs: a target outside them is registered for all zones.
    pub cidrs: Vec<IpNet>,
    /// Every subnet of it.
    pub subnets: Vec<Subnet>,
    /// Every security group of it, by id.
    pub security_groups: BTreeMap<String, SecurityGroup>,
}

/// A security group as it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecurityGroup {
    /// Its group name.
    pub name: String,
    /// Its rules for incoming traffic, as far as they let in other security groups.
    pub rules: BTreeSet<Rule>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A subnet as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// `subnet-…`.
    pub id: String,
    /// Its availability zone, e.g. `eu-central-1a`.
    pub zone: String,
    /// Its IPv4 addresses.
    pub ipv4: Option<Ipv4Net>,
    /// Its associated IPv6 addresses.
    pub ipv6: Vec<Ipv6Net>,
    /// How many IPv4 addresses are free.
    pub available: u32,
    /// Its tags, `Name` among them.
    pub tags: BTreeMap<String, String>,
    /// Whether its route table leads to an internet gateway.
    pub public: bool,
    /// The outpost it is on, if any.
    pub outpost: Option<String>,
}
