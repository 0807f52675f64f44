//! Letting the load balancers in to the nodes: what `aws::nodes` finds missing in the VPC is written,
//! once, and noted in the network that is kept.

use std::{collections::BTreeSet, sync::Arc};

use super::{Cloud, Error};
use aws::{
    input::{Network, SecurityGroup},
    nodes::{Missing, missing},
};

impl Cloud {
    /// As [`Cloud::network`], after the cluster's traffic group is there and the nodes' security
    /// groups let it in: `node_groups`, else those that are tagged for the cluster. Nothing is
    /// written when it is so already, nor for a minute after AWS has refused it for good.
    ///
    /// # Errors
    /// What AWS does not give or refuses. What was written before stays and is not written again.
    pub async fn admit(&self, vpc: &str, node_groups: &[String]) -> Result<Arc<Network>, Error> {
        let network = self.network(vpc, node_groups).await?;
        match missing(&network, self.cluster(), node_groups) {
            Missing::Nothing => return Ok(network),
            Missing::TrafficGroup(_) | Missing::Rules(_) => {}
        }
        // One writes, the others find it done. Never closed.
        let _turn = self.inner.networks.admission.acquire().await;
        if let Some(error) = self.inner.networks.refused(vpc, node_groups) {
            return Err(error);
        }
        let network = self.network(vpc, node_groups).await?;
        let admitted = self.write_missing(network, node_groups).await;
        admitted.inspect_err(|error| {
            if lasts(error) {
                self.inner.networks.refuse(vpc, node_groups, error);
            }
        })
    }

    async fn write_missing(
        &self,
        mut network: Arc<Network>,
        node_groups: &[String],
    ) -> Result<Arc<Network>, Error> {
        loop {
            match missing(&network, self.cluster(), node_groups) {
                Missing::Nothing => return Ok(network),
                Missing::TrafficGroup(group) => {
                    let id = self.create_security_group(&network.vpc, &group).await?;
                    tracing::info!(group = id, name = group.name, "the traffic group is there");
                    let there = SecurityGroup {
                        name: group.name,
                        rules: BTreeSet::new(),
                        tags: group.tags,
                    };
                    let groups = &mut Arc::make_mut(&mut network).security_groups;
                    groups.insert(id, there);
                }
                Missing::Rules(rules) => {
                    for (id, rules) in rules {
                        self.authorize(&id, &rules).await?;
                        tracing::info!(group = id, "the nodes let in the load balancers");
                        let groups = &mut Arc::make_mut(&mut network).security_groups;
                        groups.entry(id).or_default().rules.extend(rules);
                        self.inner.networks.regroup(&network);
                    }
                }
            }
            self.inner.networks.regroup(&network);
        }
    }
}

/// Whether the same call would be refused again, until somebody changes something.
const fn lasts(error: &Error) -> bool {
    match error {
        Error::Denied { .. }
        | Error::Credentials { .. }
        | Error::Quota { .. }
        | Error::InUse { .. }
        | Error::Dependency { .. }
        | Error::Duplicate { .. }
        | Error::Invalid { .. } => true,
        // EC2 does not know at once everywhere what it has just made.
        Error::Throttled { .. } | Error::NotFound { .. } | Error::Unavailable { .. } => false,
    }
}
