//! The durable set of claims, block by block: what is committed, what waits to be, and the one
//! update in flight. It decides only whether an operation still fits the block it is applied to;
//! the rules it keeps are in docs/architecture.md ("Why a number cannot be held twice").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use allocator::block::{BlockId, Claim, Claims, Holder};
use model::{Number, ServiceKey, Uid, Use};

use super::{
    effect::{Effect, Failure, Now},
    record::{BlockRecord, Rejection},
    translate,
};

mod content;
mod gather;

use content::{apply, difference, is_there};
use gather::{Arrivals, Gathering};

/// Block writes per second under load; with [`BURST`] this keeps ledger writes below a tenth of the
/// Services that an API server can take (about 250 creations per second on two cores).
const WRITES_PER_SECOND: f64 = 20.0;
/// Block writes a quiet controller may do at once.
const BURST: f64 = 20.0;
/// Wait this long before reading or writing a block again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// One thing to do to a block.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Record a holder, or record it again with a new `at` or new terms.
    Claim {
        /// Which number.
        number: Number,
        /// Who.
        holder: Holder,
        /// Join whoever holds it already, whatever the terms: both show it (adoption only).
        join: bool,
        /// The Service shows it: it is the one whose name was not known when the number was kept.
        shown: bool,
    },
    /// Keep a number for whoever is being created or changed under this name.
    Reserve {
        /// Which number.
        number: Number,
        /// For whom.
        owner: ServiceKey,
        /// Until when (Unix seconds).
        until: i64,
        /// At least until then, if it is kept already.
        at_least: i64,
        /// And now.
        now: i64,
    },
    /// Remove a holder.
    Release {
        /// Which number.
        number: Number,
        /// Who.
        uid: Uid,
        /// What for.
        usage: Use,
        /// Only if its `at` is still this; `None` when the uid is proven gone for good.
        at: Option<Arc<str>>,
        /// Keep it for this name until then.
        retain: Option<(ServiceKey, i64)>,
    },
    /// End a retention that ran out.
    Forget {
        /// Which number.
        number: Number,
        /// Only if it ran out by then (Unix seconds).
        now: i64,
    },
}

impl Op {
    /// The number it is about.
    pub const fn number(&self) -> Number {
        match self {
            Self::Claim { number, .. }
            | Self::Reserve { number, .. }
            | Self::Release { number, .. }
            | Self::Forget { number, .. } => *number,
        }
    }

    /// Whether somebody outside waits for it.
    const fn is_urgent(&self) -> bool {
        match self {
            Self::Reserve { .. } => true,
            Self::Claim { .. } | Self::Release { .. } | Self::Forget { .. } => false,
        }
    }
}

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is in the block, by our write or because it was there.
    Committed,
    /// It does not fit the block any more: somebody else holds the number, or the claim was renewed.
    Lost,
    /// The block cannot be read; nothing is written to it.
    Damaged,
}

/// What the ledger tells the engine.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// An operation has ended.
    Ended(Op, Fate),
    /// A block says that this Service holds this number.
    Held(Number, Holder),
    /// A block no longer says so.
    Freed(Number, Holder),
    /// A number is kept for a former owner.
    Retained(Number, ServiceKey, i64),
    /// It is not any more.
    Unretained(Number),
    /// A block became unreadable, and why.
    Damaged(BlockId, Rejection),
    /// It is readable again.
    Mended(BlockId),
}

#[derive(Debug)]
struct Flight {
    ops: Vec<Op>,
    claims: Claims,
    sequence: i64,
}

#[derive(Debug, Default)]
struct Block {
    /// `None`: the object does not exist.
    version: Option<Arc<str>>,
    sequence: i64,
    claims: Claims,
    damaged: Option<Rejection>,
    pending: Vec<Op>,
    /// How those of them that somebody waits for come.
    gathering: Gathering,
    flight: Option<Flight>,
    /// The newest thing the watch said while an update was in flight.
    overheard: Option<BlockRecord>,
    /// What the API server has is not known: read before the next write.
    uncertain: bool,
    /// A read is under way.
    reading: bool,
    /// Which of all requests its last one is, and which the last one was that told what it contains.
    asked: u64,
    told: u64,
    /// Do nothing before that.
    not_before: Duration,
}

