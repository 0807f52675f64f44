use super::*;
use crate::{
    sharing::{Sharing, Terms},
};
use model::TrafficPolicy;

fn range(first: &str, last: &str) -> RangeSet {
    let value = |text| Number::parse(Space::V4, text).unwrap().value;
    RangeSet::new([(value(first), value(last))])
}

fn pool(name: &str, created: i64, v4: RangeSet) -> Pool {
    Pool {
        created,
        v4,
        ..Pool::new(name, Use::LoadBalancer)
    }
}

fn v4(text: &str) -> Number {
    Number::parse(Space::V4, text).unwrap()
}

fn holder(name: &str, key: Option<&str>) -> Holder {
    Holder {
        service: ServiceKey::new("ns", name),
        uid: name.into(),
        usage: Use::LoadBalancer,
        at: "1".into(),
        sharing: key.map(|key| {
            Sharing::from(Terms {
                key: key.into(),
                with: Vec::new(),
                ports: Vec::new(),
                policy: TrafficPolicy::Cluster,
                backend: "".into(),
            })
        }),
    }
}

fn names(allocator: &Allocator, number: Number) -> String {
    let names: Vec<&str> = allocator.holders(number).iter().map(|h| h.uid.as_str()).collect();
    names.join(" ")
}

fn states(pools: Vec<Pool>) -> Vec<(String, Option<String>)> {
    let mut allocator = Allocator::new();
    allocator.set_pools(pools);
    let state = |(pool, state): (&Pool, &PoolState)| match state {
        PoolState::Ready => (pool.name.to_string(), None),
        PoolState::Overlaps { older } => (pool.name.to_string(), Some(older.to_string())),
    };
    allocator.pools().map(state).collect()
}

#[test]
fn a_hold_is_found_by_number_and_by_uid_and_ends() {
    let mut allocator = Allocator::new();
    allocator.hold(v4("10.0.0.1"), holder("a", None));
    allocator.hold(v4("10.0.0.2"), holder("a", None));
    assert_eq!(names(&allocator, v4("10.0.0.1")), "a");
    let mut held: Vec<_> = allocator.held_by(&"a".into()).map(|(number, _)| number).collect();
    held.sort_unstable();
    assert_eq!(held, [v4("10.0.0.1"), v4("10.0.0.2")]);
    assert!(allocator.unhold(v4("10.0.0.1"), &"a".into(), Use::LoadBalancer));
    assert!(!allocator.is_taken(v4("10.0.0.1")));
    assert_eq!(allocator.held_by(&"a".into()).count(), 1);
}

#[test]
fn only_the_very_holder_is_removed() {
    let mut allocator = Allocator::new();
    allocator.hold(v4("10.0.0.1"), holder("a", None));
    assert!(!allocator.unhold(v4("10.0.0.1"), &"b".into(), Use::LoadBalancer));
    assert!(!allocator.unhold(v4("10.0.0.1"), &"a".into(), Use::ClusterIp));
    assert!(!allocator.unhold(v4("10.0.0.2"), &"a".into(), Use::LoadBalancer));
    assert_eq!(names(&allocator, v4("10.0.0.1")), "a");
}

#[test]
fn holding_again_replaces_the_terms() {
    let mut allocator = Allocator::new();
    allocator.hold(v4("10.0.0.1"), holder("a", Some("old")));
    let again = Holder { at: "2".into(), ..holder("a", Some("new")) };
    allocator.hold(v4("10.0.0.1"), again.clone());
    assert_eq!(allocator.holders(v4("10.0.0.1")), [again]);
    assert_eq!(allocator.sharing("old").count(), 0);
    assert_eq!(allocator.sharing("new").collect::<Vec<_>>(), [v4("10.0.0.1")]);
}

#[test]
fn sharers_come_and_go_in_any_order() {
    for leaving in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        let mut allocator = Allocator::new();
        for name in ["a", "b", "c"] {
            allocator.hold(v4("10.0.0.1"), holder(name, Some("k")));
        }
        assert_eq!(names(&allocator, v4("10.0.0.1")), "a b c");
        for name in leaving {
            assert_eq!(allocator.sharing("k").count(), 1);
            assert!(allocator.unhold(v4("10.0.0.1"), &name.into(), Use::LoadBalancer));
            assert_eq!(allocator.held_by(&name.into()).count(), 0);
        }
        assert!(!allocator.is_taken(v4("10.0.0.1")));
        assert_eq!(allocator.sharing("k").count(), 0);
        assert_eq!(allocator.all_holds().count(), 0);
    }
}

#[test]
fn a_retention_takes_the_number_until_it_ends() {
    let mut allocator = Allocator::new();
    allocator.set_pools(vec![pool("p", 0, range("10.0.0.0", "10.0.0.9"))]);
    let (early, late) = (v4("10.0.0.1"), v4("10.0.0.2"));
    allocator.retain(late, ServiceKey::new("ns", "a"), 200);
    allocator.retain(early, ServiceKey::new("ns", "a"), 100);
    assert_eq!(allocator.usage("p", Use::LoadBalancer).v4, UsageCounts { capacity: 10, claimed: 0, retained: 2, available: 8 });
    assert_eq!((allocator.expired(99), allocator.expired(100), allocator.expired(300)), (vec![], vec![early], vec![early, late]));
    assert_eq!([99, 100, 200].map(|now| allocator.next_expiry(now)), [Some(100), Some(200), None]);
    allocator.unretain(early);
    assert_eq!(allocator.retained(early), None);
    assert!(!allocator.is_taken(early));
    allocator.hold(late, holder("a", None));
    assert_eq!(allocator.usage("p", Use::LoadBalancer).v4, UsageCounts { capacity: 10, claimed: 1, retained: 0, available: 9 });
    assert_eq!(allocator.expired(300), []);
}

