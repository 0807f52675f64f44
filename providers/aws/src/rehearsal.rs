//! What the account looks like after a step: so that `portolan plan` can tell what comes after a
//! wait, and tests can stop after any step. Pure; it knows of AWS what DIFF relies on.
//!
//! Refused here is what AWS refuses: a second load balancer, target group or listener of a name or
//! port in use, the deletion of a target group that a listener uses, a target group behind two load
//! balancers, the loss of a default certificate.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    diff::{Situation, diff},
    plan::{Action, Forward, Plan, Ref, Wait},
    seen::{self, Health, Seen},
    wanted::{self, Listener, Tags, Target},
};

#[cfg(test)]
mod tests;

/// So many plans at most until nothing is left to do: creation, weights, hand-over, grace, drain.
const LONGEST: usize = 200;

/// The plans one after the other, each made from what the one before leaves and its waits bring.
///
/// # Errors
/// What AWS would refuse, or that no end is reached.
pub fn rehearse(situation: Situation<'_>) -> Result<Vec<Plan>, String> {
    let mut account = Account::new(situation.seen.clone());
    let mut shown = situation.shown.map(str::to_owned);
    let mut now = situation.now;
    let mut plans = Vec::new();
    for _ in 0..LONGEST {
        let plan = diff(Situation {
            seen: &account.seen,
            shown: shown.as_deref(),
            now,
            ..situation
        });
        if plan.steps.is_empty() {
            return Ok(plans);
        }
        account.carry_out(&plan)?;
        for until in plan.waits() {
            account.wait(until);
            if matches!(until, Wait::Forgotten { .. }) {
                now += crate::diff::DNS_GRACE;
            }
        }
        if let Some(name) = plan.show.as_ref().and_then(|show| account.dns_name(show)) {
            shown = Some(name);
        }
        plans.push(plan);
    }
    Err(format!("no end after {LONGEST} plans"))
}

/// An account with one stack in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// What is there.
    pub seen: Seen,
    /// What was made, by what the plan calls it: valid for the plan at hand.
    made: BTreeMap<String, String>,
    next: u32,
}

impl Account {
    /// An account that looks like this.
    pub fn new(seen: Seen) -> Self {
        Self {
            seen,
            made: BTreeMap::new(),
            next: 0,
        }
    }

    /// The name by which clients find it.
    pub fn dns_name(&self, at: &Ref) -> Option<String> {
        let arn = self.resolve(at);
        let mut all = self.seen.load_balancers.iter().chain(&self.seen.foreign);
        let there = all.find(|there| there.arn == arn)?;
        Some(there.dns_name.clone())
    }

    /// Does all of it.
    ///
    /// # Errors
    /// What AWS would refuse.
    pub fn carry_out(&mut self, plan: &Plan) -> Result<(), String> {
        self.made.clear();
        plan.steps
            .iter()
            .try_for_each(|step| self.step(&step.action))
    }

    /// What a wait waits for has come.
    pub fn wait(&mut self, until: &Wait) {
        match until {
            Wait::Active { load_balancer } => {
                let arn = self.resolve(load_balancer);
                for there in &mut self.seen.load_balancers {
                    there.active |= there.arn == arn;
                }
            }
            Wait::Healthy { target_group } => {
                let arn = self.resolve(target_group);
                for health in self
                    .targets(&arn)
                    .into_iter()
                    .flat_map(BTreeMap::values_mut)
                {
                    if matches!(health, Health::Initial | Health::Unused) {
                        *health = Health::Healthy;
                    }
                }
            }
            Wait::Drained { target_group } => {
                let arn = self.resolve(target_group);
                if let Some(targets) = self.targets(&arn) {
                    targets.retain(|_, health| *health != Health::Draining);
                }
            }
            Wait::Forgotten { .. } => {}
        }
    }

