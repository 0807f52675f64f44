//! Between the SDK's words and ours, without IO. What the SDK may leave out and AWS never does is
//! skipped with a `None`, not guessed.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types as ec2;
use aws_sdk_elasticloadbalancingv2::types as elb;

use aws::{
    seen::{self, Health},
    wanted::{
        HealthCheck, HealthCheckProtocol, IpAddressType, Protocol, Rule, Scheme, Source,
        SubnetMapping, Tags, Target, TargetType,
    },
};

/// What a rule for every protocol has as its protocol.
const EVERY_PROTOCOL: &str = "-1";

/// A port; 0 when AWS names none.
fn port(port: Option<i32>) -> u16 {
    port.and_then(|port| u16::try_from(port).ok())
        .unwrap_or_default()
}

fn unsigned(number: Option<i32>) -> u32 {
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or_default()
}

pub(super) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A Network Load Balancer; `None` for one of another kind.
pub(super) fn load_balancer(found: &elb::LoadBalancer, tags: Tags) -> Option<seen::LoadBalancer> {
    if found.r#type()?.as_str() != "network" {
        return None;
    }
    let state = found.state().and_then(|state| state.code());
    let zones = found.availability_zones().iter();
    let source_nat = found.enable_prefix_for_ipv6_source_nat();
    Some(seen::LoadBalancer {
        arn: found.load_balancer_arn()?.to_owned(),
        name: found.load_balancer_name()?.to_owned(),
        dns_name: found.dns_name().unwrap_or_default().to_owned(),
        // `active_impaired` takes traffic, too: it only cannot grow.
        active: state.is_some_and(|code| code.as_str().starts_with("active")),
        scheme: match found.scheme().map(elb::LoadBalancerSchemeEnum::as_str) {
            Some("internal") => Scheme::Internal,
            _ => Scheme::InternetFacing,
        },
        ip_address_type: match found.ip_address_type().map(elb::IpAddressType::as_str) {
            Some("dualstack") => IpAddressType::Dualstack,
            _ => IpAddressType::Ipv4,
        },
        subnets: zones.filter_map(subnet).collect(),
        security_groups: found.security_groups().iter().cloned().collect(),
        enforce_rules_on_private_link: found
            .enforce_security_group_inbound_rules_on_private_link_traffic()
            .map(|word| word == "on"),
        ipv6_source_nat: source_nat.is_some_and(|word| word.as_str() == "on"),
        tags,
        details: None,
    })
}

/// A subnet with the addresses that AWS shows for it.
fn subnet(zone: &elb::AvailabilityZone) -> Option<SubnetMapping> {
    let addresses = zone.load_balancer_addresses();
    let first = |of: fn(&elb::LoadBalancerAddress) -> Option<&str>| {
        addresses.iter().find_map(of).map(str::to_owned)
    };
    Some(SubnetMapping {
        subnet: zone.subnet_id()?.to_owned(),
        allocation: first(elb::LoadBalancerAddress::allocation_id),
        private_ipv4: first(elb::LoadBalancerAddress::private_ipv4_address),
        ipv6: first(elb::LoadBalancerAddress::ipv6_address),
        source_nat_prefix: zone.source_nat_ipv6_prefixes().first().cloned(),
    })
}

pub(super) fn target_group(found: &elb::TargetGroup, tags: Tags) -> Option<seen::TargetGroup> {
    let family = found.ip_address_type();
    Some(seen::TargetGroup {
        arn: found.target_group_arn()?.to_owned(),
        name: found.target_group_name()?.to_owned(),
        protocol: protocol(found.protocol()),
        port: port(found.port()),
        target_type: match found.target_type().map(elb::TargetTypeEnum::as_str) {
            Some("instance") => Some(TargetType::Instance),
            Some("ip") => Some(TargetType::Ip),
            _ => None,
        },
        ipv6: family.is_some_and(|family| family.as_str() == "ipv6"),
        health_check: health_check(found),
        load_balancers: found.load_balancer_arns().iter().cloned().collect(),
        tags,
        details: None,
    })
}

