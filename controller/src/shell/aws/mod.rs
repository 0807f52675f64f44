//! The provider of classes with `spec.aws`: takes what the engine wants of each Service, watches nodes
//! and endpoints, and brings load balancers there.
//!
//! One task owns [`stacks::Stacks`]; passes over load balancers run beside it, several at once and
//! never two over one. A pass is begun anew from what is seen in the account: nothing is remembered
//! of one that has failed.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use aws::cloud::Cloud;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::watcher::{self, Event, watcher},
};
use model::ServiceKey;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Order, Outcome, Provider, Seat};
use crate::core::cloud::{self, State};

mod cluster;
mod pass;
mod stacks;

use cluster::{Nodes, Slices};
use pass::{Done, Facts, Place};
use stacks::{Job, Stacks};

/// Load balancers looked at at once.
const PASSES: usize = 16;

/// What a cluster's provider is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name: part of names and tags, so that clusters in one account do not meet.
    pub cluster: String,
    /// The VPC; without it the one that the instance is in.
    pub vpc: Option<String>,
    /// How to reach AWS.
    pub connect: aws::cloud::Connect,
    /// Nodes that come or go within so long are one change.
    pub node_window: Duration,
    /// A load balancer that nothing has changed about is looked at closely every so long, one after
    /// the other: the rotation takes as long as there are load balancers.
    pub verify_interval: Duration,
    /// Of the instances in a target group at most so many in a hundred are taken away at once.
    pub removed_percent: u8,
    /// A pass that waits for AWS (health, drain) looks again after so long.
    pub poll_interval: Duration,
}

impl Settings {
    /// The usual ones.
    pub fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            vpc: None,
            connect: aws::cloud::Connect::default(),
            node_window: Duration::from_secs(5),
            verify_interval: Duration::from_secs(10),
            removed_percent: 50,
            poll_interval: Duration::from_secs(10),
        }
    }
}

/// The provider, to be put into [`super::Options::aws`].
pub fn provider(settings: Settings) -> Provider {
    Provider(Arc::new(move |seat| {
        let settings = settings.clone();
        Box::pin(async move { Run::start(settings, seat).await?.run().await })
    }))
}

struct Run {
    settings: Arc<Settings>,
    seat: Seat,
    started: Instant,
    cloud: Arc<Cloud>,
    place: Arc<Place>,
    stacks: Stacks,
    nodes: Nodes,
    slices: Slices,
    /// When a change of nodes is passed on.
    nodes_due: Option<Instant>,
    verify_due: Instant,
    running: FuturesUnordered<BoxFuture<'static, (Job, Done)>>,
}

