//! The whole controller before moto and a real Kubernetes. What the embedded API server and moto
//! show together is in the other files.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

#[path = "../../../cluster/tests/common/chart.rs"]
mod chart;
#[path = "../../../cluster/tests/common/mod.rs"]
mod common;
mod kubernetes;
#[path = "../../../cluster/tests/common/rights.rs"]
mod rights;
