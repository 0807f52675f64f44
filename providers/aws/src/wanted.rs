//! The load balancer that should exist, in AWS's own words. Built by DESIRED; compared by DIFF;
//! printed by `portolan plan -o json`, so field names here are API.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Keys and values as AWS has them.
pub type Tags = BTreeMap<String, String>;

/// Who can reach it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Only the VPC and what is connected to it.
    Internal,
    /// The internet.
    InternetFacing,
}

/// What it forwards to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetType {
    /// Nodes, by their nodePort.
    Instance,
    /// Pods, by their address.
    Ip,
}

/// Families it has addresses of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IpAddressType {
    /// IPv4 only.
    Ipv4,
    /// Both.
    Dualstack,
}

/// Protocol of a listener or a target group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Both on one port.
    TcpUdp,
    /// TLS, ended at the load balancer (listener) or begun there (target group).
    Tls,
}

/// Protocol of a health check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthCheckProtocol {
    /// A connection.
    Tcp,
    /// A request.
    Http,
    /// A request over TLS.
    Https,
}

/// Everything of one load balancer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Names what it is for: `namespace/name` of the Service, or
    /// `namespace/group:NAME` of a group.
    pub stack: String,
    /// The ARN of somebody else's load balancer that takes the listeners (`portolan.dev/adopt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<String>,
    /// The load balancer itself.
    pub load_balancer: LoadBalancer,
    /// Its listeners, by port.
    pub listeners: BTreeMap<u16, Listener>,
    /// Its target groups, by what they are for, e.g. `shop/web:443`.
    pub target_groups: BTreeMap<String, TargetGroup>,
    /// The security group made for it; `None` when others are given or there is to be none.
    pub security_group: Option<SecurityGroup>,
    /// What a user should know and nothing stops for, each a sentence (a node without providerID,
    /// a listener another Service of the group has).
    pub warnings: Vec<String>,
}

/// The load balancer itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// At most 32 characters; unique in account and region. An existing one keeps its own.
    pub name: String,
    /// Who can reach it. To change it another one must be made.
    pub scheme: Scheme,
    /// Families.
    pub ip_address_type: IpAddressType,
    /// One subnet a zone.
    pub subnets: Vec<SubnetMapping>,
    /// Ids of given security groups; the managed one is added to them.
    pub security_groups: Vec<String>,
    /// `dns_record.…`, `deletion_protection.enabled`, …: those a user sets.
    pub attributes: BTreeMap<String, String>,
    /// On it and its listeners.
    pub tags: Tags,
    /// Whether rules hold for PrivateLink traffic; `None`: as AWS has it.
    pub enforce_rules_on_private_link: Option<bool>,
    /// Whether UDP over dualstack has its source address translated by a prefix.
    pub ipv6_source_nat: bool,
}

/// A subnet and the load balancer's addresses in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SubnetMapping {
    /// `subnet-…`.
    pub subnet: String,
    /// An elastic IP, `eipalloc-…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<String>,
    /// A private IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_ipv4: Option<String>,
    /// An IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// `auto_assigned` or a /80.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_nat_prefix: Option<String>,
}

/// A listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
    /// ACM certificates, the first the default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// Of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_policy: Option<String>,
    /// Of TLS: `HTTP2Preferred`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// Key into [`Wanted::target_groups`].
    pub target_group: String,
    /// `tcp.idle_timeout.seconds`: those a user sets.
    pub attributes: BTreeMap<String, String>,
}

/// A target group and who belongs into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroup {
    /// At most 32 characters.
    pub name: String,
    /// The VPC.
    pub vpc: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; each target has its own.
    pub port: u16,
    /// What is registered.
    pub target_type: TargetType,
    /// IPv6 targets.
    pub ipv6: bool,
    /// How targets are checked.
    pub health_check: HealthCheck,
    /// `proxy_protocol_v2.enabled`, …: those a user sets.
    pub attributes: BTreeMap<String, String>,
    /// Who belongs into it.
    pub targets: BTreeSet<Target>,
    /// On it.
    pub tags: Tags,
}

/// How targets are checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// The protocol.
    pub protocol: HealthCheckProtocol,
    /// A number, or `traffic-port`.
    pub port: String,
    /// Of HTTP and HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of HTTP and HTTPS: `200-399`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_codes: Option<String>,
    /// Seconds between two.
    pub interval: u32,
    /// Seconds until one has failed.
    pub timeout: u32,
    /// So many good ones in a row.
    pub healthy_threshold: u32,
    /// So many bad ones in a row.
    pub unhealthy_threshold: u32,
}

/// A node or a pod.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// `i-…` or an address.
    pub id: String,
    /// Its port.
    pub port: u16,
    /// `all` for an address outside the VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A security group that is ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroup {
    /// Its name, unique in the VPC.
    pub name: String,
    /// Its description; cannot be changed.
    pub description: String,
    /// Who may come in.
    pub rules: BTreeSet<Rule>,
    /// On it.
    pub tags: Tags,
}

/// One rule of a security group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    pub protocol: &'static str,
    /// First port, or ICMP type.
    pub from: i32,
    /// Last port, or ICMP code.
    pub to: i32,
    /// From where.
    pub source: Source,
}

/// From where a rule lets in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// IPv4 addresses.
    Ipv4(String),
    /// IPv6 addresses.
    Ipv6(String),
    /// `pl-…`.
    PrefixList(String),
    /// `sg-…`.
    SecurityGroup(String),
}

impl Scheme {
    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::InternetFacing => "internet-facing",
        }
    }
}

impl TargetType {
    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Ip => "ip",
        }
    }
}

impl IpAddressType {
    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Dualstack => "dualstack",
        }
    }
}

impl Protocol {
    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::TcpUdp => "TCP_UDP",
            Self::Tls => "TLS",
        }
    }
}

impl HealthCheckProtocol {
    /// AWS's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }
}
