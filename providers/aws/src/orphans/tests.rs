#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;
use crate::{
    fixtures::map,
    seen::{LoadBalancer, SecurityGroup},
    tags::{LBC_CLUSTER, LBC_STACK},
    wanted::{IpAddressType, Scheme},
};

fn own(stack: &str) -> Tags {
    map(&[(CLUSTER, "test"), (STACK, stack)])
}

fn there(tags: Tags) -> Seen {
    Seen {
        load_balancers: vec![LoadBalancer {
            arn: "arn:lb".to_owned(),
            name: "lb".to_owned(),
            dns_name: "lb-1.elb.eu-central-1.amazonaws.com".to_owned(),
            active: true,
            scheme: Scheme::Internal,
            ip_address_type: IpAddressType::Ipv4,
            subnets: vec![],
            security_groups: [].into(),
            enforce_rules_on_private_link: None,
            ipv6_source_nat: false,
            tags,
            details: None,
        }],
        ..Seen::default()
    }
}

/// Served, and alone.
fn resident(key: &str) -> Resident {
    let (namespace, name) = key.split_once('/').unwrap();
    Resident {
        key: ServiceKey::new(namespace, name),
        served: true,
        stack: Some(key.to_owned()),
        shown: None,
    }
}

fn found(stack: &str, residents: &[Resident]) -> Option<String> {
    let stacks = [(stack.to_owned(), there(own(stack)))];
    let mut found = orphans(stacks, "test", residents).into_iter();
    found.next().map(|orphan| orphan.why)
}

#[test]
fn a_stack_whose_service_is_gone_is_an_orphan_and_no_other() {
    let other = || resident("shop/api");
    let unserved = Resident {
        served: false,
        ..resident("shop/web")
    };
    let of_group = Resident {
        stack: Some("shop/group:front".to_owned()),
        ..resident("shop/web")
    };
    let unreadable = Resident {
        stack: None,
        ..resident("shop/web")
    };
    let showing = Resident {
        served: false,
        shown: Some("LB-1.elb.eu-central-1.amazonaws.com".to_owned()),
        ..resident("shop/other")
    };
    let gone = Some("Service shop/web does not exist");
    let no_longer = Some("Service shop/web is no longer of a type and class that AWS serves");
    let no_member = Some("no Service of namespace shop is in load balancer group front");
    let elsewhere = Resident {
        stack: None,
        ..resident("bank/web")
    };
    let (own, group) = ("shop/web", "shop/group:front");
    let rows = [
        (own, vec![], gone),
        (own, vec![other()], gone),
        (own, vec![elsewhere.clone()], gone),
        (own, vec![resident("shop/web")], None),
        (own, vec![unserved.clone()], no_longer),
        (own, vec![of_group.clone()], None),
        (own, vec![unreadable.clone()], None),
        (own, vec![showing], None),
        (group, vec![], no_member),
        (group, vec![other()], no_member),
        (group, vec![elsewhere], no_member),
        (group, vec![of_group.clone()], None),
        (group, vec![unreadable], None),
        (
            group,
            vec![Resident {
                served: false,
                ..of_group
            }],
            no_member,
        ),
        ("nobody gives such a name", vec![], None),
    ];
    for (number, (stack, residents, expected)) in rows.into_iter().enumerate() {
        let why = found(stack, &residents);
        assert_eq!(why.as_deref(), expected, "row {number}");
    }
}

#[test]
fn what_does_not_carry_our_own_tags_is_nobodys_orphan() {
    let stack = "shop/web";
    let rows = [
        map(&[(LBC_CLUSTER, "test"), (LBC_STACK, stack)]),
        map(&[(CLUSTER, "other"), (STACK, stack)]),
        map(&[(CLUSTER, "test"), (STACK, "shop/other")]),
        map(&[(CLUSTER, "test")]),
        map(&[]),
    ];
    for tags in rows {
        let stacks = [(stack.to_owned(), there(tags.clone()))];
        assert_eq!(orphans(stacks, "test", &[]), [], "{tags:?}");
    }
    let mut mixed = there(own(stack));
    mixed.security_group = Some(SecurityGroup {
        id: "sg-1".to_owned(),
        name: "lbc's".to_owned(),
        rules: [].into(),
        tags: map(&[(LBC_CLUSTER, "test"), (LBC_STACK, stack)]),
    });
    let found = orphans([(stack.to_owned(), mixed)], "test", &[]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].seen.security_group, None, "it is left alone");
}

#[test]
fn orphans_come_in_the_order_of_their_names() {
    let stacks = ["b/x", "a/y", "a/group:z"].map(|stack| (stack.to_owned(), there(own(stack))));
    let found = orphans(stacks, "test", &[]);
    let names: Vec<_> = found.iter().map(|orphan| orphan.stack.as_str()).collect();
    assert_eq!(names, ["a/group:z", "a/y", "b/x"]);
}

#[test]
fn what_was_to_outlive_its_service_does() {
    for (said, expected) in [("retain", OnDelete::Retain), ("delete", OnDelete::Delete)] {
        let mut tags = own("shop/web");
        tags.insert(crate::tags::ON_DELETE.to_owned(), said.to_owned());
        let found = orphans([("shop/web".to_owned(), there(tags))], "test", &[]);
        assert_eq!(found[0].on_delete(), expected);
    }
}
