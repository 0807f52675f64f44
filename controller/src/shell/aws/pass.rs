//! One pass over one load balancer: what is wanted, what is seen, the steps between them, and what to
//! tell each Service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws::{
    Rejection,
    cloud::{Cloud, Depth, Error, Made, Purpose},
    diff::{OnDelete, Situation, diff, retarget, teardown},
    fingerprint::{Applied, applied},
    input::{Class, Endpoint, Existing, Input, Node, Service},
    plan::{Plan, Ref, Wait},
    seen::Seen,
    wanted::Wanted,
};
use model::{Reason, ServiceKey};

use super::stacks::Job;
use crate::{core::cloud::State, shell::Order};

/// Something outside keeps a load balancer from going: looked at again after so long.
const BLOCKED: Duration = Duration::from_secs(60);

/// Where load balancers are made.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) cluster: String,
    pub(super) vpc: String,
    pub(super) removed_percent: u8,
    pub(super) poll_interval: Duration,
}

/// What a pass looks at besides its Services.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) nodes: Arc<[Node]>,
    pub(super) endpoints: BTreeMap<ServiceKey, Vec<Endpoint>>,
    /// Unix seconds.
    pub(super) now: i64,
    /// Look closely although nothing has changed.
    pub(super) verify: bool,
}

/// What one Service is told.
type Told = (Order, State, Reason, String);

/// How a pass ended.
#[derive(Debug)]
pub(super) enum Done {
    /// It came to its end, or to a wait: then it is to be made again.
    Through {
        told: Vec<Told>,
        again: Option<Duration>,
    },
    /// AWS refused something, or did not answer.
    Failed { reason: Reason, message: String },
    /// This process does not lead any more.
    Dropped,
}

/// Does one.
pub(super) async fn pass(cloud: &Cloud, place: &Place, job: &Job, facts: &Facts) -> Done {
    let attempt = Attempt {
        cloud,
        place,
        job,
        facts,
        purpose: match facts.verify {
            true => Purpose::Verify,
            false => Purpose::Change,
        },
    };
    let done = match job.members.is_empty() {
        true => attempt.leave().await,
        false => attempt.serve().await,
    };
    done.unwrap_or_else(|error| failed(&error, job.members.is_empty()))
}

fn failed(error: &Error, leaving: bool) -> Done {
    let reason = match error {
        Error::Denied { .. } => Reason::AccessDenied,
        Error::Quota { .. } => Reason::QuotaExceeded,
        Error::InUse { .. } | Error::Dependency { .. } if leaving => Reason::DeletionBlocked,
        Error::InUse { .. }
        | Error::Dependency { .. }
        | Error::Throttled { .. }
        | Error::NotFound { .. }
        | Error::Duplicate { .. }
        | Error::Invalid { .. }
        | Error::Unavailable { .. } => Reason::ProviderError,
    };
    Done::Failed {
        reason,
        message: error.to_string(),
    }
}

struct Attempt<'a> {
    cloud: &'a Cloud,
    place: &'a Place,
    job: &'a Job,
    facts: &'a Facts,
    purpose: Purpose,
}

