//! Random sequences of requests, releases, retentions and edits of pools, against a model that is
//! too simple to be wrong: maps of numbers, walked from end to end. After each step both must give
//! the same numbers; no number is ever held by two Services that may not share it; what is counted
//! as things happen equals what a rebuilt allocator counts, whatever the order it was built in.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use allocator::{
    Admission, Allocator, Band, Pool, PoolState, RangeSet, Request, Sharing, Strategy, Terms,
    block::{BlockId, Holder},
    may_share,
};
use fastrand::Rng;
use model::{Family, Labels, Number, ServiceKey, Space, TrafficPolicy, Uid, Use};

const NOW: i64 = 1_000;
const V4: u128 = 0x0a00_00f0; // across a block boundary
const V6: u128 = 0x2001_0db8 << 96;

/// A Service with what it asks for at the moment.
#[derive(Clone, Debug)]
struct Service {
    key: ServiceKey,
    uid: Uid,
    usage: Use,
    families: Vec<Family>,
    require_all: bool,
    pool: Option<String>,
    explicit: Vec<Number>,
    sharing: Option<Sharing>,
    allowed: Option<Vec<String>>,
    shown: Vec<Number>,
    exclude: Vec<Number>,
}

#[derive(Clone, Default)]
struct Oracle {
    pools: Vec<Pool>,
    held: BTreeMap<Number, Vec<Holder>>,
    retained: BTreeMap<Number, (ServiceKey, i64)>,
    quarantined: BTreeSet<BlockId>,
}

/// Numbers granted, numbers to release, and how many are missing.
type Answer = (Vec<Number>, Vec<Number>, usize);

impl Oracle {
    /// Every number the pool hands out, in the order it does.
    fn stock(pool: &Pool, space: Space) -> Vec<Number> {
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for &(from, to) in pool.ranges(space).ranges() {
            let band = match pool.usage {
                Use::ClusterIp => Band::of_cluster_ips(space, from, to),
                Use::NodePort | Use::HealthCheckNodePort => Band::of_ports(from, to),
                Use::LoadBalancer => Band {
                    fixed: None,
                    free: Some((from, to)),
                },
            };
            first.extend(band.free.into_iter().flat_map(|(a, b)| a..=b));
            then.extend(band.fixed.into_iter().flat_map(|(a, b)| a..=b));
        }
        let buggy = |value: u128| {
            pool.avoid_buggy_ips && space == Space::V4 && matches!(value % 256, 0 | 255)
        };
        first.extend(then);
        first.retain(|&value| !pool.reserved(space).contains(value) && !buggy(value));
        first
            .into_iter()
            .map(|value| Number { space, value })
            .collect()
    }

    fn overlaps_older(&self, pool: &Pool) -> bool {
        let handed = |pool: &Pool, space| pool.ranges(space).subtract(pool.reserved(space));
        self.pools.iter().any(|other| {
            (other.created, &other.name) < (pool.created, &pool.name)
                && [Space::V4, Space::V6, Space::Port].iter().any(|&space| {
                    handed(pool, space)
                        .intersects(&handed(other, space))
                        .is_some()
                })
        })
    }

    fn admits(pool: &Pool, service: &Service) -> bool {
        let listed = |set: &BTreeSet<String>| set.contains(&*service.key.namespace);
        pool.serves(service.usage) && pool.admission.namespaces.as_ref().is_none_or(listed)
    }

    /// Whether somebody else is in the way.
    fn blocked(&self, service: &Service, number: Number) -> bool {
        if let Some((owner, until)) = self.retained.get(&number) {
            return *owner != service.key && *until > NOW;
        }
        self.held.get(&number).into_iter().flatten().any(|holder| {
            if holder.uid == service.uid {
                return holder.usage != service.usage;
            }
            match (&service.sharing, &holder.sharing) {
                (Some(own), Some(other)) => may_share(
                    &service.key.namespace,
                    own,
                    &holder.service.namespace,
                    other,
                )
                .is_err(),
                (None, _) | (_, None) => true,
            }
        })
    }

