//! From where the API server gives clusterIPs: its ServiceCIDRs, the families they make, and which
//! addresses it takes and picks. Kubernetes' rules (`MetaAllocator` of its ipallocator).

use std::{collections::BTreeMap, sync::Arc};

use allocator::{Band, Pool, RangeSet};
use ipnet::IpNet;
use model::{Family, Number, Space, Use};

use super::record::CidrRecord;

#[cfg(test)]
mod tests;

/// The ServiceCIDR that the API server makes of its flags (`DefaultServiceCIDRName`): its families
/// are the cluster's, in this order, whatever others exist.
const FROM_FLAGS: &str = "kubernetes";
/// It takes no shorter prefix of IPv6 (`ipallocator.NewIPAllocator`).
const SHORTEST_V6: u8 = 64;

/// All ServiceCIDRs.
#[derive(Clone, Debug, Default)]
pub struct ServiceCidrs {
    records: BTreeMap<Arc<str>, CidrRecord>,
    /// Of [`FROM_FLAGS`], which is made anew within seconds when somebody deletes it.
    families: Vec<Family>,
    /// One was there once: an API server that has had one gives clusterIPs itself.
    known: bool,
}

impl ServiceCidrs {
    /// Keeps one; true when it changed.
    pub fn set(&mut self, record: CidrRecord) -> bool {
        self.known = true;
        if &*record.name == FROM_FLAGS {
            self.families = families_of(&record.cidrs);
        }
        let old = self.records.insert(record.name.clone(), record.clone());
        old != Some(record)
    }

    /// Forgets one; true when it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.records.remove(name).is_some()
    }

    /// Forgets those that are not to stay; true when there were any.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) -> bool {
        let before = self.records.len();
        self.records.retain(|name, _| stays(name));
        self.records.len() != before
    }

    /// Whether the API server has any, and so gives every Service its clusterIPs while it is created.
    /// One without them (before 1.33) cannot be told from one that leaves clusterIPs empty.
    pub fn are_known(&self) -> bool {
        self.known
    }

    /// The cluster's families, primary first.
    pub fn families(&self) -> Vec<Family> {
        if !self.families.is_empty() {
            return self.families.clone();
        }
        let all = self.records.values().flat_map(|r| families_of(&r.cidrs));
        let all: Vec<Family> = all.collect();
        let mut families = vec![Family::V4, Family::V6];
        families.retain(|family| all.contains(family));
        families
    }

    /// The addresses that the API server takes when a Service asks for one. Where CIDRs overlap the
    /// largest that has an address judges it, which comes to the union of them all.
    pub fn usable(&self, space: Space) -> RangeSet {
        self.union(space, |band| {
            let (first, _) = band.fixed.or(band.free)?;
            let (_, last) = band.free.or(band.fixed)?;
            Some((first, last))
        })
    }

    /// Those that it picks itself for a Service that asks for none, as long as one of them is free.
    pub fn dynamic(&self, space: Space) -> RangeSet {
        self.union(space, |band| band.free)
    }

    fn union(&self, space: Space, part: impl Fn(Band) -> Option<(u128, u128)>) -> RangeSet {
        let bands = self.ready().filter_map(|cidr| band(space, cidr));
        RangeSet::new(bands.filter_map(part))
    }

    /// No pool hands out a clusterIP that the API server does not take, where it is known what it takes.
    pub fn bound(&self, pools: &mut [Pool]) {
        if !self.known {
            return;
        }
        let unusable =
            |space: Space| RangeSet::new([(0, space.last())]).subtract(&self.usable(space));
        let (v4, v6) = (unusable(Space::V4), unusable(Space::V6));
        for pool in pools.iter_mut().filter(|pool| pool.usage == Use::ClusterIp) {
            pool.unusable_v4 = v4.clone();
            pool.unusable_v6 = v6.clone();
        }
    }

    /// The CIDRs in use, in words.
    pub fn words(&self) -> String {
        let cidrs: Vec<String> = self.ready().map(ToString::to_string).collect();
        match cidrs.len() {
            0 => "none is ready".to_owned(),
            1..=LISTED => cidrs.join(", "),
            more => format!(
                "{} and {} more",
                cidrs.get(..LISTED).unwrap_or_default().join(", "),
                more - LISTED
            ),
        }
    }

    fn ready(&self) -> impl Iterator<Item = &IpNet> {
        let ready = self.records.values().filter(|record| record.ready);
        ready.flat_map(|record| &record.cidrs)
    }
}

/// More are counted.
const LISTED: usize = 4;

fn families_of(cidrs: &[IpNet]) -> Vec<Family> {
    cidrs.iter().map(|cidr| Family::of(cidr.addr())).collect()
}

/// What the API server gives from this CIDR, in its two bands.
fn band(space: Space, cidr: &IpNet) -> Option<Band> {
    let (first, last) = (Number::from(cidr.network()), Number::from(cidr.broadcast()));
    let too_large = space == Space::V6 && cidr.prefix_len() < SHORTEST_V6;
    // The base address and IPv4's broadcast address are not given: of two nothing is left.
    let too_small = last.value - first.value < 2;
    (first.space == space && !too_large && !too_small)
        .then(|| Band::of_cluster_ips(space, first.value, last.value))
}
