//! DIFF: what is wanted and what is seen in, the steps between them out. Pure; the time is given.
//!
//! A plan goes as far as it can without waiting and is made again from what is seen then: there is
//! no state to carry from one to the next, and a crash after any step is just another situation.
//!
//! What must never happen: a listener that loses its last healthy target because another target
//! group takes over; a resource of somebody else changed; more targets taken away at once than is
//! allowed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    attributes, fingerprint,
    plan::{Action, Effect, Forward, Plan, Ref, Step, Wait},
    seen::{self, Health, Seen},
    tags,
    wanted::{Tags, Target, TargetGroup, Wanted},
};

mod listeners;
mod replace;
mod targets;

pub use replace::DNS_GRACE;

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What should be.
    pub wanted: &'a Wanted,
    /// What is, looked at closely.
    pub seen: &'a Seen,
    /// The name that the Service's status shows.
    pub shown: Option<&'a str>,
    /// Unix seconds.
    pub now: i64,
    /// Of the instances in a target group at most so many in a hundred are taken away at once.
    pub removed_percent: u8,
}

/// The steps from what is seen to what is wanted.
pub fn diff(situation: Situation<'_>) -> Plan {
    let Some((wanted, mut warnings)) = listeners::without_taken(situation) else {
        return steps(situation);
    };
    let mut plan = steps(Situation {
        wanted: &wanted,
        ..situation
    });
    warnings.append(&mut plan.warnings);
    plan.warnings = warnings;
    plan
}

fn steps(situation: Situation<'_>) -> Plan {
    let mut diff = Diff::new(situation);
    let current = diff.current();
    if current.is_none()
        && let Some(arn) = &situation.wanted.adopt
    {
        // Never one of our own in its place.
        diff.draft.warn(format!(
            "there is no load balancer {arn}, which annotation {} names",
            crate::annotations::ADOPT
        ));
        return diff.draft.finish(None);
    }
    if current.is_none() {
        diff.make_room();
        if diff.draft.waiting() {
            return diff.draft.finish(None);
        }
    }
    let managed = diff.security_group();
    let groups = diff.target_groups(current);
    let load_balancer = diff.load_balancer(current, managed.as_ref());
    diff.listeners(current, &load_balancer, &groups);
    diff.unused_groups(current, &groups);
    let show = diff.hand_over(current, &load_balancer, &groups);
    diff.tags(current, &groups);
    if !diff.draft.waiting() {
        diff.unused_security_group();
        diff.record(current, &load_balancer);
    }
    diff.draft.finish(Some(show))
}

/// The steps when nothing but targets has changed since `wanted` was carried out: only target groups
/// need to have been looked at closely.
pub fn retarget(situation: Situation<'_>) -> Plan {
    let mut diff = Diff::new(situation);
    let current = diff.current();
    for (key, wanted) in &situation.wanted.target_groups {
        if let Some(there) = diff.find(key, wanted, current) {
            diff.fill(&Placed {
                wanted,
                there: Some(there),
                at: Ref::There(there.arn.clone()),
            });
        }
    }
    let show = current.map(|there| Ref::There(there.arn.clone()));
    if let Some(at) = show.as_ref().filter(|_| !diff.draft.waiting()) {
        diff.record(current, at);
    }
    diff.draft.finish(show)
}

/// What becomes of a load balancer whose Service is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDelete {
    /// It goes, with everything that is ours.
    Delete,
    /// It stays, and nothing says any longer that it is ours (`portolan.dev/on-delete: retain`).
    Retain,
}

/// The steps that leave nothing of ours: targets drain first. Load balancers of others stay, without
/// our listeners. Nothing is done while one of ours is protected against deletion; the plan then warns.
pub fn teardown(seen: &Seen, on_delete: OnDelete) -> Plan {
    let mut draft = Draft::default();
    match on_delete {
        OnDelete::Delete => {}
        OnDelete::Retain => {
            for there in &seen.foreign {
                draft.release(seen, there);
            }
            draft.disown(seen);
            return draft.finish(None);
        }
    }
    for there in seen
        .load_balancers
        .iter()
        .filter(|there| replace::is_protected(there))
    {
        draft.warn(replace::protected(there));
    }
    if !draft.plan.warnings.is_empty() {
        return draft.finish(None);
    }
    for there in &seen.foreign {
        draft.release(seen, there);
    }
    let ours: Vec<&seen::LoadBalancer> = seen.load_balancers.iter().collect();
    let groups: Vec<&seen::TargetGroup> = (seen.target_groups.iter())
        .filter(|group| !is_foreign(seen, group))
        .collect();
    draft.retire(&ours, &groups, Effect::Drain);
    if let Some(group) = seen.security_group.as_ref().filter(|_| !draft.waiting()) {
        draft.delete_security_group(group);
    }
    draft.finish(None)
}

