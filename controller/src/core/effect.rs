//! What goes into the engine and what comes out: the whole contract between `core` and `shell`.
//!
//! The shell performs each [`Effect`] once, in any order and concurrently, and brings the result
//! back as one [`Input`]. It never decides, retries or reorders; a time-out is [`Failure::Unknown`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use allocator::block::BlockId;
use crds::AllocationBlockSpec;
use model::{Reason, ServiceKey, Uid};
use serde_json::Value;

use super::admit::{Answer, Review};
use super::announce::{Told, Word};
use super::cloud::{Outcome, Request};
use super::record::{
    BlockRecord, CidrRecord, ClassRecord, NamespaceRecord, PoolKind, PoolRecord, ReservationRecord,
    ServiceRecord,
};
use super::repair::Recorded;
use super::reserve;

/// The time, given by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Now {
    /// Monotonic, since the process began: for delays.
    pub mono: Duration,
    /// Unix seconds: for what is shown or stored.
    pub wall: i64,
}

/// The kinds watched. Nothing is decided before all are synced once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `v1` Namespace.
    Namespace,
    /// LoadBalancerClass.
    Class,
    /// AddressPool.
    AddressPool,
    /// NodePortPool.
    NodePortPool,
    /// AllocationBlock.
    Block,
    /// `networking.k8s.io/v1` ServiceCIDR; none where the API server has no such resource.
    ServiceCidr,
    /// `networking.k8s.io/v1` IPAddress, those with our label only; likewise.
    Reservation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::Namespace,
        Self::Class,
        Self::AddressPool,
        Self::NodePortPool,
        Self::Block,
        Self::ServiceCidr,
        Self::Reservation,
    ];
}

/// What a watch saw.
#[derive(Clone, PartialEq, Debug)]
pub enum Observed {
    /// A Service is there, in this state.
    Service(Arc<ServiceRecord>),
    /// The API server said DELETED for this uid.
    ServiceDeleted(ServiceKey, Uid),
    /// A Namespace.
    Namespace(NamespaceRecord),
    /// A Namespace is gone.
    NamespaceDeleted(Arc<str>),
    /// A class.
    Class(ClassRecord),
    /// A class is gone.
    ClassDeleted(Arc<str>),
    /// A pool.
    Pool(PoolRecord),
    /// A pool is gone.
    PoolDeleted(PoolKind, Arc<str>),
    /// A ledger block.
    Block(BlockRecord),
    /// A ledger block is gone.
    BlockDeleted(BlockId),
    /// A ServiceCIDR.
    ServiceCidr(CidrRecord),
    /// A ServiceCIDR is gone.
    ServiceCidrDeleted(Arc<str>),
    /// The API server's version, major and minor, if it says it; before its ServiceCIDRs.
    ServerVersion(Option<(u32, u32)>),
    /// An IPAddress of ours.
    Reservation(ReservationRecord),
    /// It is gone.
    ReservationDeleted(IpAddr),
    /// An object that cannot be parsed: kept as last known, reported, everything else goes on.
    Unreadable {
        /// Its kind.
        kind: Kind,
        /// Its name, with the namespace if it has one.
        name: String,
        /// Why.
        error: String,
    },
    /// A list of this kind begins: what does not come again before [`Observed::Synced`] is gone.
    Restarted(Kind),
    /// The list of this kind is complete.
    Synced(Kind),
}

/// Why an effect failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// 409: the precondition did not hold (or, creating, it exists already).
    Conflict,
    /// 404.
    NotFound,
    /// The API server refused it for good: 4xx with this message.
    Refused(String),
    /// It may or may not have happened: time-out, connection lost, 429, 5xx.
    Unknown(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflict => f.write_str("it has changed meanwhile"),
            Self::NotFound => f.write_str("there is no such thing"),
            Self::Refused(why) | Self::Unknown(why) => f.write_str(why),
        }
    }
}

/// Identifies one pass over one Service, so that a late result of an old one is recognised.
pub type Pass = u64;

