//! The one closed list of reasons. The same PascalCase word appears in conditions, Events, metric
//! labels and on the command line.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// Why something is as it is.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it means, as the reference prints it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

reasons! {
    /// The Service has every number it asked for.
    Allocated,
    /// The address is assigned, or the pool or class is in use.
    Ready,
    /// PreferDualStack got one family only; the other is taken as soon as a pool can give it.
    PartlyAllocated,
    /// An annotation or field cannot be read.
    InvalidRequest,
    /// Two annotations or fields ask for different things.
    ConflictingRequest,
    /// The class's LoadBalancerClass object is gone or being deleted: what is held stays, nothing new is given.
    ClassDeleted,
    /// The class's provider is not part of this build or not configured.
    ProviderUnavailable,
    /// The load balancer is being made or changed; the message says what is waited for.
    Provisioning,
    /// The cloud refuses the controller an action; the message names the permission that is missing.
    AccessDenied,
    /// A quota of the cloud account is reached; the message names it.
    QuotaExceeded,
    /// Something outside Portolan keeps the load balancer from going; the message names it.
    DeletionBlocked,
    /// The cloud answered with an error; it is tried again.
    ProviderError,
    /// No node announces the address; the message says of each why.
    NotAnnounced,
    /// Another machine on the network answers for the address, too; the message names its hardware address.
    AddressConflict,
    /// No pool exists that gives such numbers without being asked by name.
    NoPool,
    /// The pool asked for by name does not exist.
    PoolNotFound,
    /// The pool does not admit this Service or its namespace.
    PoolNotAdmitted,
    /// The pool is disabled, overlaps an older pool or has an invalid spec.
    PoolUnavailable,
    /// Every pool that would serve the Service is full.
    PoolExhausted,
    /// No pool has numbers of the family asked for.
    FamilyUnavailable,
    /// The number asked for lies in no pool.
    AddressNotInPool,
    /// The number asked for is reserved by its pool.
    AddressReserved,
    /// The number asked for is held by another Service.
    AddressInUse,
    /// The sharing key, ports or externalTrafficPolicy do not allow sharing the address.
    SharingConflict,
    /// Two Services show the same number and at least one of them was not given it by Portolan.
    NumberConflict,
    /// The Service lost its number, because no pool contains it any longer, and got another.
    AddressMoved,
    /// A nodePort that its policy does not allow, or that two Services had, was changed to another.
    NodePortMoved,
    /// A nodePort lies outside the pool that the Service must use and cannot be changed now.
    NodePortOutsidePolicy,
    /// The number lies outside the API server's node port range.
    NodePortOutOfRange,
    /// The cluster IP lies outside every ServiceCIDR.
    ClusterIPOutOfRange,
    /// A number was claimed and is not needed after all; it is free again with the next two writes.
    ClaimWithdrawn,
    /// A field that Portolan had written was changed by hand and has been put back.
    Repaired,
    /// The ledger had a number for a Service that is gone; it is free again.
    LeakedClaim,
    /// An older Service has the same nodePort.
    DuplicateNodePort,
    /// An older Service has the healthCheckNodePort too.
    DuplicateHealthCheckNodePort,
    /// An older Service has the same cluster IP.
    DuplicateClusterIP,
    /// No IPAddress object stands for a cluster IP, so Kubernetes may give it to another Service.
    ClusterIPNotRecorded,
    /// The IPAddress object of a cluster IP names somebody else.
    ClusterIPOfAnother,
    /// The ledger block that covers the number cannot be read; nothing is handed out from it.
    LedgerDamaged,
    /// The object cannot be parsed.
    Unreadable,
    /// A pool overlaps an older pool.
    PoolOverlap,
    /// A pool's spec is invalid.
    PoolInvalid,
    /// Two classes claim the same name or both want to be the default; the older one has it.
    ClassConflict,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
