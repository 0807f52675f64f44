//! A ledger block: 256 consecutive numbers of one space and who holds them. The durable form is an
//! `AllocationBlock` object; this is the same in memory. It records, it never decides.

use std::{collections::BTreeMap, sync::Arc};

use model::{Number, ServiceKey, Space, Uid, Use};

use crate::Sharing;

/// How many numbers a block covers.
pub const BLOCK_SIZE: u128 = 256;

/// Which block: the space and the first number divided by [`BLOCK_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId {
    /// The space.
    pub space: Space,
    /// `first / BLOCK_SIZE`.
    pub index: u128,
}

/// One Service's part in a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Who.
    pub service: ServiceKey,
    /// Which of that name.
    pub uid: Uid,
    /// What for.
    pub usage: Use,
    /// The Service's resourceVersion on which this was decided; the number may be written into the
    /// Service only on that precondition (docs/architecture.md).
    pub at: Arc<str>,
    /// Under which terms it shares the number, if it does.
    pub sharing: Option<Sharing>,
}

/// What a block says of one number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Held; never empty.
    Held(Vec<Holder>),
    /// Kept for a former owner of that name until then (Unix seconds).
    Retained {
        /// For whom.
        owner: ServiceKey,
        /// Until when, in Unix seconds.
        until: i64,
    },
}

/// The content of a block.
pub type Claims = BTreeMap<Number, Claim>;

// BlockId::of(number), first(), last(), name() -> String ("v4-203-0-113-0", "v6-2001-0db8-…" eight
// groups, "port-30208"), BlockId::parse_name(&str) -> Option<BlockId>.
