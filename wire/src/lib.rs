//! ARP (RFC 826, 5227) and NDP (RFC 4861, 4862) for addresses that are announced on a local network.
//! Pure: frames and the time come as arguments, and frames are handed back.
//!
//! * [`arp`], [`ndp`]: reading and making frames.
//! * [`Responder`]: who is answered, when which address is announced, who else claims one.
//! * [`filter`]: the same question for the kernel, so that other traffic costs nothing.
//!
//! The layout of headers is [etherparse]'s: types for headers and nothing else, with one dependency.
//! smoltcp's `wire` is as good at that, but its Ethernet comes only with sockets and interfaces of a
//! whole TCP/IP stack. Neither checks what RFC 4861 7.1 demands of a message; [`ndp`] does.
//!
//! Everything that is read here was written by strangers: no bytes may end the process, and none
//! make it hold more than a bounded amount.

pub mod arp;
pub mod filter;
mod mac;
pub mod ndp;
mod responder;

pub use mac::Mac;
pub use responder::{Claim, Frame, Link, Responder, Settings};
