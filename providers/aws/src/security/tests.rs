use super::*;
use crate::{
    annotations,
    fixtures::{Pairs, World, class, port, service},
    input::Existing,
};

const V4: IpAddressType = IpAddressType::Ipv4;
const DUAL: IpAddressType = IpAddressType::Dualstack;

/// `tcp/80 0.0.0.0/0`: every rule of Service `shop/web` in short.
fn opened(asked: &[(&str, &str)], families: IpAddressType) -> Result<Vec<String>, String> {
    opened_of(&service("web", asked), families, 60)
}

fn opened_of(
    service: &Service,
    families: IpAddressType,
    limit: usize,
) -> Result<Vec<String>, String> {
    let request = annotations::request(service, &class()).map_err(|refused| refused.message)?;
    let rules = exposure(service, &request, families)
        .and_then(|exposure| rules(&[exposure], families, limit))
        .map_err(|refused| refused.message)?;
    Ok(rules.iter().map(short).collect())
}

fn short(rule: &Rule) -> String {
    let from = match &rule.source {
        Source::Ipv4(from) | Source::Ipv6(from) => from,
        Source::PrefixList(id) | Source::SecurityGroup(id) => id,
    };
    match rule.from == rule.to {
        true => format!("{}/{} {from}", rule.protocol, rule.from),
        false => format!("{}/{}-{} {from}", rule.protocol, rule.from, rule.to),
    }
}

