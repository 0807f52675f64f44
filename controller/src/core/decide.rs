//! DECIDE: one Service's snapshot in, what it should hold and say out. Pure; the time is given.
//!
//! It never mutates the allocator: numbers picked here are held by the engine before the next
//! Service is looked at.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use allocator::{Allocator, Considered, Grant, Missing, Request, Sharing};
use model::{Family, Labels, Number, Reason, Uid, Use};
use serde_json::Value;

use super::{
    cloud::Told,
    index::ClassMatch,
    ledger::Ledger,
    record::{
        ClassRecord, FamilyPolicy, LoadBalancerRequest, Provider, Rejection, ServiceRecord,
        ServiceType,
    },
    shown::{ShownAddresses, ShownPorts},
};

mod admission;
mod own;
mod renumber;

pub use admission::{Admission, admit};
use own::own_numbers;
pub use renumber::Move;

/// Everything a decision may look at.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The Service.
    pub record: &'a ServiceRecord,
    /// The class that takes it; read only for type LoadBalancer.
    pub class: ClassMatch<'a>,
    /// Labels of its namespace.
    pub namespace_labels: &'a Labels,
    /// Pools and who holds what.
    pub allocator: &'a Allocator,
    /// What is committed, and which blocks are damaged.
    pub ledger: &'a Ledger,
    /// Whether this build and this process can talk to AWS.
    pub aws: bool,
    /// What the cloud has said of it last.
    pub told: Option<&'a Told>,
    /// The cluster's families, primary first: of the API server's ServiceCIDRs; where it has none,
    /// of the ClusterIP pools.
    pub cluster_families: &'a [Family],
    /// Whether the API server completes every Service itself, which its ServiceCIDRs tell: then the
    /// clusterIPs that are there are final, and the webhook alone chooses others.
    pub server_gives_cluster_ips: bool,
    /// Whether a NodePortPool exists that can be read: without one no nodePort is changed.
    pub node_port_policy: bool,
    /// Which Services show which port of the nodes.
    pub shown_ports: &'a ShownPorts,
    /// Which clusterIPs some Service shows.
    pub shown_addresses: &'a ShownAddresses,
    /// Ports that the API server calls taken though nobody shows them, and until when.
    pub foreign: &'a BTreeMap<Number, Duration>,
    /// Why the API server does not let its nodePorts be changed, if it has said so.
    pub refused: Option<&'a str>,
    /// Whether its turn has come to have nodePorts changed.
    pub may_renumber: bool,
    /// Unix seconds.
    pub now: i64,
}

impl Snapshot<'_> {
    /// What was made for it must go; without anybody who could see to that it has to wait.
    fn leaving(&self) -> Address {
        if self.aws {
            return Address::Leaving(self.told.cloned());
        }
        Address::Leaving(Some(Told::from(&Rejection {
            reason: Reason::ProviderUnavailable,
            message: format!(
                "something in AWS may be left of it, which this build of portolan cannot see to: \
                 run one that can, or look yourself and take the finalizer {} off",
                crds::FINALIZER
            ),
        })))
    }

    /// Whether what serves it reaches its pods by nodePorts although Kubernetes gives it none; asked
    /// only where a NodePortPool says which ones it may have.
    fn provider_needs_node_ports(&self) -> bool {
        let record = self.record;
        let provider = match self.class {
            ClassMatch::Ours(class) => &class.provider,
            ClassMatch::Gone => return false,
        };
        let (Provider::Aws(class), Some(service)) = (provider, &record.cloud) else {
            return false;
        };
        let may = self.aws && self.node_port_policy && !record.allocate_node_ports;
        may && record.service_type == ServiceType::LoadBalancer
            && record
                .request
                .as_ref()
                .is_ok_and(|request| !request.keep_node_ports)
            && aws::annotations::request(service, class)
                .is_ok_and(|request| request.target_type == aws::wanted::TargetType::Instance)
    }

    /// Whether a cloud serves it, or could be meant to while the class is gone.
    fn is_cloud(&self) -> bool {
        self.record.service_type == ServiceType::LoadBalancer
            && match self.class {
                ClassMatch::Gone => true,
                ClassMatch::Ours(class) => match class.provider {
                    Provider::Pool(_) => false,
                    Provider::Aws(_) | Provider::Gcp => true,
                },
            }
    }
}

