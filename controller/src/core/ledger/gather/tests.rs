use std::time::Duration;

use allocator::block::{BlockId, Claim};
use model::{Number, ServiceKey};

use super::{ENOUGH, PATIENCE};
use crate::core::{
    effect::{Effect, Failure, Now},
    ledger::{Change, Fate, Ledger, Op},
    record::BlockRecord,
};

/// How many writes there were and how long the longest wait for one was.
struct Load {
    writes: usize,
    longest: Duration,
}

/// Reservations of one block that come so far apart, with a write that takes 5 ms.
fn load(ledger: &mut Ledger, from: Duration, apart: Duration, count: u16) -> Load {
    busy_load(ledger, from, apart, count, Duration::from_millis(5))
}

/// The same from this number on.
fn load_from(ledger: &mut Ledger, first: u16, from: Duration, apart: Duration, count: u16) -> Load {
    numbered_load(ledger, first, from, apart, count, Duration::from_millis(5))
}

/// The same with a write that takes so long.
fn busy_load(
    ledger: &mut Ledger,
    from: Duration,
    apart: Duration,
    count: u16,
    write: Duration,
) -> Load {
    numbered_load(ledger, 0, from, apart, count, write)
}

fn numbered_load(
    ledger: &mut Ledger,
    first: u16,
    from: Duration,
    apart: Duration,
    count: u16,
    write: Duration,
) -> Load {
    let mut told = Load {
        writes: 0,
        longest: Duration::ZERO,
    };
    let mut waiting: Vec<Duration> = Vec::new();
    let mut flight: Option<(BlockId, Duration)> = None;
    let mut come = 0;
    let mut now = from;
    while come < count || !waiting.is_empty() || flight.is_some() {
        if come < count && now >= from + apart * u32::from(come) {
            ledger.submit(Op::Reserve {
                number: Number::port(29_952 + first + come % 256),
                owner: ServiceKey::new("default", &format!("s{from:?}-{come}")),
                until: 1_000 + i64::from(come),
                at_least: 0,
                now: 1_000 + i64::from(come),
            });
            waiting.push(now);
            come += 1;
        }
        if let Some((id, _)) = flight.filter(|(_, done)| now >= *done) {
            flight = None;
            let version = now.as_millis().to_string();
            ledger.written(id, Ok(version.as_str().into()), now);
        }
        let at = Now {
            mono: now,
            wall: 1_000 + i64::from(come),
        };
        for effect in ledger.poll(at).0 {
            let Effect::WriteBlock { id, .. } = effect else {
                panic!("{effect:?}")
            };
            told.writes += 1;
            flight = Some((id, now + write));
            for since in waiting.drain(..) {
                told.longest = told.longest.max(now - since);
            }
        }
        let tick = now + Duration::from_millis(1);
        // It says so when it has to be asked.
        if let Some(due) = ledger.next_due(now).filter(|_| flight.is_none()) {
            assert!(due > now, "due and not done");
        }
        now = tick;
    }
    told
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn reservations_that_come_one_by_one_are_written_at_once() {
    let mut ledger = Ledger::new("me".into());
    let told = load(&mut ledger, millis(10), millis(20), 100);
    assert_eq!((told.writes, told.longest), (100, Duration::ZERO));
}

#[test]
fn of_reservations_that_crowd_several_are_written_together_and_none_waits_for_long() {
    let mut ledger = Ledger::new("me".into());
    let told = load(&mut ledger, millis(10), millis(4), 250);
    assert!(told.writes <= 80, "{}", told.writes);
    let told = load(&mut ledger, millis(1_010), millis(4), 250);
    assert!(told.writes <= 30, "{}", told.writes);
    assert!(told.longest <= PATIENCE, "{:?}", told.longest);
}

#[test]
fn when_enough_have_gathered_nobody_waits_for_more() {
    let mut ledger = Ledger::new("me".into());
    let told = load(&mut ledger, millis(10), millis(1), 1_000);
    assert!(told.writes >= 1_000 / (ENOUGH + 5), "{}", told.writes);
    assert!(told.longest <= PATIENCE, "{:?}", told.longest);
}

#[test]
fn a_crowd_that_comes_to_the_next_block_is_known_there_at_once() {
    let mut ledger = Ledger::new("me".into());
    load(&mut ledger, millis(10), millis(4), 250);
    // Numbers from 256 on are of another block.
    let told = load_from(&mut ledger, 256, millis(1_010), millis(4), 250);
    assert!(told.writes <= 30, "{}", told.writes);
    assert!(told.longest <= PATIENCE, "{:?}", told.longest);
}

#[test]
fn where_few_come_to_each_block_nobody_waits_for_others_in_vain() {
    let mut ledger = Ledger::new("me".into());
    let mut longest = Duration::ZERO;
    for round in 0..100_u16 {
        for block in 0..10_u16 {
            let from = millis(u64::from(round) * 100 + u64::from(block) * 10);
            let told = load_from(&mut ledger, block * 256 + round, from, millis(10), 1);
            longest = longest.max(told.longest);
        }
    }
    assert_eq!(longest, Duration::ZERO);
}

#[test]
fn after_a_crowd_one_that_comes_alone_is_written_at_once() {
    let mut ledger = Ledger::new("me".into());
    load(&mut ledger, millis(10), millis(4), 250);
    let told = load(&mut ledger, millis(2_000), millis(20), 20);
    assert_eq!((told.writes, told.longest), (20, Duration::ZERO));
}

#[test]
fn what_other_replicas_reserve_counts_and_who_lost_a_number_does_not_wait_again() {
    let mut ledger = Ledger::new("me".into());
    let id = BlockId::of(Number::port(29_952));
    let theirs = |count: u16| {
        let kept = |n: u16| {
            let claim = Claim::Retained {
                owner: ServiceKey::new("default", &format!("theirs{n}")),
                until: 2_000,
            };
            (Number::port(29_952 + n), claim)
        };
        BlockRecord {
            id,
            version: (count + 1).to_string().as_str().into(),
            sequence: i64::from(count),
            writer: "other".into(),
            claims: Ok((0..count).map(kept).collect()),
        }
    };
    let reserve = |n: u16| Op::Reserve {
        number: Number::port(29_952 + n),
        owner: ServiceKey::new("default", "mine"),
        until: 2_000,
        at_least: 0,
        now: 1_000,
    };
    let at = |mono| Now { mono, wall: 1_000 };
    // Something of ours keeps the block looked at.
    ledger.observe(theirs(40));
    ledger.submit(reserve(100));
    assert!(ledger.poll(at(millis(10))).0.is_empty(), "they are many");
    assert_eq!(ledger.next_due(millis(10)), Some(millis(10) + PATIENCE));
    assert_eq!(ledger.poll(at(millis(10) + PATIENCE)).0.len(), 1);
    ledger.written(id, Err(Failure::Conflict), millis(65));
    assert_eq!(ledger.poll(at(millis(65))).0, [Effect::ReadBlock { id }]);
    ledger.read(id, Ok(Some(theirs(110))), millis(70));
    let (effects, changes) = ledger.poll(at(millis(70)));
    assert!(effects.is_empty());
    assert_eq!(changes, [Change::Ended(reserve(100), Fate::Lost)]);
    ledger.submit(reserve(111));
    assert_eq!(ledger.poll(at(millis(71))).0.len(), 1, "it has waited");
}

#[test]
fn an_api_server_that_is_slow_is_asked_to_write_for_a_quarter_of_the_time() {
    let mut ledger = Ledger::new("me".into());
    let told = busy_load(&mut ledger, millis(10), millis(20), 100, millis(40));
    // Two seconds, of which the writes may take half a second, and the first ones tell nothing yet.
    assert!((10..=17).contains(&told.writes), "{}", told.writes);
    assert!(told.longest <= millis(160), "{:?}", told.longest);
}

#[test]
fn one_slow_write_among_quick_ones_makes_nobody_wait() {
    let mut ledger = Ledger::new("me".into());
    load(&mut ledger, millis(10), millis(20), 20);
    busy_load(&mut ledger, millis(1_000), millis(20), 1, millis(60));
    let told = load(&mut ledger, millis(1_080), millis(20), 20);
    assert_eq!((told.writes, told.longest), (20, Duration::ZERO));
}

#[test]
fn what_nobody_waits_for_goes_with_the_next_reservation_while_some_come() {
    let number = |n: u16| Number::port(29_952 + n);
    let reserve = |n: u16| Op::Reserve {
        number: number(n),
        owner: ServiceKey::new("default", &format!("s{n}")),
        until: 2_000,
        at_least: 0,
        now: 1_000,
    };
    let forget = |n: u16| Op::Forget {
        number: number(n),
        now: 3_000,
    };
    let at = |mono| Now { mono, wall: 1_000 };
    let mut ledger = Ledger::new("me".into());
    let written = |ledger: &mut Ledger, now: Duration| {
        let (effects, _) = ledger.poll(at(now));
        for effect in &effects {
            let Effect::WriteBlock { id, .. } = effect else {
                panic!("{effect:?}")
            };
            let version = now.as_micros().to_string();
            ledger.written(*id, Ok(version.as_str().into()), now + millis(1));
        }
        effects.len()
    };
    ledger.submit(reserve(0));
    assert_eq!(written(&mut ledger, millis(1_000)), 1);
    // One comes every 20 ms, and with each something else that could be written at once.
    for n in 1..10 {
        let now = millis(1_000 + 20 * u64::from(n));
        ledger.submit(forget(n - 1));
        assert_eq!(written(&mut ledger, now - millis(10)), 0);
        ledger.submit(reserve(n));
        assert_eq!(written(&mut ledger, now), 1);
    }
    // No other comes: a while later it is written all the same.
    ledger.submit(forget(9));
    assert_eq!(written(&mut ledger, millis(1_190)), 0);
    assert_eq!(ledger.next_due(millis(1_190)), Some(millis(1_390)));
    assert_eq!(written(&mut ledger, millis(1_390)), 1);
    // And at once when none has come for a while.
    ledger.submit(reserve(10));
    assert_eq!(written(&mut ledger, millis(1_400)), 1);
    ledger.submit(forget(10));
    assert_eq!(written(&mut ledger, millis(3_000)), 1);
}
