use model::Reason;

use super::*;
use crate::fixtures::{annotations, class, map, port, service};

fn read(asked: &[(&str, &str)]) -> Result<Request, Rejection> {
    request(&service("web", asked), &class())
}

fn refused(asked: &[(&str, &str)]) -> String {
    let rejection = read(asked).expect_err("it is wrong");
    rejection.message
}

pub(crate) type Row = (&'static str, &'static str, fn(&Request) -> bool);

/// Annotation, value, and what became of it.
#[rustfmt::skip]
pub(crate) const ACCEPTED: &[Row] = &[
    ("type", "external", |r| r.target_type == TargetType::Instance),
    ("type", "nlb", |r| r.target_type == TargetType::Instance),
    ("type", "nlb-ip", |r| r.target_type == TargetType::Ip),
    ("nlb-target-type", "ip", |r| r.target_type == TargetType::Ip),
    ("nlb-target-type", "instance", |r| r.target_type == TargetType::Instance),
    ("name", "my-lb", |r| r.name.as_deref() == Some("my-lb")),
    ("name", "abcdefghijklmnopqrstuvwxyz012345", |r| r.name.as_ref().unwrap().len() == 32),
    ("name", "", |r| r.name.is_none()),
    ("scheme", "internal", |r| r.scheme == Some(Scheme::Internal)),
    ("scheme", "internet-facing", |r| r.scheme == Some(Scheme::InternetFacing)),
    ("internal", "true", |r| r.scheme == Some(Scheme::Internal)),
    ("internal", "false", |r| r.scheme == Some(Scheme::InternetFacing)),
    ("subnets", "subnet-b, name-a,", |r| r.subnets == ["subnet-b", "name-a"]),
    ("eip-allocations", "eipalloc-1,eipalloc-2", |r| r.eip_allocations == ["eipalloc-1", "eipalloc-2"]),
    ("private-ipv4-addresses", "10.0.1.7, 10.0.2.7", |r| r.private_ipv4.len() == 2),
    ("ipv6-addresses", "2001:db8::7", |r| r.ipv6.len() == 1),
    ("ip-address-type", "ipv4", |r| r.ip_address_type == IpAddressType::Ipv4),
    ("ip-address-type", "dualstack", |r| r.ip_address_type == IpAddressType::Dualstack),
    ("enable-prefix-for-ipv6-source-nat", "on", |r| r.ipv6_source_nat),
    ("enable-prefix-for-ipv6-source-nat", "off", |r| !r.ipv6_source_nat),
    ("source-nat-ipv6-prefixes", "auto_assigned, auto_assigned", |r| r.source_nat_prefixes.len() == 2),
    ("source-nat-ipv6-prefixes", "2001:db8:0:1:1::/80", |r| r.source_nat_prefixes.len() == 1),
    ("proxy-protocol", "*", |r| r.proxy_protocol),
    ("proxy-protocol-per-target-group", "80, 443", |r| r.proxy_protocol_ports == Some([80, 443].into())),
    ("ssl-cert", "arn:aws:acm:x:1:certificate/a, arn:aws:acm:x:1:certificate/b", |r| r.certificates.len() == 2),
    ("ssl-ports", "https, 8443", |r| r.tls_ports == ["https", "8443"]),
    ("ssl-negotiation-policy", "ELBSecurityPolicy-TLS13-1-2-2021-06", |r| r.ssl_policy.is_some()),
    ("backend-protocol", "ssl", |r| r.backend_tls),
    ("backend-protocol", "tcp", |r| !r.backend_tls),
    ("alpn-policy", "None", |r| r.alpn.as_deref() == Some("None")),
    ("alpn-policy", "HTTP1Only", |r| r.alpn.as_deref() == Some("HTTP1Only")),
    ("alpn-policy", "HTTP2Only", |r| r.alpn.as_deref() == Some("HTTP2Only")),
    ("alpn-policy", "HTTP2Optional", |r| r.alpn.as_deref() == Some("HTTP2Optional")),
    ("alpn-policy", "HTTP2Preferred", |r| r.alpn.as_deref() == Some("HTTP2Preferred")),
    ("healthcheck-protocol", "tcp", |r| r.health_check.protocol == Some(HealthCheckProtocol::Tcp)),
    ("healthcheck-protocol", "HTTP", |r| r.health_check.protocol == Some(HealthCheckProtocol::Http)),
    ("healthcheck-protocol", "Https", |r| r.health_check.protocol == Some(HealthCheckProtocol::Https)),
    ("healthcheck-port", "traffic-port", |r| r.health_check.port.as_deref() == Some("traffic-port")),
    ("healthcheck-path", "/ready", |r| r.health_check.path.as_deref() == Some("/ready")),
    ("healthcheck-interval", "5", |r| r.health_check.interval == Some(5)),
    ("healthcheck-interval", "300", |r| r.health_check.interval == Some(300)),
    ("healthcheck-timeout", "2", |r| r.health_check.timeout == Some(2)),
    ("healthcheck-healthy-threshold", "2", |r| r.health_check.healthy_threshold == Some(2)),
    ("healthcheck-unhealthy-threshold", "10", |r| r.health_check.unhealthy_threshold == Some(10)),
    ("healthcheck-success-codes", "200-399", |r| r.health_check.success_codes.as_deref() == Some("200-399")),
    ("healthcheck-success-codes", "200,204", |r| r.health_check.success_codes.as_deref() == Some("200,204")),
    ("target-group-attributes", "preserve_client_ip.enabled=false", |r| r.target_group_attributes == map(&[("preserve_client_ip.enabled", "false")])),
    ("target-group-attributes.443", "stickiness.enabled=true", |r| r.target_group_attributes_of[&443] == map(&[("stickiness.enabled", "true")])),
    ("target-node-labels", "a=b,c=", |r| r.node_labels == map(&[("a", "b"), ("c", "")])),
    ("attributes", "deletion_protection.enabled=true", |r| r.attributes == map(&[("deletion_protection.enabled", "true")])),
    ("attributes", "dns_record.client_routing_policy=availability_zone_affinity", |r| r.attributes.len() == 1),
    ("access-log-enabled", "false", |r| r.attributes == map(&[("access_logs.s3.enabled", "false")])),
    ("access-log-s3-bucket-name", "logs", |r| r.attributes == map(&[("access_logs.s3.bucket", "logs")])),
    ("access-log-s3-bucket-prefix", "web", |r| r.attributes == map(&[("access_logs.s3.prefix", "web")])),
    ("cross-zone-load-balancing-enabled", "1", |r| r.attributes == map(&[("load_balancing.cross_zone.enabled", "true")])),
    ("listener-attributes.TCP-80", "tcp.idle_timeout.seconds=400", |r| r.listener_attributes[&(Protocol::Tcp, 80)].len() == 1),
    ("listener-attributes.TCP_UDP-53", "a=b", |r| r.listener_attributes.contains_key(&(Protocol::TcpUdp, 53))),
    ("additional-resource-tags", "team=a, note=x\\,y", |r| r.tags == map(&[("team", "a"), ("note", "x,y")])),
    ("security-groups", "sg-1, tag-two", |r| r.security_groups == ["sg-1", "tag-two"]),
    ("manage-backend-security-group-rules", "true", |r| r.manage_node_rules == Some(true)),
    ("inbound-sg-rules-on-private-link-traffic", "off", |r| r.private_link_rules == Some(false)),
    ("security-group-prefix-lists", "pl-1,pl-2", |r| r.prefix_lists == ["pl-1", "pl-2"]),
    ("enable-icmp-for-path-mtu-discovery", "on", |r| r.path_mtu),
    ("disable-nlb-sg", "true", |r| r.without_security_groups),
    ("enable-tcp-udp-listener", "false", |r| !r.tcp_udp),
    (SOURCE_RANGES, "10.0.0.0/8, 2001:db8::/32", |r| r.source_ranges.len() == 2),
    (GROUP, "edge", |r| r.group.as_deref() == Some("edge")),
    (ADOPT, "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/net/a/b", |r| r.adopt.is_some()),
    (ON_DELETE, "retain", |r| r.retain),
];

