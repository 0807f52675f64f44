use allocator::{Pool, RangeSet, block::Holder};
use model::ServiceKey;

use super::*;
use crate::core::record::CidrRecord;

const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn number(text: &str) -> Number {
    Number::from(ip(text))
}

fn pool(name: &str, addresses: &[&str]) -> Pool {
    let addresses: Vec<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
    let (v4, v6) = RangeSet::parse_addresses(&addresses).unwrap();
    Pool {
        v4,
        v6,
        uid: Uid::from(name),
        ..Pool::new(name, Use::ClusterIp)
    }
}

/// 10.0.0.0/16 and fd00::/112: it picks from 10.0.1.1 and fd00::101 on.
fn cidrs() -> ServiceCidrs {
    let mut cidrs = ServiceCidrs::default();
    cidrs.set(CidrRecord {
        name: "kubernetes".into(),
        cidrs: ["10.0.0.0/16", "fd00::/112"]
            .map(|cidr| cidr.parse().unwrap())
            .into(),
        ready: true,
    });
    cidrs
}

fn allocator(mut pools: Vec<Pool>) -> Allocator {
    let all = |space: Space| RangeSet::new([(0, space.last())]);
    for pool in pools.iter_mut().filter(|pool| pool.usage == Use::ClusterIp) {
        pool.unusable_v4 = all(Space::V4).subtract(&cidrs().usable(Space::V4));
        pool.unusable_v6 = all(Space::V6).subtract(&cidrs().usable(Space::V6));
    }
    let mut allocator = Allocator::new();
    allocator.set_pools(pools);
    allocator
}

fn holder(name: &str) -> Holder {
    Holder {
        service: ServiceKey::new("shop", name),
        uid: Uid::from(name),
        usage: Use::ClusterIp,
        at: "1".into(),
        sharing: None,
    }
}

/// `address pool`, in order.
fn told(wanted: &BTreeMap<IpAddr, Parent>) -> Vec<String> {
    let told = wanted.iter();
    told.map(|(address, (pool, _))| format!("{address} {pool}"))
        .collect()
}

fn wanted_of(allocator: &Allocator) -> Vec<String> {
    told(&wanted(allocator, &cidrs(), &HashSet::new(), 0))
}

#[test]
fn what_is_reserved_is_what_a_pool_gives_where_the_api_server_picks() {
    let off = |pool: Pool| Pool {
        disabled: true,
        ..pool
    };
    let external = |pool: Pool| Pool {
        usage: Use::LoadBalancer,
        ..pool
    };
    let buggy = |pool: Pool| Pool {
        avoid_buggy_ips: true,
        ..pool
    };
    let younger = |pool: Pool| Pool { created: 1, ..pool };
    let without = |mut pool: Pool, address: &str| {
        let value = number(address).value;
        pool.reserved_v4 = RangeSet::new([(value, value)]);
        pool
    };
    #[rustfmt::skip]
    let table: Vec<(Vec<Pool>, &[&str])> = vec![
        (vec![pool("a", &["10.0.1.1-10.0.1.2"])], &["10.0.1.1 a", "10.0.1.2 a"]),
        (vec![pool("a", &["10.0.1.1", "fd00::101"])], &["10.0.1.1 a", "fd00::101 a"]),
        // The static band, and what straddles its end.
        (vec![pool("a", &["10.0.0.16-10.0.0.63"])], &[]),
        (vec![pool("a", &["10.0.0.254-10.0.1.1", "fd00::100-fd00::101"])], &["10.0.1.1 a", "fd00::101 a"]),
        // Outside every ServiceCIDR; its broadcast address.
        (vec![pool("a", &["10.1.1.1"])], &[]),
        (vec![pool("a", &["10.0.255.254-10.0.255.255"])], &["10.0.255.254 a"]),
        (vec![off(pool("a", &["10.0.1.1"]))], &[]),
        (vec![external(pool("a", &["10.0.1.1"]))], &[]),
        (vec![buggy(pool("a", &["10.0.1.254-10.0.2.1"]))], &["10.0.1.254 a", "10.0.2.1 a"]),
        (vec![without(pool("a", &["10.0.1.1-10.0.1.2"]), "10.0.1.1")], &["10.0.1.2 a"]),
        (vec![pool("a", &["10.0.1.1"]), younger(pool("b", &["10.0.1.1-10.0.1.2"]))], &["10.0.1.1 a"]),
        (vec![pool("a", &["10.0.1.1"]), pool("b", &["10.0.1.2"])], &["10.0.1.1 a", "10.0.1.2 b"]),
    ];
    for (pools, expected) in table {
        let told = wanted_of(&allocator(pools.clone()));
        assert_eq!(told, expected, "{pools:?}");
    }
}

