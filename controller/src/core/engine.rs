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
    Admission, Allocator, Pool, RangeSet, Strategy,
    block::{BlockId, Claim, Holder},
};
use model::{Family, Number, Reason, ServiceKey, Uid, Use};

use super::{
    decide::{self, Address, Decision, Snapshot, Wanted},
    effect::{Effect, EventNote, Failure, Input, Kind, Now, Observed, Pass, ServicePatch},
    index::{ClassMatch, Index},
    ledger::{Change, Fate, Ledger, Op, newer},
    pools,
    queue::{Queue, Rank},
    record::{PoolKind, ServiceRecord, ServiceType},
    settle,
};

/// Passes under way at once: enough that a block's commit gathers hundreds of claims, little enough
/// that what is decided is not stale before it is written.
const MAX_PASSES: usize = 1024;
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
    allocator: Allocator,
    ledger: Ledger,
    /// Services with a step under way; never two steps for one.
    passes: HashMap<ServiceKey, PassState>,
    next_pass: Pass,
    /// The version our last write made, and how long to wait for it to come back by the watch;
    /// nothing is decided on an older one meanwhile.
    awaited: HashMap<ServiceKey, (Arc<str>, Duration)>,
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
    /// Pool or class statuses may differ from what they should be.
    statuses_dirty: bool,
    statuses_at: Duration,
    pool_writes: HashSet<(PoolKind, Arc<str>)>,
    class_writes: HashSet<Arc<str>>,
    resync_at: Duration,
    effects: Vec<Effect>,
    counters: Counters,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            index: Index::default(),
            queue: Queue::new(settings.seed),
            allocator: Allocator::new(),
            ledger: Ledger::new(settings.identity),
            passes: HashMap::new(),
            next_pass: 0,
            awaited: HashMap::new(),
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
        self.passes.is_empty() && !self.queue.has_ready() && !self.statuses_dirty
    }

    /// What DECIDE says of a Service now, without doing anything.
    pub fn explain(&self, key: &ServiceKey, now: Now) -> Option<Decision> {
        let record = self.index.service(key)?;
        Some(decide::decide(&self.snapshot(record, now)))
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Observed(observed) => self.observe(observed, now),
            Input::Leading(leading) => self.lead(leading),
            Input::ServiceWritten { pass, key, result } => self.service_written(pass, &key, result, now),
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
            let (effects, changes) = self.ledger.poll(now);
            self.effects.extend(effects);
            let quiet = changes.is_empty();
            self.apply(changes, now);
            if quiet && (!self.queue.has_ready() || self.passes.len() >= MAX_PASSES) {
                break;
            }
        }
        for number in self.allocator.expired(now.wall) {
            self.ledger.submit(Op::Forget { number, now: now.wall });
        }
        self.statuses(now);
        std::mem::take(&mut self.effects)
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
        [Some(self.resync_at), self.queue.next_due(), self.ledger.next_due(now), statuses]
            .into_iter()
            .flatten()
            .min()
    }

    // --- what happened -------------------------------------------------------------------------

    fn observe(&mut self, observed: Observed, now: Now) {
        match observed {
            Observed::Service(record) => self.service(record),
            Observed::ServiceDeleted(key, uid) => {
                self.index.remove_service(&key, &uid);
                self.gone(&key, &uid, now);
                self.push(&key);
            }
            Observed::Namespace(record) => {
                let name = record.name.clone();
                if self.index.set_namespace(record) {
                    self.push_namespace(&name);
                }
            }
            Observed::NamespaceDeleted(name) => {
                self.index.remove_namespace(&name);
            }
            Observed::Class(record) => {
                self.class_writes.remove(&record.name);
                self.statuses_dirty = true;
                if self.index.set_class(record) {
                    self.push_all();
                }
            }
            Observed::ClassDeleted(name) => {
                if self.index.remove_class(&name) {
                    self.statuses_dirty = true;
                    self.push_all();
                }
            }
            Observed::Pool(record) => {
                self.pool_writes.remove(&(record.kind, record.name.clone()));
                self.statuses_dirty = true;
                if self.index.set_pool(record) {
                    self.pools_changed = true;
                }
            }
            Observed::PoolDeleted(kind, name) => {
                self.pools_changed |= self.index.remove_pool(kind, &name);
            }
            Observed::Block(record) => {
                self.index.seen(Kind::Block, || record.id.name());
                let changes = self.ledger.observe(record);
                self.apply(changes, now);
            }
            Observed::BlockDeleted(id) => {
                let changes = self.ledger.observe_deleted(id);
                self.apply(changes, now);
            }
            Observed::Unreadable { kind, name, error } => {
                self.counters.unreadable += 1;
                tracing::warn!(?kind, %name, %error, reason = %Reason::Unreadable, "an object cannot be read; what was known of it stays");
                self.index.seen(kind, || name);
            }
            Observed::Restarted(kind) => self.index.restart(kind),
            Observed::Synced(kind) => self.listed(kind, now),
        }
    }

    fn service(&mut self, record: Arc<ServiceRecord>) {
        let key = record.key.clone();
        if let Some(known) = self.index.service(&key)
            && known.uid == record.uid
            && newer(&known.version, &record.version)
        {
            self.index.seen(Kind::Service, || key.to_string());
            return;
        }
        let port_lacking = record.needs_node_ports() && record.ports.iter().any(|port| port.node_port == 0);
        let health_lacking = record.needs_health_check_port() && record.health_check_node_port == 0;
        if (port_lacking || health_lacking) && !self.ports_in_charge {
            self.ports_in_charge = true;
            self.pools_changed = true;
        }
        if let Some(suspects) = self.suspects.get_mut(&key) {
            suspects.remove(&record.uid);
        }
        let uid = record.uid.clone();
        if let Some(old) = self.index.set_service(record)
            && old.uid != uid
        {
            self.suspect(&key, &old.uid);
        }
        self.push(&key);
    }

    /// The API server said DELETED for this uid: it never comes back, so its numbers are free.
    fn gone(&mut self, key: &ServiceKey, uid: &Uid, now: Now) {
        self.awaited.remove(key);
        if self.passes.get(key).is_some_and(|pass| pass.uid.as_ref() == Some(uid)) {
            self.passes.remove(key);
        }
        if !self.leading || !self.begun {
            self.suspect(key, uid);
            return;
        }
        self.release_all(key, uid, now);
    }

    /// Submits the release of everything that a uid proven gone holds.
    fn release_all(&mut self, key: &ServiceKey, uid: &Uid, now: Now) {
        let held: Vec<(Number, Use)> = self.allocator.held_by(uid).collect();
        for (number, usage) in held {
            let retain = self.retention(key, number, usage, now);
            self.ledger.submit(Op::Release {
                number,
                uid: uid.clone(),
                usage,
                at: None,
                retain,
            });
        }
        if let Some(suspects) = self.suspects.get_mut(key) {
            suspects.remove(uid);
            if suspects.is_empty() {
                self.suspects.remove(key);
            }
        }
    }

    fn retention(&self, key: &ServiceKey, number: Number, usage: Use, now: Now) -> Option<(ServiceKey, i64)> {
        if usage == Use::HealthCheckNodePort {
            return None;
        }
        let seconds = self
            .allocator
            .pools_containing(number)
            .find(|pool| pool.usage == usage)?
            .retain_for?;
        Some((key.clone(), now.wall.saturating_add(seconds)))
    }

    fn listed(&mut self, kind: Kind, now: Now) {
        if kind == Kind::Block {
            let lost: Vec<BlockId> = self
                .ledger
                .existing()
                .into_iter()
                .filter(|id| !self.index.was_seen(Kind::Block, &id.name()))
                .collect();
            for id in lost {
                let changes = self.ledger.observe_deleted(id);
                self.apply(changes, now);
            }
        }
        let before: HashMap<ServiceKey, Uid> = if kind == Kind::Service && self.synced.contains(&kind) {
            self.index.services().map(|r| (r.key.clone(), r.uid.clone())).collect()
        } else {
            HashMap::new()
        };
        let vanished = self.index.finish(kind);
        for key in vanished.services {
            // A list is no proof: the cache behind it may be stale. A quorum read decides.
            if let Some(uid) = before.get(&key) {
                self.suspect(&key, uid);
            }
            self.push(&key);
        }
        if vanished.others {
            match kind {
                Kind::AddressPool | Kind::NodePortPool => self.pools_changed = true,
                Kind::Service | Kind::Namespace | Kind::Class | Kind::Block => self.push_all(),
            }
        }
        self.synced.insert(kind);
    }

    fn suspect(&mut self, key: &ServiceKey, uid: &Uid) {
        if decide::holds_anything(&self.allocator, uid) {
            self.suspects.entry(key.clone()).or_default().insert(uid.clone());
        }
    }

    fn lead(&mut self, leading: bool) {
        if self.leading == leading {
            return;
        }
        self.leading = leading;
        self.begun = false;
        self.passes.clear();
        self.awaited.clear();
        self.effects.clear();
        self.queue.clear();
        self.joins.clear();
        self.pool_writes.clear();
        self.class_writes.clear();
        self.ledger.abandon();
    }

    /// The first thing a leader does: the allocator's memory is made anew from the ledger, numbers
    /// that Services show and no block has are adopted, and everyone is looked at once.
    fn begin(&mut self) {
        self.begun = true;
        self.ports_in_charge |= self.ledger.has_ports();
        self.allocator = Allocator::new();
        self.set_pools();
        for (id, _) in self.ledger.damaged() {
            self.allocator.quarantine(id);
        }
        let mut holders: BTreeMap<ServiceKey, BTreeSet<Uid>> = BTreeMap::new();
        for (number, claim) in self.ledger.claims() {
            match claim {
                Claim::Held(held) => {
                    for holder in held {
                        self.allocator.hold(number, holder.clone());
                        holders
                            .entry(holder.service.clone())
                            .or_default()
                            .insert(holder.uid.clone());
                    }
                }
                Claim::Retained { owner, until } => self.allocator.retain(number, owner.clone(), *until),
            }
        }
        self.suspects.clear();
        for (key, uids) in holders {
            let known = self.index.service(&key).map(|record| record.uid.clone());
            for uid in uids {
                if Some(&uid) != known.as_ref() {
                    self.suspect(&key, &uid);
                    self.queue.push(&key, Rank::Gone, 0);
                }
            }
        }
        self.adopt();
        self.push_all();
        self.statuses_dirty = true;
    }

    /// Holds in memory what statuses show and no block has, oldest Service first; the pass over each
    /// Service commits it. Two Services that show one address keep it if they asked to share it,
    /// whatever their namespaces; that is reported.
    fn adopt(&mut self) {
        let mut candidates: Vec<Arc<ServiceRecord>> = self
            .index
            .services()
            .filter(|record| record.service_type == ServiceType::LoadBalancer && !record.deleting)
            .filter(|record| !record.ingress.is_empty())
            .filter(|record| matches!(self.index.class_of(record), ClassMatch::Ours(_)))
            .cloned()
            .collect();
        candidates.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        for record in candidates {
            for number in record.ingress_numbers() {
                let has_one = self
                    .allocator
                    .held_by(&record.uid)
                    .any(|(held, usage)| usage == Use::LoadBalancer && held.space == number.space);
                if has_one || !decide::pool_contains(&self.allocator, number, Use::LoadBalancer) {
                    continue;
                }
                let sharing = record.request.as_ref().ok().and_then(|request| request.sharing.clone());
                let mut strangers = Vec::new();
                let mut fits = true;
                for other in self.allocator.holders(number) {
                    let terms = (sharing.as_ref(), other.sharing.as_ref());
                    let same_key = matches!(terms, (Some(mine), Some(theirs))
                        if mine.key == theirs.key && !mine.ports.iter().any(|port| theirs.ports.contains(port)));
                    fits &= same_key && other.usage == Use::LoadBalancer;
                    if other.service.namespace != record.key.namespace {
                        strangers.push(other.service.clone());
                    }
                }
                if !fits {
                    continue; // somebody else holds it: the pass gives this one another and says so
                }
                if !self.allocator.holders(number).is_empty() {
                    self.joins.insert((number, record.uid.clone()));
                }
                for other in strangers {
                    let note = format!(
                        "shares {number} with Service {other} of another namespace, as found at the start; it stays; list the namespaces in portolan.dev/share-with-namespaces on both, or set another address"
                    );
                    self.emit(&record, true, Reason::SharingConflict, note);
                }
                self.allocator.hold(
                    number,
                    Holder {
                        service: record.key.clone(),
                        uid: record.uid.clone(),
                        usage: Use::LoadBalancer,
                        at: record.version.clone(),
                        sharing,
                    },
                );
                self.counters.adopted += 1;
            }
        }
    }

    // --- one pass ------------------------------------------------------------------------------

    fn snapshot<'a>(&'a self, record: &'a ServiceRecord, now: Now) -> Snapshot<'a> {
        Snapshot {
            record,
            class: self.index.class_of(record),
            namespace_labels: self.index.namespace_labels(&record.key.namespace),
            allocator: &self.allocator,
            ledger: &self.ledger,
            cluster_families: &self.cluster_families,
            now: now.wall,
        }
    }

    fn pass(&mut self, key: &ServiceKey, now: Now) {
        let Some(record) = self.index.service(key).cloned() else {
            self.prove(key, None, Vec::new());
            return;
        };
        if let Some((version, until)) = self.awaited.get(key) {
            if newer(version, &record.version) && now.mono < *until {
                self.queue.push_at(key, *until);
                return;
            }
            self.awaited.remove(key);
        }
        let span = tracing::debug_span!("pass", svc = %key, uid = %record.uid);
        let _entered = span.enter();
        self.counters.decisions += 1;
        let decision = decide::decide(&self.snapshot(&record, now));
        let open = self.claim(&record, &decision.holds);
        if open > 0 {
            self.step(key, Some(&record.uid), Stage::Claiming(open));
            return;
        }
        let settled = settle::settle(&record, &decision, now.wall);
        if decision.address != Address::Later {
            self.index.set_waits(key, settled.waits.clone());
        }
        let patch = match &decision.spec {
            Some(spec) => {
                self.counters.spec_writes += 1;
                Some(ServicePatch::Spec(spec.clone()))
            }
            None => {
                if let Some(note) = settled.note(&record) {
                    self.counters.events += 1;
                    self.effects.push(Effect::Emit(note));
                }
                self.counters.status_writes += u64::from(settled.status.is_some());
                settled.status
            }
        };
        if let Some(patch) = patch {
            let pass = self.step(key, Some(&record.uid), Stage::Writing);
            self.effects.push(Effect::WriteService {
                pass,
                key: key.clone(),
                patch,
            });
            return;
        }
        self.prove(key, Some(&record), decision.surplus);
    }

    /// Holds what was decided in memory and submits what is not committed; returns how many
    /// operations must end before anything may be written.
    fn claim(&mut self, record: &ServiceRecord, holds: &[Wanted]) -> usize {
        let mut open = 0;
        for wanted in holds {
            let committed = self.ledger.holder(wanted.number, &record.uid, wanted.usage);
            let settled = committed.is_some_and(|holder| {
                holder.sharing == wanted.sharing && (!wanted.written || holder.at == record.version)
            });
            if settled {
                continue;
            }
            let holder = Holder {
                service: record.key.clone(),
                uid: record.uid.clone(),
                usage: wanted.usage,
                at: record.version.clone(),
                sharing: wanted.sharing.clone(),
            };
            self.allocator.hold(wanted.number, holder.clone());
            self.statuses_dirty = true;
            if self.ledger.damage(wanted.number).is_some() && !wanted.written {
                continue; // in service and in a block that cannot be read: stays as it is
            }
            self.ledger.submit(Op::Claim {
                number: wanted.number,
                holder,
                join: self.joins.contains(&(wanted.number, record.uid.clone())),
            });
            open += 1;
        }
        open
    }

    /// Nothing is left to write: what the Service holds and should not, and what others of its name
    /// hold, may go once a quorum read proves it.
    fn prove(&mut self, key: &ServiceKey, record: Option<&ServiceRecord>, surplus: Vec<(Number, Use)>) {
        let mut doubtful = Vec::new();
        if let Some(record) = record {
            for (number, usage) in surplus {
                match self.ledger.holder(number, &record.uid, usage) {
                    Some(holder) => doubtful.push((number, usage, holder.at.clone())),
                    // Held in memory only: it was never anybody's.
                    None => self.unhold(number, &record.uid, usage),
                }
            }
        }
        let suspects: Vec<Uid> = self.suspects.get(key).into_iter().flatten().cloned().collect();
        if doubtful.is_empty() && suspects.is_empty() {
            self.queue.succeeded(key);
            return;
        }
        self.counters.reads += 1;
        let uid = record.map(|record| &record.uid);
        let pass = self.step(
            key,
            uid,
            Stage::Proving {
                surplus: doubtful,
                suspects,
            },
        );
        self.effects.push(Effect::ReadService { pass, key: key.clone() });
    }

    fn step(&mut self, key: &ServiceKey, uid: Option<&Uid>, stage: Stage) -> Pass {
        self.next_pass += 1;
        let id = self.next_pass;
        let uid = uid.cloned();
        self.passes.insert(key.clone(), PassState { id, uid, stage });
        id
    }

    /// Ends the step with that number, if it is still under way.
    fn end(&mut self, pass: Pass, key: &ServiceKey) -> Option<PassState> {
        if self.passes.get(key)?.id != pass {
            return None;
        }
        self.passes.remove(key)
    }

    fn service_written(&mut self, pass: Pass, key: &ServiceKey, result: Result<Arc<str>, Failure>, now: Now) {
        if self.end(pass, key).is_none() {
            return;
        }
        match result {
            Ok(version) => {
                self.awaited.insert(key.clone(), (version, now.mono + ECHO));
                self.push(key);
            }
            Err(failure) => {
                match &failure {
                    Failure::Conflict => {
                        self.counters.service_conflicts += 1;
                        tracing::debug!(svc = %key, "the Service changed meanwhile; deciding again");
                    }
                    Failure::NotFound => tracing::debug!(svc = %key, "the Service is gone"),
                    Failure::Refused(error) => {
                        tracing::warn!(svc = %key, %error, "the API server refused a write");
                    }
                    Failure::Unknown(error) => {
                        tracing::debug!(svc = %key, %error, "a write may or may not have happened");
                    }
                }
                self.queue.failed(key, now.mono);
            }
        }
    }

    fn service_read(
        &mut self,
        pass: Pass,
        key: &ServiceKey,
        result: Result<Option<Arc<ServiceRecord>>, Failure>,
        now: Now,
    ) {
        let Some(PassState {
            uid,
            stage: Stage::Proving { surplus, suspects },
            ..
        }) = self.end(pass, key)
        else {
            return;
        };
        let found = match result {
            Ok(found) => found,
            Err(_) => {
                self.queue.failed(key, now.mono);
                return;
            }
        };
        let (mut again, mut fence) = (false, false);
        for suspect in suspects {
            if found.as_ref().is_some_and(|found| found.uid == suspect) {
                again = true; // it lives; the watch is behind
            } else {
                self.release_all(key, &suspect, now);
            }
        }
        for (number, usage, at) in surplus {
            let Some(uid) = &uid else { continue };
            let at = match &found {
                Some(found) if found.uid == *uid => {
                    fence |= found.version == at && !shows(found, number, usage);
                    if found.version == at || shows(found, number, usage) {
                        again = true;
                        continue;
                    }
                    Some(at)
                }
                _ => None,
            };
            let retain = self.retention(key, number, usage, now);
            self.ledger.submit(Op::Release {
                number,
                uid: uid.clone(),
                usage,
                at,
                retain,
            });
        }
        if fence
            && let Some(found) = found
            && let Some(patch) = settle::fence(&found, now.wall)
        {
            // Somebody's write of that number on this very version may still be under way: only a
            // newer version proves that it can never succeed.
            self.counters.fences += 1;
            let uid = found.uid.clone();
            let pass = self.step(key, Some(&uid), Stage::Writing);
            self.effects.push(Effect::WriteService {
                pass,
                key: key.clone(),
                patch,
            });
        } else if again {
            self.queue.failed(key, now.mono);
        }
    }

    // --- what the ledger says ------------------------------------------------------------------

    fn apply(&mut self, changes: Vec<Change>, now: Now) {
        for change in changes {
            match change {
                Change::Ended(op, fate) => self.ended(op, fate, now),
                Change::Held(number, holder) => {
                    if !self.allocator.holders(number).contains(&holder) {
                        // Another replica's claim. Its Service may be ahead of our watch or gone
                        // already, and the replica may never use it: look again later.
                        let known = self.index.service(&holder.service).map(|record| &record.uid);
                        if known != Some(&holder.uid) {
                            self.suspects
                                .entry(holder.service.clone())
                                .or_default()
                                .insert(holder.uid.clone());
                        }
                        self.queue
                            .push_at(&holder.service, now.mono + SUSPECT_AFTER);
                    }
                    self.allocator.hold(number, holder);
                    self.statuses_dirty = true;
                }
                Change::Freed(number, holder) => {
                    self.unhold(number, &holder.uid, holder.usage);
                    self.push(&holder.service);
                }
                Change::Retained(number, owner, until) => {
                    self.allocator.retain(number, owner, until);
                    self.statuses_dirty = true;
                }
                Change::Unretained(number) => {
                    self.allocator.unretain(number);
                    self.wake(number);
                }
                Change::Damaged(id, rejection) => {
                    tracing::warn!(block = %id.name(), reason = %rejection.reason, "{}", rejection.message);
                    self.allocator.quarantine(id);
                    self.statuses_dirty = true;
                }
                Change::Mended(id) => {
                    tracing::info!(block = %id.name(), "the block can be read again");
                    self.allocator.lift_quarantine(id);
                    self.statuses_dirty = true;
                    self.push_all();
                }
            }
        }
    }

    fn ended(&mut self, op: Op, fate: Fate, now: Now) {
        match op {
            Op::Claim { number, holder, .. } => {
                if fate != Fate::Committed && self.ledger.holder(number, &holder.uid, holder.usage).is_none() {
                    self.unhold(number, &holder.uid, holder.usage);
                }
                let key = &holder.service;
                let Some(pass) = self.passes.get_mut(key) else { return };
                let Stage::Claiming(open) = &mut pass.stage else { return };
                *open = open.saturating_sub(1);
                let last = *open == 0;
                if fate == Fate::Committed {
                    if last {
                        self.passes.remove(key);
                        self.push(key);
                    }
                } else {
                    // Decide again on what is true now, but not in a tight loop.
                    self.passes.remove(key);
                    self.queue.failed(key, now.mono);
                }
            }
            Op::Release { number, uid, usage, .. } => {
                if fate == Fate::Committed && self.ledger.holder(number, &uid, usage).is_none() {
                    self.counters.releases += 1;
                    self.unhold(number, &uid, usage);
                }
            }
            Op::Forget { .. } => {}
        }
    }

    fn unhold(&mut self, number: Number, uid: &Uid, usage: Use) {
        if self.allocator.unhold(number, uid, usage) {
            self.joins.remove(&(number, uid.clone()));
            self.statuses_dirty = true;
            self.wake(number);
        }
    }

    /// A number became free: whoever waits for it or for its pools is looked at, oldest first.
    fn wake(&mut self, number: Number) {
        let mut keys: Vec<ServiceKey> = self.index.waiting_for_number(number).cloned().collect();
        for pool in self.allocator.pools_containing(number) {
            keys.extend(self.index.waiting_for_pool(&pool.name).cloned());
        }
        keys.extend(self.index.waiting_because(Reason::NumberConflict));
        for key in keys {
            self.push(&key);
        }
    }

    // --- marking dirty -------------------------------------------------------------------------

    fn push(&mut self, key: &ServiceKey) {
        let (rank, created) = match self.index.service(key) {
            None => (Rank::Gone, 0),
            Some(record) if record.deleting => (Rank::Gone, record.created),
            Some(record)
                if !record.ingress.is_empty() || decide::holds_anything(&self.allocator, &record.uid) =>
            {
                (Rank::Holder, record.created)
            }
            Some(record) => (Rank::Waiter, record.created),
        };
        if self.leading {
            self.queue.push(key, rank, created);
        }
    }

    fn push_all(&mut self) {
        let keys: Vec<ServiceKey> = self.index.services().map(|record| record.key.clone()).collect();
        for key in keys {
            self.push(&key);
        }
    }

    fn push_namespace(&mut self, namespace: &str) {
        let keys: Vec<ServiceKey> = self
            .index
            .services()
            .filter(|record| &*record.key.namespace == namespace)
            .map(|record| record.key.clone())
            .collect();
        for key in keys {
            self.push(&key);
        }
    }

    // --- pools and classes ---------------------------------------------------------------------

    fn set_pools(&mut self) {
        self.pools_changed = false;
        let mut pools: Vec<Pool> = self
            .index
            .pools()
            .filter_map(|record| record.pool.as_ref().ok().cloned())
            .collect();
        let mut families = BTreeSet::new();
        for pool in pools.iter().filter(|pool| pool.usage == Use::ClusterIp) {
            if !pool.v4.is_empty() {
                families.insert(Family::V4);
            }
            if !pool.v6.is_empty() {
                families.insert(Family::V6);
            }
        }
        // IPv4 first: what Kubernetes does unless told otherwise by the order of its flag.
        self.cluster_families = families.into_iter().collect();
        let has_port_pool = self.index.pools().any(|record| record.kind == PoolKind::NodePort);
        if self.ports_in_charge && !has_port_pool {
            pools.push(default_node_ports());
        }
        self.allocator.set_pools(pools);
        self.statuses_dirty = true;
        self.push_all();
    }

    fn statuses(&mut self, now: Now) {
        if !self.statuses_dirty || now.mono < self.statuses_at {
            return;
        }
        self.statuses_dirty = false;
        self.statuses_at = now.mono + STATUS_INTERVAL;
        for record in self.index.pools() {
            let slot = (record.kind, record.name.clone());
            if self.pool_writes.contains(&slot) {
                self.statuses_dirty = true;
                continue;
            }
            let wanted = pools::status(record, &self.allocator, &self.ledger, now.wall);
            if let Some(patch) = pools::patch(record, &wanted) {
                self.counters.pool_writes += 1;
                self.pool_writes.insert(slot);
                self.effects.push(Effect::WritePoolStatus {
                    kind: record.kind,
                    name: record.name.clone(),
                    patch,
                });
            }
        }
        for class in self.index.classes() {
            if self.class_writes.contains(&class.name) {
                self.statuses_dirty = true;
                continue;
            }
            if let Some(patch) = pools::class_patch(class, &self.index, now.wall) {
                self.counters.pool_writes += 1;
                self.class_writes.insert(class.name.clone());
                self.effects.push(Effect::WriteClassStatus {
                    name: class.name.clone(),
                    patch,
                });
            }
        }
    }

    fn emit(&mut self, record: &ServiceRecord, warning: bool, reason: Reason, note: String) {
        self.counters.events += 1;
        self.effects.push(Effect::Emit(EventNote {
            key: record.key.clone(),
            uid: record.uid.clone(),
            warning,
            reason,
            note,
        }));
    }
}

