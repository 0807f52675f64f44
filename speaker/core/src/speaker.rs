//! One node's speaker.

use std::time::Duration;

use crate::io::{Effect, Figures, Input, Phase, Settings};
use crate::words::Now;

/// One node's speaker.
#[derive(Debug)]
pub struct Speaker {
    settings: Settings,
}

impl Speaker {
    /// A speaker that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        let _ = now;
        Self { settings }
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        let _ = (input, now, &self.settings);
    }

    /// The next thing to do; None: nothing until an input comes or the deadline.
    pub fn poll(&mut self, now: Now) -> Option<Effect> {
        let _ = now;
        None
    }

    /// When `poll` is to be called again at the latest, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            owned: 0,
            takeovers: 0,
            conflicts: 0,
            answered: 0,
            peers: 0,
            refused: 0,
            deaths: 0,
            scores: 0,
            phase: Phase::Waiting,
            silent: true,
        }
    }
}
