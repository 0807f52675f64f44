//! The task beside the engine that watches nodes, endpoints and speakers, and writes what the
//! speakers work by. What is written, and when, `core::announce` decides.
//!
//! Nothing is watched before a pool has `announce.l2`: on a cluster that uses none the controller
//! neither needs the right nor pays for it. Where it makes the speakers' key, which says that there
//! are speakers, Announcements and Speakers are watched in any case: what a former process has written
//! must go when nobody wants it any longer.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use kube::Client;
use tokio::{
    sync::{mpsc, watch as sync},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    drive::{Mandate, lapsed},
    mailbox::Mailbox,
    metrics::Metrics,
    run::Ended,
    watch::{self, Watched},
};
use crate::core::{
    announce::{Announcer, Change, Effect, Input, Name, Seen, Told},
    effect::Failure,
};

mod desk;
mod kinds;
mod write;

pub(super) use desk::Desk;

/// What the watches have seen and the announcer has not; when full, the watches wait.
const INBOX: usize = 256;
/// Inputs taken before it is asked again what to do.
const BATCH: usize = 256;
/// Never look again sooner than this, whatever the announcer says: a mistake there must not spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// Look again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the task works with.
pub(super) struct Seat {
    pub(super) client: Client,
    pub(super) streaming_lists: bool,
    /// There are speakers, whether or not a pool is announced.
    pub(super) speakers: bool,
    pub(super) metrics: Metrics,
    /// What the engine says.
    pub(super) desk: Arc<Desk>,
    /// What it is told.
    pub(super) told: Arc<Mailbox<Told>>,
    /// Until when this process may write.
    pub(super) mandate: sync::Receiver<Mandate>,
    /// For jitter.
    pub(super) seed: u64,
}

/// The watches; dropping it ends them.
struct Watches {
    tasks: JoinSet<Result<std::convert::Infallible, watch::Unheard>>,
    inbox: mpsc::Sender<Seen>,
    ours: bool,
    others: bool,
}

impl Watches {
    fn start<K: Watched<Seen = Seen>>(&mut self, seat: &Seat) {
        self.tasks.spawn(watch::watch::<K>(
            seat.client.clone(),
            seat.streaming_lists,
            self.inbox.clone(),
            seat.metrics.clone(),
        ));
    }

    /// What is ours, once there may be any.
    fn see_ours(&mut self, seat: &Seat) {
        if !std::mem::replace(&mut self.ours, true) {
            self.start::<crds::Announcement>(seat);
            self.start::<crds::Speaker>(seat);
        }
    }

    /// What is needed only while pools are announced, once some are.
    fn see_others(&mut self, seat: &Seat) {
        if !std::mem::replace(&mut self.others, true) {
            self.start::<k8s_openapi::api::core::v1::Node>(seat);
            self.start::<k8s_openapi::api::discovery::v1::EndpointSlice>(seat);
            self.start::<crds::SpeakerStatus>(seat);
        }
    }
}

/// Runs for as long as the process does.
pub(super) async fn run(mut seat: Seat) -> Ended {
    let started = Instant::now();
    let (inbox, mut seen) = mpsc::channel(INBOX);
    let mut watches = Watches {
        tasks: JoinSet::new(),
        inbox,
        ours: false,
        others: false,
    };
    if seat.speakers {
        watches.see_ours(&seat);
    }
    let mut announcer = Announcer::new(seat.seed);
    let mut writes = FuturesUnordered::<BoxFuture<'static, Input>>::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let now = started.elapsed();
        for input in seat.desk.take() {
            announcer.handle(input, now);
        }
        if announcer.in_use() {
            watches.see_ours(&seat);
            watches.see_others(&seat);
        }
        let mandate = *seat.mandate.borrow_and_update();
        let mut wake = Instant::now() + LONGEST_PAUSE;
        if mandate.is_some_and(|until| Instant::now() < until) {
            for effect in announcer.poll(now) {
                match effect {
                    Effect::Tell(told) => seat.told.put(told.key.clone(), told),
                    Effect::Write(name, change) => writes.push(write(&seat, name, change)),
                }
            }
            if let Some(deadline) = announcer.deadline() {
                wake = wake.min(started + deadline.max(now + SHORTEST_PAUSE));
            }
        }
        tokio::select! {
            biased;
            Some(ended) = watches.tasks.join_next() => match ended {
                Ok(Ok(never)) => match never {},
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => return Err(error.into()),
            },
            Some(input) = writes.next(), if !writes.is_empty() => {
                announcer.handle(input, started.elapsed());
            }
            changed = seat.mandate.changed() => if changed.is_err() {
                // Whoever kept the mandate is gone: the process is about to end.
                return std::future::pending().await;
            },
            () = seat.desk.filled() => {}
            _taken = seen.recv_many(&mut batch, BATCH) => {}
            () = sleep_until(wake) => {}
        }
        let now = started.elapsed();
        while let Some(Some(input)) = writes.next().now_or_never() {
            announcer.handle(input, now);
        }
        for seen in batch.drain(..) {
            announcer.handle(Input::Seen(seen), now);
        }
    }
}

/// One write; it is dropped, and its fate unknown, when the mandate ends.
fn write(seat: &Seat, name: Name, change: Change) -> BoxFuture<'static, Input> {
    let (client, metrics) = (seat.client.clone(), seat.metrics.clone());
    let lapsed = lapsed(seat.mandate.clone());
    let write = async move {
        let lost = || Failure::Unknown("this process does not lead any more".to_owned());
        let result = tokio::select! {
            biased;
            () = lapsed => Err(lost()),
            result = write::write(&client, &name, change, &metrics) => result,
        };
        Input::Written(name, result)
    };
    write.boxed()
}
