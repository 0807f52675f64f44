//! What users read when a number cannot be had: every sentence names the object, the field and what
//! to change. Decides nothing but which of several reasons comes first.

use std::fmt::{self, Display, Formatter};

use model::{Number, Reason, Use};

use crate::{
    Pool,
    decide::Want,
    select::noun,
    verdict::{Considered, Missing, Why},
};

/// More pools than this are counted, not listed; conditions and Events hold 1,024 characters.
const LISTED: usize = 4;

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("serves the Service"),
            Self::ComesAfter { chosen } => write!(f, "is not needed: pool {chosen:?} comes first"),
            Self::NotAskedFor => f.write_str("is not the pool that the Service asks for"),
            Self::WrongUse { usage } => write!(f, "is for {usage} (spec.usage)"),
            Self::WrongFamily => f.write_str("has no addresses of that family (spec.addresses)"),
            Self::NotContained => f.write_str("does not contain it"),
            Self::NotAllowedByClass => {
                f.write_str("is not allowed by the LoadBalancerClass (spec.pool.addressPools)")
            }
            Self::NamespaceNotAdmitted { namespace } => write!(
                f,
                "does not admit namespace {namespace:?} (spec.namespaces, spec.namespaceSelector)"
            ),
            Self::ServiceNotAdmitted => {
                f.write_str("does not admit the Service's labels (spec.serviceSelector)")
            }
            Self::FallThroughStopped { by } => write!(
                f,
                "may not be used, because pool {by:?} admits the Service and enforces (spec.enforce)"
            ),
            Self::AutoAssignOff => {
                f.write_str("only serves requests by name or number (spec.autoAssign)")
            }
            Self::Disabled => f.write_str("is disabled (spec.disabled)"),
            Self::Overlaps { older } => write!(f, "overlaps the older pool {older:?}"),
            Self::Full { capacity, retained } => {
                write!(f, "is full: all {capacity} numbers are taken")?;
                if *retained > 0 {
                    write!(
                        f,
                        ", {retained} of them kept for former owners (spec.retainFor)"
                    )?;
                }
                Ok(())
            }
            Self::Reserved => f.write_str("reserves it"),
            Self::OutsideServerRange => f.write_str(
                "has it outside the API server's node port range (--service-node-port-range)",
            ),
            Self::OutsideServiceCidrs => f.write_str("gives nothing outside the ServiceCIDRs"),
            Self::Buggy => {
                f.write_str("leaves out addresses that end in .0 or .255 (spec.avoidBuggyIPs)")
            }
            Self::LedgerDamaged => f.write_str("has a ledger block that cannot be read"),
            Self::InUse { by } => write!(f, "has given it to Service {by}"),
            Self::RetainedFor { owner, until } => write!(
                f,
                "keeps it for Service {owner} until {until} (Unix seconds; spec.retainFor)"
            ),
            Self::CannotShare { with, why } => {
                write!(f, "has given it to Service {with}, and {why}")
            }
            Self::PickedAlready => f.write_str("gives it to another port of the Service"),
        }
    }
}

/// The reason that a user is told of a pool that does not serve.
const fn reason(why: &Why) -> Reason {
    match why {
        Why::Chosen | Why::ComesAfter { .. } => Reason::Allocated,
        Why::NotAskedFor | Why::NotContained => Reason::ConflictingRequest,
        Why::WrongUse { .. } | Why::AutoAssignOff => Reason::NoPool,
        Why::WrongFamily => Reason::FamilyUnavailable,
        Why::NotAllowedByClass
        | Why::NamespaceNotAdmitted { .. }
        | Why::ServiceNotAdmitted
        | Why::FallThroughStopped { .. } => Reason::PoolNotAdmitted,
        Why::Disabled | Why::Overlaps { .. } => Reason::PoolUnavailable,
        Why::Full { .. } => Reason::PoolExhausted,
        Why::Reserved | Why::Buggy => Reason::AddressReserved,
        Why::OutsideServerRange => Reason::NodePortOutOfRange,
        Why::OutsideServiceCidrs => Reason::ClusterIPOutOfRange,
        Why::LedgerDamaged => Reason::LedgerDamaged,
        Why::InUse { .. } | Why::RetainedFor { .. } | Why::PickedAlready => Reason::AddressInUse,
        Why::CannotShare { .. } => Reason::SharingConflict,
    }
}

