//! Which pool and number, and why none.

use super::*;

#[test]
fn pools_are_tried_in_order() {
    let (a, b, c) = ("10.0.1.0/30", "10.0.2.0/30", "10.0.3.0/30");
    let priority = |priority, pool: Pool| set(|p| p.priority = priority, pool);
    for (pools, expected, why) in [
        (vec![pool("b", b), pool("a", a)], "10.0.1.0", "by name"),
        (vec![pool("a", a), priority(1, pool("b", b))], "10.0.2.0", "higher priority first"),
        (vec![priority(9, pool("a", a)), only("ns", pool("b", b))], "10.0.2.0", "selective before general"),
        (vec![only("ns", pool("a", a)), priority(1, only("ns", pool("b", b)))], "10.0.2.0", "selective by priority"),
        (vec![only("other", pool("a", a)), pool("b", b)], "10.0.2.0", "not admitted is skipped"),
        (vec![set(|p| p.auto_assign = false, pool("a", a)), pool("b", b)], "10.0.2.0", "autoAssign off is skipped"),
        (vec![set(|p| p.disabled = true, pool("a", a)), pool("b", b)], "10.0.2.0", "disabled is skipped"),
        (
            vec![set(|p| p.created = 5, pool("a", a)), pool("b", "10.0.1.0/29"), pool("c", c)],
            "10.0.1.0",
            "the older of two that overlap serves",
        ),
        (vec![set(|p| p.usage = Use::ClusterIp, pool("a", a)), pool("b", b)], "10.0.2.0", "another use is skipped"),
        (vec![pool("a", "2001:db8::/120"), pool("b", b)], "10.0.2.0", "another family is skipped"),
        (vec![set(|p| p.reserved_v4 = p.v4.clone(), pool("a", a)), pool("b", b)], "10.0.2.0", "a wholly reserved pool is full"),
    ] {
        assert_eq!(told(&ask("s").decide(&world(pools))), format!("{expected}||"), "{why}");
    }
}

#[test]
fn pools_of_addresses_and_of_ports_may_have_one_name() {
    let mut allocator = world(vec![pool("team", "10.0.1.0/30"), ports("team", "30000-30009")]);
    let both = [Ask { pool: Some("team"), ..ask("a") }, Ask { pool: Some("team"), ..ask_port("p") }];
    let given = both.map(|ask| told(&ask.settle(&mut allocator)));
    assert_eq!(given, ["10.0.1.0||", "30000||"]);
    let left = |usage| {
        let all = allocator.usage("team", usage);
        [all.v4.available, all.ports.available]
    };
    assert_eq!([left(Use::LoadBalancer), left(Use::NodePort)], [[3, 0], [0, 9]]);
}

#[test]
fn the_verdict_says_of_every_pool_why() {
    let allocator = world(vec![
        only("other", pool("theirs", "10.0.1.0/30")),
        set(|p| p.disabled = true, only("ns", pool("drained", "10.0.2.0/30"))),
        set(|p| p.auto_assign = false, pool("asked", "10.0.3.0/30")),
        pool("first", "10.0.4.0/30"),
        pool("second", "10.0.5.0/30"),
        pool("six", "2001:db8::/126"),
    ]);
    let verdict = ask("s").decide(&allocator);
    let lines: Vec<String> = verdict.considered.iter().map(|c| format!("{} {}", c.pool, c.why)).collect();
    assert_eq!(
        lines,
        [
            "drained is disabled (spec.disabled)",
            r#"theirs does not admit namespace "ns" (spec.namespaces, spec.namespaceSelector)"#,
            "asked only serves requests by name or number (spec.autoAssign)",
            "six has no addresses of that family (spec.addresses)",
            "first serves the Service",
            r#"second is not needed: pool "first" comes first"#,
        ]
    );
}