/// A plan that is being written.
#[derive(Default)]
struct Draft {
    plan: Plan,
    /// Put behind everything else: what does not depend on them goes on.
    waits: Vec<Wait>,
}

impl Draft {
    fn step(&mut self, effect: Effect, action: Action) {
        self.plan.steps.push(Step { effect, action });
    }

    fn wait(&mut self, until: Wait) {
        if !self.waits.contains(&until) {
            self.waits.push(until);
        }
    }

    fn warn(&mut self, warning: String) {
        self.plan.warnings.push(warning);
    }

    fn waiting(&self) -> bool {
        !self.waits.is_empty()
    }

    fn finish(mut self, show: Option<Ref>) -> Plan {
        for until in self.waits {
            self.plan.steps.push(Step {
                effect: Effect::None,
                action: Action::Wait { until },
            });
        }
        self.plan.show = show;
        self.plan
    }

    fn delete_security_group(&mut self, group: &seen::SecurityGroup) {
        let group = Ref::There(group.id.clone());
        self.step(Effect::None, Action::DeleteSecurityGroup { group });
    }

    /// Listeners of somebody else's load balancer that forward to us.
    fn delete_listeners(&mut self, seen: &Seen, there: &seen::LoadBalancer) {
        let listeners = there.details.iter().flat_map(|details| &details.listeners);
        for (port, listener) in listeners.filter(|(_, listener)| is_ours(seen, listener)) {
            self.step(
                Effect::None,
                Action::DeleteListener {
                    arn: listener.arn.clone(),
                    port: *port,
                },
            );
        }
    }

    /// Takes away the tags by which we would find it again. What a load balancer of others uses is
    /// not left to it.
    fn disown(&mut self, seen: &Seen) {
        let load_balancers = (seen.load_balancers.iter()).map(|there| (&there.arn, &there.tags));
        let groups = (seen.target_groups.iter())
            .filter(|group| !is_foreign(seen, group))
            .map(|there| (&there.arn, &there.tags));
        let security_group = (seen.security_group.iter()).map(|there| (&there.id, &there.tags));
        for (arn, tags) in load_balancers.chain(groups).chain(security_group) {
            let keys: BTreeSet<String> = tags
                .keys()
                .filter(|key| tags::is_ownership(key))
                .cloned()
                .collect();
            if !keys.is_empty() {
                let resources = vec![Ref::There(arn.clone())];
                self.step(Effect::None, Action::RemoveTags { resources, keys });
            }
        }
    }
}

/// A listener is ours when it forwards, and everything that it forwards to is.
fn is_ours(seen: &Seen, there: &seen::Listener) -> bool {
    let known = |arn: &String| seen.target_groups.iter().any(|group| group.arn == *arn);
    !there.forward.is_empty() && there.forward.keys().all(known)
}

/// Whether a load balancer of others uses it.
fn is_foreign(seen: &Seen, group: &seen::TargetGroup) -> bool {
    (seen.foreign.iter()).any(|there| group.load_balancers.contains(&there.arn))
}

/// A target group of the wanted state, where it is.
struct Placed<'a> {
    wanted: &'a TargetGroup,
    there: Option<&'a seen::TargetGroup>,
    at: Ref,
}

impl Placed<'_> {
    /// Whether a client that is sent there finds somebody, or nobody is wanted there.
    fn is_ready(&self) -> bool {
        self.wanted.targets.is_empty() || self.there.is_some_and(has_healthy)
    }
}

fn has_healthy(group: &seen::TargetGroup) -> bool {
    let targets = group.details.iter().flat_map(|d| d.targets.values());
    targets.into_iter().any(|health| *health == Health::Healthy)
}

struct Diff<'a> {
    wanted: &'a Wanted,
    seen: &'a Seen,
    shown: Option<&'a str>,
    now: i64,
    removed_percent: u8,
    draft: Draft,
}