#[test]
fn every_annotation_is_read() {
    for (name, value, became) in ACCEPTED {
        match read(&[(name, value)]) {
            Ok(request) => assert!(became(&request), "{name}: {value}: {request:?}"),
            Err(rejection) => panic!("{name}: {value}: {}", rejection.message),
        }
    }
}

#[test]
fn no_known_annotation_is_without_a_row() {
    for suffix in known::KNOWN {
        let accepted = ACCEPTED
            .iter()
            .any(|(name, _, _)| match suffix.strip_suffix('.') {
                Some(family) => name
                    .strip_prefix(family)
                    .is_some_and(|rest| rest.starts_with('.')),
                None => *name == suffix,
            });
        let refused = REFUSED.iter().any(|(name, _, _)| *name == suffix);
        assert!(accepted || refused, "{suffix}");
    }
}

/// Annotation, value, and a part of what is said.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, &str)] = &[
    ("type", "alb", "write \"external\" or \"nlb-ip\""),
    ("nlb-target-type", "pod", "write \"instance\" or \"ip\""),
    ("nlb-target-type", "IP", "write \"instance\" or \"ip\""),
    ("name", "abcdefghijklmnopqrstuvwxyz0123456", "at most 32 letters"),
    ("name", "k8s-shop-web-0123456789", "nobody chooses"),
    ("name", "-web", "without a hyphen at either end"),
    ("name", "internal-web", "without \"internal-\" in front"),
    ("name", "web_1", "letters, digits and hyphens"),
    ("scheme", "public", "write \"internal\" or \"internet-facing\""),
    ("internal", "FalSe", "is not a truth value"),
    ("internal", "0.0.0.0/0", "write \"true\" or \"false\""),
    ("subnets", "subnet-a,subnet-a", "\"subnet-a\" twice"),
    ("eip-allocations", "203.0.113.7", "begin with eipalloc-"),
    ("eip-allocations", "eipalloc-1,eipalloc-1", "\"eipalloc-1\" twice"),
    ("private-ipv4-addresses", "2001:db8::1", "is not an IPv4 address"),
    ("ipv6-addresses", "10.0.0.1", "is not an IPv6 address"),
    ("ip-address-type", "ipv6", "write \"ipv4\" or \"dualstack\""),
    ("ip-address-type", "dualstack-without-public-ipv4", "write \"ipv4\" or \"dualstack\""),
    ("enable-prefix-for-ipv6-source-nat", "true", "write \"on\" or \"off\""),
    ("source-nat-ipv6-prefixes", "2001:db8::/64", "length 80"),
    ("source-nat-ipv6-prefixes", "auto", "auto_assigned"),
    ("proxy-protocol", "true", "write \"*\""),
    ("proxy-protocol-per-target-group", "80,http", "\"http\", which is not the number of a Service port"),
    ("ssl-cert", "my-cert", "begin with arn:"),
    ("backend-protocol", "https", "write \"ssl\" or \"tcp\""),
    ("alpn-policy", "h2", "write \"None\" or \"HTTP1Only\""),
    ("healthcheck-protocol", "udp", "write \"tcp\", \"http\" or \"https\""),
    ("healthcheck-path", "ready", "write for example \"/healthz\""),
    ("healthcheck-interval", "4", "is not a number from 5 to 300"),
    ("healthcheck-interval", "10s", "is not a number from 5 to 300"),
    ("healthcheck-timeout", "121", "is not a number from 2 to 120"),
    ("healthcheck-healthy-threshold", "1", "is not a number from 2 to 10"),
    ("healthcheck-unhealthy-threshold", "11", "is not a number from 2 to 10"),
    ("healthcheck-success-codes", "ok", "write for example \"200-399\""),
    ("healthcheck-success-codes", "399-200", "write for example \"200-399\""),
    ("target-group-attributes", "preserve_client_ip.enabled", "is not key=value"),
    ("target-group-attributes", "preserve_client_ip.enabled=maybe", "preserve_client_ip.enabled is \"maybe\""),
    ("target-group-attributes", "proxy_protocol_v2.enabled=on", "proxy_protocol_v2.enabled is \"on\""),
    ("target-group-attributes.http", "a=b", "the number of a Service port"),
    ("target-group-attributes.443", "preserve_client_ip.enabled=maybe", "is not a truth value"),
    ("target-node-labels", "a", "is not key=value"),
    ("attributes", "=b", "is not key=value"),
    ("attributes", "dns_record.client_routing_policy=near", "any_availability_zone or"),
    ("attributes", "access_logs.s3.enabled=true", "access_logs.s3.bucket=NAME"),
    ("access-log-enabled", "yes", "is not a truth value"),
    ("access-log-enabled", "true", "access_logs.s3.bucket=NAME"),
    ("cross-zone-load-balancing-enabled", "", "is not a truth value"),
    ("listener-attributes.HTTP-80", "a=b", "protocol and port of a listener"),
    ("listener-attributes.TCP", "a=b", "protocol and port of a listener"),
    ("listener-attributes.TCP-80", "a", "is not key=value"),
    ("additional-resource-tags", "team", "is not key=value"),
    ("security-groups", "sg-1,sg-1", "\"sg-1\" twice"),
    ("manage-backend-security-group-rules", "on", "is not a truth value"),
    ("inbound-sg-rules-on-private-link-traffic", "true", "write \"on\" or \"off\""),
    ("security-group-prefix-lists", "sg-1", "begin with pl-"),
    ("enable-icmp-for-path-mtu-discovery", "true", "write \"on\" or \"off\""),
    ("disable-nlb-sg", "on", "is not a truth value"),
    ("enable-tcp-udp-listener", "on", "is not a truth value"),
    (SOURCE_RANGES, "10.0.0.1", "write for example \"203.0.113.0/24\""),
    (GROUP, "Edge", "lower-case letters"),
    (GROUP, "", "is not the name of a group"),
    (ADOPT, "my-lb", "is not the ARN of a Network Load Balancer"),
    (ADOPT, "arn:aws:elasticloadbalancing:x:1:loadbalancer/app/a/b", "is not the ARN of a Network Load Balancer"),
    (ON_DELETE, "keep", "write \"retain\""),
    ("multi-cluster-target-group", "true", "does not share a target group"),
    ("minimum-load-balancer-capacity", "CapacityUnits=1", "does not reserve capacity"),
    ("quic-enabled-ports", "443", "no QUIC listeners"),
    ("service.beta.kubernetes.io/actions.TCP-80", "{}", "no weighted target groups"),
    ("healthcheck-intervall", "10", "did you mean service.beta.kubernetes.io/aws-load-balancer-healthcheck-interval?"),
    ("schema", "internal", "did you mean service.beta.kubernetes.io/aws-load-balancer-scheme?"),
    ("target-group-attribute.443", "a=b", "did you mean"),
    ("something-else-altogether", "x", "remove it"),
];

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    for (name, value, part) in REFUSED {
        let rejection = read(&[(name, value)]).expect_err(name);
        let message = &rejection.message;
        assert!(message.contains(part), "{name}: {value}: {message}");
        assert!(
            message.starts_with("annotation ") && message.contains(name),
            "{message}"
        );
        assert_eq!(rejection.reason, Reason::InvalidRequest, "{message}");
    }
}

