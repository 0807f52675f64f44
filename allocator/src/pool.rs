//! A pool: which numbers may be handed out, to whom, in which order. Judges a Service and a number,
//! never looks at what is taken.

use std::{collections::BTreeSet, fmt, sync::Arc};

use model::{Labels, Space, Uid, Use};

use crate::{RangeSet, Selector};

/// A user's statement of which numbers may be handed out, to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp` in Unix seconds: of two that overlap the older one counts.
    pub created: i64,
    /// `metadata.uid`.
    pub uid: Uid,
    /// What the numbers are for; `NodePort` serves `HealthCheckNodePort` too.
    pub usage: Use,
    /// IPv4 addresses.
    pub v4: RangeSet,
    /// IPv6 addresses.
    pub v6: RangeSet,
    /// Ports.
    pub ports: RangeSet,
    /// IPv4 addresses that are never handed out.
    pub reserved_v4: RangeSet,
    /// IPv6 addresses that are never handed out.
    pub reserved_v6: RangeSet,
    /// Ports that are never handed out.
    pub excluded_ports: RangeSet,
    /// Ports that the API server does not take: never handed out either, though not by the user's
    /// wish. What a Service has there all the same stays.
    pub unusable_ports: RangeSet,
    /// The same of IPv4 addresses, for cluster IPs only.
    pub unusable_v4: RangeSet,
    /// The same of IPv6 addresses.
    pub unusable_v6: RangeSet,
    /// Serves Services that do not ask for this pool or a number of it.
    pub auto_assign: bool,
    /// Higher ones are tried first.
    pub priority: i32,
    /// Hands out nothing; what is held stays.
    pub disabled: bool,
    /// Which Services it admits, for explicit requests too.
    pub admission: Admission,
    /// A Service that this pool admits gets new numbers from enforcing pools only.
    pub enforce: bool,
    /// Which of the free numbers is taken.
    pub strategy: Strategy,
    /// How long a released number is kept for the same namespace and name, in seconds.
    pub retain_for: Option<i64>,
    /// IPv4 addresses that end in .0 or .255 are never handed out.
    pub avoid_buggy_ips: bool,
}

/// Which of the free numbers is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// The lowest.
    #[default]
    LowestFree,
    /// Derived from namespace and name (and a salt): the same in every cluster and after
    /// re-creation, as long as it is free. See [`stable_hash`].
    Stable,
    /// Derived from the Service's UID.
    Random,
}

/// Which Services a pool admits: one of the first two, if either is given, and the third, if given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admission {
    /// `spec.namespaces`.
    pub namespaces: Option<BTreeSet<String>>,
    /// `spec.namespaceSelector`.
    pub namespace_selector: Option<Selector>,
    /// `spec.serviceSelector`.
    pub service_selector: Option<Selector>,
}

impl Admission {
    /// Whether a Service is admitted.
    pub fn admits(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        self.admits_namespace(namespace, namespace_labels)
            && self
                .service_selector
                .as_ref()
                .is_none_or(|selector| selector.matches(labels))
    }

    /// Whether the namespace alone is admitted.
    pub fn admits_namespace(&self, namespace: &str, labels: &Labels) -> bool {
        let listed = self.namespaces.as_ref().map(|set| set.contains(namespace));
        let selected = self.namespace_selector.as_ref().map(|s| s.matches(labels));
        match (listed, selected) {
            (None, None) => true,
            (listed, selected) => listed.unwrap_or(false) || selected.unwrap_or(false),
        }
    }

    /// Whether it names any condition; pools that do are tried before those that do not.
    pub const fn is_selective(&self) -> bool {
        self.namespaces.is_some()
            || self.namespace_selector.is_some()
            || self.service_selector.is_some()
    }
}

/// Whether a pool hands out numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PoolState {
    /// It does, unless it is disabled.
    Ready,
    /// It has a number that an older pool has too, so it hands out nothing; what is held stays.
    Overlaps {
        /// The oldest such pool.
        older: Arc<str>,
    },
}

