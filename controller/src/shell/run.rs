//! Puts the parts together and watches over them: a task that ends before it should ends the run.

use std::{
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crds::{AddressPool, AllocationBlock, LoadBalancerClass, NodePortPool};
use daemon::Admin;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    networking::v1::{IPAddress, ServiceCIDR},
};
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch as sync},
    task::{Id, JoinSet},
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    announce::{self, Desk},
    drive::{self, Mandate, Order, World},
    election,
    keys::{self, SecretName},
    mailbox::Mailbox,
    metrics::{Exposition, Metrics},
    watch::{self, Watched},
    webhook::{self, Webhook},
};
use crate::core::{
    cloud,
    engine::{Counters, Engine, Figures, LOOK_EVERY, NodePorts, Settings},
};

/// What the watches have seen and the engine has not; when full, the watches wait.
const INBOX: usize = 256;

/// How long handing back the lease may take at the end.
const RELEASE: Duration = Duration::from_secs(5);

/// How a controller is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Signs ledger writes, the lease and Events; unique among replicas and their restarts.
    pub identity: Arc<str>,
    /// For jitter.
    pub seed: u64,
    /// The lease to lead by; `None`: this is the only process and always leads.
    pub election: Option<Election>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Requests about single Services, pools, classes and Events at once.
    pub concurrency: usize,
    /// Whether to ask for streaming lists; where the API server has none, pages are listed.
    pub streaming_lists: bool,
    /// Unix seconds now.
    pub wall: fn() -> i64,
    /// How nodePorts are dealt with.
    pub node_ports: NodePorts,
    /// How often ledger, Services and IPAddress objects are compared.
    pub look_every: Duration,
    /// Whether free addresses of ClusterIP pools are kept from the API server's own picks.
    pub reserve_cluster_ips: bool,
    /// The Secret to make the speakers' key in; `None`: none is made.
    pub speaker_keys: Option<SecretName>,
    /// What serves classes with `spec.aws`; `None`: nothing does.
    pub aws: Option<Provider>,
    /// How the API server may ask before it stores a Service; `None`: it does not.
    pub webhook: Option<Webhook>,
    /// Where the state is published; see [`Options::observe`].
    pub state: sync::Sender<State>,
}

/// What makes load balancers in a cloud: a task that never ends.
#[derive(Clone)]
pub struct Provider {
    /// Begins it.
    pub start: Arc<dyn Fn(Seat) -> BoxFuture<'static, Ended> + Send + Sync>,
    /// What it counts, asked at each scrape.
    pub figures: Arc<dyn Fn() -> CloudFigures + Send + Sync>,
}

/// What a cloud's provider counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CloudFigures {
    /// Calls by operation and outcome, words of closed sets both.
    pub calls: Vec<(&'static str, &'static str, u64)>,
    /// Load balancers, or what is left of them, that no Service is for.
    pub orphans: u64,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

/// What such a task works with.
#[derive(Clone)]
pub struct Seat {
    /// For nodes and endpoints.
    pub client: Client,
    /// What is wanted, by Service.
    pub orders: Arc<Mailbox<Order>>,
    /// What became of it.
    pub outcomes: Arc<Mailbox<cloud::Outcome>>,
    /// Until when it may write.
    pub mandate: sync::Receiver<Mandate>,
    /// Unix seconds now.
    pub wall: fn() -> i64,
}

/// Which Lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Election {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a running controller says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Every kind has been listed once.
    pub synced: bool,
    /// It may write.
    pub leading: bool,
    /// Synced, nothing is under way and nothing due: the fixed point, as far as the watches have
    /// told.
    pub idle: bool,
    /// It is on its way out.
    pub draining: bool,
    /// Where the admin port listens, once it does.
    pub admin: Option<SocketAddr>,
    /// Where the webhook listens, once it does.
    pub webhook: Option<SocketAddr>,
    /// And whether it has a certificate to show.
    pub certificate: bool,
    /// What it has done.
    pub counters: Counters,
    /// What is true now; a second late at most.
    pub figures: Arc<Figures>,
}

impl State {
    /// What `/readyz` says. Standbys are ready: they are warm.
    pub fn ready(&self) -> bool {
        self.synced && !self.draining && self.answers()
    }

    /// Whether the API server can ask, if it is to.
    fn answers(&self) -> bool {
        self.webhook.is_none() || self.certificate
    }
}

