//! Who leads: client-go's leader election as a state machine. It says what to ask of the API server
//! and takes the answer; it does no IO and knows no clock.
//!
//! Never two leaders: a leader stops [`Timing::renew_deadline`] after it *began* its last renewal
//! that succeeded; anyone else takes over only [`Timing::duration`] after it *saw* the record change
//! last, and only on exactly that record (precondition on its resourceVersion). The renewal reached
//! the API server after it began and was seen after that, so with `duration > renew_deadline` the
//! old leader has stopped before the new one starts. Each side measures by its own clock; the times
//! in the record are for people.
//!
//! ```text
//!            free, expired or ours: write          written
//! standby --------------------------> candidate ------------> leader
//!    ^   <--- held by another: wait ---   |  ^                  | every retry: write
//!    |                                    |  | refused, lost:   | refused, lost: read, then write
//!    +---------- read --------------------+  +---- read --------+ renew_deadline passed: standby
//! ```

use std::{sync::Arc, time::Duration};

use super::effect::Now;

/// The intervals. The defaults are client-go's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Others wait so long after the record's last change.
    pub duration: Duration,
    /// A leader that could not renew for so long stops; shorter than `duration`.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// client-go's JitterFactor: standbys try every `retry * (1 + [0, 1.2))`, so that they do not all
/// try at once.
const JITTER: f64 = 1.2;

/// What the Lease says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// `holderIdentity`; empty when free.
    pub holder: Arc<str>,
    /// `acquireTime`, Unix seconds.
    pub acquired: i64,
    /// `renewTime`, Unix seconds.
    pub renewed: i64,
    /// `leaseTransitions`.
    pub transitions: i32,
}

/// A Lease as it was read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// The content.
    pub record: Record,
}

/// What to ask of the API server. Asking twice is harmless: a write has a precondition that the
/// first one uses up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Read the Lease.
    Read,
    /// Create it with this content.
    Create(Record),
    /// Write this content, on the precondition that it has this resourceVersion.
    Update(Arc<str>, Record),
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was read.
    Found(Version),
    /// There is no Lease.
    Missing,
    /// It was written and has this resourceVersion.
    Written(Arc<str>),
    /// The precondition did not hold.
    Conflict,
    /// No answer, or none that says anything: it may have been written.
    Lost,
}

/// What is known of the Lease.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    lease: Version,
    /// When this version was seen first, by our clock.
    at: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Running,
    /// To be handed back as soon as nothing is under way.
    Releasing,
    Released,
}

/// One process's side of the election.
#[derive(Clone, PartialEq, Debug)]
pub struct Election {
    identity: Arc<str>,
    timing: Timing,
    seen: Option<Seen>,
    /// `seen` may be out of date: read before the next write.
    stale: bool,
    /// When the last renewal that succeeded began, while nobody else has been seen to hold it.
    renewed: Option<Duration>,
    /// The question under way and when it was asked.
    asked: Option<(Ask, Duration)>,
    /// What to ask next, if that is decided already.
    next: Option<Ask>,
    /// When to ask.
    at: Duration,
    mode: Mode,
}

