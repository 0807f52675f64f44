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

/// A test for each of these functions of the module `sentences`, on a control plane of its own.
macro_rules! each {
    ($($sentence:ident)*) => { $(
        #[tokio::test]
        #[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
        async fn $sentence() {
            let real = crate::common::real(cluster::Options::default()).await;
            sentences::$sentence(crate::common::stage::stage(&real.plane).await).await;
        }
    )* };
}
pub(crate) use each;