/// What the admin port says.
pub(super) fn admin(exposition: Exposition, state: sync::Receiver<State>) -> Admin {
    let ready = move || {
        let state = state.borrow();
        match (state.ready(), state.draining, state.synced) {
            (true, ..) => Ok(()),
            (false, true, _) => Err("shutting down"),
            (false, false, false) => Err("not every kind has been listed yet"),
            (false, false, true) => Err("the webhook has no certificate yet"),
        }
    };
    Admin::new(ready, move || exposition.render())
}

impl Options {
    /// The only process: no lease, no admin port.
    pub fn single(identity: &str) -> Self {
        Self {
            identity: identity.into(),
            seed: 0,
            election: None,
            admin: None,
            concurrency: 32,
            node_ports: NodePorts::default(),
            look_every: LOOK_EVERY,
            reserve_cluster_ips: true,
            aws: None,
            webhook: None,
            speaker_keys: None,
            streaming_lists: true,
            wall: || Timestamp::now().as_second(),
            state: sync::Sender::default(),
        }
    }

    /// Follows the state of the controller run with these options.
    pub fn observe(&self) -> sync::Receiver<State> {
        self.state.subscribe()
    }
}

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be opened.
    #[error("cannot listen on {0} (--admin-address)")]
    Admin(SocketAddr, #[source] std::io::Error),
    /// The webhook's port cannot be opened.
    #[error("cannot listen on {0} (--webhook-address)")]
    Webhook(SocketAddr, #[source] std::io::Error),
    /// A part that never ends has ended.
    #[error("{part} ended unexpectedly")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why, if it said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// How a part ends.
pub type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The tasks beside the engine. Dropping it aborts them all.
#[derive(Default)]
pub(super) struct Parts {
    tasks: JoinSet<Ended>,
    names: Vec<(Id, &'static str)>,
}

impl Parts {
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Ended> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.push((id, name));
    }

    fn watch<K: Watched>(
        &mut self,
        client: &Client,
        options: &Options,
        inbox: &mpsc::Sender<K::Seen>,
        metrics: &Metrics,
    ) {
        let watching = watch::watch::<K>(
            client.clone(),
            options.streaming_lists,
            inbox.clone(),
            metrics.clone(),
        );
        self.spawn(watch::word::<K>(), async move {
            match watching.await {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            }
        });
    }

    /// The next task to end, and how.
    pub(super) async fn ended(&mut self) -> (&'static str, Ended) {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(error.into())),
        };
        let name = self
            .names
            .iter()
            .find_map(|(known, name)| (*known == id).then_some(*name));
        (name.unwrap_or("a task"), outcome)
    }
}

/// Runs the controller until `shutdown`, then drains: starts nothing new, waits up to 10 s for what
/// is under way, hands back the lease. Dropping the future aborts everything at once.
///
/// # Errors
/// When a port cannot be opened, or a part ends that should not.
pub async fn run(
    client: Client,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let metrics = Metrics::default();
    let mut parts = Parts::default();
    // A handle may be used for one run after another.
    options.state.send_replace(State::default());

    if let Some(address) = options.admin {
        let listener = listen(address)
            .await
            .map_err(|error| Error::Admin(address, error))?;
        let bound = listener
            .local_addr()
            .map_err(|error| Error::Admin(address, error))?;
        info!(address = %bound, "serving /healthz, /readyz and /metrics");
        options.state.send_modify(|state| state.admin = Some(bound));
        let figures = options.aws.as_ref();
        let figures = figures.map(|provider| Arc::clone(&provider.figures));
        let exposition = Exposition::new(&metrics, options.observe(), figures);
        let state = options.observe();
        let admin = admin(exposition, state);
        parts.spawn("the admin port", admin.serve(listener));
    }

    let (sender, inbox) = mpsc::channel(INBOX);
    parts.watch::<Service>(&client, &options, &sender, &metrics);
    parts.watch::<Namespace>(&client, &options, &sender, &metrics);
    parts.watch::<LoadBalancerClass>(&client, &options, &sender, &metrics);
    parts.watch::<AddressPool>(&client, &options, &sender, &metrics);
    parts.watch::<NodePortPool>(&client, &options, &sender, &metrics);
    parts.watch::<AllocationBlock>(&client, &options, &sender, &metrics);
    parts.watch::<ServiceCIDR>(&client, &options, &sender, &metrics);
    parts.watch::<IPAddress>(&client, &options, &sender, &metrics);
    drop(sender);

    let started = Instant::now();
    let mandate = sync::Sender::<Mandate>::new(None);
    let mandate_seen = mandate.subscribe();
    let (resign, resigned) = sync::channel(false);
    // Kept alive here where no election owns it.
    let _sole = match options.election.clone() {
        Some(which) => {
            parts.spawn(
                election::TASK,
                election::campaign(
                    client.clone(),
                    which,
                    Arc::clone(&options.identity),
                    options.seed,
                    mandate,
                    resigned,
                ),
            );
            None
        }
        None => {
            mandate.send_replace(Some(started + FOREVER));
            Some(mandate)
        }
    };

    let mut engine = Engine::new(Settings {
        identity: Arc::clone(&options.identity),
        seed: options.seed,
        aws: options.aws.is_some(),
        node_ports: options.node_ports,
        look_every: options.look_every,
        reserve_cluster_ips: options.reserve_cluster_ips,
    });
    let (orders, outcomes) = (Arc::<Mailbox<Order>>::default(), Arc::default());
    if let Some(provider) = &options.aws {
        let provider = (provider.start)(Seat {
            client: client.clone(),
            orders: Arc::clone(&orders),
            outcomes: Arc::clone(&outcomes),
            mandate: mandate_seen.clone(),
            wall: options.wall,
        });
        parts.spawn("the AWS provider", provider);
    }
    let (desk, told) = (Arc::<Desk>::default(), Arc::default());
    let announcer = announce::run(announce::Seat {
        client: client.clone(),
        streaming_lists: options.streaming_lists,
        speakers: options.speaker_keys.is_some(),
        metrics: metrics.clone(),
        desk: Arc::clone(&desk),
        told: Arc::clone(&told),
        mandate: mandate_seen.clone(),
        seed: options.seed,
    });
    parts.spawn("the announcer", announcer);
    if let Some(secret) = options.speaker_keys.clone() {
        let kept = keys::keep(client.clone(), secret, mandate_seen.clone(), options.wall);
        parts.spawn("the speakers' keys", kept);
    }
    let (asked, questions) = (sync::Sender::default(), None);
    let questions = match options.webhook.clone() {
        None => questions,
        Some(webhook) => {
            let (sender, questions) = mpsc::channel(webhook::QUESTIONS);
            let address = webhook.address;
            let seat = webhook::Seat {
                client: client.clone(),
                questions: sender,
                asked: asked.subscribe(),
                metrics: metrics.clone(),
                state: options.state.clone(),
                mandate: mandate_seen.clone(),
                wall: options.wall,
            };
            let started = webhook::start(webhook, seat, &mut parts).await;
            started.map_err(|error| Error::Webhook(address, error))?;
            Some(questions)
        }
    };
    let world = World {
        client,
        identity: options.identity,
        concurrency: options.concurrency,
        started,
        wall: options.wall,
        metrics,
        state: options.state,
        inbox,
        mandate: mandate_seen,
        orders,
        outcomes,
        desk,
        told,
        questions,
        asked,
    };
    together(&mut parts, drive::drive(&mut engine, world, shutdown)).await?;

    resign.send_replace(true);
    if options.election.is_some() {
        let released = async {
            loop {
                let (part, outcome) = parts.ended().await;
                if part == election::TASK {
                    return outcome;
                }
            }
        };
        match timeout(RELEASE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the lease was not handed back: it expires by itself"),
            Err(_elapsed) => warn!("the lease was not handed back in time: it expires by itself"),
        }
    }
    Ok(())
}

/// `[::]` means both families; where the kernel has no IPv6, all of IPv4.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match (TcpListener::bind(address).await, without_ipv6(address)) {
        (Err(error), Some(instead)) => TcpListener::bind(instead).await.map_err(|_also| error),
        (bound, _) => bound,
    }
}

fn without_ipv6(address: SocketAddr) -> Option<SocketAddr> {
    (address.ip() == Ipv6Addr::UNSPECIFIED)
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// Drives the engine for as long as every other part goes on.
pub(super) async fn together(
    parts: &mut Parts,
    driving: impl Future<Output = Result<(), drive::Blind>>,
) -> Result<(), Error> {
    let (part, source) = tokio::select! {
        biased;
        (part, outcome) = parts.ended() => (part, outcome.err()),
        driven = driving => match driven {
            Ok(()) => return Ok(()),
            Err(error) => ("the engine", Some(error.into())),
        },
    };
    Err(Error::Ended { part, source })
}

/// Longer than any process runs, short enough for every clock.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