#[test]
fn a_held_number_is_not_retained() {
    let mut allocator = Allocator::new();
    allocator.hold(v4("10.0.0.1"), holder("a", None));
    allocator.retain(v4("10.0.0.1"), ServiceKey::new("ns", "b"), 100);
    assert_eq!(allocator.retained(v4("10.0.0.1")), None);
}

#[test]
fn counts_leave_out_what_is_never_handed_out() {
    let mut reserving = pool("p", 0, range("10.0.0.0", "10.0.1.255"));
    reserving.avoid_buggy_ips = true;
    reserving.reserved_v4 = range("10.0.0.10", "10.0.0.19");
    let mut allocator = Allocator::new();
    allocator.hold(v4("10.0.0.10"), holder("a", None));
    allocator.hold(v4("10.0.0.255"), holder("b", None));
    allocator.hold(v4("10.0.0.20"), holder("c", None));
    allocator.set_pools(vec![reserving]);
    let counts = UsageCounts { capacity: 512 - 4 - 10, claimed: 3, retained: 0, available: 512 - 4 - 10 - 1 };
    assert_eq!(allocator.usage("p", Use::LoadBalancer).v4, counts);
}

#[test]
fn a_quarantined_block_has_nothing_available() {
    let mut allocator = Allocator::new();
    allocator.set_pools(vec![pool("p", 0, range("10.0.0.250", "10.0.1.9"))]);
    let block = BlockId::of(v4("10.0.0.0"));
    allocator.quarantine(block);
    assert_eq!(allocator.usage("p", Use::LoadBalancer).v4.available, 10);
    allocator.lift_quarantine(block);
    assert_eq!(allocator.usage("p", Use::LoadBalancer).v4.available, 16);
}

#[test]
fn of_two_that_overlap_the_younger_is_off() {
    let set = |first: &str, last: &str| range(first, last);
    let ready = |name: &str| (name.to_owned(), None);
    let off = |name: &str, older: &str| (name.to_owned(), Some(older.to_owned()));
    assert_eq!(
        states(vec![pool("a", 2, set("10.0.0.0", "10.0.0.9")), pool("b", 1, set("10.0.0.9", "10.0.0.20"))]),
        [off("a", "b"), ready("b")]
    );
    assert_eq!(
        states(vec![pool("b", 1, set("10.0.0.0", "10.0.0.9")), pool("a", 1, set("10.0.0.9", "10.0.0.20"))]),
        [ready("a"), off("b", "a")],
        "of the same age the name decides"
    );
    assert_eq!(
        states(vec![pool("a", 1, set("10.0.0.0", "10.0.0.9")), pool("b", 2, set("10.0.0.10", "10.0.0.20"))]),
        [ready("a"), ready("b")],
        "adjacent ranges do not overlap"
    );
    assert_eq!(
        states(vec![
            pool("a", 1, set("10.0.0.0", "10.0.0.9")),
            pool("b", 2, set("10.0.0.9", "10.0.0.20")),
            pool("c", 3, set("10.0.0.20", "10.0.0.30")),
        ]),
        [ready("a"), off("b", "a"), off("c", "b")],
        "a pool that is off still counts, so that c does not depend on a"
    );
}

#[test]
fn a_pool_may_stand_in_what_an_older_one_reserves() {
    let mut older = pool("a", 1, range("10.0.0.0", "10.0.0.255"));
    older.reserved_v4 = range("10.0.0.16", "10.0.0.31");
    let inner = pool("b", 2, range("10.0.0.16", "10.0.0.31"));
    assert!(states(vec![older, inner]).iter().all(|(_, older)| older.is_none()));
}

#[test]
fn a_number_leads_to_every_pool_that_contains_it() {
    let mut allocator = Allocator::new();
    allocator.set_pools(vec![
        pool("a", 1, range("10.0.0.0", "10.0.0.100")),
        pool("b", 2, range("10.0.0.50", "10.0.0.60")),
        pool("c", 3, range("10.0.0.60", "255.255.255.255")),
    ]);
    for (number, expected) in [
        ("9.255.255.255", ""),
        ("10.0.0.0", "a"),
        ("10.0.0.49", "a"),
        ("10.0.0.50", "a b"),
        ("10.0.0.60", "a b c"),
        ("10.0.0.61", "a c"),
        ("10.0.0.100", "a c"),
        ("10.0.0.101", "c"),
        ("255.255.255.255", "c"),
    ] {
        let names: Vec<&str> = allocator.pools_containing(v4(number)).map(|pool| &*pool.name).collect();
        assert_eq!(names.join(" "), expected, "{number}");
    }
}

#[test]
fn an_unknown_pool_has_nothing() {
    assert_eq!(Allocator::new().usage("p", Use::LoadBalancer), PoolUsage::default());
}
