//! What is true of every plan, whatever was there before and wherever the one before it stopped.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, strategy::ValueTree as _};

use super::*;
use crate::{
    diff::{OnDelete, retarget, teardown},
    fingerprint,
    plan::Effect,
    tags,
    wanted::{
        HealthCheck, HealthCheckProtocol, IpAddressType, LoadBalancer, Protocol, Rule, Scheme,
        SecurityGroup, Source, SubnetMapping, TargetGroup, TargetType, Wanted,
    },
};

mod adoption;

/// What a user may ask for, reduced to what matters to the order of steps.
#[derive(Clone, Debug)]
struct Wish {
    scheme: Scheme,
    /// An elastic IP, for the one subnet that is always there.
    address: Option<u8>,
    chosen_name: bool,
    second_subnet: bool,
    dualstack: bool,
    ports: BTreeMap<u16, PortWish>,
    attributes: BTreeMap<String, String>,
    sources: BTreeSet<u8>,
}

#[derive(Clone, Debug)]
struct PortWish {
    protocol: Protocol,
    target_type: TargetType,
    targets: BTreeSet<u8>,
    proxy: bool,
    interval: u32,
}

fn ports() -> impl Strategy<Value = BTreeMap<u16, PortWish>> {
    let protocol = prop_oneof![
        3 => Just(Protocol::Tcp),
        1 => Just(Protocol::Udp),
        1 => Just(Protocol::TcpUdp),
        1 => Just(Protocol::Tls),
    ];
    let target_type = prop_oneof![2 => Just(TargetType::Instance), 1 => Just(TargetType::Ip)];
    let wish = (
        protocol,
        target_type,
        prop::collection::btree_set(0..8_u8, 0..6),
        any::<bool>(),
        prop_oneof![Just(10_u32), Just(30)],
    );
    let wish = wish.prop_map(
        |(protocol, target_type, targets, proxy, interval)| PortWish {
            protocol,
            target_type,
            targets,
            proxy,
            interval,
        },
    );
    prop::collection::btree_map(prop_oneof![Just(80_u16), Just(443), Just(53)], wish, 1..4)
}

fn wishes() -> impl Strategy<Value = Wish> {
    (
        prop_oneof![Just(Scheme::Internal), Just(Scheme::InternetFacing)],
        prop::option::weighted(0.3, 0..2_u8),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::bool::weighted(0.3),
        ports(),
        prop::bool::weighted(0.3),
        prop::collection::btree_set(0..4_u8, 0..3),
    )
        .prop_map(
            |(scheme, address, chosen_name, second_subnet, dualstack, ports, cross, sources)| {
                Wish {
                    scheme,
                    address,
                    chosen_name,
                    second_subnet,
                    dualstack,
                    ports,
                    attributes: cross
                        .then(|| ("load_balancing.cross_zone.enabled".into(), "true".into()))
                        .into_iter()
                        .collect(),
                    sources,
                }
            },
        )
}

