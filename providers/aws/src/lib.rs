//! Network Load Balancers for Services of type LoadBalancer, under the annotations, names and tags
//! of AWS Load Balancer Controller (below: LBC).
//!
//! ```text
//! input -> DESIRED -> wanted ┐
//!                            ├ DIFF -> plan -> apply
//! account -> observe -> seen ┘
//! ```
//!
//! [`desired()`] and [`mod@diff`] are pure: nothing here talks to AWS; what does (observe and apply) is
//! still to come.

pub mod annotations;
mod attributes;
pub mod desired;
pub mod diff;
pub mod fingerprint;
pub mod input;
pub mod names;
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

/// A user's mistake: becomes a condition and waits for a change; never a retried error.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Rejection {
    /// The word.
    pub reason: model::Reason,
    /// One sentence naming the object, the field and what to change.
    pub message: String,
}

impl Rejection {
    /// Something that cannot be read or cannot be had.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            reason: model::Reason::InvalidRequest,
            message: message.into(),
        }
    }

    /// Two things that exclude each other.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self {
            reason: model::Reason::ConflictingRequest,
            message: message.into(),
        }
    }
}

/// How many characters of a user's value a message shows.
pub const SHOWN: usize = 64;

/// A user's text for a message: quoted, at most [`SHOWN`] characters, nothing unprintable.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    let mut characters = text.chars();
    for character in characters.by_ref().take(SHOWN) {
        shown.extend(character.escape_debug());
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

/// `a, b and 3 more`: at most `most` of them.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>, most: usize) -> String {
    let names: Vec<&str> = names.collect();
    let shown: Vec<&str> = names.iter().copied().take(most).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
