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

use content::{apply, difference};

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
            | Self::Release { number, .. }
            | Self::Forget { number, .. } => *number,
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
    flight: Option<Flight>,
    /// The newest thing the watch said while an update was in flight.
    overheard: Option<BlockRecord>,
    /// What the API server has is not known: read before the next write.
    uncertain: bool,
    /// A read is under way.
    reading: bool,
    /// Do nothing before that.
    not_before: Duration,
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

    /// Takes an operation; it ends later with [`Change::Ended`].
    pub fn submit(&mut self, op: Op) {
        let id = BlockId::of(op.number());
        self.blocks.entry(id).or_default().pending.push(op);
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
                effects.push(Effect::ReadBlock { id });
                continue;
            }
            if block.pending.is_empty() {
                self.busy.remove(&id);
                continue;
            }
            if self.gathering || self.tokens < 1.0 {
                continue;
            }
            let mut claims = block.claims.clone();
            let mut kept = Vec::new();
            for op in block.pending.drain(..) {
                if apply(&op, &mut claims) {
                    kept.push(op);
                } else {
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
            self.tokens -= 1.0;
            self.writes += 1;
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
        self.busy
            .iter()
            .filter_map(|id| self.blocks.get(id))
            .filter(|block| block.flight.is_none() && !block.reading)
            .filter(|block| !self.gathering || block.uncertain || block.damaged.is_some())
            .map(|block| {
                let token = if block.uncertain || self.tokens >= 1.0 {
                    now
                } else {
                    self.refilled + Duration::from_secs_f64((1.0 - self.tokens) / WRITES_PER_SECOND)
                };
                block.not_before.max(token)
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
            return changes; // abandoned meanwhile; the block is marked uncertain
        };
        match result {
            Ok(version) => {
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

    /// We no longer lead: drops what is not committed and returns it; what was in flight may have
    /// happened, so those blocks are read before they are written again.
    pub fn abandon(&mut self) -> Vec<Op> {
        let mut dropped = Vec::new();
        for (id, block) in &mut self.blocks {
            if let Some(flight) = block.flight.take() {
                dropped.extend(flight.ops);
                block.uncertain = true;
                self.busy.insert(*id);
            }
            if block.reading {
                block.reading = false;
                block.uncertain = true;
                self.busy.insert(*id);
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
            difference(&block.claims, &claims, changes);
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
