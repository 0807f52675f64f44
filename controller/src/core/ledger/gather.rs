//! How long a write of a block waits for more reservations. Pure.
//!
//! Whoever is being created waits for that write, and each write is of the whole block. So while few
//! come each is written at once; when many come, or when the API server is slow because it has too
//! much to do already, several are written together.

use std::time::Duration;

/// Arrivals are counted over so long.
const WINDOW: Duration = Duration::from_millis(400);
/// So many within [`WINDOW`], in all blocks, are many: 80 a second. 50 a second are to wait for nothing,
/// also when they come by chance (32 where 20 are usual: less than once in a hundred windows). Clients
/// that wait for one another become slower by gathering, but by this not slower than that.
const MANY: f64 = 32.0;
/// And where so many came to one block within [`PATIENCE`], more will come to it: a pool that gives the
/// lowest free number fills one block after the other, others give from all of them.
const FEW: usize = 3;
/// So many are written without waiting for more.
const ENOUGH: usize = 16;
/// The first of them waits no longer: of 200 a second each write is for ten.
const PATIENCE: Duration = Duration::from_millis(50);

/// Several writes of which each takes longer say that the API server is busy: one at leisure takes 3 to
/// 6 ms. A single one says nothing, as garbage is collected all the time.
const BUSY: Duration = Duration::from_millis(8);
const SEVERAL: usize = 4;
/// Then a block is being written for a quarter of the time at most.
const SHARE: u32 = 4;
/// And nobody waits longer for that: an answer has to be there within two seconds.
const LONGEST: Duration = Duration::from_millis(400);

/// What nobody waits for goes with the next reservations while some come, and waits no longer for that.
const LINGER: Duration = Duration::from_millis(200);

/// How many reservations come, those of other replicas among them.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Which [`WINDOW`] it is, and how many came in it and in the one before.
    window: u128,
    here: u32,
    before: u32,
}

impl Arrivals {
    /// So many have come by now.
    pub(super) fn count(&mut self, count: usize, now: Duration) {
        let window = now.as_millis() / WINDOW.as_millis();
        if window != self.window {
            let next = window == self.window.saturating_add(1);
            self.before = if next { self.here } else { 0 };
            self.here = 0;
            self.window = window;
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.here = self.here.saturating_add(count);
    }

    /// Whether they are many; those of the [`WINDOW`] before are taken to have come evenly.
    pub(super) fn are_many(&self, now: Duration) -> bool {
        let passed = now.as_secs_f64() % WINDOW.as_secs_f64() / WINDOW.as_secs_f64();
        f64::from(self.before).mul_add(1.0 - passed, f64::from(self.here)) >= MANY
    }
}

/// Reservations of one block as they come.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Not counted yet, ours and those of other replicas.
    new: usize,
    elsewhere: usize,
    /// When the last ones came.
    came: [Option<Duration>; FEW],
    /// When the latest of ours came, and since when the first of those that wait has waited.
    latest: Option<Duration>,
    since: Option<Duration>,
    /// Something else has come, and since when the first of that lingers.
    other: bool,
    lingers: Option<Duration>,
    /// When the last write began, and how long the last ones took.
    began: Duration,
    took: [Duration; SEVERAL],
}

impl Gathering {
    /// One has come.
    pub(super) fn arrived(&mut self) {
        self.new += 1;
    }

    /// Something has come that nobody waits for.
    pub(super) fn other_arrived(&mut self) {
        self.other = true;
    }

    /// Another replica has written so many.
    pub(super) fn arrived_elsewhere(&mut self, count: usize) {
        self.elsewhere += count;
    }

    /// Takes in what has come by now, and says how many that was.
    pub(super) fn count(&mut self, now: Duration) -> usize {
        let (ours, theirs) = (
            std::mem::take(&mut self.new),
            std::mem::take(&mut self.elsewhere),
        );
        for _ in 0..FEW.min(ours + theirs) {
            self.came.rotate_right(1);
            if let Some(last) = self.came.first_mut() {
                *last = Some(now);
            }
        }
        if ours > 0 {
            self.since.get_or_insert(now);
            self.latest = Some(now);
        }
        if std::mem::take(&mut self.other) {
            self.lingers.get_or_insert(now);
        }
        ours + theirs
    }

    /// What waits is being written.
    pub(super) fn begun(&mut self, now: Duration) {
        self.since = None;
        self.lingers = None;
        self.began = now;
    }

    /// The API server has answered.
    pub(super) fn ended(&mut self, now: Duration) {
        self.took.rotate_right(1);
        if let Some(last) = self.took.first_mut() {
            *last = now.saturating_sub(self.began);
        }
    }

    /// What was being written did not get there, and has waited.
    pub(super) fn again(&mut self) {
        self.since = Some(Duration::ZERO);
    }

    /// When `waiting` of them are to be written, as there are `many` in all.
    pub(super) fn due(&self, waiting: usize, many: bool, now: Duration) -> Duration {
        let Some(since) = self.since else { return now };
        let few = self.came.last().copied().flatten();
        let many = many && few.is_some_and(|few| now <= few + PATIENCE);
        let crowd = if many && waiting < ENOUGH {
            since + PATIENCE
        } else {
            now
        };
        crowd.max(self.relieved())
    }

    /// When what nobody waits for is to be written.
    pub(super) fn unhurried(&self, now: Duration) -> Duration {
        let came = self.latest.is_some_and(|latest| now < latest + WINDOW);
        let lingers = self.lingers.filter(|_| came);
        let with_others = lingers.map_or(now, |since| since + LINGER);
        with_others.max(self.relieved())
    }

    /// When the API server has had time for others.
    fn relieved(&self) -> Duration {
        let took = self.took.iter().min().copied().unwrap_or_default();
        match took > BUSY {
            true => self.began + (took * SHARE).min(LONGEST),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
