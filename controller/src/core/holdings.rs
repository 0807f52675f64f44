//! `portolan numbers`: who has which number. What Services show is laid beside what the ledger says
//! and what pools contain; where they disagree the row says so and what to do. It only reads, and it
//! never takes a number's being missing from one place for a proof that it is free.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use allocator::{
    Allocator,
    block::{BlockId, Claim, Holder},
};
use k8s_openapi::api::core::v1;
use model::{Number, Port, Protocol, Rejection, ServiceKey, Space, Uid, Use};
use serde::Serialize;

use super::{
    record::{PoolKind, PoolRecord, ServiceType},
    translate,
};

mod fill;
mod free;
mod state;
#[cfg(test)]
mod tests;
mod text;

pub use fill::{Fill, PoolCondition};
pub use free::{Free, Suggestion};
pub(in crate::core) use text::table;

/// What a Service has a number for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum Kind {
    /// `spec.ports[].nodePort`.
    NodePort,
    /// `spec.healthCheckNodePort`.
    HealthCheckNodePort,
    /// `spec.clusterIPs[]`.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.externalIPs[]`, which Kubernetes hands to nobody: whoever writes it has it.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
}

impl Kind {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodePort => "NodePort",
            Self::HealthCheckNodePort => "HealthCheckNodePort",
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
        }
    }

    const fn of(usage: Use) -> Self {
        match usage {
            Use::NodePort => Self::NodePort,
            Use::HealthCheckNodePort => Self::HealthCheckNodePort,
            Use::ClusterIp => Self::ClusterIp,
            Use::LoadBalancer => Self::LoadBalancer,
        }
    }

    /// What a pool would give it for.
    const fn usage(self) -> Use {
        match self {
            Self::NodePort => Use::NodePort,
            Self::HealthCheckNodePort => Use::HealthCheckNodePort,
            Self::ClusterIp => Use::ClusterIp,
            Self::LoadBalancer | Self::ExternalIp => Use::LoadBalancer,
        }
    }

    const fn group(self) -> Group {
        match self {
            Self::NodePort | Self::HealthCheckNodePort => Group::NodePort,
            Self::ClusterIp => Group::ClusterIp,
            Self::LoadBalancer | Self::ExternalIp => Group::External,
        }
    }
}

/// What is asked for with `--kind` and `--free`. Two Services collide only within one group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    /// Ports of nodes, those for health checks among them.
    NodePort,
    /// Cluster IPs.
    ClusterIp,
    /// Addresses of load balancers and `spec.externalIPs`.
    External,
}

impl Group {
    /// What its pools give.
    const fn usage(self) -> Use {
        match self {
            Self::NodePort => Use::NodePort,
            Self::ClusterIp => Use::ClusterIp,
            Self::External => Use::LoadBalancer,
        }
    }
}

/// How Service, ledger and pools agree about a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum State {
    /// The Service has it and the ledger says so.
    Held,
    /// The Service has it, no pool contains it and the ledger does not know it: the API server's or
    /// somebody else's to give.
    Unmanaged,
    /// Nobody has it; it is kept for its former owner.
    Retained,
    /// The ledger has it for a Service that does not show it.
    Pending,
    /// The Service has it and a pool contains it, but the ledger does not know that.
    Unclaimed,
    /// The ledger has it for a Service that does not exist.
    Orphaned,
    /// Another Service has it too, or the ledger has it for another one.
    Conflict,
}

impl State {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::Unmanaged => "Unmanaged",
            Self::Retained => "Retained",
            Self::Pending => "Pending",
            Self::Unclaimed => "Unclaimed",
            Self::Orphaned => "Orphaned",
            Self::Conflict => "Conflict",
        }
    }

    /// Whether ledger and Services disagree.
    pub const fn is_disagreement(self) -> bool {
        match self {
            Self::Held | Self::Unmanaged | Self::Retained => false,
            Self::Pending | Self::Unclaimed | Self::Orphaned | Self::Conflict => true,
        }
    }
}

/// One number and one that has it, or that it is kept for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holding {
    /// An address or a port.
    pub number: String,
    /// What for; of a retained number what its pool gives.
    pub kind: Kind,
    /// Of a port: those that the Service uses it for; empty when the Service does not show it.
    pub protocols: Vec<&'static str>,
    /// Of a nodePort: the Service's own ports behind it, as `TCP/80`.
    pub ports: Vec<String>,
    /// How ledger, Service and pools agree.
    pub state: State,
    /// Whose.
    pub namespace: String,
    /// Whose.
    pub service: String,
    /// The pool that contains it.
    pub pool: Option<String>,
    /// When what is retained becomes free for others (RFC 3339).
    pub until: Option<String>,
    /// With whom it is shared, or what is wrong and what to do.
    pub note: Option<String>,
    #[serde(skip)]
    at: Number,
}

