//! What a Service asks for in LBC's annotations and ours. The only place of this package where
//! annotations are read; nothing is decided here, and what cannot be read is never guessed.
//!
//! What the class sets in `spec.aws` holds where the Service says nothing. An annotation that this
//! package knows and does not carry out, and one under LBC's prefix that it does not know, is
//! refused: silence would look like consent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use model::Protocol as Transport;

use crate::{
    Rejection,
    input::{Class, Service},
    wanted::{HealthCheckProtocol, IpAddressType, Protocol, Scheme, TargetType},
};

mod attributes;
mod health;
mod known;
mod values;
mod words;

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
pub(crate) use known::KNOWN;
pub(crate) use values::go_bool;
use values::{Annotations, Source};

/// What all of LBC's annotations for load balancers begin with.
pub const PREFIX: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// Who may connect, unless `spec.loadBalancerSourceRanges` says it.
pub const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Services with the same value share a load balancer: those of one namespace, unless the class lets
/// namespaces share.
pub const GROUP: &str = "portolan.dev/load-balancer-group";
/// The ARN of a load balancer that is there already and is to become this Service's.
pub const ADOPT: &str = "portolan.dev/adopt";
/// `retain`: the load balancer outlives the Service; `delete`: it does not, whatever the class says.
pub const ON_DELETE: &str = "portolan.dev/on-delete";

/// What a Service asks for, its class's defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Instances or pods.
    pub target_type: TargetType,
    /// The load balancer's name.
    pub name: Option<String>,
    /// The scheme, if an annotation says so.
    pub scheme: Option<Scheme>,
    /// Ids or Name tags, in order; empty: discovered.
    pub subnets: Vec<String>,
    /// Elastic IPs, one a subnet.
    pub eip_allocations: Vec<String>,
    /// Private IPv4 addresses, one a subnet.
    pub private_ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses, one a subnet.
    pub ipv6: Vec<Ipv6Addr>,
    /// Families.
    pub ip_address_type: IpAddressType,
    /// Source addresses of UDP over IPv6 are translated by a prefix.
    pub ipv6_source_nat: bool,
    /// `auto_assigned` or a /80, one a subnet.
    pub source_nat_prefixes: Vec<String>,
    /// Proxy protocol v2 to every target group.
    pub proxy_protocol: bool,
    /// Service ports whose target groups get proxy protocol v2; all others get none.
    pub proxy_protocol_ports: Option<BTreeSet<u16>>,
    /// ACM certificates, the first the default; empty: no TLS.
    pub certificates: Vec<String>,
    /// Names or numbers of the ports with TLS; empty: all.
    pub tls_ports: Vec<String>,
    /// The policy of TLS listeners.
    pub ssl_policy: Option<String>,
    /// TLS to the targets of TLS listeners.
    pub backend_tls: bool,
    /// The ALPN policy of TLS listeners.
    pub alpn: Option<String>,
    /// How targets are checked.
    pub health_check: HealthCheckRequest,
    /// Attributes of every target group.
    pub target_group_attributes: BTreeMap<String, String>,
    /// Attributes of the target group of one Service port; they win.
    pub target_group_attributes_of: BTreeMap<u16, BTreeMap<String, String>>,
    /// Labels that nodes must have to be targets.
    pub node_labels: BTreeMap<String, String>,
    /// Attributes of the load balancer, deprecated annotations among them.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of listeners.
    pub listener_attributes: BTreeMap<(Protocol, u16), BTreeMap<String, String>>,
    /// Tags on everything.
    pub tags: BTreeMap<String, String>,
    /// Ids or Name tags of security groups; empty: one is made.
    pub security_groups: Vec<String>,
    /// Whether rules are kept on the nodes' security group; `None`: unless security groups are given.
    pub manage_node_rules: Option<bool>,
    /// Whether rules hold for PrivateLink traffic.
    pub private_link_rules: Option<bool>,
    /// Prefix lists that may connect.
    pub prefix_lists: Vec<String>,
    /// ICMP for path MTU discovery.
    pub path_mtu: bool,
    /// No security group at all.
    pub without_security_groups: bool,
    /// TCP and UDP on one port become one TCP_UDP listener (LBC: only when asked; here unless
    /// refused).
    pub tcp_udp: bool,
    /// Who may connect; empty: everybody.
    pub source_ranges: Vec<IpNet>,
    /// Shares its load balancer under this name.
    pub group: Option<String>,
    /// The load balancer to adopt.
    pub adopt: Option<String>,
    /// The load balancer outlives the Service.
    pub retain: bool,
}

