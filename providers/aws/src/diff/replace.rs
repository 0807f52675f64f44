//! Which load balancer is the one, and how others make way: the new one takes traffic first, clients
//! get time to learn its name, the old one's targets drain, then it goes.

use super::*;
use crate::{names, tags::RETIRED, wanted::SubnetMapping};

/// How long clients may remember a name, in seconds: five times the 60 seconds that AWS's DNS
/// answers live.
pub const DNS_GRACE: i64 = 300;

impl<'a> Diff<'a> {
    /// The one that can become what is wanted without being made anew.
    pub(super) fn current(&self) -> Option<&'a seen::LoadBalancer> {
        let seen: &'a Seen = self.seen;
        if let Some(arn) = &self.wanted.adopt {
            return seen.foreign.iter().find(|there| there.arn == *arn);
        }
        let fits = seen.load_balancers.iter().filter(|there| self.fits(there));
        fits.min_by_key(|there| {
            let shown = self.shown == Some(there.dns_name.as_str());
            (there.tags.contains_key(RETIRED), !shown, &there.arn)
        })
    }

    /// What cannot be changed is as wanted: the scheme, and addresses that are asked for.
    fn fits(&self, there: &seen::LoadBalancer) -> bool {
        let wanted = &self.wanted.load_balancer;
        let moves = |want: &SubnetMapping| {
            let differ =
                |want: &Option<String>, have: &Option<String>| want.is_some() && want != have;
            (there.subnets.iter()).any(|have| {
                have.subnet == want.subnet
                    && (differ(&want.allocation, &have.allocation)
                        || differ(&want.private_ipv4, &have.private_ipv4)
                        || differ(&want.ipv6, &have.ipv6))
            })
        };
        there.scheme == wanted.scheme && !wanted.subnets.iter().any(moves)
    }

    /// Nothing there can stay, and one of those that are there has what the new one needs: a name
    /// that the user has chosen, or an address. It has to go first.
    pub(super) fn make_room(&mut self) {
        let seen: &'a Seen = self.seen;
        let wanted: &'a Wanted = self.wanted;
        let chosen = !wanted.load_balancer.name.starts_with(names::GIVEN);
        let in_the_way = |there: &&seen::LoadBalancer| {
            let addresses = |mapping: &SubnetMapping| {
                [
                    mapping.allocation.clone(),
                    mapping.private_ipv4.clone(),
                    mapping.ipv6.clone(),
                ]
            };
            let has: Vec<String> = (there.subnets.iter())
                .flat_map(addresses)
                .flatten()
                .collect();
            let needs = wanted
                .load_balancer
                .subnets
                .iter()
                .flat_map(addresses)
                .flatten();
            (chosen && there.name == wanted.load_balancer.name)
                || needs.into_iter().any(|address| has.contains(&address))
        };
        for there in seen.load_balancers.iter().filter(in_the_way) {
            if is_protected(there) {
                self.draft.warn(protected(there));
                self.draft.wait(Wait::Forgotten {
                    load_balancer: Ref::There(there.arn.clone()),
                });
            } else {
                let groups = groups_of(seen, there);
                self.draft.retire(&[there], &groups, Effect::Interrupts);
            }
        }
    }

    /// Whose name the status shows; and the others go, in their time.
    pub(super) fn hand_over(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
        at: &Ref,
        groups: &BTreeMap<String, Placed<'a>>,
    ) -> Ref {
        let seen: &'a Seen = self.seen;
        if let Some(there) = current {
            self.come_back(there);
        }
        let foreign = (seen.foreign.iter()).filter(|there| !groups_of(seen, there).is_empty());
        let others: Vec<&seen::LoadBalancer> = (seen.load_balancers.iter().chain(foreign))
            .filter(|there| current.is_none_or(|current| current.arn != there.arn))
            .collect();
        let shows = |there: &&&seen::LoadBalancer| self.shown == Some(there.dns_name.as_str());
        let shown = others.iter().find(shows).copied();
        let Some(before) = shown.or_else(|| others.first().copied()) else {
            return at.clone();
        };
        let there = current.filter(|current| self.shown == Some(current.dns_name.as_str()));
        if there.is_none() && !self.is_ready(current, at, groups) {
            return Ref::There(before.arn.clone());
        }
        if shown.is_some() {
            self.draft.wait(Wait::Forgotten {
                load_balancer: Ref::There(before.arn.clone()),
            });
            return at.clone();
        }
        for there in others {
            self.retire_in_time(there);
        }
        at.clone()
    }

    /// Whether clients that are sent to the new one are served there.
    fn is_ready(
        &mut self,
        current: Option<&seen::LoadBalancer>,
        at: &Ref,
        groups: &BTreeMap<String, Placed<'a>>,
    ) -> bool {
        let mut ready = true;
        if !current.is_some_and(|current| current.active) {
            ready = false;
            self.draft.wait(Wait::Active {
                load_balancer: at.clone(),
            });
        }
        for group in groups.values().filter(|group| !group.is_ready()) {
            ready = false;
            self.draft.wait(Wait::Healthy {
                target_group: group.at.clone(),
            });
        }
        ready
    }

    fn retire_in_time(&mut self, there: &'a seen::LoadBalancer) {
        let load_balancer = Ref::There(there.arn.clone());
        let foreign = self.is_foreign(there);
        let marked = self.marked(there);
        let since = marked.iter().filter_map(|(_, tags)| tags.get(RETIRED));
        let since = since.filter_map(|text| text.parse::<i64>().ok()).min();
        if is_protected(there) && !foreign {
            self.draft.warn(protected(there));
        } else if since.is_some_and(|since| self.now.saturating_sub(since) >= DNS_GRACE) {
            match foreign {
                true => self.draft.release(self.seen, there),
                false => {
                    let groups = groups_of(self.seen, there);
                    self.draft.retire(&[there], &groups, Effect::Drain);
                }
            }
        } else {
            if since.is_none() {
                let resources = marked.into_iter().map(|(arn, _)| Ref::There(arn.clone()));
                let resources = resources.collect();
                self.draft.step(
                    Effect::None,
                    Action::AddTags {
                        resources,
                        tags: Tags::from([(RETIRED.to_owned(), self.now.to_string())]),
                    },
                );
            }
            self.draft.wait(Wait::Forgotten { load_balancer });
        }
    }

    fn is_foreign(&self, there: &seen::LoadBalancer) -> bool {
        (self.seen.foreign.iter()).any(|other| other.arn == there.arn)
    }

    /// What says since when nothing shows a load balancer: itself; for one of others the target groups
    /// of ours that it uses.
    fn marked(&self, there: &'a seen::LoadBalancer) -> Vec<(&'a String, &'a Tags)> {
        match self.is_foreign(there) {
            false => vec![(&there.arn, &there.tags)],
            true => (groups_of(self.seen, there).into_iter())
                .map(|group| (&group.arn, &group.tags))
                .collect(),
        }
    }

    /// The user came back to it.
    fn come_back(&mut self, there: &'a seen::LoadBalancer) {
        let marked = self.marked(there).into_iter();
        let resources: Vec<Ref> = marked
            .filter(|(_, tags)| tags.contains_key(RETIRED))
            .map(|(arn, _)| Ref::There(arn.clone()))
            .collect();
        if !resources.is_empty() {
            let keys = BTreeSet::from([RETIRED.to_owned()]);
            self.draft
                .step(Effect::None, Action::RemoveTags { resources, keys });
        }
    }
}

