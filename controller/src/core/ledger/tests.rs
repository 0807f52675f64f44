use std::time::Duration;

use allocator::{
    Sharing, Terms,
    block::{BlockId, Claim, Claims, Holder},
};
use model::{Number, Port, Protocol, Reason, ServiceKey, Space, TrafficPolicy, Uid, Use};

use super::{Change, Fate, Ledger, Op, newer};
use crate::core::{
    effect::{Effect, Failure, Now},
    record::{BlockRecord, Rejection},
};

fn number(last: u128) -> Number {
    Number {
        space: Space::V4,
        value: 0xC000_0200 + last,
    }
}

fn now(millis: u64) -> Now {
    Now {
        mono: Duration::from_millis(millis),
        wall: 1_000,
    }
}

fn holder(name: &str, at: &str) -> Holder {
    Holder {
        service: ServiceKey::new("default", name),
        uid: Uid::from(name),
        usage: Use::LoadBalancer,
        at: at.into(),
        sharing: None,
    }
}

fn sharing(port: u16) -> Option<Sharing> {
    Some(Sharing::from(Terms {
        key: "k".into(),
        with: Vec::new(),
        ports: vec![Port {
            protocol: Protocol::Tcp,
            number: port,
        }],
        policy: TrafficPolicy::Cluster,
        backend: "".into(),
    }))
}

fn claim(last: u128, holder: Holder) -> Op {
    Op::Claim {
        number: number(last),
        holder,
        join: false,
        shown: false,
    }
}

fn release(last: u128, name: &str, at: Option<&str>) -> Op {
    Op::Release {
        number: number(last),
        uid: Uid::from(name),
        usage: Use::LoadBalancer,
        at: at.map(Into::into),
        retain: None,
    }
}

fn record(version: &str, claims: Claims) -> BlockRecord {
    BlockRecord {
        id: BlockId::of(number(0)),
        version: version.into(),
        sequence: 1,
        writer: "other".into(),
        claims: Ok(claims),
    }
}

fn held(last: u128, holder: Holder) -> Claims {
    Claims::from([(number(last), Claim::Held(vec![holder]))])
}

fn fates(changes: &[Change]) -> Vec<Fate> {
    let fate = |change: &Change| {
        if let Change::Ended(_, fate) = change {
            Some(*fate)
        } else {
            None
        }
    };
    changes.iter().filter_map(fate).collect()
}

/// A ledger that has committed one claim as version 1.
fn ledger_with(op: Op) -> Ledger {
    let mut ledger = Ledger::new("me".into());
    let id = BlockId::of(op.number());
    ledger.submit(op);
    assert_eq!(ledger.poll(now(0)).0.len(), 1);
    ledger.written(id, Ok("1".into()), Duration::ZERO);
    ledger
}

