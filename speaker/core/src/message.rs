//! What speakers say to each other, and its bytes (postcard). Every message carries its sender's
//! card and how the sender considers the receiver: whatever was lost, the next one says it again.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Payload that a datagram may have so that it fits any link: the least MTU of IPv6 is 1,280, but
/// networks of nodes have 1,400 at least.
#[cfg(test)]
pub(crate) const MOST_BYTES: usize = 1_400;
/// Keys in one `Yield` or `Taken`: ten bytes each.
pub(crate) const MOST_KEYS: usize = 70;
/// MACs in a card.
pub(crate) const MOST_MACS: usize = 8;
/// Pools that a card can say a node is unable for; with more it is unable for all.
pub(crate) const MOST_UNABLE: usize = 24;

/// One life of a speaker in the membership: a later one has a higher bump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Where it is reached.
    pub(crate) addr: SocketAddr,
    /// `boot` at the start; one more whenever it was declared dead.
    pub(crate) bump: u64,
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    /// Never by foca itself: whoever was declared dead begins anew with nothing of what it knew.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.bump > adversary.bump
    }
}

/// How far a speaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rank {
    /// Has not lived for the rejoin delay.
    Joining,
    /// Has.
    Settled,
    /// Settled just now because nobody else was: who joins at the same time settles with it.
    Founding,
    /// Owns nothing new.
    Leaving,
}

/// What a speaker says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// The node's name.
    pub(crate) node: Arc<str>,
    /// When the process began, in Unix nanoseconds.
    pub(crate) boot: u64,
    /// Goes up at each change of the card.
    pub(crate) seq: u32,
    /// How far it is.
    pub(crate) rank: Rank,
    /// Hashes of pools that it has no interface for.
    pub(crate) unable: Vec<u32>,
    /// Its hardware addresses.
    pub(crate) macs: Vec<[u8; 6]>,
}

impl Card {
    /// Whether it says something newer than the other one of the same node.
    pub(crate) fn is_newer(&self, other: &Self) -> bool {
        (self.boot, self.seq) > (other.boot, other.seq)
    }

    pub(crate) const fn is_settled(&self) -> bool {
        matches!(self.rank, Rank::Settled | Rank::Founding)
    }
}

/// What a speaker sees. It changes too often to be told at each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// The highest resourceVersion that it has seen.
    pub(crate) version: u64,
    /// Live nodes with a card, itself included.
    pub(crate) alive: u32,
    /// Those of them that are settled.
    pub(crate) settled: u32,
    /// The least hash of a settled one's name.
    pub(crate) least: u64,
}

impl Sight {
    /// Whether this side of a healed partition goes on, against the other: the one with more
    /// settled nodes; of equals the one with the least name, which both compute alike.
    pub(crate) const fn outweighs(&self, other: &Self) -> bool {
        self.settled > other.settled || (self.settled == other.settled && self.least < other.least)
    }
}

/// How one speaker considers another, in that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum View {
    /// Never heard of.
    Unknown,
    /// Alive.
    Alive {
        /// Its life.
        bump: u64,
    },
    /// Dead, and peers agree or were told.
    Down {
        /// Its life.
        bump: u64,
    },
    /// Out of sight while nobody else was heard either: it may be us who is cut off.
    Lost {
        /// Its life.
        bump: u64,
    },
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message<'a> {
    /// The sender.
    pub(crate) from: Identity,
    /// Goes up by one with each message to the same receiver.
    pub(crate) counter: u64,
    /// The sender's card.
    pub(crate) card: Card,
    /// What it sees.
    pub(crate) sight: Sight,
    /// How it considers the receiver.
    pub(crate) you: View,
    /// The rest.
    #[serde(borrow)]
    pub(crate) body: Body<'a>,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body<'a> {
    /// The membership's own.
    Foca(&'a [u8]),
    /// Are you there, and what am I to you?
    Hail {
        /// To know the answer by.
        nonce: u64,
    },
    /// The answer.
    Hailed {
        /// As asked.
        nonce: u64,
    },
    /// Nothing but the card.
    Card,
    /// That one is dead.
    Gone {
        /// Who.
        identity: Identity,
    },
    /// A later process of your node has spoken: your clock was set back. Begin after it.
    Older {
        /// The later one's boot.
        boot: u64,
    },
    /// Yours now: take them, I answer until you have.
    Yield {
        /// Announcements.
        keys: Vec<u64>,
    },
    /// I have.
    Taken {
        /// Announcements.
        keys: Vec<u64>,
    },
}

impl<'a> Message<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(message)
    }

    pub(crate) fn write(&self) -> Option<Vec<u8>> {
        postcard::to_allocvec(self).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use proptest::prelude::*;

    use super::*;
    use crate::{envelope, membership};

    #[test]
    fn the_largest_messages_fit_a_datagram() {
        let identity = Identity {
            addr: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
                .parse()
                .unwrap(),
            bump: u64::MAX,
        };
        let message = |body| Message {
            from: identity,
            counter: u64::MAX,
            card: Card {
                node: "n".repeat(253).into(),
                boot: u64::MAX,
                seq: u32::MAX,
                rank: Rank::Leaving,
                unable: vec![u32::MAX; MOST_UNABLE],
                macs: vec![[0xff; 6]; MOST_MACS],
            },
            sight: Sight {
                version: u64::MAX,
                alive: u32::MAX,
                settled: u32::MAX,
                least: u64::MAX,
            },
            you: View::Lost { bump: u64::MAX },
            body,
        };
        let foca = vec![0; membership::MOST_BYTES];
        let keys = vec![u64::MAX; MOST_KEYS];
        for body in [Body::Foca(&foca), Body::Yield { keys }] {
            let bytes = message(body).write().unwrap();
            let len = bytes.len() + envelope::OVERHEAD;
            assert!(len <= MOST_BYTES, "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_end_the_process(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::read(&bytes);
        }
    }
}
