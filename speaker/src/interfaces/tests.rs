//! Messages that a kernel sent, replayed; and what must not confuse anybody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

use super::message::{Address, Change, Hop, LinkFacts, Message, Route, messages};
use super::table::Table;
use wire::Mac;

const RECORDED: &str = include_str!("recorded.txt");

fn datagrams(step: &str) -> Vec<Vec<u8>> {
    let lines = RECORDED.lines().filter_map(|line| line.split_once(' '));
    let of_step = lines.filter(|(name, _)| *name == step);
    let bytes = |hex: &str| {
        (hex.as_bytes().chunks(2))
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let found: Vec<Vec<u8>> = of_step.map(|(_, hex)| bytes(hex)).collect();
    assert!(!found.is_empty(), "nothing recorded for {step}");
    found
}

fn replay(table: &mut Table, step: &str) {
    for datagram in datagrams(step) {
        for message in messages(&datagram) {
            if let Message::Change(change) = message {
                table.apply(change);
            }
        }
    }
}

/// `name up prefixes defaults`, a link a line; link-local prefixes are left out.
fn told(table: &Table) -> Vec<String> {
    let link = |link: speaker_core::Link| {
        let prefixes: Vec<_> = (link.prefixes.iter())
            .map(ToString::to_string)
            .filter(|prefix| !prefix.starts_with("fe80"))
            .collect();
        format!(
            "{} {} [{}]{}{}",
            link.name,
            if link.up { "up" } else { "down" },
            prefixes.join(" "),
            if link.default_route_v4 { " v4" } else { "" },
            if link.default_route_v6 { " v6" } else { "" },
        )
    };
    let mut told: Vec<_> = table.links().into_iter().map(link).collect();
    told.retain(|line| {
        line.starts_with("eth0") || line.starts_with("br0") || line.starts_with("up")
    });
    told
}

fn dumped() -> Table {
    let mut table = Table::default();
    for step in ["dump-links", "dump-addresses", "dump-routes"] {
        replay(&mut table, step);
    }
    table
}

#[test]
fn a_dump_tells_ethernet_links_with_their_prefixes_and_default_routes() {
    let table = dumped();
    let names: Vec<_> = table
        .links()
        .iter()
        .map(|link| link.name.to_string())
        .collect();
    // Neither lo nor kube-ipvs0, which asks for no neighbours.
    assert_eq!(names, ["peer0", "eth0", "peer1", "br0"]);
    assert_eq!(
        told(&table),
        ["eth0 up [192.0.2.0/24 2001:db8::/64] v4 v6", "br0 down []"]
    );
    let links = table.links();
    assert_eq!(links[1].mac, Mac([2, 0, 0, 0, 0, 1]));
}

#[test]
fn what_a_kernel_sends_is_followed_step_by_step() {
    const ETH0: &str = "eth0 up [192.0.2.0/24 2001:db8::/64] v4 v6";
    let mut table = dumped();
    let steps: [(&str, [&str; 2]); 17] = [
        ("address-added", [ETH0, "br0 down [198.51.100.0/25]"]),
        ("bridge-up", [ETH0, "br0 down [198.51.100.0/25]"]), // no carrier without a port
        ("port-added", [ETH0, "br0 up [198.51.100.0/25]"]),
        // Of the port it is said that it is gone, by the bridge.
        ("port-removed", [ETH0, "br0 down [198.51.100.0/25]"]),
        (
            "carrier-lost",
            [
                "eth0 down [192.0.2.0/24 2001:db8::/64]",
                "br0 down [198.51.100.0/25]",
            ],
        ),
        ("carrier-back", [ETH0, "br0 down [198.51.100.0/25]"]),
        ("default-replaced", [ETH0, "br0 down [198.51.100.0/25]"]),
        ("default-multipath", [ETH0, "br0 down [198.51.100.0/25]"]),
        (
            "default-multipath-gone",
            [ETH0, "br0 down [198.51.100.0/25]"],
        ),
        ("other-route", [ETH0, "br0 down [198.51.100.0/25]"]),
        ("other-table", [ETH0, "br0 down [198.51.100.0/25]"]),
        (
            "down",
            ["eth0 down [192.0.2.0/24]", "br0 down [198.51.100.0/25]"],
        ),
        (
            "renamed",
            ["uplink0 down [192.0.2.0/24]", "br0 down [198.51.100.0/25]"],
        ),
        // The default route went with the link, and nobody said so.
        (
            "up",
            ["uplink0 up [192.0.2.0/24]", "br0 down [198.51.100.0/25]"],
        ),
        (
            "default-again",
            ["uplink0 up [192.0.2.0/24] v4", "br0 down [198.51.100.0/25]"],
        ),
        (
            "address-gone",
            ["uplink0 up []", "br0 down [198.51.100.0/25]"],
        ),
        ("gone", ["br0 down [198.51.100.0/25]", ""]),
    ];
    for (step, expected) in steps {
        replay(&mut table, step);
        let expected: Vec<_> = expected
            .into_iter()
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(told(&table), expected, "after {step}");
    }
}

#[test]
fn a_dump_ends_with_the_number_of_its_question() {
    let last = datagrams("dump-routes").pop().unwrap();
    assert_eq!(messages(&last), [Message::Done { sequence: 7 }]);
}

#[test]
fn no_cut_and_no_broken_byte_ends_the_process() {
    for line in [
        "dump-links",
        "dump-addresses",
        "dump-routes",
        "default-multipath",
    ] {
        for datagram in datagrams(line) {
            for end in 0..datagram.len() {
                messages(&datagram[..end]);
                let mut broken = datagram.clone();
                broken[end] ^= 0xff;
                messages(&broken);
            }
        }
    }
}

fn link(index: u32, up: bool, running: bool) -> Change {
    Change::Link(LinkFacts {
        index,
        ethernet: true,
        up,
        running,
        name: Some(format!("eth{index}")),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
    })
}

fn default(metric: u32, links: &[u32], gateway: u8) -> Route {
    let hop = |index: &u32| Hop {
        index: *index,
        gateway: vec![gateway],
    };
    Route {
        ipv6: false,
        metric,
        hops: links.iter().map(hop).collect(),
    }
}

fn added(route: Route) -> Change {
    Change::Default {
        route,
        replaces: false,
    }
}

fn defaults(table: &Table) -> Vec<u32> {
    let links = table.links();
    let with = links.iter().filter(|link| link.default_route_v4);
    with.map(|link| link.index).collect()
}

#[test]
fn the_default_route_with_the_lowest_metric_counts_among_links_that_are_up() {
    let mut table = Table::default();
    for change in [
        link(1, true, true),
        link(2, true, true),
        link(3, true, true),
        added(default(100, &[1], 1)),
        added(default(200, &[2, 3], 1)),
    ] {
        table.apply(change);
    }
    assert_eq!(defaults(&table), [1]);
    table.apply(link(1, true, false));
    assert_eq!(defaults(&table), [2, 3]);
    table.apply(link(1, true, true));
    assert_eq!(defaults(&table), [1]);
    table.apply(Change::DefaultGone(default(100, &[1], 1)));
    assert_eq!(defaults(&table), [2, 3]);
}

#[test]
fn of_two_routers_on_one_link_one_may_go() {
    let mut table = Table::default();
    for change in [
        link(1, true, true),
        added(default(100, &[1], 1)),
        added(default(100, &[1], 2)),
        Change::DefaultGone(default(100, &[1], 1)),
    ] {
        table.apply(change);
    }
    assert_eq!(defaults(&table), [1]);
    let replaces = Change::Default {
        route: default(100, &[1], 3),
        replaces: true,
    };
    table.apply(replaces);
    table.apply(Change::DefaultGone(default(100, &[1], 3)));
    assert_eq!(defaults(&table), Vec::<u32>::new());
}

#[test]
fn two_addresses_of_one_prefix_are_one_prefix_until_both_are_gone() {
    let mut table = Table::default();
    table.apply(link(1, true, true));
    let address = |last: u8| Address {
        index: 1,
        on_link: [192, 0, 2, last].into(),
        prefix_length: 24,
        local: [192, 0, 2, last].into(),
    };
    table.apply(Change::Address(address(1)));
    table.apply(Change::Address(address(2)));
    assert_eq!(told(&table), Vec::<String>::new()); // eth1 is none of those told
    let prefixes = |table: &Table| table.links()[0].prefixes.len();
    assert_eq!(prefixes(&table), 1);
    table.apply(Change::AddressGone(address(1)));
    assert_eq!(prefixes(&table), 1);
    table.apply(Change::AddressGone(address(2)));
    assert_eq!(prefixes(&table), 0);
}

#[test]
fn a_message_without_name_and_address_keeps_both() {
    let mut table = Table::default();
    table.apply(link(1, true, true));
    table.apply(Change::Link(LinkFacts {
        index: 1,
        ethernet: true,
        up: true,
        running: false,
        name: None,
        mac: None,
    }));
    let links = table.links();
    assert_eq!((&*links[0].name, links[0].up), ("eth1", false));
    assert_eq!(links[0].mac, Mac([2, 0, 0, 0, 0, 1]));
}