fn health_check(found: &elb::TargetGroup) -> HealthCheck {
    let protocol = found.health_check_protocol();
    HealthCheck {
        protocol: match protocol.map(elb::ProtocolEnum::as_str) {
            Some("HTTP") => HealthCheckProtocol::Http,
            Some("HTTPS") => HealthCheckProtocol::Https,
            _ => HealthCheckProtocol::Tcp,
        },
        port: found
            .health_check_port()
            .unwrap_or("traffic-port")
            .to_owned(),
        path: found.health_check_path().map(str::to_owned),
        success_codes: found
            .matcher()
            .and_then(elb::Matcher::http_code)
            .map(str::to_owned),
        interval: unsigned(found.health_check_interval_seconds()),
        timeout: unsigned(found.health_check_timeout_seconds()),
        healthy_threshold: unsigned(found.healthy_threshold_count()),
        unhealthy_threshold: unsigned(found.unhealthy_threshold_count()),
    }
}

fn protocol(found: Option<&elb::ProtocolEnum>) -> Option<Protocol> {
    match found?.as_str() {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "TCP_UDP" => Some(Protocol::TcpUdp),
        "TLS" => Some(Protocol::Tls),
        _ => None,
    }
}

/// Its port, and the listener as far as DescribeListeners tells: the default certificate, no
/// attributes.
pub(super) fn listener(found: &elb::Listener) -> Option<(u16, seen::Listener)> {
    let mut forward = BTreeMap::new();
    for action in found.default_actions() {
        let config = action.forward_config();
        let groups = config.map(elb::ForwardActionConfig::target_groups);
        for group in groups.unwrap_or_default() {
            if let Some(arn) = group.target_group_arn() {
                // AWS leaves the weight of a single one out, or says 1.
                let weight = group.weight().map_or(1, |weight| unsigned(Some(weight)));
                forward.insert(arn.to_owned(), weight);
            }
        }
        if let (true, Some(arn)) = (forward.is_empty(), action.target_group_arn()) {
            forward.insert(arn.to_owned(), 1);
        }
    }
    let protocol = protocol(found.protocol());
    let tls = protocol == Some(Protocol::Tls);
    let certificates = found.certificates().iter();
    let listener = seen::Listener {
        arn: found.listener_arn()?.to_owned(),
        protocol,
        certificates: certificates
            .filter_map(|found| Some(found.certificate_arn()?.to_owned()))
            .collect(),
        ssl_policy: found.ssl_policy().filter(|_| tls).map(str::to_owned),
        alpn: found.alpn_policy().first().filter(|_| tls).cloned(),
        forward,
        attributes: None,
    };
    Some((port(found.port()), listener))
}

/// A target and how it is.
pub(super) fn health(found: &elb::TargetHealthDescription) -> Option<(Target, Health)> {
    let target = found.target()?;
    let state = found.target_health().and_then(elb::TargetHealth::state)?;
    let health = match state.as_str() {
        "initial" => Health::Initial,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        "unused" => Health::Unused,
        "draining" | "unhealthy.draining" => Health::Draining,
        _ => Health::Unavailable,
    };
    let key = Target {
        id: target.id()?.to_owned(),
        port: port(target.port()),
        // AWS also shows the zone that it has found out by itself; only `all` is ever asked for.
        zone: target
            .availability_zone()
            .filter(|zone| *zone == "all")
            .map(str::to_owned),
    };
    Some((key, health))
}

pub(super) fn target(wanted: &Target) -> elb::TargetDescription {
    elb::TargetDescription::builder()
        .id(&wanted.id)
        .port(i32::from(wanted.port))
        .set_availability_zone(wanted.zone.clone())
        .build()
}

pub(super) fn mapping(wanted: &SubnetMapping) -> elb::SubnetMapping {
    elb::SubnetMapping::builder()
        .subnet_id(&wanted.subnet)
        .set_allocation_id(wanted.allocation.clone())
        .set_private_ipv4_address(wanted.private_ipv4.clone())
        .set_ipv6_address(wanted.ipv6.clone())
        .set_source_nat_ipv6_prefix(wanted.source_nat_prefix.clone())
        .build()
}

pub(super) fn elb_tags(tags: &Tags) -> Vec<elb::Tag> {
    tags.iter()
        .map(|(key, value)| elb::Tag::builder().key(key).value(value).build())
        .collect()
}

