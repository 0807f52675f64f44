//! Which numbers a Service gets while it is created or changed, and which it may not have. Pure;
//! what is chosen here is kept for it by the engine before the API server is answered.
//!
//! Only what a request brings anew is judged. What a Service had before, against a policy or not, is
//! the reconciler's (`renumber`): nobody is kept from changing a label because of an old nodePort.

use std::{collections::BTreeSet, net::IpAddr};

use allocator::{Binding, Missing, Request};
use model::{Family, Number, Reason, Use};

use super::{
    Rejection, Snapshot, Wanted,
    own::{choose, conflict, salt, with_suggestion},
    pool_contains,
    renumber::pools,
    request,
};
use crate::core::{
    admit::{self, Answer},
    numbers::{self, NumbersFound},
    record::{FamilyPolicy, ServicePort, ServiceRecord, ServiceType},
};

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;

/// What is answered, and what has to be kept for the Service before that.
#[derive(Clone, PartialEq, Debug)]
pub struct Admission {
    /// Numbers that the Service is going to show.
    pub reserve: Vec<Number>,
    /// The answer once they are kept.
    pub answer: Answer,
    /// The number that it does not get because it is somebody else's.
    pub doubtful: Option<Number>,
}

impl Admission {
    fn refused(rejection: Rejection, doubtful: Option<Number>) -> Self {
        Self {
            doubtful,
            reserve: Vec::new(),
            answer: Answer::Deny {
                reason: rejection.reason,
                message: rejection.message,
            },
        }
    }

    fn unchanged(warnings: Vec<String>) -> Self {
        Self {
            reserve: Vec::new(),
            answer: Answer::Allow {
                patch: Vec::new(),
                warnings,
                unreserve: Vec::new(),
            },
            doubtful: None,
        }
    }
}

/// Judges a Service that is about to be stored; `old` is what is stored now.
pub fn admit(snapshot: &Snapshot<'_>, old: Option<&ServiceRecord>) -> Admission {
    let record = snapshot.record;
    if record.deleting || record.service_type == ServiceType::ExternalName {
        return Admission::unchanged(Vec::new());
    }
    let mut desk = Desk {
        snapshot,
        old,
        taken: shown(record).collect(),
        found: NumbersFound::default(),
        reserve: Vec::new(),
        unreserve: Vec::new(),
        warnings: Vec::new(),
        doubtful: None,
    };
    if let Err(rejection) = &record.request
        && old.is_none_or(|old| old.request != record.request)
    {
        // Its condition says so afterwards, too.
        desk.warnings.push(rejection.message.clone());
    }
    let judged = desk
        .judge_ports()
        .and_then(|()| desk.judge_cluster_ips())
        .and_then(|()| desk.give_ports())
        .and_then(|()| desk.give_health_check_port())
        .and_then(|()| desk.give_cluster_ips());
    match judged {
        Ok(()) => Admission {
            reserve: desk.reserve,
            answer: Answer::Allow {
                patch: numbers::spec_changes(record, &desk.found),
                warnings: desk.warnings,
                unreserve: desk.unreserve,
            },
            doubtful: desk.doubtful,
        },
        Err(rejection) => Admission::refused(rejection, desk.doubtful),
    }
}

/// Every port of nodes that the object has. An ExternalName has none, whatever it shows: nobody has
/// judged that.
fn shown(record: &ServiceRecord) -> impl Iterator<Item = Number> {
    let has_any = record.service_type != ServiceType::ExternalName;
    let ports = record.ports.iter().map(|port| port.node_port);
    let all = ports.chain([record.health_check_node_port]);
    all.filter(move |port| has_any && *port != 0)
        .map(Number::port)
}

/// What a Service that has addresses becomes, with what the API server takes over from the old object;
/// `None` unless it gets a second address. That is all that may change: a first one never does, and what
/// would change it Kubernetes refuses better itself (kubernetes.md 1.5, 2.5).
fn upgrade(record: &ServiceRecord, old: &ServiceRecord) -> Option<ServiceRecord> {
    let [primary] = old.cluster_ips.as_slice() else {
        return None;
    };
    let mut after = record.clone();
    after.family_policy = record.family_policy.or(old.family_policy);
    if after.cluster_ips.is_empty() {
        after.cluster_ips.push(*primary);
    }
    // A cluster that becomes dual-stack makes no Service so that preferred it before.
    let same = record.family_policy == Some(FamilyPolicy::PreferDualStack)
        && old.family_policy == record.family_policy
        && old.service_type == record.service_type
        && old.cluster_ips == after.cluster_ips
        && old.families == record.families;
    (!same && after.cluster_ips == [*primary]).then_some(after)
}

