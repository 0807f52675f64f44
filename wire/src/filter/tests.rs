//! Programs against an interpreter, and that against a plain rule.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::{Mac, arp, ndp};

#[path = "../../fuzz/bpf.rs"]
mod bpf;

const THEM: Mac = Mac([6, 0, 0, 0, 0, 9]);
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);

/// For the interpreter.
fn steps(filter: &Filter) -> Vec<bpf::Instruction> {
    (filter.instructions().iter())
        .map(|step| (step.code, step.jt, step.jf, step.k))
        .collect()
}

fn accepts(filter: &Filter, frame: &[u8]) -> bool {
    bpf::run(&steps(filter), frame, bpf::Arrival::default()).unwrap() > 0
}

fn is_in(ranges: &Ranges, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            (ranges.v4.iter()).any(|(first, last)| (*first..=*last).contains(&ip.to_bits()))
        }
        IpAddr::V6(ip) => {
            (ranges.v6.iter()).any(|(first, last)| (*first..=*last).contains(&ip.to_bits()))
        }
    }
}

/// What a program must accept, told from the bytes by other means than instructions.
fn wants(ranges: &Ranges, frame: &[u8]) -> bool {
    let v4 = |at: usize| -> Option<IpAddr> {
        let four: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(four.into())
    };
    let v6 = |at: usize| -> Option<IpAddr> {
        let sixteen: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(sixteen.into())
    };
    let is_at = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
    if is_at(12, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0]) {
        let is_known = is_at(21, &[1]) || is_at(21, &[2]);
        let (Some(sender), Some(target)) = (v4(28), v4(38)) else {
            return false;
        };
        return is_known && (is_in(ranges, sender) || is_in(ranges, target));
    }
    is_at(12, &[0x86, 0xdd])
        && frame.get(14).is_some_and(|byte| byte >> 4 == 6)
        && is_at(20, &[58, 255])
        && (is_at(54, &[135, 0]) || is_at(54, &[136, 0]))
        && v6(62).is_some_and(|target| is_in(ranges, target))
}

fn asks(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp::Packet::request(THEM, CLIENT_V4, ip).write(),
        IpAddr::V6(ip) => ndp::Message::solicitation(THEM, CLIENT_V6, ip).write(),
    }
}

