//! What is held, kept for somebody or shared.

use super::*;

#[test]
fn require_dual_stack_is_all_or_nothing_but_keeps_what_is_held() {
    let mut allocator = world(vec![pool("four", "10.0.1.0/24")]);
    let ask = dual(Ask { require_all: true, ..ask("s") });
    let verdict = ask.decide(&allocator);
    assert_eq!(told(&verdict), "|FamilyUnavailable|");
    assert!(message(&verdict).ends_with("spec.ipFamilyPolicy is RequireDualStack, so no family gets a new address"));
    ask.hold(&mut allocator, number("10.0.1.3"));
    assert_eq!(told(&ask.decide(&allocator)), "10.0.1.3|FamilyUnavailable|");
    let moved = Ask { explicit: "10.0.1.4", ..ask };
    assert_eq!(told(&moved.decide(&allocator)), "10.0.1.3|FamilyUnavailable|", "it does not move half");
}

#[test]
fn what_is_held_stays_whatever_becomes_of_its_pool() {
    let held = "10.0.1.7";
    let base = || pool("a", "10.0.1.0/24");
    let better = || set(|p| p.priority = 9, pool("better", "10.0.2.0/24"));
    for (pools, expected, why) in [
        (vec![base(), better()], "10.0.1.7||", "a better pool"),
        (vec![set(|p| p.disabled = true, base()), better()], "10.0.1.7||", "drained"),
        (vec![set(|p| p.auto_assign = false, base()), better()], "10.0.1.7||", "no longer automatic"),
        (vec![set(|p| p.reserved_v4 = p.v4.clone(), base()), better()], "10.0.1.7||", "reserved now"),
        (vec![set(|p| p.created = 1, base()), pool("older", "10.0.1.0/28"), better()], "10.0.1.7||", "overlap"),
        (vec![pool("renamed", "10.0.1.0/28"), better()], "10.0.1.7||", "pool renamed"),
        (vec![set(|p| p.enforce = true, only("ns", better())), base()], "10.0.1.7||", "another one enforces now"),
        (vec![better()], "10.0.2.0||10.0.1.7", "its pool is gone"),
        (vec![pool("a", "10.0.1.8/29"), better()], "10.0.2.0||10.0.1.7", "its pool shrank"),
        (vec![only("other", base()), better()], "10.0.2.0||10.0.1.7", "no longer admitted"),
        (vec![only("other", base())], "|PoolNotAdmitted|10.0.1.7", "no longer admitted, nothing else"),
        (vec![], "|NoPool|10.0.1.7", "no pool left"),
    ] {
        let mut allocator = world(pools);
        ask("s").hold(&mut allocator, number(held));
        assert_eq!(told(&ask("s").decide(&allocator)), expected, "{why}");
    }
}

#[test]
fn a_changed_request_moves_only_when_it_can_be_met() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24"), pool("b", "10.0.2.0/32"), only("other", pool("c", "10.0.3.0/24"))]);
    ask("s").hold(&mut allocator, number("10.0.1.7"));
    ask("other").hold(&mut allocator, number("10.0.1.9"));
    for (ask, expected) in [
        (Ask { explicit: "10.0.1.8", ..ask("s") }, "10.0.1.8||10.0.1.7"),
        (Ask { pool: Some("b"), ..ask("s") }, "10.0.2.0||10.0.1.7"),
        (Ask { pool: Some("a"), ..ask("s") }, "10.0.1.7||"),
        (Ask { explicit: "10.0.1.9", ..ask("s") }, "10.0.1.7|AddressInUse|"),
        (Ask { pool: Some("c"), ..ask("s") }, "10.0.1.7|PoolNotAdmitted|"),
        (Ask { pool: Some("none"), ..ask("s") }, "10.0.1.7|PoolNotFound|"),
        (Ask { allowed: Some(vec!["b".to_owned()]), ..ask("s") }, "10.0.1.7||"),
    ] {
        assert_eq!(told(&ask.decide(&allocator)), expected);
    }
    let verdict = Ask { pool: Some("none"), ..ask("s") }.decide(&allocator);
    assert!(message(&verdict).ends_with("; 10.0.1.7 stays in service until then"));
}

#[test]
fn of_several_held_the_shown_one_stays_then_the_lowest() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24")]);
    for held in numbers("10.0.1.9 10.0.1.5 10.0.1.7") {
        ask("s").hold(&mut allocator, held);
    }
    assert_eq!(told(&ask("s").decide(&allocator)), "10.0.1.5||10.0.1.7 10.0.1.9");
    assert_eq!(told(&Ask { shown: "10.0.1.7", ..ask("s") }.decide(&allocator)), "10.0.1.7||10.0.1.5 10.0.1.9");
    assert_eq!(told(&Ask { explicit: "10.0.1.9", shown: "10.0.1.7", ..ask("s") }.decide(&allocator)), "10.0.1.9||10.0.1.5 10.0.1.7");
}

#[test]
fn a_family_no_longer_asked_for_is_surplus() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24 2001:db8::/120")]);
    dual(ask("s")).settle(&mut allocator);
    assert_eq!(told(&ask("s").decide(&allocator)), "10.0.1.0||2001:db8::");
}

#[test]
fn a_shown_number_that_nobody_holds_is_taken_up() {
    let mut allocator = world(vec![set(|p| p.disabled = true, pool("a", "10.0.1.0/24")), pool("b", "10.0.2.0/24")]);
    let ask = Ask { shown: "10.0.1.77", ..ask("s") };
    let verdict = ask.decide(&allocator);
    assert_eq!(told(&verdict), "10.0.1.77||");
    assert!(verdict.grants[0].fresh, "it must be claimed");
    Ask { name: "thief", ..ask.clone() }.hold(&mut allocator, number("10.0.1.77"));
    assert_eq!(told(&ask.decide(&allocator)), "10.0.2.0||", "unless another Service has it");
}

