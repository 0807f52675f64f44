use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use super::certify;
use crate::core::certificates::*;

const NOW: i64 = 1_795_913_400; // 2026-11-29T00:50:00Z
const NAME: &str = "portolan-webhook.portolan-system.svc";
/// How long news of a write may take to every replica and every API server.
const LAG: i64 = 60;

fn terms() -> Terms {
    Terms::new(vec![NAME.to_owned(), "192.0.2.1".to_owned()])
}

fn fresh(now: i64) -> Fresh {
    certify(&terms(), now).unwrap()
}

/// A first generation, as it lies in the cluster.
fn made(now: i64) -> Secret {
    let mut secret = first("portolan-system", "portolan-webhook", &fresh(now));
    secret.metadata.resource_version = Some("1".to_owned());
    secret
}

/// What the API server makes of a merge patch.
fn patched(secret: &Secret, patch: &Value) -> Secret {
    let mut object = serde_json::to_value(secret).unwrap();
    let version = &object["metadata"]["resourceVersion"];
    assert_eq!(*version, patch["metadata"]["resourceVersion"], "a conflict");
    let next: u64 = version.as_str().unwrap().parse().unwrap();
    for field in ["metadata", "data"] {
        merge(&mut object[field], &patch[field]);
    }
    object["metadata"]["resourceVersion"] = (next + 1).to_string().into();
    serde_json::from_value(object).unwrap()
}

fn merge(into: &mut Value, patch: &Value) {
    for (name, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(name)),
            Value::Object(_) => {
                if into.get(name).is_none() {
                    into[name] = json!({});
                }
                merge(&mut into[name], value);
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                into[name] = value.clone();
            }
        }
    }
}

/// What a leader does now; the Secret after it, if it was written.
fn acted(secret: Option<&Secret>, trusted: Option<i64>, now: i64) -> Result<Secret, i64> {
    let stored = secret.map(Stored::read);
    let patch = match (step(stored.as_ref(), &terms(), trusted, now), &stored) {
        (Step::Wait(until), _) => return Err(until),
        (Step::Leave(unfit), _) => panic!("{unfit}"),
        (Step::Make, _) | (_, None) => return Ok(made(now)),
        (Step::Replace(_), Some(stored)) => replaced(stored, &fresh(now)),
        (Step::Prepare, Some(stored)) => prepared(stored, &fresh(now)),
        (Step::Promote, Some(stored)) => promoted(stored).unwrap(),
    };
    Ok(patched(secret.unwrap(), &patch))
}

fn authorities(secret: &Secret) -> usize {
    chain(&Stored::read(secret).authorities).len()
}

#[test]
fn a_certificate_is_believed_under_its_names_until_it_ends_and_by_no_other_authority() {
    let (one, other) = (fresh(NOW), fresh(NOW));
    let check = |fresh: &Fresh, authority: &Fresh, name: &str, now: i64| {
        let names = [name.to_owned()];
        (fresh.pair).check(authority.authority.as_bytes(), &names, now)
    };
    let end = NOW + terms().valid;
    assert_eq!(one.pair.ends(), Some(end));
    for name in [NAME, "192.0.2.1"] {
        assert_eq!(check(&one, &one, name, NOW - 3000), Ok(()), "clocks differ");
        assert_eq!(check(&one, &one, name, end - 1), Ok(()));
    }
    assert_eq!(check(&one, &one, NAME, end), Err(Unfit::Expired));
    let unbelievable = |name: &str| Err(Unfit::Unbelievable(name.to_owned()));
    assert_eq!(check(&one, &other, NAME, NOW), unbelievable(NAME));
    assert_eq!(
        check(&one, &one, "example.com", NOW),
        unbelievable("example.com")
    );
    let mixed = Fresh {
        pair: Pair::new(&*one.pair.certificate, &*other.pair.key),
        ..one.clone()
    };
    assert_eq!(check(&mixed, &one, NAME, NOW), Err(Unfit::Strangers));
}