impl Election {
    /// A standby that has not looked yet. `identity` is unique to this process, not to its host.
    pub fn new(identity: Arc<str>, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            stale: true,
            renewed: None,
            asked: None,
            next: None,
            at: Duration::ZERO,
            mode: Mode::Running,
        }
    }

    /// Until when this process leads; it does not when that has passed.
    pub fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|began| began + self.timing.renew_deadline)
    }

    /// Whether this process leads.
    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Who holds the Lease, as last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| &*seen.lease.record.holder)
    }

    /// Stops leading at once and hands the Lease back.
    pub fn release(&mut self) {
        if self.mode == Mode::Running {
            self.mode = Mode::Releasing;
            self.renewed = None;
            self.next = None;
            self.at = Duration::ZERO;
        }
    }

    /// Whether everything is done after [`Self::release`].
    pub fn released(&self) -> bool {
        self.mode == Mode::Released
    }

    /// When [`Self::poll`] has something to ask; `None` while an answer is outstanding or all is
    /// done.
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.asked.is_none() && self.mode != Mode::Released).then_some(self.at)
    }

    /// What to ask now. The answer goes to [`Self::answer`], [`Answer::Lost`] included.
    pub fn poll(&mut self, now: Now) -> Option<Ask> {
        if self.asked.is_some() || now.mono < self.at {
            return None;
        }
        let ask = match self.mode {
            Mode::Released => return None,
            Mode::Releasing => match self.hand_back(now) {
                Some(ask) => ask,
                None => {
                    self.mode = Mode::Released;
                    return None;
                }
            },
            Mode::Running => match self.next.take() {
                Some(ask) => ask,
                None => match &self.seen {
                    Some(seen) if !self.stale && self.leads(now.mono) => {
                        Ask::Update(seen.lease.version.clone(), self.renewal(seen, now))
                    }
                    Some(_) | None => Ask::Read,
                },
            },
        };
        self.asked = Some((ask.clone(), now.mono));
        Some(ask)
    }

    /// Takes the answer to the last question. `jitter` is in `[0, 1)`.
    pub fn answer(&mut self, answer: Answer, now: Now, jitter: f64) {
        let Some((ask, began)) = self.asked.take() else {
            return;
        };
        if self.mode == Mode::Releasing {
            self.handed_back(ask, answer, now);
            return;
        }
        match (ask, answer) {
            (Ask::Read, Answer::Found(lease)) => self.found(lease, now, jitter),
            (Ask::Read, Answer::Missing) => {
                self.seen = None;
                self.next = Some(Ask::Create(self.claim(0, now)));
                self.at = now.mono;
            }
            (Ask::Create(record) | Ask::Update(_, record), Answer::Written(version)) => {
                self.seen = Some(Seen {
                    lease: Version { version, record },
                    at: now.mono,
                });
                self.stale = false;
                self.renewed = Some(began);
                self.at = now.mono + self.timing.retry;
            }
            // Somebody wrote, or deleted it: a leader looks at once, a candidate has lost the race.
            (Ask::Create(_) | Ask::Update(..), Answer::Conflict | Answer::Missing) => {
                self.stale = true;
                self.at = if self.leads(now.mono) {
                    now.mono
                } else {
                    now.mono + self.pause(jitter)
                };
            }
            (Ask::Create(_) | Ask::Update(..), Answer::Lost | Answer::Found(_))
            | (Ask::Read, Answer::Lost | Answer::Conflict | Answer::Written(_)) => {
                self.stale = true;
                self.at = now.mono + self.pause(jitter);
            }
        }
    }

    fn found(&mut self, lease: Version, now: Now, jitter: f64) {
        let same = self.seen.take().filter(|seen| seen.lease == lease);
        let seen = same.unwrap_or(Seen {
            lease,
            at: now.mono,
        });
        self.stale = false;
        let record = &seen.lease.record;
        let ours = record.holder == self.identity;
        if !ours {
            self.renewed = None;
        }
        let expired = now.mono >= seen.at + self.timing.duration;
        if ours || record.holder.is_empty() || expired {
            let record = if ours {
                self.renewal(&seen, now)
            } else {
                self.claim(record.transitions.saturating_add(1), now)
            };
            self.next = Some(Ask::Update(seen.lease.version.clone(), record));
            self.at = now.mono;
        } else {
            self.at = now.mono + self.pause(jitter);
        }
        self.seen = Some(seen);
    }

    /// The write that hands it back, a read where that needs one, nothing when it is not ours.
    fn hand_back(&self, now: Now) -> Option<Ask> {
        let seen = self.seen.as_ref()?;
        if self.stale {
            return Some(Ask::Read);
        }
        (seen.lease.record.holder == self.identity).then(|| {
            let record = Record {
                holder: "".into(),
                renewed: now.wall,
                ..seen.lease.record.clone()
            };
            Ask::Update(seen.lease.version.clone(), record)
        })
    }

    /// One try each; what fails expires by itself.
    fn handed_back(&mut self, ask: Ask, answer: Answer, now: Now) {
        match (ask, answer) {
            // Was under way when the end came.
            (Ask::Create(record) | Ask::Update(_, record), Answer::Written(version))
                if record.holder == self.identity =>
            {
                self.seen = Some(Seen {
                    lease: Version { version, record },
                    at: now.mono,
                });
                self.stale = false;
            }
            (Ask::Read, Answer::Found(lease)) => {
                self.seen = Some(Seen {
                    lease,
                    at: now.mono,
                });
                self.stale = false;
            }
            (
                Ask::Read | Ask::Create(_) | Ask::Update(..),
                Answer::Found(_)
                | Answer::Missing
                | Answer::Written(_)
                | Answer::Conflict
                | Answer::Lost,
            ) => self.mode = Mode::Released,
        }
    }

    fn claim(&self, transitions: i32, now: Now) -> Record {
        Record {
            holder: Arc::clone(&self.identity),
            acquired: now.wall,
            renewed: now.wall,
            transitions,
        }
    }

    fn renewal(&self, seen: &Seen, now: Now) -> Record {
        Record {
            renewed: now.wall,
            ..seen.lease.record.clone()
        }
    }

    /// Leaders try again on the dot, standbys spread out.
    fn pause(&self, jitter: f64) -> Duration {
        if self.renewed.is_some() {
            self.timing.retry
        } else {
            self.timing
                .retry
                .mul_f64(JITTER.mul_add(jitter.clamp(0.0, 1.0), 1.0))
        }
    }
}

#[cfg(test)]
mod tests;