impl Block {
    /// Whether a retention of the number is on its way to its end: it is noticed again and again.
    fn is_forgetting(&self, number: Number) -> bool {
        let mut ops = self.under_way();
        ops.any(|op| matches!(op, Op::Forget { number: other, .. } if *other == number))
    }

    /// Operations that have not ended.
    fn under_way(&self) -> impl Iterator<Item = &Op> {
        let flying = self.flight.iter().flat_map(|flight| &flight.ops);
        self.pending.iter().chain(flying)
    }

    /// Ends what needs no write, because the number is kept and nothing else is about to be done to it.
    fn kept_already(&mut self) -> Vec<Change> {
        if !self.pending.iter().any(Op::is_urgent) {
            return Vec::new();
        }
        let numbers: Vec<Number> = self.pending.iter().map(Op::number).collect();
        let is_kept = |op: &mut Op| {
            let alone = || {
                numbers
                    .iter()
                    .filter(|number| **number == op.number())
                    .count()
                    == 1
            };
            op.is_urgent() && is_there(op, &self.claims) && alone()
        };
        let kept = self.pending.extract_if(.., is_kept);
        kept.map(|op| Change::Ended(op, Fate::Committed)).collect()
    }

    /// When what somebody waits for is to be written; `None`: nobody waits.
    fn urgent(&self, many: bool, now: Duration) -> Option<Duration> {
        let waiting = self.pending.iter().filter(|op| op.is_urgent()).count();
        (waiting > 0).then(|| self.gathering.due(waiting, many, now))
    }
}

/// The ledger as this process knows it.
#[derive(Debug)]
pub struct Ledger {
    writer: Arc<str>,
    blocks: BTreeMap<BlockId, Block>,
    /// Blocks with something pending or uncertain.
    busy: BTreeSet<BlockId>,
    tokens: f64,
    refilled: Duration,
    /// Nobody waits for a commit: what is pending gathers.
    gathering: bool,
    /// Reservations as they come.
    arrivals: Arrivals,
    /// Requests so far.
    requests: u64,
    /// Block writes asked for.
    pub writes: u64,
    /// Of these, refused because the block had changed.
    pub conflicts: u64,
}

/// Whether resourceVersion `a` is newer than `b`. Kubernetes promises comparable decimal numbers
/// since 1.35 and has always had them; anything else counts as newer if it differs.
pub fn newer(a: &str, b: &str) -> bool {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => a != b,
    }
}

impl Ledger {
    /// An empty ledger that signs its writes so.
    pub fn new(writer: Arc<str>) -> Self {
        Self {
            writer,
            blocks: BTreeMap::new(),
            busy: BTreeSet::new(),
            tokens: BURST,
            refilled: Duration::ZERO,
            gathering: false,
            arrivals: Arrivals::default(),
            requests: 0,
            writes: 0,
            conflicts: 0,
        }
    }

    /// The committed holder of a number with this uid and use.
    pub fn holder(&self, number: Number, uid: &Uid, usage: Use) -> Option<&Holder> {
        match self.blocks.get(&BlockId::of(number))?.claims.get(&number)? {
            Claim::Held(holders) => holders
                .iter()
                .find(|holder| holder.uid == *uid && holder.usage == usage),
            Claim::Retained { .. } => None,
        }
    }

    /// Whom a number is kept for and until when, as committed.
    pub fn retained(&self, number: Number) -> Option<(&ServiceKey, i64)> {
        match self.blocks.get(&BlockId::of(number))?.claims.get(&number)? {
            Claim::Retained { owner, until } => Some((owner, *until)),
            Claim::Held(_) => None,
        }
    }

