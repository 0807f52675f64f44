//! Both clocks of the core, read together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use speaker_core::Now;

/// The present. The monotonic clock is the one that goes on while the machine sleeps
/// (CLOCK_BOOTTIME): a virtual machine that was suspended must not take itself for awake.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    Now {
        mono: Duration::try_from(boot).unwrap_or_default(),
        wall: since_1970().as_millis().try_into().unwrap_or(i64::MAX),
    }
}

/// The time of day.
pub(crate) fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
