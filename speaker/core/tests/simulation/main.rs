//! The real `Speaker` in a simulated network, on virtual time. A failure names its seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

mod cost;
mod crash;
mod partition;
mod planned;
mod schedule;
mod start;
mod world;
