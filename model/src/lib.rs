//! Shared words of Portolan: what a Service, a number and a reason are called in every crate.
//!
//! This crate decides nothing. A type enters only when two crates need it.

mod number;
mod reason;
mod rejection;
mod service;

pub use number::{Family, Number, Space, Use};
pub use reason::Reason;
pub use rejection::{Rejection, SHOWN, quoted};
pub use service::{Labels, Port, Protocol, ServiceKey, TrafficPolicy, Uid};
