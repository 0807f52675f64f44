//! One stored Event, two shapes: `v1` (stored) and `events.k8s.io/v1`.

use serde_json::{Map, Value};

use crate::error::Errors;
use crate::resource::{at, text};

/// Field names in `v1` and in `events.k8s.io/v1`; what is not listed has one name in both.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(value: Value, api_version: &str, pairs: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let mut out: Map<String, Value> = map
        .into_iter()
        .map(|(k, v)| (pairs(&k).map_or(k.clone(), str::to_owned), v))
        .collect();
    out.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(out)
}

/// `events.k8s.io/v1` to `v1`.
pub(crate) fn to_core(value: Value) -> Value {
    rename(value, "v1", |k| {
        RENAMED
            .iter()
            .find(|(_, new)| *new == k)
            .map(|(old, _)| *old)
    })
}

/// `v1` to `events.k8s.io/v1`.
pub(crate) fn to_new(value: Value) -> Value {
    rename(value, "events.k8s.io/v1", |k| {
        RENAMED
            .iter()
            .find(|(old, _)| *old == k)
            .map(|(_, new)| *new)
    })
}

/// What `events.k8s.io/v1` asks of a new Event and `v1` does not.
pub(crate) fn validate_new(event: &Value) -> Errors {
    let mut errors = Errors::default();
    if at(event, &["eventTime"]).is_null() {
        errors.required("eventTime", "");
    }
    let required = [
        ("reportingController", "reportingComponent"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ];
    for (name, stored) in required {
        if text(event, &[stored]).is_empty() {
            errors.required(name, "");
        }
    }
    for (name, stored, most) in [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
        ("note", "message", 1024),
    ] {
        if text(event, &[stored]).len() as u64 > most {
            errors.invalid(
                name,
                text(event, &[stored]),
                format!("can have at most {most} characters"),
            );
        }
    }
    let kind = text(event, &["type"]);
    if kind != "Normal" && kind != "Warning" {
        errors.invalid("type", kind, "has invalid value");
    }
    errors
}