    fn keeps(&self, service: &Service, number: Number, only: Option<&str>) -> bool {
        self.pools.iter().any(|pool| {
            only.is_none_or(|only| *only == *pool.name)
                && pool.ranges(number.space).contains(number.value)
                && Self::admits(pool, service)
        })
    }

    fn gives(&self, service: &Service, number: Number) -> bool {
        !service.exclude.contains(&number)
            && !self.quarantined.contains(&BlockId::of(number))
            && !self.blocked(service, number)
    }

    fn fit<'a>(&'a self, service: &Service) -> Vec<&'a Pool> {
        let enforced = self
            .pools
            .iter()
            .any(|pool| pool.enforce && Self::admits(pool, service));
        let mut fit: Vec<&Pool> = self
            .pools
            .iter()
            .filter(|pool| Self::admits(pool, service) && (pool.enforce || !enforced))
            .filter(|pool| !pool.disabled && !self.overlaps_older(pool))
            .filter(|pool| {
                service
                    .pool
                    .as_ref()
                    .is_none_or(|name| **name == *pool.name)
            })
            .filter(|pool| {
                service
                    .allowed
                    .as_ref()
                    .is_none_or(|allowed| allowed.iter().any(|name| **name == *pool.name))
            })
            .collect();
        fit.sort_by_key(|pool| {
            (
                !pool.admission.is_selective(),
                Reverse(pool.priority),
                pool.name.clone(),
            )
        });
        fit
    }

    fn fresh(&self, service: &Service, space: Space, held: &[Number]) -> Option<Number> {
        let fit = self.fit(service);
        if let Some(number) = service
            .explicit
            .iter()
            .copied()
            .find(|number| number.space == space)
        {
            let given = fit
                .iter()
                .any(|pool| Self::stock(pool, space).contains(&number));
            return (given && self.gives(service, number)).then_some(number);
        }
        let taken_up = service.shown.iter().copied().find(|&number| {
            number.space == space
                && !held.contains(&number)
                && self.gives(service, number)
                && self.keeps(service, number, service.pool.as_deref())
        });
        if taken_up.is_some() {
            return taken_up;
        }
        let fit: Vec<&Pool> = fit
            .into_iter()
            .filter(|pool| service.pool.is_some() || pool.auto_assign)
            .collect();
        let all: BTreeSet<Number> = fit
            .iter()
            .flat_map(|pool| Self::stock(pool, space))
            .collect();
        let carries = |number: &Number| {
            let holders = self.held.get(number).map(Vec::as_slice).unwrap_or_default();
            let key = service.sharing.as_ref().map(|sharing| &sharing.key);
            key.is_some()
                && holders
                    .iter()
                    .any(|holder| holder.sharing.as_ref().map(|s| &s.key) == key)
        };
        let own = |number: &Number| {
            self.retained
                .get(number)
                .is_some_and(|(owner, _)| *owner == service.key)
        };
        let free = |number: &Number| {
            !self.held.contains_key(number) && !self.retained.contains_key(number)
        };
        let given = |number: &Number| self.gives(service, *number);
        all.iter()
            .copied()
            .find(|number| carries(number) && given(number))
            .or_else(|| {
                all.iter()
                    .copied()
                    .find(|number| own(number) && given(number))
            })
            .or_else(|| {
                fit.iter().find_map(|pool| {
                    Self::stock(pool, space)
                        .into_iter()
                        .find(|number| free(number) && given(number))
                })
            })
    }

    fn decide(&self, service: &Service) -> Answer {
        let held: Vec<Number> = (self.held.iter())
            .filter(|(number, holders)| {
                !service.exclude.contains(number)
                    && holders
                        .iter()
                        .any(|holder| holder.uid == service.uid && holder.usage == service.usage)
            })
            .map(|(number, _)| *number)
            .collect();
        let spaces: Vec<Space> = match service.usage {
            Use::LoadBalancer | Use::ClusterIp => service
                .families
                .iter()
                .map(|&family| family.into())
                .collect(),
            Use::NodePort | Use::HealthCheckNodePort => vec![Space::Port],
        };
        let best = |numbers: Vec<Number>| {
            let shown = numbers
                .iter()
                .copied()
                .find(|number| service.shown.contains(number));
            shown.or(numbers.first().copied())
        };
        let mut outcomes: Vec<(Option<Number>, Option<Number>, bool)> = Vec::new();
        for space in spaces {
            let held: Vec<Number> = held
                .iter()
                .copied()
                .filter(|number| number.space == space)
                .collect();
            let explicit = service
                .explicit
                .iter()
                .copied()
                .find(|number| number.space == space);
            let parts = |number: &Number| {
                let holders = &self.held[number];
                let own = holders
                    .iter()
                    .find(|holder| holder.uid == service.uid && holder.usage == service.usage);
                own.and_then(|own| own.sharing.as_ref()) != service.sharing.as_ref()
                    && self.blocked(service, *number)
            };
            let satisfying = held.iter().copied().filter(|number| {
                explicit.is_none_or(|explicit| explicit == *number)
                    && !parts(number)
                    && self.keeps(service, *number, service.pool.as_deref())
            });
            if let Some(kept) = best(satisfying.collect()) {
                outcomes.push((Some(kept), None, false));
                continue;
            }
            let in_service =
                |number: &Number| space != Space::Port || service.shown.contains(number);
            let mut kept = best(
                held.iter()
                    .copied()
                    .filter(|number| in_service(number) && self.keeps(service, *number, None))
                    .collect(),
            );
            let stuck = service.shown.iter().copied().find(|&number| {
                number.space == space
                    && self.quarantined.contains(&BlockId::of(number))
                    && !self.blocked(service, number)
                    && self.keeps(service, number, None)
            });
            if kept.is_none() && stuck.is_some() {
                kept = stuck;
                if explicit.is_none() || explicit == stuck {
                    outcomes.push((kept, None, true));
                    continue;
                }
            }
            let fresh = self.fresh(service, space, &held);
            outcomes.push((kept, fresh, fresh.is_none()));
        }
        let stop = service.require_all
            && outcomes
                .iter()
                .any(|(kept, fresh, _)| kept.is_none() && fresh.is_none());
        let grants: Vec<Number> = outcomes
            .iter()
            .filter_map(|(kept, fresh, _)| fresh.filter(|_| !stop).or(*kept))
            .collect();
        let surplus = held
            .into_iter()
            .filter(|number| !grants.contains(number))
            .collect();
        (
            grants,
            surplus,
            outcomes.iter().filter(|(_, _, missing)| *missing).count(),
        )
    }
}