#[test]
#[rustfmt::skip]
fn each_port_is_opened_to_each_source() {
    let ranges = annotations::SOURCE_RANGES;
    let rows: [(Pairs<'_>, IpAddressType, &[&str]); 7] = [
        (&[], V4, &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"]),
        (&[], DUAL, &["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 0.0.0.0/0", "tcp/443 ::/0"]),
        (&[(ranges, "10.0.0.0/8")], DUAL, &["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"]),
        (&[(ranges, "2001:db8::/32")], DUAL, &["tcp/80 2001:db8::/32", "tcp/443 2001:db8::/32"]),
        (&[("security-group-prefix-lists", "pl-1")], V4, &["tcp/80 pl-1", "tcp/443 pl-1"]),
        (&[("security-group-prefix-lists", "pl-1"), (ranges, "10.0.0.0/8")], V4,
            &["tcp/80 10.0.0.0/8", "tcp/80 pl-1", "tcp/443 10.0.0.0/8", "tcp/443 pl-1"]),
        (&[("enable-icmp-for-path-mtu-discovery", "on")], DUAL,
            &["icmp/3-4 0.0.0.0/0", "icmpv6/2-0 ::/0", "tcp/80 0.0.0.0/0", "tcp/80 ::/0", "tcp/443 0.0.0.0/0", "tcp/443 ::/0"]),
    ];
    for (asked, families, expected) in rows {
        assert_eq!(opened(asked, families).unwrap(), expected, "{asked:?}");
    }
}

#[test]
fn path_mtu_is_opened_to_prefix_lists_in_each_family() {
    let asked = [
        ("security-group-prefix-lists", "pl-1"),
        ("enable-icmp-for-path-mtu-discovery", "on"),
    ];
    let v4 = opened(&asked, V4).unwrap();
    assert_eq!(v4, ["icmp/3-4 pl-1", "tcp/80 pl-1", "tcp/443 pl-1"]);
    let dual = opened(&asked, DUAL).unwrap();
    assert_eq!(
        dual,
        [
            "icmp/3-4 pl-1",
            "icmpv6/2-0 pl-1",
            "tcp/80 pl-1",
            "tcp/443 pl-1"
        ]
    );
}

#[test]
fn tcp_and_udp_on_one_port_are_both_opened() {
    let mut dns = service("dns", &[]);
    dns.ports = vec![
        port("tcp", Transport::Tcp, 53),
        port("udp", Transport::Udp, 53),
    ];
    let rules = opened_of(&dns, V4, 60).unwrap();
    assert_eq!(rules, ["tcp/53 0.0.0.0/0", "udp/53 0.0.0.0/0"]);
}

#[test]
fn ipv6_sources_need_a_dualstack_load_balancer() {
    let refused = opened(&[(annotations::SOURCE_RANGES, "2001:db8::/32")], V4).unwrap_err();
    assert!(
        refused.starts_with(
            "annotation service.beta.kubernetes.io/load-balancer-source-ranges has 2001:db8::/32"
        ),
        "{refused}"
    );
    assert!(refused.contains("ip-address-type: dualstack"), "{refused}");
    let mut web = service("web", &[]);
    web.source_ranges = vec!["::/0".to_owned()];
    let refused = opened_of(&web, V4, 60).unwrap_err();
    assert!(
        refused.starts_with("spec.loadBalancerSourceRanges has ::/0"),
        "{refused}"
    );
}

/// `count` CIDRs that cannot be taken together, and `ports` ports with gaps between them.
fn wide(count: u8, ports: u16, gap: u16) -> Service {
    let mut wide = service("wide", &[]);
    wide.source_ranges = (0..count).map(|n| format!("10.{}.0.0/16", n * 2)).collect();
    wide.ports = (0..ports)
        .map(|n| port("", Transport::Tcp, 1000 + n * gap))
        .collect();
    wide
}

#[test]
fn rules_that_fit_are_as_they_are_written() {
    let rules = opened_of(&wide(30, 2, 1), V4, 60).unwrap();
    assert_eq!(rules.len(), 60);
    assert!(
        rules.contains(&"tcp/1001 10.0.0.0/16".to_owned()),
        "{rules:?}"
    );
}

#[test]
fn neighbouring_ports_are_taken_together_when_rules_would_not_fit() {
    let rules = opened_of(&wide(30, 3, 1), V4, 60).unwrap();
    assert_eq!(rules.len(), 30);
    assert_eq!(rules[0], "tcp/1000-1002 10.0.0.0/16");
}

#[test]
fn neighbouring_cidrs_are_taken_together_when_rules_would_not_fit() {
    let mut many = wide(0, 2, 10);
    many.source_ranges = (0..64).map(|n| format!("10.0.{n}.0/24")).collect();
    let rules = opened_of(&many, V4, 60).unwrap();
    assert_eq!(rules, ["tcp/1000 10.0.0.0/18", "tcp/1010 10.0.0.0/18"]);
}

#[test]
fn rules_that_cannot_fit_are_refused_with_count_limit_and_cure() {
    let refused = opened_of(&wide(31, 2, 10), V4, 60).unwrap_err();
    for part in [
        "would need 62 rules (2 ports for 31 sources), but it can have 60",
        "annotation service.beta.kubernetes.io/aws-load-balancer-security-group-prefix-lists",
        "fewer source ranges",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn aws_counts_rules_of_each_family_apart() {
    let mut both = wide(30, 2, 10);
    both.source_ranges
        .extend((0..30).map(|n| format!("2001:db8:{}::/48", n * 2)));
    assert_eq!(opened_of(&both, DUAL, 60).unwrap().len(), 120);
    let mut listed = both.clone();
    let list = crate::fixtures::annotations(&[("security-group-prefix-lists", "pl-1")]);
    listed.annotations = list;
    let refused = opened_of(&listed, DUAL, 60).unwrap_err();
    assert!(refused.contains("would need 62 rules"), "{refused}");
    listed.source_ranges.retain(|range| range.contains(':'));
    let refused = opened_of(&listed, DUAL, 60).unwrap_err();
    assert!(
        refused.contains("would need 62 rules"),
        "a list counts in both: {refused}"
    );
}

fn groups_of(
    asked: &[(&str, &str)],
    existing: Option<bool>,
    scheme: Scheme,
) -> Result<Groups, String> {
    let mut world = World::asking(asked);
    world.existing = existing.map(|has_security_groups| Existing {
        scheme: Scheme::Internal,
        subnets: vec![],
        has_security_groups,
    });
    let request = annotations::request(&world.services[0], &world.class).unwrap();
    groups(&world.input(), &request, scheme).map_err(|refused| refused.message)
}

#[test]
fn groups_are_made_given_or_refused() {
    let given = |ids: &[&str]| {
        Ok(Groups::Given(
            ids.iter().map(|id| (*id).to_owned()).collect(),
        ))
    };
    let of = |asked: &[(&str, &str)]| groups_of(asked, None, Scheme::Internal);
    assert_eq!(of(&[]), Ok(Groups::Managed));
    assert_eq!(of(&[("disable-nlb-sg", "true")]), Ok(Groups::None(None)));
    assert_eq!(
        of(&[("security-groups", "tag-two, sg-1")]),
        given(&["sg-2", "sg-1"])
    );
    let refused = of(&[("security-groups", "sg-9")]).unwrap_err();
    assert!(
        refused.contains("\"sg-9\" is neither the id nor the Name tag"),
        "{refused}"
    );
    let refused = of(&[("security-groups", "sg-1"), ("disable-nlb-sg", "true")]).unwrap_err();
    assert!(refused.contains("remove one of the two"), "{refused}");
}

#[test]
fn a_name_tag_of_two_groups_is_refused() {
    let mut world = World::asking(&[("security-groups", "tag-one")]);
    let twin = world.network.security_groups["sg-1"].clone();
    world
        .network
        .security_groups
        .insert("sg-3".to_owned(), twin);
    let request = annotations::request(&world.services[0], &world.class).unwrap();
    let refused = groups(&world.input(), &request, Scheme::Internal)
        .unwrap_err()
        .message;
    assert!(
        refused.contains("is the Name tag of sg-1, sg-3"),
        "{refused}"
    );
}

#[test]
fn a_load_balancer_made_without_groups_stays_without() {
    for asked in [&[][..], &[("security-groups", "sg-1")]] {
        let stays = groups_of(asked, Some(false), Scheme::Internal);
        assert!(matches!(stays, Ok(Groups::None(Some(_)))), "{stays:?}");
    }
    assert_eq!(
        groups_of(&[], Some(true), Scheme::Internal),
        Ok(Groups::Managed)
    );
    let replaced = groups_of(&[], Some(false), Scheme::InternetFacing);
    assert_eq!(
        replaced,
        Ok(Groups::Managed),
        "another scheme makes another load balancer"
    );
}
