//! On which interfaces an address is announced, and for which pools there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use wire::Mac;

use crate::io::Unable;
use crate::message::{MOST_MACS, MOST_UNABLE};
use crate::ownership::{Key, pool_hash};
use crate::words::{Address, Announcement, Link};

#[cfg(test)]
mod tests;

/// The interfaces of this machine, and what they lack.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Up and with a hardware address, by index.
    usable: BTreeMap<u32, Link>,
    /// Of the others.
    down: Vec<IpNet>,
    lacking: BTreeMap<Key, (Vec<Arc<str>>, Arc<str>)>,
}

impl Links {
    /// All interfaces as of now. Whether anything changed.
    pub(crate) fn set(&mut self, links: &[Link]) -> bool {
        let is_usable = |link: &&Link| link.up && link.mac.is_unicast();
        let down = links.iter().filter(|link| !is_usable(link));
        self.down = down.flat_map(|link| link.prefixes.clone()).collect();
        let usable = (links.iter().filter(is_usable))
            .map(|link| (link.index, link.clone()))
            .collect();
        let before = std::mem::replace(&mut self.usable, usable);
        before != self.usable
    }

    pub(crate) fn usable(&self) -> impl Iterator<Item = &Link> {
        self.usable.values()
    }

    /// The usable links of an address of ours.
    pub(crate) fn carrying(&self, own: IpAddr) -> BTreeSet<u32> {
        let is_on = |link: &&Link| link.prefixes.iter().any(|prefix| prefix.contains(&own));
        let carrying = self.usable.values().filter(is_on);
        carrying.map(|link| link.index).collect()
    }

    /// Whether all links of an address of ours are down.
    pub(crate) fn are_down(&self, own: IpAddr) -> bool {
        self.down.iter().any(|prefix| prefix.contains(&own)) && self.carrying(own).is_empty()
    }

    pub(crate) fn name(&self, index: u32) -> Option<&Arc<str>> {
        self.usable.get(&index).map(|link| &link.name)
    }

    pub(crate) fn macs(&self) -> Vec<[u8; 6]> {
        let macs: BTreeSet<[u8; 6]> = self.usable.values().map(|link| link.mac.0).collect();
        macs.into_iter().take(MOST_MACS).collect()
    }

    pub(crate) fn is_ours(&self, mac: Mac) -> bool {
        self.usable.values().any(|link| link.mac == mac)
    }

    /// Where that address is announced: by the globs; without any, where its prefix is on-link,
    /// else where the default route leaves.
    pub(crate) fn choose(&self, address: &Address) -> Vec<u32> {
        let with = |is_right: &dyn Fn(&Link) -> bool| -> Vec<u32> {
            let right = self.usable.values().filter(|link| is_right(link));
            right.map(|link| link.index).collect()
        };
        if let Some(globs) = &address.interfaces {
            return with(&|link| globs.iter().any(|glob| matches(glob, &link.name)));
        }
        let on_link = with(&|link| {
            let mut prefixes = link.prefixes.iter();
            prefixes.any(|prefix| prefix.contains(&address.ip))
        });
        if !on_link.is_empty() {
            return on_link;
        }
        with(&|link| match address.ip {
            IpAddr::V4(_) => link.default_route_v4,
            IpAddr::V6(_) => link.default_route_v6,
        })
    }

    /// Looks whether each of these addresses can be announced here. None: this is not for us.
    pub(crate) fn assess(&mut self, key: Key, spec: Option<&Announcement>) {
        let lacks = spec.and_then(|spec| {
            let mut addresses = spec.addresses.iter();
            let without = addresses.find(|address| self.choose(address).is_empty())?;
            Some((spec.pools.clone(), missing(without)))
        });
        match lacks {
            Some(lacks) => self.lacking.insert(key, lacks),
            None => self.lacking.remove(&key),
        };
    }

    /// The pools that we have no interface for. An announcement of several pools does not say which
    /// address is of which: unless one of them is known to lack an interface, all of them count.
    fn unable_pools(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut unable = BTreeMap::new();
        for (pools, message) in self.lacking.values() {
            if let [pool] = pools.as_slice() {
                unable
                    .entry(pool.clone())
                    .or_insert_with(|| message.clone());
            }
        }
        let known: BTreeSet<Arc<str>> = unable.keys().cloned().collect();
        for (pools, message) in self.lacking.values() {
            if !pools.iter().any(|pool| known.contains(pool)) {
                for pool in pools {
                    unable
                        .entry(pool.clone())
                        .or_insert_with(|| message.clone());
                }
            }
        }
        unable
    }

    /// The same for the card.
    pub(crate) fn unable(&self) -> Vec<u32> {
        let unable: BTreeSet<u32> = (self.unable_pools().keys())
            .map(|pool| pool_hash(pool))
            .collect();
        if unable.len() > MOST_UNABLE {
            return vec![0];
        }
        unable.into_iter().collect()
    }

    /// The same for people.
    pub(crate) fn report(&self) -> Vec<Unable> {
        let unable = self.unable_pools().into_iter();
        unable
            .map(|(pool, message)| Unable { pool, message })
            .collect()
    }
}

fn missing(address: &Address) -> Arc<str> {
    match &address.interfaces {
        Some(globs) => format!("no interface that is up matches {}", globs.join(", ")).into(),
        None => format!(
            "no interface that is up has an address in the subnet of {}, and there is no default route",
            address.ip
        )
        .into(),
    }
}

/// `*` stands for any characters, `?` for one.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(one) if *one == '?' || Some(one) == name.get(in_name) => {
                at += 1;
                in_name += 1;
            }
            Some(_) | None => {
                let Some((star_at, from)) = star else {
                    return false;
                };
                // The star takes one more.
                star = Some((star_at, from + 1));
                at = star_at + 1;
                in_name = from + 1;
            }
        }
    }
    glob.iter().skip(at).all(|rest| *rest == '*')
}