#[test]
fn a_service_without_annotations_has_the_defaults() {
    let request = read(&[("example.com/note", "x")]).unwrap();
    assert_eq!(request.target_type, TargetType::Instance);
    assert_eq!(request.scheme, None);
    assert_eq!(request.ip_address_type, IpAddressType::Ipv4);
    assert!(request.tcp_udp && !request.proxy_protocol && !request.retain);
    assert_eq!(request.health_check, HealthCheckRequest::default());
    assert_eq!((request.attributes, request.tags), (map(&[]), map(&[])));
}

#[test]
fn a_class_says_what_its_services_do_not() {
    let mut class = class();
    class.annotations = annotations(&[
        ("scheme", "internet-facing"),
        ("nlb-target-type", "ip"),
        ("cross-zone-load-balancing-enabled", "true"),
        ("target-group-attributes.443", "a=class"),
    ]);
    let of = |asked: &[(&str, &str)]| request(&service("web", asked), &class).unwrap();
    let silent = of(&[]);
    assert_eq!(silent.scheme, Some(Scheme::InternetFacing));
    assert_eq!(silent.target_type, TargetType::Ip);
    assert_eq!(silent.target_group_attributes_of[&443]["a"], "class");
    // Deprecated or not: the Service's own word wins.
    let own = of(&[
        ("internal", "true"),
        ("nlb-target-type", "instance"),
        ("attributes", "load_balancing.cross_zone.enabled=false"),
        ("target-group-attributes.443", "a=own"),
    ]);
    assert_eq!(own.scheme, Some(Scheme::Internal));
    assert_eq!(own.target_type, TargetType::Instance);
    assert_eq!(own.attributes["load_balancing.cross_zone.enabled"], "false");
    assert_eq!(own.target_group_attributes_of[&443]["a"], "own");
}