fn claims(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp::Packet::reply(THEM, ip, Mac::BROADCAST, CLIENT_V4).write(),
        IpAddr::V6(ip) => ndp::Message::announcement(THEM, ip).write(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The worst that there can be: neither first nor last words of a range are alike.
fn many_wide() -> Vec<IpAddr> {
    let v4 = (0..1000_u32).map(|n| IpAddr::V4((0x8000_0000 + n * n * 1000).into()));
    let v6 = (0..1000_u128).map(|n| {
        let far = (0x8000_0000 + n * n) << 96 | 0x9000_0000 << 64 | 0xa000_0000 << 32;
        IpAddr::V6((far | 0xb000_0000).into())
    });
    v4.chain(v6).collect()
}

#[test]
fn without_addresses_nothing_is_accepted() {
    let filter = program([]);
    for ip in [
        ip("0.0.0.0"),
        ip("203.0.113.5"),
        ip("::"),
        ip("2001:db8::5"),
    ] {
        assert!(!accepts(&filter, &asks(ip)));
        assert!(!accepts(&filter, &claims(ip)));
    }
    assert_eq!(filter.instructions().len(), 1);
}

#[test]
fn what_is_about_an_owned_address_is_accepted_and_its_neighbours_are_not() {
    let filter = program([ip("203.0.113.5"), ip("2001:db8::5")]);
    #[rustfmt::skip]
    let rows = [
        ("203.0.113.5", true), ("203.0.113.4", false), ("203.0.113.6", false), ("0.0.0.0", false),
        ("255.255.255.255", false), ("2001:db8::5", true), ("2001:db8::4", false),
        ("2001:db8::6", false), ("2001:db8:0:0:0:1:0:5", false), ("2001:db7::5", false),
        ("::", false), ("::5", false),
    ];
    for (address, expected) in rows {
        assert_eq!(accepts(&filter, &asks(ip(address))), expected, "{address}");
        assert_eq!(
            accepts(&filter, &claims(ip(address))),
            expected,
            "{address}"
        );
    }
}

#[test]
fn one_family_does_not_let_the_other_in() {
    assert!(!accepts(
        &program([ip("203.0.113.5")]),
        &asks(ip("2001:db8::5"))
    ));
    assert!(!accepts(
        &program([ip("2001:db8::5")]),
        &asks(ip("203.0.113.5"))
    ));
}

#[test]
fn frames_of_a_vlan_of_other_stations_and_of_this_machine_are_left_out() {
    let program = steps(&program([ip("203.0.113.5"), ip("2001:db8::5")]));
    #[rustfmt::skip]
    let rows = [
        ("for this station", 0, None, true),
        ("for everybody", 1, None, true),
        ("for a group", 2, None, true),
        ("for another station", 3, None, false),
        ("sent by this machine", 4, None, false),
        ("with a priority only", 1, Some(0xe000), true),
        ("in a VLAN", 1, Some(10), false),
        ("in a VLAN, with a priority", 1, Some(0xe00a), false),
    ];
    for (what, packet_type, vlan, expected) in rows {
        for frame in [asks(ip("203.0.113.5")), asks(ip("2001:db8::5"))] {
            let arrival = bpf::Arrival { packet_type, vlan };
            let accepted = bpf::run(&program, &frame, arrival).unwrap() > 0;
            assert_eq!(accepted, expected, "{what}");
        }
    }
}

#[test]
fn any_other_kind_of_frame_about_an_owned_address_is_dropped() {
    let program = program([ip("203.0.113.5"), ip("2001:db8::5")]);
    // Ethernet type, form, lengths, operation; type, version, next header, hop limit, type, code.
    let rows = [
        (
            "203.0.113.5",
            [12, 13, 14, 15, 16, 17, 18, 19, 20].as_slice(),
        ),
        ("2001:db8::5", [12, 13, 14, 20, 21, 54, 55].as_slice()),
    ];
    for (address, bytes) in rows {
        for at in bytes {
            let mut frame = asks(ip(address));
            assert!(accepts(&program, &frame));
            frame[*at] ^= 0x40;
            assert!(!accepts(&program, &frame), "byte {at} for {address}");
        }
    }
}

#[test]
fn equal_addresses_make_equal_programs() {
    let addresses = [ip("203.0.113.5"), ip("2001:db8::5"), ip("203.0.113.9")];
    let turned = [addresses[2], addresses[1], addresses[0], addresses[2]];
    assert_eq!(program(addresses), program(turned));
}

#[test]
fn neighbours_make_a_range() {
    let ranges = Ranges::of([
        ip("10.0.0.3"),
        ip("10.0.0.1"),
        ip("10.0.0.2"),
        ip("10.0.0.5"),
    ]);
    assert_eq!(
        ranges.v4,
        [(0x0a00_0001, 0x0a00_0003), (0x0a00_0005, 0x0a00_0005)]
    );
    let ranges = Ranges::of([ip("ffff::ffff"), ip("::ffff:ffff"), ip("::1:0:0")]);
    assert_eq!(ranges.v6.len(), 2);
    let edges = [
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    let ranges = Ranges::of(edges.map(ip));
    assert_eq!((ranges.v4.len(), ranges.v6.len()), (2, 2));
}

#[test]
fn of_too_many_ranges_those_nearest_to_each_other_are_joined() {
    // Pairs with gaps of 2 inside and of 1000 between: there is room for the pairs only.
    let pairs = u32::try_from(MOST_RANGES).unwrap();
    let bits = (0..pairs).flat_map(|pair| [1000 * pair, 1000 * pair + 2]);
    let ranges = fitting(bits.map(|bits| IpAddr::V4(bits.into())));
    assert_eq!(ranges.v4.len(), MOST_RANGES);
    assert!(ranges.v4.iter().all(|(first, last)| last - first == 2));
}

#[test]
fn both_families_have_room_in_what_is_granted() {
    for most in [2, 3, 16, 64] {
        let ranges = Ranges::of(many_wide()).at_most(most);
        assert_eq!(ranges.v4.len() + ranges.v6.len(), most);
        assert_eq!(ranges.v6.len(), most / 2);
        assert!(many_wide().into_iter().all(|ip| is_in(&ranges, ip)));
    }
    let few: Vec<IpAddr> = many_wide().into_iter().skip(990).collect();
    let ranges = Ranges::of(few).at_most(64);
    assert_eq!((ranges.v4.len(), ranges.v6.len()), (10, 54));
}

#[test]
fn addresses_of_one_pool_get_all_ranges_that_there_are() {
    let v4 = (0..500_u32).map(|n| IpAddr::V4((0xcb00_7100 + 2 * n).into()));
    let pool = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
    let v6 = (0..500_u128).map(|n| IpAddr::V6((pool + 2 * n).into()));
    assert_eq!(fitting(v4.clone()).v4.len(), MOST_RANGES);
    let ranges = fitting(v6.clone());
    assert!(ranges.v6.len() >= MOST_RANGES / 2, "{}", ranges.v6.len());
    let ranges = fitting(v4.chain(v6));
    assert!(ranges.v4.len() >= MOST_RANGES / 4 && ranges.v6.len() >= MOST_RANGES / 4);
}

fn bits() -> impl Strategy<Value = u128> {
    // Words that collide: equal, next to each other, and at the edges.
    let word = || {
        prop_oneof![
            Just(0_u32),
            Just(1),
            Just(2),
            Just(u32::MAX),
            Just(u32::MAX - 1),
            Just(0x8000_0000),
            any::<u32>()
        ]
    };
    [word(), word(), word(), word()].prop_map(|words| {
        words
            .iter()
            .fold(0, |bits, word| (bits << 32) | u128::from(*word))
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), bits()).prop_map(|(four, bits)| match u32::try_from(bits & 0xffff_ffff) {
        Ok(bits) if four => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(bits.into()),
    })
}

/// About the address, of any kind, perhaps damaged.
fn frame_about(ip: IpAddr, kind: u8, damage: Option<(usize, u8)>, cut: usize) -> Vec<u8> {
    let mut frame = match kind {
        0 => asks(ip),
        _ => claims(ip),
    };
    if let Some((at, byte)) = damage
        && let Some(place) = frame.get_mut(at)
    {
        *place = byte;
    }
    frame.truncate(frame.len().saturating_sub(cut));
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_program_accepts_what_the_plain_rule_wants(
        addresses in prop::collection::vec(address(), 0..150),
        others in prop::collection::vec(address(), 0..20),
        step in -2_i8..=2,
        kind in 0_u8..2,
        damage in prop::option::weighted(0.3, (0_usize..80, any::<u8>())),
        cut in prop_oneof![3 => Just(0_usize), 1 => 0_usize..30],
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let ranges = fitting(addresses.iter().copied());
        let program = steps(&program(addresses.iter().copied()));
        let accepts = |frame: &[u8]| bpf::run(&program, frame, bpf::Arrival::default()).unwrap() > 0;
        prop_assert!(ranges.v4.len() + ranges.v6.len() <= MOST_RANGES);
        let written = super::program(addresses.iter().copied());
        prop_assert!(super::program::charge(written.instructions()) <= MOST_CHARGE);
        prop_assert!(addresses.iter().all(|ip| is_in(&ranges, *ip)));
        // The edges of ranges and what is beyond them.
        let near = addresses.iter().map(|ip| match ip {
            IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().wrapping_add_signed(step.into()).into()),
            IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().wrapping_add_signed(step.into()).into()),
        });
        for ip in near.chain(others) {
            let frame = frame_about(ip, kind, damage, cut);
            prop_assert_eq!(accepts(&frame), wants(&ranges, &frame), "{}", ip);
        }
        prop_assert_eq!(accepts(&noise), wants(&ranges, &noise));
    }

    #[test]
    fn up_to_the_bound_only_owned_addresses_are_accepted(
        addresses in prop::collection::btree_set(address(), 0..10),
        others in prop::collection::vec(address(), 0..50),
    ) {
        let owned: BTreeSet<IpAddr> = addresses;
        let program = steps(&program(owned.iter().copied()));
        for ip in others.iter().chain(&owned) {
            let accepted = bpf::run(&program, &asks(*ip), bpf::Arrival::default()).unwrap() > 0;
            prop_assert_eq!(accepted, owned.contains(ip));
        }
    }
}
