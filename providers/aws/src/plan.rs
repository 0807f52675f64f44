//! What is to be done, in order: each step idempotent, each with what it does to traffic. Printed by
//! `portolan plan -o json`, so field names here are API.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::wanted::{
    HealthCheck, IpAddressType, Listener, LoadBalancer, Rule, SecurityGroup, SubnetMapping, Tags,
    Target, TargetGroup,
};

mod words;

/// What a step does to traffic that flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing.
    None,
    /// Connections to the targets concerned may end by themselves; new ones go to others.
    Drain,
    /// Connections break, or new ones find nobody for a while.
    Interrupts,
}

/// A resource that is there (by ARN or id) or that an earlier step makes (by its key in the wanted
/// state).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ref {
    /// It is there: ARN, or id of a security group.
    There(String),
    /// An earlier step makes it: the stack's load balancer or security group, the key of a target group,
    /// or the port of a listener.
    Made(String),
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What it does to traffic.
    pub effect: Effect,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
}

/// What a step does; named as AWS's operation, fields as AWS's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "action", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "AWS's own words for AWS's own operations")]
pub enum Action {
    CreateSecurityGroup {
        vpc: String,
        group: SecurityGroup,
    },
    AuthorizeSecurityGroupIngress {
        group: Ref,
        rules: BTreeSet<Rule>,
    },
    RevokeSecurityGroupIngress {
        group: Ref,
        rules: BTreeSet<Rule>,
    },
    DeleteSecurityGroup {
        group: Ref,
    },
    CreateTargetGroup {
        key: String,
        target_group: TargetGroup,
    },
    ModifyTargetGroup {
        target_group: Ref,
        health_check: HealthCheck,
    },
    ModifyTargetGroupAttributes {
        target_group: Ref,
        attributes: BTreeMap<String, String>,
    },
    RegisterTargets {
        target_group: Ref,
        targets: BTreeSet<Target>,
    },
    DeregisterTargets {
        target_group: Ref,
        targets: BTreeSet<Target>,
    },
    DeleteTargetGroup {
        target_group: Ref,
    },
    /// `managed`: the security group made for it, added to those that it names.
    CreateLoadBalancer {
        stack: String,
        load_balancer: LoadBalancer,
        managed: Option<Ref>,
    },
    SetSubnets {
        load_balancer: Ref,
        subnets: Vec<SubnetMapping>,
        ipv6_source_nat: bool,
    },
    SetSecurityGroups {
        load_balancer: Ref,
        groups: Vec<Ref>,
        enforce_rules_on_private_link: Option<bool>,
    },
    SetIpAddressType {
        load_balancer: Ref,
        ip_address_type: IpAddressType,
    },
    ModifyLoadBalancerAttributes {
        load_balancer: Ref,
        attributes: BTreeMap<String, String>,
    },
    DeleteLoadBalancer {
        load_balancer: Ref,
    },
    CreateListener {
        load_balancer: Ref,
        port: u16,
        listener: Listener,
        forward: Vec<Forward>,
        tags: Tags,
    },
    ModifyListener {
        arn: String,
        port: u16,
        listener: Listener,
        forward: Vec<Forward>,
    },
    ModifyListenerAttributes {
        listener: Ref,
        attributes: BTreeMap<String, String>,
    },
    AddListenerCertificates {
        listener: Ref,
        certificates: Vec<String>,
    },
    RemoveListenerCertificates {
        listener: Ref,
        certificates: Vec<String>,
    },
    DeleteListener {
        arn: String,
        port: u16,
    },
    AddTags {
        resources: Vec<Ref>,
        tags: Tags,
    },
    RemoveTags {
        resources: Vec<Ref>,
        keys: BTreeSet<String>,
    },
    /// Not a call: the rest is planned again once this is true.
    Wait {
        until: Wait,
    },
}

/// A target group that a listener forwards to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// To which.
    pub target_group: Ref,
    /// 0 to 999.
    pub weight: u32,
}

/// What a plan waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "for", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "each variant says what its one field is for")]
pub enum Wait {
    /// The load balancer is active.
    Active { load_balancer: Ref },
    /// At least one target of it is healthy.
    Healthy { target_group: Ref },
    /// None of its targets drains any longer.
    Drained { target_group: Ref },
    /// Clients have had the time to learn the name of its successor (DNS).
    Forgotten { load_balancer: Ref },
}

/// Steps in order; empty when nothing is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The load balancer whose name the status is to show once the steps are done.
    pub show: Option<Ref>,
    /// What a user should know and nothing stops for.
    pub warnings: Vec<String>,
}

impl Plan {
    /// What it waits for, in order.
    pub fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.steps.iter().filter_map(|step| {
            let Action::Wait { until } = &step.action else {
                return None;
            };
            Some(until)
        })
    }

    /// The worst that it does to traffic.
    pub fn effect(&self) -> Effect {
        let effects = self.steps.iter().map(|step| step.effect);
        effects.max().unwrap_or(Effect::None)
    }
}