#[test]
fn what_comes_while_an_update_is_in_flight_goes_into_the_next_one() {
    let mut ledger = Ledger::new("me".into());
    ledger.submit(claim(0, holder("a", "1")));
    let (effects, _) = ledger.poll(now(0));
    assert_eq!(effects.len(), 1);
    for n in 1..100 {
        ledger.submit(claim(n, holder(&format!("s{n}"), "1")));
        assert_eq!(ledger.poll(now(1)).0.len(), 0, "one update in flight");
    }
    let changes = ledger.written(BlockId::of(number(0)), Ok("1".into()), Duration::ZERO);
    assert_eq!(fates(&changes), [Fate::Committed]);
    let (effects, _) = ledger.poll(now(2));
    let [Effect::WriteBlock { spec, version, .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(
        (spec.claims.lines().count(), version.as_deref()),
        (100, Some("1"))
    );
    assert_eq!(ledger.writes, 2);
}

#[test]
fn writes_beyond_the_burst_are_paced_and_announced() {
    let mut ledger = Ledger::new("me".into());
    for block in 0..40 {
        ledger.submit(claim(block * 256, holder(&format!("s{block}"), "1")));
    }
    assert_eq!(ledger.poll(now(0)).0.len(), 20, "the burst");
    let next = ledger.next_due(Duration::ZERO).unwrap();
    assert!(
        next > Duration::ZERO && next <= Duration::from_millis(50),
        "{next:?}"
    );
    assert_eq!(
        ledger.poll(now(100)).0.len(),
        2,
        "20 a second from there on"
    );
}

#[test]
fn while_enough_waits_to_be_used_claims_gather_and_then_go_in_one_write() {
    let mut ledger = Ledger::new("me".into());
    ledger.gather(true);
    for n in 0..100 {
        ledger.submit(claim(n, holder(&format!("s{n}"), "1")));
        assert_eq!(ledger.poll(now(0)).0, []);
        assert_eq!(ledger.next_due(Duration::ZERO), None, "it would spin");
    }
    ledger.gather(false);
    assert_eq!(ledger.next_due(Duration::ZERO), Some(Duration::ZERO));
    let (effects, _) = ledger.poll(now(100));
    let [Effect::WriteBlock { spec, .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(spec.claims.lines().count(), 100);
}

#[test]
fn nothing_counts_as_held_before_its_block_is_written() {
    let mut ledger = Ledger::new("me".into());
    ledger.submit(claim(0, holder("a", "1")));
    ledger.poll(now(0));
    assert_eq!(
        ledger.holder(number(0), &Uid::from("a"), Use::LoadBalancer),
        None
    );
    ledger.written(BlockId::of(number(0)), Ok("1".into()), Duration::ZERO);
    assert!(
        ledger
            .holder(number(0), &Uid::from("a"), Use::LoadBalancer)
            .is_some()
    );
}

#[test]
fn a_conflict_reads_the_block_and_decides_anew_what_fits() {
    let mut ledger = Ledger::new("me".into());
    ledger.submit(claim(0, holder("a", "1")));
    ledger.submit(claim(1, holder("b", "1")));
    ledger.poll(now(0));
    let id = BlockId::of(number(0));
    assert_eq!(
        ledger.written(id, Err(Failure::Conflict), Duration::ZERO),
        []
    );
    assert_eq!(ledger.poll(now(1)).0, [Effect::ReadBlock { id }]);
    let theirs = record("7", held(0, holder("rival", "1")));
    ledger.read(id, Ok(Some(theirs)), Duration::ZERO);
    let (effects, changes) = ledger.poll(now(2));
    assert_eq!(fates(&changes), [Fate::Lost], "the number is the rival's");
    assert!(
        matches!(effects.as_slice(), [Effect::WriteBlock { version: Some(v), .. }] if &**v == "7")
    );
}

#[test]
fn a_write_whose_reply_was_lost_is_found_to_have_happened() {
    let mut ledger = Ledger::new("me".into());
    ledger.submit(claim(0, holder("a", "1")));
    ledger.poll(now(0));
    let id = BlockId::of(number(0));
    ledger.written(id, Err(Failure::Unknown("lost".to_owned())), Duration::ZERO);
    assert_eq!(ledger.poll(now(10)).0, [], "not at once");
    assert_eq!(ledger.poll(now(600)).0, [Effect::ReadBlock { id }]);
    ledger.read(
        id,
        Ok(Some(record("7", held(0, holder("a", "1"))))),
        Duration::ZERO,
    );
    let (effects, changes) = ledger.poll(now(700));
    assert_eq!(
        (effects, fates(&changes)),
        (vec![], vec![Fate::Committed]),
        "no second write"
    );
}

#[test]
fn a_release_fits_only_the_claim_it_was_proven_for() {
    for (at, fate, left) in [
        (None, Fate::Committed, 0),
        (Some("1"), Fate::Committed, 0),
        (Some("9"), Fate::Lost, 1),
    ] {
        let mut ledger = ledger_with(claim(0, holder("a", "1")));
        ledger.submit(release(0, "a", at));
        let (effects, mut changes) = ledger.poll(now(1));
        if !effects.is_empty() {
            changes.extend(ledger.written(BlockId::of(number(0)), Ok("2".into()), Duration::ZERO));
        }
        assert_eq!(fates(&changes), [fate], "{at:?}");
        assert_eq!(ledger.claims().count(), left, "{at:?}");
    }
}

#[test]
fn holders_join_by_key_and_without_clash_only() {
    for (first, second, fate) in [
        (sharing(80), sharing(443), Fate::Committed),
        (sharing(80), sharing(80), Fate::Lost),
        (None, sharing(80), Fate::Lost),
    ] {
        let mut ledger = ledger_with(claim(
            0,
            Holder {
                sharing: first,
                ..holder("a", "1")
            },
        ));
        ledger.submit(claim(
            0,
            Holder {
                sharing: second,
                ..holder("b", "1")
            },
        ));
        let (effects, mut changes) = ledger.poll(now(1));
        if !effects.is_empty() {
            changes.extend(ledger.written(BlockId::of(number(0)), Ok("2".into()), Duration::ZERO));
        }
        assert_eq!(fates(&changes), [fate]);
    }
}

#[test]
fn a_retained_number_goes_back_to_its_owner_and_to_nobody_else() {
    for (name, fate) in [("a", Fate::Committed), ("b", Fate::Lost)] {
        let mut ledger = Ledger::new("me".into());
        let owner = ServiceKey::new("default", "a");
        let claims = Claims::from([(
            number(0),
            Claim::Retained {
                owner,
                until: 2_000,
            },
        )]);
        ledger.observe(record("1", claims));
        ledger.submit(claim(0, holder(name, "1")));
        let (effects, mut changes) = ledger.poll(now(1));
        if !effects.is_empty() {
            changes.extend(ledger.written(BlockId::of(number(0)), Ok("2".into()), Duration::ZERO));
        }
        assert_eq!(fates(&changes), [fate], "{name}");
    }
}

#[test]
fn a_damaged_block_is_never_written_and_heals_when_it_can_be_read() {
    let mut ledger = ledger_with(claim(0, holder("a", "1")));
    let why = Rejection {
        reason: Reason::LedgerDamaged,
        message: "unreadable".to_owned(),
    };
    let broken = BlockRecord {
        claims: Err(why),
        ..record("5", Claims::new())
    };
    let changes = ledger.observe(broken);
    assert!(
        matches!(changes.as_slice(), [Change::Damaged(..)]),
        "{changes:?}"
    );
    ledger.submit(claim(1, holder("b", "1")));
    let (effects, changes) = ledger.poll(now(1));
    assert_eq!((effects, fates(&changes)), (vec![], vec![Fate::Damaged]));
    let changes = ledger.observe(record("6", held(0, holder("a", "1"))));
    assert!(
        matches!(changes.as_slice(), [Change::Mended(_)]),
        "{changes:?}"
    );
}

#[test]
fn losing_the_lease_drops_what_is_pending_and_waits_for_what_is_in_flight() {
    let mut ledger = Ledger::new("me".into());
    ledger.submit(claim(0, holder("a", "1")));
    ledger.poll(now(0));
    ledger.submit(claim(1, holder("b", "1")));
    assert_eq!(ledger.abandon().len(), 2);
    let id = BlockId::of(number(0));
    ledger.submit(claim(2, holder("c", "1")));
    assert_eq!(
        ledger.poll(now(1)).0,
        [],
        "its reply could be taken for the other's"
    );
    let changes = ledger.written(id, Ok("1".into()), Duration::ZERO);
    assert_eq!(fates(&changes), [], "nobody waits for it");
    assert_eq!(
        ledger.claims().count(),
        1,
        "and it has happened all the same"
    );
    let (effects, _) = ledger.poll(now(2));
    assert!(
        matches!(&effects[..], [Effect::WriteBlock { version: Some(version), spec, .. }]
            if **version == *"1" && spec.claims.lines().count() == 2),
        "{effects:?}"
    );
}

#[test]
fn an_older_watch_event_changes_nothing() {
    let mut ledger = ledger_with(claim(0, holder("a", "1")));
    ledger.observe(record("9", held(0, holder("a", "1"))));
    assert_eq!(ledger.observe(record("8", Claims::new())), []);
    assert_eq!(ledger.claims().count(), 1);
}

#[test]
fn versions_compare_as_numbers() {
    assert!(newer("10", "9") && !newer("9", "10") && !newer("9", "9"));
    assert!(newer("b", "a") && newer("a", "b") && !newer("a", "a"));
}
