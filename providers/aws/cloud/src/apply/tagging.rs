//! Steps on security groups and on tags.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

use super::{
    super::{
        Cloud, Error, Operation,
        account::{Change, Resource},
        convert,
        listing::filter,
    },
    no_arn,
};
use aws::{
    seen,
    wanted::{Rule, SecurityGroup, Tags},
};

/// AWS: so many resources in one AddTags or RemoveTags.
const RESOURCES_AT_ONCE: usize = 20;

impl Cloud {
    pub(crate) async fn create_security_group(
        &self,
        vpc: &str,
        wanted: &SecurityGroup,
    ) -> Result<String, Error> {
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::SecurityGroup)
            .set_tags(Some(convert::ec2_tags(&wanted.tags)))
            .build();
        let answer = self
            .call(Operation::CreateSecurityGroup, || {
                let call = self.inner.ec2.create_security_group().vpc_id(vpc);
                call.group_name(&wanted.name)
                    .description(&wanted.description)
                    .tag_specifications(tags.clone())
                    .send()
            })
            .await;
        let there = match answer {
            Ok(made) => seen::SecurityGroup {
                id: (made.group_id())
                    .ok_or_else(|| no_arn("a security group"))?
                    .to_owned(),
                name: wanted.name.clone(),
                rules: BTreeSet::new(),
                tags: wanted.tags.clone(),
            },
            Err(Error::Duplicate { message }) => {
                let filters = [filter("group-name", &wanted.name), filter("vpc-id", vpc)];
                let found = self.describe_security_groups(&filters).await?;
                let found = found.first().and_then(convert::security_group);
                found
                    .filter(|found| self.same_stack(&found.tags, &wanted.tags))
                    .ok_or(Error::Duplicate { message })?
            }
            Err(error) => return Err(error),
        };
        let id = there.id.clone();
        self.note(Change::Created(Resource::SecurityGroup(there)));
        Ok(id)
    }

    /// One rule that is there already spoils the call for all: then those that are missing are
    /// authorized.
    pub(crate) async fn authorize(&self, id: &str, rules: &BTreeSet<Rule>) -> Result<(), Error> {
        match self.authorize_all(id, rules).await {
            Err(Error::Duplicate { .. }) => {
                let there = self.rules(id).await?;
                let missing: BTreeSet<Rule> = rules.difference(&there).cloned().collect();
                if !missing.is_empty() {
                    self.authorize_all(id, &missing).await?;
                }
            }
            answer => answer?,
        }
        self.note(Change::Authorized(id.to_owned(), rules.clone()));
        Ok(())
    }

    async fn authorize_all(&self, id: &str, rules: &BTreeSet<Rule>) -> Result<(), Error> {
        let permissions = convert::permissions(rules);
        self.call(Operation::AuthorizeSecurityGroupIngress, || {
            let call = self.inner.ec2.authorize_security_group_ingress();
            call.group_id(id)
                .set_ip_permissions(Some(permissions.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    /// As [`Cloud::authorize`]: one rule that is not there spoils the call.
    pub(super) async fn revoke(&self, id: &str, rules: &BTreeSet<Rule>) -> Result<(), Error> {
        match self.revoke_all(id, rules).await {
            Err(Error::NotFound { .. }) => {
                // The group itself may be what is missing.
                let there = match self.rules(id).await {
                    Err(Error::NotFound { .. }) => BTreeSet::new(),
                    there => there?,
                };
                let left: BTreeSet<Rule> = rules.intersection(&there).cloned().collect();
                if !left.is_empty() {
                    self.revoke_all(id, &left).await?;
                }
            }
            answer => answer?,
        }
        self.note(Change::Revoked(id.to_owned(), rules.clone()));
        Ok(())
    }

    async fn revoke_all(&self, id: &str, rules: &BTreeSet<Rule>) -> Result<(), Error> {
        let permissions = convert::permissions(rules);
        self.call(Operation::RevokeSecurityGroupIngress, || {
            let call = self.inner.ec2.revoke_security_group_ingress();
            call.group_id(id)
                .set_ip_permissions(Some(permissions.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    async fn rules(&self, id: &str) -> Result<BTreeSet<Rule>, Error> {
        let found = self
            .describe_security_groups(&[filter("group-id", id)])
            .await?;
        let found = found.first().and_then(convert::security_group);
        found
            .map(|found| found.rules)
            .ok_or_else(|| Error::NotFound {
                message: id.to_owned(),
            })
    }

    pub(super) async fn delete_security_group(&self, id: &str) -> Result<(), Error> {
        let answer = self
            .call(Operation::DeleteSecurityGroup, || {
                self.inner.ec2.delete_security_group().group_id(id).send()
            })
            .await;
        self.gone(id, answer.map(drop))
    }

    pub(super) async fn add_tags(&self, resources: &[String], tags: &Tags) -> Result<(), Error> {
        let (groups, arns) = apart(resources);
        for batch in arns.chunks(RESOURCES_AT_ONCE) {
            self.call(Operation::AddTags, || {
                let call = self.inner.elb.add_tags();
                call.set_resource_arns(Some(batch.to_vec()))
                    .set_tags(Some(convert::elb_tags(tags)))
                    .send()
            })
            .await?;
        }
        if !groups.is_empty() {
            self.call(Operation::CreateTags, || {
                let call = self.inner.ec2.create_tags();
                call.set_resources(Some(groups.clone()))
                    .set_tags(Some(convert::ec2_tags(tags)))
                    .send()
            })
            .await?;
        }
        for arn in resources {
            self.note(Change::Tagged(arn.clone(), tags.clone()));
        }
        Ok(())
    }

    pub(super) async fn remove_tags(
        &self,
        resources: &[String],
        keys: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let (groups, arns) = apart(resources);
        for batch in arns.chunks(RESOURCES_AT_ONCE) {
            self.call(Operation::RemoveTags, || {
                let call = self.inner.elb.remove_tags();
                call.set_resource_arns(Some(batch.to_vec()))
                    .set_tag_keys(Some(keys.iter().cloned().collect()))
                    .send()
            })
            .await?;
        }
        if !groups.is_empty() {
            // Without a value a tag goes whatever its value is.
            let tags: Vec<Tag> = keys
                .iter()
                .map(|key| Tag::builder().key(key).build())
                .collect();
            self.call(Operation::DeleteTags, || {
                let call = self.inner.ec2.delete_tags();
                call.set_resources(Some(groups.clone()))
                    .set_tags(Some(tags.clone()))
                    .send()
            })
            .await?;
        }
        for arn in resources {
            self.note(Change::Untagged(arn.clone(), keys.clone()));
        }
        Ok(())
    }
}

/// Ids of EC2, and ARNs.
fn apart(resources: &[String]) -> (Vec<String>, Vec<String>) {
    let all = resources.iter().cloned();
    all.partition(|resource| resource.starts_with("sg-"))
}
