use super::*;
use crate::{
    annotations,
    fixtures::{Pairs, class, port, service},
    wanted::{HealthCheck, HealthCheckProtocol},
};

const CERT: (&str, &str) = (
    "ssl-cert",
    "arn:aws:acm:x:1:certificate/a,arn:aws:acm:x:1:certificate/b",
);
const IP: (&str, &str) = ("nlb-target-type", "ip");

type Planning = Result<(Vec<Planned<'static>>, Vec<String>), String>;

/// Leaks the Service: these are tests.
fn planned_with(service: Service, families: IpAddressType) -> Planning {
    let class = class();
    let service: &'static Service = Box::leak(Box::new(service));
    let frame = Frame {
        class: &class,
        stack: "shop/web",
        vpc: "vpc-1",
        families,
    };
    annotations::request(service, &class)
        .and_then(|request| plan(frame, service, &request))
        .map_err(|refused| refused.message)
}

fn planned_of(service: Service) -> Planning {
    planned_with(service, IpAddressType::Ipv4)
}

fn planned(asked: &[(&str, &str)]) -> Vec<Planned<'static>> {
    planned_of(service("web", asked)).unwrap().0
}

fn refused(service: Service) -> String {
    planned_of(service).expect_err("it is wrong")
}

/// `80 TCP->TCP`.
fn short(planned: &[Planned<'_>]) -> Vec<String> {
    let of = |each: &Planned<'_>| {
        let (listener, group) = (each.listener.protocol, each.target_group.protocol);
        format!("{} {}->{}", each.port, listener.as_str(), group.as_str())
    };
    planned.iter().map(of).collect()
}

/// TCP and UDP 53, with these annotations.
fn dns(asked: &[(&str, &str)]) -> Service {
    let mut dns = service("dns", asked);
    dns.ports = vec![
        port("udp", Transport::Udp, 53),
        port("tcp", Transport::Tcp, 53),
    ];
    dns
}

#[test]
#[rustfmt::skip]
fn certificates_make_listeners_tls() {
    let rows: [(Pairs<'_>, &[&str]); 6] = [
        (&[], &["80 TCP->TCP", "443 TCP->TCP"]),
        (&[CERT], &["80 TLS->TCP", "443 TLS->TCP"]),
        (&[CERT, ("ssl-ports", "https")], &["80 TCP->TCP", "443 TLS->TCP"]),
        (&[CERT, ("ssl-ports", "443")], &["80 TCP->TCP", "443 TLS->TCP"]),
        (&[CERT, ("ssl-ports", "443"), ("backend-protocol", "ssl")], &["80 TCP->TCP", "443 TLS->TLS"]),
        (&[("backend-protocol", "ssl")], &["80 TCP->TCP", "443 TCP->TCP"]),
    ];
    for (asked, expected) in rows {
        assert_eq!(short(&planned(asked)), expected, "{asked:?}");
    }
}

#[test]
fn a_tls_listener_has_certificates_policy_and_alpn_and_another_has_none() {
    let all = planned(&[
        CERT,
        ("ssl-ports", "443"),
        ("alpn-policy", "HTTP2Preferred"),
    ]);
    let [tcp, tls] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (
            tcp.listener.certificates.len(),
            tls.listener.certificates.len()
        ),
        (0, 2)
    );
    assert_eq!(
        (&tcp.listener.alpn, tls.listener.alpn.as_deref()),
        (&None, Some("HTTP2Preferred"))
    );
    assert_eq!(tcp.listener.ssl_policy, None);
    assert_eq!(
        tls.listener.ssl_policy.as_deref(),
        Some("ELBSecurityPolicy-2016-08")
    );
    let policy = "ELBSecurityPolicy-TLS13-1-2-2021-06";
    let chosen = planned(&[CERT, ("ssl-negotiation-policy", policy)]);
    assert_eq!(chosen[0].listener.ssl_policy.as_deref(), Some(policy));
}

#[test]
fn udp_is_never_tls() {
    let mut dns = dns(&[CERT]);
    dns.ports.pop();
    assert_eq!(short(&planned_of(dns).unwrap().0), ["53 UDP->UDP"]);
}

