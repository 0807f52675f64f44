//! `portolan numbers`: who has which number. What Services show is laid beside what the ledger says
//! and what pools contain; where they disagree the row says so and what to do. It only reads, and it
//! never takes a number's being missing from one place for a proof that it is free.

use std::collections::BTreeSet;

use model::{Number, Port, Protocol, ServiceKey, Uid, Use};
use serde::Serialize;

use super::repair::Finding;

mod fill;
mod free;
mod given;
mod state;
#[cfg(test)]
mod tests;
mod text;

pub use fill::{Fill, PoolCondition};
pub use free::{Free, Suggestion};
pub use given::Given;
pub(super) use state::{Said, ledgers};
pub(in crate::core) use text::table;

/// What a Service has a number for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum Kind {
    /// `spec.ports[].nodePort`.
    NodePort,
    /// `spec.healthCheckNodePort`.
    HealthCheckNodePort,
    /// `spec.clusterIPs[]`.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.externalIPs[]`, which Kubernetes hands to nobody: whoever writes it has it.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
}

impl Kind {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodePort => "NodePort",
            Self::HealthCheckNodePort => "HealthCheckNodePort",
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
        }
    }

    pub(super) const fn of(usage: Use) -> Self {
        match usage {
            Use::NodePort => Self::NodePort,
            Use::HealthCheckNodePort => Self::HealthCheckNodePort,
            Use::ClusterIp => Self::ClusterIp,
            Use::LoadBalancer => Self::LoadBalancer,
        }
    }

    /// What a pool would give it for.
    const fn usage(self) -> Use {
        match self {
            Self::NodePort => Use::NodePort,
            Self::HealthCheckNodePort => Use::HealthCheckNodePort,
            Self::ClusterIp => Use::ClusterIp,
            Self::LoadBalancer | Self::ExternalIp => Use::LoadBalancer,
        }
    }

    pub(super) const fn group(self) -> Group {
        match self {
            Self::NodePort | Self::HealthCheckNodePort => Group::NodePort,
            Self::ClusterIp => Group::ClusterIp,
            Self::LoadBalancer | Self::ExternalIp => Group::External,
        }
    }
}

/// What is asked for with `--kind` and `--free`. Two Services collide only within one group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    /// Ports of nodes, those for health checks among them.
    NodePort,
    /// Cluster IPs.
    ClusterIp,
    /// Addresses of load balancers and `spec.externalIPs`.
    External,
}

impl Group {
    /// What its pools give.
    const fn usage(self) -> Use {
        match self {
            Self::NodePort => Use::NodePort,
            Self::ClusterIp => Use::ClusterIp,
            Self::External => Use::LoadBalancer,
        }
    }
}

/// How Service, ledger and pools agree about a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum State {
    /// The Service has it and the ledger says so.
    Held,
    /// The Service has it, no pool contains it and the ledger does not know it: the API server's or
    /// somebody else's to give.
    Unmanaged,
    /// Nobody has it; it is kept for its former owner.
    Retained,
    /// The ledger has it for a Service that does not show it.
    Pending,
    /// The Service has it and a pool contains it, but the ledger does not know that.
    Unclaimed,
    /// The ledger has it for a Service that does not exist.
    Orphaned,
    /// Another Service has it too, or the ledger has it for another one.
    Conflict,
}

impl State {
    /// The word for tables, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::Unmanaged => "Unmanaged",
            Self::Retained => "Retained",
            Self::Pending => "Pending",
            Self::Unclaimed => "Unclaimed",
            Self::Orphaned => "Orphaned",
            Self::Conflict => "Conflict",
        }
    }

    /// Whether ledger and Services disagree.
    pub const fn is_disagreement(self) -> bool {
        match self {
            Self::Held | Self::Unmanaged | Self::Retained => false,
            Self::Pending | Self::Unclaimed | Self::Orphaned | Self::Conflict => true,
        }
    }
}

/// One number and one that has it, or that it is kept for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holding {
    /// An address or a port.
    pub number: String,
    /// What for; of a retained number what its pool gives.
    pub kind: Kind,
    /// Of a port: those that the Service uses it for; empty when the Service does not show it.
    pub protocols: Vec<&'static str>,
    /// Of a nodePort: the Service's own ports behind it, as `TCP/80`.
    pub ports: Vec<String>,
    /// How ledger, Service and pools agree.
    pub state: State,
    /// Whose.
    pub namespace: String,
    /// Whose.
    pub service: String,
    /// The pool that contains it.
    pub pool: Option<String>,
    /// When what is retained becomes free for others (RFC 3339).
    pub until: Option<String>,
    /// With whom it is shared, or what is wrong and what to do.
    pub note: Option<String>,
    #[serde(skip)]
    at: Number,
}

/// Everything that is printed.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was asked of one number that nobody has.
    pub answer: Option<String>,
    /// Ports before addresses, by number.
    pub numbers: Vec<Holding>,
    /// What repair finds, whether or not it can mend it.
    pub findings: Vec<Finding>,
    /// By kind and name.
    pub pools: Vec<Fill>,
    /// What could not be read, so that something may be missing above.
    pub warnings: Vec<String>,
}

/// What of the report is wanted; what is not given is not looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// This number only.
    pub number: Option<Number>,
    /// Services of this namespace only, and what is kept for them.
    pub namespace: Option<String>,
    /// These only.
    pub group: Option<Group>,
}

/// A number that a Service shows.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shown {
    pub(super) number: Number,
    pub(super) kind: Kind,
    protocols: BTreeSet<Protocol>,
    ports: BTreeSet<Port>,
}

/// A Service, reduced to its numbers.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Owner {
    pub(super) key: ServiceKey,
    pub(super) uid: Uid,
    pub(super) created: i64,
    shown: Vec<Shown>,
}

/// A nodePort that a Service has; see [`Given::node_ports`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodePort {
    /// The port of nodes.
    pub port: u16,
    /// NodePort or HealthCheckNodePort.
    pub kind: Kind,
    /// For which protocols.
    pub protocols: BTreeSet<Protocol>,
    /// Whose.
    pub service: ServiceKey,
}
