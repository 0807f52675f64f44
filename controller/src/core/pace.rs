//! When a Service may have its nodePorts changed: oldest violation first, so many a second. Which
//! nodePorts those are and what they become is `decide`'s; that a number is whose is the ledger's.
//!
//! Beside that it keeps what the API server has said on the way: numbers that somebody has whom no
//! watch shows, writes that it refuses, the range that it gives from. All of it is lost with the
//! process, and learnt again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use model::{Number, ServiceKey};

use super::{
    decide::Move,
    refusal::{self, Refusal},
};

#[cfg(test)]
mod tests;

/// A number that the API server calls taken is not tried again for so long: it finds numbers that
/// nobody has after three rounds of three minutes (kube-apiserver `numRepairsBeforeLeakCleanup`).
const FOREIGN: Duration = Duration::from_secs(600);
/// A write that is refused for another reason is tried again after so long.
const REFUSED: Duration = Duration::from_secs(60);

/// The ports that the API server gives from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// Whether that is told, by the flag or by the API server; else it is Kubernetes' default.
    pub told: bool,
}

impl Default for ServerRange {
    /// kube-apiserver's default of `--service-node-port-range`.
    fn default() -> Self {
        Self {
            first: 30_000,
            last: 32_767,
            told: false,
        }
    }
}

impl ServerRange {
    /// Reads the forms of `--service-node-port-range`: `min-max`, `base+more`, one port.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let (first, last) = match (text.split_once('-'), text.split_once('+')) {
            (Some((first, last)), _) => (number(first)?, number(last)?),
            (None, Some((base, more))) => {
                (number(base)?, number(base)?.checked_add(number(more)?)?)
            }
            (None, None) => (number(text)?, number(text)?),
        };
        (0 < first && first <= last).then_some(Self {
            first,
            last,
            told: true,
        })
    }
}

/// Since when somebody waits, and of those who wait equally long the older Service first.
type Place = (Duration, i64, ServiceKey);

/// Who waits, who may, and what the API server has said.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    burst: f64,
    tokens: f64,
    refilled: Duration,
    line: BTreeSet<Place>,
    places: HashMap<ServiceKey, Place>,
    granted: BTreeSet<ServiceKey>,
    /// What the last write would change, until it is known to have done so.
    moving: HashMap<ServiceKey, Vec<Move>>,
    foreign: BTreeMap<Number, Duration>,
    refused: HashMap<ServiceKey, (Arc<str>, Duration)>,
    range: ServerRange,
}

impl Pace {
    /// At most so many Services a second, and at first as many at once.
    pub fn new(per_second: u32, range: ServerRange) -> Self {
        let rate = f64::from(per_second.max(1));
        Self {
            per_second: rate,
            burst: rate,
            tokens: rate,
            refilled: Duration::ZERO,
            line: BTreeSet::new(),
            places: HashMap::new(),
            granted: BTreeSet::new(),
            moving: HashMap::new(),
            foreign: BTreeMap::new(),
            refused: HashMap::new(),
            range,
        }
    }

    /// Another replica leads, or this one anew: who waits is found again. What the API server said
    /// stays true.
    pub fn reset(&mut self) {
        self.line.clear();
        self.places.clear();
        self.granted.clear();
        self.moving.clear();
        self.refused.clear();
    }

    /// Whether the Service's turn has come.
    pub fn allows(&self, key: &ServiceKey) -> bool {
        self.granted.contains(key)
    }

    /// The Service violates a policy: it waits for its turn, from now on unless it does already.
    pub fn wait(&mut self, key: &ServiceKey, created: i64, now: Duration) {
        if self.granted.contains(key) || self.places.contains_key(key) {
            return;
        }
        let place = (now, created, key.clone());
        self.line.insert(place.clone());
        self.places.insert(key.clone(), place);
    }

