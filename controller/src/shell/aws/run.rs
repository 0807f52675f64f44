//! The task that owns everything: orders, nodes and endpoints come in, passes begin and end, outcomes
//! go out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aws_cloud::{Cloud, Error};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use model::ServiceKey;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{
    Published, Settings,
    cluster::{Nodes, Slices},
    pass::{self, Done, Facts, Place},
    stacks::{Job, Stacks, backoff},
    words,
};
use crate::{
    core::cloud::{Outcome, State, Told},
    shell::{Ended, Order, Seat, account, drive::lapsed},
};

/// Passes at once. Each waits for AWS most of the time, and the buckets are what limits them.
const PASSES: usize = 16;
/// The VPC is read anew at most so often because something was not found in it.
const FORGET: Duration = Duration::from_secs(60);

/// What runs beside the task.
enum Finished {
    /// A pass over a load balancer.
    Pass(Job, Done),
    /// The first listing of the account.
    Listed(Result<(), Error>),
    /// The stacks that no Service is for.
    Orphans(Result<Vec<String>, account::Error>),
}

struct Run {
    settings: Settings,
    seat: Seat,
    started: Instant,
    cloud: Cloud,
    figures: Arc<Published>,
    place: Arc<Place>,
    stacks: Stacks,
    nodes: Nodes,
    slices: Slices,
    /// Orders that wait for the first listing.
    held: HashMap<ServiceKey, Order>,
    listing: Listing,
    /// When a change of nodes is passed on.
    nodes_due: Option<Instant>,
    verify_due: Instant,
    /// One is compared closely: it may wait long for its budget, and the others must not.
    verifying: bool,
    resync_due: Instant,
    forgot: Instant,
    running: FuturesUnordered<BoxFuture<'static, Finished>>,
}

/// The first listing of the account: before it nothing is known of what a former process made.
enum Listing {
    /// To begin then, after so many failures.
    Due(Instant, u32),
    /// Under way, after so many failures.
    Running(u32),
    Done,
}

/// Runs for as long as the process does.
pub(super) async fn run(settings: Settings, seat: Seat, figures: Arc<Published>) -> Ended {
    let cloud = Cloud::connect(settings.connect.clone()).await?;
    info!(
        cluster = cloud.cluster(),
        region = cloud.region(),
        vpc = cloud.vpc(),
        "serving AWS"
    );
    let cloud = figures.cloud.get_or_init(|| cloud).clone();
    let started = Instant::now();
    let run = Run {
        place: Arc::new(Place {
            removed_percent: settings.removed_percent,
            poll_interval: settings.poll_interval,
            resync: settings.resync,
        }),
        verify_due: started + settings.verify_interval,
        verifying: false,
        resync_due: started + settings.resync,
        forgot: started,
        settings,
        seat,
        started,
        cloud,
        figures,
        stacks: Stacks::default(),
        nodes: Nodes::default(),
        slices: Slices::default(),
        held: HashMap::new(),
        listing: Listing::Due(started, 0),
        nodes_due: None,
        running: FuturesUnordered::new(),
    };
    run.on().await
}

