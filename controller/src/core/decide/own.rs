//! A Service's own numbers: clusterIPs, nodePorts, healthCheckNodePort.

use std::{collections::BTreeSet, net::IpAddr};

use allocator::{Missing, Request, block::Holder};
use model::{Family, Number, Reason, Use};
use serde_json::Value;

use super::{Snapshot, Wanted, missing, pool_contains, request};
use crate::core::{
    numbers::{self, NumbersFound},
    record::{ServiceRecord, ServiceType},
};

/// What comes of a Service's own numbers.
#[derive(Default)]
pub(super) struct Own {
    pub(super) holds: Vec<Wanted>,
    pub(super) spec: Option<Value>,
    pub(super) missing: Option<Missing>,
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
        shown(
            snapshot,
            own,
            Number::from(*address),
            Use::ClusterIp,
            "spec.clusterIPs",
        );
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
        shown(
            snapshot,
            own,
            number,
            Use::HealthCheckNodePort,
            "spec.healthCheckNodePort",
        );
    }
    for need in numbers::node_ports(record) {
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
            *use_ == usage
                && !taken.contains(number)
                && explicit.is_none_or(|wanted| wanted == *number)
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