impl Run {
    async fn start(
        settings: Settings,
        seat: Seat,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let cloud = Cloud::connect(settings.connect.clone()).await?;
        let vpc = match settings.vpc.clone() {
            Some(vpc) => vpc,
            None => cloud.own_vpc().await?,
        };
        info!(
            cluster = settings.cluster,
            vpc,
            region = cloud.region(),
            "serving AWS"
        );
        let started = Instant::now();
        Ok(Self {
            place: Arc::new(Place {
                cluster: settings.cluster.clone(),
                vpc,
                removed_percent: settings.removed_percent,
                poll_interval: settings.poll_interval,
            }),
            verify_due: started + settings.verify_interval,
            settings: Arc::new(settings),
            seat,
            started,
            cloud: Arc::new(cloud),
            stacks: Stacks::default(),
            nodes: Nodes::default(),
            slices: Slices::default(),
            nodes_due: None,
            running: FuturesUnordered::new(),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn run(mut self) -> Outcome {
        let client = self.seat.client.clone();
        let mut nodes = stream::<Node>(&client);
        let mut slices = stream::<EndpointSlice>(&client);
        loop {
            self.take_orders();
            self.begin_passes();
            let wake = self.wake();
            tokio::select! {
                biased;
                Some((job, done)) = self.running.next(), if !self.running.is_empty() => {
                    self.end(&job, done);
                }
                event = next(&mut nodes) => if self.nodes.take(event) && self.nodes_due.is_none() {
                    // The first list is no change: everything waits for it.
                    let window = match self.started.elapsed() < self.settings.node_window {
                        true => Duration::ZERO,
                        false => self.settings.node_window,
                    };
                    self.nodes_due = Some(Instant::now() + window);
                },
                event = next(&mut slices) => {
                    let now = self.now();
                    for key in self.slices.take(event) {
                        self.stacks.mark_service(&key, now);
                    }
                }
                () = self.seat.orders.filled() => {}
                changed = self.seat.mandate.changed() => if changed.is_err() {
                    // Whoever kept the mandate is gone: the process is about to end.
                    return pending().await;
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn leads(&self) -> bool {
        let mandate = *self.seat.mandate.borrow();
        mandate.is_some_and(|until| Instant::now() < until)
    }

    fn take_orders(&mut self) {
        let now = self.now();
        for order in self.seat.orders.take() {
            if let Some(rejection) = self.stacks.take(order.clone(), now) {
                self.tell(&order, State::Waiting, rejection.reason, rejection.message);
            }
        }
    }

    fn begin_passes(&mut self) {
        if !self.leads() || !self.nodes.listed() || !self.slices.listed() {
            return;
        }
        if self.nodes_due.is_some_and(|due| due <= Instant::now()) {
            self.nodes_due = None;
            self.stacks.mark_all(self.now());
        }
        while self.running.len() < PASSES {
            let Some(job) = self.stacks.next(self.now()) else {
                break;
            };
            self.begin(job, false);
        }
        if self.verify_due <= Instant::now() {
            self.verify_due = Instant::now() + self.settings.verify_interval;
            if self.running.len() < PASSES
                && let Some(job) = self.stacks.verify()
            {
                self.begin(job, true);
            }
        }
    }

    fn begin(&mut self, job: Job, verify: bool) {
        let services = job.members.iter().map(|order| order.request.key.clone());
        let endpoints: BTreeMap<ServiceKey, _> = services
            .map(|key| (key.clone(), self.slices.of(&key)))
            .collect();
        let facts = Facts {
            nodes: self.nodes.all(),
            endpoints,
            now: (self.seat.wall)(),
            verify,
        };
        let cloud = Arc::clone(&self.cloud);
        let place = Arc::clone(&self.place);
        let mut mandate = self.seat.mandate.clone();
        self.running.push(Box::pin(async move {
            // Not one step more once the mandate ends: what is under way at AWS is found again.
            let ended = async {
                loop {
                    let until = *mandate.borrow_and_update();
                    let Some(until) = until else { return };
                    tokio::select! {
                        () = sleep_until(until) => if *mandate.borrow() == Some(until) { return },
                        changed = mandate.changed() => if changed.is_err() { return },
                    }
                }
            };
            let done = tokio::select! {
                biased;
                () = ended => Done::Dropped,
                done = pass::pass(&cloud, &place, &job, &facts) => done,
            };
            (job, done)
        }));
    }

    fn end(&mut self, job: &Job, done: Done) {
        let now = self.now();
        match done {
            Done::Dropped => {
                let _pause = self.stacks.failed(job, fastrand::f64(), now);
            }
            Done::Through { told, again } => {
                let left = again.is_none();
                for (order, state, reason, message) in told {
                    self.tell(&order, state, reason, message);
                }
                self.stacks.done(job, again, left, now);
            }
            Done::Failed { reason, message } => {
                let pause = self.stacks.failed(job, fastrand::f64(), now);
                warn!(stack = job.stack, %reason, message, "a pass over a load balancer failed; again in {pause:?}");
                let message = format!("{message}; it is tried again");
                for order in job.members.iter().chain(&job.leaving) {
                    self.tell(order, State::Waiting, reason, message.clone());
                }
            }
        }
    }

    fn tell(&self, order: &Order, state: State, reason: model::Reason, message: String) {
        self.seat.outcomes.put(
            order.request.key.clone(),
            cloud::Outcome {
                key: order.request.key.clone(),
                uid: order.request.uid.clone(),
                answers: order.number,
                state,
                reason,
                message,
            },
        );
    }

    fn wake(&self) -> Instant {
        let due = self.stacks.next_due().map(|due| self.started + due);
        let due = due.filter(|_| self.running.len() < PASSES && self.leads());
        let verify = (self.stacks.len() > 0).then_some(self.verify_due);
        let times = [due, verify, self.nodes_due].into_iter().flatten();
        let first = times
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        // What is due and cannot begin (no nodes yet, not the leader) must not spin.
        first.max(Instant::now() + Duration::from_millis(10))
    }
}

type Events<K> = BoxStream<'static, Event<K>>;

fn stream<K>(client: &Client) -> Events<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let events = watcher(Api::all(client.clone()), watcher::Config::default());
    let backoff = watcher::DefaultBackoff::default();
    kube::runtime::WatchStreamExt::backoff(events, backoff)
        .inspect_err(|error| warn!(kind = %K::kind(&()), %error, "a watch failed; it goes on"))
        .filter_map(async |event| event.ok())
        .boxed()
}

/// A watch never ends.
async fn next<K>(events: &mut Events<K>) -> Event<K> {
    match events.next().await {
        Some(event) => event,
        None => pending().await,
    }
}
