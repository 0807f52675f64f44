//! The one task's memory: index, queue, allocator and ledger, and the passes under way. Sans-IO:
//! [`Engine::handle`] takes what happened, [`Engine::poll`] says what to do.
//!
//! A pass over a Service runs DECIDE again from the start after every step, so there is no state to
//! carry from one step to the next: when its claims are committed, deciding again finds nothing to
//! claim and goes on to write; when that write has come back by the watch, deciding again finds
//! nothing to write and goes on to release; then nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use allocator::{
    Allocator, Grant, Pool, RangeSet,
    block::{BlockId, Claim, Holder},
};
use model::{Family, Number, Reason, ServiceKey, Space, TrafficPolicy, Uid, Use};

use super::{
    announce::{Policies, Word},
    decide::{self, Address, Snapshot, Wanted},
    effect::{Effect, EventNote, Failure, Input, Kind, Now, Observed, Pass, ServicePatch},
    index::{ClassMatch, Index},
    ledger::{Change, Fate, Ledger, Op, newer},
    line::Line,
    pace::{Pace, ServerRange},
    pools,
    queue::{Queue, Rank},
    record::{LoadBalancerRequest, PoolKind, ServiceRecord, ServiceType},
    reserve::Reservations,
    settle,
};

/// Passes under way at once: enough that a block's commit gathers hundreds of claims, little enough
/// that what is decided is not stale before it is written.
const MAX_PASSES: usize = 1024;
/// While so many writes of Services are under way, claims gather: enough to keep the API server busy
/// until the next commit is done, few enough that most passes are there to be gathered.
const WRITES_AHEAD: usize = 128;
/// Pool and class statuses are looked at so often at most, so each is written once a second at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Everything is looked at again so often: costs no write when nothing is wrong.
const RESYNC: Duration = Duration::from_secs(600);
/// A write's echo that has not come by the watch after so long is not waited for any longer.
const ECHO: Duration = Duration::from_secs(30);
/// A claim of another replica is looked at again after so long, and so is one that could not be
/// released: its watch event may be on its way.
const SUSPECT_AFTER: Duration = Duration::from_secs(30);
/// A claim whose Service is gone, as far as is known without its DELETE, is released no sooner than
/// this: a request to the API server takes at most so long (its default `--request-timeout`).
pub const LEAK_GRACE: Duration = Duration::from_secs(60);
/// Ledger, Services and IPAddress objects are compared so often; what two looks in a row find is told.
/// Kubernetes' own repair runs every three minutes.
pub const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The pool in force where no NodePortPool exists and the control plane leaves nodePorts empty.
const DEFAULT_NODE_PORTS: &str = "(default)";

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Signs ledger writes; unique among replicas.
    pub identity: Arc<str>,
    /// For jitter.
    pub seed: u64,
    /// Whether classes with `spec.aws` are served.
    pub aws: bool,
    /// About nodePorts.
    pub node_ports: NodePorts,
    /// How often ledger, Services and IPAddress objects are compared: [`LOOK_EVERY`] but in tests.
    pub look_every: Duration,
    /// Whether free addresses of ClusterIP pools are kept from the API server's own picks.
    pub reserve_cluster_ips: bool,
}

/// How nodePorts are dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodePorts {
    /// The API server's `--service-node-port-range`, if it is known.
    pub range: Option<ServerRange>,
    /// So many Services a second at most have their nodePorts changed.
    pub renumber_per_second: u32,
}

impl Default for NodePorts {
    /// Kubernetes' range until the API server says another; five a second.
    fn default() -> Self {
        Self {
            range: None,
            renumber_per_second: 5,
        }
    }
}

/// What has been done, for metrics and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Times DECIDE ran.
    pub decisions: u64,
    /// Spec writes asked for.
    pub spec_writes: u64,
    /// Status writes asked for.
    pub status_writes: u64,
    /// Ledger writes asked for.
    pub ledger_writes: u64,
    /// Ledger writes refused because somebody else had written.
    pub ledger_conflicts: u64,
    /// Service writes refused because the Service had changed.
    pub service_conflicts: u64,
    /// Pool and class status writes asked for.
    pub pool_writes: u64,
    /// Events asked for.
    pub events: u64,
    /// Quorum reads asked for.
    pub reads: u64,
    /// Status writes whose only purpose is a newer resourceVersion (docs/architecture.md, rule 3).
    pub fences: u64,
    /// Holders released.
    pub releases: u64,
    /// Addresses adopted from a status that no block had.
    pub adopted: u64,
    /// Objects that could not be parsed.
    pub unreadable: u64,
    /// nodePorts changed, because of a policy or because two Services had one.
    pub renumbered: u64,
    /// Writes that would have changed nodePorts and were refused by the API server.
    pub renumber_refusals: u64,
    /// Claims released whose Service was gone without its DELETE having been seen.
    pub leaks_released: u64,
    /// nodePorts changed because an older Service had them too; among `renumbered`.
    pub doubles_renumbered: u64,
    /// Fields put back that somebody had changed.
    pub put_back: u64,
    /// Numbers kept for Services that are being created or changed.
    pub reserved: u64,
    /// Of those chosen, that another replica had given away meanwhile.
    pub reserved_elsewhere: u64,
    /// Questions of the API server that had no answer in time.
    pub reviews_late: u64,
}