/// A range in two: numbers chosen by users are expected in `fixed`, so others are taken from
/// `free` first. A preference only; any free number may be asked for. Absent means empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Band {
    /// Kubernetes' static band, taken last.
    pub fixed: Option<(u128, u128)>,
    /// Kubernetes' dynamic band, taken first.
    pub free: Option<(u128, u128)>,
}

impl Band {
    /// KEP-3668: none up to 16 ports, else a 32nd, at least 16 and at most 128.
    pub fn of_ports(first: u128, last: u128) -> Self {
        let size = last.saturating_sub(first).saturating_add(1);
        Self::split(first, last, offset(size, 32, 128))
    }

    /// KEP-3070: none up to 16 addresses, else a 16th, at least 16 and at most 256. Of a whole CIDR
    /// of more than two addresses the first one and in IPv4 also the last one are never handed out;
    /// the offset counts from the second one, but its size is that of the whole CIDR.
    pub fn of_cluster_ips(space: Space, first: u128, last: u128) -> Self {
        let size = last.saturating_sub(first).saturating_add(1);
        let offset = offset(size, 16, 256);
        if size <= 2 || !is_cidr(first, size) {
            return Self::split(first, last, offset);
        }
        match space {
            Space::V4 => Self::split(first + 1, last - 1, offset),
            Space::V6 | Space::Port => Self::split(first + 1, last, offset),
        }
    }

    fn split(first: u128, last: u128, offset: u128) -> Self {
        let some = |first, last| (first <= last).then_some((first, last));
        let middle = first.saturating_add(offset);
        Self {
            fixed: (offset > 0).then(|| (first, last.min(middle - 1))),
            free: some(middle, last),
        }
    }
}

/// `calculateRangeOffset` of Kubernetes' port and IP allocators.
fn offset(size: u128, divisor: u128, most: u128) -> u128 {
    if size <= 16 {
        0
    } else {
        (size / divisor).clamp(16, most)
    }
}

const fn is_cidr(first: u128, size: u128) -> bool {
    size.is_power_of_two() && first & (size - 1) == 0
}

/// 64-bit FNV-1a (offset basis cbf29ce484222325, prime 100000001b3) over the bytes of
/// `namespace/name`, and `/salt` if there is one. The strategy `Stable` takes it modulo the size of
/// the pool's dynamic part, at most 65,536, and goes on from there to the next free number. Fixed
/// for ever: the same Service gets the same number in every cluster and under every version.
pub fn stable_hash(namespace: &str, name: &str, salt: Option<&str>) -> u64 {
    let hash = fnv(FNV_BASIS, namespace);
    let hash = fnv(fnv(hash, "/"), name);
    match salt {
        Some(salt) => fnv(fnv(hash, "/"), salt),
        None => hash,
    }
}