impl<'a> Diff<'a> {
    fn new(situation: Situation<'a>) -> Self {
        Self {
            wanted: situation.wanted,
            seen: situation.seen,
            shown: situation.shown,
            now: situation.now,
            removed_percent: situation.removed_percent,
            draft: Draft::default(),
        }
    }

    fn security_group(&mut self) -> Option<Ref> {
        let wanted = self.wanted.security_group.as_ref()?;
        let Some(there) = &self.seen.security_group else {
            let made = Ref::Made(self.wanted.stack.clone());
            let vpc = (self.wanted.target_groups.values().next())
                .map_or_else(String::new, |group| group.vpc.clone());
            self.draft.step(
                Effect::None,
                Action::CreateSecurityGroup {
                    vpc,
                    group: wanted.clone(),
                },
            );
            if !wanted.rules.is_empty() {
                self.draft.step(
                    Effect::None,
                    Action::AuthorizeSecurityGroupIngress {
                        group: made.clone(),
                        rules: wanted.rules.clone(),
                    },
                );
            }
            return Some(made);
        };
        let group = Ref::There(there.id.clone());
        let missing: BTreeSet<_> = wanted.rules.difference(&there.rules).cloned().collect();
        let surplus: BTreeSet<_> = there.rules.difference(&wanted.rules).cloned().collect();
        if !missing.is_empty() {
            self.draft.step(
                Effect::None,
                Action::AuthorizeSecurityGroupIngress {
                    group: group.clone(),
                    rules: missing,
                },
            );
        }
        if !surplus.is_empty() {
            self.draft.step(
                Effect::Interrupts,
                Action::RevokeSecurityGroupIngress {
                    group: group.clone(),
                    rules: surplus,
                },
            );
        }
        Some(group)
    }

    /// Ours, and no longer wanted: gone once the load balancer does not have it any more.
    fn unused_security_group(&mut self) {
        if self.wanted.security_group.is_none()
            && let Some(group) = &self.seen.security_group
        {
            self.draft.delete_security_group(group);
        }
    }

    fn load_balancer(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
        managed: Option<&Ref>,
    ) -> Ref {
        let wanted = &self.wanted.load_balancer;
        let Some(there) = current else {
            let mut made = wanted.clone();
            let names = self.seen.load_balancers.iter().map(|other| &other.name);
            made.name = free_name(&wanted.name, &names.collect());
            let load_balancer = Ref::Made(self.wanted.stack.clone());
            let default = attributes::of_load_balancer;
            let changes = attributes::changes(&made.attributes, None, default);
            self.draft.step(
                Effect::None,
                Action::CreateLoadBalancer {
                    stack: self.wanted.stack.clone(),
                    load_balancer: made,
                    managed: managed.cloned(),
                },
            );
            self.load_balancer_attributes(&load_balancer, changes);
            return load_balancer;
        };
        let load_balancer = Ref::There(there.arn.clone());
        if self.wanted.adopt.is_some() {
            return load_balancer; // somebody else's: only listeners are added to it
        }
        let have: BTreeSet<&str> = there.subnets.iter().map(|m| m.subnet.as_str()).collect();
        let want: BTreeSet<&str> = wanted.subnets.iter().map(|m| m.subnet.as_str()).collect();
        if have != want || there.ipv6_source_nat != wanted.ipv6_source_nat {
            let effect = match have.is_subset(&want) {
                true => Effect::None,
                false => Effect::Interrupts,
            };
            self.draft.step(
                effect,
                Action::SetSubnets {
                    load_balancer: load_balancer.clone(),
                    subnets: wanted.subnets.clone(),
                    ipv6_source_nat: wanted.ipv6_source_nat,
                },
            );
        }
        if there.ip_address_type != wanted.ip_address_type {
            let effect = match wanted.ip_address_type {
                crate::wanted::IpAddressType::Dualstack => Effect::None,
                crate::wanted::IpAddressType::Ipv4 => Effect::Interrupts,
            };
            self.draft.step(
                effect,
                Action::SetIpAddressType {
                    load_balancer: load_balancer.clone(),
                    ip_address_type: wanted.ip_address_type,
                },
            );
        }
        self.security_groups(there, managed);
        let details = there.details.clone().unwrap_or_default();
        let changes = attributes::changes(
            &wanted.attributes,
            Some(&details.attributes),
            attributes::of_load_balancer,
        );
        self.load_balancer_attributes(&load_balancer, changes);
        load_balancer
    }