mod announced;
mod begin;
mod clouds;
mod figures;
mod observe;
mod pass;
mod ports;
mod repair;
mod results;
mod reviews;
mod statuses;

use clouds::Cloud;
pub use figures::{Figures, PoolFigures};

#[derive(Debug)]
enum Stage {
    /// So many operations have not ended yet.
    Claiming(usize),
    /// A write is under way.
    Writing,
    /// A quorum read is under way, to prove that these may go.
    Proving {
        surplus: Vec<(Number, Use, Arc<str>)>,
        suspects: Vec<Uid>,
    },
}

#[derive(Debug)]
struct PassState {
    id: Pass,
    uid: Option<Uid>,
    stage: Stage,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    index: Index,
    queue: Queue,
    line: Line,
    pace: Pace,
    allocator: Allocator,
    ledger: Ledger,
    /// Services with a step under way; never two steps for one.
    passes: HashMap<ServiceKey, PassState>,
    next_pass: Pass,
    /// The version our last write made, and how long to wait for it to come back by the watch;
    /// nothing is decided on an older one meanwhile.
    awaited: HashMap<ServiceKey, (Arc<str>, Duration)>,
    aws: bool,
    /// What the cloud has been told and has answered.
    clouds: HashMap<ServiceKey, Cloud>,
    next_request: u64,
    epoch: u64,
    /// How pools are announced, as the announcer has been told.
    policies: Policies,
    /// What each Service wants announced, and what became of it.
    announced: HashMap<ServiceKey, announced::Entry>,
    /// Uids that hold numbers and are not the indexed Service of their name, and since when.
    suspects: HashMap<ServiceKey, BTreeMap<Uid, repair::Suspect>>,
    /// Uids that hold numbers and whose DELETE came while another replica led.
    departed: HashSet<Uid>,
    /// Releases under way of what suspects held.
    leaks: HashMap<Uid, repair::Leak>,
    looks: repair::Looks,
    /// Claims found in statuses at the start that join a number somebody else holds.
    joins: HashSet<(Number, Uid)>,
    synced: BTreeSet<Kind>,
    leading: bool,
    /// Everything was looked at after the last change of leadership.
    begun: bool,
    pools_changed: bool,
    /// Some Service had an empty nodePort: this control plane leaves them to us.
    ports_in_charge: bool,
    /// And that was seen of a Service, not concluded from the ledger.
    ports_left_empty: bool,
    cluster_families: Vec<Family>,
    /// Pool or class statuses or the figures may differ from what they should be.
    statuses_dirty: bool,
    statuses_at: Duration,
    pool_writes: HashSet<(PoolKind, Arc<str>)>,
    class_writes: HashSet<Arc<str>>,
    resync_at: Duration,
    /// When the next number is not kept for anybody any longer.
    expiry_at: Option<Duration>,
    reservations: Reservations,
    reserve_at: Duration,
    /// Something has happened since it was looked at.
    reserve_dirty: bool,
    /// What the API server asks and has no answer to yet, oldest first.
    reviews: BTreeMap<u64, reviews::Open>,
    effects: Vec<Effect>,
    counters: Counters,
    outcomes: BTreeMap<Reason, u64>,
    figures: Arc<Figures>,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            index: Index::default(),
            queue: Queue::new(settings.seed),
            line: Line::default(),
            pace: Pace::new(
                settings.node_ports.renumber_per_second,
                settings.node_ports.range.unwrap_or_default(),
            ),
            allocator: Allocator::new(),
            ledger: Ledger::new(settings.identity),
            passes: HashMap::new(),
            next_pass: 0,
            awaited: HashMap::new(),
            aws: settings.aws,
            clouds: HashMap::new(),
            next_request: 0,
            epoch: 0,
            policies: Policies::new(),
            announced: HashMap::new(),
            suspects: HashMap::new(),
            departed: HashSet::new(),
            leaks: HashMap::new(),
            looks: repair::Looks::new(settings.look_every),
            joins: HashSet::new(),
            synced: BTreeSet::new(),
            leading: false,
            begun: false,
            pools_changed: false,
            ports_in_charge: false,
            ports_left_empty: false,
            cluster_families: Vec::new(),
            statuses_dirty: false,
            statuses_at: Duration::ZERO,
            pool_writes: HashSet::new(),
            class_writes: HashSet::new(),
            resync_at: RESYNC,
            expiry_at: None,
            reservations: Reservations::new(settings.reserve_cluster_ips, settings.seed),
            reserve_at: Duration::ZERO,
            reserve_dirty: true,
            reviews: BTreeMap::new(),
            effects: Vec::new(),
            counters: Counters::default(),
            outcomes: BTreeMap::new(),
            figures: Arc::default(),
        }
    }

    /// Whether every kind has been listed once.
    pub fn synced(&self) -> bool {
        self.synced.len() == Kind::ALL.len()
    }

    /// What has been done.
    pub fn counters(&self) -> Counters {
        Counters {
            ledger_writes: self.ledger.writes,
            ledger_conflicts: self.ledger.conflicts,
            ..self.counters
        }
    }

    /// What is known.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Pools and holders.
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Whether nothing is under way or due now: the fixed point, once everything is synced.
    pub fn is_idle(&self) -> bool {
        self.passes.is_empty()
            && !self.queue.has_ready()
            && !self.statuses_dirty
            && self.reviews.is_empty()
            && !self.line.stands()
            && !self.pace.is_waited_for()
            && !self.clouds.values().any(Cloud::is_open)
            && !(self.reserves() && (self.reserve_dirty || self.reservations.is_working()))
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.reserve_dirty = true;
        match input {
            Input::Observed(observed) => self.observe(observed, now),
            Input::Leading(leading) => self.lead(leading),
            Input::Converged(outcome) => self.converged(outcome),
            Input::AddressesListed(result) => self.addresses_listed(result),
            Input::Review { review, deadline } => self.asked(review, deadline),
            Input::Announced(told) => self.told_of_announcing(told),
            Input::ServiceWritten { pass, key, result } => {
                self.service_written(pass, &key, result, now)
            }
            Input::ServiceRead { pass, key, result } => self.service_read(pass, &key, result, now),
            Input::BlockWritten { id, result } => {
                let changes = self.ledger.written(id, result, now.mono);
                self.apply(changes, now);
            }
            Input::BlockRead { id, result } => {
                let changes = self.ledger.read(id, result, now.mono);
                self.apply(changes, now);
            }
            Input::PoolStatusWritten { kind, name, result } => {
                // From here on, and not from when it was sent: a slow answer and a quick one after it
                // would bring two within a second.
                self.statuses_at = now.mono + STATUS_INTERVAL;
                if result.is_err() {
                    self.pool_writes.remove(&(kind, name));
                    self.statuses_dirty = true;
                }
            }
            Input::ReservationWritten { address, result } => {
                self.reservations.written(address, result, now.mono);
            }
            Input::ClassStatusWritten { name, result } => {
                if result.is_err() {
                    self.class_writes.remove(&name);
                    self.statuses_dirty = true;
                }
            }
        }
    }

    /// Says what to do now.
    pub fn poll(&mut self, now: Now) -> Vec<Effect> {
        if !self.synced() {
            self.effects.clear();
            self.forget_late(now);
            return Vec::new();
        }
        if !self.leading {
            return self.follow(now);
        }
        if !self.begun {
            self.begin(now);
        }
        if self.pools_changed {
            self.set_pools();
        }
        self.look_if_due(now);
        if now.mono >= self.resync_at {
            self.resync_at = now.mono + RESYNC;
            self.push_all();
            self.statuses_dirty = true;
        }
        self.try_again(now);
        for key in self.queue.take_due(now.mono) {
            self.push(&key);
        }
        loop {
            while self.passes.len() < MAX_PASSES {
                let Some(key) = self.queue.pop() else { break };
                // A busy key is looked at again when its step ends.
                if !self.passes.contains_key(&key) {
                    self.pass(&key, now);
                }
            }
            if self.pools_changed {
                self.set_pools();
            }
            self.attend(now);
            self.ledger.gather(self.writes_ahead());
            let (effects, changes) = self.ledger.poll(now);
            self.effects.extend(effects);
            let quiet = changes.is_empty();
            self.apply(changes, now);
            if quiet && (!self.queue.has_ready() || self.passes.len() >= MAX_PASSES) {
                let next = self.pace.turn(now.mono).or_else(|| self.line.turn());
                let Some(key) = next else { break };
                self.push(&key);
            }
        }
        for number in self.allocator.expired(now.wall) {
            self.ledger.submit(Op::Forget {
                number,
                now: now.wall,
            });
        }
        self.expiry_at = self.allocator.next_expiry(now.wall).map(|until| {
            let left = u64::try_from(until.saturating_sub(now.wall)).unwrap_or_default();
            now.mono.saturating_add(Duration::from_secs(left))
        });
        self.reserve(now);
        self.statuses_dirty |= self.figures_differ();
        self.statuses(now);
        std::mem::take(&mut self.effects)
    }

    fn writes_ahead(&self) -> bool {
        let writing = |pass: &&PassState| matches!(pass.stage, Stage::Writing);
        self.passes.len() > WRITES_AHEAD
            && self.passes.values().filter(writing).count() >= WRITES_AHEAD
    }

    /// When [`Self::poll`] has something to do that no input will announce.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let late = self.next_late();
        if !self.leading || !self.synced() {
            let ledger = self.ledger.next_due(now).filter(|_| self.synced());
            return [late, ledger].into_iter().flatten().min();
        }
        if !self.begun || (self.queue.has_ready() && self.passes.len() < MAX_PASSES) {
            return Some(now);
        }
        let statuses = self.statuses_dirty.then_some(self.statuses_at);
        [
            Some(self.resync_at),
            self.expiry_at,
            Some(self.looks.at),
            self.queue.next_due(),
            self.ledger.next_due(now),
            self.pace.next_due(),
            self.reserve_due(),
            statuses,
            late,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