#[test]
fn what_is_wrong_in_a_class_is_said_of_the_class() {
    for name in ["scheme", "schema", "quic-enabled-ports"] {
        let mut class = class();
        class.annotations = annotations(&[(name, "wrong")]);
        let refused = request(&service("web", &[]), &class).unwrap_err().message;
        assert!(
            refused.starts_with("LoadBalancerClass cloud: annotation "),
            "{refused}"
        );
    }
}

#[test]
fn scheme_wins_over_internal() {
    let both = read(&[("scheme", "internet-facing"), ("internal", "true")]).unwrap();
    assert_eq!(both.scheme, Some(Scheme::InternetFacing));
}

#[test]
fn deprecated_annotations_win_over_attributes() {
    let request = read(&[
        (
            "attributes",
            "load_balancing.cross_zone.enabled=false,access_logs.s3.bucket=new",
        ),
        ("cross-zone-load-balancing-enabled", "true"),
        ("access-log-enabled", "true"),
        ("access-log-s3-bucket-name", "old"),
    ]);
    let attributes = request.unwrap().attributes;
    assert_eq!(attributes["load_balancing.cross_zone.enabled"], "true");
    assert_eq!(attributes["access_logs.s3.bucket"], "old");
}

#[test]
fn spec_wins_over_the_annotation_for_source_ranges() {
    let mut service = service("web", &[(SOURCE_RANGES, "10.0.0.0/8")]);
    service.source_ranges = vec![" 192.0.2.77/24 ".to_owned()];
    let ranges = request(&service, &class()).unwrap().source_ranges;
    assert_eq!(ranges, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
    service.source_ranges = vec!["all".to_owned()];
    let refused = request(&service, &class()).unwrap_err().message;
    assert!(
        refused.starts_with("spec.loadBalancerSourceRanges: \"all\""),
        "{refused}"
    );
}

#[test]
fn a_timeout_beyond_its_interval_is_refused() {
    let message = refused(&[("healthcheck-interval", "5"), ("healthcheck-timeout", "6")]);
    assert!(
        message.contains("6 s") && message.contains("5 s"),
        "{message}"
    );
}

#[test]
fn sctp_is_refused() {
    let mut service = service("web", &[]);
    service.ports.push(port("sctp", Transport::Sctp, 3868));
    let refused = request(&service, &class()).unwrap_err().message;
    assert!(refused.contains("port 3868 is SCTP"), "{refused}");
}

#[test]
fn what_a_user_writes_is_shown_escaped_and_short() {
    let long = format!("a\u{1b}[31m\n{}", "x".repeat(5000));
    for name in [
        "scheme",
        "private-ipv4-addresses",
        "target-node-labels",
        SOURCE_RANGES,
        GROUP,
    ] {
        let message = refused(&[(name, &long)]);
        assert!(
            message.len() < 700 && message.chars().all(|c| !c.is_control()),
            "{message}"
        );
    }
    let message = refused(&[(&long, "x")]);
    assert!(
        message.len() < 400 && message.chars().all(|c| !c.is_control()),
        "{message}"
    );
    let message = refused(&[(&format!("listener-attributes.{long}"), "a=b")]);
    assert!(
        message.len() < 700 && message.chars().all(|c| !c.is_control()),
        "{message}"
    );
}
