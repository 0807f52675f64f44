//! Everything that decides, as pure code: values in, values out, time as an argument.

pub mod annotations;
pub mod announce;
pub mod audit;
pub mod cloud;
pub mod decide;
pub mod effect;
pub mod engine;
pub mod failing;
pub mod holdings;
pub mod index;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod line;
pub mod nodes;
pub mod numbers;
pub mod pace;
pub mod plan;
pub mod pools;
pub mod queue;
pub mod record;
pub mod refusal;
pub mod residents;
pub mod settle;
pub mod shown;
pub mod translate;
