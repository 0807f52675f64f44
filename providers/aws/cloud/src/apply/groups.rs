//! Steps on target groups and their targets.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{
    Matcher, ProtocolEnum, TargetGroupAttribute, TargetGroupIpAddressTypeEnum, TargetTypeEnum,
};

use super::{
    super::{
        Cloud, Error, Operation,
        account::{Change, Resource},
        convert,
    },
    no_arn,
};
use aws::wanted::{HealthCheck, HealthCheckProtocol, Target, TargetGroup};

/// So many targets in one call: AWS documents no limit for it, LBC uses this one.
const TARGETS_AT_ONCE: usize = 200;

fn health_check_protocol(wanted: HealthCheckProtocol) -> ProtocolEnum {
    ProtocolEnum::from(wanted.as_str())
}

fn matcher(wanted: &HealthCheck) -> Option<Matcher> {
    let codes = wanted.success_codes.as_deref()?;
    Some(Matcher::builder().http_code(codes).build())
}

impl Cloud {
    pub(super) async fn create_target_group(&self, wanted: &TargetGroup) -> Result<String, Error> {
        let check = &wanted.health_check;
        let answer = self
            .call(Operation::CreateTargetGroup, || {
                let call = self.inner.elb.create_target_group();
                let family = wanted.ipv6.then_some(TargetGroupIpAddressTypeEnum::Ipv6);
                call.name(&wanted.name)
                    .vpc_id(&wanted.vpc)
                    .protocol(ProtocolEnum::from(wanted.protocol.as_str()))
                    .port(i32::from(wanted.port))
                    .target_type(TargetTypeEnum::from(wanted.target_type.as_str()))
                    .set_ip_address_type(family)
                    .health_check_enabled(true)
                    .health_check_protocol(health_check_protocol(check.protocol))
                    .health_check_port(&check.port)
                    .set_health_check_path(check.path.clone())
                    .set_matcher(matcher(check))
                    .health_check_interval_seconds(convert::signed(check.interval))
                    .health_check_timeout_seconds(convert::signed(check.timeout))
                    .healthy_threshold_count(convert::signed(check.healthy_threshold))
                    .unhealthy_threshold_count(convert::signed(check.unhealthy_threshold))
                    .set_tags(Some(convert::elb_tags(&wanted.tags)))
                    .send()
            })
            .await;
        let found = match answer {
            Ok(made) => made.target_groups().first().cloned(),
            Err(Error::Duplicate { message }) => {
                return self.find_target_group(wanted, message).await;
            }
            Err(error) => return Err(error),
        };
        let made = found.and_then(|found| convert::target_group(&found, wanted.tags.clone()));
        let made = made.ok_or_else(|| no_arn("a target group"))?;
        let arn = made.arn.clone();
        self.note(Change::Created(Resource::TargetGroup(made)));
        Ok(arn)
    }

    /// The one that has the name already, if it is ours.
    async fn find_target_group(
        &self,
        wanted: &TargetGroup,
        message: String,
    ) -> Result<String, Error> {
        let found = self
            .call(Operation::DescribeTargetGroups, || {
                let call = self.inner.elb.describe_target_groups();
                call.names(&wanted.name).send()
            })
            .await?;
        let Some(found) = found.target_groups().first() else {
            return Err(Error::Duplicate { message });
        };
        let tags = self
            .tags_of_one(found.target_group_arn().unwrap_or_default())
            .await?;
        let ours = self.same_stack(&tags, &wanted.tags);
        let Some(there) = convert::target_group(found, tags).filter(|_| ours) else {
            return Err(Error::Duplicate { message });
        };
        let arn = there.arn.clone();
        self.note(Change::Created(Resource::TargetGroup(there)));
        Ok(arn)
    }

