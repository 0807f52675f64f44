//! The rows: each number beside what the Services, the ledger and the pools say of it.

use std::collections::{BTreeMap, BTreeSet};

use allocator::{
    Allocator,
    block::{Claim, Holder},
};
use model::{Number, ServiceKey, Uid};

use super::{Given, Group, Holding, Kind, Owner, Shown, State};

/// Everything that is said of one number.
pub(in crate::core) struct Said<'a> {
    pub(in crate::core) number: Number,
    pub(in crate::core) shown: Vec<(&'a Owner, &'a Shown)>,
    claim: Option<&'a Claim>,
}

impl<'a> Said<'a> {
    /// Of each number what Services and ledger say.
    pub(in crate::core) fn all(given: &'a Given) -> BTreeMap<Number, Self> {
        let mut numbers: BTreeMap<Number, Said<'_>> = BTreeMap::new();
        let blank = |number| Said {
            number,
            shown: Vec::new(),
            claim: None,
        };
        for owner in &given.services {
            for shown in &owner.shown {
                let said = numbers.entry(shown.number);
                let said = said.or_insert_with(|| blank(shown.number));
                said.shown.push((owner, shown));
            }
        }
        for (&number, claim) in &given.claims {
            let said = numbers.entry(number).or_insert_with(|| blank(number));
            said.claim = Some(claim);
        }
        numbers
    }

    /// Other Services that show the number in a way that cannot go together with this one's; not of
    /// external addresses, which others than Portolan give too.
    pub(in crate::core) fn rivals(
        &self,
        owner: &'a Owner,
        shown: &'a Shown,
    ) -> impl Iterator<Item = (&'a Owner, &'a Shown)> {
        let others = self.shown.iter().copied();
        others.filter(move |(other, theirs)| {
            other.uid != owner.uid
                && match shown.kind.group() {
                    group if group != theirs.kind.group() => false,
                    Group::NodePort => !theirs.protocols.is_disjoint(&shown.protocols),
                    Group::ClusterIp => true,
                    Group::External => false,
                }
        })
    }

    pub(in crate::core) fn holders(&self) -> &[Holder] {
        match self.claim {
            Some(Claim::Held(holders)) => holders,
            Some(Claim::Retained { .. }) | None => &[],
        }
    }
}

pub(super) fn holdings(given: &Given, ledger: &Allocator) -> Vec<Holding> {
    let numbers = Said::all(given);
    let alive = given.alive();
    let mut rows = Vec::new();
    for said in numbers.values() {
        for (owner, shown) in &said.shown {
            rows.push(shown_row(said, owner, shown, ledger));
        }
        for holder in said.holders() {
            rows.extend(unshown_row(said, holder, &alive, ledger));
        }
        rows.extend(retained_row(said, ledger));
    }
    rows
}

/// The pool that contains the number and gives such ones.
fn pool(number: Number, kind: Kind, ledger: &Allocator) -> Option<String> {
    let mut pools = ledger.pools_containing(number);
    let pool = pools.find(|pool| pool.serves(kind.usage()))?;
    Some(pool.name.to_string())
}

fn row(number: Number, kind: Kind, service: &ServiceKey, ledger: &Allocator) -> Holding {
    Holding {
        number: number.to_string(),
        kind,
        protocols: Vec::new(),
        ports: Vec::new(),
        state: State::Held,
        namespace: service.namespace.to_string(),
        service: service.name.to_string(),
        pool: pool(number, kind, ledger),
        until: None,
        note: None,
        at: number,
    }
}

/// A number that a Service has.
fn shown_row(said: &Said<'_>, owner: &Owner, shown: &Shown, ledger: &Allocator) -> Holding {
    let mut row = row(said.number, shown.kind, &owner.key, ledger);
    let protocols = shown.protocols.iter();
    row.protocols = protocols.map(|protocol| protocol.as_str()).collect();
    row.ports = shown.ports.iter().map(ToString::to_string).collect();
    let own = |holder: &&Holder| {
        holder.uid == owner.uid && Kind::of(holder.usage).group() == shown.kind.group()
    };
    let claimed = said.holders().iter().any(|holder| own(&holder));
    let others = others(said, owner, shown);
    let ledgers = ledgers(said, owner, shown);
    (row.state, row.note) = match (claimed, others.as_slice(), ledgers.as_slice()) {
        (true, [], _) => (State::Held, shared(said, owner)),
        (true, [_, ..], _) => (
            State::Conflict,
            Some(format!(
                "{} has it too: give that one another number",
                list(&others)
            )),
        ),
        (false, [_, ..], []) => (
            State::Conflict,
            Some(format!(
                "{} has it too: give one of them another number",
                list(&others)
            )),
        ),
        (false, _, [_, ..]) => (
            State::Conflict,
            Some(format!(
                "the ledger has it for {}: give this Service another number",
                list(&ledgers)
            )),
        ),
        (false, [], []) => unclaimed(said, owner, shown, row.pool.as_deref()),
    };
    row
}

