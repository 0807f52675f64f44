//! What pools and classes say about themselves: counts and conditions. Pure.

use allocator::{
    Allocator, Band, Pool, PoolState, RangeSet, UsageCounts,
    block::{BLOCK_SIZE, BlockId},
};
use crds::Counts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use model::{Number, Reason, Space, Use};
use serde_json::{Value, json};

use super::{
    index::Index,
    ledger::Ledger,
    pace::ServerRange,
    record::{ClassRecord, PoolKind, PoolRecord, PoolStatus, Provider},
    reserve::{self, Ability},
    service_cidrs::ServiceCidrs,
    settle,
};

/// What is known of the allocators that the API server has itself.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The range of its nodePorts, where it bounds ours.
    pub ports: Option<ServerRange>,
    /// From where it gives clusterIPs, where it does.
    pub cidrs: Option<&'a ServiceCidrs>,
    /// Whether what it could pick is kept from it.
    pub reservations: Ability,
}

/// Whether the pool hands out numbers.
const READY: &str = "Ready";
/// Whether it overlaps an older pool.
const CONFLICT: &str = "Conflict";
/// Whether it has no free number left in a family it has.
const EXHAUSTED: &str = "Exhausted";

fn counts(usage: UsageCounts) -> Option<Counts> {
    let int = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
    (usage.capacity > 0).then(|| Counts {
        capacity: int(usage.capacity),
        claimed: int(usage.claimed),
        retained: int(usage.retained),
        available: int(usage.available),
    })
}

/// Whether a block has numbers of the pool.
fn covers(pool: &Pool, id: BlockId) -> bool {
    let first = id.first().value;
    let last = first.saturating_add(BLOCK_SIZE - 1);
    pool.ranges(id.space)
        .ranges()
        .iter()
        .any(|(from, to)| *from <= last && *to >= first)
}

/// The status a pool should have.
pub fn status(
    record: &PoolRecord,
    allocator: &Allocator,
    ledger: &Ledger,
    server: Server<'_>,
    now: i64,
) -> PoolStatus {
    let mut status = PoolStatus {
        observed_generation: Some(record.generation),
        ..PoolStatus::default()
    };
    let mut say: Vec<(&str, bool, Reason, String)> = Vec::new();
    match &record.pool {
        Err(rejection) => say.push((READY, false, rejection.reason, rejection.message.clone())),
        Ok(pool) => {
            let usage = allocator.usage(&pool.name, pool.usage);
            let all = [usage.v4, usage.v6, usage.ports];
            (status.v4, status.v6, status.ports) =
                (counts(usage.v4), counts(usage.v6), counts(usage.ports));
            let damaged = ledger.damaged().find(|(id, _)| covers(pool, *id));
            let older = match allocator.pool(&pool.name, pool.usage) {
                Some((_, PoolState::Overlaps { older })) => Some(older.clone()),
                Some((_, PoolState::Ready)) | None => None,
            };
            match (&older, damaged) {
                (Some(older), _) => say.push((
                    READY,
                    false,
                    Reason::PoolOverlap,
                    format!("overlaps the older pool {older}; what it gave stays, nothing new is given; remove the common addresses from one of them"),
                )),
                (None, Some((id, rejection))) => say.push((
                    READY,
                    false,
                    Reason::LedgerDamaged,
                    format!("nothing is given from AllocationBlock {}: {}", id.name(), rejection.message),
                )),
                (None, None) if pool.disabled => say.push((
                    READY,
                    false,
                    Reason::PoolUnavailable,
                    "spec.disabled: what it gave stays, nothing new is given".to_owned(),
                )),
                (None, None) => say.push(hands_out(pool, server)),
            }
            if let Some(older) = older {
                say.push((
                    CONFLICT,
                    true,
                    Reason::PoolOverlap,
                    format!("overlaps the older pool {older}"),
                ));
            }
            if all
                .iter()
                .any(|counts| counts.capacity > 0 && counts.available == 0)
            {
                say.push((
                    EXHAUSTED,
                    true,
                    Reason::PoolExhausted,
                    "no number is left in a family it has; add addresses or free some".to_owned(),
                ));
            }
        }
    }
    status.conditions = conditions(&record.status.conditions, &say, record.generation, now);
    status
}