    /// Numbers on their way into the ledger for whom they were chosen.
    pub fn reserving(&self) -> BTreeSet<Number> {
        let blocks = self.busy.iter().filter_map(|id| self.blocks.get(id));
        blocks
            .flat_map(Block::under_way)
            .filter(|op| op.is_urgent())
            .map(Op::number)
            .collect()
    }

    /// How many requests there have been.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the API server itself has told what this block contains since there were so many
    /// requests; if not, it is asked.
    pub fn verify(&mut self, id: BlockId, since: u64) -> bool {
        let block = self.blocks.entry(id).or_default();
        let waits = block.reading || block.flight.is_some();
        if block.told <= since && !(waits && block.asked > since) {
            block.uncertain = true;
            self.busy.insert(id);
        }
        block.told > since
    }

    /// Why the block of this number cannot be read, if so.
    pub fn damage(&self, number: Number) -> Option<&Rejection> {
        self.blocks.get(&BlockId::of(number))?.damaged.as_ref()
    }

    /// All damaged blocks.
    pub fn damaged(&self) -> impl Iterator<Item = (BlockId, &Rejection)> {
        self.blocks
            .iter()
            .filter_map(|(id, block)| Some((*id, block.damaged.as_ref()?)))
    }

    /// Whether any block of ports exists: a sign that somebody relies on our nodePorts.
    pub fn has_ports(&self) -> bool {
        self.blocks
            .iter()
            .any(|(id, block)| id.space == model::Space::Port && !block.claims.is_empty())
    }

    /// Every committed claim.
    pub fn claims(&self) -> impl Iterator<Item = (Number, &Claim)> {
        self.blocks
            .values()
            .flat_map(|block| block.claims.iter().map(|(number, claim)| (*number, claim)))
    }

