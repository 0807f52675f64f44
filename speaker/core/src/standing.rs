//! How settled this node is, and whether it may own anything yet. No clocks are compared: each node
//! measures its own time and tells the outcome.

use std::time::Duration;

use crate::message::Rank;

#[cfg(test)]
mod tests;

/// How long a node that begins looks for peers before it believes that there are none.
const LOOK: Duration = Duration::from_secs(1);
/// For how long after a cold start others settle with the founder.
const FOUNDING: Duration = Duration::from_secs(5);
/// How long the founders wait for each other's cards before they own anything.
const GATHER: Duration = Duration::from_millis(50);

/// What the node sees around it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around {
    /// Live nodes with a card, itself included.
    pub(crate) alive: usize,
    /// Nodes that there are, itself included.
    pub(crate) known: usize,
    /// The most live nodes that a peer sees.
    pub(crate) expected: usize,
    /// Whether a peer is settled.
    pub(crate) is_any_settled: bool,
    /// Whether a peer is a founder.
    pub(crate) is_any_founding: bool,
    /// Whether our watch is stuck.
    pub(crate) is_behind: bool,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    rank: Rank,
    /// When this life began.
    begun: Duration,
    /// Since when the rejoin delay counts.
    since: Duration,
    founded: Duration,
    /// Owns nothing, because it does not know its peers yet.
    asleep: bool,
    wake_at: Option<Duration>,
    /// It was declared dead and knows: it founds nothing with others.
    has_returned: bool,
}

impl Standing {
    /// A life begins.
    pub(crate) const fn new(now: Duration, has_returned: bool) -> Self {
        Self {
            rank: Rank::Joining,
            begun: now,
            since: now,
            founded: now,
            asleep: true,
            wake_at: None,
            has_returned,
        }
    }

    pub(crate) const fn rank(&self) -> Rank {
        self.rank
    }

    /// Whether it owns nothing for now.
    pub(crate) const fn is_asleep(&self) -> bool {
        self.asleep
    }

    pub(crate) const fn leave(&mut self) {
        self.rank = Rank::Leaving;
    }

    /// Time has passed, or something around changed.
    pub(crate) fn tick(&mut self, now: Duration, delay: Duration, around: &Around) {
        self.rank = match self.rank {
            Rank::Leaving => Rank::Leaving,
            Rank::Joining | Rank::Settled | Rank::Founding if around.is_behind => {
                self.since = now;
                Rank::Joining
            }
            Rank::Joining => self.settle(now, delay, around),
            Rank::Founding if now.saturating_sub(self.founded) < FOUNDING => Rank::Founding,
            Rank::Founding | Rank::Settled => Rank::Settled,
        };
        if self.asleep && self.wakes(now, around) {
            self.asleep = false;
        }
    }

    fn settle(&mut self, now: Duration, delay: Duration, around: &Around) -> Rank {
        if now.saturating_sub(self.since) >= delay {
            return Rank::Settled;
        }
        if around.is_any_founding && !self.has_returned {
            self.wake_at = Some(now + GATHER);
            return Rank::Settled;
        }
        // A minority waits: the others may be about to come, and then all settle together.
        let has_looked = now.saturating_sub(self.begun) >= LOOK || around.known <= 1;
        if has_looked && !around.is_any_settled && around.alive * 2 > around.known {
            self.founded = now;
            self.wake_at = Some(
                now + if around.known <= 1 {
                    Duration::ZERO
                } else {
                    GATHER
                },
            );
            return Rank::Founding;
        }
        Rank::Joining
    }

    fn wakes(&self, now: Duration, around: &Around) -> bool {
        if let Some(wake_at) = self.wake_at {
            return now >= wake_at;
        }
        let is_complete = around.is_any_settled && around.alive >= around.expected;
        is_complete || now.saturating_sub(self.begun) >= LOOK
    }
}
