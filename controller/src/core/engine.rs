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
    pools,
    queue::{Queue, Rank},
    record::{LoadBalancerRequest, PoolKind, ServiceRecord, ServiceType},
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
/// A holder whose Service is not known is asked for after so long: its watch event may be on its way.
const SUSPECT_AFTER: Duration = Duration::from_secs(30);
/// The pool in force where no NodePortPool exists and the control plane leaves nodePorts empty.
const DEFAULT_NODE_PORTS: &str = "(default)";
/// Kubernetes' default `--service-node-port-range`.
const DEFAULT_NODE_PORT_RANGE: &str = "30000-32767";

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Signs ledger writes; unique among replicas.
    pub identity: Arc<str>,
    /// For jitter.
    pub seed: u64,
    /// Whether classes with `spec.aws` are served.
    pub aws: bool,
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
}

mod announced;
mod begin;
mod clouds;
mod figures;
mod observe;
mod pass;
mod results;
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
    /// Uids that hold numbers and are not the indexed Service of their name.
    suspects: HashMap<ServiceKey, BTreeSet<Uid>>,
    /// Claims found in statuses at the start that join a number somebody else holds.
    joins: HashSet<(Number, Uid)>,
    synced: BTreeSet<Kind>,
    leading: bool,
    /// Everything was looked at after the last change of leadership.
    begun: bool,
    pools_changed: bool,
    /// Some Service had an empty nodePort: this control plane leaves them to us.
    ports_in_charge: bool,
    cluster_families: Vec<Family>,
    /// Pool or class statuses or the figures may differ from what they should be.
    statuses_dirty: bool,
    statuses_at: Duration,
    pool_writes: HashSet<(PoolKind, Arc<str>)>,
    class_writes: HashSet<Arc<str>>,
    resync_at: Duration,
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
            joins: HashSet::new(),
            synced: BTreeSet::new(),
            leading: false,
            begun: false,
            pools_changed: false,
            ports_in_charge: false,
            cluster_families: Vec::new(),
            statuses_dirty: false,
            statuses_at: Duration::ZERO,
            pool_writes: HashSet::new(),
            class_writes: HashSet::new(),
            resync_at: RESYNC,
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
            && !self.line.stands()
            && !self.clouds.values().any(Cloud::is_open)
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Observed(observed) => self.observe(observed, now),
            Input::Leading(leading) => self.lead(leading),
            Input::Converged(outcome) => self.converged(outcome),
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
        if !self.leading || !self.synced() {
            self.effects.clear();
            return Vec::new();
        }
        if !self.begun {
            self.begin();
        }
        if self.pools_changed {
            self.set_pools();
        }
        if now.mono >= self.resync_at {
            self.resync_at = now.mono + RESYNC;
            self.push_all();
            self.statuses_dirty = true;
        }
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
            self.ledger.gather(self.writes_ahead());
            let (effects, changes) = self.ledger.poll(now);
            self.effects.extend(effects);
            let quiet = changes.is_empty();
            self.apply(changes, now);
            if quiet && (!self.queue.has_ready() || self.passes.len() >= MAX_PASSES) {
                let Some(key) = self.line.turn() else { break };
                self.push(&key);
            }
        }
        for number in self.allocator.expired(now.wall) {
            self.ledger.submit(Op::Forget {
                number,
                now: now.wall,
            });
        }
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
        if !self.leading || !self.synced() {
            return None;
        }
        if !self.begun || (self.queue.has_ready() && self.passes.len() < MAX_PASSES) {
            return Some(now);
        }
        let statuses = self.statuses_dirty.then_some(self.statuses_at);
        [
            Some(self.resync_at),
            self.queue.next_due(),
            self.ledger.next_due(now),
            statuses,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