    /// The ids of all blocks that exist, as far as known.
    pub fn existing(&self) -> Vec<BlockId> {
        self.blocks
            .iter()
            .filter(|(_, block)| block.version.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes an operation; it ends later with [`Change::Ended`] (of two that forget the same, one does).
    pub fn submit(&mut self, op: Op) {
        let id = BlockId::of(op.number());
        let block = self.blocks.entry(id).or_default();
        if let Op::Forget { number, .. } = op
            && block.is_forgetting(number)
        {
            return;
        }
        match op.is_urgent() {
            true if is_there(&op, &block.claims) => {}
            true => block.gathering.arrived(),
            false => block.gathering.other_arrived(),
        }
        block.pending.push(op);
        self.busy.insert(id);
    }

    /// The watch saw a block.
    pub fn observe(&mut self, record: BlockRecord) -> Vec<Change> {
        let mut changes = Vec::new();
        let block = self.blocks.entry(record.id).or_default();
        if block.flight.is_some() || block.reading {
            block.overheard = Some(record);
        } else if block
            .version
            .as_deref()
            .is_none_or(|known| newer(&record.version, known))
        {
            adopt(block, record, &mut changes);
        }
        changes
    }

    /// The watch saw a block of which not even a record can be made.
    pub fn observe_unreadable(&mut self, id: BlockId, why: Rejection) -> Vec<Change> {
        let block = self.blocks.entry(id).or_default();
        let news = block.damaged.as_ref() != Some(&why);
        block.damaged = Some(why.clone());
        news.then_some(Change::Damaged(id, why))
            .into_iter()
            .collect()
    }

    /// The watch says that a block is gone. Only Portolan writes blocks and never deletes one, so
    /// somebody else did: what it said is unknown now, and what Services show is claimed again.
    pub fn observe_deleted(&mut self, id: BlockId) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(block) = self.blocks.get_mut(&id) {
            if block.flight.is_some() || block.reading {
                block.uncertain = true;
                self.busy.insert(id);
            } else {
                vanish(id, block, &mut changes);
            }
        }
        changes
    }

    /// Whether claims shall gather for now, because enough of what is committed waits to be used: a
    /// larger commit later costs the API server less than several now.
    pub fn gather(&mut self, gathering: bool) {
        self.gathering = gathering;
    }

    /// Asks for the writes and reads that are due.
    pub fn poll(&mut self, now: Now) -> (Vec<Effect>, Vec<Change>) {
        let mut effects = Vec::new();
        let mut changes = Vec::new();
        let elapsed = now.mono.saturating_sub(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * WRITES_PER_SECOND).min(BURST);
        self.refilled = self.refilled.max(now.mono);
        for id in &self.busy {
            if let Some(block) = self.blocks.get_mut(id) {
                self.arrivals
                    .count(block.gathering.count(now.mono), now.mono);
            }
        }
        let many = self.arrivals.are_many(now.mono);
        for id in self.busy.clone() {
            let Some(block) = self.blocks.get_mut(&id) else {
                continue;
            };
            if block.flight.is_some() || block.reading || block.not_before > now.mono {
                continue;
            }
            if block.damaged.is_some() {
                changes.extend(
                    block
                        .pending
                        .drain(..)
                        .map(|op| Change::Ended(op, Fate::Damaged)),
                );
            }
            if block.uncertain {
                block.reading = true;
                self.requests += 1;
                block.asked = self.requests;
                effects.push(Effect::ReadBlock { id });
                continue;
            }
            if block.pending.is_empty() {
                self.busy.remove(&id);
                continue;
            }
            changes.extend(block.kept_already());
            let waits = match block.urgent(many, now.mono) {
                Some(due) => due > now.mono,
                None if self.gathering || self.tokens < 1.0 => true,
                None => block.gathering.unhurried(now.mono) > now.mono,
            };
            if waits {
                continue;
            }
            block.gathering.begun(now.mono);
            let mut claims = block.claims.clone();
            let mut kept = Vec::new();
            for op in block.pending.drain(..) {
                if apply(&op, &mut claims) {
                    kept.push(op);
                } else {
                    if op.is_urgent() {
                        // Another number is chosen at once, and has waited already.
                        block.gathering.again();
                    }
                    changes.push(Change::Ended(op, Fate::Lost));
                }
            }
            if claims == block.claims {
                // Everything asked for is there already; an equal write would prove nothing more.
                changes.extend(
                    kept.into_iter()
                        .map(|op| Change::Ended(op, Fate::Committed)),
                );
                self.busy.remove(&id);
                continue;
            }
            self.tokens = (self.tokens - 1.0).max(0.0);
            self.writes += 1;
            self.requests += 1;
            block.asked = self.requests;
            let sequence = block.sequence.saturating_add(1);
            effects.push(Effect::WriteBlock {
                id,
                version: block.version.clone(),
                spec: translate::block_spec(id, &claims, sequence, &self.writer),
            });
            block.flight = Some(Flight {
                ops: kept,
                claims,
                sequence,
            });
        }
        (effects, changes)
    }

    /// When [`Self::poll`] has something to do that no input will announce.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        let many = self.arrivals.are_many(now);
        self.busy
            .iter()
            .filter_map(|id| self.blocks.get(id))
            .filter(|block| block.flight.is_none() && !block.reading)
            .filter_map(|block| {
                let due = match block.urgent(many, now) {
                    _ if block.uncertain || block.damaged.is_some() => now,
                    Some(due) => due,
                    None if self.gathering => return None,
                    None if self.tokens >= 1.0 => block.gathering.unhurried(now),
                    None => {
                        let lacks = (1.0 - self.tokens) / WRITES_PER_SECOND;
                        self.refilled + Duration::from_secs_f64(lacks)
                    }
                };
                Some(block.not_before.max(due))
            })
            .min()
    }