impl Attempt<'_> {
    /// Nobody wants it any longer.
    async fn leave(&self) -> Result<Done, Error> {
        let mut seen = self
            .cloud
            .seen(&self.place.cluster, &self.job.stack)
            .await?;
        let retain = self.job.leaving.iter().any(|order| {
            let annotations = &order.request.service.annotations;
            annotations
                .get(aws::annotations::ON_DELETE)
                .is_some_and(|on| on == "retain")
        });
        let on_delete = match retain {
            true => OnDelete::Retain,
            false => OnDelete::Delete,
        };
        if on_delete == OnDelete::Delete {
            self.cloud
                .look(&mut seen, Depth::Full, self.purpose)
                .await?;
        }
        let plan = teardown(&seen, None, on_delete);
        self.cloud.apply(&plan, &mut Made::default()).await?;
        let (state, reason, message, again) = if let Some(blocked) = plan.warnings.first() {
            (
                State::Waiting,
                Reason::DeletionBlocked,
                blocked.clone(),
                Some(BLOCKED),
            )
        } else if plan.waits().next().is_some() {
            let waits = waits(&plan, &seen);
            (
                State::Waiting,
                Reason::Provisioning,
                waits,
                Some(self.place.poll_interval),
            )
        } else {
            (
                State::Gone,
                Reason::Ready,
                "nothing of it is left".to_owned(),
                None,
            )
        };
        let tell = |order: &Order| (order.clone(), state.clone(), reason, message.clone());
        Ok(Done::Through {
            told: self.job.leaving.iter().map(tell).collect(),
            again,
        })
    }

    async fn serve(&self) -> Result<Done, Error> {
        let network = self
            .cloud
            .network(&self.place.vpc, &self.place.cluster)
            .await?;
        let mut seen = self
            .cloud
            .seen(&self.place.cluster, &self.job.stack)
            .await?;
        let wanted = match self.wanted(&network, &seen) {
            Ok(wanted) => wanted,
            Err(rejection) => return Ok(self.rejected(&rejection)),
        };
        let shown = self
            .job
            .members
            .iter()
            .find_map(|order| order.request.shown.clone());
        let carried_out = applied(&wanted, &seen);
        if carried_out == Applied::All && !self.facts.verify {
            let name = seen
                .load_balancers
                .first()
                .map(|there| there.dns_name.clone());
            return Ok(self.through(&wanted, name, &Plan::default(), &seen));
        }
        let short = carried_out == Applied::AllButTargets && !self.facts.verify;
        let depth = match short {
            true => Depth::Targets,
            false => Depth::Full,
        };
        self.cloud.look(&mut seen, depth, self.purpose).await?;
        let situation = Situation {
            wanted: &wanted,
            seen: &seen,
            shown: shown.as_deref(),
            now: self.facts.now,
            removed_percent: self.place.removed_percent,
        };
        let plan = match short {
            true => retarget(situation),
            false => diff(situation),
        };
        for step in plan
            .steps
            .iter()
            .filter(|step| step.effect > aws::plan::Effect::None)
        {
            tracing::info!(stack = self.job.stack, effect = ?step.effect, action = step.action.name(), "changing a load balancer");
        }
        let mut made = Made::default();
        self.cloud.apply(&plan, &mut made).await?;
        let name = match &plan.show {
            Some(Ref::There(arn)) => (seen.load_balancers.iter())
                .find(|there| there.arn == *arn)
                .map(|there| there.dns_name.clone()),
            Some(Ref::Made(_)) => made.dns_name(),
            None => None,
        };
        Ok(self.through(&wanted, name, &plan, &seen))
    }

    fn wanted(&self, network: &aws::input::Network, seen: &Seen) -> Result<Wanted, Rejection> {
        let first = self
            .job
            .members
            .first()
            .and_then(|order| order.request.wanted.as_ref());
        let Some(first) = first else {
            return Err(Rejection {
                reason: Reason::ProviderError,
                message: "no Service wants it".to_owned(),
            });
        };
        let class = Class {
            cluster: self.place.cluster.clone(),
            ..Class::clone(&first.class)
        };
        if let Some(region) = class
            .region
            .as_deref()
            .filter(|own| *own != self.cloud.region())
        {
            return Err(Rejection {
                reason: Reason::ProviderUnavailable,
                message: format!(
                    "LoadBalancerClass {} asks for spec.aws.region {region}, but this controller \
                     works in {}: leave the region out, or run a controller there",
                    class.name,
                    self.cloud.region()
                ),
            });
        }
        let services: Vec<Service> = (self.job.members.iter())
            .map(|order| Service::clone(&order.request.service))
            .collect();
        let existing = seen.load_balancers.first().map(|there| Existing {
            scheme: there.scheme,
            subnets: there
                .subnets
                .iter()
                .map(|mapping| mapping.subnet.clone())
                .collect(),
            has_security_groups: !there.security_groups.is_empty(),
        });
        aws::desired(&Input {
            class: &class,
            services: &services,
            nodes: &self.facts.nodes,
            endpoints: &self.facts.endpoints,
            network,
            existing: existing.as_ref(),
        })
    }

    /// Nothing is changed; who leaves has to wait.
    fn rejected(&self, rejection: &Rejection) -> Done {
        let all = self.job.members.iter().chain(&self.job.leaving);
        let tell = |order: &Order| {
            (
                order.clone(),
                State::Waiting,
                rejection.reason,
                rejection.message.clone(),
            )
        };
        Done::Through {
            told: all.map(tell).collect(),
            again: None,
        }
    }

    fn through(&self, wanted: &Wanted, name: Option<String>, plan: &Plan, seen: &Seen) -> Done {
        let waiting = plan.waits().next().is_some();
        let warnings: Vec<&str> = (wanted.warnings.iter().chain(&plan.warnings))
            .map(String::as_str)
            .collect();
        let mut told: Vec<Told> = Vec::new();
        for order in &self.job.members {
            let prefix = format!("{}:", order.request.key);
            let mut groups = wanted.target_groups.keys();
            let serves = groups.any(|key| key.starts_with(&prefix));
            let state = match &name {
                Some(name) if serves => State::Serving(name.to_lowercase().into()),
                Some(_) | None => State::Waiting,
            };
            let (reason, message) = match (serves, waiting) {
                (false, _) => (Reason::ConflictingRequest, warnings.join("; ")),
                (true, true) => (Reason::Provisioning, waits(plan, seen)),
                (true, false) => (Reason::Ready, ready(wanted, &warnings)),
            };
            told.push((order.clone(), state, reason, message));
        }
        for order in &self.job.leaving {
            let (state, reason, message) = match waiting {
                true => (State::Waiting, Reason::Provisioning, waits(plan, seen)),
                false => (
                    State::Gone,
                    Reason::Ready,
                    "nothing of it is left".to_owned(),
                ),
            };
            told.push((order.clone(), state, reason, message));
        }
        Done::Through {
            told,
            again: waiting.then_some(self.place.poll_interval),
        }
    }
}

