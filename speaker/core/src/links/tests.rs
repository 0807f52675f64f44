#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;

fn link(index: u32, name: &str, prefixes: &[&str]) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
        up: true,
        prefixes: prefixes
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect(),
        default_route_v4: false,
        default_route_v6: false,
    }
}

fn address(ip: &str, interfaces: Option<&[&str]>) -> Address {
    Address {
        ip: ip.parse().unwrap(),
        interfaces: interfaces.map(|globs| globs.iter().map(|glob| Arc::from(*glob)).collect()),
    }
}

#[test]
fn globs_match_as_in_a_shell() {
    let rows = [
        ("eth*", "eth0", true),
        ("eth*", "eth", true),
        ("eth*", "veth0", false),
        ("eth?", "eth0", true),
        ("eth?", "eth10", false),
        ("*", "anything", true),
        ("e*h*0", "eth1h0", true),
        ("e*h*0", "eth1h1", false),
        ("eth0", "eth0", true),
        ("eth0", "eth0.100", false),
        ("bond?.*", "bond0.7", true),
        ("", "", true),
        ("", "a", false),
        ("**", "", true),
    ];
    for (glob, name, expected) in rows {
        assert_eq!(matches(glob, name), expected, "{glob} {name}");
    }
}

#[test]
fn an_address_goes_where_globs_say_else_where_its_prefix_is_else_to_the_default_route() {
    let mut links = Links::default();
    let mut default = link(3, "wan", &[]);
    default.default_route_v4 = true;
    let mut down = link(4, "eth9", &["10.0.0.1/24"]);
    down.up = false;
    links.set(&[
        link(1, "eth0", &["10.0.0.2/24", "fd00::2/64"]),
        link(2, "eth1", &["10.1.0.2/24"]),
        default,
        down,
    ]);
    assert_eq!(links.choose(&address("10.0.0.50", None)), [1]);
    assert_eq!(links.choose(&address("10.1.0.50", None)), [2]);
    assert_eq!(links.choose(&address("192.0.2.1", None)), [3]);
    assert_eq!(links.choose(&address("fd00::50", None)), [1]);
    let none: [u32; 0] = [];
    assert_eq!(links.choose(&address("2001:db8::1", None)), none);
    let both = address("192.0.2.1", Some(&["eth*"]));
    assert_eq!(links.choose(&both), [1, 2]);
    assert_eq!(links.choose(&address("10.0.0.50", Some(&["x"]))), none);
}

fn announcement(addresses: &[Address], pools: &[&str]) -> Announcement {
    Announcement {
        addresses: addresses.to_vec(),
        pools: pools.iter().map(|pool| Arc::from(*pool)).collect(),
        ..Announcement::default()
    }
}

#[test]
fn a_pool_without_an_interface_is_told_and_one_that_explains_a_group_is_enough() {
    let mut links = Links::default();
    links.set(&[link(1, "eth0", &["10.0.0.2/24"])]);
    let lan = address("10.0.0.50", None);
    let dmz = address("192.0.2.1", Some(&["dmz*"]));
    let group = announcement(&[lan, dmz.clone()], &["lan", "dmz"]);
    links.assess(1, Some(&group));
    let unable: Vec<Arc<str>> = links.report().into_iter().map(|row| row.pool).collect();
    assert_eq!(unable, ["dmz".into(), "lan".into()], "either may be it");
    links.assess(2, Some(&announcement(&[dmz], &["dmz"])));
    let report = links.report();
    assert_eq!(report.len(), 1);
    assert_eq!(&*report[0].pool, "dmz");
    assert_eq!(&*report[0].message, "no interface that is up matches dmz*");
    assert_eq!(links.unable(), [pool_hash("dmz")]);
    links.set(&[link(1, "eth0", &["10.0.0.2/24"]), link(2, "dmz0", &[])]);
    links.assess(1, Some(&group));
    links.assess(2, None);
    assert_eq!(links.report(), []);
}

#[test]
fn who_lacks_too_many_pools_to_name_is_unable_for_all() {
    let mut links = Links::default();
    for number in 0..=MOST_UNABLE {
        let pool = format!("pool-{number}");
        let one = announcement(&[address("10.0.0.1", None)], &[&pool]);
        links.assess(number as Key, Some(&one));
    }
    assert_eq!(links.unable(), [0]);
}

#[test]
fn links_of_an_address_are_down_when_it_has_no_other() {
    let own = "10.0.0.5".parse().unwrap();
    let with = |first: bool, second: bool| {
        let mut links = Links::default();
        let (mut one, mut other) = (
            link(1, "eth0", &["10.0.0.0/24"]),
            link(2, "eth1", &["10.0.0.0/24", "192.0.2.0/24"]),
        );
        (one.up, other.up) = (first, second);
        links.set(&[one, other]);
        links
    };
    for (first, second, expected) in [
        (true, true, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ] {
        let links = with(first, second);
        assert_eq!(links.are_down(own), expected, "{first} {second}");
        let up = [(1, first), (2, second)].into_iter();
        let up: BTreeSet<u32> = up.filter(|(_, up)| *up).map(|(index, _)| index).collect();
        assert_eq!(links.carrying(own), up);
        // On a link that we do not know: nothing is known of its cable.
        assert!(!links.are_down("198.51.100.1".parse().unwrap()));
    }
    assert!(!Links::default().are_down(own));
}