/// A number the Service should hold after this pass.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// Which.
    pub number: Number,
    /// What for.
    pub usage: Use,
    /// On which terms.
    pub sharing: Option<Sharing>,
    /// The pass will write it into the Service, so its claim must be on this very resourceVersion.
    pub written: bool,
}

/// What a Service of type LoadBalancer gets from its class.
#[derive(Clone, PartialEq, Debug)]
pub enum Address {
    /// Not a load balancer, or none of ours: nothing is said about it.
    NotOurs,
    /// Its class is gone: what it has stays, untouched.
    Kept,
    /// Its class is gone and it has nothing.
    Orphaned(Missing),
    /// Its numbers come first; the next pass looks at the address.
    Later,
    /// A cloud makes its load balancer, on these terms.
    Cloud(Arc<aws::input::Class>, Option<Told>),
    /// Nothing is wanted of a cloud any longer, and something of it may be left.
    Leaving(Option<Told>),
    /// The outcome.
    Decided {
        /// Addresses it has from now on, in the order of its families.
        grants: Vec<Grant>,
        /// What it asked for and does not get.
        missing: Vec<Missing>,
        /// Every pool looked at and why it was not used.
        considered: Vec<Considered>,
    },
}

/// The answer for one Service.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Numbers it should hold.
    pub holds: Vec<Wanted>,
    /// Numbers it holds and should not: released once that is proven safe.
    pub surplus: Vec<(Number, Use)>,
    /// The spec write that gives it numbers of its own, if it lacks any.
    pub spec: Option<Value>,
    /// Numbers of its own that it cannot have.
    pub missing: Option<Missing>,
    /// nodePorts that a policy changes: by `spec` if its turn has come, else when it comes.
    pub moves: Vec<Move>,
    /// nodePorts that stay against a policy, and what to do about it.
    pub stray: Option<Missing>,
    /// Its external address.
    pub address: Address,
}

/// Decides.
pub fn decide(snapshot: &Snapshot<'_>) -> Decision {
    let record = snapshot.record;
    if record.deleting {
        // It keeps everything until it is gone; nothing new is given to what is going.
        return Decision {
            holds: held(snapshot, |_| true),
            surplus: Vec::new(),
            spec: None,
            missing: None,
            moves: Vec::new(),
            stray: None,
            address: match record.has_finalizer() {
                true => snapshot.leaving(),
                false => Address::Kept,
            },
        };
    }
    let own = own_numbers(snapshot);
    let mut holds = own.holds;
    let address = match (&own.spec, record.service_type) {
        (_, ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::ExternalName) => {
            Address::NotOurs
        }
        (Some(_), ServiceType::LoadBalancer) => {
            holds.extend(held(snapshot, |usage| usage == Use::LoadBalancer));
            Address::Later
        }
        (None, ServiceType::LoadBalancer) => {
            external_address(snapshot, own.missing.is_some(), &mut holds)
        }
    };
    // A cloud served it before: it has another type now, or the class another provider.
    let left = record.has_finalizer()
        && !snapshot.is_cloud()
        && matches!(address, Address::NotOurs | Address::Decided { .. });
    let address = match left {
        true => snapshot.leaving(),
        false => address,
    };
    let surplus = snapshot
        .allocator
        .held_by(&record.uid)
        .filter(|(number, usage)| {
            !holds
                .iter()
                .any(|wanted| wanted.number == *number && wanted.usage == *usage)
        })
        .collect();
    Decision {
        holds,
        surplus,
        spec: own.spec,
        missing: own.missing,
        moves: own.moves,
        stray: own.stray,
        address,
    }
}

