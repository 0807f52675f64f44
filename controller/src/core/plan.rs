//! What `portolan plan` shows: for each load balancer that Services ask for, what is wanted and the
//! steps to it, by the code that the controller runs. Nothing here reads or writes anything.

use std::{collections::BTreeMap, sync::Arc};

use aws::{
    desired,
    diff::{Situation, diff},
    input::{Class, Endpoint, Existing, Input, Network, Node},
    seen::Seen,
};
use model::{Reason, Rejection, ServiceKey};

use super::{
    index::{ClassMatch, Index},
    record::{Provider, ServiceRecord, ServiceType},
};

pub mod manifests;
pub mod network;
pub mod offline;
pub mod report;
mod text;

use report::{Planned, Rejected, Skipped};

/// Of the instances in a target group at most so many in a hundred are taken away at once.
pub const REMOVED_PERCENT: u8 = 50;

/// Services by the load balancer that they ask for.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Who asks for each, oldest first, by [`aws::desired::stack`].
    pub stacks: BTreeMap<String, Vec<Member>>,
    /// Whose wish cannot be read.
    pub rejected: Vec<Rejected>,
    /// Who asks for none in AWS.
    pub skipped: Vec<Skipped>,
}

/// A Service and its class.
#[derive(Clone, Debug)]
pub struct Member {
    /// The Service.
    pub record: Arc<ServiceRecord>,
    /// Its class, with the cluster's name.
    pub class: Class,
}

/// Sorts every Service of `index`.
pub fn sort(index: &Index, cluster: &str) -> Sorted {
    let mut sorted = Sorted::default();
    for record in index.services() {
        match place(index, record, cluster) {
            Ok(Ok((stack, class))) => sorted.stacks.entry(stack).or_default().push(Member {
                record: Arc::clone(record),
                class,
            }),
            Ok(Err(rejection)) => sorted.rejected.push(Rejected::of(&record.key, rejection)),
            Err(why) => sorted.skipped.push(Skipped {
                service: record.key.to_string(),
                why,
            }),
        }
    }
    for members in sorted.stacks.values_mut() {
        members.sort_by(|a, b| {
            let age = |member: &Member| (member.record.created, member.record.key.clone());
            age(a).cmp(&age(b))
        });
    }
    sorted
}

/// The stack of a Service, or why its wish cannot be read; `Err`: why it has none.
fn place(
    index: &Index,
    record: &ServiceRecord,
    cluster: &str,
) -> Result<Result<(String, Class), Rejection>, String> {
    if record.deleting {
        return Err("it is being deleted".to_owned());
    }
    match record.service_type {
        ServiceType::LoadBalancer => {}
        ServiceType::ClusterIp => return Err("it is of type ClusterIP".to_owned()),
        ServiceType::NodePort => return Err("it is of type NodePort".to_owned()),
        ServiceType::ExternalName => return Err("it is of type ExternalName".to_owned()),
    }
    let class = match index.class_of(record) {
        ClassMatch::Ours(class) => class,
        ClassMatch::Gone => {
            return Err(match &record.class {
                Some(name) => format!("no LoadBalancerClass has the className {name} it asks for"),
                None => "it has no spec.loadBalancerClass and no LoadBalancerClass is the default"
                    .to_owned(),
            });
        }
    };
    let other = |what: &str| format!("its LoadBalancerClass {} is for {what}", class.name);
    let class = match &class.provider {
        Provider::Aws(class) => Class {
            cluster: cluster.to_owned(),
            ..Class::clone(class)
        },
        Provider::Pool(_) => return Err(other("addresses from pools")),
        Provider::Gcp => return Err(other("Google Cloud")),
    };
    if let Err(rejection) = &record.request {
        return Ok(Err(rejection.clone()));
    }
    let Some(service) = &record.cloud else {
        return Err("nothing of it is a cloud's business".to_owned());
    };
    Ok(desired::stack(service, &class).map(|stack| (stack, class)))
}

/// What one load balancer is planned with.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Every node.
    pub nodes: &'a [Node],
    /// Endpoints of each Service.
    pub endpoints: &'a BTreeMap<ServiceKey, Vec<Endpoint>>,
    /// The VPC.
    pub network: &'a Network,
    /// What is there, somebody else's load balancer that is to be adopted included.
    pub seen: &'a Seen,
    /// What of our own is there, as far as it decides defaults.
    pub existing: Option<&'a Existing>,
    /// Unix seconds.
    pub now: i64,
}

/// What is wanted for `members`, oldest first, and the steps to it; and who of them gets nothing of
/// it.
///
/// # Errors
/// No load balancer can be had.
pub fn stack(members: &[Member], facts: Facts<'_>) -> Result<(Planned, Vec<Rejected>), Rejection> {
    let Some(class) = members.first().map(|oldest| &oldest.class) else {
        return Err(Rejection::invalid(
            "a load balancer needs at least one Service",
        ));
    };
    let services = members
        .iter()
        .filter_map(|member| member.record.cloud.as_deref());
    let services: Vec<aws::input::Service> = services.cloned().collect();
    let input = Input {
        class,
        services: &services,
        nodes: facts.nodes,
        endpoints: facts.endpoints,
        network: facts.network,
        existing: facts.existing,
    };
    let wanted = aws::desired(&input)?;
    let subnets = desired::subnet_verdicts(&input)?;
    let mut shown = members
        .iter()
        .filter_map(|member| member.record.shown_hostname());
    let plan = diff(Situation {
        wanted: &wanted,
        seen: facts.seen,
        shown: shown.next().map(|name| &**name),
        now: facts.now,
        removed_percent: REMOVED_PERCENT,
    });
    let keys = members.iter().map(|member| &member.record.key);
    let rejected = left_out(keys.clone(), &wanted);
    let planned = Planned {
        stack: wanted.stack.clone(),
        services: keys.map(ToString::to_string).collect(),
        class: Some(class.name.clone()),
        there: report::resources(facts.seen),
        subnets,
        effect: plan.effect(),
        warnings: wanted
            .warnings
            .iter()
            .chain(&plan.warnings)
            .cloned()
            .collect(),
        wanted: Some(wanted),
        steps: plan.steps,
        shows: plan.show,
    };
    Ok((planned, rejected))
}

/// Services of a group that have no port on the load balancer. Why is among its warnings.
fn left_out<'a>(
    keys: impl Iterator<Item = &'a ServiceKey>,
    wanted: &aws::wanted::Wanted,
) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    for key in keys {
        let prefix = format!("{key}:");
        if (wanted.target_groups.keys()).any(|group| group.starts_with(&prefix)) {
            continue;
        }
        let own = format!("Service {key}");
        let of_it = wanted.warnings.iter().filter_map(|warning| {
            let rest = warning.strip_prefix(&own)?;
            rest.starts_with([' ', ':'])
                .then(|| rest.trim_start_matches([' ', ':']))
        });
        rejected.push(Rejected {
            service: key.to_string(),
            reason: Reason::ConflictingRequest,
            message: of_it.collect::<Vec<_>>().join("; "),
        });
    }
    rejected
}
