//! What ledger, Services and IPAddress objects disagree about. Kubernetes' own repair reports two
//! Services on one number and leaves it at that; this says the same of what Portolan's pools cover,
//! and of claims that nobody has any longer. It compares and says; what is mended is mended by the
//! engine, under its own proof, and what stays is told only by a second look.

use std::{collections::BTreeMap, net::IpAddr};

use allocator::block::Holder;
use model::{Number, Reason, ServiceKey, Uid};
use serde::{Serialize, Serializer};

use super::holdings::{self, Filter, Given, Group, Said, ledgers};

#[cfg(test)]
mod tests;

/// Everything that can be found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// The ledger has the number for a Service that does not exist. It is released.
    LeakedClaim,
    /// The ledger has the number for another Service, which does not show it.
    ClaimOfAnother,
    /// Two Services have one nodePort. The younger gets another where a NodePortPool is.
    DuplicateNodePort,
    /// The same of a port for health checks. Kubernetes does not let it be changed.
    DuplicateHealthCheckNodePort,
    /// Two Services have one cluster IP. Kubernetes does not let it be changed.
    DuplicateClusterIp,
    /// No IPAddress object stands for a cluster IP. Kubernetes makes one.
    ClusterIpNotRecorded,
    /// The IPAddress object names somebody else. Kubernetes makes it anew.
    ClusterIpOfAnother,
    /// An AllocationBlock cannot be read.
    UnreadableBlock,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LeakedClaim,
        Self::ClaimOfAnother,
        Self::DuplicateNodePort,
        Self::DuplicateHealthCheckNodePort,
        Self::DuplicateClusterIp,
        Self::ClusterIpNotRecorded,
        Self::ClusterIpOfAnother,
        Self::UnreadableBlock,
    ];

    /// The word for it, in Events, metrics and on the command line.
    pub const fn reason(self) -> Reason {
        match self {
            Self::LeakedClaim => Reason::LeakedClaim,
            Self::ClaimOfAnother => Reason::NumberConflict,
            Self::DuplicateNodePort => Reason::DuplicateNodePort,
            Self::DuplicateHealthCheckNodePort => Reason::DuplicateHealthCheckNodePort,
            Self::DuplicateClusterIp => Reason::DuplicateClusterIP,
            Self::ClusterIpNotRecorded => Reason::ClusterIPNotRecorded,
            Self::ClusterIpOfAnother => Reason::ClusterIPOfAnother,
            Self::UnreadableBlock => Reason::LedgerDamaged,
        }
    }

    /// Whether it is told to the Service when it stays: a leaked claim is told when it is released,
    /// and what a block says is told of each Service that needs it.
    pub const fn is_told(self) -> bool {
        match self {
            Self::LeakedClaim | Self::UnreadableBlock => false,
            Self::ClaimOfAnother
            | Self::DuplicateNodePort
            | Self::DuplicateHealthCheckNodePort
            | Self::DuplicateClusterIp
            | Self::ClusterIpNotRecorded
            | Self::ClusterIpOfAnother => true,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.reason().as_str())
    }
}

/// One disagreement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The number, or the block's name.
    pub number: String,
    /// Of whose Service, if it is about one.
    pub namespace: Option<String>,
    /// Likewise.
    pub service: Option<String>,
    /// What is wrong and what to do.
    pub note: String,
    #[serde(skip)]
    at: Option<Number>,
    #[serde(skip)]
    group: Option<Group>,
    #[serde(skip)]
    uid: Option<Uid>,
}

/// The same finding at two looks, whatever else is said of it.
pub type FindingId = (Kind, String, Option<Uid>);

impl Finding {
    fn new(kind: Kind, said: &Said<'_>, group: Group, key: &ServiceKey, uid: &Uid) -> Self {
        Self {
            kind,
            number: said.number.to_string(),
            namespace: Some(key.namespace.to_string()),
            service: Some(key.name.to_string()),
            note: String::new(),
            at: Some(said.number),
            group: Some(group),
            uid: Some(uid.clone()),
        }
    }

    fn noting(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// By what it is known again.
    pub fn id(&self) -> FindingId {
        (self.kind, self.number.clone(), self.uid.clone())
    }

    /// Which Service, if it is about one.
    pub fn whose(&self) -> Option<(ServiceKey, Uid)> {
        let key = ServiceKey::new(self.namespace.as_deref()?, self.service.as_deref()?);
        Some((key, self.uid.clone()?))
    }

    /// What kind of number it is about; none for a block.
    pub const fn group(&self) -> Option<Group> {
        self.group
    }

    /// Whether it is asked for.
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        filter.number.is_none_or(|number| self.at == Some(number))
            && (filter.group).is_none_or(|group| self.group == Some(group))
            && (filter.namespace.is_none() || filter.namespace == self.namespace)
    }
}

/// What an IPAddress object is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parent {
    /// API group; empty for a Service.
    pub group: String,
    /// `services` as a rule.
    pub resource: String,
    /// Empty where the resource has none.
    pub namespace: String,
    /// Whose.
    pub name: String,
}

