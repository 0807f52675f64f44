//! Which node answers for an address. Pure: no sockets, no Kubernetes client, no async, no clock.
//!
//! * [`Speaker`]: one node's state machine, `handle(Input, now)` and `poll(now)`.
//! * [`KeyRing`]: the secrets that speakers share.

mod envelope;
mod handover;
mod io;
mod keys;
mod links;
mod membership;
mod message;
mod objects;
mod ownership;
mod score;
mod speaker;
mod standing;
mod words;

pub use io::{Announced, Effect, Figures, Input, Phase, Report, Settings, Unable};
pub use keys::{KEY_LEN, Key, KeyRing};
pub use score::{hash, score};
pub use speaker::Speaker;
pub use words::{Address, Announcement, Kind, Link, Now, Peer, PoolWeight};
