//! What to tell the user about a load balancer that a cloud makes, and when our finalizer comes and
//! goes: on before the provider is told anything (G4), off when it says that nothing is left. A
//! Service's metadata can be changed through `/status`, so that the controller may write nothing
//! else of Services.

use super::*;
use crate::core::cloud::{Outcome, State};

/// A load balancer is wanted.
pub(super) fn serving(
    record: &ServiceRecord,
    outcome: Option<&Outcome>,
    missing: Option<&Missing>,
    now: i64,
) -> Settled {
    if missing.is_none() && outcome.is_none() && record.has_finalizer() {
        // Asked, for the first time or after a restart: what it says stays until the answer.
        return Settled::default();
    }
    let (up, reason, message) = match (missing, outcome) {
        (Some(missing), _) => (false, missing.reason, missing.message.clone()),
        (None, None) => (
            false,
            Reason::Provisioning,
            "the load balancer is being made".to_owned(),
        ),
        (None, Some(outcome)) => (
            matches!(outcome.state, State::Serving(_)) && outcome.reason == Reason::Ready,
            outcome.reason,
            outcome.message.clone(),
        ),
    };
    let name = match outcome.map(|outcome| &outcome.state) {
        Some(State::Serving(name)) => Some(name.clone()),
        Some(State::Waiting | State::Gone) | None => record.shown_hostname().cloned(),
    };
    let allocated = Say {
        type_: ADDRESS_ALLOCATED,
        status: name.is_some(),
        reason: match name.is_some() {
            true => Reason::Allocated,
            false => reason,
        },
        message: match &name {
            Some(name) => name.to_string(),
            None => shorten(message.clone()),
        },
    };
    let ready = Say {
        type_: LOAD_BALANCER_READY,
        status: up,
        reason,
        message: shorten(message),
    };
    let waits = (!up).then(|| (reason, Waits::default()));
    let ingress = name.map(|name| vec![name]);
    write(record, vec![allocated, ready], ingress, true, now).waiting(waits)
}

/// Nothing is wanted any longer.
pub(super) fn leaving(record: &ServiceRecord, outcome: Option<&Outcome>, now: i64) -> Settled {
    let Some(outcome) = outcome else {
        return Settled::default();
    };
    if outcome.state == State::Gone {
        return write(record, Vec::new(), Some(Vec::new()), false, now);
    }
    let waiting = Say {
        type_: LOAD_BALANCER_READY,
        status: false,
        reason: outcome.reason,
        message: shorten(outcome.message.clone()),
    };
    let waits = Some((outcome.reason, Waits::default()));
    write(record, vec![waiting], None, true, now).waiting(waits)
}

impl Settled {
    fn waiting(self, waits: Option<(Reason, Waits)>) -> Self {
        Self { waits, ..self }
    }
}

/// One write of everything that differs: conditions, the names shown, our finalizer.
fn write(
    record: &ServiceRecord,
    say: Vec<Say>,
    names: Option<Vec<std::sync::Arc<str>>>,
    finalizer: bool,
    now: i64,
) -> Settled {
    let conditions = conditions(record, &say, now);
    let names_differ = names.as_ref().is_some_and(|names| {
        record.ingress.len() != names.len()
            || !(record.ingress.iter().zip(names))
                .all(|(entry, name)| entry.plain && entry.hostname.as_ref() == Some(name))
    });
    let conditions_differ = !same(&conditions, &record.conditions);
    if !conditions_differ && !names_differ && finalizer == record.has_finalizer() {
        return Settled::default();
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(&*record.version));
    if finalizer != record.has_finalizer() {
        let others = record
            .finalizers
            .iter()
            .filter(|name| ***name != *crds::FINALIZER);
        let mut list: Vec<&str> = others.map(|name| &**name).collect();
        if finalizer {
            list.push(crds::FINALIZER);
        }
        metadata.insert("finalizers".to_owned(), json!(list));
    }
    let mut status = serde_json::Map::new();
    if conditions_differ {
        let value = if conditions.is_empty() {
            Value::Null
        } else {
            json!(conditions)
        };
        status.insert("conditions".to_owned(), value);
    }
    if let Some(names) = names
        && names_differ
    {
        let entries: Vec<Value> = names
            .iter()
            .map(|name| json!({"hostname": &**name}))
            .collect();
        let value = if entries.is_empty() {
            Value::Null
        } else {
            Value::Array(entries)
        };
        status.insert("loadBalancer".to_owned(), json!({ "ingress": value }));
    }
    Settled {
        event: event(record, &say),
        outcome: say.first().map(|say| say.reason),
        status: Some(ServicePatch::Status(
            json!({"metadata": metadata, "status": status}),
        )),
        waits: None,
    }
}

/// One Event when something fails: not for the ordinary course of things.
fn event(record: &ServiceRecord, say: &[Say]) -> Option<(bool, Reason, String)> {
    let ready = say.iter().find(|say| say.type_ == LOAD_BALANCER_READY)?;
    let ordinary = ready.status || ready.reason == Reason::Provisioning;
    let before = (record.conditions.iter()).find(|old| old.type_ == LOAD_BALANCER_READY);
    let news = before.is_none_or(|old| old.reason != ready.reason.as_str());
    (!ordinary && news).then(|| (true, ready.reason, ready.message.clone()))
}
