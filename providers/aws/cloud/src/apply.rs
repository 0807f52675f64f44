//! Carrying out a plan, one step after another. It decides nothing: what AWS refuses ends the run,
//! and the next plan is made from what is seen then.
//!
//! Why each step is harmless when it is done twice, by us or by another replica:
//!
//! * Modify, Set, AddTags and listener certificates say what should be, not what should change.
//! * Register: a target that is registered stays so. Deregister: one that is not is no error.
//! * Create: names are unique in AWS, as are a listener's port and a security group's rules. What is
//!   found there is taken for ours if its tags say so, and made like the plan wants it. That also
//!   holds for a load balancer that AWS says it has made: it may be an equal one that was there.
//! * Delete and Revoke: what is not there is gone. RemoveTags: so is a key.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cloud, Error, account::Change};
use aws::{
    plan::{Action, Plan, Ref, Wait},
    seen, tags,
    wanted::{Tags, Target},
};

mod balancers;
mod groups;
mod listeners;
mod tagging;

/// What the steps of one plan have made, and whom they could not register.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Made {
    /// The load balancer.
    pub load_balancer: Option<seen::LoadBalancer>,
    /// The id of the security group.
    pub security_group: Option<String>,
    /// ARNs of target groups, by their key in the wanted state.
    pub target_groups: BTreeMap<String, String>,
    /// ARNs of listeners, by port.
    pub listeners: BTreeMap<u16, String>,
    /// Targets that AWS did not take (an instance that stops), and why; the others of the same
    /// step are registered.
    pub refused: BTreeMap<Target, String>,
}

/// How far a plan has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// To its end.
    Done,
    /// To a wait; what is behind it is planned anew once it is over.
    Waiting {
        /// Index of the step.
        step: usize,
        /// For what; a made load balancer or target group by its ARN.
        until: Wait,
    },
}

impl Cloud {
    /// Carries out `plan` until its end, its first wait, or a refusal: then with the index of the
    /// step. `made` starts empty and tells what there is also after a refusal.
    ///
    /// # Errors
    /// What AWS refused. The steps before have been carried out.
    pub async fn apply(&self, plan: &Plan, made: &mut Made) -> Result<Progress, (usize, Error)> {
        for (step, todo) in plan.steps.iter().enumerate() {
            if let Action::Wait { until } = &todo.action {
                let until = made.wait(until).map_err(|error| (step, error))?;
                return Ok(Progress::Waiting { step, until });
            }
            self.carry_out(&todo.action, made)
                .await
                .map_err(|error| (step, error))?;
        }
        Ok(Progress::Done)
    }

