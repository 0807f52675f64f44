#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name)
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn turns(pace: &mut Pace, now: Duration) -> String {
    let names = std::iter::from_fn(|| pace.turn(now));
    let names: Vec<String> = names.map(|key| key.name.to_string()).collect();
    names.join(" ")
}

#[test]
fn the_oldest_violation_is_first_and_of_equals_the_oldest_service() {
    let mut pace = Pace::new(10, ServerRange::default());
    pace.wait(&key("late"), 1, at(50));
    pace.wait(&key("young"), 9, at(0));
    pace.wait(&key("old"), 3, at(0));
    // Who waits already does not lose its place.
    pace.wait(&key("young"), 9, at(60));
    assert_eq!(turns(&mut pace, at(60)), "old young late");
}

#[test]
fn no_more_than_the_rate_have_their_turn_in_a_second() {
    let mut pace = Pace::new(2, ServerRange::default());
    for name in ["a", "b", "c", "d", "e"] {
        pace.wait(&key(name), 0, at(0));
    }
    assert_eq!(turns(&mut pace, at(0)), "a b");
    assert_eq!(turns(&mut pace, at(400)), "");
    let due = pace.next_due().unwrap();
    assert_eq!(due.as_millis(), 500);
    assert_eq!(turns(&mut pace, due), "c");
    assert_eq!(
        turns(&mut pace, at(60_000)),
        "d e",
        "a pause saves no more than the burst"
    );
    assert_eq!(pace.next_due(), None);
}

#[test]
fn whose_turn_has_come_keeps_it_until_the_write_has_arrived() {
    let mut pace = Pace::new(1, ServerRange::default());
    pace.wait(&key("a"), 0, at(0));
    assert!(!pace.allows(&key("a")));
    assert_eq!(turns(&mut pace, at(0)), "a");
    pace.wait(&key("a"), 0, at(1));
    assert!(pace.allows(&key("a")) && !pace.is_waited_for());
    pace.arrived(&key("a"));
    assert!(!pace.allows(&key("a")));
}

#[test]
fn a_taken_number_is_left_alone_for_a_while_and_the_service_tried_at_once() {
    let mut pace = Pace::new(1, ServerRange::default());
    let words = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    assert_eq!(pace.learn(words, at(5)), (true, false));
    assert!(pace.foreign().contains_key(&Number::port(30080)));
    assert_eq!(pace.refused(&key("a")), None);
    let (numbers, _) = pace.expire(at(5) + FOREIGN);
    assert_eq!(numbers, [Number::port(30080)]);
    assert!(pace.foreign().is_empty());
}

#[test]
fn the_range_is_learnt_from_a_refusal() {
    let mut pace = Pace::new(1, ServerRange::default());
    let words = "spec.ports[0].nodePort: Invalid value: 32767: provided port is not in the valid range. The range of valid ports is 30000-30999";
    assert_eq!(pace.learn(words, at(0)), (true, true));
    assert_eq!(pace.learn(words, at(0)), (true, false));
    let range = ServerRange {
        first: 30_000,
        last: 30_999,
        told: true,
    };
    assert_eq!(pace.range(), range);
}

#[test]
fn what_is_refused_for_another_reason_waits_and_lets_others_go_first() {
    let mut pace = Pace::new(1, ServerRange::default());
    pace.wait(&key("a"), 0, at(0));
    assert_eq!(turns(&mut pace, at(0)), "a");
    assert_eq!(pace.learn("forbidden", at(0)), (false, false));
    pace.refuse(&key("a"), "forbidden", at(0));
    assert_eq!(pace.refused(&key("a")), Some("forbidden"));
    assert!(!pace.allows(&key("a")));
    assert_eq!(pace.next_due(), Some(REFUSED));
    assert_eq!(pace.expire(REFUSED), (vec![], vec![key("a")]));
    assert_eq!(pace.refused(&key("a")), None);
}

#[test]
fn the_range_is_read_in_the_forms_of_kube_apiserver() {
    for (text, expected) in [
        ("30000-32767", Some((30_000, 32_767))),
        ("30000+10", Some((30_000, 30_010))),
        ("30080", Some((30_080, 30_080))),
        ("2-1", None),
        ("0-10", None),
        ("65000+1000", None),
        ("a-b", None),
        ("", None),
    ] {
        let read = ServerRange::parse(text).map(|range| (range.first, range.last));
        assert_eq!(read, expected, "{text}");
    }
}
