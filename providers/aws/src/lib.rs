//! Network Load Balancers for Services of type LoadBalancer, under the annotations, names and tags
//! of AWS Load Balancer Controller (below: LBC).
//!
//! ```text
//! input -> DESIRED -> wanted ┐
//!                            ├ DIFF -> plan -> apply
//! account -> observe -> seen ┘
//! ```
//!
//! [`desired()`] and [`mod@diff`] are pure: nothing here talks to AWS. What does, observe and apply, is
//! package `aws-cloud`.

pub mod adoption;
pub mod annotations;
mod attributes;
pub mod desired;
pub mod diff;
pub mod fingerprint;
pub mod input;
pub mod names;
pub mod nodes;
pub mod orphans;
pub mod plan;
pub mod rehearsal;
pub mod security;
pub mod seen;
pub mod subnets;
pub mod tags;
pub mod targets;
pub mod wanted;

mod front;
mod ports;

#[cfg(test)]
mod fixtures;

pub use desired::desired;
pub use model::Rejection;
pub(crate) use model::quoted;

/// `a, b and 3 more`: at most `most` of them.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>, most: usize) -> String {
    let names: Vec<&str> = names.collect();
    let shown: Vec<&str> = names.iter().copied().take(most).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