    /// The result of a write.
    pub fn written(
        &mut self,
        id: BlockId,
        result: Result<Arc<str>, Failure>,
        now: Duration,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(block) = self.blocks.get_mut(&id) else {
            return changes;
        };
        let Some(flight) = block.flight.take() else {
            return changes;
        };
        block.gathering.ended(now);
        match result {
            Ok(version) => {
                block.told = block.asked;
                difference(&block.claims, &flight.claims, &mut changes);
                block.claims = flight.claims;
                block.version = Some(version);
                block.sequence = flight.sequence;
                changes.extend(
                    flight
                        .ops
                        .into_iter()
                        .map(|op| Change::Ended(op, Fate::Committed)),
                );
                if let Some(record) = block.overheard.take()
                    && block
                        .version
                        .as_deref()
                        .is_none_or(|known| newer(&record.version, known))
                {
                    adopt(block, record, &mut changes);
                }
            }
            Err(failure) => {
                if failure == Failure::Conflict {
                    self.conflicts += 1;
                } else {
                    block.not_before = now + RETRY;
                }
                // Whatever happened, the block as it is decides anew which operations fit.
                let mut ops = flight.ops;
                ops.append(&mut block.pending);
                block.pending = ops;
                block.gathering.again();
                block.uncertain = true;
                self.busy.insert(id);
            }
        }
        changes
    }

    /// The result of a read.
    pub fn read(
        &mut self,
        id: BlockId,
        result: Result<Option<BlockRecord>, Failure>,
        now: Duration,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(block) = self.blocks.get_mut(&id) else {
            return changes;
        };
        block.reading = false;
        let overheard = block.overheard.take();
        if result.is_ok() {
            block.told = block.asked;
        }
        match result {
            Ok(Some(record)) => {
                block.uncertain = false;
                let record = match overheard {
                    Some(other) if newer(&other.version, &record.version) => other,
                    _ => record,
                };
                adopt(block, record, &mut changes);
            }
            Ok(None) => {
                block.uncertain = false;
                vanish(id, block, &mut changes);
            }
            Err(_) => {
                block.overheard = overheard;
                block.not_before = now + RETRY;
            }
        }
        self.busy.insert(id);
        changes
    }

    /// We no longer lead, or do again: drops what is not committed and returns it. What is in flight
    /// stays so until its reply comes, which says what the block contains; asked for again before
    /// that, it would be taken for the reply to another.
    pub fn abandon(&mut self) -> Vec<Op> {
        let mut dropped = Vec::new();
        for block in self.blocks.values_mut() {
            if let Some(flight) = &mut block.flight {
                dropped.append(&mut flight.ops);
            }
            dropped.append(&mut block.pending);
        }
        dropped
    }
}

/// Takes what the API server has as the truth.
fn adopt(block: &mut Block, record: BlockRecord, changes: &mut Vec<Change>) {
    block.version = Some(record.version);
    block.sequence = record.sequence;
    match record.claims {
        Ok(claims) => {
            if block.damaged.take().is_some() {
                changes.push(Change::Mended(record.id));
            }
            let known = changes.len();
            difference(&block.claims, &claims, changes);
            let reserved = |change: &&Change| matches!(change, Change::Retained(..));
            let reserved = changes.iter().skip(known).filter(reserved).count();
            block.gathering.arrived_elsewhere(reserved);
            block.claims = claims;
        }
        Err(rejection) => {
            // What it said last stays held in memory: it cannot be proven free.
            if block.damaged.as_ref() != Some(&rejection) {
                changes.push(Change::Damaged(record.id, rejection.clone()));
            }
            block.damaged = Some(rejection);
        }
    }
}

fn vanish(id: BlockId, block: &mut Block, changes: &mut Vec<Change>) {
    if block.damaged.take().is_some() {
        changes.push(Change::Mended(id));
    }
    difference(&block.claims, &Claims::new(), changes);
    block.claims.clear();
    block.version = None;
}

#[cfg(test)]
mod tests;
