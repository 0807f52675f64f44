//! Listing the account: all load balancers, all target groups, the tags that are not known yet, our
//! security groups. What is not ours is told from what is by its tags alone, so strangers' tags are
//! remembered, too.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_ec2::types::{Filter, SecurityGroup};
use aws_sdk_elasticloadbalancingv2::types::{LoadBalancer, TargetGroup};

use super::{
    Account, Cloud, Error, Operation,
    account::{Change, Known, Resource},
    convert,
};
use aws::{seen, tags, wanted::Tags};

/// AWS: so many load balancers or target groups on a page.
const PAGE: i32 = 400;
/// EC2: so many subnets or security groups on a page.
pub(super) const EC2_PAGE: i32 = 1000;
/// AWS: so many ARNs in one DescribeTags.
const TAGS_AT_ONCE: usize = 20;
/// Tags that somebody else changes are noticed after so long at the latest; with 1000 load balancers
/// and as many target groups that is 100 calls an hour.
const TAGS_AGE: Duration = Duration::from_secs(3600);
/// No listing is longer: 400 000 resources. An endpoint that pages in circles ends here.
const PAGES: usize = 1000;

impl Cloud {
    /// The account, as of `max_age` ago at the most. Many may ask at once: one lists.
    ///
    /// # Errors
    /// What a listing needs and AWS does not give; an older snapshot stays then.
    pub async fn account(&self, max_age: Duration) -> Result<Arc<Account>, Error> {
        let shared = &self.inner.account;
        if let Some(account) = shared.fresh(max_age, Instant::now()) {
            return Ok(account);
        }
        let asked = Instant::now();
        let _turn = shared.turn().await;
        // Whoever was in front may have begun a listing since we asked: young enough for anybody.
        let age = max_age.max(asked.elapsed());
        if let Some(account) = shared.fresh(age, Instant::now()) {
            return Ok(account);
        }
        self.list().await
    }