#[test]
fn what_somebody_has_or_is_promised_is_not_reserved() {
    let mut allocator = allocator(vec![pool("a", &["10.0.1.1-10.0.1.5"])]);
    let owner = ServiceKey::new("shop", "kept");
    allocator.hold(number("10.0.1.1"), holder("web"));
    allocator.retain(number("10.0.1.2"), owner.clone(), 1_090);
    allocator.retain(number("10.0.1.3"), owner.clone(), 1_301);
    // It ran out and has not been forgotten.
    allocator.retain(number("10.0.1.4"), owner, 900);
    let shown = HashSet::from([number("10.0.1.5")]);
    let wanted = wanted(&allocator, &cidrs(), &shown, 1_000);
    assert_eq!(told(&wanted), ["10.0.1.3 a"]);
}

#[test]
fn of_a_large_pool_the_first_addresses_are_reserved_whoever_has_some_of_them() {
    let mut allocator = allocator(vec![pool("a", &["10.0.16.0/20"])]);
    let first = wanted_of(&allocator);
    assert_eq!(first.len(), MOST);
    assert_eq!(first.last().unwrap(), "10.0.19.255 a");
    allocator.hold(number("10.0.16.7"), holder("web"));
    let then = wanted_of(&allocator);
    assert_eq!(then.len(), MOST - 1);
    assert_eq!(then.last(), first.last());
}

/// The API server's side: objects by address, and what was written.
#[derive(Default)]
struct Server {
    objects: BTreeMap<IpAddr, ReservationRecord>,
    version: u64,
    creates: usize,
    deletes: usize,
}

impl Server {
    fn perform(&mut self, address: IpAddr, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Create { pool, uid } => {
                if self.objects.contains_key(&address) {
                    return Err(Failure::Conflict);
                }
                self.creates += 1;
                self.version += 1;
                let version = self.version.to_string();
                let record = ReservationRecord {
                    address,
                    uid: Uid::from(version.as_str()),
                    version: version.into(),
                    pool: Some((pool.clone(), uid.clone())),
                };
                self.objects.insert(address, record);
            }
            Change::Delete { uid, version } => {
                let found = self.objects.get(&address).ok_or(Failure::NotFound)?;
                if found.uid != *uid || found.version != *version {
                    return Err(Failure::Conflict);
                }
                self.deletes += 1;
                self.objects.remove(&address);
            }
        }
        Ok(())
    }

    fn writes(&self) -> (usize, usize) {
        (self.creates, self.deletes)
    }
}

struct World {
    server: Server,
    /// This one was promised a moment ago.
    taken: Option<IpAddr>,
    ours: Reservations,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let mut ours = Reservations::new(true, 1);
        assert!(ours.server(Some((1, 36))));
        Self {
            server: Server::default(),
            taken: None,
            ours,
            now: SECOND,
        }
    }

    fn want(&mut self, addresses: &[&str]) {
        let parent: Parent = ("a".into(), Uid::from("a"));
        let addresses = addresses.iter().map(|text| (ip(text), parent.clone()));
        self.ours.want(addresses.collect(), self.now);
    }

    /// The requests of this moment, unanswered.
    fn asked(&mut self) -> Vec<(IpAddr, Change)> {
        let mut effects = Vec::new();
        let taken = self.taken;
        let free = |number: Number| number.address() != taken;
        self.ours.write(self.now, free, &mut effects);
        let changes = effects.into_iter().map(|effect| {
            let Effect::WriteReservation { address, change } = effect else {
                panic!("{effect:?}");
            };
            (address, change)
        });
        changes.collect()
    }

    /// One moment: requests are answered and the watch tells.
    fn turn(&mut self) {
        for (address, change) in self.asked() {
            let result = self.server.perform(address, &change);
            self.ours.written(address, result, self.now);
            self.watch(address);
        }
    }

    fn watch(&mut self, address: IpAddr) {
        match self.server.objects.get(&address) {
            Some(record) => self.ours.observe(record.clone()),
            None => self.ours.observe_deleted(address, self.now),
        }
    }

    /// Runs for so long, from deadline to deadline.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.turn();
        while let Some(due) = self.ours.next_due().filter(|due| *due <= end) {
            assert!(due >= self.now || self.ours.is_working());
            self.now = self.now.max(due);
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    fn reserved(&self) -> Vec<String> {
        self.server
            .objects
            .keys()
            .map(ToString::to_string)
            .collect()
    }
}