/// Everything that is printed.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was asked of one number that nobody has.
    pub answer: Option<String>,
    /// Ports before addresses, by number.
    pub numbers: Vec<Holding>,
    /// By kind and name.
    pub pools: Vec<Fill>,
    /// What could not be read, so that something may be missing above.
    pub warnings: Vec<String>,
}

/// What of the report is wanted; what is not given is not looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// This number only.
    pub number: Option<Number>,
    /// Services of this namespace only, and what is kept for them.
    pub namespace: Option<String>,
    /// These only.
    pub group: Option<Group>,
}

/// A number that a Service shows.
#[derive(Clone, PartialEq, Debug)]
struct Shown {
    number: Number,
    kind: Kind,
    protocols: BTreeSet<Protocol>,
    ports: BTreeSet<Port>,
}

/// A Service, reduced to its numbers.
#[derive(Clone, PartialEq, Debug)]
struct Owner {
    key: ServiceKey,
    uid: Uid,
    shown: Vec<Shown>,
}

/// A nodePort that a Service has; see [`Given::node_ports`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodePort {
    /// The port of nodes.
    pub port: u16,
    /// NodePort or HealthCheckNodePort.
    pub kind: Kind,
    /// For which protocols.
    pub protocols: BTreeSet<Protocol>,
    /// Whose.
    pub service: ServiceKey,
}

/// What was read from the cluster.
#[derive(Debug, Default)]
pub struct Given {
    services: Vec<Owner>,
    pools: Vec<PoolRecord>,
    claims: BTreeMap<Number, Claim>,
    damaged: Vec<BlockId>,
    warnings: Vec<String>,
}

impl Given {
    /// Adds a Service.
    pub fn service(&mut self, service: &v1::Service) {
        let record = match translate::service(service) {
            Ok(record) => record,
            Err(rejection) => return self.reject(&rejection),
        };
        let mut shown: Vec<Shown> = Vec::new();
        if record.service_type != ServiceType::ExternalName {
            for port in record.ports.iter().filter(|port| port.node_port != 0) {
                let number = Number::port(port.node_port);
                match shown.iter_mut().find(|shown| shown.number == number) {
                    Some(shown) => {
                        shown.protocols.insert(port.port.protocol);
                        shown.ports.insert(port.port);
                    }
                    None => shown.push(Shown {
                        number,
                        kind: Kind::NodePort,
                        protocols: BTreeSet::from([port.port.protocol]),
                        ports: BTreeSet::from([port.port]),
                    }),
                }
            }
        }
        let plain = |number, kind| Shown {
            number,
            kind,
            protocols: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        if record.health_check_node_port != 0 {
            shown.push(Shown {
                protocols: BTreeSet::from([Protocol::Tcp]),
                ..plain(
                    Number::port(record.health_check_node_port),
                    Kind::HealthCheckNodePort,
                )
            });
        }
        let addresses = record.cluster_ips.iter();
        shown.extend(addresses.map(|address| plain(Number::from(*address), Kind::ClusterIp)));
        let addresses = record.ingress_numbers();
        shown.extend(addresses.map(|number| plain(number, Kind::LoadBalancer)));
        let spec = service.spec.as_ref();
        let written = spec.and_then(|spec| spec.external_ips.as_deref());
        let addresses = written.unwrap_or_default().iter();
        let addresses = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
        shown.extend(addresses.map(|address| plain(Number::from(address), Kind::ExternalIp)));
        self.services.push(Owner {
            key: record.key,
            uid: record.uid,
            shown,
        });
    }

    /// Adds an AddressPool.
    pub fn address_pool(&mut self, pool: &crds::AddressPool) {
        match translate::address_pool(pool) {
            Ok(record) => self.pools.push(record),
            Err(rejection) => self.reject(&rejection),
        }
    }

    /// Adds a NodePortPool.
    pub fn node_port_pool(&mut self, pool: &crds::NodePortPool) {
        match translate::node_port_pool(pool) {
            Ok(record) => self.pools.push(record),
            Err(rejection) => self.reject(&rejection),
        }
    }

    /// Adds an AllocationBlock.
    pub fn block(&mut self, block: &crds::AllocationBlock) {
        match translate::block(block) {
            Err(rejection) => self.reject(&rejection),
            Ok(record) => match record.claims {
                Ok(claims) => self.claims.extend(claims),
                Err(rejection) => {
                    self.damaged.push(record.id);
                    self.reject(&rejection);
                }
            },
        }
    }

    /// Adds something that could not be read.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn reject(&mut self, rejection: &Rejection) {
        self.warnings.push(rejection.message.clone());
    }

