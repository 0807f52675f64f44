//! What is there in the account, as the snapshot and a closer look have found it.

use std::collections::{BTreeMap, BTreeSet};

use crate::wanted::{
    HealthCheck, IpAddressType, Protocol, Rule, Scheme, SubnetMapping, Tags, Target, TargetType,
};

/// Everything found that belongs to one stack.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Load balancers: more than one while one replaces another.
    pub load_balancers: Vec<LoadBalancer>,
    /// Target groups.
    pub target_groups: Vec<TargetGroup>,
    /// Load balancers of others: the one that is adopted, and every other that has a listener to one
    /// of the target groups. Nothing of them is touched but these listeners.
    pub foreign: Vec<LoadBalancer>,
    /// The security group made for it.
    pub security_group: Option<SecurityGroup>,
}

/// A load balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadBalancer {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Where clients find it.
    pub dns_name: String,
    /// Whether AWS says `active`; before that it does not take traffic.
    pub active: bool,
    /// Its scheme.
    pub scheme: Scheme,
    /// Families.
    pub ip_address_type: IpAddressType,
    /// Its subnets, with addresses that were asked for.
    pub subnets: Vec<SubnetMapping>,
    /// Its security groups.
    pub security_groups: BTreeSet<String>,
    /// Whether rules hold for PrivateLink traffic.
    pub enforce_rules_on_private_link: Option<bool>,
    /// Whether UDP over dualstack has its source address translated by a prefix.
    pub ipv6_source_nat: bool,
    /// Its tags.
    pub tags: Tags,
    /// What only a closer look finds.
    pub details: Option<LoadBalancerDetails>,
}

/// What only a closer look at a load balancer finds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoadBalancerDetails {
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its listeners, by port.
    pub listeners: BTreeMap<u16, Listener>,
}

/// A listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Its ARN.
    pub arn: String,
    /// The protocol; `None` for one that we never make (QUIC).
    pub protocol: Option<Protocol>,
    /// Certificates, the first the default.
    pub certificates: Vec<String>,
    /// Of TLS.
    pub ssl_policy: Option<String>,
    /// Of TLS.
    pub alpn: Option<String>,
    /// Target group ARNs and weights.
    pub forward: BTreeMap<String, u32>,
    /// Its attributes; `None` when they were not looked at.
    pub attributes: Option<BTreeMap<String, String>>,
}

/// A target group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetGroup {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// The protocol; `None` for one that we never make.
    pub protocol: Option<Protocol>,
    /// The port.
    pub port: u16,
    /// What is registered; `None` for one that we never make.
    pub target_type: Option<TargetType>,
    /// IPv6 targets.
    pub ipv6: bool,
    /// How targets are checked.
    pub health_check: HealthCheck,
    /// Load balancers that use it.
    pub load_balancers: BTreeSet<String>,
    /// Its tags.
    pub tags: Tags,
    /// What only a closer look finds.
    pub details: Option<TargetGroupDetails>,
}

/// What only a closer look at a target group finds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TargetGroupDetails {
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its targets and how they are.
    pub targets: BTreeMap<Target, Health>,
}

/// How a target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Registered, not checked yet.
    Initial,
    /// Takes traffic.
    Healthy,
    /// Fails its checks.
    Unhealthy,
    /// No listener uses the group, or the zone is off.
    Unused,
    /// Deregistered; its connections may end.
    Draining,
    /// Cannot be checked.
    Unavailable,
}

/// A security group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecurityGroup {
    /// `sg-…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Rules for what comes in.
    pub rules: BTreeSet<Rule>,
    /// Its tags.
    pub tags: Tags,
}
