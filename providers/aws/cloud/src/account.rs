//! What of ours is in the account: listed once, shared by all workers, kept right by what we write
//! ourselves.
//!
//! Ours is what is tagged with this cluster's name and a stack, in our words or in those of AWS Load
//! Balancer Controller. [`Account`] is pure; who renews it is in `shared`.

use std::collections::{BTreeSet, HashMap};

use aws::{
    seen::{self, Seen},
    tags,
    wanted::{HealthCheck, IpAddressType, Rule, SubnetMapping, Tags},
};

mod shared;
#[cfg(test)]
mod tests;

pub(super) use shared::{Known, Shared};

/// Everything of ours, by stack.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Network load balancers.
    pub load_balancers: HashMap<String, Vec<seen::LoadBalancer>>,
    /// Target groups.
    pub target_groups: HashMap<String, Vec<seen::TargetGroup>>,
    /// Security groups made for load balancers.
    pub security_groups: HashMap<String, Vec<seen::SecurityGroup>>,
}

/// A resource that has tags of its own in the snapshot.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Resource {
    LoadBalancer(seen::LoadBalancer),
    TargetGroup(seen::TargetGroup),
    SecurityGroup(seen::SecurityGroup),
}

impl Resource {
    pub(super) fn arn(&self) -> &str {
        match self {
            Self::LoadBalancer(there) => &there.arn,
            Self::TargetGroup(there) => &there.arn,
            Self::SecurityGroup(there) => &there.id,
        }
    }

    pub(super) const fn tags(&self) -> &Tags {
        match self {
            Self::LoadBalancer(there) => &there.tags,
            Self::TargetGroup(there) => &there.tags,
            Self::SecurityGroup(there) => &there.tags,
        }
    }
}

/// Something we have changed.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Change {
    /// Made, or found there.
    Created(Resource),
    /// Deleted, or found missing.
    Gone(String),
    Active(String),
    Tagged(String, Tags),
    Untagged(String, BTreeSet<String>),
    Subnets(String, Vec<SubnetMapping>, bool),
    SecurityGroups(String, BTreeSet<String>, Option<bool>),
    IpAddressType(String, IpAddressType),
    HealthCheck(String, HealthCheck),
    /// The load balancer has a listener that forwards to these target groups.
    Forwards(String, BTreeSet<String>),
    /// The load balancer's listeners forward to these and to no others.
    ForwardsOnly(String, BTreeSet<String>),
    Authorized(String, BTreeSet<Rule>),
    Revoked(String, BTreeSet<Rule>),
}

impl Account {
    /// Everything of one stack. Of several security groups the one with our own tags, else the one
    /// with the lowest id.
    #[must_use]
    pub fn seen(&self, stack: &str) -> Seen {
        let groups = self.security_groups.get(stack);
        let rank = |group: &&seen::SecurityGroup| {
            (!group.tags.contains_key(tags::STACK), group.id.clone())
        };
        Seen {
            load_balancers: self.load_balancers.get(stack).cloned().unwrap_or_default(),
            target_groups: self.target_groups.get(stack).cloned().unwrap_or_default(),
            foreign: Vec::new(),
            security_group: groups.into_iter().flatten().min_by_key(rank).cloned(),
        }
    }

    /// All stacks that have anything.
    #[must_use]
    pub fn stacks(&self) -> BTreeSet<&str> {
        let load_balancers = self.load_balancers.keys();
        load_balancers
            .chain(self.target_groups.keys())
            .chain(self.security_groups.keys())
            .map(String::as_str)
            .collect()
    }

    /// Puts a resource in, unless its tags say that it is not ours, or no load balancer's: the
    /// traffic group stays when all Services are gone.
    pub(super) fn insert(&mut self, resource: Resource, cluster: &str) {
        let stack = tags::stack(resource.tags(), cluster).filter(|stack| *stack != tags::TRAFFIC);
        let Some(stack) = stack.map(str::to_owned) else {
            return;
        };
        match resource {
            Resource::LoadBalancer(new) => {
                let all = self.load_balancers.entry(stack).or_default();
                all.retain(|there| there.arn != new.arn);
                all.push(new);
                all.sort_by(|a, b| a.arn.cmp(&b.arn));
            }
            Resource::TargetGroup(new) => {
                let all = self.target_groups.entry(stack).or_default();
                all.retain(|there| there.arn != new.arn);
                all.push(new);
                all.sort_by(|a, b| a.arn.cmp(&b.arn));
            }
            Resource::SecurityGroup(new) => {
                let all = self.security_groups.entry(stack).or_default();
                all.retain(|there| there.id != new.id);
                all.push(new);
                all.sort_by(|a, b| a.id.cmp(&b.id));
            }
        }
    }

