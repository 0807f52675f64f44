//! Services that share a load balancer.

use super::*;

#[test]
fn services_of_a_group_share_one_load_balancer() {
    let wanted = wanted(&World::of(vec![
        member("a", &[80], &[]),
        member("b", &[443], &[]),
    ]));
    assert_eq!(wanted.stack, "shop/group:edge");
    assert!(wanted.load_balancer.name.starts_with("k8s-shop-edge-"));
    assert_eq!(routes(&wanted), [(80, "shop/a:80"), (443, "shop/b:443")]);
    assert_eq!(wanted.security_group.unwrap().rules.len(), 2);
    assert_eq!(wanted.warnings, Vec::<String>::new());
}

#[test]
fn a_group_keeps_its_names_when_its_oldest_service_goes() {
    let both = wanted(&World::of(vec![
        member("a", &[80], &[]),
        member("b", &[443], &[]),
    ]));
    let left = wanted(&World::of(vec![member("b", &[443], &[])]));
    assert_eq!(both.load_balancer.name, left.load_balancer.name);
    assert_eq!(
        both.security_group.unwrap().name,
        left.security_group.unwrap().name
    );
    let group = "shop/b:443";
    assert_eq!(
        both.target_groups[group].name,
        left.target_groups[group].name
    );
}

#[test]
fn a_group_and_a_service_of_the_same_name_do_not_meet() {
    let class = crate::fixtures::class();
    let plain = stack(&service("edge", &[]), &class);
    assert_ne!(plain, stack(&member("edge", &[80], &[]), &class));
}

#[test]
fn a_broken_service_still_says_which_group_it_is_of() {
    let broken = member("b", &[80], &[("scheme", "wrong")]);
    let stack = stack(&broken, &crate::fixtures::class());
    assert_eq!(stack.as_deref(), Ok("shop/group:edge"));
}

#[test]
fn a_port_belongs_to_the_oldest_service_that_has_it() {
    let mut udp = member("c", &[], &[]);
    udp.ports = vec![port("dns", Transport::Udp, 53)];
    let wanted = wanted(&World::of(vec![
        member("a", &[53, 80], &[]),
        member("b", &[80, 443], &[]),
        udp,
    ]));
    assert_eq!(
        routes(&wanted),
        [(53, "shop/a:53"), (80, "shop/a:80"), (443, "shop/b:443")]
    );
    let lost: Vec<&String> = wanted
        .warnings
        .iter()
        .filter(|each| each.contains("belongs"))
        .collect();
    let [tcp, udp] = lost.as_slice() else {
        panic!("{:?}", wanted.warnings)
    };
    assert!(
        tcp.starts_with("Service shop/b: port 80 belongs to the older Service shop/a"),
        "{tcp}"
    );
    assert!(
        udp.starts_with("Service shop/c: port 53 belongs to the older Service shop/a"),
        "{udp}"
    );
    let rules = wanted.security_group.unwrap().rules;
    assert!(
        rules.iter().all(|rule| rule.protocol == "tcp"),
        "nothing is opened for a lost port"
    );
}

#[test]
#[rustfmt::skip]
fn a_younger_service_that_is_wrong_is_left_out_and_stops_nobody() {
    let mut sctp = member("b", &[443], &[]);
    sctp.ports[0].protocol = Transport::Sctp;
    let mut v6 = member("b", &[443], &[]);
    v6.source_ranges = vec!["::/0".to_owned()];
    let mut many = member("b", &[443, 444, 446], &[]);
    many.source_ranges = (0..60).map(|n| format!("10.{}.0.0/16", n * 2)).collect();
    let rows = [
        (member("b", &[443], &[("scheme", "wrong")]), "is not a scheme"),
        (member("b", &[443], &[("quic-enabled-ports", "443")]), "no QUIC listeners"),
        (sctp, "SCTP"),
        (v6, "IPv4 addresses only"),
        (many, "rules"),
        (member("b", &(1000..1050).collect::<Vec<_>>(), &[]), "51 listeners"),
    ];
    for (broken, why) in rows {
        let wanted = wanted(&World::of(vec![member("a", &[80], &[]), broken, member("c", &[443], &[])]));
        assert_eq!(routes(&wanted), [(80, "shop/a:80"), (443, "shop/c:443")], "{why}");
        let said = wanted.warnings.iter().any(|warning| {
            warning.starts_with("Service shop/b is left out of the load balancer it shares: ") && warning.contains(why)
        });
        assert!(said, "{why}: {:?}", wanted.warnings);
    }
}