/// Whether a Service shows a number where it would be used.
fn shows(record: &ServiceRecord, number: Number, usage: Use) -> bool {
    match usage {
        Use::LoadBalancer => {
            record.service_type == ServiceType::LoadBalancer && record.ingress_numbers().any(|shown| shown == number)
        }
        Use::ClusterIp => record.cluster_ips.iter().any(|ip| Number::from(*ip) == number),
        Use::NodePort => record.ports.iter().any(|port| Number::port(port.node_port) == number),
        Use::HealthCheckNodePort => Number::port(record.health_check_node_port) == number,
    }
}

/// What Kubernetes would do with an empty nodePort where nobody says otherwise.
fn default_node_ports() -> Pool {
    Pool {
        name: DEFAULT_NODE_PORTS.into(),
        created: i64::MAX,
        uid: Uid::from(""),
        usage: Use::NodePort,
        v4: RangeSet::default(),
        v6: RangeSet::default(),
        ports: RangeSet::parse_ports(&[DEFAULT_NODE_PORT_RANGE.to_owned()]).unwrap_or_default(),
        reserved_v4: RangeSet::default(),
        reserved_v6: RangeSet::default(),
        excluded_ports: RangeSet::default(),
        auto_assign: true,
        priority: 0,
        disabled: false,
        admission: Admission::default(),
        enforce: false,
        strategy: Strategy::LowestFree,
        retain_for: None,
        avoid_buggy_ips: false,
    }
}