    pub(super) async fn modify_target_group(
        &self,
        arn: &str,
        check: &HealthCheck,
    ) -> Result<(), Error> {
        self.call(Operation::ModifyTargetGroup, || {
            let call = self.inner.elb.modify_target_group();
            call.target_group_arn(arn)
                .health_check_protocol(health_check_protocol(check.protocol))
                .health_check_port(&check.port)
                .set_health_check_path(check.path.clone())
                .set_matcher(matcher(check))
                .health_check_interval_seconds(convert::signed(check.interval))
                .health_check_timeout_seconds(convert::signed(check.timeout))
                .healthy_threshold_count(convert::signed(check.healthy_threshold))
                .unhealthy_threshold_count(convert::signed(check.unhealthy_threshold))
                .send()
        })
        .await?;
        self.note(Change::HealthCheck(arn.to_owned(), check.clone()));
        Ok(())
    }

    pub(super) async fn modify_target_group_attributes(
        &self,
        arn: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(key, value)| {
                let attribute = TargetGroupAttribute::builder();
                attribute.key(key).value(value).build()
            })
            .collect();
        self.call(Operation::ModifyTargetGroupAttributes, || {
            let call = self.inner.elb.modify_target_group_attributes();
            call.target_group_arn(arn)
                .set_attributes(Some(attributes.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    /// Registers all but those that AWS does not take, which are returned: one instance that has
    /// just stopped must not keep 199 others out.
    pub(super) async fn register(
        &self,
        arn: &str,
        targets: &BTreeSet<Target>,
    ) -> Result<BTreeMap<Target, String>, Error> {
        let mut refused = BTreeMap::new();
        let targets: Vec<&Target> = targets.iter().collect();
        for batch in targets.chunks(TARGETS_AT_ONCE) {
            let mut batch = batch.to_vec();
            // Each round takes at least one out.
            while !batch.is_empty() {
                let answer = self
                    .call(Operation::RegisterTargets, || {
                        let call = self.inner.elb.register_targets().target_group_arn(arn);
                        let all = batch.iter().map(|target| convert::target(target));
                        call.set_targets(Some(all.collect())).send()
                    })
                    .await;
                let message = match answer {
                    Ok(_) => break,
                    Err(Error::Invalid { message }) if message.starts_with("InvalidTarget") => {
                        message
                    }
                    Err(error) => return Err(error),
                };
                let (named, rest): (Vec<_>, Vec<_>) = batch
                    .into_iter()
                    .partition(|target| names(&message, &target.id));
                if named.is_empty() {
                    return Err(Error::Invalid { message });
                }
                for target in named {
                    refused.insert(target.clone(), message.clone());
                }
                batch = rest;
            }
        }
        Ok(refused)
    }

    pub(super) async fn deregister(
        &self,
        arn: &str,
        targets: &BTreeSet<Target>,
    ) -> Result<(), Error> {
        let targets: Vec<&Target> = targets.iter().collect();
        for batch in targets.chunks(TARGETS_AT_ONCE) {
            let answer = self
                .call(Operation::DeregisterTargets, || {
                    let call = self.inner.elb.deregister_targets().target_group_arn(arn);
                    let all = batch.iter().map(|target| convert::target(target));
                    call.set_targets(Some(all.collect())).send()
                })
                .await;
            match answer {
                // Without the group there is nobody in it.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn delete_target_group(&self, arn: &str) -> Result<(), Error> {
        let answer = self
            .call(Operation::DeleteTargetGroup, || {
                let call = self.inner.elb.delete_target_group();
                call.target_group_arn(arn).send()
            })
            .await;
        self.gone(arn, answer.map(drop))
    }
}

/// Whether a message names this id and not a longer one that begins or ends like it.
fn names(message: &str, id: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    message
        .split(|c: char| !word(c))
        .any(|part| part.trim_matches(['.', ':']) == id.trim_matches(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_message_names_whole_ids_only() {
        let message = "InvalidTarget: The following targets are not in a running state and cannot \
            be registered: 'i-0aa', 'i-0b'. Address 10.0.0.1 is too.";
        for (id, named) in [
            ("i-0aa", true),
            ("i-0b", true),
            ("i-0a", false),
            ("0aa", false),
            ("10.0.0.1", true),
            ("10.0.0.10", false),
            ("0.0.0.1", false),
        ] {
            assert_eq!(names(message, id), named, "{id}");
        }
    }
}
