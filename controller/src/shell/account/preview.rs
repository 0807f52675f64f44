//! `portolan plan svc/NAME`: what the controller would do next for a Service, from the cluster and
//! the account as they are.

use std::time::Duration;

use aws::{
    annotations,
    desired::is_retained,
    diff::{OnDelete, teardown},
};
use aws_cloud::{Cloud, Depth};
use kube::Client;
use model::{Reason, Rejection, ServiceKey};

use super::{Error, all_nodes, endpoints, index};
use crate::core::{
    index::{ClassMatch, Index},
    plan::{
        self, Facts, Member,
        report::{self, Planned, Rejected, Report, Skipped},
        sort,
    },
    record::{Provider, ServiceRecord, ServiceType},
};

/// Plans the load balancer of one Service, with all that share it.
///
/// # Errors
/// What cannot be read.
pub async fn preview(
    client: &Client,
    cloud: &Cloud,
    key: &ServiceKey,
    now: i64,
) -> Result<Report, Error> {
    let index = index(client, Some(&key.namespace)).await?;
    let record = index
        .service(key)
        .ok_or_else(|| Error::NoService(key.clone()))?;
    let mut report = Report {
        cluster: cloud.cluster().to_owned(),
        ..Report::default()
    };
    let mut sorted = sort(&index, cloud.cluster());
    let own = sorted
        .stacks
        .iter()
        .find(|(_, members)| members.iter().any(|member| member.record.key == *key));
    let name = key.to_string();
    if let Some((stack, members)) = own {
        serve(client, cloud, (stack, members), now, &mut report).await?;
    } else if let Some(found) = sorted.rejected.iter().position(|each| each.service == name) {
        report.rejected.push(sorted.rejected.swap_remove(found));
    } else if let Some(stack) = left(&index, record) {
        match sorted.stacks.get(&stack) {
            // The others stay.
            Some(members) => serve(client, cloud, (&stack, members), now, &mut report).await?,
            None => leave(cloud, &stack, record, &mut report).await?,
        }
    } else {
        report.skipped.extend(
            sorted
                .skipped
                .into_iter()
                .filter(|each| each.service == name),
        );
    }
    Ok(report)
}

async fn serve(
    client: &Client,
    cloud: &Cloud,
    (stack, members): (&str, &[Member]),
    now: i64,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(oldest) = members.first() else {
        return Ok(());
    };
    let refuse = |rejection: &Rejection, report: &mut Report| {
        let each = members.iter().map(|member| &member.record.key);
        let each = each.map(|key| Rejected::of(key, rejection.clone()));
        report.rejected.extend(each);
    };
    let class = &oldest.class;
    let here = cloud.region();
    if let Some(region) = class.region.as_deref().filter(|region| *region != here) {
        let rejection = Rejection {
            reason: Reason::ProviderUnavailable,
            message: format!(
                "LoadBalancerClass {} asks for spec.aws.region {region}, but this is {here}: give \
                 --aws-region",
                class.name
            ),
        };
        refuse(&rejection, report);
        return Ok(());
    }
    let network = cloud
        .network(cloud.vpc(), &class.node_security_groups)
        .await?;
    let mut seen = cloud.account(Duration::ZERO).await?.seen(stack);
    let existing = plan::existing(&seen);
    let request = oldest.record.cloud.as_deref();
    let request = request.and_then(|service| annotations::request(service, class).ok());
    let adopt = request.and_then(|request| request.adopt);
    cloud.find_foreign(&mut seen, adopt.as_deref()).await?;
    let mut foreign = seen.foreign.iter();
    if let Some(there) = foreign.find(|there| Some(&there.arn) == adopt.as_ref())
        && let Err(rejection) = aws::adoption::adoptable(class, stack, there)
    {
        refuse(&rejection, report);
        return Ok(());
    }
    cloud.look(&mut seen, Depth::ListenerAttributes).await?;
    let facts = Facts {
        nodes: &all_nodes(client).await?,
        endpoints: &endpoints(client, &oldest.record.key.namespace).await?,
        network: &network,
        seen: &seen,
        existing: existing.as_ref(),
        now,
    };
    match plan::stack(members, facts) {
        Ok((planned, rejected)) => {
            report.load_balancers.push(planned);
            report.rejected.extend(rejected);
        }
        Err(rejection) => refuse(&rejection, report),
    }
    Ok(())
}

/// The stack that a Service leaves, as far as its annotations and its class tell; `None`: it is not
/// leaving, or nothing of ours was made for it.
fn left(index: &Index, record: &ServiceRecord) -> Option<String> {
    if !record.has_finalizer() {
        return None;
    }
    let class = match (record.service_type, index.class_of(record)) {
        (ServiceType::LoadBalancer, ClassMatch::Ours(class)) => Some(&class.provider),
        (ServiceType::LoadBalancer, ClassMatch::Gone) if !record.deleting => return None,
        (
            ServiceType::LoadBalancer
            | ServiceType::ClusterIp
            | ServiceType::NodePort
            | ServiceType::ExternalName,
            _,
        ) => None,
    };
    let service = record.cloud.as_deref()?;
    let named = match class {
        Some(Provider::Aws(class)) => aws::desired::stack(service, class).ok(),
        Some(Provider::Pool(_) | Provider::Gcp) | None => {
            let group = service.annotations.get(annotations::GROUP);
            group.map(|group| format!("{}/group:{}", record.key.namespace, group.trim()))
        }
    };
    Some(named.unwrap_or_else(|| record.key.to_string()))
}

/// Nobody wants it any longer.
async fn leave(
    cloud: &Cloud,
    stack: &str,
    record: &ServiceRecord,
    report: &mut Report,
) -> Result<(), Error> {
    let mut seen = cloud.account(Duration::ZERO).await?.seen(stack);
    let there = report::resources(&seen);
    let service = record.cloud.as_deref();
    let named = service.and_then(|service| service.annotations.get(annotations::ADOPT));
    let named = named.map(|arn| arn.trim());
    cloud.find_foreign(&mut seen, named).await?;
    let retained = (record.cloud.as_deref()).is_some_and(|service| is_retained(service, &seen));
    let on_delete = match retained {
        true => OnDelete::Retain,
        false => OnDelete::Delete,
    };
    cloud.look(&mut seen, Depth::Usual).await?;
    let plan = teardown(&seen, on_delete);
    if there.is_empty() && plan.steps.is_empty() {
        report.skipped.push(Skipped {
            service: record.key.to_string(),
            why: "nothing of it is left in AWS, and nothing is wanted".to_owned(),
        });
        return Ok(());
    }
    report
        .load_balancers
        .push(Planned::teardown(stack, there, plan));
    Ok(())
}
