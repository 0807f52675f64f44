//! `portolan numbers audit`: nodePorts and pools of them beside what one node does with its ports.
//! Nothing in Kubernetes compares the two (kubernetes#111823). It reads, and changes nothing.
//!
//! No socket stands for a nodePort: kube-proxy opens none (kubernetes#108496) and neither do others
//! that serve them, so that the kernel neither keeps a port from being taken nor tells. The exception
//! is a healthCheckNodePort, on which kube-proxy answers itself.

use std::collections::{BTreeMap, BTreeSet};

use allocator::RangeSet;
use model::Protocol;
use serde::Serialize;

use super::holdings::{Given, Kind, NodePort};

pub mod proc;
#[cfg(test)]
mod tests;
mod text;

use proc::{Node, Socket, SocketState};

/// What two have the port for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum What {
    /// The node may take it for an outgoing connection.
    Ephemeral,
    /// The node has it for an outgoing connection.
    Connection,
    /// A process of the node waits on it.
    Listener,
}

impl What {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ephemeral => "Ephemeral",
            Self::Connection => "Connection",
            Self::Listener => "Listener",
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            // The complete value is added, since writing it replaces what is there.
            Self::Ephemeral => {
                "keep the node from taking these ports by itself: add them to net.ipv4.ip_local_reserved_ports"
            }
            Self::Connection => {
                "reserving does not end connections that have a port already: let the process make a new one, or give the Service another nodePort"
            }
            Self::Listener => {
                "let the process use another port, give the Service another nodePort (annotation portolan.dev/node-ports, or spec.ports[].nodePort), or put the port into spec.exclude of the pool"
            }
        }
    }
}

/// Ports that the node and the cluster both use or may use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collision {
    /// What kind.
    pub what: What,
    /// Ports and ranges, as `30080,30100-30199`.
    pub ports: String,
    /// For which protocols; all when empty.
    pub protocols: Vec<&'static str>,
    /// `Service shop/web` or `NodePortPool web`.
    pub of: String,
    /// What happens.
    pub why: String,
    #[serde(skip)]
    at: u16,
}

/// Everything that is printed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The node's range for outgoing connections, as `32768-60999`.
    pub ephemeral: String,
    /// What it leaves out of it; empty when nothing.
    pub reserved: String,
    /// NodePorts that were compared.
    pub node_ports: usize,
    /// NodePortPools that were compared.
    pub pools: usize,
    /// By kind and port.
    pub collisions: Vec<Collision>,
    /// The complete value for `net.ipv4.ip_local_reserved_ports` with which no nodePort and no pool
    /// is in the ephemeral range, if something is.
    pub reserve: Option<String>,
    /// What to do, each once.
    pub cures: Vec<String>,
    /// What could not be read, so that a collision may be missing.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether there is no collision.
    pub fn is_clean(&self) -> bool {
        self.collisions.is_empty()
    }
}

/// Compares the cluster with a node.
pub fn audit(given: &Given, node: &Node) -> Report {
    let node_ports = given.node_ports();
    let pools: Vec<(String, RangeSet)> = given
        .readable_pools()
        .filter(|pool| !pool.ports.is_empty())
        .map(|pool| {
            let stock = pool.ports.subtract(&pool.excluded_ports);
            (format!("NodePortPool {}", pool.name), stock)
        })
        .collect();
    let taken = node.taken_by_itself();
    let mut collisions = Vec::new();
    for port in &node_ports {
        collisions.extend(ephemeral(port, &taken));
        collisions.extend(sockets(port, node, &taken));
    }
    let held: BTreeSet<u16> = node_ports.iter().map(|port| port.port).collect();
    let mut wanted: Vec<(u128, u128)> = (held.iter())
        .map(|&port| (u128::from(port), u128::from(port)))
        .collect();
    for (of, stock) in &pools {
        collisions.extend(pool_ephemeral(of, stock, &taken));
        collisions.extend(pool_listeners(of, stock, node, &held, &taken));
        wanted.extend_from_slice(stock.ranges());
    }
    collisions.sort();
    let exposed = common(&RangeSet::new(wanted), &taken);
    let reserve = (!exposed.is_empty()).then(|| {
        let all = node.reserved.ranges().iter().chain(exposed.ranges());
        write(&RangeSet::new(all.copied()))
    });
    let kinds: BTreeSet<What> = collisions.iter().map(|collision| collision.what).collect();
    let cures = kinds.iter().map(|what| match (what, &reserve) {
        (What::Ephemeral, Some(value)) => format!(
            "{}, whose complete value is then {value}, in a file of /etc/sysctl.d on every node; or move net.ipv4.ip_local_port_range",
            what.cure()
        ),
        (What::Ephemeral | What::Connection | What::Listener, _) => what.cure().to_owned(),
    });
    Report {
        ephemeral: write(&node.ephemeral),
        reserved: write(&node.reserved),
        node_ports: node_ports.len(),
        pools: pools.len(),
        collisions,
        cures: cures.collect(),
        reserve,
        warnings: (given.warnings().iter().chain(&node.warnings))
            .cloned()
            .collect(),
    }
}

