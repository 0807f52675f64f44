//! What the suites share: the simulated world that drives the engine without any IO, and fixtures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

pub mod cluster;
pub mod fixtures;
pub mod node_ports;
pub mod program;
pub mod sim;
pub mod stage;
pub mod suite;
