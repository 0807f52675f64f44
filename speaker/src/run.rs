//! What runs and what ends what: one thread for the core and its sockets, this one for the API server,
//! the keys and the admin port. Whatever ends unexpectedly ends the process, and the kubelet starts it
//! anew.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use daemon::Admin;
use kube::Client;
use speaker_core::{Figures, KeyRing, Phase, Settings};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    drive::{self, Ears, Mouth, State},
    keys,
    metrics::Metrics,
    status::Status,
    watch::{self as objects, Sight, Synced},
};

/// Objects on their way to the core. When it is full the watches wait, and the API server with them.
const INBOX: usize = 64;
/// How long the last status may take altogether.
const LAST_WORD: Duration = Duration::from_millis(1500);
/// How long the core may take to hand over: a little more than it allows itself.
const HAND_OVER: Duration = Duration::from_secs(5);

/// All that is given on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// The core's.
    pub(crate) settings: Settings,
    /// Where the keys are.
    pub(crate) keys: PathBuf,
    /// Where /healthz, /readyz and /metrics are served.
    pub(crate) admin: SocketAddr,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The admin port is taken.
    #[error("cannot serve on {0}")]
    Admin(SocketAddr, #[source] io::Error),
    /// The core's thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A socket cannot be had or broke.
    #[error("the core ended")]
    Core(#[source] io::Error),
    /// A panic, which was printed.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Whether this speaker does its work.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    state: watch::Receiver<Option<State>>,
    synced: watch::Receiver<Synced>,
}

impl Ready {
    /// What is missing; `None`: nothing.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        missing(
            *self.synced.borrow(),
            self.state.borrow().map(|state| state.figures),
        )
    }
}

fn missing(synced: Synced, figures: Option<Figures>) -> Option<&'static str> {
    if !synced.announcements || !synced.peers {
        return Some("not every Announcement and Speaker has been listed yet");
    }
    match figures.map(|figures| figures.phase) {
        None => Some("the core has not begun"),
        Some(Phase::Leaving) => Some("handing over"),
        // Waiting: no pool is announced yet, so that nobody has written a Speaker for this node. An
        // installation that waits for its pods must not wait for that.
        Some(Phase::Waiting | Phase::Joining | Phase::Settled) => None,
    }
}

/// Runs until `shutdown` and the hand-over after it.
///
/// # Errors
/// When something that everything depends on cannot be had or ends.
pub(crate) async fn run(
    client: Client,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(options.admin)
        .await
        .map_err(|error| Failure::Admin(options.admin, error))?;
    let node = Arc::clone(&options.settings.node);
    let (seen_in, seen) = mpsc::channel(INBOX);
    let (keys_in, keys) = watch::channel(KeyRing::default());
    let (leave, leaving) = watch::channel(false);
    let (state_in, state) = watch::channel(None);
    let (report_in, report) = watch::channel(None);
    let (relists_in, relists) = watch::channel(0);
    let (owner_in, owner) = watch::channel(None);
    let (synced_in, synced) = watch::channel(Synced::default());

    let ears = Ears {
        seen,
        keys,
        leave: leaving,
    };
    let mouth = Mouth {
        state: state_in,
        report: report_in,
        relists: relists_in,
    };
    let mut core = start_core(options.settings, ears, mouth)?;

    let metrics = Arc::new(Metrics::new(state.clone()));
    let ready = Ready { state, synced };
    let sight = Sight {
        client: client.clone(),
        seen: seen_in,
        relists,
        synced: synced_in,
    };
    let status = Status {
        client,
        node: Arc::clone(&node),
        owner,
        report,
    };
    let mut last_word = tokio::spawn(status.run(metrics.writes()));
    // What never ends; aborted when this function does.
    let mut endless = JoinSet::new();
    endless.spawn({
        let watching = objects::announcements(sight.clone());
        async { (watching.await, "the watch of Announcements").1 }
    });
    endless.spawn({
        let watching = objects::speakers(sight, node, owner_in);
        async { (watching.await, "the watch of Speakers").1 }
    });
    endless.spawn(async {
        (
            keys::follow(options.keys, keys_in).await,
            "the reader of keys",
        )
            .1
    });
    let admin = Admin::new(
        move || ready.missing().map_or(Ok(()), Err),
        move || metrics.render(),
    );
    endless.spawn(async { (admin.serve(listener).await, "the admin port").1 });

    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        ended = &mut core => return Err(core_failure(ended)),
        _ = &mut last_word => return Err(Failure::Ended("the writer of the status")),
        Some(ended) = endless.join_next() => {
            return Err(Failure::Ended(ended.unwrap_or("a task")));
        }
    }
    info!("handing over");
    // Nobody is left to be told when the core has just ended.
    let _ended = leave.send(true);
    match timeout(HAND_OVER, core).await {
        Ok(Ok(Ok(()))) => info!("handed over"),
        Ok(ended) => return Err(core_failure(ended)),
        Err(_elapsed) => {
            warn!("not handed over within {HAND_OVER:?}: ending all the same");
            return Ok(());
        }
    }
    if timeout(LAST_WORD, last_word).await.is_err() {
        warn!("the API server does not take the last status");
    }
    Ok(())
}

type Core = oneshot::Receiver<io::Result<()>>;

fn core_failure(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> Failure {
    match ended {
        Ok(Err(error)) => Failure::Core(error),
        Ok(Ok(())) | Err(_) => Failure::Ended("the core"),
    }
}

fn start_core(settings: Settings, ears: Ears, mouth: Mouth) -> Result<Core, Failure> {
    let (ended_in, ended) = oneshot::channel();
    let running = move || {
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .and_then(|runtime| runtime.block_on(drive::run(settings, ears, mouth)));
        // Nobody listens any more when the process is ending.
        let _unheard = ended_in.send(outcome);
    };
    let _detached = thread::Builder::new()
        .name("core".to_owned())
        .spawn(running)
        .map_err(Failure::Thread)?;
    Ok(ended)
}