struct Desk<'a> {
    snapshot: &'a Snapshot<'a>,
    old: Option<&'a ServiceRecord>,
    /// Ports of nodes that it shows or gets.
    taken: BTreeSet<Number>,
    found: NumbersFound,
    reserve: Vec<Number>,
    unreserve: Vec<IpAddr>,
    warnings: Vec<String>,
    doubtful: Option<Number>,
}

impl<'a> Desk<'a> {
    fn record(&self) -> &'a ServiceRecord {
        self.snapshot.record
    }

    /// Whether some pool does not let the Service have such numbers from elsewhere.
    fn enforced(&self, usage: Use) -> bool {
        let request = Request {
            pool: None,
            ..request(self.snapshot, usage)
        };
        self.snapshot.allocator.binding(&request) != Binding::Free
    }

    /// No number: the API server's own pick will do, unless a pool enforces.
    fn without(&mut self, usage: Use, asked: bool, missing: Missing) -> Result<(), Rejection> {
        if self.enforced(usage) {
            return Err(Rejection {
                reason: missing.reason,
                message: missing.message,
            });
        }
        // Who has asked for nothing need not hear of pools that are not for it.
        let of_no_concern = matches!(
            missing.reason,
            Reason::NoPool | Reason::PoolNotAdmitted | Reason::FamilyUnavailable
        );
        if asked || !of_no_concern {
            self.warnings.push(missing.message);
        }
        Ok(())
    }

    /// Whether its request can be read. One that cannot be has nothing new where a pool enforces, and
    /// elsewhere what the API server makes of it.
    fn is_readable(&self, usage: Use) -> Result<bool, Rejection> {
        match &self.record().request {
            Ok(_) => Ok(true),
            Err(rejection) if self.enforced(usage) => Err(rejection.clone()),
            Err(_) => Ok(false),
        }
    }

    fn judge_ports(&mut self) -> Result<(), Rejection> {
        let record = self.record();
        let before: BTreeSet<Number> = self.old.into_iter().flat_map(shown).collect();
        let mut judged = BTreeSet::new();
        for port in record.ports.iter().filter(|port| port.node_port != 0) {
            let number = Number::port(port.node_port);
            if !before.contains(&number) && judged.insert(number) {
                let field = format!("spec.ports[{}].nodePort", port.port);
                self.judge(number, Use::NodePort, &field)?;
            }
        }
        let health = Number::port(record.health_check_node_port);
        if record.health_check_node_port != 0 && !before.contains(&health) {
            self.judge(health, Use::HealthCheckNodePort, "spec.healthCheckNodePort")?;
        }
        Ok(())
    }

    fn judge_cluster_ips(&mut self) -> Result<(), Rejection> {
        let old = self.old.map_or(&[][..], |old| &old.cluster_ips);
        for address in &self.record().cluster_ips {
            if !old.contains(address) {
                let number = Number::from(*address);
                self.judge(number, Use::ClusterIp, "spec.clusterIPs")?;
                if pool_contains(self.snapshot.allocator, number, Use::ClusterIp) {
                    self.unreserve.push(*address);
                }
            }
        }
        Ok(())
    }

    /// A number that the request brings: allowed, and nobody else's.
    fn judge(&mut self, number: Number, usage: Use, field: &str) -> Result<(), Rejection> {
        if !self.is_readable(usage)? {
            return Ok(());
        }
        let snapshot = self.snapshot;
        let binding = snapshot.allocator.binding(&request(snapshot, usage));
        let (reason, message) = if !snapshot.allocator.permits(&binding, number) {
            // The annotation is the tenant's; a pool that enforces is the owner's.
            if self.keeps() && !self.enforced(usage) {
                return Ok(());
            }
            let reason = match usage {
                Use::NodePort | Use::HealthCheckNodePort => Reason::NodePortOutsidePolicy,
                Use::ClusterIp | Use::LoadBalancer => Reason::AddressNotInPool,
            };
            let pools = pools(&binding);
            let cure = "; set a number of it or leave the field empty";
            (
                reason,
                format!("{field} {number} lies outside {pools}{cure}"),
            )
        } else if let Some(why) = self.somebody_elses(number, field) {
            self.doubtful = Some(number);
            (Reason::AddressInUse, why)
        } else {
            if self.is_to_be_kept(number, usage) {
                self.reserve.push(number);
            }
            return Ok(());
        };
        let missing = Missing {
            family: number.space.family(),
            reason,
            message,
            waits_for: Vec::new(),
        };
        let told = match usage {
            Use::NodePort | Use::HealthCheckNodePort => {
                with_suggestion(snapshot, usage, &self.taken, missing)
            }
            Use::ClusterIp | Use::LoadBalancer => self.with_free_address(missing),
        };
        Err(Rejection {
            reason: told.reason,
            message: told.message,
        })
    }

    /// Whether the ledger is to keep a number that the request shows: a pool has it, its block can be
    /// read, and it is not kept already since the first time that the same request was judged.
    fn is_to_be_kept(&self, number: Number, usage: Use) -> bool {
        let (allocator, key) = (self.snapshot.allocator, &self.record().key);
        let kept = allocator.retained(number);
        let again = kept.is_some_and(|(owner, until)| until > self.snapshot.now && owner != key);
        pool_contains(allocator, number, usage)
            && self.snapshot.ledger.damage(number).is_none()
            && !again
    }

    fn somebody_elses(&self, number: Number, field: &str) -> Option<String> {
        let (snapshot, key) = (self.snapshot, &self.record().key);
        let allocator = snapshot.allocator;
        let kept = snapshot.ledger.retained(number);
        if kept.is_some_and(|(owner, until)| until > snapshot.now && admit::is_kept_for(owner, key))
        {
            // Of what the watch has told of others not all is true any more.
            return None;
        }
        let holders = allocator.holders(number);
        // One of its own name is itself, before or after it was deleted and made again.
        if let Some(other) = holders.iter().find(|holder| holder.service != *key) {
            return Some(conflict(number, field, other).message);
        }
        if let Some(port) = number.as_port()
            && let Some(other) = snapshot.shown_ports.other(port, key)
        {
            return Some(format!(
                "{field} {number} is Service {other}'s; set another number"
            ));
        }
        let (owner, until) = allocator.retained(number)?;
        let theirs = until > snapshot.now && !admit::is_kept_for(owner, key);
        theirs.then(|| {
            format!(
                "{field} {number} is kept for {}; set another number",
                admit::name(owner)
            )
        })
    }

    fn with_free_address(&self, mut missing: Missing) -> Missing {
        if let Some(family) = missing.family
            && let Ok(free) = self.address(family)
        {
            missing.message.push_str(&format!("; {free} is free"));
        }
        missing
    }

    /// Whether the API server gave this Service ports of nodes before.
    fn needed_before(&self) -> bool {
        self.old.is_some_and(ServiceRecord::needs_node_ports)
    }

    /// The nodePort that the API server takes over from the old object, by the port's name.
    fn inherited(&self, port: &ServicePort) -> Option<Number> {
        let old = self.old.filter(|_| self.needed_before())?;
        let mut ports = old.ports.iter();
        let before = ports.find(|other| other.name == port.name && other.node_port != 0)?;
        let number = Number::port(before.node_port);
        let mut now = self.record().ports.iter();
        now.all(|other| other.node_port != before.node_port)
            .then_some(number)
    }

    fn give_ports(&mut self) -> Result<(), Rejection> {
        let (snapshot, record) = (self.snapshot, self.record());
        if !snapshot.node_port_policy || !record.needs_node_ports() || self.keeps() {
            return Ok(());
        }
        let inherits = |place: &usize| {
            let port = record.ports.get(*place)?;
            self.inherited(port)
        };
        let mut needs = numbers::node_ports(record);
        let mut inherited = BTreeSet::new();
        for need in &mut needs {
            need.indices.retain(|place| match inherits(place) {
                Some(number) => {
                    inherited.insert(number);
                    false
                }
                None => true,
            });
        }
        self.taken.extend(inherited);
        for need in needs.into_iter().filter(|need| !need.indices.is_empty()) {
            let explicit = need.explicit.map(Number::port);
            let number = match explicit {
                // A sibling of the same port has it already.
                Some(number) if self.taken.contains(&number) => number,
                _ => {
                    let salt = salt(record, &need.indices);
                    match self.pick(Use::NodePort, explicit, &salt)? {
                        Some(number) => number,
                        None => continue,
                    }
                }
            };
            if let Some(port) = number.as_port() {
                let places = need.indices.iter().map(|place| (*place, port));
                self.found.node_ports.extend(places);
            }
        }
        Ok(())
    }

    fn give_health_check_port(&mut self) -> Result<(), Rejection> {
        let record = self.record();
        let has = |record: &ServiceRecord| record.needs_health_check_port();
        let lacks = has(record) && record.health_check_node_port == 0 && !self.old.is_some_and(has);
        if !lacks || !self.snapshot.node_port_policy || self.keeps() {
            return Ok(());
        }
        if let Some(number) = self.pick(Use::HealthCheckNodePort, None, "healthCheckNodePort")? {
            self.found.health_check_node_port = number.as_port();
        }
        Ok(())
    }

    fn keeps(&self) -> bool {
        let request = self.record().request.as_ref();
        request.is_ok_and(|request| request.keep_node_ports)
    }

    fn pick(
        &mut self,
        usage: Use,
        explicit: Option<Number>,
        salt: &str,
    ) -> Result<Option<Number>, Rejection> {
        if !self.is_readable(usage)? {
            return Ok(None);
        }
        match choose(self.snapshot, usage, explicit, &self.taken, salt) {
            Ok(Wanted { number, .. }) => {
                self.taken.insert(number);
                self.reserve.push(number);
                Ok(Some(number))
            }
            Err(missing) => {
                self.doubtful = explicit.filter(|_| missing.reason == Reason::AddressInUse);
                let asked = explicit.is_some() || request(self.snapshot, usage).pool.is_some();
                self.without(usage, asked, missing).map(|()| None)
            }
        }
    }

    fn give_cluster_ips(&mut self) -> Result<(), Rejection> {
        let (snapshot, record) = (self.snapshot, self.record());
        if record.headless || snapshot.cluster_families.is_empty() {
            return Ok(());
        }
        let upgraded;
        let stored = self
            .old
            .filter(|old| old.service_type != ServiceType::ExternalName);
        let record = match stored {
            None => record,
            Some(old) => match upgrade(record, old) {
                Some(record) => {
                    upgraded = record;
                    &upgraded
                }
                None => return Ok(()),
            },
        };
        // What Kubernetes refuses it says better itself.
        let Ok(plan) = numbers::families(record, snapshot.cluster_families) else {
            return Ok(());
        };
        let mut complete: Vec<IpAddr> = Vec::new();
        for family in &plan.families {
            let mut shown = record.cluster_ips.iter().copied();
            if let Some(address) = shown.find(|ip| Family::of(*ip) == *family) {
                complete.push(address);
                continue;
            }
            if !self.is_readable(Use::ClusterIp)? {
                break;
            }
            match self.address(*family) {
                Ok(address) => {
                    complete.push(address);
                    self.reserve.push(Number::from(address));
                    self.unreserve.push(address);
                }
                Err(missing) => {
                    // The API server gives this one and, as the primary comes first, all after it.
                    let mut others = plan.families.iter().filter(|other| *other != family);
                    let could_be_other =
                        complete.is_empty() && others.any(|other| self.address(*other).is_ok());
                    self.without(Use::ClusterIp, could_be_other, missing)?;
                    break;
                }
            }
        }
        if complete.len() > record.cluster_ips.len() {
            self.found.cluster_ips = complete;
        }
        Ok(())
    }

    /// A clusterIP that a pool gives it, and that no other Service shows, claimed or not.
    fn address(&self, family: Family) -> Result<IpAddr, Missing> {
        let none = || Missing {
            family: Some(family),
            reason: Reason::NoPool,
            message: format!("no pool gives a clusterIP of family {}", family.as_str()),
            waits_for: Vec::new(),
        };
        let verdict = self.snapshot.allocator.decide(
            &Request {
                families: &[family],
                pass_over: Some(self.snapshot.shown_addresses),
                ..request(self.snapshot, Use::ClusterIp)
            },
            self.snapshot.now,
        );
        let grant = verdict.grants.into_iter().next();
        match grant.and_then(|grant| grant.number.address()) {
            Some(address) => Ok(address),
            None => Err(verdict.missing.into_iter().next().unwrap_or_else(none)),
        }
    }
}