fn words(protocols: &BTreeSet<Protocol>) -> Vec<&'static str> {
    protocols.iter().map(|p| p.as_str()).collect()
}

fn ephemeral(port: &NodePort, taken: &RangeSet) -> Option<Collision> {
    taken.contains(u128::from(port.port)).then(|| Collision {
        what: What::Ephemeral,
        ports: port.port.to_string(),
        protocols: words(&port.protocols),
        of: format!("Service {}", port.service),
        why: match port.kind {
            Kind::HealthCheckNodePort => "an outgoing connection of the node may take it; health checks of the Service are not answered then",
            Kind::NodePort | Kind::ClusterIp | Kind::LoadBalancer | Kind::ExternalIp => {
                "an outgoing connection of the node may take it; answers to it may go to the Service instead, so that it hangs"
            }
        }
        .to_owned(),
        at: port.port,
    })
}

/// What processes of the node do with the port. Where one listens, connections are those that it
/// has accepted; where none does, they are outgoing.
fn sockets(port: &NodePort, node: &Node, taken: &RangeSet) -> Vec<Collision> {
    let of = |protocol: Protocol, state: SocketState| -> Vec<&Socket> {
        let on = |s: &&Socket| s.protocol == protocol && s.port == port.port && s.state == state;
        node.sockets.iter().filter(on).collect()
    };
    let mut collisions = Vec::new();
    for &protocol in &port.protocols {
        let listeners = of(protocol, SocketState::Listening);
        let connections = of(protocol, SocketState::Connected);
        let (what, why) = if !listeners.is_empty() {
            if port.kind == Kind::HealthCheckNodePort {
                continue;
            }
            let who = who(&listeners);
            let why = "what arrives at the node for this port goes to the Service instead";
            (What::Listener, format!("{who}; {why}"))
        } else if !connections.is_empty() && taken.contains(u128::from(port.port)) {
            (What::Connection, format!("{} now", who(&connections)))
        } else {
            continue;
        };
        collisions.push(Collision {
            what,
            ports: port.port.to_string(),
            protocols: vec![protocol.as_str()],
            of: format!("Service {}", port.service),
            why,
            at: port.port,
        });
    }
    collisions
}

fn pool_ephemeral(of: &str, stock: &RangeSet, taken: &RangeSet) -> Option<Collision> {
    let common = common(stock, taken);
    let &(first, _) = common.ranges().first()?;
    Some(Collision {
        what: What::Ephemeral,
        ports: write(&common),
        protocols: Vec::new(),
        of: of.to_owned(),
        why: "outgoing connections of the node may take them before or after a Service gets them"
            .to_owned(),
        at: u16::try_from(first).unwrap_or(u16::MAX),
    })
}

/// Listeners on ports that the pool may hand out. Ports that the node takes by itself are left out:
/// who has one now is gone soon, and the range is a collision already.
fn pool_listeners(
    of: &str,
    stock: &RangeSet,
    node: &Node,
    held: &BTreeSet<u16>,
    taken: &RangeSet,
) -> Vec<Collision> {
    let mut found: BTreeMap<(u16, Protocol), Vec<&Socket>> = BTreeMap::new();
    for socket in &node.sockets {
        let port = u128::from(socket.port);
        let listens = socket.state == SocketState::Listening;
        if listens && stock.contains(port) && !taken.contains(port) && !held.contains(&socket.port)
        {
            let key = (socket.port, socket.protocol);
            found.entry(key).or_default().push(socket);
        }
    }
    let found = found.into_iter();
    found
        .map(|((port, protocol), sockets)| Collision {
            what: What::Listener,
            ports: port.to_string(),
            protocols: vec![protocol.as_str()],
            of: of.to_owned(),
            why: format!("{}; the pool may give the port to a Service", who(&sockets)),
            at: port,
        })
        .collect()
}

/// `nginx (pid 4711) listens on 0.0.0.0:30080`; several joined.
fn who(sockets: &[&Socket]) -> String {
    let mut whos: Vec<String> = Vec::new();
    for socket in sockets {
        let process = socket.process.as_deref().unwrap_or("a process");
        let does = match socket.state {
            SocketState::Listening => "listens on",
            SocketState::Connected => "has a connection from",
        };
        let who = format!("{process} {does} {}", socket.address);
        if !whos.contains(&who) {
            whos.push(who);
        }
    }
    whos.join(", ")
}

/// What both sets have.
fn common(one: &RangeSet, other: &RangeSet) -> RangeSet {
    one.subtract(&one.subtract(other))
}

/// As sysctl has it; adjacent ranges are joined.
fn write(set: &RangeSet) -> String {
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for &(first, last) in set.ranges() {
        match joined.last_mut() {
            Some(before) if before.1.saturating_add(1) == first => before.1 = last,
            Some(_) | None => joined.push((first, last)),
        }
    }
    let texts: Vec<String> = (joined.iter())
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}
