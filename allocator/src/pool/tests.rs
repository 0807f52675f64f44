use super::*;
use crate::{Operator, Requirement, selector};

#[test]
fn port_bands_are_those_of_kubernetes() {
    // facts/kubernetes.md 1.2, and Test_calculateRangeOffset.
    for (first, last, fixed, free) in [
        (30_000, 32_767, Some((30_000, 30_085)), Some((30_086, 32_767))),
        (30_000, 30_127, Some((30_000, 30_015)), Some((30_016, 30_127))),
        (30_000, 30_016, Some((30_000, 30_015)), Some((30_016, 30_016))),
        (30_000, 30_015, None, Some((30_000, 30_015))),
        (30_000, 30_009, None, Some((30_000, 30_009))),
        (20_000, 32_767, Some((20_000, 20_127)), Some((20_128, 32_767))),
        (30_000, 65_535, Some((30_000, 30_127)), Some((30_128, 65_535))),
        (30_000, 32_047, Some((30_000, 30_063)), Some((30_064, 32_047))),
        (30_000, 34_095, Some((30_000, 30_127)), Some((30_128, 34_095))),
        (30_080, 30_080, None, Some((30_080, 30_080))),
    ] {
        assert_eq!(Band::of_ports(first, last), Band { fixed, free });
    }
}

#[test]
fn cluster_ip_bands_are_those_of_kubernetes() {
    // facts/kubernetes.md 2.2: prefix, usable addresses, size of the static band.
    for (prefix, usable, offset) in [
        (30, 2, 0),
        (28, 14, 0),
        (27, 30, 16),
        (25, 126, 16),
        (24, 254, 16),
        (23, 510, 32),
        (22, 1_022, 64),
        (21, 2_046, 128),
        (20, 4_094, 256),
        (16, 65_534, 256),
        (8, 16_777_214, 256),
    ] {
        let (first, size) = (0x0a00_0000u128, 1u128 << (32 - prefix));
        let band = Band::of_cluster_ips(Space::V4, first, first + size - 1);
        assert_eq!(band.fixed, (offset > 0).then_some((first + 1, first + offset)), "/{prefix}");
        assert_eq!(band.free, Some((first + 1 + offset, first + usable)), "/{prefix}");
    }
}

#[test]
fn the_last_ipv6_address_is_usable_and_the_first_is_not() {
    let first = 0xfd00u128 << 112;
    let band = Band::of_cluster_ips(Space::V6, first, first + 0xff);
    assert_eq!(band, Band { fixed: Some((first + 1, first + 16)), free: Some((first + 17, first + 255)) });
}

#[test]
fn where_the_api_server_says_what_it_takes_the_rest_of_a_pool_is_used_from_its_lowest() {
    let range = |first, last| RangeSet::new([(first, last)]);
    let cidr = (0x0a00_0000u128, 0x0a00_001fu128);
    let mut pool = Pool { v4: range(cidr.0, cidr.1), ..Pool::new("a", Use::ClusterIp) };
    let shown = |pool: &Pool| {
        let stock = pool.stock(Space::V4);
        (stock.first.ranges().to_vec(), stock.then.ranges().to_vec(), stock.capacity)
    };
    assert_eq!(shown(&pool), (vec![(cidr.0 + 17, cidr.1 - 1)], vec![(cidr.0 + 1, cidr.0 + 16)], 30));
    // Its first half is no ServiceCIDR's.
    pool.unusable_v4 = range(0, cidr.0 + 15);
    assert_eq!(shown(&pool), (vec![(cidr.0 + 16, cidr.1)], vec![], 16));
}

#[test]
fn what_is_not_a_cidr_has_no_network_address() {
    for (first, last) in [(0x0a00_0001, 0x0a00_0004), (0x0a00_0000, 0x0a00_0002), (5, 5), (4, 5)] {
        assert_eq!(Band::of_cluster_ips(Space::V4, first, last), Band { fixed: None, free: Some((first, last)) });
    }
}

#[test]
fn admission_is_one_of_the_namespace_rules_and_the_service_rule() {
    let label = |key: &str| selector::Selector {
        requirements: vec![Requirement { key: key.to_owned(), operator: Operator::Exists, values: BTreeSet::new() }],
    };
    let labels = |keys: &str| -> Labels { keys.split_whitespace().map(|key| (key.to_owned(), String::new())).collect() };
    for (listed, namespace_label, service_label, namespace, namespace_labels, service_labels, admitted) in [
        (None, None, None, "a", "", "", true),
        (Some("a"), None, None, "a", "", "", true),
        (Some("a"), None, None, "b", "", "", false),
        (None, Some("n"), None, "b", "n", "", true),
        (None, Some("n"), None, "b", "", "", false),
        (Some("a"), Some("n"), None, "a", "", "", true),
        (Some("a"), Some("n"), None, "b", "n", "", true),
        (Some("a"), Some("n"), None, "b", "", "n", false),
        (None, None, Some("s"), "a", "", "s", true),
        (None, None, Some("s"), "a", "s", "", false),
        (Some("a"), None, Some("s"), "a", "", "", false),
        (Some("a"), None, Some("s"), "b", "", "s", false),
    ] {
        let admission = Admission {
            namespaces: listed.map(|name: &str| [name.to_owned()].into()),
            namespace_selector: namespace_label.map(label),
            service_selector: service_label.map(label),
        };
        assert_eq!(admission.admits(namespace, &labels(namespace_labels), &labels(service_labels)), admitted, "{admission:?}");
    }
}

#[test]
fn the_stable_hash_never_changes() {
    // FNV-1a test vectors, then ours: a change would move Services between versions.
    assert_eq!(fnv(FNV_BASIS, ""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv(FNV_BASIS, "a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv(FNV_BASIS, "foobar"), 0x8594_4171_f739_67e8);
    assert_eq!(stable_hash("foo", "bar", None), fnv(FNV_BASIS, "foo/bar"));
    assert_eq!(stable_hash("foo", "bar", Some("http")), fnv(FNV_BASIS, "foo/bar/http"));
}
