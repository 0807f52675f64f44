//! What `portolan plan -o json` prints: field names and meanings are API and are described in
//! `docs/plan.md`.

use aws::{
    plan::{Effect, Plan, Ref, Step},
    seen::Seen,
    subnets::Verdict,
    wanted::Wanted,
};
use model::{Reason, Rejection, ServiceKey};
use serde::Serialize;

/// Everything that is printed.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The cluster's name, as tags have it.
    pub cluster: String,
    /// What was not given and is assumed, each a sentence.
    pub assumed: Vec<String>,
    /// By stack.
    pub load_balancers: Vec<Planned>,
    /// Services that ask for something that cannot be had.
    pub rejected: Vec<Rejected>,
    /// Services that no load balancer in AWS is for.
    pub skipped: Vec<Skipped>,
}

/// One load balancer: what is wanted, and the steps to it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// What it is for: `namespace/name`, or `namespace/group:NAME`.
    pub stack: String,
    /// The Services that want it, oldest first; empty when it is to go.
    pub services: Vec<String>,
    /// `metadata.name` of the LoadBalancerClass of the oldest; none when it is to go.
    pub class: Option<String>,
    /// What is there already: ARNs, and the id of the security group.
    pub there: Vec<String>,
    /// What should be; none when it is to go.
    pub wanted: Option<Wanted>,
    /// Why each subnet of the VPC is used or not.
    pub subnets: Vec<Verdict>,
    /// The worst that the steps do to traffic.
    pub effect: Effect,
    /// In order.
    pub steps: Vec<Step>,
    /// The load balancer whose name the Services' status shows after the steps.
    pub shows: Option<Ref>,
    /// What to know and nothing stops for.
    pub warnings: Vec<String>,
}

/// A Service that does not get what it asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// `namespace/name`.
    pub service: String,
    /// As its condition would have it.
    pub reason: Reason,
    /// The field, and what to change.
    pub message: String,
}

/// A Service that is none of AWS's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// `namespace/name`.
    pub service: String,
    /// Why.
    pub why: String,
}

impl Planned {
    /// One that is to go.
    pub fn teardown(stack: &str, there: Vec<String>, plan: Plan) -> Self {
        Self {
            stack: stack.to_owned(),
            services: Vec::new(),
            class: None,
            there,
            wanted: None,
            subnets: Vec::new(),
            effect: plan.effect(),
            steps: plan.steps,
            shows: plan.show,
            warnings: plan.warnings,
        }
    }
}

impl Rejected {
    /// Of one Service.
    pub fn of(service: &ServiceKey, rejection: Rejection) -> Self {
        Self {
            service: service.to_string(),
            reason: rejection.reason,
            message: rejection.message,
        }
    }
}

impl Report {
    /// Whether every Service gets what it asks for.
    pub fn is_clean(&self) -> bool {
        self.rejected.is_empty()
    }

    /// In the order in which it is printed.
    pub(super) fn put_in_order(&mut self) {
        self.load_balancers.sort_by(|a, b| a.stack.cmp(&b.stack));
        self.rejected.sort_by(|a, b| a.service.cmp(&b.service));
        self.skipped.sort_by(|a, b| a.service.cmp(&b.service));
    }
}

/// ARNs, and the id of the security group.
pub fn resources(seen: &Seen) -> Vec<String> {
    let load_balancers = seen.load_balancers.iter().map(|there| &there.arn);
    let groups = seen.target_groups.iter().map(|there| &there.arn);
    let security_group = seen.security_group.iter().map(|there| &there.id);
    load_balancers
        .chain(groups)
        .chain(security_group)
        .cloned()
        .collect()
}