    async fn carry_out(&self, action: &Action, made: &mut Made) -> Result<(), Error> {
        match action {
            Action::CreateSecurityGroup { vpc, group } => {
                made.security_group = Some(self.create_security_group(vpc, group).await?);
                Ok(())
            }
            Action::AuthorizeSecurityGroupIngress { group, rules } => {
                self.authorize(made.security_group(group)?, rules).await
            }
            Action::RevokeSecurityGroupIngress { group, rules } => {
                self.revoke(made.security_group(group)?, rules).await
            }
            Action::DeleteSecurityGroup { group } => {
                self.delete_security_group(made.security_group(group)?)
                    .await
            }
            Action::CreateTargetGroup { key, target_group } => {
                let arn = self.create_target_group(target_group).await?;
                made.target_groups.insert(key.clone(), arn);
                Ok(())
            }
            Action::ModifyTargetGroup {
                target_group,
                health_check,
            } => {
                self.modify_target_group(made.target_group(target_group)?, health_check)
                    .await
            }
            Action::ModifyTargetGroupAttributes {
                target_group,
                attributes,
            } => {
                self.modify_target_group_attributes(made.target_group(target_group)?, attributes)
                    .await
            }
            Action::RegisterTargets {
                target_group,
                targets,
            } => {
                let arn = made.target_group(target_group)?;
                let refused = self.register(arn, targets).await?;
                made.refused.extend(refused);
                Ok(())
            }
            Action::DeregisterTargets {
                target_group,
                targets,
            } => {
                self.deregister(made.target_group(target_group)?, targets)
                    .await
            }
            Action::DeleteTargetGroup { target_group } => {
                self.delete_target_group(made.target_group(target_group)?)
                    .await
            }
            Action::CreateLoadBalancer {
                stack: _,
                load_balancer,
                managed,
            } => {
                let mut groups = load_balancer.security_groups.clone();
                if let Some(managed) = managed {
                    groups.push(made.security_group(managed)?.to_owned());
                }
                let new = self.create_load_balancer(load_balancer, groups).await?;
                made.load_balancer = Some(new);
                Ok(())
            }
            Action::SetSubnets {
                load_balancer,
                subnets,
                ipv6_source_nat,
            } => {
                self.set_subnets(
                    made.load_balancer(load_balancer)?,
                    subnets,
                    *ipv6_source_nat,
                )
                .await
            }
            Action::SetSecurityGroups {
                load_balancer,
                groups,
                enforce_rules_on_private_link,
            } => {
                let groups = groups.iter().map(|group| made.security_group(group));
                let groups: Vec<String> = groups
                    .map(|group| group.map(str::to_owned))
                    .collect::<Result<_, _>>()?;
                let arn = made.load_balancer(load_balancer)?;
                self.set_security_groups(arn, groups, *enforce_rules_on_private_link)
                    .await
            }
            Action::SetIpAddressType {
                load_balancer,
                ip_address_type,
            } => {
                self.set_ip_address_type(made.load_balancer(load_balancer)?, *ip_address_type)
                    .await
            }
            Action::ModifyLoadBalancerAttributes {
                load_balancer,
                attributes,
            } => {
                self.modify_load_balancer_attributes(made.load_balancer(load_balancer)?, attributes)
                    .await
            }
            Action::DeleteLoadBalancer { load_balancer } => {
                self.delete_load_balancer(made.load_balancer(load_balancer)?)
                    .await
            }
            Action::CreateListener {
                load_balancer,
                port,
                listener,
                forward,
                tags,
            } => {
                let new = listeners::New {
                    load_balancer: made.load_balancer(load_balancer)?,
                    port: *port,
                    listener,
                    forward: made.forward(forward)?,
                };
                let arn = self.create_listener(&new, tags).await?;
                made.listeners.insert(*port, arn);
                Ok(())
            }
            Action::ModifyListener {
                arn,
                port,
                listener,
                forward,
            } => {
                let forward = made.forward(forward)?;
                self.modify_listener(arn, *port, listener, &forward).await
            }
            Action::ModifyListenerAttributes {
                listener,
                attributes,
            } => {
                self.modify_listener_attributes(made.listener(listener)?, attributes)
                    .await
            }
            Action::AddListenerCertificates {
                listener,
                certificates,
            } => {
                self.add_certificates(made.listener(listener)?, certificates)
                    .await
            }
            Action::RemoveListenerCertificates {
                listener,
                certificates,
            } => {
                self.remove_certificates(made.listener(listener)?, certificates)
                    .await
            }
            Action::DeleteListener { arn, port: _ } => self.delete_listener(arn).await,
            Action::AddTags { resources, tags } => self.add_tags(&made.any(resources)?, tags).await,
            Action::RemoveTags { resources, keys } => {
                self.remove_tags(&made.any(resources)?, keys).await
            }
            // `apply` has returned before.
            Action::Wait { until: _ } => Ok(()),
        }
    }

    /// What a resource that was found under a name of ours must say to be taken.
    fn same_stack(&self, found: &Tags, wanted: &Tags) -> bool {
        let cluster = self.cluster();
        tags::stack(found, cluster).is_some_and(|found| tags::stack(wanted, cluster) == Some(found))
    }