fn wanted(wish: &Wish) -> Wanted {
    let of = |resource: &str| Tags::from([(tags::LBC_RESOURCE.to_owned(), resource.to_owned())]);
    let mut wanted = Wanted {
        stack: "shop/web".to_owned(),
        adopt: None,
        load_balancer: LoadBalancer {
            name: match (wish.chosen_name, wish.scheme) {
                (true, _) => "chosen".to_owned(),
                (false, Scheme::Internal) => "k8s-shop-web-aaaaaaaaaa".to_owned(),
                (false, Scheme::InternetFacing) => "k8s-shop-web-bbbbbbbbbb".to_owned(),
            },
            scheme: wish.scheme,
            ip_address_type: match wish.dualstack {
                true => IpAddressType::Dualstack,
                false => IpAddressType::Ipv4,
            },
            subnets: vec![SubnetMapping {
                subnet: "subnet-1".to_owned(),
                allocation: wish.address.map(|n| format!("eipalloc-{n}")),
                ..SubnetMapping::default()
            }],
            security_groups: Vec::new(),
            attributes: wish.attributes.clone(),
            tags: of("LoadBalancer"),
            enforce_rules_on_private_link: None,
            ipv6_source_nat: false,
        },
        listeners: BTreeMap::new(),
        target_groups: BTreeMap::new(),
        security_group: Some(SecurityGroup {
            name: "k8s-shop-web".to_owned(),
            description: "clients".to_owned(),
            rules: (wish.sources.iter())
                .map(|n| Rule {
                    protocol: "tcp",
                    from: 80,
                    to: 80,
                    source: Source::Ipv4(format!("10.{n}.0.0/16")),
                })
                .collect(),
            tags: of("ManagedLBSecurityGroup"),
        }),
        warnings: Vec::new(),
    };
    if wish.second_subnet {
        wanted.load_balancer.subnets.push(SubnetMapping {
            subnet: "subnet-2".to_owned(),
            ..SubnetMapping::default()
        });
    }
    for (port, wish) in &wish.ports {
        let key = format!("shop/web:{port}");
        wanted.listeners.insert(
            *port,
            Listener {
                protocol: wish.protocol,
                certificates: match wish.protocol {
                    Protocol::Tls => match wish.proxy {
                        true => vec!["arn:one".to_owned(), "arn:two".to_owned()],
                        false => vec!["arn:two".to_owned(), "arn:three".to_owned()],
                    },
                    Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp => Vec::new(),
                },
                ssl_policy: None,
                alpn: None,
                target_group: key.clone(),
                attributes: BTreeMap::new(),
            },
        );
        let protocol = match wish.protocol {
            Protocol::Tls => Protocol::Tcp,
            other @ (Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp) => other,
        };
        wanted.target_groups.insert(
            key.clone(),
            TargetGroup {
                name: format!("k8s-{port}-{protocol:?}-{:?}", wish.target_type),
                vpc: "vpc-1".to_owned(),
                protocol,
                port: 1,
                target_type: wish.target_type,
                ipv6: false,
                health_check: HealthCheck {
                    protocol: HealthCheckProtocol::Tcp,
                    port: "traffic-port".to_owned(),
                    path: None,
                    success_codes: None,
                    interval: wish.interval,
                    timeout: 10,
                    healthy_threshold: 3,
                    unhealthy_threshold: 3,
                },
                attributes: wish
                    .proxy
                    .then(|| ("proxy_protocol_v2.enabled".to_owned(), "true".to_owned()))
                    .into_iter()
                    .collect(),
                targets: (wish.targets.iter())
                    .map(|n| Target {
                        id: format!("{:?}-{n}", wish.target_type),
                        port: *port,
                        zone: None,
                    })
                    .collect(),
                tags: of(&key),
            },
        );
    }
    wanted
}

/// One user, one account, one clock.
struct World {
    account: Account,
    shown: Option<String>,
    now: i64,
    /// Targets that have drained since nobody wanted their group, by group: somebody may want it again.
    leaving: BTreeSet<(String, Target)>,
}

const SHARE: u8 = 50;

impl World {
    fn new() -> Self {
        Self {
            account: Account::default(),
            shown: None,
            now: 1_000_000,
            leaving: BTreeSet::new(),
        }
    }

    /// As the controller does: the short way when only targets have changed.
    fn plan(&self, wanted: &Wanted) -> Plan {
        let situation = Situation {
            wanted,
            seen: &self.account.seen,
            shown: self.shown.as_deref(),
            now: self.now,
            removed_percent: SHARE,
        };
        match fingerprint::applied(wanted, &self.account.seen) {
            fingerprint::Applied::AllButTargets => retarget(situation),
            fingerprint::Applied::All | fingerprint::Applied::Unknown => diff(situation),
        }
    }

    /// One plan, of which only so many steps are carried out when it stops (a crash): then its
    /// waits have not come and the status shows what it did.
    fn pass(&mut self, wanted: &Wanted, stop: Option<usize>) -> Result<bool, TestCaseError> {
        let plan = self.plan(wanted);
        if plan.steps.is_empty() {
            let name = plan.show.as_ref().and_then(|at| self.account.dns_name(at));
            let changed = name.is_some() && name != self.shown;
            self.shown = name.or(self.shown.take());
            return Ok(changed);
        }
        self.account.made.clear();
        for step in plan.steps.iter().take(stop.unwrap_or(usize::MAX)) {
            let before = self.served();
            let done = self.account.step(&step.action);
            prop_assert!(done.is_ok(), "{done:?} by {step:?} of {plan:#?}");
            if step.effect < Effect::Interrupts {
                self.still_served(wanted, &before, &plan)?;
            }
            self.few_drain(wanted, &plan)?;
        }
        if stop.is_some_and(|stop| stop < plan.steps.len()) {
            return Ok(true);
        }
        if let Some(name) = plan.show.as_ref().and_then(|at| self.account.dns_name(at)) {
            let before = self.served();
            self.shown = Some(name);
            if plan.effect() < Effect::Interrupts {
                self.still_served(wanted, &before, &plan)?;
            }
        }
        for until in plan.waits() {
            self.account.wait(until);
            if matches!(until, Wait::Forgotten { .. }) {
                self.now += crate::diff::DNS_GRACE;
            }
        }
        self.account.check_health();
        Ok(true)
    }

