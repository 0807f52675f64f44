//! When the status is written: on change, at most once a second, and again after an error. Pure.

use std::time::Duration;

/// Between two writes.
const INTERVAL: Duration = Duration::from_secs(1);
/// After an error: longer and longer, as the API server may be in trouble because of all of us.
const LONGEST: Duration = Duration::from_secs(8);

/// What was written and when the next may be.
#[derive(Debug)]
pub(super) struct Pace<T> {
    written: Option<T>,
    next: Duration,
    failures: u32,
}

impl<T> Default for Pace<T> {
    fn default() -> Self {
        Self {
            written: None,
            next: Duration::ZERO,
            failures: 0,
        }
    }
}

impl<T: PartialEq> Pace<T> {
    /// When to write; `None` when there is nothing to write.
    pub(super) fn due(&self, wanted: Option<&T>, now: Duration) -> Option<Duration> {
        let wanted = wanted?;
        (self.would_change(wanted)).then(|| self.next.max(now))
    }

    /// Whether it says something else than what was written last.
    pub(super) fn would_change(&self, status: &T) -> bool {
        self.written.as_ref() != Some(status)
    }

    /// It is written.
    pub(super) fn written(&mut self, status: T, now: Duration) {
        self.written = Some(status);
        self.failures = 0;
        self.next = now + INTERVAL;
    }

    /// It may or may not be written.
    pub(super) fn failed(&mut self, now: Duration) {
        self.written = None;
        let pause = INTERVAL * 2_u32.saturating_pow(self.failures.min(8));
        self.failures += 1;
        self.next = now + pause.min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_first_is_written_at_once_and_the_same_never_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(None, ms(5)), None);
        assert_eq!(pace.due(Some(&"a/a"), ms(5)), Some(ms(5)));
        pace.written("a/a", ms(6));
        assert_eq!(pace.due(Some(&"a/a"), ms(9000)), None);
    }

    #[test]
    fn two_changes_are_written_a_second_apart() {
        let mut pace = Pace::default();
        pace.written("a/a", ms(100));
        assert_eq!(pace.due(Some(&"a/b"), ms(200)), Some(ms(1100)));
        assert_eq!(pace.due(Some(&"a/c"), ms(1300)), Some(ms(1300)));
        assert_eq!(pace.due(Some(&"a/a"), ms(300)), None);
    }

    #[test]
    fn errors_are_followed_by_longer_pauses_up_to_eight_seconds_and_a_write_ends_them() {
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pace.failed(ms(0));
            pauses.push(pace.due(Some(&"a/a"), ms(0)).unwrap());
        }
        let expected = [1000, 2000, 4000, 8000, 8000, 8000].map(ms);
        assert_eq!(pauses, expected);
        pace.written("a/a", ms(0));
        pace.failed(ms(0));
        assert_eq!(pace.due(Some(&"a/b"), ms(0)), Some(ms(1000)));
    }

    #[test]
    fn after_an_error_even_the_last_status_is_written_again() {
        let mut pace = Pace::default();
        pace.written("a/a", ms(0));
        pace.failed(ms(2000));
        assert_eq!(pace.due(Some(&"a/a"), ms(9000)), Some(ms(9000)));
    }
}
