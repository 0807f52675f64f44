//! The keys by which speakers talk to one another: entries of a Secret, named by the UTC time from
//! which each is used to send; all are accepted. What a rotation adds and drops, as pure rules.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// A new key is used to send so long after it was added (seconds): by then every node's kubelet has
/// brought it to the speaker, which takes two minutes at most with Kubernetes' defaults.
pub const LEAD: i64 = 300;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// As entries of a Secret may be called: without colons.
const FORM: &str = "%Y-%m-%dT%H-%M-%SZ";

/// What a rotation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// The entry that is used to send until the new one is.
    pub in_force: Option<String>,
    /// The new entry.
    pub add: String,
    /// From when it is used to send.
    pub at: Timestamp,
    /// Entries that go: older than the one in force, they have not been used for a whole rotation.
    pub drop: Vec<String>,
}

/// The name of the entry that is used to send from then (Unix seconds).
pub fn name(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime(FORM).to_string()
}

/// From when an entry is used to send; `None`: it is none of ours.
fn time(name: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime(FORM, name).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// What a rotation now (Unix seconds) does with these entries. Others in the Secret stay.
pub fn rotate<'a>(names: impl IntoIterator<Item = &'a str>, now: i64) -> Rotation {
    let mut keys: Vec<(Timestamp, &str)> = names
        .into_iter()
        .filter_map(|name| Some((time(name)?, name)))
        .collect();
    keys.sort();
    let began = |(at, _): &&(Timestamp, &str)| at.as_second() <= now;
    // Before the first has begun the oldest is used.
    let in_force = keys.iter().rfind(began).or(keys.first());
    let older = keys
        .iter()
        .filter(|(at, _)| in_force.is_some_and(|(since, _)| at < since));
    let mut at = now.saturating_add(LEAD);
    while keys.iter().any(|(taken, _)| taken.as_second() == at) {
        at += 1;
    }
    Rotation {
        in_force: in_force.map(|(_, name)| (*name).to_owned()),
        add: name(at),
        at: Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH),
        drop: older.map(|(_, name)| (*name).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_913_400; // 2026-11-29T00:50:00Z

    #[test]
    fn an_entry_is_named_by_its_time() {
        assert_eq!(name(NOW), "2026-11-29T00-50-00Z");
        assert_eq!(
            time("2026-11-29T00-50-00Z").map(Timestamp::as_second),
            Some(NOW)
        );
        assert_eq!(time("README"), None);
    }

    #[test]
    fn a_rotation_keeps_the_key_in_force_and_drops_what_is_older() {
        let (old, current, coming) = (
            "2026-01-01T00-00-00Z",
            "2026-06-01T00-00-00Z",
            "2026-11-29T00-54-00Z",
        );
        let rows: [(&[&str], Option<&str>, &[&str]); 6] = [
            (&[], None, &[]),
            (&[current], Some(current), &[]),
            (&[current, old], Some(current), &[old]),
            // Rotated a minute ago: the one that is to come stays, too.
            (&[old, coming, current], Some(current), &[old]),
            // A clock was wrong: before the first has begun, the oldest sends.
            (&[coming, "2027-01-01T00-00-00Z"], Some(coming), &[]),
            (&[current, "notes"], Some(current), &[]),
        ];
        for (names, in_force, dropped) in rows {
            let rotation = rotate(names.iter().copied(), NOW);
            assert_eq!(rotation.in_force.as_deref(), in_force, "{names:?}");
            assert_eq!(rotation.drop, dropped, "{names:?}");
            assert_eq!(rotation.add, "2026-11-29T00-55-00Z");
            assert_eq!(rotation.at.as_second(), NOW + LEAD);
        }
    }

    #[test]
    fn two_rotations_within_a_second_make_two_keys() {
        let first = rotate([], NOW).add;
        assert_eq!(rotate([first.as_str()], NOW).add, "2026-11-29T00-55-01Z");
    }
}