/// Everything the engine is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// By a watch.
    Observed(Observed),
    /// We are the leader from now on, or not any more.
    Leading(bool),
    /// Result of [`Effect::WriteService`]: the new resourceVersion.
    ServiceWritten {
        /// Which pass.
        pass: Pass,
        /// Which Service.
        key: ServiceKey,
        /// The new resourceVersion.
        result: Result<Arc<str>, Failure>,
    },
    /// Result of [`Effect::ReadService`]: `None` is a proven 404.
    ServiceRead {
        /// Which pass.
        pass: Pass,
        /// Which Service.
        key: ServiceKey,
        /// What a quorum read found.
        result: Result<Option<Arc<ServiceRecord>>, Failure>,
    },
    /// Result of [`Effect::WriteBlock`]: the new resourceVersion.
    BlockWritten {
        /// Which block.
        id: BlockId,
        /// The new resourceVersion.
        result: Result<Arc<str>, Failure>,
    },
    /// Result of [`Effect::ReadBlock`]: `None` is a proven 404.
    BlockRead {
        /// Which block.
        id: BlockId,
        /// What a quorum read found.
        result: Result<Option<BlockRecord>, Failure>,
    },
    /// Result of [`Effect::WritePoolStatus`].
    PoolStatusWritten {
        /// Which resource.
        kind: PoolKind,
        /// Which object.
        name: Arc<str>,
        /// Whether it went well.
        result: Result<(), Failure>,
    },
    /// Result of [`Effect::ListAddresses`].
    AddressesListed(Result<Recorded, Failure>),
    /// Result of [`Effect::WriteReservation`].
    ReservationWritten {
        /// Of which address.
        address: IpAddr,
        /// Whether it went well.
        result: Result<(), Failure>,
    },
    /// What became of what a Service wants announced.
    Announced(Told),
    /// What became of an [`Effect::Converge`].
    Converged(Outcome),
    /// The API server asks before it creates or changes a Service; [`Effect::Answer`] answers.
    /// Leader or not.
    Review {
        /// What.
        review: Arc<Review>,
        /// When an answer must have been given (monotonic).
        deadline: Duration,
    },
    /// Result of [`Effect::WriteClassStatus`].
    ClassStatusWritten {
        /// Which object.
        name: Arc<str>,
        /// Whether it went well.
        result: Result<(), Failure>,
    },
}

/// What to change of a Service; the API server must refuse it with 409 unless the Service still has
/// the resourceVersion given (the patch carries it).
#[derive(Clone, PartialEq, Debug)]
pub enum ServicePatch {
    /// JSON patch (RFC 6902) of the main resource; its first operation replaces
    /// `/metadata/resourceVersion`. Twice is harmless: the second time the version has moved on.
    Spec(Value),
    /// JSON merge patch of `/status` that carries `metadata.resourceVersion`. Twice is harmless for
    /// the same reason.
    Status(Value),
}

/// An Event about a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventNote {
    /// About whom.
    pub key: ServiceKey,
    /// And which one.
    pub uid: Uid,
    /// `Warning` or `Normal`.
    pub warning: bool,
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub note: String,
}

/// Everything the engine asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Write into a Service.
    WriteService {
        /// Which pass.
        pass: Pass,
        /// Which Service.
        key: ServiceKey,
        /// What.
        patch: ServicePatch,
    },
    /// Read a Service from the API server's quorum (resourceVersion unset).
    ReadService {
        /// Which pass.
        pass: Pass,
        /// Which Service.
        key: ServiceKey,
    },
    /// Create a block (no version) or replace it (precondition on that version).
    WriteBlock {
        /// Which.
        id: BlockId,
        /// The precondition; `None` creates.
        version: Option<Arc<str>>,
        /// The content.
        spec: AllocationBlockSpec,
    },
    /// Read a block from the API server's quorum.
    ReadBlock {
        /// Which.
        id: BlockId,
    },
    /// List every IPAddress object of the cluster, in pages. A plain read: what it says is told only
    /// when a second one says it again.
    ListAddresses,
    /// Tell the cloud's provider what is wanted for a Service; the answer is
    /// [`Input::Converged`], again whenever it changes.
    Converge {
        /// Its number; a later one replaces it.
        number: u64,
        /// Which time it is that this process leads: what was told before is void.
        epoch: u64,
        /// What is wanted.
        request: Arc<Request>,
    },
    /// Tell the announcer what is wanted; the answers are [`Input::Announced`], again whenever one
    /// changes.
    Announce(Word),
    /// Answer a [`Input::Review`].
    Answer {
        /// Its id.
        id: u64,
        /// What.
        answer: Answer,
    },
    /// Create an Event under a name derived from its content; that it exists already is success,
    /// that it fails is logged and counted, nothing waits for it.
    Emit(EventNote),
    /// Merge-patch a pool's `/status`; carries the resourceVersion as precondition.
    WritePoolStatus {
        /// Which resource.
        kind: PoolKind,
        /// Which object.
        name: Arc<str>,
        /// The merge patch.
        patch: Value,
    },
    /// Create an IPAddress of ours or delete one.
    WriteReservation {
        /// Of which address.
        address: IpAddr,
        /// What.
        change: reserve::Change,
    },
    /// Merge-patch a class's `/status`; carries the resourceVersion as precondition.
    WriteClassStatus {
        /// Which object.
        name: Arc<str>,
        /// The merge patch.
        patch: Value,
    },
}
