//! Load balancers of others: they get and lose our listeners, and nothing else of them ever changes.

use super::*;

const THEIRS: [&str; 2] = ["theirs-0", "theirs-1"];
/// Where theirs have a listener already.
pub(super) const TAKEN: u16 = 443;

fn theirs(name: &str) -> seen::LoadBalancer {
    let listener = seen::Listener {
        arn: format!("{name}-listener"),
        protocol: Some(Protocol::Tcp),
        certificates: Vec::new(),
        ssl_policy: None,
        alpn: None,
        forward: BTreeMap::from([(format!("{name}-group"), 1)]),
        attributes: Some(BTreeMap::new()),
    };
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    seen::LoadBalancer {
        arn: name.to_owned(),
        name: name.to_owned(),
        dns_name: format!("{name}.example"),
        active: true,
        scheme: Scheme::Internal,
        ip_address_type: IpAddressType::Ipv4,
        subnets: vec![SubnetMapping::default()],
        security_groups: BTreeSet::from(["sg-theirs".to_owned()]),
        enforce_rules_on_private_link: Some(true),
        ipv6_source_nat: false,
        tags: pair("portolan.dev/adoptable", "test"),
        details: Some(seen::LoadBalancerDetails {
            attributes: pair("deletion_protection.enabled", "false"),
            listeners: BTreeMap::from([(TAKEN, listener)]),
        }),
    }
}

fn world() -> World {
    let mut world = World::new();
    world.account.seen.foreign = THEIRS.map(theirs).into();
    world
}

/// What a Service that adopts one wants: no security group, as DESIRED says.
fn adopting(wish: &Wish, which: Option<usize>) -> Wanted {
    let mut wanted = wanted(wish);
    if let Some(which) = which {
        wanted.adopt = Some(THEIRS[which].to_owned());
        wanted.security_group = None;
    }
    wanted
}

/// Our listeners on load balancers of others, by load balancer.
fn ours(seen: &Seen) -> BTreeMap<&str, BTreeSet<u16>> {
    let of = |there: &'_ seen::LoadBalancer| -> BTreeSet<u16> {
        let listeners = there.details.iter().flat_map(|details| &details.listeners);
        let ours = listeners.filter(|(_, listener)| {
            let mut groups = seen.target_groups.iter();
            groups.any(|group| listener.forward.contains_key(&group.arn))
        });
        ours.map(|(port, _)| *port).collect()
    };
    let all = seen
        .foreign
        .iter()
        .map(|there| (there.arn.as_str(), of(there)));
    all.filter(|(_, ports)| !ports.is_empty()).collect()
}

/// Without our listeners they are as they were.
fn untouched(seen: &Seen) -> Result<(), TestCaseError> {
    let mut left = seen.foreign.clone();
    for there in &mut left {
        let details = there.details.get_or_insert_default();
        (details.listeners).retain(|_, listener| {
            let mut groups = seen.target_groups.iter();
            !groups.any(|group| listener.forward.contains_key(&group.arn))
        });
    }
    prop_assert_eq!(left, THEIRS.map(theirs).to_vec());
    Ok(())
}

fn settle(world: &mut World, wanted: &Wanted) -> Result<(), TestCaseError> {
    for _ in 0..LONGEST {
        let more = world.pass(wanted, None)?;
        untouched(&world.account.seen)?;
        if !more {
            return is_adopted(world, wanted);
        }
    }
    Err(TestCaseError::fail(format!(
        "no end: {:#?} {:#?}",
        world.plan(wanted),
        world.account.seen
    )))
}

