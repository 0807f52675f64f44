use std::collections::BTreeSet;

use model::Space;

use super::*;

fn addresses(entries: &[&str]) -> Result<(RangeSet, RangeSet), RangeError> {
    RangeSet::parse_addresses(&entries.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn ports(entries: &[&str]) -> Result<RangeSet, RangeError> {
    RangeSet::parse_ports(&entries.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn shown(set: &RangeSet, space: Space) -> String {
    let text = |value| Number { space, value }.to_string();
    let ranges: Vec<String> = set.ranges().iter().map(|&(a, b)| format!("{}-{}", text(a), text(b))).collect();
    ranges.join(" ")
}

#[test]
fn addresses_are_read_in_every_form() {
    for (entries, v4, v6) in [
        (&["10.0.0.0/30"][..], "10.0.0.0-10.0.0.3", ""),
        (&["10.0.0.5"], "10.0.0.5-10.0.0.5", ""),
        (&["10.0.0.5/32"], "10.0.0.5-10.0.0.5", ""),
        (&["10.0.0.9-10.0.1.2"], "10.0.0.9-10.0.1.2", ""),
        (&[" 10.0.0.9 - 10.0.0.10 "], "10.0.0.9-10.0.0.10", ""),
        (&["10.0.0.9-10.0.0.9"], "10.0.0.9-10.0.0.9", ""),
        (&["2001:db8::/126"], "", "2001:db8::-2001:db8::3"),
        (&["2001:DB8::7-2001:db8:0::9"], "", "2001:db8::7-2001:db8::9"),
        (&["10.0.0.0/8"], "10.0.0.0-10.255.255.255", ""),
        (&["2001:db8:1::/48"], "", "2001:db8:1::-2001:db8:1:ffff:ffff:ffff:ffff:ffff"),
        (&["10.0.0.4", "2001:db8::1", "10.0.0.1"], "10.0.0.1-10.0.0.1 10.0.0.4-10.0.0.4", "2001:db8::1-2001:db8::1"),
        (&["10.0.0.0/24", "10.0.0.128/25", "10.0.0.200-10.0.1.3"], "10.0.0.0-10.0.1.3", ""),
        (&["10.0.0.0/31", "10.0.0.2/31"], "10.0.0.0-10.0.0.1 10.0.0.2-10.0.0.3", ""),
        (&["255.255.255.255"], "255.255.255.255-255.255.255.255", ""),
    ] {
        let (four, six) = addresses(entries).unwrap();
        assert_eq!((shown(&four, Space::V4).as_str(), shown(&six, Space::V6).as_str()), (v4, v6));
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_cure() {
    for (entry, message) in [
        (
            "10.0.0.1/24",
            r#""10.0.0.1/24" has bits set beyond its prefix; write 10.0.0.0/24 for the network, or the address without the prefix for a single one"#,
        ),
        (
            "2001:db8::1/64",
            r#""2001:db8::1/64" has bits set beyond its prefix; write 2001:db8::/64 for the network, or the address without the prefix for a single one"#,
        ),
        ("10.0.0.1-2001:db8::1", r#""10.0.0.1-2001:db8::1" starts in one IP family and ends in the other; write two entries"#),
        ("10.0.0.9-10.0.0.1", r#""10.0.0.9-10.0.0.1" ends before it starts; exchange the two ends"#),
        ("10.0.0.0/7", r#""10.0.0.0/7" is larger than an IPv4 /8, the largest that one entry may be; write a smaller one"#),
        ("10.0.0.0-11.0.0.0", r#""10.0.0.0-11.0.0.0" is larger than an IPv4 /8, the largest that one entry may be; write a smaller one"#),
        ("2001:db8::/47", r#""2001:db8::/47" is larger than an IPv6 /48, the largest that one entry may be; write a smaller one"#),
        ("::/0", r#""::/0" is larger than an IPv6 /48, the largest that one entry may be; write a smaller one"#),
        ("::ffff:10.0.0.1", r#""::ffff:10.0.0.1" is an IPv4 address written as IPv6; write it as IPv4"#),
    ] {
        assert_eq!(addresses(&[entry]).unwrap_err().to_string(), message);
    }
    for entry in [
        "",
        "-",
        "/",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1-",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.1-5",
        "a",
        "1-2-3",
        "10.0.0.0/24-10.0.1.0",
    ] {
        assert_eq!(addresses(&[entry]), Err(RangeError::NotAddresses(entry.to_owned())));
    }
}

#[test]
fn ports_are_read_and_refused() {
    assert_eq!(ports(&["30000-32767", "80", "1-2"]).unwrap().ranges(), [(1, 2), (80, 80), (30_000, 32_767)]);
    for entry in ["", "0", "0-5", "65536", "-1", "a", "1-", "1-2-3"] {
        assert_eq!(ports(&[entry]), Err(RangeError::NotPorts(entry.to_owned())));
    }
    assert_eq!(ports(&["9-8"]), Err(RangeError::Reversed("9-8".to_owned())));
}

#[test]
fn a_length_saturates() {
    assert_eq!(RangeSet::new([(0, u128::MAX)]).len(), u128::MAX);
    assert_eq!(RangeSet::new([(0, u128::MAX - 1), (u128::MAX, u128::MAX)]).len(), u128::MAX);
    assert_eq!(addresses(&["2001:db8::/48"]).unwrap().1.len(), 1 << 80);
}

#[test]
fn sets_agree_with_naive_ones() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..400 {
        // Near the end of the space too, where an off-by-one overflows.
        let base = if random.bool() { 0 } else { u128::MAX - 59 };
        let set = |random: &mut fastrand::Rng| -> RangeSet {
            (0..random.usize(..6))
                .map(|_| {
                    let first = random.u128(..60);
                    (base + first, base + random.u128(first..60))
                })
                .collect()
        };
        let (one, other) = (set(&mut random), set(&mut random));
        let naive = |set: &RangeSet| -> BTreeSet<u128> {
            (0..60).map(|offset| base + offset).filter(|value| set.ranges().iter().any(|&(a, b)| a <= *value && *value <= b)).collect()
        };
        let (a, b) = (naive(&one), naive(&other));
        assert!(one.ranges().is_sorted_by(|x, y| x.1 < y.0));
        assert_eq!(one.len(), a.len() as u128);
        assert_eq!(one.is_empty(), a.is_empty());
        assert_eq!(naive(&one.subtract(&other)), &a - &b);
        assert_eq!(one.intersects(&other), a.intersection(&b).next().copied());
        for index in 0..60 {
            assert_eq!(one.contains(base + index), a.contains(&(base + index)));
            assert_eq!(one.nth(index), a.iter().nth(index as usize).copied());
            assert_eq!(naive(&one.first_n(index)), a.iter().take(index as usize).copied().collect());
        }
    }
}