/// Target groups that only this load balancer uses (AWS: none is used by two).
fn groups_of<'a>(seen: &'a Seen, there: &seen::LoadBalancer) -> Vec<&'a seen::TargetGroup> {
    let has = |group: &&seen::TargetGroup| group.load_balancers.contains(&there.arn);
    seen.target_groups.iter().filter(has).collect()
}

/// Whether AWS will refuse to delete it.
pub(super) fn is_protected(there: &seen::LoadBalancer) -> bool {
    there.details.as_ref().is_some_and(|details| {
        let protection = details.attributes.get(attributes::DELETION_PROTECTION);
        protection.is_some_and(|value| value == "true")
    })
}

/// Why it stays.
pub(super) fn protected(there: &seen::LoadBalancer) -> String {
    format!(
        "load balancer {} is protected against deletion and stays: set {} to false in AWS or by annotation to let it go",
        there.name,
        attributes::DELETION_PROTECTION
    )
}

impl Draft {
    /// Targets drain; then the load balancers go, then the target groups.
    pub(super) fn retire(
        &mut self,
        load_balancers: &[&seen::LoadBalancer],
        groups: &[&seen::TargetGroup],
        effect: Effect,
    ) {
        let mut drained = true;
        for group in groups {
            drained &= self.drain(group, effect);
        }
        if !drained {
            return;
        }
        for there in load_balancers {
            let load_balancer = Ref::There(there.arn.clone());
            let effect = match effect {
                Effect::Interrupts => Effect::Interrupts,
                Effect::None | Effect::Drain => Effect::None,
            };
            self.step(effect, Action::DeleteLoadBalancer { load_balancer });
        }
        for group in groups {
            self.delete_group(group);
        }
    }

    /// A load balancer of others loses our listeners, once their targets have drained, and keeps all
    /// else.
    pub(super) fn release(&mut self, seen: &Seen, there: &seen::LoadBalancer) {
        let groups = groups_of(seen, there);
        let mut drained = true;
        for group in &groups {
            drained &= self.drain(group, Effect::Drain);
        }
        if drained {
            self.delete_listeners(seen, there);
            for group in groups {
                self.delete_group(group);
            }
        }
    }

    pub(super) fn delete_group(&mut self, group: &seen::TargetGroup) {
        let target_group = Ref::There(group.arn.clone());
        self.step(Effect::None, Action::DeleteTargetGroup { target_group });
    }

    /// Whether nothing drains any longer; what has not begun to begins.
    pub(super) fn drain(&mut self, group: &seen::TargetGroup, effect: Effect) -> bool {
        if group.load_balancers.is_empty() {
            return true; // nothing sends it anything
        }
        let target_group = Ref::There(group.arn.clone());
        let targets = group.details.iter().flat_map(|details| &details.targets);
        let (draining, serving): (Vec<_>, Vec<_>) =
            targets.partition(|(_, health)| **health == Health::Draining);
        if draining.is_empty() && serving.is_empty() {
            return true;
        }
        if !serving.is_empty() {
            let targets = serving.into_iter().map(|(target, _)| target.clone());
            self.step(
                effect,
                Action::DeregisterTargets {
                    target_group: target_group.clone(),
                    targets: targets.collect(),
                },
            );
        }
        self.wait(Wait::Drained { target_group });
        false
    }
}
