//! One pass over one load balancer: what is wanted, what is seen, the steps between them, and what to
//! tell each Service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws::{
    Rejection,
    diff::{DNS_GRACE, OnDelete, Situation, diff, retarget, teardown},
    fingerprint::{Applied, applied},
    input::{Class, Endpoint, Existing, Input, Network, Node, Service},
    plan::{Plan, Ref, Wait},
    seen::{self, Health, Seen},
    tags,
    wanted::Wanted,
};
use aws_cloud::{Cloud, Depth, Error, Made};
use model::{Reason, ServiceKey};

use super::{stacks::Job, words};
use crate::{
    core::cloud::{State, Told},
    shell::Order,
};

/// Something outside (protection against deletion, an instance that stops, a network that lacks
/// something) is looked at again after so long.
const OUTSIDE: Duration = Duration::from_secs(60);
/// After a failure the account may be other than it was listed: a snapshot may be so old then. For
/// those that are to leave nothing it must be new: a load balancer whose creation was never
/// answered is only there.
const DOUBTED: Duration = Duration::from_secs(15);

/// How load balancers are looked after.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) removed_percent: u8,
    pub(super) poll_interval: Duration,
    pub(super) resync: Duration,
}

/// What a pass looks at besides its Services.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) nodes: Arc<[Node]>,
    pub(super) endpoints: BTreeMap<ServiceKey, Vec<Endpoint>>,
    /// Unix seconds.
    pub(super) now: i64,
}

/// How a pass ended.
#[derive(Debug)]
pub(super) enum Done {
    /// It came to its end, or to a wait.
    Through(Through),
    /// What the pass before waits for is not there yet.
    Still,
    /// AWS refused something, or did not answer.
    Failed(Error),
    /// This process does not lead any more.
    Dropped,
}

/// How far it came.
#[derive(Debug)]
pub(super) struct Through {
    /// What each Service that wants it is told.
    pub(super) members: Vec<(Order, Told)>,
    /// What those that leave are told; `None`: nothing of them is left here.
    pub(super) leaving: Option<Told>,
    /// What it waits for.
    pub(super) waits: Vec<Wait>,
    /// It is to be made again after so long.
    pub(super) again: Option<Duration>,
    /// What is wanted cannot be had, perhaps because of something that is not there yet.
    pub(super) rejected: bool,
}

/// Does one.
pub(super) async fn pass(cloud: &Cloud, place: &Place, job: &Job, facts: &Facts) -> Done {
    let attempt = Attempt {
        cloud: match job.verify {
            true => cloud.for_verification(),
            false => cloud.clone(),
        },
        place,
        job,
        facts,
    };
    let done = attempt.done().await;
    done.unwrap_or_else(Done::Failed)
}

struct Attempt<'a> {
    cloud: Cloud,
    place: &'a Place,
    job: &'a Job,
    facts: &'a Facts,
}

