//! Which number a Service gets, and why not. Pure: no Kubernetes client, no async, no clock.
//!
//! * [`RangeSet`]: what a user wrote, as sorted ranges; never materialised.
//! * [`NumberSpace`]: which numbers of one space are taken; finds the lowest free one quickly.
//! * [`Pool`]: a user's statement of which numbers may be handed out, to whom.
//! * [`Allocator`]: pools plus who holds what; [`Allocator::decide`] answers with a [`Verdict`].
//! * [`block`]: the shape of the durable ledger.

mod bits;
pub mod block;
mod decide;
mod entry;
mod holders;
mod policy;
mod pool;
mod range;
mod select;
mod selector;
mod sharing;
mod slab;
mod space;
mod verdict;
mod words;

pub use holders::{Allocator, PoolUsage, UsageCounts};
pub use policy::Binding;
pub use pool::{Admission, Band, FNV_BASIS, Pool, PoolState, Strategy, fnv, stable_hash};
pub use range::{RangeError, RangeSet};
pub use selector::{Operator, Requirement, Selector};
pub use sharing::{Obstacle, Sharing, Terms, may_share};
pub use space::NumberSpace;
pub use verdict::{Considered, Grant, Missing, PassOver, Request, Verdict, Why};
