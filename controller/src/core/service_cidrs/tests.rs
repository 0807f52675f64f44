use super::*;

fn cidr(name: &str, cidrs: &[&str], ready: bool) -> CidrRecord {
    CidrRecord {
        name: name.into(),
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ready,
    }
}

/// The addresses of a space, as `first-last`.
fn shown(space: Space, set: &RangeSet) -> String {
    let text = |value| Number { space, value }.to_string();
    let ranges = set.ranges().iter();
    let ranges: Vec<String> = ranges
        .map(|(first, last)| format!("{}-{}", text(*first), text(*last)))
        .collect();
    ranges.join(" ")
}

#[test]
fn what_the_api_server_takes_and_what_it_picks() {
    // CIDRs in use, what it takes, what it picks: kubernetes.md 2.2 and 2.3.
    #[rustfmt::skip]
    let table: &[(&[&str], &str, &str)] = &[
        (&["10.0.0.0/16"], "10.0.0.1-10.0.255.254", "10.0.1.1-10.0.255.254"),
        (&["10.0.0.0/24"], "10.0.0.1-10.0.0.254", "10.0.0.17-10.0.0.254"),
        (&["10.0.0.0/28"], "10.0.0.1-10.0.0.14", "10.0.0.1-10.0.0.14"),
        (&["10.0.0.0/31"], "", ""),
        (&["10.0.0.0/32"], "", ""),
        (&["10.0.1.0/24", "10.0.0.0/16"], "10.0.0.1-10.0.255.254", "10.0.1.1-10.0.255.254"),
        (&["10.0.0.0/24", "10.0.0.0/16"], "10.0.0.1-10.0.255.254", "10.0.0.17-10.0.0.254 10.0.1.1-10.0.255.254"),
        (&["10.0.0.0/24", "10.0.2.0/24"], "10.0.0.1-10.0.0.254 10.0.2.1-10.0.2.254", "10.0.0.17-10.0.0.254 10.0.2.17-10.0.2.254"),
        (&["10.0.0.0/24", "10.0.1.0/24"], "10.0.0.1-10.0.0.254 10.0.1.1-10.0.1.254", "10.0.0.17-10.0.0.254 10.0.1.17-10.0.1.254"),
        (&["fd00::/112"], "", ""),
        (&[], "", ""),
    ];
    for (given, usable, dynamic) in table {
        let mut cidrs = ServiceCidrs::default();
        for (place, one) in given.iter().enumerate() {
            cidrs.set(cidr(&place.to_string(), &[one], true));
        }
        assert_eq!(
            shown(Space::V4, &cidrs.usable(Space::V4)),
            *usable,
            "{given:?}"
        );
        assert_eq!(
            shown(Space::V4, &cidrs.dynamic(Space::V4)),
            *dynamic,
            "{given:?}"
        );
    }
}

#[test]
fn of_ipv6_the_last_address_is_given_and_a_prefix_shorter_than_64_is_not_used() {
    let mut cidrs = ServiceCidrs::default();
    cidrs.set(cidr("a", &["fd00::/112"], true));
    assert_eq!(
        shown(Space::V6, &cidrs.usable(Space::V6)),
        "fd00::1-fd00::ffff"
    );
    assert_eq!(
        shown(Space::V6, &cidrs.dynamic(Space::V6)),
        "fd00::101-fd00::ffff"
    );
    cidrs.set(cidr("a", &["fd00::/63"], true));
    assert!(cidrs.usable(Space::V6).is_empty());
}

#[test]
fn what_is_not_ready_is_not_used_and_goes_on_making_the_families() {
    let mut cidrs = ServiceCidrs::default();
    assert!(!cidrs.are_known());
    assert!(cidrs.set(cidr("kubernetes", &["10.0.0.0/24", "fd00::/112"], true)));
    assert!(!cidrs.set(cidr("kubernetes", &["10.0.0.0/24", "fd00::/112"], true)));
    assert!(cidrs.set(cidr("kubernetes", &["10.0.0.0/24", "fd00::/112"], false)));
    assert!(cidrs.usable(Space::V4).is_empty());
    assert!(cidrs.remove("kubernetes"));
    assert!(!cidrs.remove("kubernetes"));
    assert_eq!(cidrs.families(), [Family::V4, Family::V6]);
    assert!(cidrs.are_known(), "it is made anew within seconds");
}

#[test]
fn the_cluster_has_the_families_of_the_cidr_from_the_flags_in_its_order() {
    type Row<'a> = (&'a [(&'a str, &'a [&'a str])], &'a str);
    #[rustfmt::skip]
    let table: &[Row<'_>] = &[
        (&[("kubernetes", &["10.0.0.0/24"])], "IPv4"),
        (&[("kubernetes", &["fd00::/112", "10.0.0.0/24"])], "IPv6 IPv4"),
        // Another one does not make a cluster dual-stack: the API server has no allocator for it.
        (&[("kubernetes", &["10.0.0.0/24"]), ("more", &["fd00::/112"])], "IPv4"),
        (&[("more", &["fd00::/112"]), ("one", &["10.0.0.0/24"])], "IPv4 IPv6"),
        (&[], ""),
    ];
    for (given, families) in table {
        let mut cidrs = ServiceCidrs::default();
        for (name, list) in *given {
            cidrs.set(cidr(name, list, true));
        }
        let words: Vec<&str> = cidrs.families().into_iter().map(Family::as_str).collect();
        assert_eq!(words.join(" "), *families);
    }
}

#[test]
fn only_so_many_cidrs_are_named() {
    let mut cidrs = ServiceCidrs::default();
    assert_eq!(cidrs.words(), "none is ready");
    for third in 0..6 {
        let range = format!("10.0.{third}.0/24");
        cidrs.set(cidr(&range, &[&range], true));
    }
    let words = "10.0.0.0/24, 10.0.1.0/24, 10.0.2.0/24, 10.0.3.0/24 and 2 more";
    assert_eq!(cidrs.words(), words);
}