    /// Time enough passes for every target that is checked to be found healthy.
    #[cfg(test)]
    fn check_health(&mut self) {
        let groups = self.seen.target_groups.iter_mut();
        for details in groups.filter_map(|group| group.details.as_mut()) {
            for health in details
                .targets
                .values_mut()
                .filter(|h| **h == Health::Initial)
            {
                *health = Health::Healthy;
            }
        }
    }

    fn resolve(&self, at: &Ref) -> String {
        match at {
            Ref::There(arn) => arn.clone(),
            Ref::Made(key) => self.made.get(key).cloned().unwrap_or_default(),
        }
    }

    fn arn(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}-{}-{}", self.next, self.seen.load_balancers.len())
    }

    fn targets(&mut self, arn: &str) -> Option<&mut BTreeMap<Target, Health>> {
        let group = self.group(arn)?;
        Some(&mut group.details.get_or_insert_default().targets)
    }

    fn group(&mut self, arn: &str) -> Option<&mut seen::TargetGroup> {
        self.seen
            .target_groups
            .iter_mut()
            .find(|there| there.arn == arn)
    }

    /// One that has listeners of ours, our own or another's.
    fn listening(&mut self, at: &Ref) -> Result<&mut seen::LoadBalancer, String> {
        let arn = self.resolve(at);
        let mut all = (self.seen.load_balancers.iter_mut()).chain(&mut self.seen.foreign);
        all.find(|there| there.arn == arn)
            .ok_or_else(|| format!("no load balancer {arn:?}"))
    }

    /// One that is ours: DIFF names no other where this is asked for.
    fn load_balancer(&mut self, at: &Ref) -> Result<&mut seen::LoadBalancer, String> {
        let arn = self.resolve(at);
        let mut all = self.seen.load_balancers.iter_mut();
        all.find(|there| there.arn == arn)
            .ok_or_else(|| format!("no load balancer {arn:?}"))
    }

    fn listener(&mut self, at: &Ref) -> Result<&mut seen::Listener, String> {
        let arn = self.resolve(at);
        let details = self
            .seen
            .load_balancers
            .iter_mut()
            .chain(&mut self.seen.foreign)
            .filter_map(|lb| lb.details.as_mut());
        let mut all = details.flat_map(|details| details.listeners.values_mut());
        all.find(|there| there.arn == arn)
            .ok_or_else(|| format!("no listener {arn:?}"))
    }

    fn rules(&mut self, at: &Ref) -> Result<&mut BTreeSet<wanted::Rule>, String> {
        let id = self.resolve(at);
        match &mut self.seen.security_group {
            Some(group) if group.id == id => Ok(&mut group.rules),
            _ => Err(format!("no security group {id:?}")),
        }
    }

    /// One step.
    ///
    /// # Errors
    /// What AWS would refuse.
    pub fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Wait { .. } => {}
            Action::CreateSecurityGroup { group, .. } => {
                if self.seen.security_group.is_some() {
                    return Err("InvalidGroup.Duplicate".to_owned());
                }
                let id = self.arn("sg");
                self.seen.security_group = Some(seen::SecurityGroup {
                    id,
                    name: group.name.clone(),
                    rules: BTreeSet::new(),
                    tags: group.tags.clone(),
                });
            }
            Action::AuthorizeSecurityGroupIngress { group, rules } => {
                let group = self.security_group_of(group);
                self.rules(&group)?.extend(rules.iter().cloned());
            }
            Action::RevokeSecurityGroupIngress { group, rules } => {
                let group = self.security_group_of(group);
                self.rules(&group)?.retain(|rule| !rules.contains(rule));
            }
            Action::DeleteSecurityGroup { group } => {
                let id = self.resolve(&self.security_group_of(group));
                let mut all = self.seen.load_balancers.iter();
                if all.any(|there| there.security_groups.contains(&id)) {
                    return Err("DependencyViolation".to_owned());
                }
                self.seen.security_group = None;
            }
            Action::CreateTargetGroup { key, target_group } => {
                self.create_target_group(key, target_group)?;
            }
            Action::ModifyTargetGroup {
                target_group,
                health_check,
            } => {
                let arn = self.resolve(target_group);
                let group = self.group(&arn).ok_or("no target group")?;
                group.health_check = health_check.clone();
            }
            Action::ModifyTargetGroupAttributes {
                target_group,
                attributes,
            } => {
                let arn = self.resolve(target_group);
                let group = self.group(&arn).ok_or("no target group")?;
                let details = group.details.get_or_insert_default();
                details.attributes.extend(attributes.clone());
            }
            Action::RegisterTargets {
                target_group,
                targets,
            } => {
                let arn = self.resolve(target_group);
                let attached = self.is_attached(&arn);
                let health = if attached {
                    Health::Initial
                } else {
                    Health::Unused
                };
                let there = self.targets(&arn).ok_or("no target group")?;
                there.extend(targets.iter().map(|target| (target.clone(), health)));
            }
            Action::DeregisterTargets {
                target_group,
                targets,
            } => {
                let arn = self.resolve(target_group);
                let attached = self.is_attached(&arn);
                let there = self.targets(&arn).ok_or("no target group")?;
                for target in targets {
                    if attached {
                        there.insert(target.clone(), Health::Draining);
                    } else {
                        there.remove(target);
                    }
                }
            }
            Action::DeleteTargetGroup { target_group } => {
                let arn = self.resolve(target_group);
                if self.is_attached(&arn) {
                    return Err(format!("ResourceInUse: {arn}"));
                }
                self.seen.target_groups.retain(|there| there.arn != arn);
            }
            Action::CreateLoadBalancer {
                stack,
                load_balancer,
                managed,
            } => {
                let managed = managed.as_ref().map(|at| self.security_group_of(at));
                self.create_load_balancer(stack, load_balancer, managed.as_ref())?;
            }
            Action::SetSubnets {
                load_balancer,
                subnets,
                ipv6_source_nat,
            } => {
                let there = self.load_balancer(load_balancer)?;
                there.subnets.clone_from(subnets);
                there.ipv6_source_nat = *ipv6_source_nat;
            }
            Action::SetSecurityGroups {
                load_balancer,
                groups,
                enforce_rules_on_private_link,
            } => {
                let ids = groups
                    .iter()
                    .map(|group| self.resolve(&self.security_group_of(group)));
                let ids: BTreeSet<String> = ids.collect();
                let there = self.load_balancer(load_balancer)?;
                there.security_groups = ids;
                if enforce_rules_on_private_link.is_some() {
                    there.enforce_rules_on_private_link = *enforce_rules_on_private_link;
                }
            }
            Action::SetIpAddressType {
                load_balancer,
                ip_address_type,
            } => {
                self.load_balancer(load_balancer)?.ip_address_type = *ip_address_type;
            }
            Action::ModifyLoadBalancerAttributes {
                load_balancer,
                attributes,
            } => {
                let there = self.load_balancer(load_balancer)?;
                let details = there.details.get_or_insert_default();
                details.attributes.extend(attributes.clone());
            }
            Action::DeleteLoadBalancer { load_balancer } => {
                let arn = self.load_balancer(load_balancer)?.arn.clone();
                self.seen.load_balancers.retain(|there| there.arn != arn);
                self.attach();
            }
            Action::CreateListener {
                load_balancer,
                port,
                listener,
                forward,
                ..
            } => {
                self.create_listener(load_balancer, *port, listener, forward)?;
            }
            Action::ModifyListener {
                arn,
                listener,
                forward,
                ..
            } => {
                let forward = self.weights(forward);
                let there = self.listener(&Ref::There(arn.clone()))?;
                set(there, listener, forward);
                self.attach();
            }
            Action::ModifyListenerAttributes {
                listener,
                attributes,
            } => {
                let there = self.listener(listener)?;
                there
                    .attributes
                    .get_or_insert_default()
                    .extend(attributes.clone());
            }
            Action::AddListenerCertificates {
                listener,
                certificates,
            } => {
                let there = self.listener(listener)?;
                if there.protocol != Some(wanted::Protocol::Tls) {
                    return Err("OperationNotPermitted: no TLS".to_owned());
                }
                there.certificates.extend(certificates.iter().cloned());
            }
            Action::RemoveListenerCertificates {
                listener,
                certificates,
            } => {
                let there = self.listener(listener)?;
                if there
                    .certificates
                    .first()
                    .is_some_and(|arn| certificates.contains(arn))
                {
                    return Err("OperationNotPermitted: the default certificate".to_owned());
                }
                there.certificates.retain(|arn| !certificates.contains(arn));
            }
            Action::DeleteListener { arn, port } => {
                let all = (self.seen.load_balancers.iter_mut()).chain(&mut self.seen.foreign);
                for there in all {
                    let details = there.details.get_or_insert_default();
                    if details
                        .listeners
                        .get(port)
                        .is_some_and(|listener| listener.arn == *arn)
                    {
                        details.listeners.remove(port);
                    }
                }
                self.attach();
            }
            Action::AddTags { resources, tags } => {
                for there in self.tags(resources) {
                    there.extend(tags.clone());
                }
            }
            Action::RemoveTags { resources, keys } => {
                for there in self.tags(resources) {
                    there.retain(|key, _| !keys.contains(key));
                }
            }
        }
        Ok(())
    }

    /// The plan calls security group and load balancer of a stack by one key.
    fn security_group_of(&self, at: &Ref) -> Ref {
        match (at, &self.seen.security_group) {
            (Ref::Made(_), Some(group)) => Ref::There(group.id.clone()),
            _ => at.clone(),
        }
    }

    fn tags(&mut self, resources: &[Ref]) -> Vec<&mut Tags> {
        let arns: BTreeSet<String> = resources.iter().map(|at| self.resolve(at)).collect();
        let load_balancers = self.seen.load_balancers.iter_mut();
        let groups = self.seen.target_groups.iter_mut();
        let security_group = self.seen.security_group.iter_mut();
        load_balancers
            .map(|there| (&there.arn, &mut there.tags))
            .chain(groups.map(|there| (&there.arn, &mut there.tags)))
            .chain(security_group.map(|there| (&there.id, &mut there.tags)))
            .filter(|(arn, _)| arns.contains(*arn))
            .map(|(_, tags)| tags)
            .collect()
    }

    fn is_attached(&self, arn: &str) -> bool {
        let groups = self.seen.target_groups.iter();
        groups
            .filter(|group| group.arn == arn)
            .any(|group| !group.load_balancers.is_empty())
    }

    /// Which target group is used by which load balancer follows from the listeners.
    fn attach(&mut self) {
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for there in self.seen.load_balancers.iter().chain(&self.seen.foreign) {
            let listeners = there
                .details
                .iter()
                .flat_map(|details| details.listeners.values());
            for arn in listeners.flat_map(|listener| listener.forward.keys()) {
                users
                    .entry(arn.clone())
                    .or_default()
                    .insert(there.arn.clone());
            }
        }
        for group in &mut self.seen.target_groups {
            group.load_balancers = users.remove(&group.arn).unwrap_or_default();
            let attached = !group.load_balancers.is_empty();
            let targets = group
                .details
                .iter_mut()
                .flat_map(|d| d.targets.values_mut());
            for health in targets {
                match (attached, *health) {
                    (true, Health::Unused) => *health = Health::Initial,
                    (false, Health::Initial | Health::Healthy) => *health = Health::Unused,
                    _ => {}
                }
            }
        }
    }

    fn weights(&self, forward: &[Forward]) -> BTreeMap<String, u32> {
        let weight = |to: &Forward| (self.resolve(&to.target_group), to.weight);
        forward.iter().map(weight).collect()
    }

    fn create_target_group(
        &mut self,
        key: &str,
        wanted: &wanted::TargetGroup,
    ) -> Result<(), String> {
        if self
            .seen
            .target_groups
            .iter()
            .any(|there| there.name == wanted.name)
        {
            return Err(format!("DuplicateTargetGroupName: {}", wanted.name));
        }
        let arn = self.arn("tg");
        self.made.insert(key.to_owned(), arn.clone());
        self.seen.target_groups.push(seen::TargetGroup {
            arn,
            name: wanted.name.clone(),
            protocol: Some(wanted.protocol),
            port: wanted.port,
            target_type: Some(wanted.target_type),
            ipv6: wanted.ipv6,
            health_check: wanted.health_check.clone(),
            load_balancers: BTreeSet::new(),
            tags: wanted.tags.clone(),
            details: None,
        });
        Ok(())
    }

    fn create_load_balancer(
        &mut self,
        stack: &str,
        wanted: &wanted::LoadBalancer,
        managed: Option<&Ref>,
    ) -> Result<(), String> {
        if self
            .seen
            .load_balancers
            .iter()
            .any(|there| there.name == wanted.name)
        {
            return Err(format!("DuplicateLoadBalancerName: {}", wanted.name));
        }
        let managed = managed.map(|at| self.resolve(at));
        let arn = self.arn("lb");
        self.made.insert(stack.to_owned(), arn.clone());
        self.seen.load_balancers.push(seen::LoadBalancer {
            dns_name: format!("{}.example", wanted.name),
            arn,
            name: wanted.name.clone(),
            active: false,
            scheme: wanted.scheme,
            ip_address_type: wanted.ip_address_type,
            subnets: wanted.subnets.clone(),
            security_groups: wanted
                .security_groups
                .iter()
                .cloned()
                .chain(managed)
                .collect(),
            enforce_rules_on_private_link: wanted.enforce_rules_on_private_link,
            ipv6_source_nat: wanted.ipv6_source_nat,
            tags: wanted.tags.clone(),
            details: None,
        });
        Ok(())
    }

    fn create_listener(
        &mut self,
        at: &Ref,
        port: u16,
        wanted: &Listener,
        forward: &[Forward],
    ) -> Result<(), String> {
        let forward = self.weights(forward);
        let on = self.listening(at)?.arn.clone();
        let groups = self.seen.target_groups.iter();
        for group in groups.filter(|group| forward.contains_key(&group.arn)) {
            if group.load_balancers.iter().any(|other| *other != on) {
                return Err(format!("TargetGroupAssociationLimit: {}", group.arn));
            }
        }
        let arn = self.arn("listener");
        self.made.insert(port.to_string(), arn.clone());
        let mut listener = seen::Listener {
            arn,
            protocol: None,
            certificates: Vec::new(),
            ssl_policy: None,
            alpn: None,
            forward: BTreeMap::new(),
            attributes: Some(BTreeMap::new()),
        };
        set(&mut listener, wanted, forward);
        let details = self.listening(at)?.details.get_or_insert_default();
        if details.listeners.contains_key(&port) {
            return Err(format!("DuplicateListener: {port}"));
        }
        details.listeners.insert(port, listener);
        self.attach();
        Ok(())
    }
}

fn set(there: &mut seen::Listener, wanted: &Listener, forward: BTreeMap<String, u32>) {
    there.protocol = Some(wanted.protocol);
    if wanted.protocol != wanted::Protocol::Tls {
        there.certificates.clear();
    }
    let more = there
        .certificates
        .iter()
        .skip(1)
        .filter(|arn| wanted.certificates.first() != Some(arn))
        .cloned()
        .collect::<Vec<_>>();
    there.certificates = wanted
        .certificates
        .first()
        .cloned()
        .into_iter()
        .chain(more)
        .collect();
    there.ssl_policy.clone_from(&wanted.ssl_policy);
    there.alpn.clone_from(&wanted.alpn);
    there.forward = forward;
}
