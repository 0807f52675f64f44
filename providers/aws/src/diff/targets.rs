//! Target groups: where each wanted one is, and who is in it.

use super::*;
use crate::wanted::TargetType;

impl<'a> Diff<'a> {
    /// Finds or makes every wanted target group and fills it, before any listener needs it.
    pub(super) fn target_groups(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
    ) -> BTreeMap<String, Placed<'a>> {
        let wanted: &'a Wanted = self.wanted;
        let mut placed = BTreeMap::new();
        for (key, group) in &wanted.target_groups {
            let there = self.find(key, group, current);
            let at = match there {
                Some(there) => self.update(group, there),
                None => self.create(key, group),
            };
            let group = Placed {
                wanted: group,
                there,
                at,
            };
            self.fill(&group);
            placed.insert(key.clone(), group);
        }
        placed
    }

    /// The one of this stack that can be used as it is: what AWS cannot change must be equal, and no
    /// other load balancer may have it (AWS: a target group belongs to one).
    pub(super) fn find(
        &self,
        key: &str,
        wanted: &TargetGroup,
        current: Option<&seen::LoadBalancer>,
    ) -> Option<&'a seen::TargetGroup> {
        let seen: &'a Seen = self.seen;
        let free = |there: &seen::TargetGroup| {
            (there.load_balancers.iter()).all(|arn| current.is_some_and(|lb| lb.arn == *arn))
        };
        let mut fits = seen.target_groups.iter().filter(|there| {
            there
                .tags
                .get(tags::LBC_RESOURCE)
                .is_some_and(|of| of == key)
                && there.protocol == Some(wanted.protocol)
                && there.target_type == Some(wanted.target_type)
                && there.ipv6 == wanted.ipv6
                && free(there)
        });
        let first = fits.next()?;
        Some(
            std::iter::once(first)
                .chain(fits)
                .max_by_key(|there| !there.load_balancers.is_empty())
                .unwrap_or(first),
        )
    }

    fn create(&mut self, key: &str, wanted: &TargetGroup) -> Ref {
        let mut group = wanted.clone();
        let names = self.seen.target_groups.iter().map(|other| &other.name);
        group.name = free_name(&wanted.name, &names.collect());
        let changes = attributes::changes(&wanted.attributes, None, |name| {
            attributes::of_target_group(name, wanted.target_type, wanted.protocol)
        });
        let at = Ref::Made(key.to_owned());
        self.draft.step(
            Effect::None,
            Action::CreateTargetGroup {
                key: key.to_owned(),
                target_group: group,
            },
        );
        self.target_group_attributes(&at, changes);
        at
    }

    fn update(&mut self, wanted: &TargetGroup, there: &seen::TargetGroup) -> Ref {
        let at = Ref::There(there.arn.clone());
        if there.health_check != wanted.health_check {
            self.draft.step(
                Effect::None,
                Action::ModifyTargetGroup {
                    target_group: at.clone(),
                    health_check: wanted.health_check.clone(),
                },
            );
        }
        let details = there.details.clone().unwrap_or_default();
        let changes = attributes::changes(&wanted.attributes, Some(&details.attributes), |name| {
            attributes::of_target_group(name, wanted.target_type, wanted.protocol)
        });
        self.target_group_attributes(&at, changes);
        at
    }

    fn target_group_attributes(&mut self, at: &Ref, changes: BTreeMap<String, String>) {
        if !changes.is_empty() {
            self.draft.step(
                Effect::None,
                Action::ModifyTargetGroupAttributes {
                    target_group: at.clone(),
                    attributes: changes,
                },
            );
        }
    }

    /// New ones first; then those who are too many, a share at a time.
    pub(super) fn fill(&mut self, group: &Placed<'_>) {
        let none = BTreeMap::new();
        let there = group
            .there
            .and_then(|there| there.details.as_ref())
            .map_or(&none, |details| &details.targets);
        let (going, staying): (Vec<_>, Vec<_>) =
            (there.iter()).partition(|(_, health)| **health == Health::Draining);
        let staying: BTreeSet<&Target> = staying.into_iter().map(|(target, _)| target).collect();
        let wanted = &group.wanted.targets;
        let missing: BTreeSet<Target> = (wanted.iter())
            .filter(|target| !staying.contains(target))
            .cloned()
            .collect();
        if !missing.is_empty() {
            self.draft.step(
                Effect::None,
                Action::RegisterTargets {
                    target_group: group.at.clone(),
                    targets: missing,
                },
            );
        }
        let mut surplus: Vec<&Target> = (staying.iter().copied())
            .filter(|target| !wanted.contains(*target))
            .collect();
        let healthy = |target: &&Target| there.get(*target) == Some(&Health::Healthy);
        if group.wanted.target_type == TargetType::Instance
            && surplus.iter().any(healthy)
            && !wanted.iter().any(|target| healthy(&target))
            && !wanted.is_empty()
        {
            // The last ones that take traffic go when somebody else does.
            surplus.retain(|target| !healthy(target));
            self.draft.wait(Wait::Healthy {
                target_group: group.at.clone(),
            });
        }
        if surplus.is_empty() {
            return;
        }
        let now = match group.wanted.target_type {
            // A pod that is gone is gone: its address may be another's in a moment.
            TargetType::Ip => surplus.len(),
            TargetType::Instance if wanted.is_empty() => {
                self.draft.warn(format!(
                    "no node can be a target of {}: its {} targets stay",
                    group.wanted.name,
                    staying.len()
                ));
                return;
            }
            TargetType::Instance => self
                .allowed(staying.len() + going.len())
                .saturating_sub(going.len()),
        };
        let removed: BTreeSet<Target> = surplus.iter().take(now).copied().cloned().collect();
        if removed.len() < surplus.len() {
            self.draft.wait(Wait::Drained {
                target_group: group.at.clone(),
            });
        }
        if !removed.is_empty() {
            self.draft.step(
                Effect::Drain,
                Action::DeregisterTargets {
                    target_group: group.at.clone(),
                    targets: removed,
                },
            );
        }
    }

    /// How many of so many targets may drain at one time: the configured share, at least one.
    fn allowed(&self, of: usize) -> usize {
        (of * usize::from(self.removed_percent) / 100).max(1)
    }

    /// Those of the current load balancer that are wanted no longer and that no listener uses.
    pub(super) fn unused_groups(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
        placed: &BTreeMap<String, Placed<'a>>,
    ) {
        let used: BTreeSet<&str> = current
            .and_then(|lb| lb.details.as_ref())
            .into_iter()
            .flat_map(|details| details.listeners.values())
            .flat_map(|listener| listener.forward.keys())
            .map(String::as_str)
            .collect();
        let seen: &'a Seen = self.seen;
        let unused: Vec<&seen::TargetGroup> = seen
            .target_groups
            .iter()
            .filter(|group| !used.contains(group.arn.as_str()))
            .filter(|group| {
                (group.load_balancers.iter()).all(|arn| current.is_some_and(|lb| lb.arn == *arn))
            })
            .filter(|group| {
                !(placed.values())
                    .any(|placed| placed.there.is_some_and(|there| there.arn == group.arn))
            })
            .collect();
        self.draft.retire(&[], &unused, Effect::Drain);
    }
}
