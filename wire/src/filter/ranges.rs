//! Addresses as few ranges.

use std::net::IpAddr;

/// Inclusive.
pub(super) type Range<T> = (T, T);

/// Sorted ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) v4: Vec<Range<u32>>,
    pub(super) v6: Vec<Range<u128>>,
}

impl Ranges {
    pub(super) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address.to_bits()),
                IpAddr::V6(address) => v6.push(address.to_bits()),
            }
        }
        Self {
            v4: joined(v4),
            v6: joined(v6),
        }
    }

    /// So many of both families together, by joining the nearest. A family that has more gets at
    /// least half.
    pub(super) fn at_most(&self, most: usize) -> Self {
        let half = most / 2;
        let v6 = at_most(half.max(most.saturating_sub(self.v4.len())), &self.v6);
        let v4 = at_most(most.saturating_sub(v6.len()), &self.v4);
        Self { v4, v6 }
    }
}

/// What the two kinds of addresses have in common.
pub(super) trait Bits: Copy + Ord {
    fn distance(self, from: Self) -> u128;
}

impl Bits for u32 {
    fn distance(self, from: Self) -> u128 {
        u128::from(self.saturating_sub(from))
    }
}

impl Bits for u128 {
    fn distance(self, from: Self) -> u128 {
        self.saturating_sub(from)
    }
}

/// Sorted, without doubles, those next to each other as one.
fn joined<T: Bits>(mut addresses: Vec<T>) -> Vec<Range<T>> {
    addresses.sort_unstable();
    let mut ranges: Vec<Range<T>> = Vec::new();
    for address in addresses {
        match ranges.last_mut() {
            Some((_, last)) if address.distance(*last) <= 1 => *last = address,
            Some(_) | None => ranges.push((address, address)),
        }
    }
    ranges
}

/// Keeps the widest gaps only.
fn at_most<T: Bits>(most: usize, ranges: &[Range<T>]) -> Vec<Range<T>> {
    if ranges.len() <= most {
        return ranges.to_vec();
    }
    // Gaps by their width, each with where it ends.
    let mut gaps: Vec<(u128, T)> = (ranges.iter().skip(1).zip(ranges))
        .map(|((first, _), (_, last))| (first.distance(*last), *first))
        .collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(most.saturating_sub(1));
    let mut kept: Vec<T> = gaps.into_iter().map(|(_, first)| first).collect();
    kept.sort_unstable();
    let mut fewer: Vec<Range<T>> = Vec::new();
    for (first, last) in ranges {
        match fewer.last_mut() {
            Some(before) if kept.binary_search(first).is_err() => before.1 = *last,
            Some(_) | None => fewer.push((*first, *last)),
        }
    }
    fewer
}
