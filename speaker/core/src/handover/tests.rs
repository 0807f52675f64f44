#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn node(name: &str) -> Arc<str> {
    name.into()
}

fn holding_one() -> Holdings {
    let mut holdings = Holdings::default();
    let me = node("me");
    assert_eq!(
        holdings.decide(1, Some(&me), true, false, ms(0)),
        Step::Take
    );
    holdings.place(1, vec![("10.0.0.1".parse().unwrap(), vec![1])], 0);
    holdings
}

#[test]
fn the_old_owner_offers_until_the_new_one_has_taken() {
    let mut holdings = holding_one();
    let next = node("next");
    let step = holdings.decide(1, Some(&next), false, false, ms(0));
    assert_eq!(step, Step::Stay);
    assert_eq!(holdings.offers(ms(0)), [(next.clone(), vec![1])]);
    assert_eq!(holdings.offers(ms(49)), []);
    assert_eq!(holdings.deadline(), Some(ms(50)));
    assert_eq!(holdings.offers(ms(50)), [(next.clone(), vec![1])]);
    assert_eq!(holdings.taken(&node("other"), &[1]), []);
    assert_eq!(holdings.taken(&next, &[1, 2]), [1]);
    assert!(
        holdings.get(1).is_some(),
        "silent only when the caller says so"
    );
    holdings.drop(1);
    assert_eq!(holdings.offers(ms(100)), []);
}

#[test]
fn another_successor_is_offered_at_once_and_what_comes_back_is_announced_again() {
    let mut holdings = holding_one();
    holdings.decide(1, Some(&node("a")), false, false, ms(0));
    holdings.offers(ms(0));
    holdings.decide(1, Some(&node("b")), false, false, ms(10));
    assert_eq!(holdings.offers(ms(10)), [(node("b"), vec![1])]);
    let me = node("me");
    assert_eq!(
        holdings.decide(1, Some(&me), true, false, ms(20)),
        Step::Resume
    );
    assert_eq!(
        holdings.decide(1, Some(&me), true, false, ms(20)),
        Step::Stay
    );
    assert!(holdings.owns(1) && !holdings.is_ceding());
    assert_eq!(holdings.taken(&node("b"), &[1]), [], "too late");
}

#[test]
fn what_nobody_may_have_is_dropped_unless_we_leave() {
    let mut holdings = holding_one();
    assert_eq!(holdings.decide(1, None, false, true, ms(0)), Step::Stay);
    assert!(!holdings.is_ceding());
    assert_eq!(holdings.offers(ms(0)), []);
    assert_eq!(holdings.decide(1, None, false, false, ms(0)), Step::Drop);
}

#[test]
fn an_address_in_two_groups_is_answered_for_until_neither_is_held() {
    let mut holdings = holding_one();
    let ip: IpAddr = "10.0.0.1".parse().unwrap();
    holdings.place(2, vec![(ip, vec![2])], 0);
    assert_eq!(holdings.places_of(ip), Some(vec![1, 2]));
    holdings.drop(1);
    assert_eq!(holdings.places_of(ip), Some(vec![2]));
    holdings.place(2, Vec::new(), 0);
    assert_eq!(holdings.places_of(ip), None);
}