    fn settle(&mut self, wanted: &Wanted) -> Result<(), TestCaseError> {
        for _ in 0..LONGEST {
            if !self.pass(wanted, None)? {
                return self.is_as_wanted(wanted);
            }
        }
        let plan = self.plan(wanted);
        Err(TestCaseError::fail(format!(
            "no end: {plan:#?} {:#?}",
            self.account.seen
        )))
    }

    /// Ports where a client of the shown load balancer finds a healthy target.
    fn served(&self) -> BTreeSet<u16> {
        let seen = &self.account.seen;
        let shown = (seen.load_balancers.iter().chain(&seen.foreign))
            .filter(|there| self.shown.as_ref() == Some(&there.dns_name));
        let listeners = shown
            .flat_map(|there| &there.details)
            .flat_map(|d| &d.listeners);
        let healthy = |arn: &str| {
            let groups = seen.target_groups.iter().filter(|group| group.arn == arn);
            groups
                .flat_map(|group| &group.details)
                .flat_map(|details| details.targets.values())
                .any(|health| *health == Health::Healthy)
        };
        listeners
            .filter(|(_, there)| {
                (there.forward.iter()).any(|(arn, weight)| *weight > 0 && healthy(arn))
            })
            .map(|(port, _)| *port)
            // Whoever moves to a load balancer where it is taken loses it.
            .filter(|port| seen.foreign.is_empty() || *port != adoption::TAKEN)
            .collect()
    }

    fn still_served(
        &self,
        wanted: &Wanted,
        before: &BTreeSet<u16>,
        plan: &Plan,
    ) -> Result<(), TestCaseError> {
        let after = self.served();
        for port in before.difference(&after) {
            let target_group = wanted
                .listeners
                .get(port)
                .map(|listener| &listener.target_group);
            let targets = target_group.and_then(|key| wanted.target_groups.get(key));
            // Pods that are all gone, or replaced at once, are no fault of a plan.
            let endpoints = targets.is_none_or(|group| {
                group.targets.is_empty() || group.target_type == TargetType::Ip
            });
            prop_assert!(endpoints, "port {port} is no longer served: {plan:#?}");
        }
        Ok(())
    }

    /// Of the instances in a group that stays no more than the share drains.
    fn few_drain(&mut self, wanted: &Wanted, plan: &Plan) -> Result<(), TestCaseError> {
        let gone: BTreeSet<String> = (plan.steps.iter())
            .filter_map(|step| {
                let Action::DeregisterTargets {
                    target_group,
                    targets,
                } = &step.action
                else {
                    return None;
                };
                let arn = self.account.resolve(target_group);
                let all = (self.account.seen.target_groups.iter())
                    .find(|group| group.arn == arn)
                    .and_then(|group| group.details.as_ref())
                    .map_or(0, |details| details.targets.len());
                (targets.len() == all).then_some(arn)
            })
            .collect();
        let mut leaving = BTreeSet::new();
        for group in &self.account.seen.target_groups {
            let Some(details) = &group.details else {
                continue;
            };
            let whole_group = gone.contains(&group.arn);
            let is_wanted = (wanted.target_groups.values()).any(|one| one.name == group.name);
            let (mut draining, mut left) = (0, details.targets.len());
            let targets = details.targets.iter();
            for (target, _) in targets.filter(|(_, health)| **health == Health::Draining) {
                let place = (group.arn.clone(), target.clone());
                if !is_wanted || self.leaving.contains(&place) {
                    leaving.insert(place);
                    left -= 1;
                } else {
                    draining += 1;
                }
            }
            if whole_group || group.target_type == Some(TargetType::Ip) {
                continue;
            }
            let allowed = (left * usize::from(SHARE) / 100).max(1);
            prop_assert!(
                draining <= allowed || draining == left,
                "{draining} of {left}"
            );
        }
        self.leaving = leaving;
        Ok(())
    }

