//! What the sentences share.

#[path = "../../common/chart.rs"]
pub(crate) mod chart;
#[path = "../../common/real.rs"]
mod real;
#[path = "../../common/rights.rs"]
pub(crate) mod rights;
pub(crate) mod stage;
pub(crate) mod webhook;

pub(crate) use real::{Real, real, real_by};