fn held(snapshot: &Snapshot<'_>, usage: impl Fn(Use) -> bool) -> Vec<Wanted> {
    let record = snapshot.record;
    snapshot
        .allocator
        .held_by(&record.uid)
        .filter(|(_, use_)| usage(*use_))
        .map(|(number, usage)| Wanted {
            number,
            usage,
            sharing: snapshot
                .allocator
                .holders(number)
                .iter()
                .find(|holder| holder.uid == record.uid && holder.usage == usage)
                .and_then(|holder| holder.sharing.clone()),
            written: false,
        })
        .collect()
}

/// Whether a pool for this use contains the number.
pub fn pool_contains(allocator: &Allocator, number: Number, usage: Use) -> bool {
    allocator
        .pools_containing(number)
        .any(|pool| pool.serves(usage))
}

/// The external address of a Service of type LoadBalancer.
fn external_address(
    snapshot: &Snapshot<'_>,
    numbers_missing: bool,
    holds: &mut Vec<Wanted>,
) -> Address {
    let record = snapshot.record;
    let kept = held(snapshot, |usage| usage == Use::LoadBalancer);
    let class = match snapshot.class {
        ClassMatch::Ours(class) => class,
        ClassMatch::Gone if !kept.is_empty() => {
            holds.extend(kept);
            return Address::Kept;
        }
        ClassMatch::Gone
            if record
                .conditions
                .iter()
                .any(|c| super::settle::is_outcome(&c.type_)) =>
        {
            return Address::Orphaned(class_gone(record));
        }
        ClassMatch::Gone => return Address::NotOurs,
    };
    let refused = |rejection: Rejection, holds: &mut Vec<Wanted>| {
        let grants = kept_grants(snapshot.allocator, &kept);
        holds.extend(kept.clone());
        Address::Decided {
            grants,
            missing: vec![missing(rejection)],
            considered: Vec::new(),
        }
    };
    let pools: &[String] = match &class.provider {
        Provider::Pool(pools) => pools,
        Provider::Aws(class) if snapshot.aws => {
            holds.extend(kept);
            let told = match &record.request {
                Ok(_) => snapshot.told.cloned(),
                Err(rejection) => Some(rejection.into()),
            };
            return Address::Cloud(class.clone(), told);
        }
        Provider::Aws(_) => return refused(provider_unavailable(class, "aws"), holds),
        Provider::Gcp => return refused(provider_unavailable(class, "gcp"), holds),
    };
    let wanted = match &record.request {
        Ok(wanted) => wanted,
        Err(rejection) => return refused(rejection.clone(), holds),
    };
    let families = address_families(snapshot);
    if let Some(stray) = wanted
        .addresses
        .iter()
        .find(|address| !families.contains(&Family::of(**address)))
    {
        return refused(stray_family(*stray, &families), holds);
    }
    if numbers_missing {
        // Without its own numbers nothing new is given; what it holds stays.
        let grants = kept_grants(snapshot.allocator, &kept);
        holds.extend(kept);
        return Address::Decided {
            grants,
            missing: Vec::new(),
            considered: Vec::new(),
        };
    }
    let (explicit, shown) = (
        explicit(wanted),
        record.ingress_numbers().collect::<Vec<_>>(),
    );
    let verdict = snapshot.allocator.decide(
        &Request {
            families: &families,
            require_all: record.family_policy == Some(FamilyPolicy::RequireDualStack)
                && families.len() > 1,
            pool: wanted.pool.as_deref(),
            explicit: &explicit,
            sharing: wanted.sharing.as_ref(),
            allowed_pools: (!pools.is_empty()).then_some(pools),
            shown: &shown,
            ..request(snapshot, Use::LoadBalancer)
        },
        snapshot.now,
    );
    let mut grants = verdict.grants;
    grants.sort_by_key(|grant| {
        families
            .iter()
            .position(|family| Some(*family) == grant.number.space.family())
    });
    let recorded = |number: Number| {
        kept.iter()
            .find(|wanted| wanted.number == number)
            .and_then(|wanted| wanted.sharing.clone())
    };
    holds.extend(grants.iter().map(|grant| Wanted {
        number: grant.number,
        usage: Use::LoadBalancer,
        sharing: if grant.keep_terms {
            recorded(grant.number)
        } else {
            wanted.sharing.clone()
        },
        written: !shown.contains(&grant.number),
    }));
    Address::Decided {
        grants,
        missing: verdict.missing,
        considered: verdict.considered,
    }
}

