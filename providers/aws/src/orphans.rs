//! What of ours is in the account and no Service is for. Pure; deletes nothing.
//!
//! Ours is what carries our own tags: what AWS Load Balancer Controller has tagged is its business.
//! When in doubt a stack is no orphan: a Service whose class is gone, or whose group cannot be read,
//! keeps what it may have.

use std::collections::BTreeMap;

use model::ServiceKey;

use crate::{
    desired,
    diff::OnDelete,
    seen::Seen,
    tags::{CLUSTER, STACK},
    wanted::Tags,
};

/// A Service of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resident {
    /// Which.
    pub key: ServiceKey,
    /// Whether a load balancer may be there for it: its class is one of AWS's, or is gone, or our
    /// finalizer is on it. The others only protect the name that their status shows.
    pub served: bool,
    /// The stack that it asks for; `None`: that cannot be read.
    pub stack: Option<String>,
    /// The name that its status shows.
    pub shown: Option<String>,
}

/// A stack that no Service is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// Its name.
    pub stack: String,
    /// A sentence.
    pub why: String,
    /// What of it is ours.
    pub seen: Seen,
}

impl Orphan {
    /// What was agreed on while its Service was there.
    pub fn on_delete(&self) -> OnDelete {
        match self.seen.load_balancers.iter().any(desired::stays) {
            true => OnDelete::Retain,
            false => OnDelete::Delete,
        }
    }
}

/// The orphans among `stacks`, in order; `residents` is every Service of the cluster, listed after
/// the account was: a stack that was made meanwhile is not seen, and none is seen without its Service.
pub fn orphans(
    stacks: impl IntoIterator<Item = (String, Seen)>,
    cluster: &str,
    residents: &[Resident],
) -> Vec<Orphan> {
    let by_key: BTreeMap<&ServiceKey, &Resident> =
        residents.iter().map(|each| (&each.key, each)).collect();
    let mut orphans: Vec<Orphan> = stacks
        .into_iter()
        .filter_map(|(stack, seen)| {
            let seen = ours(seen, &stack, cluster)?;
            let why = why(&stack, &seen, residents, &by_key)?;
            Some(Orphan { stack, why, seen })
        })
        .collect();
    orphans.sort_by(|a, b| a.stack.cmp(&b.stack));
    orphans
}

/// What carries our own tags; `None`: nothing.
fn ours(mut seen: Seen, stack: &str, cluster: &str) -> Option<Seen> {
    let is = |tags: &Tags| {
        tags.get(CLUSTER).is_some_and(|name| name == cluster)
            && tags.get(STACK).is_some_and(|name| name == stack)
    };
    seen.load_balancers.retain(|there| is(&there.tags));
    seen.target_groups.retain(|there| is(&there.tags));
    seen.security_group = seen.security_group.filter(|there| is(&there.tags));
    (seen != Seen::default()).then_some(seen)
}

/// Why nobody is for a stack; `None`: somebody is.
fn why(
    stack: &str,
    seen: &Seen,
    residents: &[Resident],
    by_key: &BTreeMap<&ServiceKey, &Resident>,
) -> Option<String> {
    // A stack whose name we never give is left alone.
    let (namespace, name) = stack.split_once('/')?;
    let shows = |resident: &Resident| {
        let mut names = seen.load_balancers.iter().map(|there| &there.dns_name);
        (resident.shown.as_ref())
            .is_some_and(|shown| names.any(|name| name.eq_ignore_ascii_case(shown)))
    };
    let is_for = |resident: &Resident| {
        resident.served
            && match &resident.stack {
                Some(asked) => asked == stack,
                None => *resident.key.namespace == *namespace,
            }
    };
    if residents
        .iter()
        .any(|resident| is_for(resident) || shows(resident))
    {
        return None;
    }
    if let Some(group) = name.strip_prefix("group:") {
        return Some(format!(
            "no Service of namespace {namespace} is in load balancer group {group}"
        ));
    }
    match by_key.get(&ServiceKey::new(namespace, name)) {
        None => Some(format!("Service {stack} does not exist")),
        // It has moved into a group or out of one: the controller sees to what it leaves.
        Some(resident) if resident.served => None,
        Some(_) => Some(format!(
            "Service {stack} is no longer of a type and class that AWS serves"
        )),
    }
}

#[cfg(test)]
mod tests;
