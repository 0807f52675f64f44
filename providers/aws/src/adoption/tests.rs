//! Attacks: a tenant names load balancers that are not his.

use std::collections::BTreeSet;

use super::*;
use crate::{
    annotations,
    fixtures::{self, Pairs, map},
    wanted::{IpAddressType, Scheme},
};

const ARN: &str = "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/net/theirs/0123";
const STACK: &str = "shop/web";

fn tagged(pairs: Pairs<'_>) -> LoadBalancer {
    LoadBalancer {
        arn: ARN.to_owned(),
        name: "theirs".to_owned(),
        dns_name: "theirs.example".to_owned(),
        active: true,
        scheme: Scheme::Internal,
        ip_address_type: IpAddressType::Ipv4,
        subnets: vec![],
        security_groups: BTreeSet::new(),
        enforce_rules_on_private_link: None,
        ipv6_source_nat: false,
        tags: map(pairs),
        details: None,
    }
}

fn listing(arns: &[&str]) -> Class {
    Class {
        adoptable: arns.iter().map(|arn| (*arn).to_owned()).collect(),
        ..fixtures::class()
    }
}

#[test]
fn whoever_owns_it_consents_by_tag_or_by_class() {
    let rows: [(&[&str], Pairs<'_>, &str, bool); 14] = [
        (&[], &[], STACK, false),
        (&[ARN], &[], STACK, true),
        (&["arn:aws:other"], &[], STACK, false),
        (&[&ARN[..ARN.len() - 1]], &[], STACK, false),
        (&[], &[(ADOPTABLE, "test")], STACK, true),
        (&[], &[(ADOPTABLE, "test/shop")], STACK, true),
        (&[], &[(ADOPTABLE, "test/shop")], "shop/group:edge", true),
        (&[], &[(ADOPTABLE, "test/shop")], "shopping/web", false),
        (&[], &[(ADOPTABLE, "test/shop")], "group:shop", false),
        (&[], &[(ADOPTABLE, "test/")], STACK, false),
        (&[], &[(ADOPTABLE, "tes")], STACK, false),
        (&[], &[(ADOPTABLE, "test2")], STACK, false),
        (&[], &[(ADOPTABLE, "true")], STACK, false),
        (&[], &[(ADOPTABLE, "")], STACK, false),
    ];
    for (arns, pairs, stack, expected) in rows {
        let answer = adoptable(&listing(arns), stack, &tagged(pairs));
        assert_eq!(
            answer.is_ok(),
            expected,
            "{arns:?} {pairs:?} {stack} {answer:?}"
        );
        if let Err(refused) = answer {
            assert!(
                refused.message.contains("spec.aws.adoptable"),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn no_consent_is_enough_for_one_that_a_controller_has_made() {
    for owner in [
        ("portolan.dev/stack", "shop/other"),
        ("portolan.dev/stack", "traffic"),
        ("portolan.dev/cluster", "test"),
        ("portolan.dev/cluster", "other"),
        ("elbv2.k8s.aws/cluster", "test"),
        ("service.k8s.aws/stack", "shop/web"),
        ("ingress.k8s.aws/stack", "edge"),
        ("gateway.k8s.aws/stack", "edge"),
        ("kubernetes.io/service-name", "shop/web"),
    ] {
        let there = tagged(&[(ADOPTABLE, "test"), owner]);
        let refused = adoptable(&listing(&[ARN]), STACK, &there).unwrap_err();
        assert!(refused.message.contains(owner.0), "{refused:?}");
    }
    // The same stack of another cluster is another's.
    let there = tagged(&[
        (ADOPTABLE, "test"),
        ("portolan.dev/cluster", "other"),
        ("portolan.dev/stack", STACK),
    ]);
    assert!(adoptable(&listing(&[ARN]), STACK, &there).is_err());
}

#[test]
fn ones_own_is_not_adopted() {
    let there = tagged(&[
        ("portolan.dev/cluster", "test"),
        ("portolan.dev/stack", STACK),
    ]);
    let refused = adoptable(&listing(&[ARN]), STACK, &there).unwrap_err();
    assert!(
        refused.message.contains("remove the annotation"),
        "{refused:?}"
    );
}

#[test]
fn a_service_cannot_consent_in_its_owners_place() {
    // Neither by a tag on what is made for it, nor by the class's annotations.
    let asked = fixtures::service(
        "web",
        &[("additional-resource-tags", "portolan.dev/adoptable=test")],
    );
    let asked = annotations::request(&asked, &fixtures::class()).unwrap();
    assert!(tags::users(&fixtures::class(), &asked.tags).is_err());
    let mut class = fixtures::class();
    class.annotations = map(&[(annotations::ADOPT, ARN)]);
    let request = annotations::request(&fixtures::service("web", &[]), &class);
    assert!(request.is_err() || request.is_ok_and(|request| request.adopt.is_none()));
}
