//! What a user wrote as addresses or ports, as sorted ranges of one space; never materialised.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Family, Number};

/// Sorted, disjoint, inclusive ranges of numbers of one space. Overlapping ranges are merged;
/// adjacent ones stay apart, because each CIDR of a ClusterIP pool has a network address of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeSet {
    ranges: Vec<(u128, u128)>,
}

/// Why an entry cannot be read. Every message names the entry and the cure.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// Neither address, CIDR nor range.
    #[error(
        "{0:?} is not an address, a CIDR or a range; write for example 203.0.113.0/24, 203.0.113.10-203.0.113.20 or 203.0.113.5"
    )]
    NotAddresses(String),
    /// A CIDR whose address is not its first one.
    #[error(
        "{entry:?} has bits set beyond its prefix; write {network} for the network, or the address without the prefix for a single one"
    )]
    HostBits {
        /// The entry.
        entry: String,
        /// The network it lies in.
        network: String,
    },
    /// A range from one family to the other.
    #[error("{0:?} starts in one IP family and ends in the other; write two entries")]
    MixedFamilies(String),
    /// The end lies before the start.
    #[error("{0:?} ends before it starts; exchange the two ends")]
    Reversed(String),
    /// More than an IPv4 /8 or an IPv6 /48.
    #[error(
        "{entry:?} is larger than {limit}, the largest that one entry may be; write a smaller one"
    )]
    TooLarge {
        /// The entry.
        entry: String,
        /// The limit of its family.
        limit: &'static str,
    },
    /// An IPv6 notation of an IPv4 address.
    #[error("{0:?} is an IPv4 address written as IPv6; write it as IPv4")]
    MappedV4(String),
    /// Neither port nor range of ports.
    #[error(
        "{0:?} is not a port or a range of ports; write for example 30080 or 30000-30099, from 1 to 65535"
    )]
    NotPorts(String),
}

/// An IPv4 /8 and an IPv6 /48: how far apart the ends of one entry may be, and what it is called.
const fn limit(family: Family) -> (u128, &'static str) {
    match family {
        Family::V4 => ((1 << 24) - 1, "an IPv4 /8"),
        Family::V6 => ((1 << 80) - 1, "an IPv6 /48"),
    }
}