    /// Whether anything has this ARN or id.
    fn has(&self, arn: &str) -> bool {
        let mut load_balancers = self.load_balancers.values().flatten();
        let mut target_groups = self.target_groups.values().flatten();
        let mut security_groups = self.security_groups.values().flatten();
        load_balancers.any(|there| there.arn == arn)
            || target_groups.any(|there| there.arn == arn)
            || security_groups.any(|there| there.id == arn)
    }

    fn load_balancer(&mut self, arn: &str) -> Option<&mut seen::LoadBalancer> {
        let mut all = self.load_balancers.values_mut().flatten();
        all.find(|there| there.arn == arn)
    }

    fn target_group(&mut self, arn: &str) -> Option<&mut seen::TargetGroup> {
        let mut all = self.target_groups.values_mut().flatten();
        all.find(|there| there.arn == arn)
    }

    fn security_group(&mut self, id: &str) -> Option<&mut seen::SecurityGroup> {
        let mut all = self.security_groups.values_mut().flatten();
        all.find(|there| there.id == id)
    }

    /// What was written is written here, too. Twice is as good as once.
    pub(super) fn note(&mut self, change: Change, cluster: &str) {
        match change {
            Change::Created(resource) => self.insert(resource, cluster),
            Change::Gone(arn) => {
                self.remove(&arn);
                for there in self.target_groups.values_mut().flatten() {
                    there.load_balancers.remove(&arn);
                }
            }
            Change::Active(arn) => {
                if let Some(there) = self.load_balancer(&arn) {
                    there.active = true;
                }
            }
            Change::Tagged(arn, tags) => self.retag(&arn, cluster, |there| there.extend(tags)),
            Change::Untagged(arn, keys) => {
                self.retag(&arn, cluster, |there| {
                    there.retain(|key, _| !keys.contains(key));
                });
            }
            Change::Subnets(arn, subnets, ipv6_source_nat) => {
                if let Some(there) = self.load_balancer(&arn) {
                    there.subnets = subnets;
                    there.ipv6_source_nat = ipv6_source_nat;
                }
            }
            Change::SecurityGroups(arn, groups, enforce) => {
                if let Some(there) = self.load_balancer(&arn) {
                    there.security_groups = groups;
                    if enforce.is_some() {
                        there.enforce_rules_on_private_link = enforce;
                    }
                }
            }
            Change::IpAddressType(arn, kind) => {
                if let Some(there) = self.load_balancer(&arn) {
                    there.ip_address_type = kind;
                }
            }
            Change::HealthCheck(arn, health_check) => {
                if let Some(there) = self.target_group(&arn) {
                    there.health_check = health_check;
                }
            }
            Change::Forwards(arn, groups) => {
                for group in &groups {
                    if let Some(there) = self.target_group(group) {
                        there.load_balancers.insert(arn.clone());
                    }
                }
            }
            Change::ForwardsOnly(arn, groups) => {
                for there in self.target_groups.values_mut().flatten() {
                    if groups.contains(&there.arn) {
                        there.load_balancers.insert(arn.clone());
                    } else {
                        there.load_balancers.remove(&arn);
                    }
                }
            }
            Change::Authorized(id, rules) => {
                if let Some(there) = self.security_group(&id) {
                    there.rules.extend(rules);
                }
            }
            Change::Revoked(id, rules) => {
                if let Some(there) = self.security_group(&id) {
                    there.rules.retain(|rule| !rules.contains(rule));
                }
            }
        }
    }

    fn remove(&mut self, arn: &str) {
        self.load_balancers.retain(|_, all| {
            all.retain(|there| there.arn != arn);
            !all.is_empty()
        });
        self.target_groups.retain(|_, all| {
            all.retain(|there| there.arn != arn);
            !all.is_empty()
        });
        self.security_groups.retain(|_, all| {
            all.retain(|there| there.id != arn);
            !all.is_empty()
        });
    }

    /// Tags decide whose a resource is: it may move to another stack or leave.
    fn retag(&mut self, arn: &str, cluster: &str, change: impl FnOnce(&mut Tags)) {
        let resource = if let Some(there) = self.load_balancer(arn) {
            change(&mut there.tags);
            Resource::LoadBalancer(there.clone())
        } else if let Some(there) = self.target_group(arn) {
            change(&mut there.tags);
            Resource::TargetGroup(there.clone())
        } else if let Some(there) = self.security_group(arn) {
            change(&mut there.tags);
            Resource::SecurityGroup(there.clone())
        } else {
            return;
        };
        self.remove(arn);
        self.insert(resource, cluster);
    }

    /// What was written before or during a listing is made good on it. A resource that is listed
    /// is newer than the copy that its creation left.
    fn replay(&mut self, change: Change, cluster: &str) {
        if let Change::Created(resource) = &change
            && self.has(resource.arn())
        {
            return;
        }
        self.note(change, cluster);
    }
}
