//! A Service's own numbers: clusterIPs, nodePorts, healthCheckNodePort.

use std::{collections::BTreeSet, net::IpAddr};

use allocator::{Missing, Request, block::Holder};
use model::{Family, Number, Reason, Use};
use serde_json::Value;

use super::{
    Snapshot, Wanted, missing, pool_contains,
    renumber::{Move, renumber},
    request,
};
use crate::core::{
    admit,
    numbers::{self, NumbersFound},
    record::{ServiceRecord, ServiceType},
};

/// What comes of a Service's own numbers.
#[derive(Default)]
pub(super) struct Own {
    pub(super) holds: Vec<Wanted>,
    pub(super) spec: Option<Value>,
    pub(super) missing: Option<Missing>,
    /// nodePorts that change, now if that is allowed.
    pub(super) moves: Vec<Move>,
    /// nodePorts that stay against a policy.
    pub(super) stray: Option<Missing>,
}

/// clusterIPs, nodePorts and the healthCheckNodePort: given where the field is empty, recorded
/// where a pool of ours contains what is there.
pub(super) fn own_numbers(snapshot: &Snapshot<'_>) -> Own {
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
        let number = Number::from(*address);
        if let Some(conflict) = shown(snapshot, own, number, Use::ClusterIp, "spec.clusterIPs") {
            own.missing.get_or_insert(conflict);
        }
    }
    if snapshot.server_gives_cluster_ips {
        return;
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
        .filter(|family| {
            !record
                .cluster_ips
                .iter()
                .any(|ip| Family::of(*ip) == *family)
        })
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
        let kept = record
            .cluster_ips
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == *family);
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
    let mut conflicts: Vec<(Number, Missing)> = Vec::new();
    let mut show = |own: &mut Own, number, usage, field: &str| {
        conflicts.extend(shown(snapshot, own, number, usage, field).map(|why| (number, why)));
    };
    if record.service_type != ServiceType::ExternalName {
        for port in record.ports.iter().filter(|port| port.node_port != 0) {
            let number = Number::port(port.node_port);
            if taken.insert(number) {
                let field = format!("spec.ports[{}].nodePort", port.port);
                show(own, number, Use::NodePort, &field);
            }
        }
    }
    if record.health_check_node_port != 0 {
        let number = Number::port(record.health_check_node_port);
        taken.insert(number);
        let usage = Use::HealthCheckNodePort;
        show(own, number, usage, "spec.healthCheckNodePort");
    }
    let needs = match snapshot.provider_needs_node_ports() {
        true => numbers::lacking(record),
        false => numbers::node_ports(record),
    };
    for need in needs {
        let explicit = need.explicit.map(Number::port);
        let number = match explicit {
            // A sibling of the same port has it already.
            Some(number) if taken.contains(&number) => Some(number),
            _ => pick_port(
                snapshot,
                own,
                Use::NodePort,
                explicit,
                &taken,
                &salt(record, &need.indices),
            ),
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
        && let Some(number) = pick_port(
            snapshot,
            own,
            Use::HealthCheckNodePort,
            None,
            &taken,
            "healthCheckNodePort",
        )
    {
        found.health_check_node_port = number.as_port();
    }

    let renumbering = renumber(snapshot, &taken);
    conflicts.retain(|(number, _)| {
        let mut moves = renumbering.moves.iter();
        !moves.any(|moved| Number::port(moved.from) == *number)
    });
    for (_, conflict) in conflicts {
        own.missing.get_or_insert(conflict);
    }
    own.stray = renumbering.stray;
    if own.missing.is_some() {
        return;
    }
    if snapshot.may_renumber {
        let moves = renumbering.moves.iter();
        (found.node_ports).extend(moves.map(|moved| (moved.place, moved.to)));
        own.holds.extend(renumbering.holds);
    } else {
        // What is claimed already, before a restart, waits with it.
        let reserved = renumbering.holds.into_iter().filter(|wanted| {
            let mut held = snapshot.allocator.held_by(&record.uid);
            held.any(|held| held == (wanted.number, wanted.usage))
        });
        own.holds.extend(reserved.map(|wanted| Wanted {
            written: false,
            ..wanted
        }));
    }
    own.moves = renumbering.moves;
}

pub(super) fn salt(record: &ServiceRecord, indices: &[usize]) -> String {
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
    match choose(snapshot, usage, explicit, taken, salt) {
        Ok(wanted) => {
            let number = wanted.number;
            own.holds.push(wanted);
            Some(number)
        }
        Err(why) => {
            own.missing.get_or_insert(why);
            None
        }
    }
}

/// A port that the Service does not show yet: `explicit` or any that its pools give it. `taken` is
/// what it shows or gets elsewhere. Never one that another Service shows, whether or not that is in
/// the ledger yet, nor one that the API server calls taken.
pub(super) fn choose(
    snapshot: &Snapshot<'_>,
    usage: Use,
    explicit: Option<Number>,
    taken: &BTreeSet<Number>,
    salt: &str,
) -> Result<Wanted, Missing> {
    let (record, allocator) = (snapshot.record, snapshot.allocator);
    let other = |number: Number| {
        let port = number.as_port()?;
        snapshot.shown_ports.other(port, &record.key)
    };
    let wanted = |number| Wanted {
        number,
        usage,
        sharing: None,
        written: true,
    };
    if let Some(number) = explicit {
        let why = match (other(number), snapshot.foreign.contains_key(&number)) {
            (Some(service), _) => Some(format!("Service {service} has it")),
            (None, true) => Some(
                "the API server says that it is allocated, though no Service shows it; it is tried again later"
                    .to_owned(),
            ),
            (None, false) => None,
        };
        if let Some(why) = why {
            let missing = Missing {
                family: None,
                reason: Reason::AddressInUse,
                message: format!("{number} cannot be given: {why}; ask for another number"),
                waits_for: Vec::new(),
            };
            return Err(with_suggestion(snapshot, usage, taken, missing));
        }
    }
    let request = request(snapshot, usage);
    let binding = allocator.binding(&request);
    let in_range = |number: Number| {
        let mut pools = allocator.pools_containing(number);
        !pools.any(|pool| pool.unusable_ports.contains(number.value))
    };
    let usable = |number: Number| {
        allocator.permits(&binding, number)
            && in_range(number)
            && !snapshot.foreign.contains_key(&number)
            && other(number).is_none()
    };
    let held = || {
        let held = allocator.held_by(&record.uid);
        let held = held.filter(|(number, use_)| *use_ == usage && !taken.contains(number));
        held.map(|(number, _)| number)
    };
    // What was claimed before a crash and never written is used first.
    let reserved =
        held().find(|number| explicit.is_none_or(|wanted| wanted == *number) && usable(*number));
    if let Some(number) = reserved {
        return Ok(wanted(number));
    }
    let mut exclude: Vec<Number> = taken.iter().copied().collect();
    if explicit.is_none() {
        exclude.extend(snapshot.foreign.keys());
        exclude.extend(held().filter(|number| !usable(*number)));
    }
    let asked: Vec<Number> = explicit.into_iter().collect();
    loop {
        let verdict = allocator.decide(
            &Request {
                explicit: &asked,
                exclude: &exclude,
                stable_salt: Some(salt),
                ..request
            },
            snapshot.now,
        );
        let grant = verdict.grants.into_iter().next();
        let why = verdict.missing.into_iter().next();
        match (grant, why) {
            // A number that somebody shows who is not in the ledger yet.
            (Some(grant), _) if explicit.is_none() && !usable(grant.number) => {
                exclude.push(grant.number);
            }
            (Some(grant), _) => return Ok(wanted(grant.number)),
            (None, Some(why)) if explicit.is_some() => {
                return Err(with_suggestion(snapshot, usage, taken, why));
            }
            (None, Some(why)) => return Err(why),
            (None, None) => {
                return Err(Missing {
                    family: None,
                    reason: Reason::PoolExhausted,
                    message: format!("no {usage} is left"),
                    waits_for: Vec::new(),
                });
            }
        }
    }
}

/// A port that the Service could have.
pub(super) fn suggest(
    snapshot: &Snapshot<'_>,
    usage: Use,
    taken: &BTreeSet<Number>,
) -> Option<Number> {
    let found = choose(snapshot, usage, None, taken, "");
    found.ok().map(|wanted| wanted.number)
}

pub(super) fn with_suggestion(
    snapshot: &Snapshot<'_>,
    usage: Use,
    taken: &BTreeSet<Number>,
    mut missing: Missing,
) -> Missing {
    if let Some(free) = suggest(snapshot, usage, taken) {
        missing.message.push_str(&format!("; {free} is free"));
    }
    missing
}

/// A number that the Service shows: recorded when a pool of ours contains it, a conflict, which is
/// returned, when another Service holds it.
fn shown(
    snapshot: &Snapshot<'_>,
    own: &mut Own,
    number: Number,
    usage: Use,
    field: &str,
) -> Option<Missing> {
    let uid = &snapshot.record.uid;
    let holders = snapshot.allocator.holders(number);
    let mine = holders.iter().any(|holder| holder.uid == *uid);
    if !mine && snapshot.ledger.damage(number).is_some() {
        return None; // it stays as it is until the block can be read
    }
    // A claim of an earlier Service of this name is nobody's conflict: it is released, then recorded.
    let former = |holder: &&Holder| holder.service == snapshot.record.key;
    if !mine && !holders.is_empty() && holders.iter().all(|holder| former(&holder)) {
        return None;
    }
    if let Some(other) = holders.iter().find(|holder| !former(holder))
        && !mine
    {
        return Some(conflict(number, field, other));
    }
    if let Some((owner, until)) = snapshot.allocator.retained(number)
        && until > snapshot.now
        && !admit::is_kept_for(owner, &snapshot.record.key)
    {
        // Whom it is kept for cannot have it, as the API server has given it away; it is recorded
        // when it is not kept any longer.
        return None;
    }
    if mine || pool_contains(snapshot.allocator, number, usage) {
        own.holds.push(Wanted {
            number,
            usage,
            sharing: None,
            written: false,
        });
    }
    None
}

pub(super) fn conflict(number: Number, field: &str, other: &Holder) -> Missing {
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