impl Attempt<'_> {
    async fn done(&self) -> Result<Done, Error> {
        if !self.job.verify && !self.job.waits.is_empty() && !self.any_is_over().await? {
            return Ok(Done::Still);
        }
        match self.job.members.is_empty() {
            true => self.leave().await,
            false => self.serve().await,
        }
        .map(Done::Through)
    }

    /// Whether anything that the pass before waits for has come.
    async fn any_is_over(&self) -> Result<bool, Error> {
        for wait in &self.job.waits {
            let over = match wait {
                Wait::Active {
                    load_balancer: Ref::There(arn),
                } => self.cloud.is_active(arn).await?,
                Wait::Healthy {
                    target_group: Ref::There(arn),
                } => {
                    let health = self.cloud.health(arn).await?;
                    health.values().any(|health| *health == Health::Healthy)
                }
                Wait::Drained {
                    target_group: Ref::There(arn),
                } => {
                    let health = self.cloud.health(arn).await?;
                    !health.values().any(|health| *health == Health::Draining)
                }
                Wait::Forgotten {
                    load_balancer: Ref::There(arn),
                } => self.is_forgotten(arn),
                Wait::Active { .. }
                | Wait::Healthy { .. }
                | Wait::Drained { .. }
                | Wait::Forgotten { .. } => true,
            };
            if over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One that is not marked yet is as soon as a status shows another name: then the Service has
    /// changed, and nothing waits.
    fn is_forgotten(&self, arn: &str) -> bool {
        let Some(account) = self.cloud.snapshot() else {
            return true;
        };
        let seen = account.seen(&self.job.stack);
        let there = seen.load_balancers.iter().find(|there| there.arn == arn);
        there.is_none_or(|there| {
            let since = there.tags.get(tags::RETIRED);
            let since = since.and_then(|text| text.parse::<i64>().ok());
            since.is_some_and(|since| self.facts.now.saturating_sub(since) >= DNS_GRACE)
        })
    }

    async fn seen(&self) -> Result<Seen, Error> {
        let age = match (self.job.failures > 0, self.job.members.is_empty()) {
            (true, true) => Duration::ZERO,
            (true, false) => self.place.resync.min(DOUBTED),
            (false, _) => self.place.resync,
        };
        Ok(self.cloud.account(age).await?.seen(&self.job.stack))
    }

    /// Nobody wants it any longer.
    async fn leave(&self) -> Result<Through, Error> {
        let mut seen = self.seen().await?;
        let services = self.job.leaving.iter().map(|order| &*order.request.service);
        let adopted = services
            .clone()
            .find_map(|service| service.annotations.get(aws::annotations::ADOPT));
        let adopted = adopted.map(|arn| arn.trim());
        self.cloud.find_foreign(&mut seen, adopted).await?;
        let mut services = services;
        let on_delete = match services.any(|service| aws::desired::is_retained(service, &seen)) {
            true => OnDelete::Retain,
            false => OnDelete::Delete,
        };
        self.cloud.look(&mut seen, Depth::Usual).await?;
        let plan = teardown(&seen, on_delete);
        let (made, waits) = self.apply(&plan).await?;
        drop(made);
        let told = match (plan.warnings.first(), waits.is_empty()) {
            (Some(blocked), _) => Some((Reason::DeletionBlocked, blocked.clone())),
            (None, false) => Some((Reason::Provisioning, words::waits(&waits, &seen))),
            (None, true) => None,
        };
        Ok(Through {
            members: vec![],
            again: match (plan.warnings.is_empty(), waits.is_empty()) {
                (false, _) => Some(OUTSIDE),
                (true, false) => Some(self.place.poll_interval),
                (true, true) => None,
            },
            leaving: told.map(|(reason, message)| Told {
                state: State::Waiting,
                reason,
                message,
            }),
            waits,
            rejected: false,
        })
    }

    async fn serve(&self) -> Result<Through, Error> {
        let Some(class) = self.class() else {
            return Ok(self.rejected(&Rejection::invalid("nothing is wanted")));
        };
        if let Some(rejection) = self.other_region(&class) {
            return Ok(self.rejected(&rejection));
        }
        let (network, unadmitted) = self.network(&class).await?;
        let mut seen = self.seen().await?;
        let mut wanted = match self.wanted(&class, &network, &seen) {
            Ok(wanted) => wanted,
            Err(rejection) => return Ok(self.rejected(&rejection)),
        };
        wanted.warnings.extend(unadmitted);
        self.cloud
            .find_foreign(&mut seen, wanted.adopt.as_deref())
            .await?;
        if let Some(arn) = &wanted.adopt
            && let mut all = seen.foreign.iter().chain(&seen.load_balancers)
            && let Some(there) = all.find(|there| there.arn == *arn)
            && let Err(rejection) = aws::adoption::adoptable(&class, &wanted.stack, there)
        {
            return Ok(self.rejected(&rejection));
        }
        let carried_out = applied(&wanted, &seen);
        let mut plan = Plan::default();
        let mut made = Made::default();
        let mut waits = vec![];
        if carried_out != Applied::All || self.job.verify {
            let only_targets = carried_out == Applied::AllButTargets && !self.job.verify;
            let depth = match only_targets {
                true => Depth::Targets,
                false => Depth::ListenerAttributes,
            };
            self.cloud.look(&mut seen, depth).await?;
            let shown = self.shown(&seen);
            let situation = Situation {
                wanted: &wanted,
                seen: &seen,
                shown: shown.as_deref(),
                now: self.facts.now,
                removed_percent: self.place.removed_percent,
            };
            plan = match only_targets {
                true => retarget(situation),
                false => diff(situation),
            };
            (made, waits) = self.apply(&plan).await?;
        }
        let there = match &plan.show {
            Some(Ref::There(arn)) => {
                let mut all = seen.load_balancers.iter().chain(&seen.foreign);
                all.find(|there| there.arn == *arn)
            }
            Some(Ref::Made(_)) => made.load_balancer.as_ref(),
            None if carried_out == Applied::All => seen.load_balancers.first(),
            None => None,
        };
        if let Some(there) = there.filter(|there| !there.active && waits.is_empty()) {
            waits.push(Wait::Active {
                load_balancer: Ref::There(there.arn.clone()),
            });
        }
        Ok(self.through(
            &wanted,
            there,
            waits,
            &self.warnings(&wanted, &plan, &made),
            &seen,
        ))
    }

    /// The VPC, whose nodes let load balancers in where Portolan is to see to that. That it may not
    /// is no reason to have none: somebody else may have seen to it.
    async fn network(&self, class: &Class) -> Result<(Arc<Network>, Option<String>), Error> {
        let (vpc, groups) = (self.cloud.vpc(), &class.node_security_groups);
        let mut services = self.job.members.iter().map(|order| &order.request.service);
        if services.any(|service| aws::nodes::managed(service, class)) {
            match self.cloud.for_changes().admit(vpc, groups).await {
                Ok(network) => return Ok((network, None)),
                Err(error @ (Error::Throttled { .. } | Error::Unavailable { .. })) => {
                    return Err(error);
                }
                Err(
                    error @ (Error::Denied { .. }
                    | Error::Credentials { .. }
                    | Error::Quota { .. }
                    | Error::InUse { .. }
                    | Error::Dependency { .. }
                    | Error::NotFound { .. }
                    | Error::Duplicate { .. }
                    | Error::Invalid { .. }),
                ) => {
                    let warning = format!("the nodes may not let it in: {error}");
                    let network = self.cloud.network(vpc, groups).await?;
                    return Ok((network, Some(warning)));
                }
            }
        }
        Ok((self.cloud.network(vpc, groups).await?, None))
    }

    /// Always as one who changes something: a repair does not wait for the budget of looking.
    async fn apply(&self, plan: &Plan) -> Result<(Made, Vec<Wait>), Error> {
        words::log(&self.job.stack, plan);
        let mut made = Made::default();
        let cloud = self.cloud.for_changes();
        let applied = cloud.apply(plan, &mut made).await;
        applied.map_err(|(_step, error)| error)?;
        let waits = plan.waits().map(|wait| made.wait(wait));
        let waits = waits.collect::<Result<Vec<_>, _>>()?;
        Ok((made, waits))
    }

    /// The name that the status of a Service shows, as AWS writes it: statuses have it in lower case.
    fn shown(&self, seen: &Seen) -> Option<String> {
        let members = self.job.members.iter();
        let shown = members
            .filter_map(|order| order.request.shown.clone())
            .next()?;
        let mut there = seen.load_balancers.iter().chain(&seen.foreign);
        let there = there.find(|there| there.dns_name.eq_ignore_ascii_case(&shown));
        Some(there.map_or_else(|| shown.to_string(), |there| there.dns_name.clone()))
    }

    /// The class of the oldest Service: it decides for all.
    fn class(&self) -> Option<Class> {
        let first = self.job.members.first()?.request.wanted.as_ref()?;
        Some(Class {
            cluster: self.cloud.cluster().to_owned(),
            ..Class::clone(&first.class)
        })
    }

    fn other_region(&self, class: &Class) -> Option<Rejection> {
        let here = self.cloud.region();
        let region = class.region.as_deref().filter(|region| *region != here)?;
        Some(Rejection {
            reason: Reason::ProviderUnavailable,
            message: format!(
                "LoadBalancerClass {} asks for spec.aws.region {region}, but this controller works \
                 in {here}: leave the region out, or run a controller there",
                class.name
            ),
        })
    }

    fn wanted(&self, class: &Class, network: &Network, seen: &Seen) -> Result<Wanted, Rejection> {
        let members = self.job.members.iter();
        let services: Vec<Service> = members
            .map(|order| Service::clone(&order.request.service))
            .collect();
        let existing = seen.load_balancers.first().map(|there| Existing {
            scheme: there.scheme,
            subnets: (there.subnets.iter())
                .map(|mapping| mapping.subnet.clone())
                .collect(),
            has_security_groups: !there.security_groups.is_empty(),
        });
        aws::desired(&Input {
            class,
            services: &services,
            nodes: &self.facts.nodes,
            endpoints: &self.facts.endpoints,
            network,
            existing: existing.as_ref(),
        })
    }

    /// Nothing is changed; who leaves has to wait.
    fn rejected(&self, rejection: &Rejection) -> Through {
        let told = Told::from(rejection);
        let members = self.job.members.iter();
        Through {
            members: members.map(|order| (order.clone(), told.clone())).collect(),
            leaving: Some(told),
            waits: vec![],
            again: Some(OUTSIDE),
            rejected: true,
        }
    }

    fn warnings(&self, wanted: &Wanted, plan: &Plan, made: &Made) -> Vec<String> {
        let refused = made
            .refused
            .iter()
            .map(|(target, why)| format!("AWS does not take target {}: {why}", target.id));
        let warnings = wanted.warnings.iter().chain(&plan.warnings).cloned();
        warnings.chain(refused).collect()
    }

    fn through(
        &self,
        wanted: &Wanted,
        there: Option<&seen::LoadBalancer>,
        waits: Vec<Wait>,
        warnings: &[String],
        seen: &Seen,
    ) -> Through {
        let warnings: Vec<&str> = warnings.iter().map(String::as_str).collect();
        let waiting = (!waits.is_empty()).then(|| words::waits(&waits, seen));
        let told = |order: &Order| {
            let key = &order.request.key;
            let prefix = format!("{key}:");
            let mut groups = wanted.target_groups.keys();
            let serves = groups.any(|key| key.starts_with(&prefix));
            let Some(there) = there.filter(|_| serves) else {
                let own = format!("Service {key} ");
                let (of_it, others): (Vec<&str>, Vec<&str>) = warnings
                    .iter()
                    .copied()
                    .partition(|warning| warning.starts_with(&own));
                let words = if of_it.is_empty() { others } else { of_it };
                return Told {
                    state: State::Waiting,
                    reason: match &waiting {
                        Some(_) if serves => Reason::Provisioning,
                        Some(_) | None => Reason::ConflictingRequest,
                    },
                    message: match (&waiting, words.is_empty()) {
                        (Some(waiting), true) => waiting.clone(),
                        (_, _) => words.join("; "),
                    },
                };
            };
            let (reason, message) = match &waiting {
                Some(waiting) => (Reason::Provisioning, waiting.clone()),
                None => (Reason::Ready, words::ready(&there.name, wanted, &warnings)),
            };
            Told {
                state: State::Serving(there.dns_name.to_lowercase().into()),
                reason,
                message,
            }
        };
        let members = self.job.members.iter();
        Through {
            members: members.map(|order| (order.clone(), told(order))).collect(),
            leaving: waiting.map(|message| Told {
                state: State::Waiting,
                reason: Reason::Provisioning,
                message,
            }),
            again: match (waits.is_empty(), there) {
                (false, _) => Some(self.place.poll_interval),
                (true, None) => Some(OUTSIDE),
                (true, Some(_)) => None,
            },
            waits,
            rejected: false,
        }
    }
}
