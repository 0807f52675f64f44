use super::*;
use crate::fixtures::{map, network, subnet};

fn search(scheme: Scheme, ip_address_type: IpAddressType) -> Search<'static> {
    Search {
        cluster: "test",
        scheme,
        ip_address_type,
        named: &[],
        existing: None,
    }
}

const INTERNAL: Search<'_> = Search {
    cluster: "test",
    scheme: Scheme::Internal,
    ip_address_type: IpAddressType::Ipv4,
    named: &[],
    existing: None,
};

fn ids(network: &Network, search: Search<'_>) -> Result<Vec<String>, String> {
    match choose(network, search) {
        Ok(choice) => Ok(choice
            .subnets
            .iter()
            .map(|subnet| subnet.id.clone())
            .collect()),
        Err(rejection) => Err(rejection.message),
    }
}

fn why(network: &Network, search: Search<'_>, id: &str) -> String {
    let choice = choose(network, search).unwrap();
    let verdict = choice.verdicts.iter().find(|verdict| verdict.subnet == id);
    verdict.unwrap().why.clone()
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `network` with `change` made to subnet-a.
fn changed(change: impl FnOnce(&mut Subnet)) -> Network {
    let mut network = network();
    let found = network
        .subnets
        .iter_mut()
        .find(|subnet| subnet.id == "subnet-a");
    change(found.unwrap());
    network
}

#[test]
fn role_tags_decide_by_scheme() {
    let network = network();
    assert_eq!(
        ids(&network, INTERNAL),
        Ok(named(&["subnet-a", "subnet-b"]))
    );
    let facing = search(Scheme::InternetFacing, IpAddressType::Ipv4);
    assert_eq!(ids(&network, facing), Ok(named(&["subnet-p"])));
}

#[test]
fn without_role_tags_reachability_decides() {
    let mut network = network();
    for subnet in &mut network.subnets {
        subnet.tags.clear();
    }
    assert_eq!(
        ids(&network, INTERNAL),
        Ok(named(&["subnet-a", "subnet-b"]))
    );
    let facing = search(Scheme::InternetFacing, IpAddressType::Ipv4);
    assert_eq!(ids(&network, facing), Ok(named(&["subnet-p"])));
    assert!(why(&network, INTERNAL, "subnet-p").contains("it is not internal"));
    assert!(why(&network, facing, "subnet-a").contains("the internet cannot reach it"));
}

#[test]
#[rustfmt::skip]
fn every_subnet_that_is_not_used_has_its_reason() {
    let tag = |key: &'static str, value: &'static str| move |subnet: &mut Subnet| {
        subnet.tags.insert(key.to_owned(), value.to_owned());
    };
    let dualstack = search(Scheme::Internal, IpAddressType::Dualstack);
    let rows = [
        (changed(|subnet| subnet.tags.clear()), INTERNAL, "it has no tag kubernetes.io/role/internal-elb, which others have"),
        (changed(tag("kubernetes.io/role/internal-elb", "true")), INTERNAL, "its tag kubernetes.io/role/internal-elb is \"true\" and not 1"),
        (changed(tag("kubernetes.io/cluster/other", "shared")), INTERNAL, "it is tagged kubernetes.io/cluster/other and not kubernetes.io/cluster/test"),
        (changed(|subnet| subnet.available = 7), INTERNAL, "it has 7 free addresses and a load balancer needs 8"),
        (changed(|subnet| subnet.ipv6.clear()), dualstack, "it has no IPv6 addresses, which dualstack needs"),
        (changed(|subnet| subnet.ipv4 = None), INTERNAL, "it has no IPv4 addresses"),
        (changed(|subnet| subnet.outpost = Some("op-1".into())), INTERNAL, "it is on outpost op-1"),
    ];
    for (network, search, expected) in rows {
        assert_eq!(ids(&network, search), Ok(named(&["subnet-b"])), "{expected}");
        assert_eq!(why(&network, search, "subnet-a"), expected);
    }
}

#[test]
fn what_just_suffices_is_used() {
    let own = |subnet: &mut Subnet| {
        subnet.tags.extend(map(&[
            ("kubernetes.io/cluster/other", ""),
            ("kubernetes.io/cluster/test", ""),
        ]));
        subnet
            .tags
            .insert("kubernetes.io/role/internal-elb".to_owned(), String::new());
        subnet.available = 8;
    };
    assert_eq!(
        ids(&changed(own), INTERNAL),
        Ok(named(&["subnet-a", "subnet-b"]))
    );
    let no_ipv6 = changed(|subnet| subnet.ipv6.clear());
    assert_eq!(
        ids(&no_ipv6, INTERNAL),
        Ok(named(&["subnet-a", "subnet-b"]))
    );
}

#[test]
fn of_each_zone_the_own_clusters_subnet_comes_first_and_then_the_lowest_id() {
    let mut network = network();
    network.subnets.push(subnet("subnet-0", "a", 4));
    assert_eq!(
        ids(&network, INTERNAL),
        Ok(named(&["subnet-0", "subnet-b"]))
    );
    let reason = why(&network, INTERNAL, "subnet-a");
    assert_eq!(reason, "subnet-0 of the same zone has the lower id");

    let own = "kubernetes.io/cluster/test".to_owned();
    network.subnets[1].tags.insert(own, "owned".to_owned());
    assert_eq!(
        ids(&network, INTERNAL),
        Ok(named(&["subnet-a", "subnet-b"]))
    );
    let reason = why(&network, INTERNAL, "subnet-0");
    assert_eq!(
        reason,
        "subnet-a of the same zone is tagged kubernetes.io/cluster/test"
    );
}

#[test]
fn every_subnet_has_one_verdict() {
    let network = network();
    let existing = Existing {
        scheme: Scheme::Internal,
        subnets: named(&["subnet-b"]),
        has_security_groups: true,
    };
    let list = named(&["subnet-p"]);
    let searches = [
        INTERNAL,
        Search {
            existing: Some(&existing),
            ..INTERNAL
        },
        Search {
            named: &list,
            ..INTERNAL
        },
    ];
    for search in searches {
        let choice = choose(&network, search).unwrap();
        let judged: Vec<&str> = choice.verdicts.iter().map(|v| v.subnet.as_str()).collect();
        assert_eq!(judged, ["subnet-a", "subnet-b", "subnet-p"]);
        let used = choice
            .verdicts
            .iter()
            .filter(|verdict| verdict.used)
            .count();
        assert_eq!(used, choice.subnets.len());
    }
}

#[test]
fn an_existing_load_balancer_keeps_its_subnets() {
    let existing = Existing {
        scheme: Scheme::Internal,
        subnets: named(&["subnet-b"]),
        has_security_groups: true,
    };
    let network = network();
    let there = Search {
        existing: Some(&existing),
        ..INTERNAL
    };
    assert_eq!(ids(&network, there), Ok(named(&["subnet-b"])));
    assert!(why(&network, there, "subnet-a").contains("to add this zone, name all subnets"));

    let list = named(&["subnet-a"]);
    let told = Search {
        named: &list,
        ..there
    };
    assert_eq!(
        ids(&network, told),
        Ok(named(&["subnet-a"])),
        "unless it is told otherwise"
    );

    let facing = Search {
        scheme: Scheme::InternetFacing,
        ..there
    };
    assert_eq!(
        ids(&network, facing),
        Ok(named(&["subnet-p"])),
        "but not for another scheme"
    );

    let gone = Existing {
        subnets: named(&["subnet-gone"]),
        ..existing.clone()
    };
    let there = Search {
        existing: Some(&gone),
        ..INTERNAL
    };
    assert_eq!(ids(&network, there), Ok(named(&["subnet-a", "subnet-b"])));

    let old = changed(|subnet| subnet.ipv6.clear());
    let kept = Existing {
        subnets: named(&["subnet-a"]),
        ..existing
    };
    let dualstack = search(Scheme::Internal, IpAddressType::Dualstack);
    let refused = ids(
        &old,
        Search {
            existing: Some(&kept),
            ..dualstack
        },
    )
    .unwrap_err();
    assert!(
        refused.contains("the load balancer is in subnet-a, which has no IPv6"),
        "{refused}"
    );
}

#[test]
fn subnets_are_named_by_id_or_name_tag_in_their_order() {
    let list = named(&["name-subnet-b", "subnet-a"]);
    let asked = Search {
        named: &list,
        ..INTERNAL
    };
    assert_eq!(ids(&network(), asked), Ok(named(&["subnet-b", "subnet-a"])));
    // Neither role nor free addresses matter to who names them.
    let list = named(&["subnet-p"]);
    let asked = Search {
        named: &list,
        ..INTERNAL
    };
    assert_eq!(ids(&network(), asked), Ok(named(&["subnet-p"])));
}

#[test]
#[rustfmt::skip]
fn subnets_that_cannot_be_named_are_refused() {
    let twice = changed(|subnet| { subnet.tags.insert("Name".into(), "name-subnet-b".into()); });
    let outpost = changed(|subnet| subnet.outpost = Some("op-1".into()));
    let no_ipv6 = changed(|subnet| subnet.ipv6.clear());
    let (v4, dual) = (IpAddressType::Ipv4, IpAddressType::Dualstack);
    let rows: [(&Network, &[&str], IpAddressType, &str); 5] = [
        (&network(), &["subnet-x"], v4, "\"subnet-x\" is neither the id nor the Name tag of a subnet of vpc-1: write one of subnet-b, subnet-a"),
        (&network(), &["subnet-a", "subnet-p"], v4, "subnet-a and subnet-p, which are both in eu-central-1a"),
        (&twice, &["name-subnet-b"], v4, "is the Name tag of subnet-b and subnet-a"),
        (&outpost, &["subnet-a", "subnet-b"], v4, "only one is on an outpost"),
        (&no_ipv6, &["subnet-a"], dual, "subnet-a has no IPv6 addresses, which dualstack needs: associate an IPv6 CIDR"),
    ];
    for (network, list, families, expected) in rows {
        let list = named(list);
        let asked = Search { named: &list, ..search(Scheme::Internal, families) };
        let refused = ids(network, asked).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.starts_with("annotation service.beta.kubernetes.io/aws-load-balancer-subnets"), "{refused}");
    }
}