fn decide(allocator: &Allocator, service: &Service) -> allocator::Verdict {
    let labels = Labels::new();
    let request = Request {
        service: &service.key,
        uid: &service.uid,
        usage: service.usage,
        namespace_labels: &labels,
        service_labels: &labels,
        families: &service.families,
        require_all: service.require_all,
        pool: service.pool.as_deref(),
        explicit: &service.explicit,
        sharing: service.sharing.as_ref(),
        allowed_pools: service.allowed.as_deref(),
        shown: &service.shown,
        exclude: &service.exclude,
        pass_over: None,
        stable_salt: None,
    };
    allocator.decide(&request, NOW)
}

fn answer(verdict: &allocator::Verdict) -> Answer {
    let grants = verdict.grants.iter().map(|grant| grant.number).collect();
    (grants, verdict.surplus.clone(), verdict.missing.len())
}

fn random_number(random: &mut Rng, usage: Use) -> Number {
    match usage {
        Use::NodePort | Use::HealthCheckNodePort => Number::port(30_000 + random.u16(..40)),
        Use::LoadBalancer | Use::ClusterIp if random.bool() => Number {
            space: Space::V4,
            value: V4 + random.u128(..40),
        },
        Use::LoadBalancer | Use::ClusterIp => Number {
            space: Space::V6,
            value: V6 + random.u128(..40),
        },
    }
}

