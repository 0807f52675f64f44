use super::*;
use crate::{
    annotations,
    fixtures::{Pairs, World, subnet},
    input::Existing,
};

fn scheme_of(world: &World) -> Scheme {
    let request = annotations::request(&world.services[0], &world.class).unwrap();
    front(&world.input(), &request).unwrap().scheme
}

#[test]
#[rustfmt::skip]
fn the_annotation_wins_over_what_is_there_and_that_over_the_class() {
    use Scheme::{InternetFacing as Facing, Internal};
    let rows: [(Pairs<'_>, Option<Scheme>, Scheme, Scheme); 6] = [
        (&[], None, Internal, Internal),
        (&[], None, Facing, Facing),
        (&[], Some(Facing), Internal, Facing),
        (&[("scheme", "internal")], Some(Facing), Facing, Internal),
        (&[("internal", "false")], Some(Internal), Internal, Facing),
        (&[("scheme", "internet-facing")], None, Internal, Facing),
    ];
    for (asked, existing, class, expected) in rows {
        let mut world = World::asking(asked);
        world.class.scheme = class;
        world.existing = existing.map(|scheme| Existing { scheme, subnets: vec![], has_security_groups: true });
        assert_eq!(scheme_of(&world), expected, "{asked:?} {existing:?} {class:?}");
    }
}

fn mapped(asked: &[(&str, &str)]) -> Result<Vec<SubnetMapping>, String> {
    let mut world = World::asking(asked);
    let mut second = subnet("subnet-q", "b", 4);
    second.tags = world.network.subnets[2].tags.clone();
    second
        .tags
        .insert("Name".to_owned(), "name-subnet-q".to_owned());
    world.network.subnets.push(second);
    let request = annotations::request(&world.services[0], &world.class).unwrap();
    front(&world.input(), &request)
        .and_then(|front| mappings(&front, &request))
        .map_err(|refused| refused.message)
}

const FACING: (&str, &str) = ("scheme", "internet-facing");
const DUAL: (&str, &str) = ("ip-address-type", "dualstack");
const NAT: (&str, &str) = ("enable-prefix-for-ipv6-source-nat", "on");

#[test]
fn elastic_ips_go_to_subnets_in_their_order() {
    let eips = ("eip-allocations", "eipalloc-1,eipalloc-2");
    let pairs = |asked: &[(&str, &str)]| -> Vec<(String, String)> {
        let mappings = mapped(asked).unwrap().into_iter();
        mappings
            .map(|each| (each.subnet, each.allocation.unwrap()))
            .collect()
    };
    let pair = |subnet: &str, eip: &str| (subnet.to_owned(), eip.to_owned());
    let found = pairs(&[FACING, eips]);
    assert_eq!(
        found,
        [
            pair("subnet-p", "eipalloc-1"),
            pair("subnet-q", "eipalloc-2")
        ]
    );
    let ordered = pairs(&[FACING, eips, ("subnets", "subnet-q,subnet-p")]);
    assert_eq!(
        ordered,
        [
            pair("subnet-q", "eipalloc-1"),
            pair("subnet-p", "eipalloc-2")
        ]
    );
}

#[test]
fn private_and_ipv6_addresses_go_to_the_subnet_they_are_of() {
    let asked = [
        DUAL,
        ("private-ipv4-addresses", "10.0.2.7, 10.0.1.7"),
        ("ipv6-addresses", "2001:db8:0:2::7, 2001:db8:0:1::7"),
    ];
    let found = mapped(&asked).unwrap();
    let first = SubnetMapping {
        subnet: "subnet-a".to_owned(),
        private_ipv4: Some("10.0.1.7".to_owned()),
        ipv6: Some("2001:db8:0:1::7".to_owned()),
        ..SubnetMapping::default()
    };
    assert_eq!(found[0], first);
    assert_eq!(found[1].private_ipv4.as_deref(), Some("10.0.2.7"));
}

#[test]
fn prefixes_for_source_nat_go_to_subnets_in_their_order() {
    let asked = [
        DUAL,
        NAT,
        (
            "source-nat-ipv6-prefixes",
            "auto_assigned, 2001:db8:0:2:1::/80",
        ),
    ];
    let found = mapped(&asked).unwrap();
    assert_eq!(found[0].source_nat_prefix.as_deref(), Some("auto_assigned"));
    assert_eq!(
        found[1].source_nat_prefix.as_deref(),
        Some("2001:db8:0:2:1::/80")
    );
}

#[test]
#[rustfmt::skip]
fn addresses_that_do_not_go_with_the_load_balancer_are_refused() {
    let rows: [(Pairs<'_>, &str); 13] = [
        (&[("eip-allocations", "eipalloc-1,eipalloc-2")], "eip-allocations needs service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing"),
        (&[FACING, ("eip-allocations", "eipalloc-1")], "has 1 entries but the load balancer is in 2 subnets (subnet-p, subnet-q)"),
        (&[FACING, ("private-ipv4-addresses", "10.0.3.7,10.0.4.7")], "private-ipv4-addresses needs service.beta.kubernetes.io/aws-load-balancer-scheme: internal"),
        (&[("private-ipv4-addresses", "10.0.1.7")], "has 1 entries but the load balancer is in 2 subnets"),
        (&[("private-ipv4-addresses", "10.0.1.7,10.0.9.7")], "has no address of subnet-b (10.0.2.0/24, 2001:db8:0:2::/64)"),
        (&[("private-ipv4-addresses", "10.0.1.7,10.0.1.8")], "has 10.0.1.7 and 10.0.1.8, which are both in subnet-a"),
        (&[("ipv6-addresses", "2001:db8:0:1::7,2001:db8:0:2::7")], "ipv6-addresses needs service.beta.kubernetes.io/aws-load-balancer-ip-address-type: dualstack"),
        (&[DUAL, ("ipv6-addresses", "2001:db8:0:1::7")], "has 1 entries but the load balancer is in 2 subnets"),
        (&[DUAL, ("ipv6-addresses", "2001:db8:0:1::7,2001:db8:0:9::7")], "has no address of subnet-b"),
        (&[NAT], "only a dualstack load balancer can have"),
        (&[DUAL, ("source-nat-ipv6-prefixes", "auto_assigned,auto_assigned")], "needs service.beta.kubernetes.io/aws-load-balancer-enable-prefix-for-ipv6-source-nat: on"),
        (&[DUAL, NAT, ("source-nat-ipv6-prefixes", "auto_assigned")], "has 1 entries but the load balancer is in 2 subnets"),
        (&[DUAL, NAT, ("source-nat-ipv6-prefixes", "2001:db8:0:2:1::/80, auto_assigned")], "2001:db8:0:2:1::/80 does not lie in subnet-a"),
    ];
    for (asked, expected) in rows {
        let refused = mapped(asked).expect_err(expected);
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.starts_with("annotation "), "{refused}");
    }
}
