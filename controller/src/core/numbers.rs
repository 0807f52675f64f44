//! Kubernetes' own rules for a control plane that leaves numbers empty: which IP families a
//! Service has, which ports still need a nodePort, and the patch that writes what was found. Which
//! number it is the allocator says; nothing here looks at pools.
//!
//! The rules are those of kube-apiserver (`initIPFamilyFields`, `initNodePorts`), with one
//! difference: only the present object is known, never its predecessor. What that changes is said
//! at [`families`] and [`node_ports`].

use std::net::IpAddr;

use model::{Family, Reason};
use serde_json::{Value, json};

use super::record::{FamilyPolicy, Rejection, ServicePort, ServiceRecord, ServiceType};

#[cfg(test)]
mod tests;

/// Which IP families a Service is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FamilyPlan {
    /// `spec.ipFamilyPolicy`.
    pub policy: FamilyPolicy,
    /// `spec.ipFamilies`, primary first; empty for ExternalName only.
    pub families: Vec<Family>,
}

/// One nodePort that is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortNeed {
    /// The entries of `spec.ports` that are empty and are to get this number.
    pub indices: Vec<usize>,
    /// The number it must be, from the annotation or from the same port of another protocol; in
    /// the latter case this Service holds it already.
    pub explicit: Option<u16>,
}

/// What is to be written into the spec.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NumbersFound {
    /// The complete list; empty leaves it as it is.
    pub cluster_ips: Vec<IpAddr>,
    /// The families; `None` leaves them as they are.
    pub plan: Option<FamilyPlan>,
    /// Index into `spec.ports` and the nodePort.
    pub node_ports: Vec<(usize, u16)>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
}

/// The families a Service is to have by Kubernetes' rules. `cluster` is what the cluster offers,
/// primary first.
///
/// Asked of a Service that is being created, or whose addresses the control plane leaves to us; one
/// that a stock API server has completed is not judged again. Known only by the present object, three
/// cases differ from kube-apiserver:
///
/// * PreferDualStack with one address on a dual-stack cluster is always completed: it looks the
///   same whether the policy was just changed (there: completed) or the cluster became dual-stack
///   afterwards (there: left alone).
/// * SingleStack with two families and two addresses is always taken as a release of the secondary
///   (there an error on create).
/// * A dual-stack Service of which one address or family was taken away gets it back (there an
///   error).
///
/// # Errors
/// What kube-apiserver refuses too, in its words, and the cure.
pub fn families(record: &ServiceRecord, cluster: &[Family]) -> Result<FamilyPlan, Rejection> {
    if record.service_type == ServiceType::ExternalName {
        return Ok(FamilyPlan {
            policy: record.family_policy.unwrap_or(FamilyPolicy::SingleStack),
            families: record.families.clone(),
        });
    }
    let bare = record.headless && !record.has_selector;
    let policy = record.family_policy.unwrap_or(if bare {
        FamilyPolicy::RequireDualStack
    } else {
        FamilyPolicy::SingleStack
    });
    stand_alone(record)?;
    if let Some(plan) = complete(record, cluster, bare) {
        return Ok(plan);
    }
    if policy == FamilyPolicy::SingleStack {
        one_of_everything(record)?;
    }

    let mut families = record.families.clone();
    for address in record.cluster_ips.iter().skip(families.len()) {
        families.push(Family::of(*address));
    }
    if bare {
        if families.is_empty() {
            families.push(primary(cluster)?);
        }
        if policy != FamilyPolicy::SingleStack {
            add_other(&mut families);
        }
        return Ok(FamilyPlan { policy, families });
    }
    if families.is_empty() {
        families.push(primary(cluster)?);
    }
    if policy == FamilyPolicy::RequireDualStack && cluster.len() < 2 {
        return Err(Rejection {
            reason: Reason::FamilyUnavailable,
            message: "spec.ipFamilyPolicy is RequireDualStack but this cluster is not configured \
                      for dual-stack services: use PreferDualStack, or add a pool of usage \
                      ClusterIP with the other family"
                .to_owned(),
        });
    }
    for (index, family) in families.iter().enumerate() {
        if !cluster.contains(family) {
            return Err(not_configured(record, index, *family));
        }
    }
    if policy != FamilyPolicy::SingleStack && cluster.len() > 1 {
        add_other(&mut families);
    }
    Ok(FamilyPlan { policy, families })
}