fn random_ranges(random: &mut Rng, base: u128, most: usize) -> RangeSet {
    let count = random.usize(..=most);
    let range = |_| {
        let first = base + random.u128(..36);
        let longest = if random.bool() { 3 } else { 20 };
        (first, first + random.u128(..longest))
    };
    (0..count).map(range).collect()
}

fn random_pool(random: &mut Rng, index: usize) -> Pool {
    let usage = random
        .choice([
            Use::LoadBalancer,
            Use::LoadBalancer,
            Use::ClusterIp,
            Use::NodePort,
        ])
        .unwrap();
    let (addresses, ports) = if usage == Use::NodePort {
        (0, 2)
    } else {
        (2, 0)
    };
    let name = format!("pool-{index}");
    Pool {
        name: name.as_str().into(),
        created: random.i64(..3),
        uid: name.as_str().into(),
        usage,
        v4: random_ranges(random, V4, addresses),
        v6: random_ranges(random, V6, addresses),
        ports: random_ranges(random, 30_000, ports),
        reserved_v4: random_ranges(random, V4, addresses / 2),
        reserved_v6: random_ranges(random, V6, addresses / 2),
        excluded_ports: random_ranges(random, 30_000, ports / 2),
        unusable_ports: RangeSet::default(),
        unusable_v4: RangeSet::default(),
        unusable_v6: RangeSet::default(),
        auto_assign: random.u8(..5) > 0,
        priority: random.i32(..2),
        disabled: random.u8(..6) == 0,
        admission: Admission {
            namespaces: (random.u8(..3) == 0)
                .then(|| [if random.bool() { "a" } else { "b" }.to_owned()].into()),
            ..Admission::default()
        },
        enforce: random.u8(..10) == 0,
        strategy: Strategy::LowestFree,
        retain_for: None,
        avoid_buggy_ips: random.bool(),
    }
}

fn random_service(random: &mut Rng) -> Service {
    let id = random.usize(..14);
    let usage = [
        Use::LoadBalancer,
        Use::LoadBalancer,
        Use::ClusterIp,
        Use::NodePort,
        Use::HealthCheckNodePort,
    ][random.usize(..5)];
    let namespace = if id.is_multiple_of(3) { "a" } else { "b" };
    let mut some = |one_in: u8, most: usize| -> Vec<Number> {
        if random.u8(..one_in) > 0 {
            return Vec::new();
        }
        (0..most).map(|_| random_number(random, usage)).collect()
    };
    let (explicit, shown, exclude) = (some(4, 1), some(3, 2), some(6, 2));
    let sharing = (usage == Use::LoadBalancer && random.bool()).then(|| {
        Sharing::from(Terms {
            key: if random.bool() { "k" } else { "l" }.into(),
            with: if random.bool() {
                vec!["a".into(), "b".into()]
            } else {
                Vec::new()
            },
            ports: vec![
                ["TCP/80", "TCP/443", "UDP/53"][random.usize(..3)]
                    .parse()
                    .unwrap(),
            ],
            policy: TrafficPolicy::Cluster,
            backend: "".into(),
        })
    });
    let families = [
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![Family::V6, Family::V4],
    ][random.usize(..4)]
    .clone();
    let pool = |random: &mut Rng| format!("pool-{}", random.usize(..7));
    Service {
        key: ServiceKey::new(namespace, &format!("s{id}")),
        uid: format!("uid-{id}").as_str().into(),
        usage,
        require_all: random.bool() && families.len() > 1,
        families,
        pool: (random.u8(..6) == 0).then(|| pool(random)),
        explicit,
        sharing,
        allowed: (random.u8(..8) == 0).then(|| (0..4).map(|_| pool(random)).collect()),
        shown,
        exclude,
    }
}

fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let (mut allocator, mut oracle) = (Allocator::new(), Oracle::default());
    for step in 0..150 {
        match random.u8(..20) {
            0 => {
                oracle.pools = (0..random.usize(1..7))
                    .map(|index| random_pool(&mut random, index))
                    .collect();
                allocator.set_pools(oracle.pools.clone());
            }
            1 => {
                let block = BlockId::of(random_number(&mut random, Use::LoadBalancer));
                if oracle.quarantined.remove(&block) {
                    allocator.lift_quarantine(block);
                } else if random.u8(..4) == 0 {
                    oracle.quarantined.insert(block);
                    allocator.quarantine(block);
                }
            }
            2..=4 => release(&mut random, &mut allocator, &mut oracle),
            5 => {
                let owned = oracle.retained.keys().copied().nth(random.usize(..4));
                if let Some(number) = owned {
                    oracle.retained.remove(&number);
                    allocator.unretain(number);
                }
            }
            _ => {
                if oracle.pools.is_empty() {
                    continue;
                }
                let service = random_service(&mut random);
                let verdict = decide(&allocator, &service);
                assert_eq!(
                    answer(&verdict),
                    oracle.decide(&service),
                    "seed {seed} step {step}: {service:?}\n{verdict:#?}"
                );
                settle(&service, &verdict, &mut allocator, &mut oracle);
            }
        }
        no_double_use(&oracle, seed, step);
        if step % 10 == 0 {
            same(&allocator, &oracle, &mut random, seed, step);
        }
    }
}

/// A Service gives up a number; sometimes it is kept for it.
fn release(random: &mut Rng, allocator: &mut Allocator, oracle: &mut Oracle) {
    if oracle.held.is_empty() {
        return;
    }
    let number = *oracle
        .held
        .keys()
        .nth(random.usize(..oracle.held.len()))
        .unwrap();
    let holders = oracle.held.get_mut(&number).unwrap();
    let holder = holders.remove(random.usize(..holders.len()));
    assert!(allocator.unhold(number, &holder.uid, holder.usage));
    assert!(
        !allocator.unhold(number, &holder.uid, holder.usage),
        "only once"
    );
    if holders.is_empty() {
        oracle.held.remove(&number);
        if random.bool() {
            let until = if random.u8(..4) == 0 {
                NOW - 1
            } else {
                NOW + 100
            };
            oracle
                .retained
                .insert(number, (holder.service.clone(), until));
            allocator.retain(number, holder.service, until);
        }
    }
}

fn settle(
    service: &Service,
    verdict: &allocator::Verdict,
    allocator: &mut Allocator,
    oracle: &mut Oracle,
) {
    for grant in &verdict.grants {
        let holders = oracle.held.entry(grant.number).or_default();
        let known = holders
            .iter_mut()
            .find(|holder| holder.uid == service.uid && holder.usage == service.usage);
        assert!(grant.pool.is_some());
        let recorded = known.as_ref().and_then(|known| known.sharing.clone());
        let holder = Holder {
            service: service.key.clone(),
            uid: service.uid.clone(),
            usage: service.usage,
            at: "1".into(),
            sharing: if grant.keep_terms {
                recorded
            } else {
                service.sharing.clone()
            },
        };
        match known {
            Some(known) => *known = holder.clone(),
            None => holders.push(holder.clone()),
        }
        oracle.retained.remove(&grant.number);
        allocator.hold(grant.number, holder);
    }
    for number in &verdict.surplus {
        assert!(allocator.unhold(*number, &service.uid, service.usage));
        let holders = oracle.held.get_mut(number).unwrap();
        holders.retain(|holder| holder.uid != service.uid || holder.usage != service.usage);
        if holders.is_empty() {
            oracle.held.remove(number);
        }
    }
}

fn no_double_use(oracle: &Oracle, seed: u64, step: usize) {
    for (number, holders) in &oracle.held {
        for (index, one) in holders.iter().enumerate() {
            for other in holders.iter().skip(index + 1) {
                let allowed = match (&one.sharing, &other.sharing) {
                    (Some(a), Some(b)) => {
                        may_share(&one.service.namespace, a, &other.service.namespace, b).is_ok()
                    }
                    (None, _) | (_, None) => false,
                };
                assert!(
                    allowed,
                    "seed {seed} step {step}: {number} is held by {one:?} and {other:?}"
                );
            }
        }
    }
}