fn is_adopted(world: &World, wanted: &Wanted) -> Result<(), TestCaseError> {
    let seen = &world.account.seen;
    let Some(arn) = &wanted.adopt else {
        prop_assert!(ours(seen).is_empty(), "{:#?}", seen.foreign);
        return world.is_as_wanted(wanted);
    };
    let mut ports: BTreeSet<u16> = wanted.listeners.keys().copied().collect();
    let taken = ports.remove(&TAKEN);
    let expected = match ports.is_empty() {
        true => BTreeMap::new(),
        false => BTreeMap::from([(arn.as_str(), ports.clone())]),
    };
    prop_assert_eq!(ours(seen), expected);
    prop_assert!(seen.load_balancers.is_empty());
    prop_assert_eq!(&seen.security_group, &None);
    prop_assert_eq!(seen.target_groups.len(), ports.len());
    let marked = |group: &seen::TargetGroup| group.tags.contains_key(tags::RETIRED);
    prop_assert!(!seen.target_groups.iter().any(marked));
    let plan = world.plan(wanted);
    let told = plan.warnings.iter().any(|said| {
        said.contains(&format!("port {TAKEN} ")) && said.contains(&format!("load balancer {arn} "))
    });
    prop_assert_eq!(told, taken, "{:?}", plan.warnings);
    Ok(())
}

proptest! {
    #[test]
    fn load_balancers_of_others_get_and_lose_our_listeners_and_nothing_else(
        wishes in prop::collection::vec((wishes(), prop::option::weighted(0.7, 0..2_usize)), 1..4),
    ) {
        let mut world = world();
        for (wish, which) in &wishes {
            settle(&mut world, &adopting(wish, *which))?;
        }
    }

    #[test]
    fn so_they_do_wherever_it_stops_and_whatever_is_wanted_next(
        wishes in prop::collection::vec((wishes(), prop::option::weighted(0.7, 0..2_usize)), 2..4),
        stops in prop::collection::vec((0..12_usize, 0..3_usize), 1..8),
    ) {
        let mut world = world();
        for (stop, which) in stops {
            let (wish, which) = &wishes[which % wishes.len()];
            world.pass(&adopting(wish, *which), Some(stop))?;
            untouched(&world.account.seen)?;
        }
        let (wish, which) = &wishes[0];
        settle(&mut world, &adopting(wish, *which))?;
    }

    #[test]
    fn they_stay_when_the_service_goes(
        wishes in prop::collection::vec((wishes(), prop::option::weighted(0.8, 0..2_usize)), 1..3),
        passes in 0..6_usize,
        stops in prop::collection::vec(0..6_usize, 0..4),
        retain in any::<bool>(),
    ) {
        let mut world = world();
        for (wish, which) in &wishes {
            for _ in 0..passes {
                world.pass(&adopting(wish, *which), None)?;
            }
        }
        let on_delete = if retain { OnDelete::Retain } else { OnDelete::Delete };
        let own = world.account.seen.load_balancers.len();
        let mut stops = stops.into_iter().map(Some).chain([None; 10]);
        loop {
            let plan = teardown(&world.account.seen, on_delete);
            if plan.steps.is_empty() {
                break;
            }
            let stop = stops.next().expect("an end");
            for step in plan.steps.iter().take(stop.unwrap_or(usize::MAX)) {
                let done = world.account.step(&step.action);
                prop_assert!(done.is_ok(), "{done:?} by {step:?} of {plan:#?}");
                untouched(&world.account.seen)?;
            }
            if stop.is_none() {
                plan.waits().for_each(|until| world.account.wait(until));
            }
        }
        let seen = &world.account.seen;
        prop_assert_eq!(&seen.foreign, &THEIRS.map(theirs).to_vec());
        let load_balancers = (seen.load_balancers.iter()).map(|there| &there.tags);
        let groups = (seen.target_groups.iter()).map(|there| &there.tags);
        let security_group = (seen.security_group.iter()).map(|there| &there.tags);
        let mut left = load_balancers.chain(groups).chain(security_group);
        if retain {
            prop_assert_eq!(seen.load_balancers.len(), own);
            prop_assert!(left.all(|tags| !tags.keys().any(|key| tags::is_ownership(key))));
        } else {
            prop_assert!(left.next().is_none());
        }
    }
}