/// What is wrong with the object itself, whatever the cluster.
fn stand_alone(record: &ServiceRecord) -> Result<(), Rejection> {
    if let [first, second, ..] = record.cluster_ips.as_slice()
        && (record.cluster_ips.len() > 2 || Family::of(*first) == Family::of(*second))
    {
        return Err(invalid(
            "spec.clusterIPs may hold at most one address of each family: remove the others",
        ));
    }
    if let [first, second, ..] = record.families.as_slice()
        && (record.families.len() > 2 || first == second)
    {
        return Err(invalid(
            "spec.ipFamilies may name each family once: remove the duplicate",
        ));
    }
    for (index, (address, family)) in record.cluster_ips.iter().zip(&record.families).enumerate() {
        if Family::of(*address) != *family {
            return Err(invalid(&format!(
                "spec.clusterIPs[{index}] is {address} but spec.ipFamilies[{index}] is {family}: \
                 put both lists in the same order; the primary may not change once set"
            )));
        }
    }
    Ok(())
}

/// The plan of a Service that needs nothing more, or only the release of its secondary.
fn complete(record: &ServiceRecord, cluster: &[Family], bare: bool) -> Option<FamilyPlan> {
    let policy = record.family_policy?;
    let mut families = record.families.clone();
    if families.is_empty()
        || record.needs_cluster_ips() && record.cluster_ips.len() != families.len()
    {
        return None;
    }
    let dual = families.len() == 2;
    match policy {
        // Without addresses two families cannot be told from a mistake on create.
        FamilyPolicy::SingleStack if dual && record.headless => return None,
        FamilyPolicy::SingleStack => families.truncate(1),
        FamilyPolicy::PreferDualStack if !dual && (bare || cluster.len() > 1) => return None,
        FamilyPolicy::PreferDualStack => {}
        FamilyPolicy::RequireDualStack if !dual => return None,
        FamilyPolicy::RequireDualStack => {}
    }
    Some(FamilyPlan { policy, families })
}

fn one_of_everything(record: &ServiceRecord) -> Result<(), Rejection> {
    let what = if record.cluster_ips.len() > 1 {
        "cluster IPs"
    } else if record.families.len() > 1 {
        "IP families"
    } else {
        return Ok(());
    };
    Err(invalid(&format!(
        "spec.ipFamilyPolicy must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} \
         are specified: change it, or keep one"
    )))
}

fn primary(cluster: &[Family]) -> Result<Family, Rejection> {
    cluster.first().copied().ok_or_else(|| Rejection {
        reason: Reason::NoPool,
        message: "spec.clusterIP is empty and no AddressPool gives clusterIPs: create one with \
                  spec.usage: ClusterIP"
            .to_owned(),
    })
}

fn add_other(families: &mut Vec<Family>) {
    if let [only] = families.as_slice() {
        families.push(only.other());
    }
}

fn not_configured(record: &ServiceRecord, index: usize, family: Family) -> Rejection {
    let field = if index < record.families.len() {
        "ipFamilies"
    } else {
        "clusterIPs"
    };
    Rejection {
        reason: Reason::FamilyUnavailable,
        message: format!(
            "spec.{field}[{index}]: {family} is not configured on this cluster: use the other \
             family, or add a pool of usage ClusterIP with {family} addresses"
        ),
    }
}

fn invalid(message: &str) -> Rejection {
    Rejection {
        reason: Reason::InvalidRequest,
        message: message.to_owned(),
    }
}

/// The nodePorts that are missing by Kubernetes' rules for create: entries with the same port
/// number (TCP and UDP) share one, the first number any of them has; else each port number gets
/// its own. `portolan.dev/node-ports` fills in what is empty (a request that cannot be read fills
/// in nothing). Needs with a number come first, so that one without cannot take it.
///
/// kube-apiserver has no such sharing for a port that is added later and gives it the old number
/// of the same name; the old object is not known here, so the rules for create hold always.
pub fn node_ports(record: &ServiceRecord) -> Vec<PortNeed> {
    if !record.needs_node_ports() {
        return Vec::new();
    }
    fill(record, &[])
}

/// The same though the control plane gives none (`allocateLoadBalancerNodePorts: false`): for whom
/// the load balancer reaches by nodePorts.
pub fn lacking(record: &ServiceRecord) -> Vec<PortNeed> {
    fill(record, &[])
}

/// The same for entries that must have another nodePort than they have, as if they were empty;
/// `strays` are their places in `spec.ports`. Only such entries go on sharing a number that shared
/// one before. Entries that are empty are not looked at.
pub fn renumbered(record: &ServiceRecord, strays: &[usize]) -> Vec<PortNeed> {
    fill(record, strays)
        .into_iter()
        .filter(|need| need.indices.iter().any(|place| strays.contains(place)))
        .collect()
}

