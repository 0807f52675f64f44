//! SETTLE: what to tell the user about a decision. Pure: record and decision in, status write,
//! Event and waiting reason out. When nothing differs there is no write.

use std::collections::BTreeSet;

use allocator::{Grant, Missing};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use model::{Number, Reason};
use serde_json::{Value, json};

use super::{
    decide::{Address, Decision},
    effect::{EventNote, ServicePatch},
    index::Waits,
    record::{FamilyPolicy, ServiceRecord, ServiceType},
};

/// Whether the Service has the numbers it asked for.
pub const ADDRESS_ALLOCATED: &str = "portolan.dev/AddressAllocated";
/// Whether the load balancer takes traffic for it.
pub const LOAD_BALANCER_READY: &str = "portolan.dev/LoadBalancerReady";
/// A fence where the other two are not: there only until the next write takes it away.
pub const CLAIM_WITHDRAWN: &str = "portolan.dev/ClaimWithdrawn";
/// A condition message is at most this long (bytes); Kubernetes allows 32768.
const LONGEST_MESSAGE: usize = 1024;

/// Whether a condition type is one of Portolan's.
pub fn is_ours(type_: &str) -> bool {
    is_outcome(type_) || type_ == CLAIM_WITHDRAWN || type_ == NODE_PORTS_ALLOCATED
}

/// Whether a condition type says what became of a load balancer of ours.
pub fn is_outcome(type_: &str) -> bool {
    type_ == ADDRESS_ALLOCATED || type_ == LOAD_BALANCER_READY
}

/// What to do about a decision.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settled {
    /// The status write, if anything differs.
    pub status: Option<ServicePatch>,
    /// The Event that goes with it.
    pub event: Option<(bool, Reason, String)>,
    /// And the one about nodePorts that stay against a policy.
    pub ports_event: Option<(bool, Reason, String)>,
    /// The reason in the first condition of the status write; none when that only clears.
    pub outcome: Option<Reason>,
    /// What it waits for, if it does.
    pub waits: Option<(Reason, Waits)>,
}

impl Settled {
    /// The Events as they are emitted.
    pub fn notes(&self, record: &ServiceRecord) -> Vec<EventNote> {
        let events = [&self.event, &self.ports_event].into_iter().flatten();
        let note = |(warning, reason, note): &(bool, Reason, String)| EventNote {
            key: record.key.clone(),
            uid: record.uid.clone(),
            warning: *warning,
            reason: *reason,
            note: note.clone(),
        };
        events.map(note).collect()
    }
}

mod announced;
mod cloud;
mod example;
mod node_ports;

pub use node_ports::NODE_PORTS_ALLOCATED;

pub use announced::{Announced, says};
use example::but_example;

/// One condition to be.
struct Say {
    type_: &'static str,
    status: bool,
    reason: Reason,
    message: String,
}

/// Settles a decision whose claims are committed.
pub fn settle(
    record: &ServiceRecord,
    decision: &Decision,
    announced: Announced<'_>,
    now: i64,
) -> Settled {
    let mut settled = address(record, decision, announced, now);
    let told = match &decision.address {
        Address::Later | Address::Kept => false,
        Address::NotOurs
        | Address::Orphaned(_)
        | Address::Cloud(..)
        | Address::Leaving(_)
        | Address::Decided { .. } => true,
    };
    if told && let Some(stray) = &decision.stray {
        node_ports::wait(&mut settled, record, stray);
    }
    settled
}