    fn is_as_wanted(&self, wanted: &Wanted) -> Result<(), TestCaseError> {
        let seen = &self.account.seen;
        let [there] = seen.load_balancers.as_slice() else {
            return Err(TestCaseError::fail(format!("{:#?}", seen.load_balancers)));
        };
        prop_assert_eq!(
            fingerprint::applied(wanted, seen),
            fingerprint::Applied::All
        );
        prop_assert_eq!(there.scheme, wanted.load_balancer.scheme);
        prop_assert_eq!(there.ip_address_type, wanted.load_balancer.ip_address_type);
        prop_assert_eq!(self.shown.as_ref(), Some(&there.dns_name));
        prop_assert_eq!(seen.target_groups.len(), wanted.target_groups.len());
        let rules = wanted.security_group.as_ref().map(|group| &group.rules);
        prop_assert_eq!(
            seen.security_group.as_ref().map(|group| &group.rules),
            rules
        );
        let details = there.details.clone().unwrap_or_default();
        let ports: Vec<u16> = details.listeners.keys().copied().collect();
        let wanted_ports: Vec<u16> = wanted.listeners.keys().copied().collect();
        prop_assert_eq!(ports, wanted_ports);
        for (port, listener) in &wanted.listeners {
            let there = &details.listeners[port];
            prop_assert_eq!(there.protocol, Some(listener.protocol));
            prop_assert_eq!(&there.certificates, &listener.certificates);
            let group = &wanted.target_groups[&listener.target_group];
            let [arn] = there.forward.keys().collect::<Vec<_>>()[..] else {
                return Err(TestCaseError::fail(format!("{there:?}")));
            };
            let found = seen
                .target_groups
                .iter()
                .find(|group| group.arn == *arn)
                .unwrap();
            prop_assert_eq!(found.target_type, Some(group.target_type));
            prop_assert_eq!(found.protocol, Some(group.protocol));
            prop_assert_eq!(&found.health_check, &group.health_check);
            let targets: BTreeSet<Target> = found
                .details
                .iter()
                .flat_map(|d| &d.targets)
                .filter(|(_, health)| **health != Health::Draining)
                .map(|(target, _)| target.clone())
                .collect();
            // Without any node that can be a target the ones that are there stay.
            if !(group.targets.is_empty() && group.target_type == TargetType::Instance) {
                prop_assert_eq!(&targets, &group.targets);
            }
        }
        Ok(())
    }
}

#[test]
fn what_is_to_be_adopted_and_is_not_there_is_never_made() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let wish = wishes().new_tree(&mut runner).unwrap().current();
    let wanted = Wanted {
        adopt: Some("arn:theirs".to_owned()),
        ..wanted(&wish)
    };
    let plan = World::new().plan(&wanted);
    assert_eq!(plan.steps, []);
    assert!(plan.warnings[0].contains("arn:theirs"), "{plan:?}");
}

proptest! {
    #[test]
    fn every_wish_comes_true_whatever_was_there_before(wishes in prop::collection::vec(wishes(), 1..4)) {
        let mut world = World::new();
        for wish in &wishes {
            world.settle(&wanted(wish))?;
        }
    }

    #[test]
    fn a_crash_after_any_step_converges(
        first in wishes(),
        second in wishes(),
        stops in prop::collection::vec(0..12_usize, 1..8),
    ) {
        let mut world = World::new();
        world.settle(&wanted(&first))?;
        let second = wanted(&second);
        for stop in stops {
            world.pass(&second, Some(stop))?;
        }
        world.settle(&second)?;
    }

    #[test]
    fn a_change_of_mind_half_way_converges(
        wishes in prop::collection::vec((wishes(), 0..6_usize), 2..5),
    ) {
        let mut world = World::new();
        for (wish, passes) in &wishes {
            for _ in 0..*passes {
                world.pass(&wanted(wish), None)?;
            }
        }
        let last = wanted(&wishes.last().unwrap().0);
        world.settle(&last)?;
    }

    #[test]
    fn teardown_leaves_nothing_wherever_it_stops(
        wish in wishes(),
        passes in 0..6_usize,
        stops in prop::collection::vec(0..6_usize, 0..4),
    ) {
        let mut world = World::new();
        let wanted = wanted(&wish);
        for _ in 0..passes {
            world.pass(&wanted, None)?;
        }
        let mut stops = stops.into_iter().map(Some).chain([None; 10]);
        loop {
            let plan = teardown(&world.account.seen, OnDelete::Delete);
            if plan.steps.is_empty() {
                break;
            }
            let stop = stops.next().expect("an end");
            for step in plan.steps.iter().take(stop.unwrap_or(usize::MAX)) {
                let done = world.account.step(&step.action);
                prop_assert!(done.is_ok(), "{done:?}");
            }
            if stop.is_none() {
                plan.waits().for_each(|until| world.account.wait(until));
            }
        }
        prop_assert_eq!(&world.account.seen, &Seen::default());
    }
}
