//! `portolan orphans`: what of this cluster's is in the account and no Service is for. Listed, and
//! deleted only when told to, one stack after the other; before each one's first write the cluster
//! is asked again.

use std::{fmt, time::Duration};

use aws::{
    diff::teardown,
    orphans::{self, Orphan},
    plan::{Effect, Plan, Step},
};
use aws_cloud::{Account, Cloud, Depth, Made, Progress};
use kube::Client;
use serde::Serialize;

use super::{Error, index};
use crate::core::{plan::report::resources, residents::residents};

/// Rounds until a stack is given up: with [`PAUSE`] ten minutes, which is longer than the 300
/// seconds that targets drain unless told otherwise.
const ROUNDS: u32 = 120;
/// Between two rounds over a stack that drains.
const PAUSE: Duration = Duration::from_secs(5);

/// Everything that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The cluster's name, as tags have it.
    pub cluster: String,
    /// By stack.
    pub orphans: Vec<Found>,
}

/// A stack that no Service is for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What it was made for.
    pub stack: String,
    /// Why it is an orphan.
    pub why: String,
    /// ARNs, and the id of the security group.
    pub there: Vec<String>,
    /// The worst that the steps do to traffic.
    pub effect: Effect,
    /// What deleting it begins with.
    pub steps: Vec<Step>,
    /// Why it stays, or why it could not be deleted.
    pub warnings: Vec<String>,
    /// Nothing of it is left: deleted, or let go of (`portolan.dev/on-delete: retain`).
    pub deleted: bool,
}

impl Report {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.orphans.iter().all(|orphan| orphan.deleted)
    }
}

/// Lists them.
///
/// # Errors
/// What cannot be read.
pub async fn list(client: &Client, cloud: &Cloud) -> Result<Report, Error> {
    let mut report = Report {
        cluster: cloud.cluster().to_owned(),
        orphans: Vec::new(),
    };
    for orphan in find(client, cloud, Duration::ZERO).await? {
        let there = resources(&orphan.seen);
        let (stack, why) = (orphan.stack.clone(), orphan.why.clone());
        let plan = plan(cloud, orphan).await?;
        report.orphans.push(Found {
            stack,
            why,
            there,
            effect: plan.effect(),
            steps: plan.steps,
            warnings: plan.warnings,
            deleted: false,
        });
    }
    Ok(report)
}

/// Deletes what [`list`] has found and is still an orphan.
///
/// # Errors
/// What cannot be read. What AWS refuses is a warning of that orphan and stops no other.
pub async fn delete(client: &Client, cloud: &Cloud, report: &mut Report) -> Result<(), Error> {
    for found in &mut report.orphans {
        match delete_one(client, cloud, &found.stack).await? {
            None => found.deleted = true,
            Some(why) if found.warnings.contains(&why) => {}
            Some(why) => found.warnings.push(why),
        }
    }
    Ok(())
}

/// Why something is left; `None`: nothing is.
async fn delete_one(client: &Client, cloud: &Cloud, stack: &str) -> Result<Option<String>, Error> {
    for _ in 0..ROUNDS {
        // The account as our own writes have left it; the cluster as it is now.
        let all = find(client, cloud, Duration::MAX).await?;
        let Some(orphan) = all.into_iter().find(|orphan| orphan.stack == stack) else {
            let left = cloud.account(Duration::ZERO).await?;
            let left = stacks(&left).any(|(name, seen)| name == stack && carries(cloud, &seen));
            return Ok(left.then(|| "a Service is for it now: it stays".to_owned()));
        };
        let plan = plan(cloud, orphan).await?;
        if let Some(why) = plan.warnings.first() {
            return Ok(Some(why.clone()));
        }
        let mut made = Made::default();
        match cloud.apply(&plan, &mut made).await {
            Ok(Progress::Done) => {}
            Ok(Progress::Waiting { .. }) => tokio::time::sleep(PAUSE).await,
            Err((step, error)) => {
                return Ok(Some(format!("step {} failed: {error}", step + 1)));
            }
        }
    }
    let minutes = PAUSE.as_secs() * u64::from(ROUNDS) / 60;
    Ok(Some(format!(
        "not done after {minutes} minutes: run the command again"
    )))
}

/// Whether anything has our own tag of this cluster.
fn carries(cloud: &Cloud, seen: &aws::seen::Seen) -> bool {
    let is = |tags: &aws::wanted::Tags| {
        let name = tags.get(aws::tags::CLUSTER);
        name.is_some_and(|name| name == cloud.cluster())
    };
    seen.load_balancers.iter().any(|there| is(&there.tags))
        || seen.target_groups.iter().any(|there| is(&there.tags))
        || seen.security_group.iter().any(|there| is(&there.tags))
}

fn stacks(account: &Account) -> impl Iterator<Item = (String, aws::seen::Seen)> {
    let names = account.stacks().into_iter();
    names.map(|stack| (stack.to_owned(), account.seen(stack)))
}

/// Names of the stacks, from a snapshot of the account that is at most so old.
///
/// # Errors
/// What cannot be read.
pub async fn names(client: &Client, cloud: &Cloud, age: Duration) -> Result<Vec<String>, Error> {
    let found = find(client, cloud, age).await?.into_iter();
    Ok(found.map(|orphan| orphan.stack).collect())
}

/// The account first: what is made for a new Service meanwhile is not in it.
async fn find(client: &Client, cloud: &Cloud, age: Duration) -> Result<Vec<Orphan>, Error> {
    let account = cloud.account(age).await?;
    let index = index(client, None).await?;
    Ok(orphans::orphans(
        stacks(&account),
        cloud.cluster(),
        &residents(&index),
    ))
}

async fn plan(cloud: &Cloud, orphan: Orphan) -> Result<Plan, Error> {
    let on_delete = orphan.on_delete();
    let mut seen = orphan.seen;
    cloud.find_foreign(&mut seen, None).await?;
    cloud.look(&mut seen, Depth::Usual).await?;
    Ok(teardown(&seen, on_delete))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.orphans.is_empty() {
            return writeln!(f, "Cluster {} has no orphans in AWS.", self.cluster);
        }
        for orphan in &self.orphans {
            let state = if orphan.deleted { "DELETED" } else { "ORPHAN" };
            writeln!(f, "{state} {}: {}", orphan.stack, orphan.why)?;
            for arn in &orphan.there {
                writeln!(f, "  {arn}")?;
            }
            for warning in &orphan.warnings {
                writeln!(f, "  Warning: {warning}")?;
            }
        }
        let left = self.orphans.iter().filter(|orphan| !orphan.deleted).count();
        if left > 0 {
            writeln!(
                f,
                "{left} of {} left; portolan orphans --delete deletes what nothing holds.",
                self.orphans.len()
            )?;
        }
        Ok(())
    }
}