fn address(
    record: &ServiceRecord,
    decision: &Decision,
    announced: Announced<'_>,
    now: i64,
) -> Settled {
    let stray = decision.stray.as_ref();
    let explicit: Vec<Number> = match &record.request {
        Ok(request) => request.addresses.iter().map(|a| Number::from(*a)).collect(),
        Err(_) => Vec::new(),
    };
    let (mut say, ingress, missing): (Vec<Say>, Option<&[Grant]>, Option<&Missing>) =
        match &decision.address {
            Address::Later => return Settled::default(),
            Address::Cloud(_, told) => {
                return cloud::serving(
                    record,
                    told.as_ref(),
                    decision.missing.as_ref(),
                    stray,
                    now,
                );
            }
            Address::Leaving(told) => return cloud::leaving(record, told.as_ref(), stray, now),
            Address::Kept if decision.missing.is_none() => return Settled::default(),
            Address::NotOurs | Address::Kept => match &decision.missing {
                Some(missing) => (
                    vec![waiting(ADDRESS_ALLOCATED, missing, &[])],
                    None,
                    Some(missing),
                ),
                None => (Vec::new(), None, None),
            },
            Address::Orphaned(missing) => (
                vec![
                    waiting(ADDRESS_ALLOCATED, missing, &[]),
                    waiting(LOAD_BALANCER_READY, missing, &[]),
                ],
                None,
                Some(missing),
            ),
            Address::Decided {
                grants, missing, ..
            } => {
                let first = decision.missing.as_ref().or(missing.first());
                (
                    vec![
                        allocated(record, grants, first),
                        announced::ready(record, grants, first, announced),
                    ],
                    Some(grants),
                    first,
                )
            }
        };
    say.extend(node_ports::say(stray));
    let waits = missing.map(|missing| {
        let held_by_another = matches!(
            missing.reason,
            Reason::AddressInUse
                | Reason::SharingConflict
                | Reason::NumberConflict
                | Reason::AddressReserved
        );
        let numbers = if held_by_another {
            explicit.iter().copied().collect()
        } else {
            BTreeSet::new()
        };
        let pools = missing.waits_for.iter().cloned().collect();
        (missing.reason, Waits { pools, numbers })
    });
    let waits = waits.or_else(|| {
        announced
            .failed()
            .map(|told| (told.reason, Waits::default()))
    });
    let conditions = conditions(record, &say, now);
    let conditions_differ = !same(&conditions, &record.conditions);
    let ingress_differs = ingress.is_some_and(|grants| !shows(record, grants));
    if !conditions_differ && !ingress_differs {
        return Settled {
            waits,
            ..Settled::default()
        };
    }
    let event =
        event(record, &say, ingress, ingress_differs).or_else(|| announced::event(announced));
    let outcome = say.first().map(|say| say.reason);
    let entries = ingress.filter(|_| ingress_differs);
    let entries = entries.map(|grants| {
        let entry = |grant: &Grant| json!({"ip": grant.number.to_string(), "ipMode": "VIP"});
        grants.iter().map(entry).collect()
    });
    let conditions = conditions_differ.then_some(conditions);
    Settled {
        status: Some(patch(record, conditions, entries, None)),
        event,
        ports_event: node_ports::event(record, &say),
        outcome,
        waits,
    }
}

/// Whether the ingress is exactly these addresses.
fn shows(record: &ServiceRecord, grants: &[Grant]) -> bool {
    record.ingress.len() == grants.len()
        && (record.ingress.iter().zip(grants))
            .all(|(entry, grant)| entry.plain && entry.ip == grant.number.address())
}