impl Run {
    async fn on(mut self) -> Ended {
        let client = self.seat.client.clone();
        let mut nodes = stream::<Node>(&client);
        let mut slices = stream::<EndpointSlice>(&client);
        loop {
            self.take_orders();
            self.begin();
            let wake = self.wake();
            tokio::select! {
                biased;
                Some(finished) = self.running.next(), if !self.running.is_empty() => {
                    match finished {
                        Finished::Pass(job, done) => self.end(&job, done),
                        Finished::Listed(answer) => self.listed(answer),
                        Finished::Orphans(answer) => self.found_orphans(answer),
                    }
                }
                event = next(&mut nodes) => if self.nodes.take(event) && self.nodes_due.is_none() {
                    self.nodes_due = Some(Instant::now() + self.settings.node_window);
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

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn leads(&self) -> bool {
        let mandate = *self.seat.mandate.borrow();
        mandate.is_some_and(|until| Instant::now() < until)
    }

    fn take_orders(&mut self) {
        for order in self.seat.orders.take() {
            self.held.insert(order.request.key.clone(), order);
        }
        let Some(account) = self.cloud.snapshot().filter(|_| !self.held.is_empty()) else {
            return;
        };
        let places = Places::of(&account);
        let now = self.now();
        for (key, order) in std::mem::take(&mut self.held) {
            if let Some(rejection) = self
                .stacks
                .take(order.clone(), places.of_service(&key), now)
            {
                self.tell(&order, Told::from(&rejection));
            }
        }
    }

    /// Begins what is due, as far as there is room and right to.
    fn begin(&mut self) {
        if !self.leads() {
            return;
        }
        let now = Instant::now();
        if let Listing::Due(due, failures) = self.listing
            && due <= now
        {
            self.listing = Listing::Running(failures);
            let cloud = self.cloud.clone();
            let list = async move { Finished::Listed(cloud.account(FRESH).await.map(drop)) };
            self.running.push(list.boxed());
        }
        let Listing::Done = self.listing else { return };
        if !self.nodes.listed() || !self.slices.listed() {
            return;
        }
        if self.nodes_due.is_some_and(|due| due <= now) {
            self.nodes_due = None;
            self.stacks.mark_all(self.now());
        }
        if self.resync_due <= now {
            self.resync_due = now + self.settings.resync;
            self.stacks.mark_all(self.now());
            let (client, cloud) = (self.seat.client.clone(), self.cloud.clone());
            let age = self.settings.resync;
            let find = async move { account::orphans::names(&client, &cloud, age).await };
            self.running.push(find.map(Finished::Orphans).boxed());
        }
        while self.running.len() < PASSES {
            let Some(job) = self.stacks.next(self.now()) else {
                break;
            };
            self.pass(job);
        }
        if self.verify_due <= now {
            self.verify_due = now + self.settings.verify_interval;
            if self.running.len() < PASSES
                && !self.verifying
                && let Some(job) = self.stacks.verify()
            {
                self.verifying = true;
                self.pass(job);
            }
        }
    }

    fn pass(&mut self, job: Job) {
        let services = job.members.iter().map(|order| order.request.key.clone());
        let endpoints: BTreeMap<ServiceKey, _> = services
            .map(|key| (key.clone(), self.slices.of(&key)))
            .collect();
        let facts = Facts {
            nodes: self.nodes.all(),
            endpoints,
            now: (self.seat.wall)(),
        };
        let cloud = self.cloud.clone();
        let place = Arc::clone(&self.place);
        let lapsed = lapsed(self.seat.mandate.clone());
        let pass = async move {
            // Not one step more after that: what is under way at AWS is found again.
            let done = tokio::select! {
                biased;
                () = lapsed => Done::Dropped,
                done = pass::pass(&cloud, &place, &job, &facts) => done,
            };
            Finished::Pass(job, done)
        };
        self.running.push(pass.boxed());
    }

    fn listed(&mut self, answer: Result<(), Error>) {
        let failures = match self.listing {
            Listing::Running(failures) | Listing::Due(_, failures) => failures,
            Listing::Done => 0,
        };
        self.listing = match answer {
            Ok(()) => Listing::Done,
            Err(error) => {
                let pause = backoff(failures, fastrand::f64());
                warn!(%error, "the account cannot be listed; again in {pause:?}");
                let told = words::failed(&error, false);
                for order in self.held.values() {
                    if words::is_told(&error, failures) {
                        self.tell(order, told.clone());
                    }
                }
                Listing::Due(Instant::now() + pause, failures.saturating_add(1))
            }
        };
    }

    /// Reported, and never deleted by itself: portolan orphans --delete does that.
    fn found_orphans(&mut self, answer: Result<Vec<String>, account::Error>) {
        match answer {
            Ok(stacks) => {
                if !stacks.is_empty() {
                    warn!(
                        ?stacks,
                        "load balancers in AWS that no Service is for: portolan orphans lists them"
                    );
                }
                let count = u64::try_from(stacks.len()).unwrap_or(u64::MAX);
                self.figures.orphans.store(count, Ordering::Relaxed);
            }
            Err(error) => warn!(%error, "cannot tell whether load balancers are left over"),
        }
    }

    fn end(&mut self, job: &Job, done: Done) {
        let now = self.now();
        self.verifying &= !job.verify;
        match done {
            Done::Dropped => {
                let _pause = self.stacks.failed(job, fastrand::f64(), now);
            }
            Done::Still => self.stacks.still(job, self.settings.poll_interval, now),
            Done::Through(through) => {
                for (order, told) in &through.members {
                    if let State::Serving(_) = told.state {
                        self.stacks.served(&order.request.key, now);
                    }
                    self.tell(order, told.clone());
                }
                let left = through.leaving.is_none();
                let gone = self
                    .stacks
                    .done(job, through.again, through.waits, left, now);
                let leaving = job.leaving.iter().filter(|order| {
                    // Whoever is served elsewhere is told there.
                    order.request.wanted.is_none()
                });
                for order in leaving {
                    match &through.leaving {
                        Some(told) => self.tell(order, told.clone()),
                        None if gone.contains(&order.request.key) => {
                            self.tell(order, words::gone())
                        }
                        None => {}
                    }
                }
                if through.rejected && self.forgot.elapsed() >= FORGET {
                    self.forgot = Instant::now();
                    self.cloud.forget_networks();
                }
            }
            Done::Failed(error) => {
                let pause = self.stacks.failed(job, fastrand::f64(), now);
                warn!(stack = job.stack, %error, "a pass over a load balancer failed; again in {pause:?}");
                if job.verify || !words::is_told(&error, job.failures) {
                    return; // the Services are as they were
                }
                let told = words::failed(&error, job.members.is_empty());
                let leaving = job.leaving.iter();
                let leaving = leaving.filter(|order| order.request.wanted.is_none());
                for order in job.members.iter().chain(leaving) {
                    self.tell(order, told.clone());
                }
            }
        }
    }

    fn tell(&self, order: &Order, told: Told) {
        let request = &order.request;
        self.seat.outcomes.put(
            request.key.clone(),
            Outcome {
                key: request.key.clone(),
                uid: request.uid.clone(),
                answers: order.number,
                told,
            },
        );
    }

    /// When there is something to begin, at the latest.
    fn wake(&self) -> Instant {
        let longest = Instant::now() + Duration::from_secs(60);
        if !self.leads() {
            return longest; // the mandate wakes
        }
        let mut times = vec![];
        match self.listing {
            Listing::Due(due, _) => times.push(due),
            Listing::Running(_) => {}
            Listing::Done if self.nodes.listed() && self.slices.listed() => {
                times.extend(self.nodes_due);
                times.push(self.resync_due);
                if self.running.len() < PASSES {
                    times.extend(self.stacks.next_due().map(|due| self.started + due));
                    times.push(self.verify_due);
                }
            }
            Listing::Done => {}
        }
        times
            .into_iter()
            .min()
            .map_or(longest, |first| first.min(longest))
    }
}

/// The first listing is as of now.
const FRESH: Duration = Duration::ZERO;

/// In which stacks each Service has target groups: what a former process made is found by that,
/// whatever the Service's annotations and its class say by now.
struct Places<'a> {
    by_service: HashMap<&'a str, BTreeSet<&'a str>>,
    stacks: BTreeSet<&'a str>,
}

impl<'a> Places<'a> {
    fn of(account: &'a aws_cloud::Account) -> Self {
        let mut by_service: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (stack, groups) in &account.target_groups {
            for group in groups {
                // `namespace/name:port`
                let resource = group.tags.get(aws::tags::LBC_RESOURCE);
                if let Some((service, _port)) = resource.and_then(|text| text.rsplit_once(':')) {
                    by_service.entry(service).or_default().insert(stack);
                }
            }
        }
        Self {
            by_service,
            stacks: account.stacks(),
        }
    }

    fn of_service(&self, key: &ServiceKey) -> BTreeSet<String> {
        let own = key.to_string();
        let groups = self.by_service.get(own.as_str()).into_iter().flatten();
        let mut all: BTreeSet<String> = groups.map(|stack| (*stack).to_owned()).collect();
        if self.stacks.contains(own.as_str()) {
            all.insert(own);
        }
        all
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
    watcher(Api::all(client.clone()), watcher::Config::default())
        .backoff(watcher::DefaultBackoff::default())
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
