//! Addresses as few ranges.

use std::net::IpAddr;

/// How many ranges a program compares with, at most: each costs some nanoseconds per frame, and the
/// kernel bounds the size of what a socket carries (`net.core.optmem_max`, 20 KiB on older ones).
pub(super) const MOST_RANGES: usize = 64;
/// How many of them are of IPv6, where one takes more than four times the instructions.
pub(super) const MOST_V6: usize = 32;

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
                IpAddr::V4(address) => v4.push(u128::from(address.to_bits())),
                IpAddr::V6(address) => v6.push(address.to_bits()),
            }
        }
        let v6 = at_most(MOST_V6, joined(v6));
        let v4 = at_most(MOST_RANGES.saturating_sub(v6.len()), joined(v4));
        let narrow = |bound| u32::try_from(bound).unwrap_or(u32::MAX);
        Self {
            v4: (v4.into_iter())
                .map(|(first, last)| (narrow(first), narrow(last)))
                .collect(),
            v6,
        }
    }
}

/// Sorted, without doubles, those next to each other as one.
fn joined(mut addresses: Vec<u128>) -> Vec<Range<u128>> {
    addresses.sort_unstable();
    let mut ranges: Vec<Range<u128>> = Vec::new();
    for address in addresses {
        match ranges.last_mut() {
            Some((_, last)) if address <= last.saturating_add(1) => *last = address,
            Some(_) | None => ranges.push((address, address)),
        }
    }
    ranges
}

/// Keeps the widest gaps only.
fn at_most(most: usize, ranges: Vec<Range<u128>>) -> Vec<Range<u128>> {
    if ranges.len() <= most {
        return ranges;
    }
    let firsts = ranges.iter().skip(1).map(|(first, _)| *first);
    let lasts = ranges.iter().map(|(_, last)| *last);
    let mut gaps: Vec<(u128, u128)> = (firsts.zip(lasts))
        .map(|(first, last)| (first.saturating_sub(last), first))
        .collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let mut kept: Vec<u128> = (gaps.into_iter())
        .take(most.saturating_sub(1))
        .map(|(_, first)| first)
        .collect();
    kept.sort_unstable();
    let mut fewer: Vec<Range<u128>> = Vec::new();
    for (first, last) in ranges {
        match fewer.last_mut() {
            Some(before) if kept.binary_search(&first).is_err() => before.1 = last,
            Some(_) | None => fewer.push((first, last)),
        }
    }
    fewer
}
