//! A user's mistake, and how its words are shown.

use crate::Reason;

/// How many characters of a user's value a message shows.
pub const SHOWN: usize = 64;

/// A user's mistake: becomes a condition and waits for a change; never a retried error.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Rejection {
    /// The word.
    pub reason: Reason,
    /// One sentence naming the object, the field and what to change.
    pub message: String,
}

impl Rejection {
    /// Something that cannot be read or cannot be had.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            reason: Reason::InvalidRequest,
            message: message.into(),
        }
    }

    /// Two things that exclude each other.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self {
            reason: Reason::ConflictingRequest,
            message: message.into(),
        }
    }
}

/// A user's text for a message: quoted, at most [`SHOWN`] characters, nothing unprintable.
pub fn quoted(text: &str) -> String {
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