/// The families an external address may have: those the Service itself has.
fn address_families(snapshot: &Snapshot<'_>) -> Vec<Family> {
    let record = snapshot.record;
    if !record.families.is_empty() {
        return record.families.clone();
    }
    let mut families: Vec<Family> = Vec::new();
    for address in &record.cluster_ips {
        if !families.contains(&Family::of(*address)) {
            families.push(Family::of(*address));
        }
    }
    if families.is_empty() {
        families.push(
            snapshot
                .cluster_families
                .first()
                .copied()
                .unwrap_or(Family::V4),
        );
    }
    families
}

fn explicit(wanted: &LoadBalancerRequest) -> Vec<Number> {
    wanted
        .addresses
        .iter()
        .map(|address| Number::from(*address))
        .collect()
}

fn kept_grants(allocator: &Allocator, kept: &[Wanted]) -> Vec<Grant> {
    kept.iter()
        .map(|wanted| Grant {
            number: wanted.number,
            pool: allocator
                .pools_containing(wanted.number)
                .next()
                .map(|pool| pool.name.clone()),
            fresh: false,
            keep_terms: true,
        })
        .collect()
}

fn request<'a>(snapshot: &Snapshot<'a>, usage: Use) -> Request<'a> {
    let record = snapshot.record;
    Request {
        service: &record.key,
        uid: &record.uid,
        usage,
        namespace_labels: snapshot.namespace_labels,
        service_labels: &record.labels,
        families: &[],
        require_all: false,
        pool: match (&record.request, usage) {
            (Ok(wanted), Use::NodePort | Use::HealthCheckNodePort) => {
                wanted.node_port_pool.as_deref()
            }
            _ => None,
        },
        explicit: &[],
        sharing: None,
        allowed_pools: None,
        shown: &[],
        exclude: &[],
        pass_over: None,
        stable_salt: None,
    }
}

fn missing(rejection: Rejection) -> Missing {
    Missing {
        family: None,
        reason: rejection.reason,
        message: rejection.message,
        waits_for: Vec::new(),
    }
}

fn provider_unavailable(class: &ClassRecord, provider: &str) -> Rejection {
    Rejection {
        reason: Reason::ProviderUnavailable,
        message: format!(
            "LoadBalancerClass {} wants spec.{provider}, which this build of portolan does not have; use a class with spec.pool",
            class.name
        ),
    }
}

fn stray_family(address: IpAddr, families: &[Family]) -> Rejection {
    let has: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
    Rejection {
        reason: Reason::FamilyUnavailable,
        message: format!(
            "address {address} is {}, but the Service's ipFamilies are {}; ask for another address or change spec.ipFamilies",
            Family::of(address),
            has.join(", ")
        ),
    }
}

fn class_gone(record: &ServiceRecord) -> Missing {
    let class: Arc<str> = record.class.clone().unwrap_or_else(|| "(default)".into());
    missing(Rejection {
        reason: Reason::ClassDeleted,
        message: format!(
            "no LoadBalancerClass has className {class} any more; create it again, or create the Service anew with another spec.loadBalancerClass"
        ),
    })
}

/// Whether this uid holds anything.
pub fn holds_anything(allocator: &Allocator, uid: &Uid) -> bool {
    allocator.held_by(uid).next().is_some()
}

/// Whether this uid holds a number for this use.
pub fn holds_for(allocator: &Allocator, uid: &Uid, usage: Use) -> bool {
    allocator.held_by(uid).any(|(_, held)| held == usage)
}
