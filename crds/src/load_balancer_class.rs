//! LoadBalancerClass: who fulfils Services of type LoadBalancer of one class, as IngressClass does
//! for Ingress.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "columns of one type look like duplicates to the lint"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address_pool::is_false;
use crate::schema::{self, limits};

/// Who fulfils the Services of one load balancer class, and how.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "LoadBalancerClass",
    plural = "loadbalancerclasses",
    status = "LoadBalancerClassStatus",
    derive = "PartialEq",
    shortname = "lbc",
    category = "portolan",
    doc = "What IngressClass is to Ingress: who fulfils the Services of type LoadBalancer of one class, and how. Deleting it releases nothing that Services hold.",
    printcolumn(
        name = "Class",
        type_ = "string",
        json_path = ".spec.className",
        description = "The value of a Service's spec.loadBalancerClass"
    ),
    printcolumn(
        name = "Default",
        type_ = "boolean",
        json_path = ".spec.default",
        description = "Whether Services without a class belong to it"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the class is in use"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = Rule::new("[has(self.pool), has(self.aws), has(self.gcp)].filter(set, set).size() == 1")
        .message("set exactly one of pool, aws and gcp ({} is enough)")
)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerClassSpec {
    /// The string that Services put into spec.loadBalancerClass to be fulfilled by this class, for example portolan.dev/pool; it cannot be changed.
    #[schemars(length(max = limits::QUALIFIED_NAME))]
    #[x_kube(validation = Rule::new(r"self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')")
        .message("className must be a name of at most 63 letters, digits, dashes, underscores and dots, with an optional domain before a slash, for example portolan.dev/pool"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("className cannot be changed: create another LoadBalancerClass, Kubernetes does not let a Service change its class either"))]
    pub class_name: String,

    /// Whether Services of type LoadBalancer without a class belong to this one; of two defaults the older wins.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,

    /// Addresses come from AddressPools; {} means any pool that admits the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolProvider>,

    /// Load balancers are created in AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsProvider>,

    /// Load balancers are created in Google Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpProvider>,
}

/// Addresses from AddressPools.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PoolProvider {
    /// Names of the AddressPools that Services of this class may use; without any every pool may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pool_names")]
    pub address_pools: Vec<String>,
}

/// Load balancers in AWS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AwsProvider {
    /// The region, for example eu-central-1; without it the one that the controller runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]+(-[a-z]+)+-[0-9]+$')")
        .message("write an AWS region, for example eu-central-1"))]
    pub region: Option<String>,

    /// Whom load balancers of Services that do not say are for: internal or internet-facing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: AwsScheme,

    /// What load balancers of Services that do not say forward to: instance (nodes, by their nodePort) or ip (pods).
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_type: AwsTargetType,

    /// Annotations in force for every Service of the class that does not set the same one, by full name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,

    /// Tags on everything that is made for the class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::tags")]
    pub tags: BTreeMap<String, String>,

    /// At most so many nodes are targets of one target group; without it as many as AWS's quotas allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000")
        .message("maxTargets must be from 1 to 1000: AWS lets no more targets into a target group"))]
    pub max_targets: Option<u32>,

    /// Ids of the nodes' security groups, which let the load balancers in by two rules that do not change with Services; without any, those of the VPC that are tagged kubernetes.io/cluster/NAME. Pods with security groups of their own need theirs here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::security_groups")]
    pub node_security_groups: Vec<String>,

    /// How many rules fit into one security group; without it 60, which is AWS's quota unless it is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000")
        .message("securityGroupRules must be from 1 to 1000: AWS raises the quota no further"))]
    pub security_group_rules: Option<u32>,

    /// ARNs of load balancers, made by others, that Services of the class may put listeners on by annotation portolan.dev/adopt, as if these had the tag portolan.dev/adoptable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::load_balancers")]
    pub adoptable: Vec<String>,

    /// Whether Services of different namespaces with the same annotation portolan.dev/load-balancer-group share a load balancer; without it a group is one namespace's. A change makes new load balancers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub groups_across_namespaces: bool,
}

/// Whom a load balancer is for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AwsScheme {
    /// The VPC and what is connected to it.
    #[default]
    Internal,
    /// The internet.
    InternetFacing,
}

/// What a load balancer forwards to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AwsTargetType {
    /// Nodes, by their nodePort.
    #[default]
    Instance,
    /// Pods, by their address.
    Ip,
}

/// Load balancers in Google Cloud.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GcpProvider {
    /// The project's id; without it the one that the controller runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$')")
        .message("write a Google Cloud project id: 6 to 30 lower-case letters, digits and dashes"))]
    pub project: Option<String>,

    /// The region, for example europe-west3; without it the one that the controller runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]+-[a-z]+[0-9]+$')")
        .message("write a Google Cloud region, for example europe-west3"))]
    pub region: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What has become of a LoadBalancerClass.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerClassStatus {
    /// The metadata.generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready: whether the class is in use, or why an older class takes its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests;
