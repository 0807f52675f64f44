//! What the controller keeps of each object: only what is read later, in types later stages cannot
//! fail on. Built by [`super::translate`], never edited.

use std::{net::IpAddr, sync::Arc};

use allocator::{
    Sharing,
    block::{BlockId, Claims},
};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
pub use model::Rejection;
use model::{Family, Labels, Number, Port, ServiceKey, TrafficPolicy, Uid};

use super::announce::Policy;

/// `spec.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceType {
    /// Reachable inside.
    ClusterIp,
    /// And on every node.
    NodePort,
    /// And from outside.
    LoadBalancer,
    /// A DNS alias; has no numbers.
    ExternalName,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyPolicy {
    /// One family.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both or nothing.
    RequireDualStack,
}

impl FamilyPolicy {
    /// The word Kubernetes uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

/// One entry of `spec.ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// The name; empty when there is none.
    pub name: Arc<str>,
    /// Protocol and port.
    pub port: Port,
    /// `nodePort`; 0 when empty.
    pub node_port: u16,
}

/// What the user asks of the load balancer, from annotations and `spec.loadBalancerIP`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoadBalancerRequest {
    /// Only from this pool.
    pub pool: Option<Arc<str>>,
    /// Exactly these addresses; at most one of a family.
    pub addresses: Vec<IpAddr>,
    /// Shared on these terms.
    pub sharing: Option<Sharing>,
    /// `portolan.dev/node-port-pool`.
    pub node_port_pool: Option<Arc<str>>,
    /// `portolan.dev/node-ports`: port name to nodePort.
    pub node_ports: Vec<(Arc<str>, u16)>,
    /// `portolan.dev/keep-node-ports`: whatever nodePorts it has stay as they are.
    pub keep_node_ports: bool,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ingress {
    /// The address, if it is one that can be read.
    pub ip: Option<IpAddr>,
    /// The name, if it has one.
    pub hostname: Option<Arc<str>>,
    /// The entry is exactly `{ip, ipMode: VIP}` in canonical form, or `{hostname}`: nothing to
    /// repair.
    pub plain: bool,
}

/// A Service, reduced.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceRecord {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// `metadata.resourceVersion` of this observation.
    pub version: Arc<str>,
    /// Unix seconds.
    pub created: i64,
    /// `deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.labels`.
    pub labels: Arc<Labels>,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<Arc<str>>,
    /// `spec.allocateLoadBalancerNodePorts`; true unless it says false.
    pub allocate_node_ports: bool,
    /// `spec.ports` in order.
    pub ports: Vec<ServicePort>,
    /// `spec.clusterIPs` (or the single `clusterIP`) that can be read; empty when headless.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilies`.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: Option<FamilyPolicy>,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`; 0 when empty.
    pub health_check_node_port: u16,
    /// Whether `spec.selector` is there.
    pub has_selector: bool,
    /// The parsed request, or what is wrong with it.
    pub request: Result<LoadBalancerRequest, Rejection>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
    /// `status.conditions`, all of them: ours are replaced, the others written back as they are.
    pub conditions: Vec<Condition>,
    /// `metadata.finalizers`, all of them.
    pub finalizers: Vec<Arc<str>>,
    /// What a cloud is told, of a Service of type LoadBalancer.
    pub cloud: Option<Arc<aws::input::Service>>,
}

/// A LoadBalancerClass, reduced.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassRecord {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// Unix seconds.
    pub created: i64,
    /// `deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.className`.
    pub class_name: Arc<str>,
    /// `spec.default`.
    pub default: bool,
    /// What fulfils it.
    pub provider: Provider,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.conditions`.
    pub conditions: Vec<Condition>,
}

/// What fulfils a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Provider {
    /// An address from these pools; from any when empty.
    Pool(Vec<String>),
    /// AWS, with these settings; the cluster's name is filled in by whoever talks to AWS.
    Aws(Arc<aws::input::Class>),
    /// GCP; not in this build.
    Gcp,
}

/// Which custom resource a pool is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PoolKind {
    /// AddressPool.
    Address,
    /// NodePortPool.
    NodePort,
}

/// An AddressPool or NodePortPool, reduced.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolRecord {
    /// Which resource.
    pub kind: PoolKind,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// The pool, or what is wrong with it.
    pub pool: Result<allocator::Pool, Rejection>,
    /// How its addresses are announced; `None`: not by us.
    pub announce: Option<Arc<Policy>>,
    /// `status` as it is, to compare with what it should be.
    pub status: PoolStatus,
}

/// A pool's status in comparable form, for both kinds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolStatus {
    /// `observedGeneration`.
    pub observed_generation: Option<i64>,
    /// `ipv4`.
    pub v4: Option<crds::Counts>,
    /// `ipv6`.
    pub v6: Option<crds::Counts>,
    /// `ports`.
    pub ports: Option<crds::Counts>,
    /// `conditions`.
    pub conditions: Vec<Condition>,
}

/// An AllocationBlock, reduced.
#[derive(Clone, PartialEq, Debug)]
pub struct BlockRecord {
    /// Which numbers.
    pub id: BlockId,
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// `spec.sequence`.
    pub sequence: i64,
    /// `spec.writer`.
    pub writer: Arc<str>,
    /// Who holds what, or why it cannot be read.
    pub claims: Result<Claims, Rejection>,
}

/// A Namespace, reduced.
#[derive(Clone, PartialEq, Debug)]
pub struct NamespaceRecord {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`.
    pub labels: Arc<Labels>,
}

/// A ServiceCIDR, reduced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CidrRecord {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `spec.cidrs`.
    pub cidrs: Vec<IpNet>,
    /// Whether the API server gives from it: it is not being deleted, and its condition Ready is
    /// not False.
    pub ready: bool,
}

/// An IPAddress with our label, reduced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservationRecord {
    /// Its name.
    pub address: IpAddr,
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// The AddressPool that it is made for, by `spec.parentRef` and the owner reference; `None` when
    /// it names none.
    pub pool: Option<(Arc<str>, Uid)>,
}

impl ServiceRecord {
    /// Whether our finalizer is on it: something outside the cluster may be made for it.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers
            .iter()
            .any(|name| **name == *crds::FINALIZER)
    }

    /// The name that its status shows.
    pub fn shown_hostname(&self) -> Option<&Arc<str>> {
        self.ingress
            .iter()
            .find_map(|entry| entry.hostname.as_ref())
    }

    /// Every address in the ingress that can be read.
    pub fn ingress_numbers(&self) -> impl Iterator<Item = Number> + '_ {
        self.ingress
            .iter()
            .filter_map(|entry| entry.ip.map(Number::from))
    }

    /// Whether each port needs a nodePort by Kubernetes' rules.
    pub fn needs_node_ports(&self) -> bool {
        match self.service_type {
            ServiceType::NodePort => true,
            ServiceType::LoadBalancer => self.allocate_node_ports,
            ServiceType::ClusterIp | ServiceType::ExternalName => false,
        }
    }

    /// Whether it needs a healthCheckNodePort by Kubernetes' rules.
    pub fn needs_health_check_port(&self) -> bool {
        self.service_type == ServiceType::LoadBalancer
            && self.traffic_policy == TrafficPolicy::Local
    }

    /// Whether it is to have clusterIPs.
    pub fn needs_cluster_ips(&self) -> bool {
        self.service_type != ServiceType::ExternalName && !self.headless
    }
}
