//! What to tell the user about addresses that speakers announce on the local network, and about
//! those that somebody else does.

use super::*;
use crate::core::announce::Told;

/// What is known of the announcing of a Service's addresses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Announced<'a> {
    /// No pool of it is announced by us.
    Elsewhere,
    /// Nothing has been said yet, of these addresses.
    Awaited,
    /// This is so; and whether it is news that something fails.
    Told(&'a Told, bool),
}

impl<'a> Announced<'a> {
    /// What is said, if that is not that all is well.
    pub(super) fn failed(self) -> Option<&'a Told> {
        match self {
            Announced::Told(told, _) if !told.ready => Some(told),
            Announced::Told(..) | Announced::Elsewhere | Announced::Awaited => None,
        }
    }
}

/// In the first status; nothing has failed then.
const AWAITED: &str = "no node has announced the address yet";

pub(super) fn ready(
    record: &ServiceRecord,
    grants: &[Grant],
    missing: Option<&Missing>,
    announced: Announced<'_>,
) -> Say {
    let say = |status, reason, message| Say {
        type_: LOAD_BALANCER_READY,
        status,
        reason,
        message,
    };
    match (grants, missing, announced) {
        ([], Some(missing), _) => waiting(LOAD_BALANCER_READY, missing, &[]),
        (_, _, Announced::Elsewhere) => say(
            true,
            Reason::Ready,
            "the address is assigned; whoever announces the pool's addresses brings the traffic"
                .to_owned(),
        ),
        (_, _, Announced::Told(told, _)) => {
            say(told.ready, told.reason, shorten(told.message.clone()))
        }
        (_, _, Announced::Awaited) => {
            // After a restart: what it says of this address stays until it is known better.
            let old = before(record).filter(|_| shows(record, grants));
            let old = old.and_then(|old| {
                let reason = Reason::ALL
                    .iter()
                    .find(|word| word.as_str() == old.reason)?;
                Some(say(old.status == "True", *reason, old.message.clone()))
            });
            old.unwrap_or_else(|| say(false, Reason::NotAnnounced, AWAITED.to_owned()))
        }
    }
}

/// One Event when nobody answers for an address, or somebody else, too; not for a move.
pub(super) fn event(announced: Announced<'_>) -> Option<(bool, Reason, String)> {
    match announced {
        Announced::Told(told, true) => Some((true, told.reason, shorten(told.message.clone()))),
        Announced::Told(_, false) | Announced::Elsewhere | Announced::Awaited => None,
    }
}

/// Whether the status gives this reason why the load balancer takes no traffic; what it says before
/// anything is known does not count.
pub fn says(record: &ServiceRecord, reason: Reason) -> bool {
    before(record).is_some_and(|old| old.reason == reason.as_str() && old.message != AWAITED)
}

fn before(record: &ServiceRecord) -> Option<&Condition> {
    let mut conditions = record.conditions.iter();
    conditions.find(|condition| condition.type_ == LOAD_BALANCER_READY)
}
