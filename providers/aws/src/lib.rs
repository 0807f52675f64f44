//! Network Load Balancers for Services of type LoadBalancer, under the annotations, names and tags
//! of AWS Load Balancer Controller (below: LBC).
//!
//! ```text
//! input -> DESIRED -> wanted ┐
//!                            ├ DIFF -> plan -> apply
//! account -> observe -> seen ┘
//! ```
//!
//! [`desired`] and [`diff`] are pure: what `portolan plan` prints is what the controller does. What
//! talks to AWS is behind the feature `sdk`.

mod attributes;
pub mod diff;
pub mod fingerprint;
pub mod input;
pub mod plan;
pub mod rehearsal;
pub mod seen;
pub mod wanted;

/// A user's mistake: becomes a condition and waits for a change; never a retried error.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Rejection {
    /// The word.
    pub reason: model::Reason,
    /// One sentence naming the object, the field and what to change.
    pub message: String,
}