/// FNV's 64-bit offset basis (draft-eastlake-fnv).
pub const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// 64-bit FNV-1a over further bytes: the same in every process and version, which std's hashers do not
/// promise.
pub fn fnv(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// IPv4 addresses that some old equipment takes for a network or broadcast address.
pub(crate) const fn is_buggy(space: Space, value: u128) -> bool {
    matches!(space, Space::V4) && matches!(value & 0xff, 0 | 0xff)
}

/// How many values up to `end`, exclusive, end in .0 or .255.
const fn buggy_below(end: u128) -> u128 {
    end.div_ceil(256) + end / 256
}

impl Pool {
    /// A pool that has no numbers yet and everything else as the resources' defaults say.
    pub fn new(name: &str, usage: Use) -> Self {
        Self {
            name: name.into(),
            created: 0,
            uid: Uid::from(""),
            usage,
            v4: RangeSet::default(),
            v6: RangeSet::default(),
            ports: RangeSet::default(),
            reserved_v4: RangeSet::default(),
            reserved_v6: RangeSet::default(),
            excluded_ports: RangeSet::default(),
            unusable_ports: RangeSet::default(),
            unusable_v4: RangeSet::default(),
            unusable_v6: RangeSet::default(),
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

    /// The ranges of one space, as the user wrote them.
    pub const fn ranges(&self, space: Space) -> &RangeSet {
        match space {
            Space::V4 => &self.v4,
            Space::V6 => &self.v6,
            Space::Port => &self.ports,
        }
    }

    /// The numbers of one space that are never handed out.
    pub const fn reserved(&self, space: Space) -> &RangeSet {
        match space {
            Space::V4 => &self.reserved_v4,
            Space::V6 => &self.reserved_v6,
            Space::Port => &self.excluded_ports,
        }
    }

    /// The numbers of one space that the API server does not take.
    pub const fn unusable(&self, space: Space) -> &RangeSet {
        match space {
            Space::V4 => &self.unusable_v4,
            Space::V6 => &self.unusable_v6,
            Space::Port => &self.unusable_ports,
        }
    }

    /// Whether it gives numbers for that use.
    pub const fn serves(&self, usage: Use) -> bool {
        match usage {
            Use::LoadBalancer => matches!(self.usage, Use::LoadBalancer),
            Use::ClusterIp => matches!(self.usage, Use::ClusterIp),
            Use::NodePort | Use::HealthCheckNodePort => {
                matches!(self.usage, Use::NodePort | Use::HealthCheckNodePort)
            }
        }
    }

    fn band(&self, space: Space, first: u128, last: u128) -> Band {
        match self.usage {
            Use::LoadBalancer => Band {
                fixed: None,
                free: Some((first, last)),
            },
            // Where the API server says what it takes, base and broadcast addresses are those of its
            // ServiceCIDRs, and the pool is a part that it leaves to us.
            Use::ClusterIp if !self.unusable(space).is_empty() => Band {
                fixed: None,
                free: Some((first, last)),
            },
            Use::ClusterIp => Band::of_cluster_ips(space, first, last),
            Use::NodePort | Use::HealthCheckNodePort => Band::of_ports(first, last),
        }
    }

    /// Works out what of one space may be handed out, and in which order.
    pub(crate) fn stock(&self, space: Space) -> Stock {
        let declared = self.ranges(space);
        let reserved = self.reserved(space);
        let bands = || {
            declared
                .ranges()
                .iter()
                .map(|&(first, last)| self.band(space, first, last))
        };
        let usable = |set: RangeSet| set.subtract(reserved).subtract(self.unusable(space));
        let first = usable(RangeSet::new(bands().filter_map(|band| band.free)));
        let then = usable(RangeSet::new(bands().filter_map(|band| band.fixed)));
        let skip_buggy = self.avoid_buggy_ips && space == Space::V4;
        let mut capacity = first.len().saturating_add(then.len());
        if skip_buggy {
            for &(first, last) in first.ranges().iter().chain(then.ranges()) {
                capacity -= buggy_below(last + 1) - buggy_below(first);
            }
        }
        Stock {
            space,
            first,
            then,
            skip_buggy,
            capacity,
        }
    }
}

/// What of one space a pool may hand out.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    space: Space,
    /// Taken first; the dynamic bands where there are any.
    pub(crate) first: RangeSet,
    /// Taken when those are gone.
    pub(crate) then: RangeSet,
    /// Without addresses that end in .0 or .255.
    skip_buggy: bool,
    /// How many numbers that is.
    pub(crate) capacity: u128,
}

impl Stock {
    /// Whether the number may be handed out.
    pub(crate) fn contains(&self, value: u128) -> bool {
        (self.first.contains(value) || self.then.contains(value)) && !self.is_buggy(value)
    }

    pub(crate) const fn is_buggy(&self, value: u128) -> bool {
        self.skip_buggy && is_buggy(self.space, value)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LowestFree => "LowestFree",
            Self::Stable => "Stable",
            Self::Random => "Random",
        })
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
