//! What of a wanted state has been carried out: two short hashes in tags of the load balancer, so
//! that a restart compares tags (20 resources a call) and looks no closer.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    names,
    seen::Seen,
    tags::{APPLIED, APPLIED_TARGETS},
    wanted::{Tags, Wanted},
};

/// How many hexadecimal digits of SHA-256 are kept: 128 bits.
const DIGITS: usize = 32;

/// The two tags that say that `wanted` has been carried out.
pub fn of(wanted: &Wanted) -> Tags {
    let targets: BTreeMap<_, _> = wanted
        .target_groups
        .iter()
        .map(|(key, group)| (key, &group.targets))
        .collect();
    let mut rest = wanted.clone();
    rest.warnings.clear();
    for group in rest.target_groups.values_mut() {
        group.targets.clear();
    }
    Tags::from([
        (APPLIED.to_owned(), hash(&rest)),
        (APPLIED_TARGETS.to_owned(), hash(&targets)),
    ])
}

/// How much of a wanted state the tags say has been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// All of it, and every resource is still there: nothing is looked at more closely.
    All,
    /// All but the targets.
    AllButTargets,
    /// Who knows.
    Unknown,
}

/// What the tags say.
pub fn applied(wanted: &Wanted, seen: &Seen) -> Applied {
    let [load_balancer] = seen.load_balancers.as_slice() else {
        return Applied::Unknown;
    };
    let applied = of(wanted);
    let has = |key: &str| load_balancer.tags.get(key) == applied.get(key);
    let there = seen.target_groups.len() == wanted.target_groups.len()
        && (seen.target_groups.iter())
            .all(|group| group.load_balancers.contains(&load_balancer.arn));
    match (has(APPLIED) && there, has(APPLIED_TARGETS)) {
        (true, true) => Applied::All,
        (true, false) => Applied::AllButTargets,
        (false, _) => Applied::Unknown,
    }
}

/// The hexadecimal beginning of the SHA-256 of the value as JSON.
fn hash(value: &impl Serialize) -> String {
    // Maps are ordered and keys are strings: serialisation cannot fail, and equal values are equal.
    let text = serde_json::to_string(value).unwrap_or_default();
    names::hash(&[&text]).chars().take(DIGITS).collect()
}

/// Another name of the same length class for the same thing: LBC's form, with another hash.
pub(crate) fn renamed(name: &str, turn: u32) -> String {
    let hash = hash(&(name, turn));
    let kept = name
        .char_indices()
        .nth(21)
        .map_or(name, |(end, _)| name.get(..end).unwrap_or(name));
    let hash = hash.get(..10).unwrap_or(&hash);
    format!("{}-{hash}", kept.trim_end_matches('-'))
}