/// `k8s-shop-web-0123456789: TCP 80, TLS 443`, and what a user should know.
fn ready(wanted: &Wanted, warnings: &[&str]) -> String {
    let listeners = wanted.listeners.iter();
    let listeners: Vec<String> = listeners
        .map(|(port, listener)| format!("{} {port}", listener.protocol))
        .collect();
    let mut text = format!("{}: {}", wanted.load_balancer.name, listeners.join(", "));
    for warning in warnings {
        text.push_str("; ");
        text.push_str(warning);
    }
    text
}

/// What a plan waits for, in words.
fn waits(plan: &Plan, seen: &Seen) -> String {
    let name = |at: &Ref| match at {
        Ref::There(arn) => {
            let load_balancers = seen.load_balancers.iter().map(|lb| (&lb.arn, &lb.name));
            let groups = seen
                .target_groups
                .iter()
                .map(|group| (&group.arn, &group.name));
            let mut names = load_balancers.chain(groups);
            names
                .find(|(known, _)| *known == arn)
                .map_or_else(|| arn.clone(), |(_, name)| name.clone())
        }
        Ref::Made(key) => key.clone(),
    };
    let mut words: Vec<String> = Vec::new();
    for wait in plan.waits() {
        words.push(match wait {
            Wait::Active { load_balancer } => {
                format!("load balancer {} to become active", name(load_balancer))
            }
            Wait::Healthy { target_group } => {
                format!("a healthy target in {}", name(target_group))
            }
            Wait::Drained { target_group } => {
                format!("the targets of {} to drain", name(target_group))
            }
            Wait::Forgotten { load_balancer } => {
                format!("clients to forget the name of {}", name(load_balancer))
            }
        });
    }
    format!("waits for {}", words.join(", "))
}