#[test]
fn an_enforcing_pool_is_not_left_even_when_full() {
    let pools = |enforce| {
        vec![
            set(|p| p.enforce = enforce, only("ns", pool("own", "10.0.1.0/32"))),
            only("ns", pool("also", "10.0.2.0/32")),
            pool("public", "10.0.3.0/24"),
        ]
    };
    let mut free = world(pools(false));
    let mut confined = world(pools(true));
    for (name, expected) in [("1", "10.0.2.0||"), ("2", "10.0.1.0||"), ("3", "10.0.3.0||")] {
        assert_eq!(told(&ask(name).settle(&mut free)), expected);
    }
    assert_eq!(told(&ask("1").settle(&mut confined)), "10.0.1.0||");
    let stopped = ask("2").decide(&confined);
    assert_eq!(told(&stopped), "|PoolExhausted|");
    assert_eq!(stopped.missing[0].waits_for, ["own".into()]);
    assert_eq!(told(&Ask { pool: Some("public"), ..ask("2") }.decide(&confined)), "|PoolNotAdmitted|");
    assert_eq!(told(&Ask { explicit: "10.0.3.9", ..ask("2") }.decide(&confined)), "|PoolNotAdmitted|");
    assert_eq!(told(&Ask { namespace: "other", ..ask("4") }.decide(&confined)), "10.0.3.0||");
}

#[test]
fn what_is_missing_has_a_reason_and_a_cure() {
    let four = "10.0.1.0/30";
    let full = || set(|p| p.reserved_v4 = p.v4.clone(), pool("a", four));
    let asked = |name: &'static str| Ask { pool: Some(name), ..ask("s") };
    for (pools, ask, reason, text) in [
        (vec![], ask("s"), Reason::NoPool, "no AddressPool with usage LoadBalancer exists; create one"),
        (vec![], ask_port("s"), Reason::NoPool, "no NodePortPool with usage NodePort exists; create one"),
        (
            vec![pool("a", four)],
            asked("b"),
            Reason::PoolNotFound,
            r#"AddressPool "b" does not exist; correct the annotation portolan.dev/address-pool or create the pool"#,
        ),
        (
            vec![only("tenant-b", pool("tenant-b", four))],
            asked("tenant-b"),
            Reason::PoolNotAdmitted,
            r#"pool "tenant-b" does not admit namespace "ns" (spec.namespaces, spec.namespaceSelector); ask for another pool or have its owner add the namespace"#,
        ),
        (
            vec![full()],
            ask("s"),
            Reason::PoolExhausted,
            r#"no pool gives the Service an IPv4 address: pool "a" is full: all 0 numbers are taken; extend its spec.addresses or delete a Service that holds one"#,
        ),
        (
            vec![set(|p| p.disabled = true, pool("a", four))],
            asked("a"),
            Reason::PoolUnavailable,
            r#"pool "a" is disabled (spec.disabled); enable it or ask for another pool"#,
        ),
        (
            vec![pool("a", four), set(|p| p.created = 1, pool("b", four))],
            asked("b"),
            Reason::PoolUnavailable,
            r#"pool "b" overlaps the older pool "a"; change spec.addresses of one of the two"#,
        ),
        (
            vec![pool("a", "2001:db8::/126")],
            ask("s"),
            Reason::FamilyUnavailable,
            r#"no pool gives the Service an IPv4 address: pool "a" has no addresses of that family (spec.addresses); add some to spec.addresses or ask for another pool"#,
        ),
        (
            vec![set(|p| p.auto_assign = false, pool("a", four))],
            ask("s"),
            Reason::NoPool,
            r#"no pool gives the Service an IPv4 address: pool "a" only serves requests by name or number (spec.autoAssign); ask for it with portolan.dev/address-pool"#,
        ),
        (
            vec![pool("a", four)],
            Ask { allowed: Some(vec!["b".to_owned()]), ..ask("s") },
            Reason::PoolNotAdmitted,
            r#"no pool gives the Service an IPv4 address: pool "a" is not allowed by the LoadBalancerClass (spec.pool.addressPools); ask for another pool or have the class list this one"#,
        ),
    ] {
        let verdict = ask.decide(&world(pools));
        assert_eq!((verdict.missing[0].reason, message(&verdict)), (reason, text));
        assert!(verdict.grants.is_empty());
    }
}

