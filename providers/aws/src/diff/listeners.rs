//! Listeners: a target group takes over from another one only when somebody in it is healthy. AWS
//! checks only the targets of groups that a listener uses, so the new one joins with weight 0 first.

use super::*;
use crate::wanted::{Listener, Protocol};

/// Without the listeners whose ports have one of somebody else's, and their target groups: whoever
/// was there first stays. `None`: there are no such ports.
pub(super) fn without_taken(situation: Situation<'_>) -> Option<(Wanted, Vec<String>)> {
    let current = Diff::new(situation).current()?;
    let mut wanted = situation.wanted.clone();
    let mut warnings = Vec::new();
    let there = current
        .details
        .iter()
        .flat_map(|details| &details.listeners);
    for (port, there) in there.filter(|(_, there)| !is_ours(situation.seen, there)) {
        if wanted.listeners.remove(port).is_some() {
            warnings.push(format!(
                "port {port} of load balancer {} has a listener of somebody else ({}), which stays: \
                 choose another port",
                current.name, there.arn
            ));
        }
    }
    let used: BTreeSet<&String> = (wanted.listeners.values())
        .map(|listener| &listener.target_group)
        .collect();
    wanted.target_groups.retain(|key, _| used.contains(key));
    (!warnings.is_empty()).then_some((wanted, warnings))
}

impl<'a> Diff<'a> {
    pub(super) fn listeners(
        &mut self,
        current: Option<&'a seen::LoadBalancer>,
        at: &Ref,
        groups: &BTreeMap<String, Placed<'a>>,
    ) {
        let wanted: &'a Wanted = self.wanted;
        let none = BTreeMap::new();
        let there = current
            .and_then(|there| there.details.as_ref())
            .map_or(&none, |details| &details.listeners);
        for (port, listener) in there {
            if !wanted.listeners.contains_key(port) {
                self.remove(*port, listener, groups);
            }
        }
        for (port, listener) in &wanted.listeners {
            let Some(group) = groups.get(&listener.target_group) else {
                continue; // DESIRED names only groups that it makes
            };
            match there.get(port) {
                Some(there) => self.update_listener(*port, listener, there, group),
                None => self.create_listener(*port, listener, at, group),
            }
        }
    }

    fn create_listener(&mut self, port: u16, listener: &Listener, at: &Ref, group: &Placed<'_>) {
        self.draft.step(
            Effect::None,
            Action::CreateListener {
                load_balancer: at.clone(),
                port,
                listener: listener.clone(),
                forward: all_to(&group.at),
                tags: self.wanted.load_balancer.tags.clone(),
            },
        );
        let made = Ref::Made(port.to_string());
        let more: Vec<String> = listener.certificates.iter().skip(1).cloned().collect();
        if !more.is_empty() {
            self.draft.step(
                Effect::None,
                Action::AddListenerCertificates {
                    listener: made.clone(),
                    certificates: more,
                },
            );
        }
        let changes = attributes::changes(&listener.attributes, None, attributes::of_listener);
        self.listener_attributes(made, changes);
    }

    fn listener_attributes(&mut self, listener: Ref, attributes: BTreeMap<String, String>) {
        if !attributes.is_empty() {
            self.draft.step(
                Effect::None,
                Action::ModifyListenerAttributes {
                    listener,
                    attributes,
                },
            );
        }
    }

    fn update_listener(
        &mut self,
        port: u16,
        wanted: &Listener,
        there: &seen::Listener,
        group: &Placed<'_>,
    ) {
        let protocol_differs = there.protocol != Some(wanted.protocol);
        let settings_differ = protocol_differs
            || there.certificates.first() != wanted.certificates.first()
            || (wanted.ssl_policy.is_some() && there.ssl_policy != wanted.ssl_policy)
            || there.alpn.as_deref().unwrap_or("None") != wanted.alpn.as_deref().unwrap_or("None");
        let (forward, effect) = self.forward(there, group, protocol_differs);
        let effect = match protocol_differs {
            true => Effect::Interrupts,
            false => effect,
        };
        if settings_differ || forward.is_some() {
            let as_it_is = || weights(&there.forward);
            self.draft.step(
                effect,
                Action::ModifyListener {
                    arn: there.arn.clone(),
                    port,
                    listener: wanted.clone(),
                    forward: forward.unwrap_or_else(as_it_is),
                },
            );
        }
        self.certificates(wanted, there);
        if let Some(attributes) = &there.attributes {
            let changes = attributes::changes(
                &wanted.attributes,
                Some(attributes),
                attributes::of_listener,
            );
            self.listener_attributes(Ref::There(there.arn.clone()), changes);
        }
    }

