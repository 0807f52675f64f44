//! What is asked and what is answered: plain data that the command line prints, tests compare and
//! logs carry.

use std::{fmt, sync::Arc};

use model::{Family, Labels, Number, Reason, ServiceKey, Uid, Use};
use serde::{Serialize, Serializer};

use crate::{Obstacle, Sharing};

/// Numbers that only the caller knows to be in use.
pub trait PassOver: fmt::Debug {
    /// Whether the number is one of them.
    fn passes_over(&self, number: Number) -> bool;
}

/// What a Service asks for, for one use.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who.
    pub service: &'a ServiceKey,
    /// Which of that name.
    pub uid: &'a Uid,
    /// What for.
    pub usage: Use,
    /// Labels of the namespace.
    pub namespace_labels: &'a Labels,
    /// Labels of the Service.
    pub service_labels: &'a Labels,
    /// Which families, in order; empty for ports.
    pub families: &'a [Family],
    /// `RequireDualStack`: new numbers for all families or for none.
    pub require_all: bool,
    /// The pool asked for by name.
    pub pool: Option<&'a str>,
    /// The numbers asked for: at most one of a family, at most one port.
    pub explicit: &'a [Number],
    /// The terms of sharing, if the number may be shared.
    pub sharing: Option<&'a Sharing>,
    /// The class's `addressPools`: new numbers come from these only.
    pub allowed_pools: Option<&'a [String]>,
    /// What the Service shows now. Preferred among what is held, and taken up if nothing is held
    /// (migration, lost ledger).
    pub shown: &'a [Number],
    /// Picked already in this pass, for other ports of the Service: neither granted nor surplus.
    pub exclude: &'a [Number],
    /// Not to be given anew, though nobody holds them.
    pub pass_over: Option<&'a dyn PassOver>,
    /// Added to what the strategy `Stable` hashes, such as a port's name.
    pub stable_salt: Option<&'a str>,
}

/// A number the Service gets or keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Grant {
    /// Which.
    #[serde(serialize_with = "text")]
    pub number: Number,
    /// The pool that gives it or lets it be kept.
    #[serde(serialize_with = "text_or_null")]
    pub pool: Option<Arc<str>>,
    /// This uid does not hold it for this use yet: claim it first.
    pub fresh: bool,
    /// The terms of sharing in the request clash with another holder of this number, and no other
    /// number can be had: hold it on under the terms recorded before.
    pub keep_terms: bool,
}

/// A number the Service does not get, or not the one it asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Missing {
    /// Of which family; none for ports.
    #[serde(serialize_with = "text_or_null")]
    pub family: Option<Family>,
    /// Why.
    pub reason: Reason,
    /// One sentence for users: the object, the field and what to change.
    pub message: String,
    /// Pools in which a freed number would help.
    #[serde(serialize_with = "texts")]
    pub waits_for: Vec<Arc<str>>,
}

/// A pool that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Considered {
    /// Which.
    #[serde(serialize_with = "text")]
    pub pool: Arc<str>,
    /// For which family; none for ports.
    #[serde(serialize_with = "text_or_null")]
    pub family: Option<Family>,
    /// Why it was used or not.
    pub why: Why,
}

/// Why a pool was used or not. Displays as the rest of a sentence that starts with the pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum Why {
    /// It gives the number or lets it be kept.
    Chosen,
    /// Not needed: another pool comes first.
    ComesAfter {
        /// The pool that gave the number.
        #[serde(serialize_with = "text")]
        chosen: Arc<str>,
    },
    /// The Service asks for another pool by name.
    NotAskedFor,
    /// It has other uses than the one asked for.
    WrongUse {
        /// What it gives.
        #[serde(serialize_with = "text")]
        usage: Use,
    },
    /// It has no numbers of the family.
    WrongFamily,
    /// The API server takes no such number (`--service-node-port-range`).
    OutsideServerRange,
    /// No ServiceCIDR has it, so the API server would refuse it.
    OutsideServiceCidrs,
    /// It does not contain the number asked for.
    NotContained,
    /// The class does not allow it.
    NotAllowedByClass,
    /// It does not admit the namespace.
    NamespaceNotAdmitted {
        /// Which.
        #[serde(serialize_with = "text")]
        namespace: Arc<str>,
    },
    /// It admits the namespace but not the Service's labels.
    ServiceNotAdmitted,
    /// Another pool admits the Service and enforces.
    FallThroughStopped {
        /// Which.
        #[serde(serialize_with = "text")]
        by: Arc<str>,
    },
    /// It only serves requests by name or number.
    AutoAssignOff,
    /// It is being drained.
    Disabled,
    /// It overlaps an older pool.
    Overlaps {
        /// The oldest such one.
        #[serde(serialize_with = "text")]
        older: Arc<str>,
    },
    /// Every number is taken.
    Full {
        /// How many there are.
        capacity: u128,
        /// How many of them are kept for former owners.
        retained: u128,
    },
    /// The number asked for is reserved.
    Reserved,
    /// The number asked for ends in .0 or .255.
    Buggy,
    /// The ledger block of the number, or of every free number, cannot be read.
    LedgerDamaged,
    /// The number asked for is held.
    InUse {
        /// By whom.
        #[serde(serialize_with = "text")]
        by: ServiceKey,
    },
    /// The number asked for is kept for a former owner.
    RetainedFor {
        /// For whom.
        #[serde(serialize_with = "text")]
        owner: ServiceKey,
        /// Until when (Unix seconds).
        until: i64,
    },
    /// The number asked for is held by a Service that it cannot be shared with.
    CannotShare {
        /// Who holds it.
        #[serde(serialize_with = "text")]
        with: ServiceKey,
        /// What is in the way.
        #[serde(serialize_with = "text")]
        why: Obstacle,
    },
    /// The number asked for was picked for another port of the same Service.
    PickedAlready,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verdict {
    /// What the Service gets or keeps, in the order of the families.
    pub grants: Vec<Grant>,
    /// What it does not get, and why.
    pub missing: Vec<Missing>,
    /// Every pool that was looked at, and why it was used or not.
    pub considered: Vec<Considered>,
    /// Held by this uid for this use and not granted: to be released. For ports this is what the
    /// call leaves over; when one Service asks for several, only the last call's counts.
    #[serde(serialize_with = "texts")]
    pub surplus: Vec<Number>,
}

fn text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn text_or_null<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn texts<T: fmt::Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