/// The status write of what differs. What is empty is taken away.
fn patch(
    record: &ServiceRecord,
    conditions: Option<Vec<Condition>>,
    ingress: Option<Vec<Value>>,
    finalizers: Option<Vec<&str>>,
) -> ServicePatch {
    fn or_null<T: serde::Serialize>(list: &[T]) -> Value {
        if list.is_empty() {
            Value::Null
        } else {
            json!(list)
        }
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(&*record.version));
    if let Some(finalizers) = finalizers {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
    let mut status = serde_json::Map::new();
    if let Some(conditions) = conditions {
        status.insert("conditions".to_owned(), or_null(&conditions));
    }
    if let Some(ingress) = ingress {
        let ingress = json!({"ingress": or_null(&ingress)});
        status.insert("loadBalancer".to_owned(), ingress);
    }
    ServicePatch::Status(json!({"metadata": metadata, "status": status}))
}

fn list(grants: &[Grant]) -> String {
    let parts: Vec<String> = grants
        .iter()
        .map(|grant| match &grant.pool {
            Some(pool) => format!("{} from pool {pool}", grant.number),
            None => format!("{}, which no pool contains", grant.number),
        })
        .collect();
    parts.join(", ")
}

fn allocated(record: &ServiceRecord, grants: &[Grant], missing: Option<&Missing>) -> Say {
    let Some(missing) = missing else {
        return Say {
            type_: ADDRESS_ALLOCATED,
            status: true,
            reason: Reason::Allocated,
            message: list(grants),
        };
    };
    let other_family = missing.family.is_some_and(|family| {
        !grants
            .iter()
            .any(|grant| grant.number.space.family() == Some(family))
    });
    if !grants.is_empty()
        && other_family
        && record.family_policy == Some(FamilyPolicy::PreferDualStack)
    {
        return Say {
            type_: ADDRESS_ALLOCATED,
            status: true,
            reason: Reason::PartlyAllocated,
            message: shorten(format!("{}; {}", list(grants), missing.message)),
        };
    }
    waiting(ADDRESS_ALLOCATED, missing, grants)
}

fn waiting(type_: &'static str, missing: &Missing, kept: &[Grant]) -> Say {
    let message = if kept.is_empty() {
        missing.message.clone()
    } else {
        format!("{}; keeps {} meanwhile", missing.message, list(kept))
    };
    Say {
        type_,
        status: false,
        reason: missing.reason,
        message: shorten(message),
    }
}

fn shorten(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE - 3)
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// A status write that only gives the Service a newer resourceVersion: it changes the time of our
/// conditions, or adds [`CLAIM_WITHDRAWN`] where there are none, which the next pass takes away like
/// any condition that nothing says any longer. `None` when the time would stay the same.
pub fn fence(record: &ServiceRecord, now: i64) -> Option<ServicePatch> {
    let mut conditions = record.conditions.clone();
    for condition in conditions.iter_mut().filter(|c| is_ours(&c.type_)) {
        condition.last_transition_time = time(now);
    }
    if !conditions.iter().any(|c| is_ours(&c.type_)) {
        conditions.push(Condition {
            type_: CLAIM_WITHDRAWN.to_owned(),
            status: "True".to_owned(),
            reason: Reason::ClaimWithdrawn.as_str().to_owned(),
            message: Reason::ClaimWithdrawn.meaning().trim().to_owned(),
            last_transition_time: time(now),
            observed_generation: None,
        });
    }
    (conditions != record.conditions).then(|| {
        ServicePatch::Status(json!({
            "metadata": {"resourceVersion": &*record.version},
            "status": {"conditions": conditions},
        }))
    })
}

/// Everybody else's conditions as they are, then ours; times move only when the status flips.
fn conditions(record: &ServiceRecord, say: &[Say], now: i64) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = record
        .conditions
        .iter()
        .filter(|condition| !is_ours(&condition.type_))
        .cloned()
        .collect();
    for say in say {
        let status = if say.status { "True" } else { "False" };
        let since = record
            .conditions
            .iter()
            .find(|old| old.type_ == say.type_ && old.status == status)
            .map_or_else(|| time(now), |old| old.last_transition_time.clone());
        let said = record.conditions.iter().find(|old| {
            old.type_ == say.type_
                && old.reason == say.reason.as_str()
                && but_example(&old.message) == but_example(&say.message)
        });
        conditions.push(Condition {
            type_: say.type_.to_owned(),
            status: status.to_owned(),
            reason: say.reason.as_str().to_owned(),
            message: said.map_or(&say.message, |old| &old.message).clone(),
            last_transition_time: since,
            observed_generation: None,
        });
    }
    conditions
}

/// Unix seconds as Kubernetes writes them.
pub fn time(unix: i64) -> Time {
    Time(Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Equal as sets, times ignored.
pub fn same(a: &[Condition], b: &[Condition]) -> bool {
    a.len() == b.len()
        && a.iter().all(|one| {
            b.iter().any(|other| {
                one.type_ == other.type_
                    && one.status == other.status
                    && one.reason == other.reason
                    && one.message == other.message
                    && one.observed_generation == other.observed_generation
            })
        })
}

/// The Event for a change of outcome: one when it starts to wait or fails, moves or was repaired;
/// none for ordinary success.
fn event(
    record: &ServiceRecord,
    say: &[Say],
    ingress: Option<&[Grant]>,
    ingress_differs: bool,
) -> Option<(bool, Reason, String)> {
    let say = say.iter().find(|say| say.type_ == ADDRESS_ALLOCATED)?;
    let before = record
        .conditions
        .iter()
        .find(|condition| condition.type_ == ADDRESS_ALLOCATED);
    if !say.status {
        let news =
            before.is_none_or(|old| old.status == "True" || old.reason != say.reason.as_str());
        return news.then(|| (true, say.reason, say.message.clone()));
    }
    let (Some(before), Some(grants)) = (before, ingress) else {
        return None;
    };
    if !ingress_differs
        || before.status != "True"
        || record.service_type != ServiceType::LoadBalancer
    {
        return None;
    }
    let had: Vec<String> = record
        .ingress
        .iter()
        .map(|entry| {
            entry
                .ip
                .map_or_else(|| "something else".to_owned(), |ip| ip.to_string())
        })
        .collect();
    let had = if had.is_empty() {
        "nothing".to_owned()
    } else {
        had.join(", ")
    };
    // The same sentence as before: the same addresses, so somebody else changed the status.
    if before.message != say.message {
        let moved = !record.ingress.is_empty();
        return moved.then(|| {
            (
                true,
                Reason::AddressMoved,
                format!("the address moved from {had} to {}", list(grants)),
            )
        });
    }
    Some((
        false,
        Reason::Repaired,
        format!(
            "status.loadBalancer.ingress said {had} and has been put back to {}",
            list(grants)
        ),
    ))
}
