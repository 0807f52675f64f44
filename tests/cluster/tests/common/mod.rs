//! A control plane for one test, and how many at once.

use cluster::{ControlPlane, NotAvailable, Options};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Each takes 300 MB and, while it starts, a processor.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// A control plane and the leave to have one.
pub(crate) struct Real {
    pub(crate) plane: ControlPlane,
    _permit: SemaphorePermit<'static>,
}

pub(crate) async fn real(options: Options) -> Real {
    let permit = AT_ONCE.acquire().await.unwrap();
    let plane = match ControlPlane::start_with(options).await {
        Ok(plane) => plane,
        Err(error) => match error.downcast_ref::<NotAvailable>() {
            Some(why) => panic!("NOT RUN, no Kubernetes here: {why}"),
            None => panic!("{error:#}"),
        },
    };
    Real {
        plane,
        _permit: permit,
    }
}