    fn certificates(&mut self, wanted: &Listener, there: &seen::Listener) {
        if wanted.protocol != Protocol::Tls {
            return; // with TLS all certificates have gone
        }
        let listener = Ref::There(there.arn.clone());
        let has: BTreeSet<&String> = there.certificates.iter().skip(1).collect();
        let wants: BTreeSet<&String> = wanted.certificates.iter().skip(1).collect();
        let more: Vec<String> = wants.difference(&has).map(|arn| (*arn).clone()).collect();
        // One that has become the default is no longer among the others, and AWS lets nobody take
        // the default away.
        let default = wanted.certificates.first();
        let less: Vec<String> = (has.difference(&wants))
            .filter(|arn| Some(**arn) != default)
            .map(|arn| (*arn).clone())
            .collect();
        if !more.is_empty() {
            self.draft.step(
                Effect::None,
                Action::AddListenerCertificates {
                    listener: listener.clone(),
                    certificates: more,
                },
            );
        }
        if !less.is_empty() {
            self.draft.step(
                Effect::None,
                Action::RemoveListenerCertificates {
                    listener,
                    certificates: less,
                },
            );
        }
    }

    /// Where it is to forward next, if that differs, and what that does to traffic.
    fn forward(
        &mut self,
        there: &seen::Listener,
        group: &Placed<'_>,
        protocol_differs: bool,
    ) -> (Option<Vec<Forward>>, Effect) {
        let weight = match &group.at {
            Ref::There(arn) => there.forward.get(arn).copied(),
            Ref::Made(_) => None,
        };
        if weight.is_some() && there.forward.len() == 1 {
            return (None, Effect::None);
        }
        let others = (self.seen.target_groups.iter())
            .filter(|other| there.forward.contains_key(&other.arn))
            .filter(|other| Ref::There(other.arn.clone()) != group.at);
        let served = others.clone().any(has_healthy);
        let joined = weight.is_some();
        let alone = (others.clone()).any(|other| other.protocol != Some(group.wanted.protocol));
        let effect = match (weight, served) {
            (Some(1..), _) | (_, false) => Effect::None,
            _ if joined && group.is_ready() => Effect::None,
            // One listener forwards by one protocol: the new group cannot join the old ones.
            (None, true) if protocol_differs || alone => Effect::Interrupts,
            (_, true) => {
                self.draft.wait(Wait::Healthy {
                    target_group: group.at.clone(),
                });
                if joined {
                    return (None, Effect::None);
                }
                let mut forward = weights(&there.forward);
                forward.push(Forward {
                    target_group: group.at.clone(),
                    weight: 0,
                });
                return (Some(forward), Effect::None);
            }
        };
        for other in others {
            self.draft.wait(Wait::Drained {
                target_group: Ref::There(other.arn.clone()),
            });
        }
        (Some(all_to(&group.at)), effect)
    }

    /// A listener that nobody wants: its targets drain, then it goes.
    fn remove(&mut self, port: u16, there: &seen::Listener, placed: &BTreeMap<String, Placed<'a>>) {
        if !is_ours(self.seen, there) {
            return;
        }
        let seen: &'a Seen = self.seen;
        let kept = |arn: &str| {
            (placed.values()).any(|placed| placed.there.is_some_and(|there| there.arn == arn))
        };
        let (shared, own): (Vec<&seen::TargetGroup>, Vec<_>) = seen
            .target_groups
            .iter()
            .filter(|group| there.forward.contains_key(&group.arn))
            .partition(|group| kept(&group.arn));
        let mut drained = true;
        for group in &own {
            drained &= self.draft.drain(group, Effect::Drain);
        }
        if drained {
            let effect = match shared.is_empty() {
                true => Effect::None,
                false => Effect::Interrupts,
            };
            self.draft.step(
                effect,
                Action::DeleteListener {
                    arn: there.arn.clone(),
                    port,
                },
            );
            for group in own {
                self.draft.delete_group(group);
            }
        }
    }
}

fn all_to(group: &Ref) -> Vec<Forward> {
    vec![Forward {
        target_group: group.clone(),
        weight: 1,
    }]
}

fn weights(forward: &BTreeMap<String, u32>) -> Vec<Forward> {
    forward
        .iter()
        .map(|(arn, weight)| Forward {
            target_group: Ref::There(arn.clone()),
            weight: *weight,
        })
        .collect()
}
