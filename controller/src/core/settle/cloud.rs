//! What to tell the user about a load balancer that a cloud makes, and when our finalizer comes and
//! goes: on before the provider is told anything (G4), off when it says that nothing is left. A
//! Service's metadata can be changed through `/status`, so that the controller may write nothing
//! else of Services.

use super::*;
use crate::core::cloud::{State, Told};

/// A load balancer is wanted.
pub(super) fn serving(
    record: &ServiceRecord,
    told: Option<&Told>,
    missing: Option<&Missing>,
    stray: Option<&Missing>,
    now: i64,
) -> Settled {
    // What was gone when it was not wanted is no answer to its being wanted again.
    let told = told.filter(|told| told.state != State::Gone);
    if missing.is_none() && told.is_none() && record.has_finalizer() {
        // Asked, for the first time or after a restart: what it says stays until the answer.
        return Settled::default();
    }
    let (up, reason, message) = match (missing, told) {
        (Some(missing), _) => (false, missing.reason, missing.message.clone()),
        (None, None) => (
            false,
            Reason::Provisioning,
            "the load balancer is being made".to_owned(),
        ),
        (None, Some(told)) => (
            matches!(told.state, State::Serving(_)) && told.reason == Reason::Ready,
            told.reason,
            told.message.clone(),
        ),
    };
    let name = match told.map(|told| &told.state) {
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
    // What cannot be read is not asked for: then nothing is made that would need it.
    let finalizer = record.has_finalizer() || record.request.is_ok();
    let mut say = vec![allocated, ready];
    say.extend(node_ports::say(stray));
    write(record, say, ingress, finalizer, now).waiting(waits)
}

/// Nothing is wanted any longer.
pub(super) fn leaving(
    record: &ServiceRecord,
    told: Option<&Told>,
    stray: Option<&Missing>,
    now: i64,
) -> Settled {
    let Some(told) = told else {
        return Settled::default();
    };
    if told.state == State::Gone {
        let say = node_ports::say(stray).into_iter().collect();
        return write(record, say, Some(Vec::new()), false, now);
    }
    let waiting = Say {
        type_: LOAD_BALANCER_READY,
        status: false,
        reason: told.reason,
        message: shorten(told.message.clone()),
    };
    let waits = Some((told.reason, Waits::default()));
    let say = [Some(waiting), node_ports::say(stray)];
    let say = say.into_iter().flatten().collect();
    write(record, say, None, true, now).waiting(waits)
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
    let finalizers = (finalizer != record.has_finalizer()).then(|| {
        let others = record.finalizers.iter().map(|name| &**name);
        let others = others.filter(|name| *name != crds::FINALIZER);
        others.chain(finalizer.then_some(crds::FINALIZER)).collect()
    });
    let entries = names.filter(|_| names_differ);
    let entries = entries.map(|names| {
        let entry = |name: &std::sync::Arc<str>| json!({"hostname": &**name});
        names.iter().map(entry).collect()
    });
    Settled {
        event: event(record, &say),
        ports_event: node_ports::event(record, &say),
        outcome: say.first().map(|say| say.reason),
        status: Some(patch(
            record,
            conditions_differ.then_some(conditions),
            entries,
            finalizers,
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