/// The allocator knows what the oracle knows, and so does one built anew in another order.
fn same(allocator: &Allocator, oracle: &Oracle, random: &mut Rng, seed: u64, step: usize) {
    let place = format!("seed {seed} step {step}");
    let mut rebuilt = Allocator::new();
    let mut pools = oracle.pools.clone();
    random.shuffle(&mut pools);
    let pools_first = random.bool();
    if pools_first {
        rebuilt.set_pools(pools.clone());
    }
    let mut numbers: Vec<Number> = oracle
        .held
        .keys()
        .chain(oracle.retained.keys())
        .copied()
        .collect();
    random.shuffle(&mut numbers);
    for number in numbers {
        for holder in oracle.held.get(&number).into_iter().flatten() {
            rebuilt.hold(number, holder.clone());
        }
        if let Some((owner, until)) = oracle.retained.get(&number) {
            rebuilt.retain(number, owner.clone(), *until);
        }
    }
    oracle
        .quarantined
        .iter()
        .for_each(|&block| rebuilt.quarantine(block));
    if !pools_first {
        rebuilt.set_pools(pools);
    }
    for allocator in [allocator, &rebuilt] {
        let mut holds: BTreeMap<Number, Vec<&Holder>> = BTreeMap::new();
        allocator
            .all_holds()
            .for_each(|(number, holder)| holds.entry(number).or_default().push(holder));
        let expected: BTreeMap<Number, Vec<&Holder>> = oracle
            .held
            .iter()
            .map(|(n, holders)| (*n, holders.iter().collect()))
            .collect();
        assert_eq!(holds, expected, "{place}");
        let retained: BTreeMap<Number, (ServiceKey, i64)> = allocator
            .all_retained()
            .map(|(n, owner, until)| (n, (owner.clone(), until)))
            .collect();
        assert_eq!(retained, oracle.retained, "{place}");
        for id in 0..14 {
            let uid = Uid::from(format!("uid-{id}").as_str());
            let held: BTreeSet<(Number, Use)> = allocator.held_by(&uid).collect();
            let naive = oracle.held.iter().flat_map(|(n, holders)| {
                holders
                    .iter()
                    .filter(|h| h.uid == uid)
                    .map(|h| (*n, h.usage))
            });
            assert_eq!(held, naive.collect(), "{place}");
        }
        for pool in &oracle.pools {
            let usage = allocator.usage(&pool.name, pool.usage);
            for (space, counts) in [
                (Space::V4, usage.v4),
                (Space::V6, usage.v6),
                (Space::Port, usage.ports),
            ] {
                let stock = Oracle::stock(pool, space);
                let inside = |number: &&Number| {
                    number.space == space && pool.ranges(space).contains(number.value)
                };
                let free = |number: &&Number| {
                    !oracle.held.contains_key(number)
                        && !oracle.retained.contains_key(number)
                        && !oracle.quarantined.contains(&BlockId::of(**number))
                };
                assert_eq!(
                    counts.capacity,
                    stock.len() as u128,
                    "{place} {}",
                    pool.name
                );
                assert_eq!(
                    counts.claimed,
                    oracle.held.keys().filter(inside).count() as u128,
                    "{place}"
                );
                assert_eq!(
                    counts.retained,
                    oracle.retained.keys().filter(inside).count() as u128,
                    "{place}"
                );
                assert_eq!(
                    counts.available,
                    stock.iter().filter(free).count() as u128,
                    "{place} {}",
                    pool.name
                );
            }
            let off = matches!(
                allocator.pool(&pool.name, pool.usage),
                Some((_, PoolState::Overlaps { .. }))
            );
            assert_eq!(off, oracle.overlaps_older(pool), "{place}");
        }
    }
    let service = random_service(random);
    assert_eq!(
        decide(allocator, &service),
        decide(&rebuilt, &service),
        "{place}"
    );
}

#[test]
fn random_sequences_agree_with_the_oracle() {
    (0..80).for_each(run);
}
