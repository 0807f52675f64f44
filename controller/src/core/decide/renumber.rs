//! Which nodePorts a Service must not keep, and what they become. Pure; nothing is taken from a
//! Service here, and who may be changed now is `pace`'s.
//!
//! A nodePort is changed for three reasons only: the Service asks for another one
//! (`portolan.dev/node-ports`), it lies outside the pools that bind the Service (the one it asks
//! for, else those that admit it and enforce), or an older Service has it too. A pool that merely
//! gives numbers to whoever has none changes nobody's. Without a NodePortPool nothing is changed,
//! and nothing of a Service that says `portolan.dev/keep-node-ports`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use allocator::{Binding, Missing};
use model::{Number, Reason, ServiceKey, Use, quoted};

use super::{
    Snapshot, Wanted, missing,
    own::{choose, salt, suggest},
    request,
};
use crate::core::{
    annotations::{NODE_PORT_POOL, NODE_PORTS},
    numbers,
    record::{ServicePort, ServiceRecord, ServiceType},
};

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;

/// One nodePort that changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The place in `spec.ports`.
    pub place: usize,
    /// The port's name, or its number where it has none.
    pub port: Arc<str>,
    /// What it was.
    pub from: u16,
    /// What it becomes.
    pub to: u16,
    /// Why, as the end of a sentence.
    pub why: String,
    /// Because an older Service had it too.
    pub was_double: bool,
}

impl Move {
    /// Whether the Service shows what the change was to bring.
    pub fn is_made(&self, record: &ServiceRecord) -> bool {
        let port = record.ports.get(self.place);
        port.is_some_and(|port| port.node_port == self.to)
    }
}

impl std::fmt::Display for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            port,
            from,
            to,
            why,
            ..
        } = self;
        write!(
            f,
            "nodePort of port {port} changed from {from} to {to}: {why}"
        )
    }
}

/// What comes of a Service's nodePorts that stand against a policy.
#[derive(Default)]
pub(super) struct Renumbering {
    /// The new numbers.
    pub(super) holds: Vec<Wanted>,
    /// The changes.
    pub(super) moves: Vec<Move>,
    /// What stays against the policy, and why.
    pub(super) stray: Option<Missing>,
}

/// Why a nodePort must change.
enum Why {
    /// The Service asks for this one.
    Asked,
    /// It lies outside the pools that bind the Service.
    Outside,
    /// This Service is older and has it too.
    Twin(ServiceKey),
}

/// Whose nodePorts a policy may concern at all.
fn concerned(snapshot: &Snapshot<'_>) -> bool {
    let has_ports = match snapshot.record.service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    };
    snapshot.node_port_policy && has_ports
}

/// `taken` is every port of nodes that the Service has or is given in this pass.
pub(super) fn renumber(snapshot: &Snapshot<'_>, taken: &BTreeSet<Number>) -> Renumbering {
    let record = snapshot.record;
    let mut outcome = Renumbering::default();
    if !concerned(snapshot) {
        return outcome;
    }
    match &record.request {
        Ok(request) if request.keep_node_ports => return outcome,
        Ok(_) => {}
        Err(rejection) => {
            // Of a load balancer its address tells.
            outcome.stray =
                (record.service_type == ServiceType::NodePort).then(|| missing(rejection.clone()));
            return outcome;
        }
    }
    let binding = snapshot
        .allocator
        .binding(&request(snapshot, Use::NodePort));
    let whys = strays(snapshot, &binding, taken, &mut outcome.stray);
    if let (Some(words), Some(place)) = (snapshot.refused, whys.keys().next()) {
        outcome.stray = record.ports.get(*place).map(|port| Missing {
            family: None,
            reason: Reason::NodePortOutsidePolicy,
            message: format!(
                "the API server does not let nodePort {} of port {} be changed: {words}; correct that, or set portolan.dev/keep-node-ports: \"true\"",
                port.node_port,
                label(port),
            ),
            waits_for: Vec::new(),
        });
        return outcome;
    }
    let mut taken = taken.clone();
    let places: Vec<usize> = whys.keys().copied().collect();
    for need in numbers::renumbered(record, &places) {
        let Some((first, why)) = (need.indices.first())
            .and_then(|place| Some((record.ports.get(*place)?, whys.get(place)?)))
        else {
            continue;
        };
        let explicit = need.explicit.map(Number::port);
        let chosen = match explicit {
            Some(number) if number == Number::port(record.health_check_node_port) => {
                Err(own_health_check(number))
            }
            // Another port of this Service has it now.
            Some(number) if taken.contains(&number) => Ok(None),
            _ => choose(
                snapshot,
                Use::NodePort,
                explicit,
                &taken,
                &salt(record, &need.indices),
            )
            .map(Some),
        };
        let number = match (&chosen, explicit) {
            (Ok(Some(wanted)), _) => wanted.number,
            (Ok(None), Some(number)) => number,
            (Ok(None), None) => continue,
            (Err(missing), _) => {
                // That two have one number is told as just that.
                if !matches!(why, Why::Twin(_)) {
                    let told = Missing {
                        message: format!(
                            "{}; port {} keeps nodePort {} until then",
                            missing.message,
                            label(first),
                            first.node_port
                        ),
                        ..missing.clone()
                    };
                    outcome.stray.get_or_insert(told);
                }
                continue;
            }
        };
        let Some(to) = number.as_port() else { continue };
        taken.insert(number);
        outcome.holds.extend(chosen.ok().flatten());
        for place in &need.indices {
            if let (Some(port), Some(why)) = (record.ports.get(*place), whys.get(place)) {
                outcome.moves.push(Move {
                    place: *place,
                    port: label(port),
                    from: port.node_port,
                    to,
                    why: words(why, port.node_port, &binding),
                    was_double: matches!(why, Why::Twin(_)),
                });
            }
        }
    }
    outcome
}