#[test]
fn tcp_and_udp_on_one_port_are_one_listener() {
    let mut both = dns(&[]);
    let all = planned_of(both.clone()).unwrap().0;
    assert_eq!(short(&all), ["53 TCP_UDP->TCP_UDP"]);
    assert_eq!(all[0].first.name, "tcp");
    assert_eq!(all[0].second.map(|port| port.name.as_str()), Some("udp"));
    both.ports[0].port = 5353;
    let apart = planned_of(both).unwrap().0;
    assert_eq!(short(&apart), ["53 TCP->TCP", "5353 UDP->UDP"]);
}

#[test]
fn tcp_and_udp_that_cannot_be_one_are_refused_with_the_cure() {
    let mut instances = dns(&[]);
    instances.ports[1].node_port = 30153;
    let mut pods = dns(&[IP]);
    pods.ports[1].target_port = TargetPort::Number(5353);
    let rows = [
        (
            instances,
            "has nodePort 30053 for UDP and 30153 for TCP",
            "set the same nodePort on both",
        ),
        (
            pods,
            "has targetPort 8053 for UDP and 5353 for TCP",
            "set the same targetPort on both",
        ),
        (
            dns(&[("enable-tcp-udp-listener", "false")]),
            "is there for UDP and TCP",
            "remove the annotation",
        ),
        (
            dns(&[CERT]),
            "is there for TLS and for UDP",
            "aws-load-balancer-ssl-ports",
        ),
    ];
    for (service, what, cure) in rows {
        let refused = refused(service);
        assert!(
            refused.contains(what) && refused.contains(cure),
            "{refused}"
        );
    }
    let mut pods = dns(&[IP]);
    pods.ports[1].node_port = 30153;
    assert!(planned_of(pods).is_ok(), "pods have no nodePorts");
    let mut named = dns(&[IP]);
    named.ports[1].target_port = TargetPort::Name("dns-tcp".to_owned());
    assert!(planned_of(named).is_ok(), "only the pods know");
}

#[test]
fn a_port_that_ssl_ports_names_must_be_there() {
    let message = refused(service("web", &[CERT, ("ssl-ports", "https,8443")]));
    assert!(
        message.contains("ssl-ports: \"8443\" is neither name nor number"),
        "{message}"
    );
}

#[test]
fn instance_targets_need_a_node_port() {
    let mut web = service("web", &[]);
    web.ports[1].node_port = 0;
    let message = refused(web.clone());
    for part in [
        "443 has no nodePort",
        "allocateLoadBalancerNodePorts",
        "nlb-target-type: ip",
    ] {
        assert!(message.contains(part), "{message}");
    }
    web.annotations = crate::fixtures::annotations(&[IP]);
    assert!(planned_of(web).is_ok());
}

#[test]
fn a_target_group_has_the_node_port_the_target_port_or_1() {
    assert_eq!(planned(&[])[0].target_group.port, 30080);
    assert_eq!(planned(&[IP])[0].target_group.port, 8080);
    let mut named = service("web", &[IP]);
    named.ports[0].target_port = TargetPort::Name("http".to_owned());
    assert_eq!(planned_of(named).unwrap().0[0].target_group.port, 1);
}

#[test]
fn ipv6_first_makes_ipv6_targets_on_dualstack_only() {
    let mut web = service("web", &[]);
    web.families = vec![Family::V6, Family::V4];
    let message = refused(web.clone());
    assert!(
        message.contains("spec.ipFamilies begins with IPv6"),
        "{message}"
    );
    let (all, _) = planned_with(web, IpAddressType::Dualstack).unwrap();
    assert!(all.iter().all(|each| each.target_group.ipv6));
    let (all, _) = planned_with(service("web", &[]), IpAddressType::Dualstack).unwrap();
    assert!(all.iter().all(|each| !each.target_group.ipv6));
}