#[test]
fn the_oldest_decides_for_the_load_balancer() {
    let wanted = wanted(&World::of(vec![
        member(
            "a",
            &[80],
            &[("scheme", "internet-facing"), ("name", "ours")],
        ),
        member(
            "b",
            &[443],
            &[
                ("scheme", "internal"),
                ("name", "ours"),
                ("healthcheck-path", "/x"),
            ],
        ),
    ]));
    assert_eq!(wanted.load_balancer.scheme, Scheme::InternetFacing);
    let [warning] = wanted.warnings.as_slice() else {
        panic!("{:?}", wanted.warnings)
    };
    assert!(
        warning.contains("the older Service shop/a decides"),
        "{warning}"
    );
    assert!(
        warning.ends_with(&format!("no effect on it: {PREFIX}scheme")),
        "{warning}"
    );
}

#[test]
fn each_service_of_a_group_says_who_may_connect_to_its_own_ports() {
    let mut limited = member("a", &[80], &[]);
    limited.source_ranges = vec!["10.0.0.0/8".to_owned()];
    let wanted = wanted(&World::of(vec![limited, member("b", &[443], &[])]));
    let rules = wanted.security_group.unwrap().rules;
    let opened: Vec<_> = rules.iter().map(|rule| (rule.from, &rule.source)).collect();
    assert_eq!(
        format!("{opened:?}"),
        r#"[(80, Ipv4("10.0.0.0/8")), (443, Ipv4("0.0.0.0/0"))]"#
    );
}

#[test]
fn what_is_wrong_with_the_oldest_stops_the_group_and_names_it() {
    let world = World::of(vec![
        member("a", &[80], &[("scheme", "wrong")]),
        member("b", &[443], &[]),
    ]);
    let message = refused(&world);
    assert!(
        message.starts_with("Service shop/a: annotation "),
        "{message}"
    );
}

#[test]
fn namespaces_share_only_where_the_class_lets_them_and_stacks_never_collide() {
    let mut other = member("b", &[443], &[]);
    other.key = ServiceKey::new("bank", "b");
    let services = vec![member("a", &[80], &[]), other];
    let mut apart = World::of(services.clone());
    let stacks = |world: &World| -> Vec<String> {
        let services = world.services.iter();
        let stacks = services.map(|service| stack(service, &world.class).unwrap());
        stacks.collect()
    };
    assert_eq!(stacks(&apart), ["shop/group:edge", "bank/group:edge"]);
    apart.class.groups_across_namespaces = true;
    assert_eq!(stacks(&apart), ["group:edge", "group:edge"]);
    // A Service alone is still its namespace's.
    let alone = service("edge", &[]);
    assert_eq!(stack(&alone, &apart.class).unwrap(), "shop/edge");

    let together = wanted(&apart);
    assert_eq!(routes(&together), [(80, "shop/a:80"), (443, "bank/b:443")]);
    assert_eq!(together.stack, "group:edge");
    assert_ne!(together.stack, tags::TRAFFIC);
    assert_eq!(together.load_balancer.tags[tags::STACK], "group:edge");
    assert_eq!(together.warnings, Vec::<String>::new());
    // The name does not change with the oldest.
    let mut turned = World::of(services.into_iter().rev().collect());
    turned.class.groups_across_namespaces = true;
    let turned = wanted(&turned);
    assert_eq!(turned.load_balancer.name, together.load_balancer.name);
    assert!(together.load_balancer.name.starts_with("k8s-group-edge-"));
    let name = |wanted: &Wanted| wanted.security_group.as_ref().unwrap().name.clone();
    assert_eq!(name(&turned), name(&together));
}