    /// Deletes: not there is as good as gone.
    fn gone(&self, arn: &str, answer: Result<(), Error>) -> Result<(), Error> {
        match answer {
            Ok(()) | Err(Error::NotFound { .. }) => {
                self.note(Change::Gone(arn.to_owned()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The plan calls load balancer and security group of a stack by one key: what is meant shows from
/// where it is used.
impl Made {
    fn load_balancer<'a>(&'a self, at: &'a Ref) -> Result<&'a str, Error> {
        match at {
            Ref::There(arn) => Ok(arn),
            Ref::Made(key) => {
                let made = self.load_balancer.as_ref();
                made.map(|made| made.arn.as_str())
                    .ok_or_else(|| never_made("load balancer", key))
            }
        }
    }

    fn security_group<'a>(&'a self, at: &'a Ref) -> Result<&'a str, Error> {
        match at {
            Ref::There(id) => Ok(id),
            Ref::Made(key) => {
                let made = self.security_group.as_deref();
                made.ok_or_else(|| never_made("security group", key))
            }
        }
    }

    fn target_group<'a>(&'a self, at: &'a Ref) -> Result<&'a str, Error> {
        match at {
            Ref::There(arn) => Ok(arn),
            Ref::Made(key) => {
                let made = self.target_groups.get(key).map(String::as_str);
                made.ok_or_else(|| never_made("target group", key))
            }
        }
    }

    fn listener<'a>(&'a self, at: &'a Ref) -> Result<&'a str, Error> {
        match at {
            Ref::There(arn) => Ok(arn),
            Ref::Made(key) => {
                let port = key.parse::<u16>().ok();
                let made = port.and_then(|port| self.listeners.get(&port));
                made.map(String::as_str)
                    .ok_or_else(|| never_made("listener", key))
            }
        }
    }

    /// What tags are put on: target groups have keys of their own, ports are numbers, and what is
    /// left is the stack's load balancer, or its security group when that alone was made.
    fn any(&self, at: &[Ref]) -> Result<Vec<String>, Error> {
        let one = |at: &Ref| {
            self.target_group(at)
                .or_else(|_| self.listener(at))
                .or_else(|_| self.load_balancer(at))
                .or_else(|_| self.security_group(at))
                .map(str::to_owned)
        };
        at.iter().map(one).collect()
    }

    fn forward(&self, to: &[aws::plan::Forward]) -> Result<BTreeMap<String, u32>, Error> {
        to.iter()
            .map(|to| {
                let arn = self.target_group(&to.target_group)?;
                Ok((arn.to_owned(), to.weight))
            })
            .collect()
    }

    /// The same wait with ARNs, so that whoever waits need not know what was made.
    ///
    /// # Errors
    /// It is for something that no step has made.
    pub fn wait(&self, until: &Wait) -> Result<Wait, Error> {
        let load_balancer = |at| Ok(Ref::There(self.load_balancer(at)?.to_owned()));
        let target_group = |at| Ok(Ref::There(self.target_group(at)?.to_owned()));
        Ok(match until {
            Wait::Active { load_balancer: at } => Wait::Active {
                load_balancer: load_balancer(at)?,
            },
            Wait::Forgotten { load_balancer: at } => Wait::Forgotten {
                load_balancer: load_balancer(at)?,
            },
            Wait::Healthy { target_group: at } => Wait::Healthy {
                target_group: target_group(at)?,
            },
            Wait::Drained { target_group: at } => Wait::Drained {
                target_group: target_group(at)?,
            },
        })
    }
}

fn never_made(kind: &str, key: &str) -> Error {
    Error::Invalid {
        message: format!("the plan names the {kind} {key}, which none of its steps has made"),
    }
}

/// What AWS must tell and has not.
fn no_arn(what: &str) -> Error {
    Error::Unavailable {
        message: format!("AWS has made {what} and does not say what it is called"),
    }
}

fn keys(forward: &BTreeMap<String, u32>) -> BTreeSet<String> {
    forward.keys().cloned().collect()
}