/// A health check in short: `TCP traffic-port - - 10/10 3/3`.
fn check_of(service: Service) -> Result<String, String> {
    let (all, _) = planned_of(service)?;
    let HealthCheck {
        protocol,
        port,
        path,
        success_codes,
        interval,
        timeout,
        healthy_threshold,
        unhealthy_threshold,
    } = &all[0].target_group.health_check;
    let or = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
    Ok(format!(
        "{} {port} {} {} {interval}/{timeout} {healthy_threshold}/{unhealthy_threshold}",
        protocol.as_str(),
        or(path),
        or(success_codes)
    ))
}

#[test]
#[rustfmt::skip]
fn targets_are_checked_as_lbc_checks_them_unless_told_otherwise() {
    let rows: [(Pairs<'_>, bool, &str); 16] = [
        (&[], false, "TCP traffic-port - - 10/10 3/3"),
        (&[], true, "HTTP 31234 /healthz 200-399 10/6 2/2"),
        (&[IP], true, "TCP traffic-port - - 10/10 3/3"),
        (&[("healthcheck-protocol", "http")], false, "HTTP traffic-port / 200-399 10/10 3/3"),
        (&[("healthcheck-protocol", "tcp")], true, "TCP 31234 - - 10/6 2/2"),
        (&[("healthcheck-path", "/x")], false, "TCP traffic-port - - 10/10 3/3"),
        (&[("healthcheck-path", "/x"), ("healthcheck-protocol", "https")], false, "HTTPS traffic-port /x 200-399 10/10 3/3"),
        (&[("healthcheck-success-codes", "200"), ("healthcheck-protocol", "http")], false, "HTTP traffic-port / 200 10/10 3/3"),
        (&[("healthcheck-port", "9000")], true, "HTTP 9000 /healthz 200-399 10/6 2/2"),
        (&[("healthcheck-port", "traffic-port")], true, "HTTP traffic-port /healthz 200-399 10/6 2/2"),
        (&[("healthcheck-port", "https")], false, "TCP 30443 - - 10/10 3/3"),
        (&[("healthcheck-port", "https"), IP], false, "TCP 8443 - - 10/10 3/3"),
        (&[("healthcheck-interval", "5")], false, "TCP traffic-port - - 5/5 3/3"),
        (&[("healthcheck-timeout", "20")], false, "TCP traffic-port - - 20/20 3/3"),
        (&[("healthcheck-interval", "30"), ("healthcheck-timeout", "5")], true, "HTTP 31234 /healthz 200-399 30/5 2/2"),
        (&[("healthcheck-healthy-threshold", "5"), ("healthcheck-unhealthy-threshold", "4")], false, "TCP traffic-port - - 10/10 5/4"),
    ];
    for (asked, local, expected) in rows {
        let mut web = service("web", asked);
        (web.local, web.health_check_node_port) = (local, 31234);
        assert_eq!(check_of(web).unwrap(), expected, "{asked:?} {local}");
    }
}

#[test]
#[rustfmt::skip]
fn a_port_that_cannot_be_checked_is_refused() {
    let mut named = service("web", &[IP, ("healthcheck-port", "http")]);
    named.ports[0].target_port = TargetPort::Name("http".to_owned());
    let mut local = service("web", &[]);
    local.local = true;
    let rows = [
        (service("web", &[("healthcheck-port", "0")]), "\"0\" is not a port"),
        (service("web", &[("healthcheck-port", "65536")]), "\"65536\" is not a port"),
        (service("web", &[("healthcheck-port", "admin")]), "\"admin\" is not the name of a port"),
        (named, "has a named targetPort"),
        (local, "spec.healthCheckNodePort is not set"),
    ];
    for (service, expected) in rows {
        let refused = refused(service);
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
#[rustfmt::skip]
fn target_group_attributes_are_those_a_user_sets_and_the_ports_win() {
    const PROXY: &str = "proxy_protocol_v2.enabled";
    let rows: [(Pairs<'_>, Pairs<'_>); 8] = [
        (&[], &[]),
        (&[("target-group-attributes", "a=1,b=2")], &[("a", "1"), ("b", "2")]),
        (&[("target-group-attributes", "a=1,b=2"), ("target-group-attributes.80", "a=3")], &[("a", "3"), ("b", "2")]),
        (&[("target-group-attributes", "a=1"), ("target-group-attributes.80", "a=")], &[("a", "1")]),
        (&[("target-group-attributes.443", "a=1")], &[]),
        (&[("proxy-protocol", "*"), ("target-group-attributes", "proxy_protocol_v2.enabled=false")], &[(PROXY, "true")]),
        (&[("proxy-protocol-per-target-group", "443")], &[(PROXY, "false")]),
        (&[("proxy-protocol", "*"), ("proxy-protocol-per-target-group", "80")], &[(PROXY, "true")]),
    ];
    for (asked, expected) in rows {
        let all = planned(asked);
        assert_eq!(all[0].target_group.attributes, crate::fixtures::map(expected), "{asked:?}");
    }
}

#[test]
fn listener_attributes_go_to_the_listener_of_that_protocol_and_port() {
    let idle = ("listener-attributes.TCP-80", "tcp.idle_timeout.seconds=400");
    let all = planned(&[idle]);
    assert_eq!(
        (
            all[0].listener.attributes.len(),
            all[1].listener.attributes.len()
        ),
        (1, 0)
    );
    let tls = planned(&[CERT, ("listener-attributes.TLS-80", "a=b")]);
    assert_eq!(tls[0].listener.attributes.len(), 0);
}

#[test]
#[rustfmt::skip]
fn what_has_no_effect_is_said() {
    let rows: [(Service, &str); 7] = [
        (service("web", &[("listener-attributes.UDP-80", "a=b")]), "there is no UDP listener on port 80; it is TCP"),
        (service("web", &[("listener-attributes.TCP-81", "a=b")]), "there is no TCP listener on port 81"),
        (service("web", &[CERT, ("listener-attributes.TLS-80", "a=b")]), "a TLS listener has no attributes"),
        (service("web", &[("target-group-attributes.81", "a=b")]), "81 is no port in spec.ports"),
        (service("web", &[("proxy-protocol-per-target-group", "80,81")]), "81 is no port in spec.ports"),
        (service("web", &[IP, ("target-group-attributes", "preserve_client_ip.enabled=true")]), "keeps the client's address"),
        (Service { ports: vec![port("", Transport::Udp, 53)], ..service("web", &[]) }, "53 is UDP, but its targets are checked by TCP on the same port"),
    ];
    for (service, expected) in rows {
        let (_, warnings) = planned_of(service).unwrap();
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected}: {warnings:?}");
    }
    let (_, warnings) = planned_with(dns(&[]), IpAddressType::Dualstack).unwrap();
    assert!(warnings[0].contains("enable-prefix-for-ipv6-source-nat: \"on\""), "{warnings:?}");
    assert_eq!(planned_of(service("web", &[])).unwrap().1, Vec::<String>::new());
}

#[test]
fn a_class_may_name_ports_that_not_every_service_has() {
    let mut class = class();
    class.annotations = crate::fixtures::annotations(&[
        CERT,
        ("ssl-ports", "https,8443"),
        ("proxy-protocol-per-target-group", "8443"),
        ("listener-attributes.TCP-81", "a=b"),
    ]);
    let web = service("web", &[]);
    let request = annotations::request(&web, &class).unwrap();
    let frame = Frame {
        class: &class,
        stack: "shop/web",
        vpc: "vpc-1",
        families: IpAddressType::Ipv4,
    };
    let (all, warnings) = plan(frame, &web, &request).unwrap();
    assert_eq!(short(&all), ["80 TCP->TCP", "443 TLS->TCP"]);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_target_group_is_named_and_tagged_for_its_port() {
    let all = planned(&[("additional-resource-tags", "team=a")]);
    let [http, https] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (http.key.as_str(), https.key.as_str()),
        ("shop/web:80", "shop/web:443")
    );
    assert_eq!(
        http.target_group.tags["service.k8s.aws/resource"],
        "shop/web:80"
    );
    assert_eq!(http.target_group.tags["team"], "a");
    assert_ne!(http.target_group.name, https.target_group.name);
    assert_eq!(
        http.target_group.health_check.protocol,
        HealthCheckProtocol::Tcp
    );
}
