//! Everything that talks: watches, writes, the lease, the admin port. It performs what `core` asks
//! for and reports what came of it; it never decides.
//!
//! [`run()`] is the whole controller for a [`kube::Client`]: the binary, the demo and the tests start
//! it the same way.

#[cfg(feature = "aws")]
pub mod account;
mod announce;
#[cfg(feature = "aws")]
pub mod aws;
mod client;
mod drive;
mod election;
mod keys;
mod mailbox;
mod metrics;
mod run;
mod watch;
mod webhook;
mod write;

pub use client::{USER_AGENT, client, client_over};
pub use drive::{Mandate, Order};
pub use keys::{Error as KeysError, SecretName, rotate as rotate_key};
pub use mailbox::Mailbox;
pub use run::{CloudFigures, Election, Ended, Error, Options, Provider, Seat, State, run};
pub use webhook::{Certificates, Webhook};
pub use write::addresses::recorded;

#[cfg(test)]
mod tests;