    /// The newest snapshot, however old; `None` before the first.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Account>> {
        self.inner.account.newest()
    }

    /// A load balancer of whomever, by ARN: for `portolan.dev/adopt`. `None`: there is none, or it
    /// is not a Network Load Balancer.
    ///
    /// # Errors
    /// What AWS does not give.
    pub async fn load_balancer(&self, arn: &str) -> Result<Option<seen::LoadBalancer>, Error> {
        let found = match self.describe_load_balancers(&[arn.to_owned()]).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let tags = self.tags_of_one(arn).await?;
        let found = found.first();
        Ok(found.and_then(|found| convert::load_balancer(found, tags)))
    }

    pub(super) fn note(&self, change: Change) {
        let now = Instant::now();
        self.inner.account.note(change, &self.inner.cluster, now);
    }

    async fn list(&self) -> Result<Arc<Account>, Error> {
        let began = Instant::now();
        let load_balancers = self.describe_load_balancers(&[]).await?;
        let target_groups = self.describe_target_groups().await?;
        let network = load_balancers.iter().filter(|found| {
            let kind = found.r#type();
            kind.is_some_and(|kind| kind.as_str() == "network")
        });
        let arns: Vec<&str> = network
            .filter_map(|found| found.load_balancer_arn())
            .chain(
                target_groups
                    .iter()
                    .filter_map(|found| found.target_group_arn()),
            )
            .collect();
        let known = self.tags_of(arns).await?;
        let tags = |arn: Option<&str>| Some(known.get(arn?)?.tags.clone());

        let mut account = Account::default();
        let cluster = &self.inner.cluster;
        for found in &load_balancers {
            let tags = tags(found.load_balancer_arn());
            if let Some(there) = tags.and_then(|tags| convert::load_balancer(found, tags)) {
                account.insert(Resource::LoadBalancer(there), cluster);
            }
        }
        for found in &target_groups {
            let tags = tags(found.target_group_arn());
            if let Some(there) = tags.and_then(|tags| convert::target_group(found, tags)) {
                account.insert(Resource::TargetGroup(there), cluster);
            }
        }
        for there in self.our_security_groups().await? {
            account.insert(Resource::SecurityGroup(there), cluster);
        }
        tracing::debug!(
            load_balancers = load_balancers.len(),
            target_groups = target_groups.len(),
            stacks = account.stacks().len(),
            milliseconds = began.elapsed().as_millis(),
            "the account is listed"
        );
        Ok(self.inner.account.install(account, known, cluster, began))
    }

    /// Those with these ARNs; without any, all.
    pub(super) async fn describe_load_balancers(
        &self,
        arns: &[String],
    ) -> Result<Vec<LoadBalancer>, Error> {
        pages(Operation::DescribeLoadBalancers, |marker| async move {
            let page = self
                .call(Operation::DescribeLoadBalancers, || {
                    let call = self.inner.elb.describe_load_balancers();
                    // AWS takes either ARNs or pages.
                    let call = if arns.is_empty() {
                        call.page_size(PAGE).set_marker(marker.clone())
                    } else {
                        call.set_load_balancer_arns(Some(arns.to_vec()))
                    };
                    call.send()
                })
                .await?;
            Ok((page.load_balancers, page.next_marker))
        })
        .await
    }

    async fn describe_target_groups(&self) -> Result<Vec<TargetGroup>, Error> {
        pages(Operation::DescribeTargetGroups, |marker| async move {
            let page = self
                .call(Operation::DescribeTargetGroups, || {
                    let call = self.inner.elb.describe_target_groups();
                    call.page_size(PAGE).set_marker(marker.clone()).send()
                })
                .await?;
            Ok((page.target_groups, page.next_marker))
        })
        .await
    }

    /// Tags of all these, from memory as far as it is young enough. What has been deleted meanwhile
    /// is left out.
    async fn tags_of(&self, arns: Vec<&str>) -> Result<HashMap<String, Known>, Error> {
        let now = Instant::now();
        let mut known = HashMap::new();
        let mut missing = Vec::new();
        for arn in arns {
            match self.inner.account.known(arn, TAGS_AGE, now) {
                Some(old) => {
                    known.insert(arn.to_owned(), old);
                }
                None => missing.push(arn.to_owned()),
            }
        }
        // One that was deleted since it was listed spoils the call for its nineteen neighbours:
        // they are asked about in halves.
        let batches = missing.chunks(TAGS_AT_ONCE);
        let mut todo: Vec<Vec<String>> = batches.map(<[String]>::to_vec).collect();
        while let Some(mut batch) = todo.pop() {
            match self.describe_tags(&batch).await {
                Ok(found) => {
                    let at = Instant::now();
                    known.extend(
                        found
                            .into_iter()
                            .map(|(arn, tags)| (arn, Known { tags, at })),
                    );
                }
                Err(Error::NotFound { .. }) => {
                    let half = batch.split_off(batch.len() / 2);
                    if !batch.is_empty() {
                        todo.push(batch);
                        todo.push(half);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// The tags of one load balancer or target group, asked for now.
    pub(super) async fn tags_of_one(&self, arn: &str) -> Result<Tags, Error> {
        let mut tags = self.describe_tags(&[arn.to_owned()]).await?;
        Ok(tags.remove(arn).unwrap_or_default())
    }

    /// At most [`TAGS_AT_ONCE`].
    async fn describe_tags(&self, arns: &[String]) -> Result<HashMap<String, Tags>, Error> {
        let found = self
            .call(Operation::DescribeTags, || {
                let call = self.inner.elb.describe_tags();
                call.set_resource_arns(Some(arns.to_vec())).send()
            })
            .await?;
        let descriptions = found.tag_descriptions().iter();
        Ok(descriptions
            .filter_map(|found| {
                let tags = convert::tags_of_elb(found.tags());
                Some((found.resource_arn()?.to_owned(), tags))
            })
            .collect())
    }

    /// Security groups with our tags or AWS Load Balancer Controller's. Two calls: a group must
    /// pass every filter of a call.
    async fn our_security_groups(&self) -> Result<Vec<seen::SecurityGroup>, Error> {
        let mut all = Vec::new();
        let mut ids = BTreeSet::new();
        for (cluster, stack_key) in [
            (tags::CLUSTER, tags::STACK),
            (tags::LBC_CLUSTER, tags::LBC_STACK),
        ] {
            let filters = [
                filter(&format!("tag:{cluster}"), &self.inner.cluster),
                filter("tag-key", stack_key),
            ];
            for found in self.describe_security_groups(&filters).await? {
                let Some(there) = convert::security_group(&found) else {
                    continue;
                };
                let ours = tags::stack(&there.tags, &self.inner.cluster).is_some();
                if ours && ids.insert(there.id.clone()) {
                    all.push(there);
                }
            }
        }
        Ok(all)
    }

    /// All that the filters let through.
    pub(super) async fn describe_security_groups(
        &self,
        filters: &[Filter],
    ) -> Result<Vec<SecurityGroup>, Error> {
        pages(Operation::DescribeSecurityGroups, |token| async move {
            let page = self
                .call(Operation::DescribeSecurityGroups, || {
                    let call = self.inner.ec2.describe_security_groups();
                    call.set_filters(Some(filters.to_vec()))
                        .max_results(EC2_PAGE)
                        .set_next_token(token.clone())
                        .send()
                })
                .await?;
            Ok((page.security_groups, page.next_token))
        })
        .await
    }
}

pub(super) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// All pages of a listing: `page` has the word that leads to it and answers with the word that leads to
/// the next.
pub(super) async fn pages<T, F>(
    operation: Operation,
    page: impl Fn(Option<String>) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<(Option<Vec<T>>, Option<String>), Error>>,
{
    let (mut all, mut next) = (Vec::new(), None);
    for _ in 0..PAGES {
        let (more, after) = page(next).await?;
        all.extend(more.unwrap_or_default());
        next = after.filter(|word| !word.is_empty());
        if next.is_none() {
            return Ok(all);
        }
    }
    Err(Error::Invalid {
        message: format!("{} has more than {PAGES} pages", operation.name()),
    })
}