#[test]
fn a_long_list_of_pools_is_cut_short() {
    let pools: Vec<Pool> = (0..50).map(|i| only("other", pool(&format!("pool-{i:02}"), &format!("10.0.{i}.0/24")))).collect();
    let verdict = ask("s").decide(&world(pools));
    assert!(message(&verdict).contains("46 more do not serve it either"), "{}", message(&verdict));
    assert!(message(&verdict).len() < 1_024);
}

#[test]
fn an_explicit_address_is_given_or_refused_with_a_reason() {
    let mut allocator = world(vec![
        set(|p| (p.reserved_v4, p.avoid_buggy_ips) = (RangeSet::new([(0x0a00_0104, 0x0a00_0107)]), true), pool("a", "10.0.1.0/24")),
        set(|p| p.auto_assign = false, pool("by-name", "10.0.2.0/24")),
        set(|p| p.disabled = true, pool("drained", "10.0.3.0/24")),
        only("other", pool("theirs", "10.0.4.0/24")),
        set(|p| p.usage = Use::ClusterIp, pool("cluster", "10.0.5.0/24")),
    ]);
    ask("first").hold(&mut allocator, number("10.0.1.9"));
    allocator.retain(number("10.0.1.10"), ServiceKey::new("ns", "former"), 2_000);
    allocator.retain(number("10.0.1.11"), ServiceKey::new("ns", "former"), 999);
    allocator.quarantine(BlockId::of(number("10.0.2.0")));
    for (explicit, pool, expected) in [
        ("10.0.1.20", None, "10.0.1.20||"),
        ("10.0.1.20", Some("a"), "10.0.1.20||"),
        ("10.0.1.20", Some("by-name"), "|ConflictingRequest|"),
        ("10.0.1.20", Some("none"), "|PoolNotFound|"),
        ("10.0.1.5", None, "|AddressReserved|"),
        ("10.0.1.255", None, "|AddressReserved|"),
        ("10.0.1.9", None, "|AddressInUse|"),
        ("10.0.1.10", None, "|AddressInUse|"),
        ("10.0.1.11", None, "10.0.1.11||"),
        ("10.0.2.1", None, "|LedgerDamaged|"),
        ("10.0.3.1", None, "|PoolUnavailable|"),
        ("10.0.4.1", None, "|PoolNotAdmitted|"),
        ("10.0.4.1", Some("theirs"), "|PoolNotAdmitted|"),
        ("10.0.5.1", None, "|NoPool|"),
        ("10.9.9.9", None, "|AddressNotInPool|"),
    ] {
        assert_eq!(told(&Ask { explicit, pool, ..ask("s") }.decide(&allocator)), expected, "{explicit} {pool:?}");
    }
    assert_eq!(told(&Ask { explicit: "10.0.1.10", ..ask("former") }.decide(&allocator)), "10.0.1.10||");
    allocator.lift_quarantine(BlockId::of(number("10.0.2.0")));
    assert_eq!(told(&Ask { explicit: "10.0.2.1", ..ask("s") }.decide(&allocator)), "10.0.2.1||", "autoAssign is of no account");
}

#[test]
fn of_several_who_share_a_refused_address_the_first_by_name_is_named_whoever_was_first_known() {
    for order in [["one", "two"], ["two", "one"]] {
        let mut allocator = world(vec![pool("a", "10.0.1.0/24")]);
        for name in order {
            let port = if name == "one" { "TCP/80" } else { "TCP/443" };
            Ask { sharing: Some(terms("k", port)), ..ask(name) }.hold(&mut allocator, number("10.0.1.9"));
        }
        let verdict = Ask { explicit: "10.0.1.9", ..ask("s") }.decide(&allocator);
        assert!(message(&verdict).contains("ns/one"), "{}", message(&verdict));
    }
}

