//! A cluster with its controllers: the real [`controller::shell::run`] in process, behind a layer
//! that injects faults and logs every request.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use controller::shell::{self, Election, Error, Options, State};
use devapi::{
    DevApi,
    faults::{Faults, Logged},
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tower::{BoxError, Layer as _, Service, ServiceExt as _};

use crate::{
    cluster::Cluster,
    fixtures::{cluster_pool, default_class},
};

/// Longer than a resync: on a paused clock it costs nothing.
const QUIET: Duration = Duration::from_secs(660);
/// As in [`crate::cluster`].
const DEADLINE: Duration = Duration::from_secs(180);

/// Where a test plays.
pub struct Stage {
    /// As the users see it.
    pub cluster: Cluster,
    /// In front of the controllers.
    pub faults: Faults,
    /// For the controllers, through the faults.
    pub client: Client,
    /// The server, if it is the embedded one.
    pub api: Option<DevApi>,
}

/// A controller that runs.
pub struct Running {
    task: JoinHandle<Result<(), Error>>,
    stop: oneshot::Sender<()>,
    state: watch::Receiver<State>,
}

impl Stage {
    /// On the embedded server, with the custom resources, a default class and clusterIPs of both
    /// families. The test's clock should be paused.
    pub async fn devapi() -> Self {
        let stage = Self::bare(DevApi::new(devapi::Options {
            seed: 7,
            ..devapi::Options::default()
        }))
        .await;
        stage
            .cluster
            .create(cluster_pool(
                "cluster",
                &["10.96.0.0/16", "fd00:10:96::/112"],
            ))
            .await;
        stage.cluster.create(default_class()).await;
        stage
    }

    /// On the embedded server, with the custom resources only, where the clock runs: nothing has
    /// been written for `quiet` when it counts as settled.
    pub async fn bare_on_clock(quiet: Duration) -> Self {
        Self::with_quiet(DevApi::new(devapi::Options::default()), quiet).await
    }

    /// On the embedded server, with the custom resources only.
    pub async fn bare(api: DevApi) -> Self {
        Self::with_quiet(api, QUIET).await
    }

    async fn with_quiet(api: DevApi, quiet: Duration) -> Self {
        let faults = Faults::new(7);
        let client = shell::client_over(faults.layer(api.clone()), "default");
        let cluster = Cluster::new(api.client(), quiet, true);
        cluster.install().await;
        Self {
            cluster,
            faults,
            client,
            api: Some(api),
        }
    }

    /// Creates all of these.
    pub async fn create(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            self.cluster.create(object).await;
        }
    }

    /// Starts a controller that leads without a lease.
    pub fn start(&self, identity: &str) -> Running {
        Running::start(self.client.clone(), options(identity))
    }

    /// Starts a controller that campaigns for the lease.
    pub fn campaign(&self, client: Client, identity: &str) -> Running {
        let election = Election {
            namespace: "default".to_owned(),
            name: "portolan".to_owned(),
        };
        Running::start(
            client,
            Options {
                election: Some(election),
                ..options(identity)
            },
        )
    }

    /// What has been written since the log was cleared, in words.
    pub fn writes(&self) -> Vec<String> {
        self.faults.log().writes().iter().map(told).collect()
    }

    /// Everything is as it should be and stays so: the ledger holds what is shown, and neither
    /// waiting longer than a resync nor a restart writes anything. Leaves no controller running.
    pub async fn fixed_point(&self, running: Running) {
        self.fixed_point_of(running, options("restarted")).await;
    }

    /// The same with a restart under these options.
    pub async fn fixed_point_of(&self, running: Running, restarted: Options) {
        let before = self.cluster.settled().await;
        self.cluster.check().await;
        running.stop().await;
        self.faults.log().clear();
        let mut again = Running::start(self.client.clone(), restarted);
        again.until("idle", |state| state.idle).await;
        let after = self.cluster.settled().await;
        assert_eq!(
            self.writes(),
            [""; 0],
            "the second pass over unchanged input wrote"
        );
        assert_eq!(after, before);
        again.stop().await;
    }
}

/// The only process, with the wall clock of the runtime: where that is paused, the seconds that
/// conditions show go by as fast as the timers, or a fence (which moves only such a time) would find
/// the same second for ever.
pub fn options(identity: &str) -> Options {
    Options {
        wall,
        ..Options::single(identity)
    }
}

fn wall() -> i64 {
    thread_local! {
        // Each paused clock lives on the thread of its test.
        static BEGAN: (Instant, u64) = (
            Instant::now(),
            SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        );
    }
    BEGAN.with(|(began, at)| i64::try_from(at + began.elapsed().as_secs()).unwrap_or(i64::MAX))
}

/// `patch services/a/status`.
pub fn told(logged: &Logged) -> String {
    let request = &logged.request;
    let mut told = format!("{} {}", request.verb, request.resource);
    for part in [&request.name, &request.subresource].into_iter().flatten() {
        told += &format!("/{part}");
    }
    told
}

impl Running {
    /// Starts a controller.
    pub fn start(client: Client, options: Options) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let state = options.observe();
        let task = tokio::spawn(shell::run(client, options, async move {
            if stopped.await.is_err() {
                // The test dropped it: only an abort ends it now.
                std::future::pending::<()>().await;
            }
        }));
        Self { task, stop, state }
    }

    /// What it says of itself.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until it says so; panics past the deadline.
    pub async fn until(&mut self, what: &str, holds: impl FnMut(&State) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, self.state.wait_for(holds)).await;
        let came_true = matches!(waited, Ok(Ok(_)));
        drop(waited);
        if !came_true {
            panic!(
                "never {what}: {:?}, ended: {}",
                self.state(),
                self.task.is_finished()
            );
        }
    }

    /// Ends it as a signal would, and waits for the end.
    pub async fn stop(self) {
        self.stop.send(()).expect("it still runs");
        self.task.await.unwrap().unwrap();
    }

    /// Ends it as `kill -9` would.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A client whose answers to such requests (told by their query) bring every chunk later and changed,
/// as `change` says; the order stays.
pub fn changing<S, B>(
    service: S,
    concerns: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
    change: impl Fn(Bytes) -> (Duration, Bytes) + Clone + Send + Sync + 'static,
) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let changed = tower::service_fn(move |request: Request<Body>| {
        let (service, change) = (service.clone(), change.clone());
        let concerned = concerns(request.uri().query().unwrap_or_default());
        async move {
            let reply = service.oneshot(request).await.map_err(Into::into)?;
            let body = |body: B| body.map_err(Into::<BoxError>::into).boxed_unsync();
            if !concerned {
                return Ok(reply.map(body));
            }
            Ok::<_, BoxError>(reply.map(|inner| {
                let state = (body(inner), change);
                let chunks = futures::stream::unfold(state, |(mut inner, change)| async move {
                    let frame = match inner.frame().await? {
                        Ok(frame) => frame,
                        Err(error) => return Some((Err(error), (inner, change))),
                    };
                    let (wait, data) = change(frame.into_data().unwrap_or_default());
                    tokio::time::sleep(wait).await;
                    Some((Ok(Frame::data(data)), (inner, change)))
                });
                StreamBody::new(chunks).boxed_unsync()
            }))
        }
    });
    shell::client_over(changed, "default")
}

/// For [`changing`]: watches, streaming lists among them.
pub fn watches(query: &str) -> bool {
    query.contains("watch=true")
}

/// For [`changing`]: lists in pages.
pub fn lists(query: &str) -> bool {
    query.contains("limit=")
}
