//! When an address is announced: often at first, because one lost frame must not cost much, and
//! sparsely for as long as it is owned.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

/// From the first to the second and on to the third announcement of a burst.
const FIRST_GAPS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(100)];
/// Neither a burst nor repetitions are denser than this, whatever was set: a poll must end.
const LEAST_GAP: Duration = Duration::from_millis(10);

/// When to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how long announcements are dense after the first; three are made in any case, the second
    /// after 50 ms and the third after 150 ms.
    pub burst: Duration,
    /// How dense the others of a burst are.
    pub burst_interval: Duration,
    /// How long after a burst, or after the last repetition, to announce again, give or take a tenth.
    /// Zero: never.
    pub repeat: Duration,
    /// How often at most to defend an address on a link: 10 s, says RFC 5227 (DEFEND_INTERVAL).
    pub defend_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            burst: Duration::from_secs(5),
            burst_interval: Duration::from_millis(500),
            repeat: Duration::from_secs(60),
            defend_interval: Duration::from_secs(10),
        }
    }
}

/// Settings, and the chance that spreads repetitions.
#[derive(Debug)]
pub(super) struct Pace {
    settings: Settings,
    rng: fastrand::Rng,
}

impl Pace {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { settings, rng }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When to repeat what was announced now.
    fn repetition(&mut self, now: Duration) -> Option<Duration> {
        let repeat = self.settings.repeat;
        if repeat.is_zero() {
            return None;
        }
        let spread = u64::try_from(repeat.as_nanos() / 5).unwrap_or(u64::MAX);
        let least = repeat.saturating_sub(Duration::from_nanos(spread / 2));
        let gap = least.saturating_add(Duration::from_nanos(self.rng.u64(0..=spread)));
        now.checked_add(gap.max(LEAST_GAP))
    }
}

/// How far an address is in its burst.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Burst {
    rounds: usize,
    /// Since the first round.
    began: Duration,
}

impl Burst {
    /// A round was handed out now: when is the next, if ever? Always later than now. Counted from now and not from when this one was
    /// due, so that a burst that was held or polled late is as dense as any other.
    pub(super) fn advance(&mut self, pace: &mut Pace, now: Duration) -> Option<Duration> {
        if self.rounds == 0 {
            self.began = now;
        }
        let gap = FIRST_GAPS.get(self.rounds).copied();
        self.rounds = self.rounds.saturating_add(1);
        if let Some(gap) = gap {
            return now.checked_add(gap);
        }
        let next = now.checked_add(pace.settings.burst_interval.max(LEAST_GAP));
        let end = self.began.saturating_add(pace.settings.burst);
        next.filter(|next| *next <= end)
            .or_else(|| pace.repetition(now))
    }
}

/// Which address is due when. The one that is due longest comes first, so that the first round of
/// all is handed out before the second of any.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    queue: BTreeSet<(Duration, IpAddr)>,
    times: FxHashMap<IpAddr, Duration>,
}

impl Schedule {
    pub(super) fn set(&mut self, ip: IpAddr, due: Duration) {
        self.remove(ip);
        self.queue.insert((due, ip));
        self.times.insert(ip, due);
    }

    pub(super) fn remove(&mut self, ip: IpAddr) {
        if let Some(due) = self.times.remove(&ip) {
            self.queue.remove(&(due, ip));
        }
    }

    pub(super) fn first(&self) -> Option<Duration> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Who is due, and longest of all.
    pub(super) fn due(&self, now: Duration) -> Option<IpAddr> {
        let (due, ip) = self.queue.first()?;
        (*due <= now).then_some(*ip)
    }
}