/// Which of several reasons comes first: the nearest to success.
pub(crate) const fn rank(why: &Why) -> u8 {
    match why {
        Why::Chosen | Why::ComesAfter { .. } => 0,
        Why::InUse { .. }
        | Why::RetainedFor { .. }
        | Why::PickedAlready
        | Why::CannotShare { .. }
        | Why::Full { .. } => 1,
        Why::LedgerDamaged => 2,
        Why::Reserved | Why::Buggy | Why::OutsideServerRange | Why::OutsideServiceCidrs => 3,
        Why::Disabled | Why::Overlaps { .. } => 4,
        Why::NotAskedFor | Why::NotContained => 5,
        Why::AutoAssignOff => 6,
        Why::FallThroughStopped { .. } => 7,
        Why::NotAllowedByClass => 8,
        Why::NamespaceNotAdmitted { .. } | Why::ServiceNotAdmitted => 9,
        Why::WrongFamily => 10,
        Why::WrongUse { .. } => 11,
    }
}

/// Whether a freed number would help.
const fn waits(why: &Why) -> bool {
    match why {
        Why::Full { .. }
        | Why::InUse { .. }
        | Why::RetainedFor { .. }
        | Why::CannotShare { .. } => true,
        Why::Chosen
        | Why::ComesAfter { .. }
        | Why::NotAskedFor
        | Why::WrongUse { .. }
        | Why::WrongFamily
        | Why::NotContained
        | Why::NotAllowedByClass
        | Why::NamespaceNotAdmitted { .. }
        | Why::ServiceNotAdmitted
        | Why::FallThroughStopped { .. }
        | Why::AutoAssignOff
        | Why::Disabled
        | Why::Overlaps { .. }
        | Why::Reserved
        | Why::OutsideServerRange
        | Why::OutsideServiceCidrs
        | Why::Buggy
        | Why::LedgerDamaged
        | Why::PickedAlready => false,
    }
}

const fn kind(usage: Use) -> &'static str {
    match usage {
        Use::LoadBalancer | Use::ClusterIp => "AddressPool",
        Use::NodePort | Use::HealthCheckNodePort => "NodePortPool",
    }
}

const fn pool_annotation(usage: Use) -> &'static str {
    match usage {
        Use::LoadBalancer | Use::ClusterIp => "portolan.dev/address-pool",
        Use::NodePort | Use::HealthCheckNodePort => "portolan.dev/node-port-pool",
    }
}

const fn ranges_field(usage: Use) -> &'static str {
    match usage {
        Use::LoadBalancer | Use::ClusterIp => "spec.addresses",
        Use::NodePort | Use::HealthCheckNodePort => "spec.ports",
    }
}

const fn reserved_field(usage: Use) -> &'static str {
    match usage {
        Use::LoadBalancer | Use::ClusterIp => "spec.reserved",
        Use::NodePort | Use::HealthCheckNodePort => "spec.exclude",
    }
}

/// "IPv4 address", "node port".
fn what(want: Want<'_>) -> String {
    let noun = noun(want.request.usage);
    match want.family() {
        Some(family) => format!("{family} {noun}"),
        None => noun.to_owned(),
    }
}

/// What to change when this pool is to serve.
fn cure(why: &Why, usage: Use) -> String {
    match why {
        Why::NamespaceNotAdmitted { .. } => {
            "ask for another pool or have its owner add the namespace".to_owned()
        }
        Why::ServiceNotAdmitted => {
            "give the Service the labels that it selects or ask for another pool".to_owned()
        }
        Why::NotAllowedByClass => "ask for another pool or have the class list this one".to_owned(),
        Why::FallThroughStopped { by } => format!("ask for a number of pool {by:?}"),
        Why::AutoAssignOff => format!("ask for it with {}", pool_annotation(usage)),
        Why::Disabled => "enable it or ask for another pool".to_owned(),
        Why::Overlaps { .. } => {
            format!("change {} of one of the two", ranges_field(usage))
        }
        Why::Full { .. } => format!(
            "extend its {} or delete a Service that holds one",
            ranges_field(usage)
        ),
        Why::WrongFamily => format!(
            "add some to {} or ask for another pool",
            ranges_field(usage)
        ),
        Why::WrongUse { .. } => "ask for another pool".to_owned(),
        Why::LedgerDamaged => {
            "repair or delete the AllocationBlock that Portolan reports".to_owned()
        }
        Why::Reserved => format!(
            "ask for another number or have it taken out of {}",
            reserved_field(usage)
        ),
        Why::CannotShare { .. } => "change that or ask for another address".to_owned(),
        Why::NotAskedFor | Why::NotContained => {
            format!("change {} or the number", pool_annotation(usage))
        }
        Why::OutsideServiceCidrs => {
            "ask for another number, or create a ServiceCIDR that has it".to_owned()
        }
        Why::Buggy
        | Why::OutsideServerRange
        | Why::InUse { .. }
        | Why::RetainedFor { .. }
        | Why::PickedAlready
        | Why::Chosen
        | Why::ComesAfter { .. } => "ask for another number".to_owned(),
    }
}