/// `30000-30009, 30020`, the first few of them.
fn ranges(space: Space, set: &RangeSet) -> String {
    let text = |value: u128| Number { space, value }.to_string();
    let listed = set
        .ranges()
        .iter()
        .take(4)
        .map(|(first, last)| match first == last {
            true => text(*first),
            false => format!("{}-{}", text(*first), text(*last)),
        });
    let listed: Vec<String> = listed.collect();
    match set.ranges().len() > listed.len() {
        true => format!("{} and more", listed.join(", ")),
        false => listed.join(", "),
    }
}

/// That it hands out numbers, and which of them the API server does not take or gives away itself.
fn hands_out(pool: &Pool, server: Server<'_>) -> (&'static str, bool, Reason, String) {
    let message = "hands out numbers".to_owned();
    match (server.ports, server.cidrs) {
        (Some(range), _) if pool.serves(Use::NodePort) => hands_out_ports(pool, range, message),
        (_, Some(cidrs)) if pool.serves(Use::ClusterIp) => {
            hands_out_cluster_ips(pool, cidrs, server.reservations, message)
        }
        _ => (READY, true, Reason::Ready, message),
    }
}

/// What lies outside every ServiceCIDR, and what the API server may pick itself.
fn hands_out_cluster_ips(
    pool: &Pool,
    cidrs: &ServiceCidrs,
    reservations: Ability,
    mut message: String,
) -> (&'static str, bool, Reason, String) {
    let (mut any, mut beyond, mut picked) = (false, Vec::new(), Vec::new());
    let mut too_many = false;
    for space in [Space::V4, Space::V6] {
        let mine = pool.ranges(space).subtract(pool.reserved(space));
        let outside = mine.subtract(&cidrs.usable(space));
        let inside = mine.subtract(&outside);
        let fixed = inside.subtract(&cidrs.dynamic(space));
        let dynamic = inside.subtract(&fixed);
        any |= !inside.is_empty();
        beyond.extend((!outside.is_empty()).then(|| ranges(space, &outside)));
        too_many |= dynamic.len() > reserve::MOST as u128;
        picked.extend((!dynamic.is_empty()).then(|| ranges(space, &dynamic)));
    }
    let server = format!("every ServiceCIDR ({})", cidrs.words());
    if !any {
        let message = format!("all of its addresses lie outside {server}: nothing is given");
        return (READY, false, Reason::ClusterIPOutOfRange, message);
    }
    if !beyond.is_empty() {
        message += &format!(", but not {}: outside {server}", beyond.join(", "));
    }
    if !picked.is_empty() {
        let but = match (reservations, too_many) {
            (Ability::Kept, false) => "but what is free there is reserved",
            (Ability::Kept, true) => {
                "but the first 1024 of a family are reserved while they are free"
            }
            (Ability::Off, _) => "and nothing is reserved (--reserve-cluster-ips is false)",
            (Ability::TooOld, _) => "and only Kubernetes 1.34 and later lets addresses be reserved",
        };
        message += &format!(
            "; outside the static band, at {}, the API server, too, gives addresses to Services that ask for none, {but}",
            picked.join(", ")
        );
    }
    (READY, true, Reason::Ready, message)
}

fn hands_out_ports(
    pool: &Pool,
    range: ServerRange,
    message: String,
) -> (&'static str, bool, Reason, String) {
    let set = |first, last| RangeSet::new([(first, last)]);
    let (first, last) = (u128::from(range.first), u128::from(range.last));
    let mine = pool.ports.subtract(&pool.excluded_ports);
    let beyond = mine.subtract(&set(first, last));
    let inside = mine.subtract(&beyond);
    let learnt = match range.told {
        true => "",
        false => ", which is Kubernetes' default (--node-port-range says another)",
    };
    let server = format!("the API server's node port range {first}-{last}{learnt}");
    if inside.is_empty() {
        let message = format!("none of its ports lies in {server}: nothing is given");
        return (READY, false, Reason::NodePortOutOfRange, message);
    }
    if !beyond.is_empty() {
        let message = format!(
            "{message}, but not {}: outside {server}",
            ranges(Space::Port, &beyond)
        );
        return (READY, true, Reason::Ready, message);
    }
    let dynamic = match Band::of_ports(first, last).free {
        Some((from, to)) => !inside.subtract(&inside.subtract(&set(from, to))).is_empty(),
        None => false,
    };
    let message = match (dynamic, Band::of_ports(first, last).fixed) {
        (true, Some((from, to))) => format!(
            "{message}; outside the static band {from}-{to} the API server, too, gives ports to Services that ask for none"
        ),
        (true, None) | (false, _) => message,
    };
    (READY, true, Reason::Ready, message)
}