#[test]
fn they_are_made_at_a_bounded_rate_and_a_second_look_writes_nothing() {
    let mut world = World::new();
    let all: Vec<String> = (0..200).map(|last| format!("10.0.1.{last}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.want(&all);
    world.run(BEGINNING - SECOND);
    assert_eq!(
        world.server.writes(),
        (0, 0),
        "who begins may have missed a promise"
    );
    world.run(2 * SECOND);
    let made = world.server.creates;
    assert!((20..=41).contains(&made), "{made}");
    world.run(10 * SECOND);
    assert_eq!(world.server.writes(), (200, 0));
    assert!(!world.ours.is_working());
    world.want(&all);
    world.run(600 * SECOND);
    assert_eq!(world.server.writes(), (200, 0));
    // And they go.
    world.want(&[]);
    world.run(11 * SECOND);
    assert_eq!(world.server.writes(), (200, 200));
    assert!(world.ours.is_empty());
}

#[test]
fn one_that_the_webhook_took_away_is_not_made_again_before_the_ledger_can_tell() {
    let mut world = World::new();
    world.want(&["10.0.1.1"]);
    world.run(20 * SECOND);
    assert_eq!(world.reserved(), ["10.0.1.1"]);
    let address = ip("10.0.1.1");
    world.server.objects.remove(&address);
    world.watch(address);
    world.want(&["10.0.1.1"]);
    world.run(HANDED_OVER - SECOND);
    assert_eq!(world.server.creates, 1);
    // No Service came, and the promise ran out.
    world.run(2 * SECOND);
    assert_eq!(world.server.creates, 2);
}

#[test]
fn one_that_is_promised_all_the_same_goes_and_comes_back_when_it_is_not_any_more() {
    let mut world = World::new();
    world.want(&["10.0.1.1"]);
    world.run(20 * SECOND);
    world.want(&[]);
    world.run(SECOND);
    assert_eq!(world.reserved(), [""; 0]);
    world.want(&["10.0.1.1"]);
    world.run(SECOND);
    assert_eq!(world.server.writes(), (2, 1));
}

#[test]
fn one_that_was_promised_since_the_last_look_is_not_made() {
    let mut world = World::new();
    world.want(&["10.0.1.1", "10.0.1.2"]);
    world.taken = Some(ip("10.0.1.1"));
    world.run(20 * SECOND);
    assert_eq!(world.reserved(), ["10.0.1.2"]);
    assert!(!world.ours.is_working());
    world.taken = None;
    world.want(&["10.0.1.1", "10.0.1.2"]);
    world.run(SECOND);
    assert_eq!(world.reserved(), ["10.0.1.1", "10.0.1.2"]);
}

#[test]
fn an_address_that_somebody_has_whom_no_watch_shows_is_tried_again_with_patience() {
    let mut world = World::new();
    world.want(&["10.0.1.1"]);
    world.turn();
    world.now += BEGINNING;
    let foreign = ReservationRecord {
        address: ip("10.0.1.1"),
        uid: Uid::from("theirs"),
        version: "1".into(),
        pool: None,
    };
    // Without our label: our watch does not show it.
    world
        .server
        .objects
        .insert(foreign.address, foreign.clone());
    let mut tries = 0;
    let end = world.now + Duration::from_secs(600);
    while world.now < end {
        for (address, change) in world.asked() {
            tries += 1;
            let result = world.server.perform(address, &change);
            world.ours.written(address, result, world.now);
            assert!(!world.ours.is_working(), "nobody waits for it");
        }
        world.now = world.ours.next_due().unwrap().max(world.now);
    }
    assert!((8..30).contains(&tries), "{tries}");
    assert_eq!(world.server.objects.get(&foreign.address), Some(&foreign));
}

#[test]
fn one_for_another_pool_is_made_anew_for_this_one() {
    let mut world = World::new();
    for (address, pool) in [("10.0.1.1", Some("b")), ("10.0.1.2", None)] {
        let record = ReservationRecord {
            address: ip(address),
            uid: Uid::from("old"),
            version: "0".into(),
            pool: pool.map(|name| (name.into(), Uid::from(name))),
        };
        world.server.objects.insert(record.address, record.clone());
        world.ours.observe(record);
    }
    world.want(&["10.0.1.1", "10.0.1.2"]);
    world.run(20 * SECOND);
    assert_eq!(world.server.writes(), (2, 2));
    let made = world.server.objects.values();
    assert!(
        made.map(|r| r.pool.as_ref().unwrap())
            .all(|(pool, _)| &**pool == "a")
    );
}

#[test]
fn where_none_may_be_made_what_is_there_goes() {
    let made = || {
        let mut world = World::new();
        world.want(&["10.0.1.1"]);
        world.run(20 * SECOND);
        world
    };
    for (wished, version, ability) in [
        (true, Some((1, 34)), Ability::Kept),
        (true, Some((2, 0)), Ability::Kept),
        (true, Some((1, 33)), Ability::TooOld),
        (true, None, Ability::TooOld),
        (false, Some((1, 36)), Ability::Off),
    ] {
        let mut world = made();
        let mut ours = Reservations::new(wished, 1);
        ours.server(version);
        assert_eq!(ours.ability(), ability);
        world.ours = ours;
        for record in world.server.objects.values() {
            world.ours.observe(record.clone());
        }
        assert!(!world.ours.is_empty());
        match ability {
            Ability::Kept => world.want(&["10.0.1.1"]),
            Ability::Off | Ability::TooOld => world.want(&[]),
        }
        world.run(20 * SECOND);
        let left = usize::from(ability == Ability::Kept);
        assert_eq!(world.server.objects.len(), left, "{version:?}");
    }
}

#[test]
fn a_crash_or_a_lost_reply_at_any_step_converges_without_a_write_too_many() {
    #[derive(Clone, Copy, Debug)]
    enum Lost {
        Request,
        Reply,
        Everything,
    }
    for creating in [true, false] {
        for lost in [Lost::Request, Lost::Reply, Lost::Everything] {
            let mut world = World::new();
            let mut goal: &[&str] = &["10.0.1.1"];
            world.want(goal);
            world.run(BEGINNING - SECOND);
            if !creating {
                world.run(5 * SECOND);
                goal = &[];
                world.want(goal);
            } else {
                world.now += 2 * SECOND;
            }
            let asked = world.asked();
            assert_eq!(asked.len(), 1, "{creating} {lost:?}");
            let (address, change) = asked.into_iter().next().unwrap();
            let arrives = !matches!(lost, Lost::Request);
            if arrives {
                world.server.perform(address, &change).unwrap();
            }
            if matches!(lost, Lost::Everything) {
                // This process dies; the next one lists.
                let mut next = World::new();
                next.server = std::mem::take(&mut world.server);
                next.now = world.now;
                for record in next.server.objects.values() {
                    next.ours.observe(record.clone());
                }
                next.want(goal);
                world = next;
            } else {
                let failure = Failure::Unknown("time-out".to_owned());
                world.ours.written(address, Err(failure), world.now);
                if arrives {
                    world.watch(address);
                }
            }
            world.run(120 * SECOND);
            assert_eq!(world.reserved(), goal, "{creating} {lost:?}");
            assert_eq!(world.server.writes(), (1, usize::from(!creating)));
            assert!(!world.ours.is_working());
        }
    }
}

#[test]
fn what_another_leader_did_is_taken_over_as_it_is() {
    let mut world = World::new();
    world.want(&["10.0.1.1"]);
    world.run(20 * SECOND);
    world.ours.reset();
    assert_eq!(
        world.ours.next_due(),
        None,
        "who does not lead does nothing"
    );
    assert_eq!(world.asked(), []);
    world.want(&["10.0.1.1"]);
    world.run(200 * SECOND);
    assert_eq!(world.server.writes(), (1, 0));
}