/// The number asked for is not given by the pool that it lies in.
pub(crate) fn explicit(want: Want<'_>, number: Number, pool: &Pool, why: &Why) -> Missing {
    let usage = want.request.usage;
    Missing {
        family: want.family(),
        reason: reason(why),
        message: format!(
            "{number} cannot be given: pool {:?} {why}; {}",
            &*pool.name,
            cure(why, usage)
        ),
        waits_for: if waits(why) {
            vec![pool.name.clone()]
        } else {
            Vec::new()
        },
    }
}

/// The number asked for lies in no pool.
pub(crate) fn in_no_pool(want: Want<'_>, number: Number) -> Missing {
    let usage = want.request.usage;
    Missing {
        family: want.family(),
        reason: Reason::AddressNotInPool,
        message: format!(
            "{number} lies in no {}; ask for a number of a pool or add it to one's {}",
            kind(usage),
            ranges_field(usage)
        ),
        waits_for: Vec::new(),
    }
}

/// The pool asked for does not exist.
pub(crate) fn pool_not_found(want: Want<'_>, name: &str) -> Missing {
    let usage = want.request.usage;
    Missing {
        family: want.family(),
        reason: Reason::PoolNotFound,
        message: format!(
            "{} {name:?} does not exist; correct the annotation {} or create the pool",
            kind(usage),
            pool_annotation(usage)
        ),
        waits_for: Vec::new(),
    }
}

/// No pool gives a number.
pub(crate) fn none_serves<'a>(
    want: Want<'_>,
    considered: &[Considered],
    enforced: bool,
    pool: impl Fn(&str) -> Option<&'a Pool>,
) -> Missing {
    let usage = want.request.usage;
    let asked: Vec<&Considered> = considered
        .iter()
        .filter(|considered| considered.why != Why::NotAskedFor)
        .collect();
    // Where a pool enforces, the others are of no interest.
    let relevant: Vec<&Considered> = asked
        .iter()
        .copied()
        .filter(|c| !enforced || pool(&c.pool).is_some_and(|pool| pool.enforce))
        .filter(|c| !enforced || rank(&c.why) < 8 || c.why == Why::WrongFamily)
        .collect();
    let relevant = if relevant.is_empty() { asked } else { relevant };
    let Some(best) = relevant.iter().min_by_key(|c| rank(&c.why)) else {
        return Missing {
            family: want.family(),
            reason: Reason::NoPool,
            message: format!("no {} with usage {usage} exists; create one", kind(usage)),
            waits_for: Vec::new(),
        };
    };
    let mut listed: Vec<&Considered> = relevant.clone();
    listed.sort_by_key(|c| rank(&c.why));
    let mut pools: Vec<String> = listed
        .iter()
        .take(LISTED)
        .map(|c| format!("pool {:?} {}", &*c.pool, c.why))
        .collect();
    if let Some(more) = listed.len().checked_sub(LISTED).filter(|&more| more > 0) {
        pools.push(format!("{more} more do not serve it either"));
    }
    let (pools, cure) = (pools.join(", "), cure(&best.why, usage));
    Missing {
        family: want.family(),
        reason: reason(&best.why),
        message: if want.request.pool.is_some() {
            format!("{pools}; {cure}")
        } else {
            format!(
                "no pool gives the Service an {}: {pools}; {cure}",
                what(want)
            )
        },
        waits_for: relevant
            .iter()
            .filter(|c| waits(&c.why))
            .map(|c| c.pool.clone())
            .collect(),
    }
}