fn fill(record: &ServiceRecord, strays: &[usize]) -> Vec<PortNeed> {
    let ports = &record.ports;
    let shown = |(place, port): (usize, &ServicePort)| match strays.contains(&place) {
        true => 0,
        false => port.node_port,
    };
    let shown: Vec<u16> = ports.iter().enumerate().map(shown).collect();
    let known: Vec<u16> = ports
        .iter()
        .zip(&shown)
        .map(|(port, shown)| wanted(record, port, *shown))
        .collect();
    let taken = |number: u16, port: &ServicePort| {
        ports
            .iter()
            .zip(&known)
            .any(|(other, theirs)| *theirs == number && other.port.protocol == port.port.protocol)
    };

    // By the port number and the nodePort had before, which is 0 where it is empty.
    let mut needs: Vec<((u16, u16), PortNeed)> = Vec::new();
    for (index, ((port, own), shown)) in ports.iter().zip(&known).zip(&shown).enumerate() {
        // A port number of 0 marks an entry that could not be read.
        if *shown != 0 || port.port.number == 0 {
            continue;
        }
        let explicit = match own {
            0 => ports
                .iter()
                .zip(&known)
                .find(|(other, theirs)| other.port.number == port.port.number && **theirs != 0)
                .map(|(_, theirs)| *theirs)
                .filter(|number| !taken(*number, port)),
            own => Some(*own),
        };
        let which = (port.port.number, port.node_port);
        let same = |(other, need): &&mut ((u16, u16), PortNeed)| {
            *other == which && need.explicit == explicit
        };
        match needs.iter_mut().find(same) {
            Some((_, need)) => need.indices.push(index),
            None => needs.push((
                which,
                PortNeed {
                    indices: vec![index],
                    explicit,
                },
            )),
        }
    }
    // Stable: within each half the order of the ports remains.
    needs.sort_by_key(|(_, need)| need.explicit.is_none());
    needs.into_iter().map(|(_, need)| need).collect()
}

/// The nodePort the entry has or, where that does not count, is asked to have; 0 for any.
fn wanted(record: &ServiceRecord, port: &ServicePort, shown: u16) -> u16 {
    match shown {
        0 => asked(record, port).unwrap_or(0),
        given => given,
    }
}

/// The nodePort that `portolan.dev/node-ports` asks for.
pub fn asked(record: &ServiceRecord, port: &ServicePort) -> Option<u16> {
    let request = record.request.as_ref().ok()?;
    let mut asked = request.node_ports.iter();
    asked
        .find(|(name, _)| *name == port.name)
        .map(|(_, number)| *number)
}

/// The JSON patch (RFC 6902) that writes what was found, on this version of the Service only, or
/// `None` when the Service has it all.
pub fn spec_patch(record: &ServiceRecord, found: &NumbersFound) -> Option<Value> {
    let changes = spec_changes(record, found);
    if changes.is_empty() {
        return None;
    }
    let precondition = json!({
        "op": "replace",
        "path": "/metadata/resourceVersion",
        "value": &*record.version,
    });
    Some(Value::Array(
        std::iter::once(precondition).chain(changes).collect(),
    ))
}

/// Its operations without the precondition. `add` also replaces; a `replace` would fail, as the API
/// leaves empty fields out.
pub fn spec_changes(record: &ServiceRecord, found: &NumbersFound) -> Vec<Value> {
    let mut changes: Vec<(String, Value)> = Vec::new();
    let mut change = |field: String, value: Value| changes.push((field, value));
    if let Some(first) = found.cluster_ips.first() {
        if record.cluster_ips.first() != Some(first) {
            change("clusterIP".to_owned(), json!(first));
        }
        if record.cluster_ips != found.cluster_ips {
            change("clusterIPs".to_owned(), json!(found.cluster_ips));
        }
    }
    if let Some(plan) = &found.plan {
        if record.families != plan.families {
            let words: Vec<&str> = plan.families.iter().map(|family| family.as_str()).collect();
            change("ipFamilies".to_owned(), json!(words));
        }
        if record.family_policy != Some(plan.policy) && !plan.families.is_empty() {
            change("ipFamilyPolicy".to_owned(), json!(plan.policy.as_str()));
        }
    }
    for (index, number) in &found.node_ports {
        if record
            .ports
            .get(*index)
            .is_some_and(|port| port.node_port != *number)
        {
            change(format!("ports/{index}/nodePort"), json!(number));
        }
    }
    if let Some(number) = found.health_check_node_port
        && record.health_check_node_port != number
    {
        change("healthCheckNodePort".to_owned(), json!(number));
    }
    changes
        .into_iter()
        .map(
            |(field, value)| json!({"op": "add", "path": format!("/spec/{field}"), "value": value}),
        )
        .collect()
}
