use super::*;

const DELAY: Duration = Duration::from_secs(30);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn among(alive: usize, known: usize) -> Around {
    Around {
        alive,
        known,
        ..Around::default()
    }
}

#[test]
fn a_lone_node_settles_at_once() {
    let mut standing = Standing::new(ms(0), false);
    standing.tick(ms(0), DELAY, &among(1, 1));
    assert_eq!(standing.rank(), Rank::Founding);
    assert!(!standing.is_asleep());
}

#[test]
fn a_node_that_joins_settled_ones_waits_for_the_delay_and_owns_nothing_before_it_knows_them() {
    let mut standing = Standing::new(ms(0), false);
    let mut around = Around {
        is_any_settled: true,
        expected: 3,
        ..among(2, 3)
    };
    standing.tick(ms(10), DELAY, &around);
    assert!(standing.is_asleep());
    around.alive = 3;
    standing.tick(ms(20), DELAY, &around);
    assert!(!standing.is_asleep());
    standing.tick(ms(29_999), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Joining);
    standing.tick(ms(30_000), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Settled);
}

#[test]
fn at_a_cold_start_the_majority_founds_and_the_others_settle_with_it() {
    let mut first = Standing::new(ms(0), false);
    first.tick(ms(999), DELAY, &among(3, 3));
    assert!(first.is_asleep());
    first.tick(ms(1_000), DELAY, &among(3, 3));
    assert_eq!(first.rank(), Rank::Founding);
    assert!(first.is_asleep(), "it waits for the others' cards");
    let mut second = Standing::new(ms(700), false);
    let founded = Around {
        is_any_settled: true,
        is_any_founding: true,
        expected: 3,
        ..among(3, 3)
    };
    second.tick(ms(1_001), DELAY, &founded);
    assert_eq!(second.rank(), Rank::Settled);
    first.tick(ms(1_050), DELAY, &founded);
    second.tick(ms(1_051), DELAY, &founded);
    assert!(!first.is_asleep() && !second.is_asleep());
    first.tick(ms(6_000), DELAY, &founded);
    assert_eq!(first.rank(), Rank::Settled);
}

#[test]
fn a_minority_without_peers_serves_but_does_not_settle_before_the_delay() {
    let mut standing = Standing::new(ms(0), false);
    standing.tick(ms(1_000), DELAY, &among(1, 3));
    assert!(!standing.is_asleep());
    assert_eq!(standing.rank(), Rank::Joining);
}

#[test]
fn who_returns_does_not_settle_with_founders() {
    let mut standing = Standing::new(ms(0), true);
    let founded = Around {
        is_any_settled: true,
        is_any_founding: true,
        ..among(3, 3)
    };
    standing.tick(ms(100), DELAY, &founded);
    assert_eq!(standing.rank(), Rank::Joining);
}

#[test]
fn who_is_behind_joins_again_and_waits_from_when_it_has_caught_up() {
    let mut standing = Standing::new(ms(0), false);
    let mut around = Around {
        is_any_settled: true,
        ..among(3, 3)
    };
    standing.tick(ms(30_000), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Settled);
    around.is_behind = true;
    standing.tick(ms(40_000), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Joining);
    standing.tick(ms(100_000), DELAY, &around);
    around.is_behind = false;
    standing.tick(ms(129_999), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Joining);
    standing.tick(ms(130_000), DELAY, &around);
    assert_eq!(standing.rank(), Rank::Settled);
}

#[test]
fn who_leaves_stays_so() {
    let mut standing = Standing::new(ms(0), false);
    standing.leave();
    standing.tick(ms(100_000), DELAY, &among(1, 1));
    assert_eq!(standing.rank(), Rank::Leaving);
}