impl Parent {
    fn is(&self, key: &ServiceKey) -> bool {
        self.group.is_empty()
            && self.resource == "services"
            && *self.namespace == *key.namespace
            && *self.name == *key.name
    }
}

impl std::fmt::Display for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = [&self.resource, &self.namespace, &self.name];
        let parts: Vec<&str> = (path.into_iter().map(String::as_str))
            .filter(|part| !part.is_empty())
            .collect();
        f.write_str(&parts.join("/"))
    }
}

/// The IPAddress objects of the cluster; of one without a parent that can be read, none.
pub type Recorded = BTreeMap<IpAddr, Option<Parent>>;

/// Everything that does not agree, in an order of its own.
pub fn compare(given: &Given) -> Vec<Finding> {
    let alive = given.alive();
    let mut findings: Vec<Finding> = Vec::new();
    for said in Said::all(given).values() {
        for (owner, shown) in said.shown.iter().copied() {
            let group = shown.kind.group();
            let finding = |kind| Finding::new(kind, said, group, &owner.key, &owner.uid);
            let rivals = said.rivals(owner, shown);
            let elder = rivals.min_by_key(|(other, _)| (other.created, &other.key));
            if let Some((elder, _)) = elder {
                // Of the others each is told, of the oldest all are told.
                if (elder.created, &elder.key) < (owner.created, &owner.key) {
                    findings
                        .extend(double(shown.kind).map(|kind| {
                            finding(kind).noting(twice(kind, said.number, &elder.key))
                        }));
                }
                continue;
            }
            let mine = |holder: &Holder| {
                holder.uid == owner.uid && holdings::Kind::of(holder.usage).group() == group
            };
            if group != Group::External && !said.holders().iter().any(mine) {
                let theirs = ledgers(said, owner, shown);
                let theirs = theirs.iter().filter(|key| **key != owner.key);
                let living = theirs.filter(|key| alive.values().any(|known| *known == *key));
                findings.extend(living.take(1).map(|key| {
                    finding(Kind::ClaimOfAnother).noting(format!(
                        "{} is claimed for Service {key}, which does not show it: give one of the two another number",
                        said.number
                    ))
                }));
            }
            if let (holdings::Kind::ClusterIp, Some(recorded), Some(ip)) =
                (shown.kind, &given.recorded, said.number.address())
            {
                findings.extend(match recorded.get(&ip) {
                    None => Some(finding(Kind::ClusterIpNotRecorded).noting(format!(
                        "there is no IPAddress {ip}, so that Kubernetes may give it to another Service: kube-apiserver makes one within minutes; see its log"
                    ))),
                    Some(Some(parent)) if parent.is(&owner.key) => None,
                    Some(parent) => {
                        let parent = parent.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
                        Some(finding(Kind::ClusterIpOfAnother).noting(format!(
                            "IPAddress {ip} is that of {parent}: kube-apiserver corrects it within minutes; see its log, or delete that IPAddress"
                        )))
                    }
                });
            }
        }
        for holder in said.holders() {
            if !alive.contains_key(&holder.uid) {
                let group = holdings::Kind::of(holder.usage).group();
                findings.push(
                    Finding::new(Kind::LeakedClaim, said, group, &holder.service, &holder.uid)
                        .noting("there is no such Service any longer: the controller releases it after a grace; see whether it runs".to_owned()),
                );
            }
        }
    }
    findings.extend(given.damaged.iter().map(|(id, why)| Finding {
        kind: Kind::UnreadableBlock,
        number: id.name(),
        namespace: None,
        service: None,
        note: why.message.clone(),
        at: None,
        group: None,
        uid: None,
    }));
    findings.sort();
    findings
}

/// What it is that two have one number of this kind.
const fn double(kind: holdings::Kind) -> Option<Kind> {
    match kind {
        holdings::Kind::NodePort => Some(Kind::DuplicateNodePort),
        holdings::Kind::HealthCheckNodePort => Some(Kind::DuplicateHealthCheckNodePort),
        holdings::Kind::ClusterIp => Some(Kind::DuplicateClusterIp),
        holdings::Kind::LoadBalancer | holdings::Kind::ExternalIp => None,
    }
}

fn twice(kind: Kind, number: Number, elder: &ServiceKey) -> String {
    let cure = match kind {
        Kind::DuplicateHealthCheckNodePort => {
            "create this Service anew, as Kubernetes does not let a healthCheckNodePort be changed"
        }
        Kind::DuplicateClusterIp => {
            "create this Service anew, as Kubernetes does not let a clusterIP be changed"
        }
        Kind::DuplicateNodePort
        | Kind::LeakedClaim
        | Kind::ClaimOfAnother
        | Kind::ClusterIpNotRecorded
        | Kind::ClusterIpOfAnother
        | Kind::UnreadableBlock => {
            "set another spec.ports[].nodePort, which Portolan does by itself where a NodePortPool has one and portolan.dev/keep-node-ports does not forbid it"
        }
    };
    format!("{number} is that of Service {elder} too, which is older: {cure}")
}