/// Tags or attributes, as far as they have a key.
pub(super) fn pairs<'a>(
    all: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> BTreeMap<String, String> {
    all.filter_map(|(key, value)| Some((key?.to_owned(), value.unwrap_or_default().to_owned())))
        .collect()
}

pub(super) fn tags_of_elb(tags: &[elb::Tag]) -> Tags {
    pairs(tags.iter().map(|tag| (tag.key(), tag.value())))
}

pub(super) fn ec2_tags(tags: &Tags) -> Vec<ec2::Tag> {
    tags.iter()
        .map(|(key, value)| ec2::Tag::builder().key(key).value(value).build())
        .collect()
}

pub(super) fn tags_of_ec2(tags: &[ec2::Tag]) -> Tags {
    pairs(tags.iter().map(|tag| (tag.key(), tag.value())))
}

pub(super) fn security_group(found: &ec2::SecurityGroup) -> Option<seen::SecurityGroup> {
    Some(seen::SecurityGroup {
        id: found.group_id()?.to_owned(),
        name: found.group_name().unwrap_or_default().to_owned(),
        rules: found.ip_permissions().iter().flat_map(rules).collect(),
        tags: tags_of_ec2(found.tags()),
    })
}

/// The rules of one permission. Protocols by number (GRE, ESP, …) are never ours and are not seen.
fn rules(permission: &ec2::IpPermission) -> Vec<Rule> {
    let protocol = match permission.ip_protocol() {
        Some("tcp" | "6") => "tcp",
        Some("udp" | "17") => "udp",
        Some("icmp" | "1") => "icmp",
        Some("icmpv6" | "58") => "icmpv6",
        Some(EVERY_PROTOCOL) => EVERY_PROTOCOL,
        _ => return Vec::new(),
    };
    let ipv4 = permission.ip_ranges().iter();
    let ipv6 = permission.ipv6_ranges().iter();
    let lists = permission.prefix_list_ids().iter();
    let groups = permission.user_id_group_pairs().iter();
    let ipv4 = ipv4.filter_map(|from| Some(Source::Ipv4(from.cidr_ip()?.to_owned())));
    let ipv6 = ipv6.filter_map(|from| Some(Source::Ipv6(from.cidr_ipv6()?.to_owned())));
    let lists =
        lists.filter_map(|from| Some(Source::PrefixList(from.prefix_list_id()?.to_owned())));
    let groups = groups.filter_map(|from| Some(Source::SecurityGroup(from.group_id()?.to_owned())));
    ipv4.chain(ipv6)
        .chain(lists)
        .chain(groups)
        .map(|source| Rule {
            protocol,
            from: permission.from_port().unwrap_or(-1),
            to: permission.to_port().unwrap_or(-1),
            source,
        })
        .collect()
}

/// Rules in the form that EC2 takes: one permission for each protocol and range of ports.
pub(super) fn permissions<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<ec2::IpPermission> {
    let mut by_ports: BTreeMap<(&str, i32, i32), BTreeSet<&Source>> = BTreeMap::new();
    for rule in rules {
        by_ports
            .entry((rule.protocol, rule.from, rule.to))
            .or_default()
            .insert(&rule.source);
    }
    let permission = |((protocol, from, to), sources): ((&str, i32, i32), BTreeSet<&Source>)| {
        let mut builder = ec2::IpPermission::builder().ip_protocol(protocol);
        if protocol != EVERY_PROTOCOL {
            builder = builder.from_port(from).to_port(to);
        }
        for source in sources {
            builder = match source {
                Source::Ipv4(cidr) => {
                    builder.ip_ranges(ec2::IpRange::builder().cidr_ip(cidr).build())
                }
                Source::Ipv6(cidr) => {
                    builder.ipv6_ranges(ec2::Ipv6Range::builder().cidr_ipv6(cidr).build())
                }
                Source::PrefixList(id) => {
                    builder.prefix_list_ids(ec2::PrefixListId::builder().prefix_list_id(id).build())
                }
                Source::SecurityGroup(id) => builder
                    .user_id_group_pairs(ec2::UserIdGroupPair::builder().group_id(id).build()),
            };
        }
        builder.build()
    };
    by_ports.into_iter().map(permission).collect()
}