    fn load_balancer_attributes(&mut self, at: &Ref, changes: BTreeMap<String, String>) {
        if !changes.is_empty() {
            self.draft.step(
                Effect::None,
                Action::ModifyLoadBalancerAttributes {
                    load_balancer: at.clone(),
                    attributes: changes,
                },
            );
        }
    }

    fn security_groups(&mut self, there: &seen::LoadBalancer, managed: Option<&Ref>) {
        let wanted = &self.wanted.load_balancer;
        let given = wanted.security_groups.iter().cloned().map(Ref::There);
        let groups: Vec<Ref> = given.chain(managed.cloned()).collect();
        let have: BTreeSet<Ref> = (there.security_groups.iter().cloned())
            .map(Ref::There)
            .collect();
        let enforce = wanted.enforce_rules_on_private_link;
        let same = groups.iter().cloned().collect::<BTreeSet<_>>() == have;
        let enforced = enforce.is_none() || enforce == there.enforce_rules_on_private_link;
        // AWS: a load balancer made without security groups never gets any.
        if have.is_empty() || (same && enforced) {
            return;
        }
        self.draft.step(
            if same { Effect::None } else { Effect::Drain },
            Action::SetSecurityGroups {
                load_balancer: Ref::There(there.arn.clone()),
                groups,
                enforce_rules_on_private_link: enforce,
            },
        );
    }

    /// Tags as wanted; those that nobody names go, except AWS's own, Kubernetes' and ours. Tags of
    /// listeners are set when they are made.
    fn tags(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
        groups: &BTreeMap<String, Placed<'a>>,
    ) {
        let mut add: BTreeMap<Tags, Vec<Ref>> = BTreeMap::new();
        let mut remove: BTreeMap<BTreeSet<String>, Vec<Ref>> = BTreeMap::new();
        let ours = self.wanted.adopt.is_none();
        let load_balancer = current
            .filter(|_| ours)
            .map(|there| (&there.arn, &there.tags, &self.wanted.load_balancer.tags));
        let groups = groups.values().filter_map(|placed| {
            let there = placed.there?;
            Some((&there.arn, &there.tags, &placed.wanted.tags))
        });
        for (arn, there, wanted) in load_balancer.into_iter().chain(groups) {
            let missing: Tags = wanted
                .iter()
                .filter(|(key, value)| there.get(*key) != Some(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let surplus: BTreeSet<String> = there
                .keys()
                .filter(|key| !wanted.contains_key(*key) && !is_reserved(key))
                .cloned()
                .collect();
            if !missing.is_empty() {
                add.entry(missing)
                    .or_default()
                    .push(Ref::There(arn.clone()));
            }
            if !surplus.is_empty() {
                remove
                    .entry(surplus)
                    .or_default()
                    .push(Ref::There(arn.clone()));
            }
        }
        for (tags, resources) in add {
            self.draft
                .step(Effect::None, Action::AddTags { resources, tags });
        }
        for (keys, resources) in remove {
            self.draft
                .step(Effect::None, Action::RemoveTags { resources, keys });
        }
    }

    /// Last: that all of it has been carried out.
    fn record(&mut self, current: Option<&'a seen::LoadBalancer>, at: &Ref) {
        let applied = fingerprint::of(self.wanted);
        let recorded = |there: &seen::LoadBalancer| {
            applied
                .iter()
                .all(|(key, value)| there.tags.get(key) == Some(value))
        };
        if self.wanted.adopt.is_none() && !current.is_some_and(recorded) {
            self.draft.step(
                Effect::None,
                Action::AddTags {
                    resources: vec![at.clone()],
                    tags: applied,
                },
            );
        }
    }
}

fn is_reserved(key: &str) -> bool {
    ["aws:", "portolan.dev/", "kubernetes.io/"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

/// The name, or one made from it while another resource still has it.
fn free_name(name: &str, taken: &BTreeSet<&String>) -> String {
    let mut free = name.to_owned();
    let mut turn = 0_u32;
    while taken.contains(&free) {
        turn += 1;
        free = fingerprint::renamed(name, turn);
    }
    free
}
