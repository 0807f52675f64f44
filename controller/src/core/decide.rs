//! DECIDE: one Service's snapshot in, what it should hold and say out. Pure; the time is given.
//!
//! It never mutates the allocator: numbers picked here are held by the engine before the next
//! Service is looked at.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use allocator::{Allocator, Considered, Grant, Missing, Request, Sharing, block::Holder};
use model::{Family, Labels, Number, Reason, Uid, Use};
use serde_json::Value;

use super::{
    index::ClassMatch,
    ledger::Ledger,
    numbers::{self, NumbersFound},
    record::{ClassRecord, FamilyPolicy, LoadBalancerRequest, Provider, Rejection, ServiceRecord, ServiceType},
};

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
    /// Families of the ClusterIP pools, primary first; empty when the control plane gives clusterIPs.
    pub cluster_families: &'a [Family],
    /// Unix seconds.
    pub now: i64,
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
            address: Address::Kept,
        };
    }
    let own = own_numbers(snapshot);
    let mut holds = own.holds;
    let address = match (&own.spec, record.service_type) {
        (_, ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::ExternalName) => Address::NotOurs,
        (Some(_), ServiceType::LoadBalancer) => {
            holds.extend(held(snapshot, |usage| usage == Use::LoadBalancer));
            Address::Later
        }
        (None, ServiceType::LoadBalancer) => external_address(snapshot, own.missing.is_some(), &mut holds),
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

#[derive(Default)]
struct Own {
    holds: Vec<Wanted>,
    spec: Option<Value>,
    missing: Option<Missing>,
}

/// clusterIPs, nodePorts and the healthCheckNodePort: given where the field is empty, recorded
/// where a pool of ours contains what is there.
fn own_numbers(snapshot: &Snapshot<'_>) -> Own {
    let mut own = Own::default();
    let mut found = NumbersFound::default();
    if snapshot.record.needs_cluster_ips() {
        cluster_ips(snapshot, &mut own, &mut found);
    }
    node_ports(snapshot, &mut own, &mut found);
    if own.missing.is_none() {
        own.spec = numbers::spec_patch(snapshot.record, &found);
    } else {
        // All or nothing: a Service with half its numbers helps nobody, and what was picked is free
        // for others.
        own.holds.retain(|wanted| !wanted.written);
    }
    own
}

fn cluster_ips(snapshot: &Snapshot<'_>, own: &mut Own, found: &mut NumbersFound) {
    let record = snapshot.record;
    for address in &record.cluster_ips {
        shown(snapshot, own, Number::from(*address), Use::ClusterIp, "spec.clusterIPs");
    }
    if snapshot.cluster_families.is_empty() {
        if record.cluster_ips.is_empty() {
            own.missing.get_or_insert(Missing {
                family: None,
                reason: Reason::NoPool,
                message: "spec.clusterIP is empty and there is no AddressPool with usage: ClusterIP to fill it from; create one".to_owned(),
                waits_for: Vec::new(),
            });
        }
        return;
    }
    let plan = match numbers::families(record, snapshot.cluster_families) {
        Ok(plan) => plan,
        Err(rejection) => {
            own.missing.get_or_insert(missing(rejection));
            return;
        }
    };
    let lacking: Vec<Family> = plan
        .families
        .iter()
        .copied()
        .filter(|family| !record.cluster_ips.iter().any(|ip| Family::of(*ip) == *family))
        .collect();
    if lacking.is_empty() {
        if record.cluster_ips.len() > plan.families.len() {
            // The policy went back to SingleStack: the secondary goes.
            let keeps = |ip: &IpAddr| plan.families.contains(&Family::of(*ip));
            found.cluster_ips = record.cluster_ips.iter().copied().filter(keeps).collect();
            found.plan = Some(plan);
        }
        return;
    }
    let verdict = snapshot.allocator.decide(
        &Request {
            families: &lacking,
            require_all: true,
            ..request(snapshot, Use::ClusterIp)
        },
        snapshot.now,
    );
    if let Some(first) = verdict.missing.into_iter().next() {
        own.missing.get_or_insert(first);
        return;
    }
    let mut complete: Vec<IpAddr> = Vec::new();
    for family in &plan.families {
        let kept = record.cluster_ips.iter().copied().find(|ip| Family::of(*ip) == *family);
        let given = verdict
            .grants
            .iter()
            .find(|grant| grant.number.space.family() == Some(*family))
            .and_then(|grant| grant.number.address());
        complete.extend(kept.or(given));
    }
    own.holds.extend(verdict.grants.iter().map(|grant| Wanted {
        number: grant.number,
        usage: Use::ClusterIp,
        sharing: None,
        written: true,
    }));
    found.cluster_ips = complete;
    found.plan = Some(plan);
}

fn node_ports(snapshot: &Snapshot<'_>, own: &mut Own, found: &mut NumbersFound) {
    let record = snapshot.record;
    let mut taken: BTreeSet<Number> = BTreeSet::new();
    if record.service_type != ServiceType::ExternalName {
        for port in record.ports.iter().filter(|port| port.node_port != 0) {
            let number = Number::port(port.node_port);
            if taken.insert(number) {
                let field = format!("spec.ports[{}].nodePort", port.port);
                shown(snapshot, own, number, Use::NodePort, &field);
            }
        }
    }
    if record.health_check_node_port != 0 {
        let number = Number::port(record.health_check_node_port);
        taken.insert(number);
        shown(snapshot, own, number, Use::HealthCheckNodePort, "spec.healthCheckNodePort");
    }
    for need in numbers::node_ports(record) {
        let explicit = need.explicit.map(Number::port);
        let number = match explicit {
            // A sibling of the same port has it already.
            Some(number) if taken.contains(&number) => Some(number),
            _ => pick_port(snapshot, own, Use::NodePort, explicit, &taken, &salt(record, &need.indices)),
        };
        if let Some(number) = number
            && let Some(port) = number.as_port()
        {
            taken.insert(number);
            found
                .node_ports
                .extend(need.indices.iter().map(|place| (*place, port)));
        }
    }
    if record.needs_health_check_port()
        && record.health_check_node_port == 0
        && let Some(number) = pick_port(snapshot, own, Use::HealthCheckNodePort, None, &taken, "healthCheckNodePort")
    {
        found.health_check_node_port = number.as_port();
    }
}

fn salt(record: &ServiceRecord, indices: &[usize]) -> String {
    indices
        .first()
        .and_then(|place| record.ports.get(*place))
        .map(|port| port.name.to_string())
        .unwrap_or_default()
}

fn pick_port(
    snapshot: &Snapshot<'_>,
    own: &mut Own,
    usage: Use,
    explicit: Option<Number>,
    taken: &BTreeSet<Number>,
    salt: &str,
) -> Option<Number> {
    // What was claimed before a crash and never written is used first.
    let reserved = snapshot
        .allocator
        .held_by(&snapshot.record.uid)
        .find(|(number, use_)| {
            *use_ == usage && !taken.contains(number) && explicit.is_none_or(|wanted| wanted == *number)
        })
        .map(|(number, _)| number);
    let exclude: Vec<Number> = taken.iter().copied().collect();
    let number = match reserved {
        Some(number) => number,
        None => {
            let explicit: Vec<Number> = explicit.into_iter().collect();
            let verdict = snapshot.allocator.decide(
                &Request {
                    explicit: &explicit,
                    exclude: &exclude,
                    stable_salt: Some(salt),
                    ..request(snapshot, usage)
                },
                snapshot.now,
            );
            match (verdict.grants.first(), verdict.missing.into_iter().next()) {
                (Some(grant), _) => grant.number,
                (None, Some(why)) => {
                    own.missing.get_or_insert(why);
                    return None;
                }
                (None, None) => return None,
            }
        }
    };
    own.holds.push(Wanted {
        number,
        usage,
        sharing: None,
        written: true,
    });
    Some(number)
}

/// A number that the Service shows: recorded when a pool of ours contains it, a conflict when
/// another Service holds it.
fn shown(snapshot: &Snapshot<'_>, own: &mut Own, number: Number, usage: Use, field: &str) {
    let uid = &snapshot.record.uid;
    let holders = snapshot.allocator.holders(number);
    let mine = holders.iter().any(|holder| holder.uid == *uid);
    if !mine && snapshot.ledger.damage(number).is_some() {
        return; // it stays as it is until the block can be read
    }
    if let Some(other) = holders.iter().find(|holder| holder.uid != *uid)
        && !mine
    {
        own.missing.get_or_insert(conflict(number, field, other));
    } else if mine || pool_contains(snapshot.allocator, number, usage) {
        own.holds.push(Wanted {
            number,
            usage,
            sharing: None,
            written: false,
        });
    }
}

fn conflict(number: Number, field: &str, other: &Holder) -> Missing {
    Missing {
        family: number.space.family(),
        reason: Reason::NumberConflict,
        message: format!(
            "{field} {number} is held by Service {} as {}; set another number or remove one of the two Services",
            other.service, other.usage
        ),
        waits_for: Vec::new(),
    }
}

/// Whether a pool for this use contains the number.
pub fn pool_contains(allocator: &Allocator, number: Number, usage: Use) -> bool {
    let usage = match usage {
        Use::HealthCheckNodePort => Use::NodePort,
        Use::NodePort | Use::ClusterIp | Use::LoadBalancer => usage,
    };
    allocator.pools_containing(number).any(|pool| pool.usage == usage)
}

/// The external address of a Service of type LoadBalancer.
fn external_address(snapshot: &Snapshot<'_>, numbers_missing: bool, holds: &mut Vec<Wanted>) -> Address {
    let record = snapshot.record;
    let kept = held(snapshot, |usage| usage == Use::LoadBalancer);
    let class = match snapshot.class {
        ClassMatch::Ours(class) => class,
        ClassMatch::Gone if !kept.is_empty() => {
            holds.extend(kept);
            return Address::Kept;
        }
        ClassMatch::Gone if record.conditions.iter().any(|c| super::settle::is_ours(&c.type_)) => {
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
        Provider::Aws => return refused(provider_unavailable(class, "aws"), holds),
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
    let (explicit, shown) = (explicit(wanted), record.ingress_numbers().collect::<Vec<_>>());
    let verdict = snapshot.allocator.decide(
        &Request {
            families: &families,
            require_all: record.family_policy == Some(FamilyPolicy::RequireDualStack) && families.len() > 1,
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
        sharing: if grant.keep_terms { recorded(grant.number) } else { wanted.sharing.clone() },
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
        families.push(snapshot.cluster_families.first().copied().unwrap_or(Family::V4));
    }
    families
}

fn explicit(wanted: &LoadBalancerRequest) -> Vec<Number> {
    wanted.addresses.iter().map(|address| Number::from(*address)).collect()
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
            (Ok(wanted), Use::NodePort | Use::HealthCheckNodePort) => wanted.node_port_pool.as_deref(),
            _ => None,
        },
        explicit: &[],
        sharing: None,
        allowed_pools: None,
        shown: &[],
        exclude: &[],
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