impl RangeSet {
    /// From inclusive ranges in any order, overlapping or not; reversed ones are left out.
    pub fn new(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut sorted: Vec<_> = ranges
            .into_iter()
            .filter(|(first, last)| first <= last)
            .collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// Reads `spec.addresses`: CIDRs (`10.0.0.0/24`), ranges (`10.0.0.1-10.0.0.9`) and single
    /// addresses, into those of IPv4 and those of IPv6.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn parse_addresses(entries: &[String]) -> Result<(Self, Self), RangeError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            let (family, range) = parse_address_entry(entry)?;
            match family {
                Family::V4 => v4.push(range),
                Family::V6 => v6.push(range),
            }
        }
        Ok((Self::new(v4), Self::new(v6)))
    }

    /// Reads `spec.ports`: ports (`30080`) and ranges (`30000-30099`), from 1 to 65535.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn parse_ports(entries: &[String]) -> Result<Self, RangeError> {
        let mut ranges = Vec::new();
        for entry in entries {
            let port = |text: &str| {
                text.trim()
                    .parse::<u16>()
                    .ok()
                    .filter(|&port| port > 0)
                    .map(u128::from)
                    .ok_or_else(|| RangeError::NotPorts(entry.clone()))
            };
            let (first, last) = match entry.split_once('-') {
                Some((first, last)) => (port(first)?, port(last)?),
                None => (port(entry)?, port(entry)?),
            };
            if first > last {
                return Err(RangeError::Reversed(entry.clone()));
            }
            ranges.push((first, last));
        }
        Ok(Self::new(ranges))
    }

    /// The ranges, sorted.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// The ranges that end at `value` or later.
    pub(crate) fn ranges_from(&self, value: u128) -> &[(u128, u128)] {
        let skip = self.ranges.partition_point(|&(_, last)| last < value);
        self.ranges.get(skip..).unwrap_or_default()
    }

    /// Whether the set has no number.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers it has; `u128::MAX` also when there is one more.
    pub fn len(&self) -> u128 {
        self.ranges.iter().fold(0u128, |sum, &(first, last)| {
            sum.saturating_add((last - first).saturating_add(1))
        })
    }

    /// Whether the number is in the set.
    pub fn contains(&self, value: u128) -> bool {
        self.ranges_from(value)
            .first()
            .is_some_and(|&(first, _)| first <= value)
    }

    /// The lowest number that both sets have.
    pub fn intersects(&self, other: &Self) -> Option<u128> {
        self.ranges.iter().find_map(|&(first, last)| {
            let &(other_first, _) = other.ranges_from(first).first()?;
            let common = other_first.max(first);
            (common <= last).then_some(common)
        })
    }

    /// The numbers of this set that the other does not have.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for &(first, last) in &self.ranges {
            let mut rest = Some(first);
            for &(cut_first, cut_last) in other.ranges_from(first) {
                let Some(start) = rest else { break };
                if cut_first > last {
                    break;
                }
                if cut_first > start {
                    ranges.push((start, cut_first - 1));
                }
                rest = cut_last.checked_add(1);
            }
            if let Some(start) = rest
                && start <= last
            {
                ranges.push((start, last));
            }
        }
        Self { ranges }
    }

    /// The lowest `count` numbers.
    #[must_use]
    pub fn first_n(&self, count: u128) -> Self {
        let mut left = count;
        let mut ranges = Vec::new();
        for &(first, last) in &self.ranges {
            let Some(further) = left.checked_sub(1) else {
                break;
            };
            let end = first.saturating_add(further).min(last);
            ranges.push((first, end));
            left -= end - first + 1;
        }
        Self { ranges }
    }

    /// The number with so many lower ones in the set.
    pub fn nth(&self, index: u128) -> Option<u128> {
        let mut left = index;
        for &(first, last) in &self.ranges {
            if left <= last - first {
                return Some(first + left);
            }
            left -= last - first + 1;
        }
        None
    }
}

impl FromIterator<(u128, u128)> for RangeSet {
    fn from_iter<T: IntoIterator<Item = (u128, u128)>>(ranges: T) -> Self {
        Self::new(ranges)
    }
}

fn parse_address_entry(entry: &str) -> Result<(Family, (u128, u128)), RangeError> {
    let address = |text: &str| {
        let address: IpAddr = text
            .trim()
            .parse()
            .map_err(|_| RangeError::NotAddresses(entry.to_owned()))?;
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Err(RangeError::MappedV4(entry.to_owned()))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
        }
    };
    let (first, last) = if let Some((text, _)) = entry.split_once('/') {
        address(text)?;
        let net: IpNet = entry
            .trim()
            .parse()
            .map_err(|_| RangeError::NotAddresses(entry.to_owned()))?;
        if net.addr() != net.network() {
            return Err(RangeError::HostBits {
                entry: entry.to_owned(),
                network: net.trunc().to_string(),
            });
        }
        (net.network(), net.broadcast())
    } else if let Some((first, last)) = entry.split_once('-') {
        (address(first)?, address(last)?)
    } else {
        (address(entry)?, address(entry)?)
    };
    let family = Family::of(first);
    if Family::of(last) != family {
        return Err(RangeError::MixedFamilies(entry.to_owned()));
    }
    let (first, last) = (Number::from(first).value, Number::from(last).value);
    let (most, limit) = limit(family);
    match last.checked_sub(first) {
        None => Err(RangeError::Reversed(entry.to_owned())),
        Some(further) if further > most => Err(RangeError::TooLarge {
            entry: entry.to_owned(),
            limit,
        }),
        Some(_) => Ok((family, (first, last))),
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