    /// What could not be read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every nodePort of a Service, by number.
    pub fn node_ports(&self) -> Vec<NodePort> {
        let mut ports: Vec<NodePort> = Vec::new();
        for owner in &self.services {
            for shown in &owner.shown {
                let Some(port) = shown.number.as_port() else {
                    continue;
                };
                ports.push(NodePort {
                    port,
                    kind: shown.kind,
                    protocols: shown.protocols.clone(),
                    service: owner.key.clone(),
                });
            }
        }
        ports.sort();
        ports
    }

    /// The pools that can be read; what is wrong with the others is a warning of the report.
    pub fn readable_pools(&self) -> impl Iterator<Item = &allocator::Pool> {
        self.pools.iter().filter_map(|pool| pool.pool.as_ref().ok())
    }

    /// The pools (of one resource, as names are unique only there) and what the ledger says of their
    /// numbers.
    fn ledger(&self, only: Option<PoolKind>) -> Allocator {
        let mut allocator = Allocator::new();
        let pools = (self.pools.iter())
            .filter(|pool| only.is_none_or(|kind| pool.kind == kind))
            .filter_map(|pool| pool.pool.clone().ok());
        allocator.set_pools(pools.collect());
        for (&number, claim) in &self.claims {
            match claim {
                Claim::Held(holders) => {
                    for holder in holders {
                        allocator.hold(number, holder.clone());
                    }
                }
                Claim::Retained { owner, until } => {
                    allocator.retain(number, owner.clone(), *until);
                }
            }
        }
        for &block in &self.damaged {
            allocator.quarantine(block);
        }
        allocator
    }

    /// The same, and every number in a pool that a Service has without a claim.
    fn ledger_and_services(&self, only: Option<PoolKind>) -> Allocator {
        let mut allocator = self.ledger(only);
        for owner in &self.services {
            for shown in &owner.shown {
                let known = allocator.holders(shown.number);
                if !known.is_empty() || allocator.pools_containing(shown.number).next().is_none() {
                    continue;
                }
                let holder = Holder {
                    service: owner.key.clone(),
                    uid: owner.uid.clone(),
                    usage: shown.kind.usage(),
                    at: "".into(),
                    sharing: None,
                };
                allocator.hold(shown.number, holder);
            }
        }
        allocator
    }

    /// Who has what.
    pub fn report(&self, filter: &Filter) -> Report {
        let ledger = self.ledger(None);
        let wanted = |holding: &Holding| {
            filter.number.is_none_or(|number| holding.at == number)
                && (filter.group).is_none_or(|group| holding.kind.group() == group)
                && (filter.namespace.as_ref())
                    .is_none_or(|namespace| holding.namespace == *namespace)
        };
        let mut numbers = state::holdings(self, &ledger);
        numbers.retain(wanted);
        let order = |space| match space {
            Space::Port => 0,
            Space::V4 => 1,
            Space::V6 => 2,
        };
        numbers.sort_by(|a, b| {
            let key = |row: &Holding| (row.kind.group(), order(row.at.space), row.at, row.kind);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.state.cmp(&b.state))
                .then_with(|| (&a.namespace, &a.service).cmp(&(&b.namespace, &b.service)))
        });
        let pools = match &filter.namespace {
            Some(_) => Vec::new(),
            None => fill::fills(self, filter),
        };
        Report {
            answer: (filter.number.filter(|_| numbers.is_empty()))
                .map(|number| self.nobody(number, &ledger, filter)),
            numbers,
            pools,
            warnings: self.warnings.clone(),
        }
    }

    /// What is to be said of a number without rows.
    fn nobody(&self, number: Number, ledger: &Allocator, filter: &Filter) -> String {
        let what = match number.space {
            Space::Port => "nodePort",
            Space::V4 | Space::V6 => "address",
        };
        let whose = match &filter.namespace {
            Some(namespace) => format!("no Service of namespace {namespace}"),
            None => "no Service".to_owned(),
        };
        let block = BlockId::of(number);
        let pools: Vec<String> = (ledger.pools_containing(number))
            .map(|pool| {
                let which = fill::resource(pool);
                let never = pool.reserved(number.space).contains(number.value);
                let how = if never {
                    "never hands it out"
                } else {
                    "has it"
                };
                format!("{which} {} {how}", pool.name)
            })
            .collect();
        let pools = match pools.is_empty() {
            true => "no pool has it".to_owned(),
            false => pools.join(", "),
        };
        let damaged = match self.damaged.contains(&block) {
            true => format!(
                "; but AllocationBlock {}, which would say so, cannot be read",
                block.name()
            ),
            false => String::new(),
        };
        format!("{whose} has {what} {number}: {pools}{damaged}")
    }
}
