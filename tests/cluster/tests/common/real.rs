//! A control plane for one test, and how many at once.

use cluster::{ControlPlane, NotAvailable, Options};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Each takes 300 MB. Sentences wait for most of their time, until nothing more is written.
static AT_ONCE: Semaphore = Semaphore::const_new(4);
/// While one starts it takes a processor; the second one is for the sentences that go on.
static STARTING: Semaphore = Semaphore::const_new(1);

/// A control plane and the leave to have one.
pub(crate) struct Real {
    pub(crate) plane: ControlPlane,
    _permit: SemaphorePermit<'static>,
}

pub(crate) async fn real(options: Options) -> Real {
    real_by(ControlPlane::start_with(options)).await
}

/// One that is started like this.
pub(crate) async fn real_by(start: impl Future<Output = anyhow::Result<ControlPlane>>) -> Real {
    let permit = AT_ONCE.acquire().await.unwrap();
    let starting = STARTING.acquire().await.unwrap();
    let started = start.await;
    drop(starting);
    let plane = match started {
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