#[test]
fn no_key_is_printed() {
    let mut stored = Stored::read(&made(NOW));
    stored.next = Some((fresh(NOW).pair, NOW));
    let printed = format!(
        "{stored:?} {:?} {:?}",
        fresh(NOW),
        step(Some(&stored), &terms(), None, NOW)
    );
    assert!(!printed.contains("PRIVATE"), "{printed}");
    // The first letters that are the key's own.
    let key = format!("{:?}", &stored.serving.key[64..72]);
    assert!(!printed.contains(key.trim_matches(['[', ']'])), "{printed}");
}

#[test]
fn what_is_fine_waits_for_the_day_of_its_renewal_and_is_not_written() {
    let secret = made(NOW);
    let renewal = NOW + terms().valid - terms().renew;
    assert_eq!(acted(Some(&secret), None, NOW), Err(renewal));
    assert_eq!(acted(Some(&secret), Some(NOW), renewal - 1), Err(renewal));
    let prepared = acted(Some(&secret), Some(NOW), renewal).unwrap();
    // Until the configuration trusts it, and for ten minutes after that, nothing more happens.
    let end = NOW + terms().valid;
    assert_eq!(acted(Some(&prepared), None, renewal), Err(end));
    let trusted = renewal + 5;
    let due = trusted + terms().overlap;
    assert_eq!(acted(Some(&prepared), Some(trusted), trusted), Err(due));
    let promoted = acted(Some(&prepared), Some(trusted), due).unwrap();
    assert_eq!(Stored::read(&promoted).next, None);
    assert_eq!(
        authorities(&promoted),
        2,
        "whoever still shows the old one is believed"
    );
    assert!(acted(Some(&promoted), Some(due), due).is_err());
}

/// Ten years in which every write may be lost before or after it arrives, and everybody learns of it
/// late: whatever a replica shows is believed by whatever an API server trusts.
#[test]
fn through_ten_years_everything_shown_is_believed_whatever_is_lost_on_the_way() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = NOW;
        let mut secret = None;
        // What was shown and trusted, and since when.
        let mut shown: Vec<(i64, Pair)> = Vec::new();
        let mut bundles: Vec<(i64, Arc<[u8]>)> = Vec::new();
        let mut writes = 0;
        while now < NOW + 10 * terms().valid {
            let stored = secret.as_ref().map(Stored::read);
            let trusts = |stored: &Stored| {
                let known = bundles.last();
                known
                    .filter(|(_, bundle)| *bundle == stored.authorities)
                    .map(|(since, _)| *since)
            };
            let trusted = stored.as_ref().and_then(trusts);
            match acted(secret.as_ref(), trusted, now) {
                Err(until) => now = until.max(now + 1),
                Ok(_lost) if random.u8(..) < 80 => now += random.i64(1..20),
                Ok(next) => {
                    writes += 1;
                    let stored = Stored::read(&next);
                    shown.push((now, stored.serving.clone()));
                    secret = Some(next);
                    // The leader may be gone before it has written the configuration, too.
                    now += random.i64(1..100);
                    if bundles
                        .last()
                        .is_none_or(|(_, known)| *known != stored.authorities)
                    {
                        bundles.push((now, stored.authorities));
                    }
                }
            }
            let late = |since: i64| since + LAG;
            for (at, (since, pair)) in shown.iter().enumerate() {
                let until = shown.get(at + 1).map_or(i64::MAX, |(next, _)| late(*next));
                for (at, (from, bundle)) in bundles.iter().enumerate() {
                    let gone = bundles
                        .get(at + 1)
                        .map_or(i64::MAX, |(next, _)| late(*next));
                    // Both at one time, once the first has been installed.
                    let (begin, end) = ((*since).max(*from), until.min(gone).min(now));
                    if begin <= end && shown.len() > 1 {
                        let believed = pair.check(bundle, &terms().names, end);
                        assert_eq!(
                            believed,
                            Ok(()),
                            "seed {seed}, {} to {}",
                            begin - NOW,
                            end - NOW
                        );
                    }
                }
            }
            if shown.len() > 6 {
                shown.drain(..3);
            }
            if bundles.len() > 6 {
                bundles.drain(..3);
            }
        }
        assert!((25..=34).contains(&writes), "{writes} writes in ten years");
        assert_eq!(authorities(secret.as_ref().unwrap()), 2);
    }
}