#[test]
fn when_no_subnet_is_left_the_message_says_why_of_each() {
    let mut network = network();
    network.subnets[0].available = 0;
    network.subnets[1]
        .tags
        .insert("kubernetes.io/cluster/other".to_owned(), String::new());
    let refused = ids(&network, INTERNAL).unwrap_err();
    for part in [
        "no subnet of vpc-1 can have this internal load balancer",
        "tag one of each zone with kubernetes.io/role/internal-elb=1",
        "subnet-a: it is tagged kubernetes.io/cluster/other",
        "subnet-b: it has 0 free addresses",
        "subnet-p: it has no tag kubernetes.io/role/internal-elb",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn a_vpc_with_hundreds_of_subnets_makes_no_long_message() {
    let mut network = Network::default();
    for n in 0..=255 {
        let mut subnet = subnet(&format!("subnet-{n:017x}"), "a", n);
        subnet.available = u32::from(n) % 8;
        subnet.tags.insert(
            format!("kubernetes.io/cluster/other-{}", n / 4),
            String::new(),
        );
        network.subnets.push(subnet);
    }
    let refused = ids(&network, INTERNAL).unwrap_err();
    assert!(refused.len() <= 930, "{}: {refused}", refused.len());
    assert!(refused.ends_with("more subnets"), "{refused}");
    assert!(ids(&Network::default(), INTERNAL).is_err());
}