#[test]
fn a_refused_address_names_who_has_it() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24")]);
    ask("first").hold(&mut allocator, number("10.0.1.9"));
    let verdict = Ask { explicit: "10.0.1.9", ..ask("s") }.decide(&allocator);
    assert_eq!(message(&verdict), r#"10.0.1.9 cannot be given: pool "a" has given it to Service ns/first; ask for another number"#);
    assert_eq!(verdict.missing[0].waits_for, ["a".into()]);
}

#[test]
fn an_explicit_address_fixes_its_own_family_only() {
    let allocator = world(vec![pool("a", "10.0.1.0/24 2001:db8::/120")]);
    for explicit in ["10.0.1.7", "2001:db8::7"] {
        let verdict = dual(Ask { explicit, ..ask("s") }).decide(&allocator);
        let expected = if explicit.contains(':') { "10.0.1.0 2001:db8::7||" } else { "10.0.1.7 2001:db8::||" };
        assert_eq!(told(&verdict), expected);
    }
}

#[test]
fn families_come_from_different_pools() {
    let allocator = world(vec![pool("four", "10.0.1.0/24"), pool("six", "2001:db8::/120")]);
    assert_eq!(told(&dual(ask("s")).decide(&allocator)), "10.0.1.0 2001:db8::||");
}

#[test]
fn prefer_dual_stack_takes_what_is_there_and_reaches_a_fixed_point() {
    let mut allocator = world(vec![pool("four", "10.0.1.0/24")]);
    let ask = dual(ask("s"));
    let first = ask.settle(&mut allocator);
    assert_eq!(told(&first), "10.0.1.0|FamilyUnavailable|");
    assert_eq!(told(&ask.settle(&mut allocator)), "10.0.1.0|FamilyUnavailable|");
    allocator.set_pools(vec![pool("four", "10.0.1.0/24"), pool("six", "2001:db8::/120")]);
    assert_eq!(told(&ask.settle(&mut allocator)), "10.0.1.0 2001:db8::||");
    let again = ask.settle(&mut allocator);
    assert!(again.grants.iter().all(|grant| !grant.fresh) && again.missing.is_empty());
}

#[test]
fn ports_are_picked_one_after_the_other() {
    let mut allocator = world(vec![ports("p", "30000-30003")]);
    let verdict = Ask { exclude: "30000 30001", ..ask_port("s") }.settle(&mut allocator);
    assert_eq!(told(&verdict), "30002||");
    assert_eq!(told(&Ask { exclude: "30002", ..ask_port("s") }.decide(&allocator)), "30000||");
    assert_eq!(told(&Ask { explicit: "30001", exclude: "30001", ..ask_port("s") }.decide(&allocator)), "|AddressInUse|30002");
}

#[test]
fn the_dynamic_band_comes_first_and_the_static_one_last() {
    let mut allocator = world(vec![ports("p", "30000-30017")]);
    let given: Vec<String> = ["a", "b", "c", "d"].map(|name| told(&ask_port(name).settle(&mut allocator))).into();
    assert_eq!(given, ["30016||", "30017||", "30000||", "30001||"]);
    assert_eq!(told(&Ask { explicit: "30009", ..ask_port("e") }.decide(&allocator)), "30009||");
}

#[test]
fn cluster_ips_leave_out_the_network_and_the_broadcast_address() {
    let mut allocator = world(vec![set(|p| p.usage = Use::ClusterIp, pool("c", "10.96.0.0/30"))]);
    let cluster = |name| Ask { usage: Use::ClusterIp, ..ask(name) };
    assert_eq!(told(&cluster("a").settle(&mut allocator)), "10.96.0.1||");
    assert_eq!(told(&cluster("b").settle(&mut allocator)), "10.96.0.2||");
    assert_eq!(told(&cluster("c").settle(&mut allocator)), "|PoolExhausted|");
    assert_eq!(told(&Ask { explicit: "10.96.0.3", ..cluster("c") }.decide(&allocator)), "|AddressReserved|");
}

