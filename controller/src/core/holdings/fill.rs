//! How full pools are. Claims and retentions are those of the ledger; what Services have without a
//! claim is not available either.

use allocator::{Pool, PoolState, PoolUsage, UsageCounts};
use model::{Space, Use};
use serde::Serialize;

use super::{Filter, Given};
use crate::core::record::PoolKind;

/// Whether a pool hands out numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum PoolCondition {
    /// It does.
    Ready,
    /// `spec.disabled`.
    Disabled,
    /// It overlaps an older pool.
    Overlaps,
    /// Its spec cannot be read.
    Invalid,
}

impl PoolCondition {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Disabled => "Disabled",
            Self::Overlaps => "Overlaps",
            Self::Invalid => "Invalid",
        }
    }
}

/// What one pool has of one space. Counts stop at the largest int64, as those in its status do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    /// AddressPool or NodePortPool.
    pub kind: &'static str,
    /// `metadata.name`.
    pub pool: String,
    /// What it gives numbers for: LoadBalancer, ClusterIP or NodePort.
    pub usage: &'static str,
    /// Of which: IPv4, IPv6 or ports.
    pub space: &'static str,
    /// Whether it hands them out.
    pub state: PoolCondition,
    /// That may be handed out.
    pub capacity: i64,
    /// That the ledger has for Services.
    pub claimed: i64,
    /// That are kept for former owners.
    pub retained: i64,
    /// That Services have without a claim.
    pub unclaimed: i64,
    /// That are left.
    pub available: i64,
    /// Why it hands out nothing.
    pub note: Option<String>,
}

/// The resource's name.
pub(super) const fn resource(pool: &Pool) -> &'static str {
    match pool.usage {
        Use::NodePort | Use::HealthCheckNodePort => "NodePortPool",
        Use::LoadBalancer | Use::ClusterIp => "AddressPool",
    }
}

/// Whether it hands out numbers, and why not.
pub(super) fn condition(pool: &Pool, state: &PoolState) -> (PoolCondition, Option<String>) {
    match state {
        PoolState::Overlaps { older } => (
            PoolCondition::Overlaps,
            Some(format!(
                "overlaps the older pool {older} and hands out nothing: take the common numbers out of one"
            )),
        ),
        PoolState::Ready if pool.disabled => (
            PoolCondition::Disabled,
            Some("spec.disabled: it hands out nothing".to_owned()),
        ),
        PoolState::Ready => (PoolCondition::Ready, None),
    }
}

pub(super) const fn word(space: Space) -> &'static str {
    match space {
        Space::V4 => "IPv4",
        Space::V6 => "IPv6",
        Space::Port => "ports",
    }
}

pub(super) fn fills(given: &Given, filter: &Filter) -> Vec<Fill> {
    let mut fills = Vec::new();
    for kind in [PoolKind::Address, PoolKind::NodePort] {
        let ledger = given.ledger(Some(kind));
        let everybody = given.ledger_and_services(Some(kind));
        for (pool, state) in ledger.pools() {
            if (filter.group).is_none_or(|group| pool.serves(group.usage())) {
                let (before, after) = (
                    ledger.usage(&pool.name, pool.usage),
                    everybody.usage(&pool.name, pool.usage),
                );
                fills.extend(fills_of(pool, state, (before, after), filter));
            }
        }
    }
    if filter.number.is_none() {
        fills.extend(unreadable(given));
    }
    fills.sort_by(|a, b| (a.kind, &a.pool, a.space).cmp(&(b.kind, &b.pool, b.space)));
    fills
}

/// One of each space that is asked for; usages by the ledger, and by ledger and Services.
fn fills_of(
    pool: &Pool,
    state: &PoolState,
    (before, after): (PoolUsage, PoolUsage),
    filter: &Filter,
) -> Vec<Fill> {
    let (state, note) = condition(pool, state);
    let spaces = [
        (Space::V4, before.v4, after.v4),
        (Space::V6, before.v6, after.v6),
        (Space::Port, before.ports, after.ports),
    ];
    let asked = |space| {
        let ranges = pool.ranges(space);
        match filter.number {
            None => !ranges.is_empty(),
            Some(number) => number.space == space && ranges.contains(number.value),
        }
    };
    (spaces.into_iter().filter(|(space, ..)| asked(*space)))
        .map(|(space, before, after)| Fill {
            kind: resource(pool),
            pool: pool.name.to_string(),
            usage: pool.usage.as_str(),
            space: word(space),
            state,
            note: note.clone(),
            ..counts(before, after)
        })
        .collect()
}

fn counts(before: UsageCounts, after: UsageCounts) -> Fill {
    let int = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
    Fill {
        kind: "",
        pool: String::new(),
        usage: "",
        space: "",
        state: PoolCondition::Ready,
        capacity: int(before.capacity),
        claimed: int(before.claimed),
        retained: int(before.retained),
        // A number that was kept for the Service that has it now counts as kept.
        unclaimed: int(
            (after.claimed + after.retained).saturating_sub(before.claimed + before.retained)
        ),
        available: int(after.available),
        note: None,
    }
}

/// Pools that give nothing because nobody can say what they have.
fn unreadable(given: &Given) -> impl Iterator<Item = Fill> {
    given.pools.iter().filter_map(|record| {
        let rejection = record.pool.as_ref().err()?;
        let kind = match record.kind {
            PoolKind::Address => "AddressPool",
            PoolKind::NodePort => "NodePortPool",
        };
        Some(Fill {
            kind,
            pool: record.name.to_string(),
            state: PoolCondition::Invalid,
            note: Some(rejection.message.clone()),
            ..counts(UsageCounts::default(), UsageCounts::default())
        })
    })
}
