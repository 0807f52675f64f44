//! Durations as users write them, `24h` or `1h30m`. The CEL rules on `retainFor` accept exactly
//! what [`parse_duration`] accepts.

use std::time::Duration;

/// The longest retention: one year of 365 days.
pub const MAX_RETENTION: Duration = Duration::from_secs(8760 * 3600);

/// CEL: is `self` written as a duration?
pub(crate) const FORM_RULE: &str =
    "self != '' && self.matches('^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$')";
/// What to say when [`FORM_RULE`] does not hold.
pub(crate) const FORM_MESSAGE: &str =
    "write a duration in hours, minutes and seconds, for example 24h, 30m or 1h30m";
/// CEL: is `self`, if it is a duration at all, in bounds?
pub(crate) const BOUNDS_RULE: &str = "self == '' || !self.matches('^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$') || (duration(self) > duration('0s') && duration(self) <= duration('8760h'))";
/// What to say when [`BOUNDS_RULE`] does not hold.
pub(crate) const BOUNDS_MESSAGE: &str = "a duration must be longer than 0 and at most 8760h (one year); leave the field out for no retention";

/// The units, in the order in which they may appear, with their seconds and the most digits each
/// may have (enough for one year).
const UNITS: [(char, u64, usize); 3] = [('h', 3600, 4), ('m', 60, 6), ('s', 1, 8)];

/// Reads a duration of hours, minutes and seconds in this order, each at most once: `30m`, `24h`,
/// `1h30m`, `90s`.
///
/// # Errors
/// A sentence for the user when the text is not a duration, is zero or is longer than
/// [`MAX_RETENTION`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let not_a_duration = || format!("\"{text}\" is not a duration: {FORM_MESSAGE}");
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, factor, max_digits) in UNITS {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let Some(tail) = tail.strip_prefix(unit) else {
            continue;
        };
        if digits > max_digits {
            return Err(not_a_duration());
        }
        let number: u64 = number.parse().map_err(|_| not_a_duration())?;
        seconds += number * factor;
        rest = tail;
    }
    if text.is_empty() || !rest.is_empty() {
        return Err(not_a_duration());
    }
    let duration = Duration::from_secs(seconds);
    if duration.is_zero() || duration > MAX_RETENTION {
        return Err(format!("\"{text}\" is out of bounds: {BOUNDS_MESSAGE}"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests;