/// How targets are checked, as far as a Service says so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealthCheckRequest {
    /// The protocol.
    pub protocol: Option<HealthCheckProtocol>,
    /// A number, `traffic-port` or the name of a Service port.
    pub port: Option<String>,
    /// Of HTTP and HTTPS.
    pub path: Option<String>,
    /// Of HTTP and HTTPS.
    pub success_codes: Option<String>,
    /// Seconds, 5 to 300.
    pub interval: Option<u32>,
    /// Seconds, 2 to 120.
    pub timeout: Option<u32>,
    /// 2 to 10.
    pub healthy_threshold: Option<u32>,
    /// 2 to 10.
    pub unhealthy_threshold: Option<u32>,
}

/// Reads what one Service of `class` asks for.
///
/// # Errors
/// The first thing that cannot be read or is not carried out, as one sentence that names it and
/// says what to write instead.
pub fn request(service: &Service, class: &Class) -> Result<Request, Rejection> {
    let all = Annotations {
        own: &service.annotations,
        class,
    };
    known::refuse_others(all)?;
    refuse_sctp(service)?;
    let of = |suffix: &str| all.get(&format!("{PREFIX}{suffix}"));
    let list = |suffix: &str| of(suffix).map(Source::list).unwrap_or_default();
    let text = |suffix: &str| of(suffix).and_then(Source::text);
    let boolean = |suffix: &str| of(suffix).map(Source::boolean).transpose();
    let switch = |suffix: &str| of(suffix).map(Source::switch).transpose();
    let map = |suffix: &str| of(suffix).map(Source::map).transpose();
    let ids = |suffix: &str, what: &str, prefix: &str| {
        let ids = of(suffix).map(|source| source.ids(what, prefix));
        ids.transpose().map(Option::unwrap_or_default)
    };

    let target_group_attributes = map("target-group-attributes")?.unwrap_or_default();
    if let Some(source) = of("target-group-attributes") {
        attributes::check_booleans(source, &target_group_attributes)?;
    }
    Ok(Request {
        target_type: target_type(all)?,
        name: of("name").map(words::name).transpose()?.flatten(),
        scheme: scheme(all)?,
        subnets: match of("subnets") {
            Some(source) => source.distinct(source.list())?,
            None => vec![],
        },
        eip_allocations: ids("eip-allocations", "an elastic IP", "eipalloc-")?,
        private_ipv4: match of("private-ipv4-addresses") {
            Some(source) => source.parsed("an IPv4 address", "10.0.1.7, 10.0.2.7")?,
            None => vec![],
        },
        ipv6: match of("ipv6-addresses") {
            Some(source) => source.parsed("an IPv6 address", "2001:db8:1::7, 2001:db8:2::7")?,
            None => vec![],
        },
        ip_address_type: match of("ip-address-type") {
            Some(source) => source.one_of(
                "a type of addresses of a Network Load Balancer",
                &[
                    ("ipv4", IpAddressType::Ipv4),
                    ("dualstack", IpAddressType::Dualstack),
                ],
            )?,
            None => IpAddressType::Ipv4,
        },
        ipv6_source_nat: switch("enable-prefix-for-ipv6-source-nat")?.unwrap_or_default(),
        source_nat_prefixes: match of("source-nat-ipv6-prefixes") {
            Some(source) => words::source_nat_prefixes(source)?,
            None => vec![],
        },
        proxy_protocol: match of("proxy-protocol") {
            Some(source) => source.one_of(
                "what LBC knows here (ports are named in aws-load-balancer-proxy-protocol-per-\
                 target-group)",
                &[("*", true)],
            )?,
            None => false,
        },
        proxy_protocol_ports: match of("proxy-protocol-per-target-group") {
            Some(source) => {
                let ports = source.parsed("the number of a Service port", "80, 443")?;
                Some(ports.into_iter().collect())
            }
            None => None,
        },
        certificates: ids("ssl-cert", "the ARN of a certificate", "arn:")?,
        tls_ports: list("ssl-ports"),
        ssl_policy: text("ssl-negotiation-policy"),
        backend_tls: match of("backend-protocol") {
            Some(source) => {
                source.one_of("a protocol of targets", &[("ssl", true), ("tcp", false)])?
            }
            None => false,
        },
        alpn: match of("alpn-policy") {
            Some(source) => Some(words::alpn(source)?),
            None => None,
        },
        health_check: health::health_check(all)?,
        target_group_attributes,
        target_group_attributes_of: attributes::by_port(all)?,
        node_labels: map("target-node-labels")?.unwrap_or_default(),
        attributes: attributes::of_load_balancer(all)?,
        listener_attributes: attributes::by_listener(all)?,
        tags: map("additional-resource-tags")?.unwrap_or_default(),
        security_groups: match of("security-groups") {
            Some(source) => source.distinct(source.list())?,
            None => vec![],
        },
        manage_node_rules: boolean("manage-backend-security-group-rules")?,
        private_link_rules: switch("inbound-sg-rules-on-private-link-traffic")?,
        prefix_lists: ids("security-group-prefix-lists", "a prefix list", "pl-")?,
        path_mtu: switch("enable-icmp-for-path-mtu-discovery")?.unwrap_or_default(),
        without_security_groups: boolean("disable-nlb-sg")?.unwrap_or_default(),
        tcp_udp: boolean("enable-tcp-udp-listener")?.unwrap_or(true),
        source_ranges: words::source_ranges(service, all)?,
        group: group(service, class)?,
        adopt: all.own(ADOPT).map(words::adopt).transpose()?,
        retain: match all.get(ON_DELETE) {
            Some(source) => source.one_of(
                "what can be done on deletion",
                &[("retain", true), ("delete", false)],
            )?,
            None => false,
        },
    })
}

