//! The closer look at one stack: what no listing tells. Calls per look: for each load balancer one
//! for attributes if it is ours, one for listeners and one for the certificates of each TLS listener; for each
//! target group one for attributes and one for targets; with [`Depth::ListenerAttributes`] one more
//! for each listener that can have any.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::Listener;

use super::{Cloud, Error, Operation, account::Change, convert, listing::pages};
use aws::{
    seen::{self, Health, LoadBalancerDetails, Seen, TargetGroupDetails},
    wanted::{Protocol, Target},
};

/// How close a look is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Only target groups: enough when nothing but targets has changed
    /// ([`aws::diff::retarget`]).
    Targets,
    /// All but the attributes of listeners.
    Usual,
    /// All.
    ListenerAttributes,
}

impl Cloud {
    /// Fills the details of everything in `seen`. What AWS no longer has is taken out of `seen` and
    /// of the snapshot; a load balancer that was not active is asked whether it is now.
    ///
    /// # Errors
    /// What AWS does not give; `seen` is half filled then.
    pub async fn look(&self, seen: &mut Seen, depth: Depth) -> Result<(), Error> {
        match depth {
            Depth::Targets => {}
            Depth::Usual | Depth::ListenerAttributes => {
                let groups = &mut seen.target_groups;
                for (all, ours) in [(&mut seen.load_balancers, true), (&mut seen.foreign, false)] {
                    for mut there in std::mem::take(all) {
                        let looked = self.look_at_load_balancer(&mut there, ours, depth).await;
                        match looked {
                            Ok(()) => {
                                attach(&there, groups);
                                all.push(there);
                            }
                            Err(Error::NotFound { .. }) => self.lost(there.arn, groups),
                            Err(error) => {
                                all.push(there);
                                return Err(error);
                            }
                        }
                    }
                }
            }
        }
        for mut there in std::mem::take(&mut seen.target_groups) {
            match self.look_at_target_group(&there.arn).await {
                Ok(details) => {
                    there.details = Some(details);
                    seen.target_groups.push(there);
                }
                Err(Error::NotFound { .. }) => self.note(Change::Gone(there.arn)),
                Err(error) => {
                    seen.target_groups.push(there);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Puts load balancers of others into `seen`: the one that is to be adopted, and those with
    /// listeners to target groups of the stack. Without such there is no call.
    ///
    /// # Errors
    /// What AWS does not give.
    pub async fn find_foreign(&self, seen: &mut Seen, adopt: Option<&str>) -> Result<(), Error> {
        let users = seen
            .target_groups
            .iter()
            .flat_map(|group| &group.load_balancers);
        let mut arns: BTreeSet<String> = users.cloned().chain(adopt.map(str::to_owned)).collect();
        for known in seen.load_balancers.iter().chain(&seen.foreign) {
            arns.remove(&known.arn);
        }
        for arn in arns {
            match self.load_balancer(&arn).await? {
                Some(there) => seen.foreign.push(there),
                None => self.lost(arn, &mut seen.target_groups),
            }
        }
        Ok(())
    }

    /// A load balancer is not there any more.
    fn lost(&self, arn: String, groups: &mut [seen::TargetGroup]) {
        for group in groups {
            group.load_balancers.remove(&arn);
        }
        self.note(Change::Gone(arn));
    }

    /// The targets of one target group and how they are.
    ///
    /// # Errors
    /// What AWS does not give; [`Error::NotFound`]: the group is gone.
    pub async fn health(&self, target_group: &str) -> Result<BTreeMap<Target, Health>, Error> {
        let found = self
            .call(Operation::DescribeTargetHealth, || {
                let call = self.inner.elb.describe_target_health();
                call.target_group_arn(target_group).send()
            })
            .await?;
        let all = found.target_health_descriptions().iter();
        Ok(all.filter_map(convert::health).collect())
    }

    /// Whether a load balancer is active by now.
    ///
    /// # Errors
    /// What AWS does not give; [`Error::NotFound`]: it is gone.
    pub async fn is_active(&self, arn: &str) -> Result<bool, Error> {
        let found = self.describe_load_balancers(&[arn.to_owned()]).await?;
        let Some(found) = found.first() else {
            return Err(Error::NotFound {
                message: arn.to_owned(),
            });
        };
        let there = convert::load_balancer(found, BTreeMap::new());
        let active = there.is_some_and(|there| there.active);
        if active {
            self.note(Change::Active(arn.to_owned()));
        }
        Ok(active)
    }

    async fn look_at_load_balancer(
        &self,
        there: &mut seen::LoadBalancer,
        ours: bool,
        depth: Depth,
    ) -> Result<(), Error> {
        if !there.active {
            there.active = self.is_active(&there.arn).await?;
        }
        let mut details = LoadBalancerDetails::default();
        if ours {
            let found = self
                .call(Operation::DescribeLoadBalancerAttributes, || {
                    let call = self.inner.elb.describe_load_balancer_attributes();
                    call.load_balancer_arn(&there.arn).send()
                })
                .await?;
            let attributes = found.attributes().iter();
            details.attributes = convert::pairs(attributes.map(|each| (each.key(), each.value())));
        }
        for found in self.describe_listeners(&there.arn).await? {
            let Some((port, mut listener)) = convert::listener(&found) else {
                continue;
            };
            // Deleted since: as if it had not been listed.
            match self.look_at_listener(&mut listener, depth).await {
                Ok(()) => {}
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            }
            details.listeners.insert(port, listener);
        }
        let forwards = forwards(&details).collect();
        self.note(Change::ForwardsOnly(there.arn.clone(), forwards));
        there.details = Some(details);
        Ok(())
    }

    pub(super) async fn describe_listeners(&self, arn: &str) -> Result<Vec<Listener>, Error> {
        pages(Operation::DescribeListeners, |marker| async move {
            let page = self
                .call(Operation::DescribeListeners, || {
                    let call = self.inner.elb.describe_listeners().load_balancer_arn(arn);
                    call.set_marker(marker.clone()).send()
                })
                .await?;
            Ok((page.listeners, page.next_marker))
        })
        .await
    }

    async fn look_at_listener(
        &self,
        listener: &mut seen::Listener,
        depth: Depth,
    ) -> Result<(), Error> {
        let tls = listener.protocol == Some(Protocol::Tls);
        if tls {
            let more = self.certificates(&listener.arn).await?;
            for arn in more {
                if !listener.certificates.contains(&arn) {
                    listener.certificates.push(arn);
                }
            }
        }
        // AWS has none for TLS listeners, and refuses to list them (LBC leaves them out as well).
        if depth == Depth::ListenerAttributes && !tls {
            let found = self
                .call(Operation::DescribeListenerAttributes, || {
                    let call = self.inner.elb.describe_listener_attributes();
                    call.listener_arn(&listener.arn).send()
                })
                .await?;
            let attributes = found.attributes().iter();
            listener.attributes = Some(convert::pairs(
                attributes.map(|each| (each.key(), each.value())),
            ));
        }
        Ok(())
    }

    /// All certificates of a listener, the default among them.
    async fn certificates(&self, listener: &str) -> Result<Vec<String>, Error> {
        let all = pages(
            Operation::DescribeListenerCertificates,
            |marker| async move {
                let page = self
                    .call(Operation::DescribeListenerCertificates, || {
                        let call = self.inner.elb.describe_listener_certificates();
                        call.listener_arn(listener)
                            .set_marker(marker.clone())
                            .send()
                    })
                    .await?;
                Ok((page.certificates, page.next_marker))
            },
        );
        let all = all.await?.into_iter();
        Ok(all.filter_map(|found| found.certificate_arn).collect())
    }

    async fn look_at_target_group(&self, arn: &str) -> Result<TargetGroupDetails, Error> {
        let found = self
            .call(Operation::DescribeTargetGroupAttributes, || {
                let call = self.inner.elb.describe_target_group_attributes();
                call.target_group_arn(arn).send()
            })
            .await?;
        let attributes = found.attributes().iter();
        Ok(TargetGroupDetails {
            attributes: convert::pairs(attributes.map(|each| (each.key(), each.value()))),
            targets: self.health(arn).await?,
        })
    }
}

fn forwards(details: &LoadBalancerDetails) -> impl Iterator<Item = String> + '_ {
    let listeners = details.listeners.values();
    listeners.flat_map(|listener| listener.forward.keys().cloned())
}

/// A listing may be older than a listener: who uses a target group follows from what was just seen.
fn attach(load_balancer: &seen::LoadBalancer, groups: &mut [seen::TargetGroup]) {
    let used: BTreeSet<String> = load_balancer.details.iter().flat_map(forwards).collect();
    for group in groups {
        if used.contains(&group.arn) {
            group.load_balancers.insert(load_balancer.arn.clone());
        } else {
            group.load_balancers.remove(&load_balancer.arn);
        }
    }
}
