//! A ledger block: 256 consecutive numbers of one space and who holds them. The durable form is an
//! `AllocationBlock` object; this is the same in memory. It records, it never decides.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc};

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

impl BlockId {
    /// The block that records the number.
    pub const fn of(number: Number) -> Self {
        Self {
            space: number.space,
            index: number.value / BLOCK_SIZE,
        }
    }

    /// The first number.
    pub const fn first(self) -> Number {
        Number {
            space: self.space,
            value: self.index.saturating_mul(BLOCK_SIZE),
        }
    }

    /// The last number.
    pub const fn last(self) -> Number {
        Number {
            space: self.space,
            value: self.first().value | (BLOCK_SIZE - 1),
        }
    }

    /// The object's name: `v4-203-0-113-0`, `v6-2001-0db8-0000-0000-0000-0000-0000-0100` (always
    /// eight groups of four digits), `port-30208`.
    pub fn name(self) -> String {
        let first = self.first();
        match first.address() {
            Some(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                format!("v4-{a}-{b}-{c}-{d}")
            }
            Some(IpAddr::V6(address)) => {
                address
                    .segments()
                    .iter()
                    .fold("v6".to_owned(), |mut name, segment| {
                        // Writing to a String cannot fail.
                        let _ = write!(name, "-{segment:04x}");
                        name
                    })
            }
            None => format!("port-{}", first.value),
        }
    }

    /// Reads what [`Self::name`] writes, and nothing else.
    pub fn parse_name(name: &str) -> Option<Self> {
        let (space, rest) = name.split_once('-')?;
        let number = match space {
            "v4" => Number::parse(Space::V4, &rest.replace('-', ".")),
            "v6" => Number::parse(Space::V6, &rest.replace('-', ":")),
            "port" => Number::parse(Space::Port, rest),
            _ => None,
        }?;
        let block = Self::of(number);
        (block.name() == name).then_some(block)
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