/// The places in `spec.ports` whose nodePort must change. What must and cannot goes to `stray`.
fn strays(
    snapshot: &Snapshot<'_>,
    binding: &Binding,
    taken: &BTreeSet<Number>,
    stray: &mut Option<Missing>,
) -> BTreeMap<usize, Why> {
    let record = snapshot.record;
    let mut whys = BTreeMap::new();
    let shown = record.ports.iter().enumerate();
    for (place, port) in shown.filter(|(_, port)| port.node_port != 0 && port.port.number != 0) {
        let number = Number::port(port.node_port);
        let permitted = snapshot.allocator.permits(binding, number);
        match numbers::asked(record, port) {
            Some(asked) if asked != port.node_port => {
                whys.insert(place, Why::Asked);
            }
            // What the Service asks for is not changed to what it does not ask for.
            Some(_) if !permitted => {
                stray.get_or_insert_with(|| asked_outside(snapshot, number, binding, taken));
            }
            Some(_) => {}
            None if !permitted => {
                whys.insert(place, Why::Outside);
            }
            None => {
                if let Some(elder) = snapshot.shown_ports.elder(port.node_port, record) {
                    whys.insert(place, Why::Twin(elder.clone()));
                }
            }
        }
    }
    let health = record.health_check_node_port;
    if health != 0 {
        let usage = Use::HealthCheckNodePort;
        let binding = snapshot.allocator.binding(&request(snapshot, usage));
        if !snapshot.allocator.permits(&binding, Number::port(health)) {
            stray.get_or_insert_with(|| health_check_outside(snapshot, health, &binding, taken));
        }
    }
    whys
}

/// `pool "a"`, `pools "a", "b"`, or the pool that is asked for and does not serve.
pub(super) fn pools(binding: &Binding) -> String {
    let Binding::To(names) = binding else {
        return "every pool".to_owned();
    };
    let listed: Vec<String> = names.iter().take(4).map(|name| quoted(name)).collect();
    match listed.as_slice() {
        [] => format!("what {NODE_PORT_POOL} asks for"),
        [only] => format!("pool {only}"),
        several => format!("pools {}", several.join(", ")),
    }
}

fn words(why: &Why, from: u16, binding: &Binding) -> String {
    match why {
        Why::Asked => format!("{NODE_PORTS} asks for it"),
        Why::Outside => format!("{from} lies outside {}", pools(binding)),
        Why::Twin(elder) => format!("Service {elder}, which is older, has {from} too"),
    }
}

fn label(port: &ServicePort) -> Arc<str> {
    match &*port.name {
        "" => port.port.to_string().into(),
        _ => Arc::clone(&port.name),
    }
}

/// `, for example 30105,` where there is one.
fn example(snapshot: &Snapshot<'_>, usage: Use, taken: &BTreeSet<Number>) -> String {
    match suggest(snapshot, usage, taken) {
        Some(free) => format!(", for example {free}, which is free,"),
        None => String::new(),
    }
}

fn asked_outside(
    snapshot: &Snapshot<'_>,
    number: Number,
    binding: &Binding,
    taken: &BTreeSet<Number>,
) -> Missing {
    Missing {
        family: None,
        reason: Reason::NodePortOutsidePolicy,
        message: format!(
            "{NODE_PORTS} asks for {number}, which lies outside {}; ask for a number of it{} or remove the annotation",
            pools(binding),
            example(snapshot, Use::NodePort, taken)
        ),
        waits_for: Vec::new(),
    }
}

fn health_check_outside(
    snapshot: &Snapshot<'_>,
    port: u16,
    binding: &Binding,
    taken: &BTreeSet<Number>,
) -> Missing {
    Missing {
        family: None,
        reason: Reason::NodePortOutsidePolicy,
        message: format!(
            "spec.healthCheckNodePort {port} lies outside {} and Kubernetes does not let it be changed; create the Service anew with one of it{} or accept it with portolan.dev/keep-node-ports: \"true\"",
            pools(binding),
            example(snapshot, Use::HealthCheckNodePort, taken)
        ),
        waits_for: Vec::new(),
    }
}

fn own_health_check(number: Number) -> Missing {
    Missing {
        family: None,
        reason: Reason::AddressInUse,
        message: format!(
            "{number} cannot be given: it is this Service's spec.healthCheckNodePort; ask for another number"
        ),
        waits_for: Vec::new(),
    }
}
