//! What was read from the cluster, and the reports from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use allocator::{
    Allocator, Pool,
    block::{BlockId, Claim, Holder},
};
use k8s_openapi::api::{core::v1, networking::v1::ServiceCIDR};
use model::{Number, Protocol, Rejection, ServiceKey, Space, Uid, Use};

use super::{Filter, Holding, Kind, NodePort, Owner, Report, Shown, fill, state};
use crate::core::{
    record::{PoolKind, PoolRecord, ServiceRecord, ServiceType},
    repair::{self, Recorded},
    service_cidrs::ServiceCidrs,
    translate,
};

/// What was read from the cluster.
#[derive(Debug, Default)]
pub struct Given {
    pub(super) services: Vec<Owner>,
    pub(super) pools: Vec<PoolRecord>,
    pub(super) claims: BTreeMap<Number, Claim>,
    pub(in crate::core) damaged: Vec<(BlockId, Rejection)>,
    pub(in crate::core) recorded: Option<Recorded>,
    cidrs: ServiceCidrs,
    pub(super) warnings: Vec<String>,
}

impl Given {
    /// Adds a Service.
    pub fn service(&mut self, service: &v1::Service) {
        let spec = service.spec.as_ref();
        let external = spec.and_then(|spec| spec.external_ips.as_deref());
        match translate::service(service) {
            Ok(record) => self.record(&record, external.unwrap_or_default()),
            Err(rejection) => self.reject(&rejection),
        }
    }

    /// Adds a Service that has been translated; `external` is its `spec.externalIPs`.
    pub(in crate::core) fn record(&mut self, record: &ServiceRecord, external: &[String]) {
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
        let addresses = external
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok());
        shown.extend(addresses.map(|address| plain(Number::from(address), Kind::ExternalIp)));
        self.services.push(Owner {
            key: record.key.clone(),
            uid: record.uid.clone(),
            created: record.created,
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
                    self.reject(&rejection);
                    self.damaged.push((record.id, rejection));
                }
            },
        }
    }

    /// Adds what a block said that has been translated.
    pub(in crate::core) fn claim(&mut self, number: Number, claim: &Claim) {
        self.claims.insert(number, claim.clone());
    }

    /// Adds a block that cannot be read.
    pub(in crate::core) fn unreadable(&mut self, id: BlockId, why: &Rejection) {
        self.damaged.push((id, why.clone()));
    }

    /// Says which IPAddress objects there are; what is not said is not compared.
    pub fn recorded(&mut self, recorded: Recorded) {
        self.recorded = Some(recorded);
    }

    /// Adds a ServiceCIDR; without any, nobody knows which cluster IPs the API server takes.
    pub fn service_cidr(&mut self, cidr: &ServiceCIDR) {
        match translate::service_cidr(cidr) {
            Ok(record) => {
                self.cidrs.set(record);
            }
            Err(rejection) => self.reject(&rejection),
        }
    }

    /// Whether some pool gives cluster IPs.
    pub fn gives_cluster_ips(&self) -> bool {
        let mut pools = self.readable_pools();
        pools.any(|pool| pool.usage == Use::ClusterIp)
    }

    /// The Services by uid.
    pub(in crate::core) fn alive(&self) -> BTreeMap<&Uid, &ServiceKey> {
        let services = self.services.iter();
        services.map(|owner| (&owner.uid, &owner.key)).collect()
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
    pub(super) fn ledger(&self, only: Option<PoolKind>) -> Allocator {
        let mut allocator = Allocator::new();
        let mut pools: Vec<Pool> = (self.pools.iter())
            .filter(|pool| only.is_none_or(|kind| pool.kind == kind))
            .filter_map(|pool| pool.pool.clone().ok())
            .collect();
        self.cidrs.bound(&mut pools);
        allocator.set_pools(pools);
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
        for (block, _) in &self.damaged {
            allocator.quarantine(*block);
        }
        allocator
    }

    /// The same, and every number in a pool that a Service has without a claim.
    pub(super) fn ledger_and_services(&self, only: Option<PoolKind>) -> Allocator {
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
        let mut findings = repair::compare(self);
        findings.retain(|finding| finding.passes(filter));
        Report {
            findings,
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
        let damaged = match self.damaged.iter().any(|(id, _)| *id == block) {
            true => format!(
                "; but AllocationBlock {}, which would say so, cannot be read",
                block.name()
            ),
            false => String::new(),
        };
        format!("{whose} has {what} {number}: {pools}{damaged}")
    }
}