#[test]
fn what_has_ended_or_was_spoilt_is_replaced_at_once_and_the_old_authority_stays_while_it_is_good() {
    let spoil = |entry: &str, value: &str| {
        let mut secret = made(NOW);
        let data = secret.data.as_mut().unwrap();
        data.insert(entry.to_owned(), ByteString(value.into()));
        secret
    };
    let other = fresh(NOW - 1);
    let key = String::from_utf8(other.pair.key.to_vec()).unwrap();
    let elsewhere = Terms::new(vec!["elsewhere.example".to_owned()]);
    let elsewhere = first("portolan-system", "w", &certify(&elsewhere, NOW).unwrap());
    let end = NOW + terms().valid;
    let rows = [
        (made(NOW), end, Unfit::Expired, 1),
        (
            spoil(CERTIFICATE, ""),
            NOW,
            Unfit::Unreadable(CERTIFICATE),
            1,
        ),
        (spoil(KEY, "x"), NOW, Unfit::Unreadable(KEY), 2),
        (spoil(KEY, &key), NOW, Unfit::Strangers, 2),
        (
            spoil(AUTHORITIES, ""),
            NOW,
            Unfit::Unreadable(AUTHORITIES),
            1,
        ),
        (
            spoil(AUTHORITIES, &other.authority),
            NOW,
            Unfit::Unbelievable(NAME.to_owned()),
            1,
        ),
        (elsewhere, NOW, Unfit::Unbelievable(NAME.to_owned()), 2),
    ];
    for (mut secret, now, why, trusted) in rows {
        secret.metadata.resource_version = Some("1".to_owned());
        let stored = Stored::read(&secret);
        assert_eq!(
            step(Some(&stored), &terms(), None, now),
            Step::Replace(why.clone())
        );
        let repaired = acted(Some(&secret), None, now).unwrap();
        assert_eq!(authorities(&repaired), trusted, "{why}");
        assert!(
            acted(Some(&repaired), None, now).is_err(),
            "{why}: written twice"
        );
    }
}

#[test]
fn when_portolan_was_off_until_the_end_the_next_generation_takes_over_without_a_wait() {
    let renewal = NOW + terms().valid - terms().renew;
    let prepared = acted(Some(&made(NOW)), None, renewal).unwrap();
    let after = NOW + terms().valid + 1;
    let stored = Stored::read(&prepared);
    assert_eq!(step(Some(&stored), &terms(), None, after), Step::Promote);
    let promoted = acted(Some(&prepared), None, after).unwrap();
    assert!(acted(Some(&promoted), None, after).is_err());
}

#[test]
fn a_next_generation_without_its_time_or_its_key_is_not_shown() {
    let renewal = NOW + terms().valid - terms().renew;
    let prepared = acted(Some(&made(NOW)), None, renewal).unwrap();
    let later = renewal + 100 * terms().overlap;
    let mut timeless = prepared.clone();
    timeless.metadata.annotations = None;
    let stored = Stored::read(&timeless);
    assert!(matches!(
        step(Some(&stored), &terms(), Some(renewal), later),
        Step::Wait(_)
    ));
    let mut keyless = prepared;
    keyless.data.as_mut().unwrap().remove(NEXT_KEY);
    let stored = Stored::read(&keyless);
    assert_eq!(
        step(Some(&stored), &terms(), Some(renewal), later),
        Step::Prepare
    );
}

#[test]
fn what_somebody_else_made_is_used_as_long_as_it_is_good_and_never_written() {
    let mut secret = made(NOW);
    secret.metadata.labels = None;
    let stored = Stored::read(&secret);
    let end = NOW + terms().valid;
    let at = |now| step(Some(&stored), &terms(), Some(NOW), now);
    assert_eq!(at(NOW), Step::Wait(end));
    assert_eq!(at(end - 1), Step::Wait(end));
    assert_eq!(at(end), Step::Leave(Unfit::Expired));
}
