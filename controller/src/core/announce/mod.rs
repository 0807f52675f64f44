//! Who may announce which address on the local network, as objects for the speakers: an
//! Announcement for each group of addresses, a Speaker for each node. And, from what the speakers
//! say, what to tell the Services.
//!
//! It decides who *may* answer, never who does: that the speakers settle among themselves
//! (docs/architecture.md). So nothing here may depend on whether a node is alive.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use model::{Reason, ServiceKey, Uid};

mod announcer;
mod answers;
mod endpoints;
mod groups;
mod node;
mod policy;
mod verdict;
mod wanted;

pub use announcer::{Announcer, Change, Effect, Found, Input, Kind, Name, Object, Seen};
pub use endpoints::{Endpoints, Slice, slice};
pub use node::{EXCLUDED_BY_LABEL, EXCLUDING_TAINTS, LEAVING_TAINTS, Node, node};
pub use policy::{Policies, Policy};

/// What one Service wants announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Whose addresses.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// The addresses and the pools that they are from, pools with `announce.l2` only.
    pub addresses: BTreeMap<IpAddr, Arc<str>>,
    /// `externalTrafficPolicy: Local`: only a node with an endpoint may answer.
    pub local: bool,
}

/// What the engine says of all Services.
#[derive(Clone, PartialEq, Debug)]
pub enum Word {
    /// This process leads from now on, and that is all that is wanted.
    All(Policies, Vec<Arc<Wish>>),
    /// How pools are announced from now on.
    Policies(Policies),
    /// What one Service wants from now on; `None`: nothing.
    Wish(ServiceKey, Option<Arc<Wish>>),
}

/// What became of a wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Whose.
    pub key: ServiceKey,
    /// Which one.
    pub uid: Uid,
    /// About these addresses.
    pub addresses: Vec<IpAddr>,
    /// Somebody answers for each of them, and nobody else does.
    pub ready: bool,
    /// If not: something is wrong. That nothing serves the Service yet, for one, is not.
    pub failed: bool,
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub message: String,
}

impl Told {
    /// Whether it is about this wish as it is.
    pub fn answers(&self, wish: &Wish) -> bool {
        self.uid == wish.uid && self.addresses.iter().eq(wish.addresses.keys())
    }
}

#[cfg(test)]
mod tests;