/// Under which name a Service shares its load balancer; nothing else of it is read.
///
/// # Errors
/// The name cannot be read.
pub fn group(service: &Service, class: &Class) -> Result<Option<String>, Rejection> {
    let all = Annotations {
        own: &service.annotations,
        class,
    };
    all.get(GROUP).map(words::group).transpose()
}

/// A Network Load Balancer has no SCTP.
fn refuse_sctp(service: &Service) -> Result<(), Rejection> {
    for port in &service.ports {
        match port.protocol {
            Transport::Tcp | Transport::Udp => {}
            Transport::Sctp => {
                return Err(Rejection::invalid(format!(
                    "spec.ports: port {} is SCTP, which a Network Load Balancer does not have: \
                     remove the port or give the Service a class of another kind",
                    port.port
                )));
            }
        }
    }
    Ok(())
}

/// LBC: `nlb-ip` is the older word for ip targets. What the Service says itself, in either way,
/// wins over what its class says.
fn target_type(all: Annotations<'_>) -> Result<TargetType, Rejection> {
    let (kind, target) = (format!("{PREFIX}type"), format!("{PREFIX}nlb-target-type"));
    for (kind, target) in [
        (all.own(&kind), all.own(&target)),
        (all.class(&kind), all.class(&target)),
    ] {
        let old = kind.map(|source| {
            source.one_of(
                "a type of load balancer that this class makes",
                &[
                    ("external", None),
                    ("nlb-ip", Some(TargetType::Ip)),
                    ("nlb", None),
                ],
            )
        });
        let new = target.map(|source| {
            source.one_of(
                "a type of targets",
                &[("instance", TargetType::Instance), ("ip", TargetType::Ip)],
            )
        });
        if let Some(asked) = old.transpose()?.flatten().or(new.transpose()?) {
            return Ok(asked);
        }
    }
    Ok(all.class.target_type)
}

/// `scheme`, else the deprecated `internal`; the Service's own before the class's.
fn scheme(all: Annotations<'_>) -> Result<Option<Scheme>, Rejection> {
    let (scheme, internal) = (format!("{PREFIX}scheme"), format!("{PREFIX}internal"));
    for (scheme, internal) in [
        (all.own(&scheme), all.own(&internal)),
        (all.class(&scheme), all.class(&internal)),
    ] {
        if let Some(source) = scheme {
            let schemes = [
                ("internal", Scheme::Internal),
                ("internet-facing", Scheme::InternetFacing),
            ];
            return source.one_of("a scheme", &schemes).map(Some);
        }
        if let Some(source) = internal {
            return Ok(Some(if source.boolean()? {
                Scheme::Internal
            } else {
                Scheme::InternetFacing
            }));
        }
    }
    Ok(None)
}