/// Of a number that is in a Service but not in the ledger, with no rival.
fn unclaimed(
    said: &Said<'_>,
    owner: &Owner,
    shown: &Shown,
    pool: Option<&str>,
) -> (State, Option<String>) {
    match (said.claim, pool) {
        (Some(Claim::Retained { owner: former, until }), _) if *former != owner.key => (
            State::Conflict,
            Some(format!(
                "it is kept for {former} until {}: give this Service another number",
                time(*until)
            )),
        ),
        (_, None) => (State::Unmanaged, None),
        (_, Some(pool)) if shown.kind == Kind::ExternalIp => (
            State::Unclaimed,
            Some(format!(
                "spec.externalIPs claims nothing, so that pool {pool} may give it to others: put it into spec.reserved of the pool"
            )),
        ),
        (_, Some(_)) => (
            State::Unclaimed,
            Some("no claim is in the ledger: see whether the controller runs and what it says of this Service".to_owned()),
        ),
    }
}

/// Other Services that show the number in a way that cannot go together with this one.
fn others(said: &Said<'_>, owner: &Owner, shown: &Shown) -> Vec<ServiceKey> {
    let holds = |uid: &Uid| said.holders().iter().any(|holder| holder.uid == *uid);
    let rivals = said.rivals(owner, shown).map(|(other, _)| other);
    let mut others: BTreeSet<ServiceKey> = rivals.map(|other| other.key.clone()).collect();
    // Several Services on one external address are common where others give them (the nodes' own,
    // for instance); by our ledger each of them needs a claim.
    if shown.kind.group() == Group::External && holds(&owner.uid) {
        let external = |kind: Kind| kind.group() == Group::External;
        let unclaimed = said.shown.iter().filter(|(other, theirs)| {
            other.uid != owner.uid && external(theirs.kind) && !holds(&other.uid)
        });
        others.extend(unclaimed.map(|(other, _)| other.key.clone()));
    }
    others.into_iter().collect()
}

/// For whom else the ledger has the number in such a way; of nodePorts, another protocol is another
/// claim.
pub(in crate::core) fn ledgers(said: &Said<'_>, owner: &Owner, shown: &Shown) -> Vec<ServiceKey> {
    let mut found: BTreeSet<ServiceKey> = BTreeSet::new();
    for holder in said.holders() {
        if holder.uid == owner.uid || Kind::of(holder.usage).group() != shown.kind.group() {
            continue;
        }
        let theirs = said.shown.iter().find(|(other, theirs)| {
            other.uid == holder.uid && theirs.kind.group() == shown.kind.group()
        });
        let apart = match (shown.kind.group(), theirs) {
            (Group::NodePort, Some((_, theirs))) => theirs.protocols.is_disjoint(&shown.protocols),
            (Group::NodePort, None) | (Group::ClusterIp | Group::External, _) => false,
        };
        if !apart {
            found.insert(holder.service.clone());
        }
    }
    found.into_iter().collect()
}

fn shared(said: &Said<'_>, owner: &Owner) -> Option<String> {
    let with: Vec<ServiceKey> = (said.holders().iter())
        .filter(|holder| holder.uid != owner.uid && holder.sharing.is_some())
        .map(|holder| holder.service.clone())
        .collect();
    (!with.is_empty()).then(|| format!("shared with {}", list(&with)))
}

/// A number that the ledger has for a Service which does not show it.
fn unshown_row(
    said: &Said<'_>,
    holder: &Holder,
    alive: &BTreeMap<&Uid, &ServiceKey>,
    ledger: &Allocator,
) -> Option<Holding> {
    let kind = Kind::of(holder.usage);
    let shows = |(owner, shown): &(&Owner, &Shown)| {
        owner.uid == holder.uid && shown.kind.group() == kind.group()
    };
    if said.shown.iter().any(shows) {
        return None;
    }
    let mut row = row(said.number, kind, &holder.service, ledger);
    if alive.contains_key(&holder.uid) {
        row.state = State::Pending;
        row.note = Some("the Service does not show it (yet)".to_owned());
    } else {
        let again = alive.values().any(|key| **key == holder.service);
        let what = if again {
            "the claim is that of an earlier Service of this name"
        } else {
            "there is no such Service"
        };
        row.state = State::Orphaned;
        row.note = Some(format!(
            "{what}: the controller releases it; see whether it runs"
        ));
    }
    Some(row)
}

fn retained_row(said: &Said<'_>, ledger: &Allocator) -> Option<Holding> {
    let Some(Claim::Retained { owner, until }) = said.claim else {
        return None;
    };
    let usage = (ledger.pools_containing(said.number).next()).map(|pool| Kind::of(pool.usage));
    let kind = usage.unwrap_or(match said.number.address() {
        None => Kind::NodePort,
        Some(_) => Kind::LoadBalancer,
    });
    let mut row = row(said.number, kind, owner, ledger);
    row.state = State::Retained;
    row.until = Some(time(*until));
    row.note = Some(format!("kept for that name until {}", time(*until)));
    Some(row)
}

/// RFC 3339; out of its range the seconds.
fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn list(keys: &[ServiceKey]) -> String {
    let names = keys.iter().map(ToString::to_string);
    names.collect::<Vec<_>>().join(", ")
}