fn conditions(
    old: &[Condition],
    say: &[(&str, bool, Reason, String)],
    generation: i64,
    now: i64,
) -> Vec<Condition> {
    say.iter()
        .map(|(type_, status, reason, message)| {
            let status = if *status { "True" } else { "False" };
            Condition {
                type_: (*type_).to_owned(),
                status: status.to_owned(),
                reason: reason.as_str().to_owned(),
                message: message.clone(),
                observed_generation: Some(generation),
                last_transition_time: old
                    .iter()
                    .find(|old| old.type_ == *type_ && old.status == status)
                    .map_or_else(|| settle::time(now), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The merge patch that brings a pool's status to what it should be; `None` when it is that.
pub fn patch(record: &PoolRecord, wanted: &PoolStatus) -> Option<Value> {
    let is = &record.status;
    let equal = is.observed_generation == wanted.observed_generation
        && is.v4 == wanted.v4
        && is.v6 == wanted.v6
        && is.ports == wanted.ports
        && settle::same(&is.conditions, &wanted.conditions);
    if equal {
        return None;
    }
    let mut status = json!({
        "observedGeneration": wanted.observed_generation,
        "conditions": wanted.conditions,
    });
    if let Some(status) = status.as_object_mut() {
        match record.kind {
            PoolKind::Address => {
                status.insert("ipv4".to_owned(), json!(wanted.v4));
                status.insert("ipv6".to_owned(), json!(wanted.v6));
            }
            PoolKind::NodePort => {
                status.insert("ports".to_owned(), json!(wanted.ports));
            }
        }
    }
    Some(json!({"metadata": {"resourceVersion": &*record.version}, "status": status}))
}

/// The merge patch that brings a class's conditions to what they should be.
pub fn class_patch(class: &ClassRecord, index: &Index, aws: bool, now: i64) -> Option<Value> {
    let older = index
        .classes()
        .filter(|other| other.name != class.name)
        .filter(|other| (other.created, &other.name) < (class.created, &class.name))
        .find(|other| other.class_name == class.class_name || (other.default && class.default));
    let (ready, reason, message) = match (older, &class.provider) {
        (Some(older), _) if older.class_name == class.class_name => (
            false,
            Reason::ClassConflict,
            format!(
                "LoadBalancerClass {} is older and has className {} too; it has the Services",
                older.name, class.class_name
            ),
        ),
        (Some(older), _) => (
            false,
            Reason::ClassConflict,
            format!(
                "LoadBalancerClass {} is older and the default too; it has the Services without a class",
                older.name
            ),
        ),
        (None, Provider::Pool(_)) => (
            true,
            Reason::Ready,
            "serves Services of this class".to_owned(),
        ),
        (None, Provider::Aws(_)) if aws => (
            true,
            Reason::Ready,
            "serves Services of this class".to_owned(),
        ),
        (None, Provider::Aws(_) | Provider::Gcp) => (
            false,
            Reason::ProviderUnavailable,
            "this build of portolan has no provider for it; use spec.pool".to_owned(),
        ),
    };
    let wanted = conditions(
        &class.conditions,
        &[(READY, ready, reason, message)],
        class.generation,
        now,
    );
    (!settle::same(&wanted, &class.conditions)).then(|| {
        json!({"metadata": {"resourceVersion": &*class.version}, "status": {"conditions": wanted}})
    })
}