#[test]
fn a_load_balancer_pool_hands_out_every_address_unless_buggy_ones_are_avoided() {
    let mut every = world(vec![pool("a", "10.0.0.254-10.0.1.1")]);
    let mut avoiding = world(vec![set(|p| p.avoid_buggy_ips = true, pool("a", "10.0.0.254-10.0.1.1"))]);
    let all = |allocator: &mut Allocator| ["1", "2", "3"].map(|name| told(&ask(name).settle(allocator))).join(" ");
    assert_eq!(all(&mut every), "10.0.0.254|| 10.0.0.255|| 10.0.1.0||");
    assert_eq!(all(&mut avoiding), "10.0.0.254|| 10.0.1.1|| |PoolExhausted|");
}

#[test]
fn stable_takes_the_hashed_number_and_probes_onward() {
    let stable = || vec![set(|p| p.strategy = Strategy::Stable, pool("a", "10.0.0.0/8"))];
    let hashed = crate::stable_hash("ns", "web", None) % 65_536;
    let expected = |steps: u64| Number { space: Space::V4, value: 0x0a00_0000 + u128::from(hashed + steps) };
    let mut allocator = world(stable());
    let verdict = ask("web").decide(&allocator);
    assert_eq!(verdict.grants[0].number, expected(0));
    assert_eq!(verdict, ask("web").decide(&world(stable())), "the same in every cluster");
    ask("other").hold(&mut allocator, expected(0));
    assert_eq!(ask("web").decide(&allocator).grants[0].number, expected(1));
    let salted = Ask { salt: Some("http"), ..ask("web") }.decide(&allocator);
    assert_ne!(salted.grants[0].number, expected(0));
}

#[test]
fn stable_and_random_wrap_around_until_every_number_is_given() {
    for strategy in [Strategy::Stable, Strategy::Random] {
        let mut allocator = world(vec![set(|p| p.strategy = strategy, pool("a", "10.0.0.0/29"))]);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let given: std::collections::BTreeSet<String> = names.map(|name| told(&ask(name).settle(&mut allocator))).into();
        assert_eq!(given.len(), 8, "{strategy}");
        assert_eq!(told(&ask("i").decide(&allocator)), "|PoolExhausted|");
    }
}

#[test]
fn labels_of_the_service_choose_the_pool() {
    let requirement = Requirement { key: "tier".to_owned(), operator: Operator::In, values: ["edge".to_owned()].into() };
    let selective = set(|p| p.admission.service_selector = Some(Selector { requirements: vec![requirement] }), pool("edge", "10.0.2.0/24"));
    let allocator = world(vec![pool("a", "10.0.1.0/24"), selective]);
    let labels: Labels = [("tier".to_owned(), "edge".to_owned())].into();
    assert_eq!(told(&Ask { labels, ..ask("s") }.decide(&allocator)), "10.0.2.0||");
    assert_eq!(told(&ask("s").decide(&allocator)), "10.0.1.0||");
    assert_eq!(told(&Ask { pool: Some("edge"), ..ask("s") }.decide(&allocator)), "|PoolNotAdmitted|");
}

#[test]
fn a_verdict_serialises_with_numbers_as_users_write_them() {
    let mut allocator = world(vec![pool("a", "10.0.1.0/24")]);
    ask("s").hold(&mut allocator, number("10.0.9.9"));
    let json = serde_json::to_value(dual(ask("s")).decide(&allocator)).unwrap();
    assert_eq!(json["grants"][0], serde_json::json!({"number": "10.0.1.0", "pool": "a", "fresh": true, "keep_terms": false}));
    assert_eq!(json["missing"][0]["family"], "IPv6");
    assert_eq!(json["missing"][0]["reason"], "FamilyUnavailable");
    assert_eq!(json["surplus"], serde_json::json!(["10.0.9.9"]));
    assert_eq!(json["considered"][0], serde_json::json!({"pool": "a", "family": "IPv4", "why": "Chosen"}));
}