#[test]
fn a_shown_number_of_a_damaged_block_stays_and_is_reported() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24"), pool("b", "10.0.2.0/24")]);
    allocator.quarantine(BlockId::of(number("10.0.1.0")));
    let verdict = Ask { shown: "10.0.1.77", ..ask("s") }.decide(&allocator);
    assert_eq!(told(&verdict), "10.0.1.77|LedgerDamaged|");
    assert!(!verdict.grants[0].fresh);
    assert_eq!(told(&ask("new").decide(&allocator)), "10.0.2.0||", "others are served elsewhere");
    let nowhere = Ask { pool: Some("a"), ..ask("new") }.decide(&allocator);
    assert_eq!(told(&nowhere), "|LedgerDamaged|");
}

#[test]
fn a_retained_number_goes_back_to_its_owner_first_and_to_nobody_else() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/30"), pool("b", "10.0.2.0/30")]);
    allocator.retain(number("10.0.2.2"), ServiceKey::new("ns", "former"), 2_000);
    allocator.retain(number("10.0.1.0"), ServiceKey::new("ns", "absent"), 2_000);
    assert_eq!(told(&ask("other").decide(&allocator)), "10.0.1.1||");
    assert_eq!(told(&ask("former").decide(&allocator)), "10.0.2.2||");
    assert_eq!(told(&Ask { pool: Some("a"), ..ask("former") }.decide(&allocator)), "10.0.1.1||");
    assert_eq!(told(&Ask { namespace: "other", ..ask("former") }.decide(&allocator)), "10.0.1.1||", "by namespace and name");
}

#[test]
fn a_sharing_key_steers_to_the_lowest_address_that_carries_it() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24"), pool("b", "10.0.2.0/24")]);
    let share = |name, port| Ask { sharing: Some(terms("k", port)), ..ask(name) };
    share("1", "TCP/80").hold(&mut allocator, number("10.0.2.9"));
    share("2", "TCP/80").hold(&mut allocator, number("10.0.1.9"));
    assert_eq!(told(&share("3", "TCP/443").decide(&allocator)), "10.0.1.9||");
    assert_eq!(told(&Ask { pool: Some("b"), ..share("3", "TCP/443") }.decide(&allocator)), "10.0.2.9||");
    assert_eq!(told(&share("3", "TCP/80").decide(&allocator)), "10.0.1.0||", "a port clash: a fresh one");
    assert_eq!(told(&Ask { sharing: Some(terms("other", "TCP/443")), ..ask("3") }.decide(&allocator)), "10.0.1.0||");
    assert_eq!(told(&Ask { explicit: "10.0.2.9", ..share("3", "TCP/443") }.decide(&allocator)), "10.0.2.9||");
    assert_eq!(told(&Ask { explicit: "10.0.2.9", ..share("3", "TCP/80") }.decide(&allocator)), "|SharingConflict|");
    assert_eq!(told(&Ask { explicit: "10.0.2.9", ..ask("3") }.decide(&allocator)), "|AddressInUse|");
    assert_eq!(told(&Ask { namespace: "other", explicit: "10.0.2.9", ..share("3", "TCP/443") }.decide(&allocator)), "|SharingConflict|");
}

#[test]
fn a_full_pool_still_shares() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/32")]);
    let share = |name, port| Ask { sharing: Some(terms("k", port)), ..ask(name) };
    share("1", "TCP/80").settle(&mut allocator);
    assert_eq!(told(&share("2", "TCP/443").settle(&mut allocator)), "10.0.1.0||");
    assert_eq!(told(&share("3", "TCP/443").settle(&mut allocator)), "|PoolExhausted|");
}

#[test]
fn who_changes_its_terms_into_a_clash_moves_and_the_others_stay() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/31")]);
    let share = |name, port| Ask { sharing: Some(terms("k", port)), ..ask(name) };
    share("1", "TCP/80").settle(&mut allocator);
    share("2", "TCP/443").settle(&mut allocator);
    let changed = share("2", "TCP/80");
    assert_eq!(told(&changed.decide(&allocator)), "10.0.1.1||10.0.1.0");
    assert_eq!(told(&share("1", "TCP/80").decide(&allocator)), "10.0.1.0||");
    ask("3").settle(&mut allocator);
    let stuck = changed.decide(&allocator);
    assert_eq!(told(&stuck), "10.0.1.0|PoolExhausted|", "nowhere to go: it stays");
    assert!(stuck.grants[0].keep_terms);
    assert_eq!(told(&Ask { sharing: None, ..changed }.decide(&allocator)), "10.0.1.0|PoolExhausted|");
}

#[test]
fn a_number_held_for_another_use_is_in_use() {
    let mut allocator = world(vec![ports("p", "30000-30001")]);
    ask_port("s").hold(&mut allocator, number("30000"));
    let health = Ask { usage: Use::HealthCheckNodePort, ..ask_port("s") };
    assert_eq!(told(&health.decide(&allocator)), "30001||");
    assert_eq!(told(&Ask { explicit: "30000", ..health }.decide(&allocator)), "|AddressInUse|");
}

#[test]
fn two_that_were_adopted_on_one_address_both_stay() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24")]);
    for name in ["1", "2"] {
        ask(name).hold(&mut allocator, number("10.0.1.5"));
    }
    for name in ["1", "2"] {
        assert_eq!(told(&ask(name).decide(&allocator)), "10.0.1.5||");
    }
}