    /// It violates none any more, or is gone: what its last write was to change, if that is not
    /// known to have arrived.
    pub fn leave(&mut self, key: &ServiceKey) -> Vec<Move> {
        if let Some(place) = self.places.remove(key) {
            self.line.remove(&place);
        }
        self.granted.remove(key);
        self.moving.remove(key).unwrap_or_default()
    }

    /// Whose turn it is now.
    pub fn turn(&mut self, now: Duration) -> Option<ServiceKey> {
        let elapsed = now.saturating_sub(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.refilled = self.refilled.max(now);
        if self.tokens < 1.0 {
            return None;
        }
        let (_, _, key) = self.line.pop_first()?;
        self.tokens -= 1.0;
        self.places.remove(&key);
        self.granted.insert(key.clone());
        Some(key)
    }

    /// When somebody's turn comes, or something is over that the API server has said.
    pub fn next_due(&self) -> Option<Duration> {
        let missing = (1.0 - self.tokens).max(0.0) / self.per_second;
        // A nanosecond more than it takes, so that no rounding makes it come too early for ever.
        let wait = Duration::from_secs_f64(missing) + Duration::from_nanos(1);
        let turn = (!self.line.is_empty()).then(|| self.refilled + wait);
        let foreign = self.foreign.values().copied();
        let refused = self.refused.values().map(|(_, until)| *until);
        turn.into_iter().chain(foreign).chain(refused).min()
    }

    /// Whether somebody waits.
    pub fn is_waited_for(&self) -> bool {
        !self.line.is_empty()
    }

    /// A write is sent that changes these.
    pub fn sent(&mut self, key: &ServiceKey, moves: Vec<Move>) {
        self.moving.insert(key.clone(), moves);
    }

    /// It arrived: what it has changed.
    pub fn arrived(&mut self, key: &ServiceKey) -> Vec<Move> {
        self.granted.remove(key);
        self.moving.remove(key).unwrap_or_default()
    }

    /// It did not arrive; whether it was to change any.
    pub fn unsent(&mut self, key: &ServiceKey) -> bool {
        self.moving.remove(key).is_some()
    }

    /// The API server refused a write of nodePorts with these words: whether another number may do
    /// better, and whether the range is another than was thought.
    pub fn learn(&mut self, message: &str, now: Duration) -> (bool, bool) {
        let meant = refusal::read(message);
        let before = self.range;
        for meant in &meant {
            match *meant {
                Refusal::Taken(port) => {
                    self.foreign.insert(Number::port(port), now + FOREIGN);
                }
                Refusal::OutOfRange { first, last } => {
                    let told = true;
                    self.range = ServerRange { first, last, told };
                }
            }
        }
        (!meant.is_empty(), self.range != before)
    }

    /// It refused a change for a reason of which nothing was learnt: the Service waits for a while,
    /// and others may have more luck.
    pub fn refuse(&mut self, key: &ServiceKey, message: &str, now: Duration) {
        let refused = (message.into(), now + REFUSED);
        self.refused.insert(key.clone(), refused);
        self.granted.remove(key);
    }

    /// Why the API server does not let this Service be renumbered, until it is tried again.
    pub fn refused(&self, key: &ServiceKey) -> Option<&str> {
        self.refused.get(key).map(|(words, _)| &**words)
    }

    /// Forgets what is over by now: which numbers may be tried again, and which Services.
    pub fn expire(&mut self, now: Duration) -> (Vec<Number>, Vec<ServiceKey>) {
        let numbers = self.foreign.extract_if(.., |_, until| *until <= now);
        let numbers = numbers.map(|(number, _)| number).collect();
        let services = self.refused.extract_if(|_, (_, until)| *until <= now);
        (numbers, services.map(|(key, _)| key).collect())
    }

    /// Numbers that the API server calls taken, and until when that is believed.
    pub fn foreign(&self) -> &BTreeMap<Number, Duration> {
        &self.foreign
    }

    /// The range that the API server gives from.
    pub fn range(&self) -> ServerRange {
        self.range
    }
}
