//! What the machine's interfaces are like, from changes. Pure. Decides what an interface is for the
//! core and which default route counts; never which interface is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use speaker_core::Link;
use wire::Mac;

use super::message::{Address, Change, Hop, LinkFacts, Route};

/// All interfaces.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Known>,
    addresses: BTreeSet<Address>,
    defaults: BTreeSet<Default>,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: Arc<str>,
    mac: Option<Mac>,
    ethernet: bool,
    up: bool,
    running: bool,
}

/// One hop of a default route; sorted so that those of a family that count come first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Default {
    ipv6: bool,
    metric: u32,
    hop: Hop,
}

impl Table {
    /// Something is so from now on.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Link(facts) => self.link(facts),
            Change::LinkGone { index } => {
                self.links.remove(&index);
                self.addresses.retain(|address| address.index != index);
                self.defaults.retain(|default| default.hop.index != index);
            }
            Change::Address(address) => {
                self.addresses.insert(address);
            }
            Change::AddressGone(address) => self.address_gone(address),
            Change::Default { route, replaces } => {
                if replaces {
                    let same = |one: &Default| (one.ipv6, one.metric) == (route.ipv6, route.metric);
                    self.defaults.retain(|one| !same(one));
                }
                self.defaults.extend(hops(route));
            }
            Change::DefaultGone(route) => {
                for gone in hops(route) {
                    self.defaults.remove(&gone);
                }
            }
        }
    }

    fn link(&mut self, facts: LinkFacts) {
        if !facts.up {
            // The kernel forgets the routes of an interface that is taken down, and for IPv4 it
            // says nothing about it (fib_sync_down_dev).
            let index = facts.index;
            self.defaults.retain(|default| default.hop.index != index);
        }
        // Some messages (of wireless drivers) say less than others.
        let before = self.links.remove(&facts.index);
        let (name, mac) = before.map(|known| (known.name, known.mac)).unzip();
        let Some(name) = facts.name.map(Arc::from).or(name) else {
            return;
        };
        let known = Known {
            name,
            mac: facts.mac.or(mac.flatten()),
            ethernet: facts.ethernet,
            up: facts.up,
            running: facts.running,
        };
        self.links.insert(facts.index, known);
    }

    fn address_gone(&mut self, gone: Address) {
        self.addresses.remove(&gone);
        let index = gone.index;
        let left = (self.addresses.iter())
            .any(|address| address.index == index && address.local.is_ipv4());
        if gone.local.is_ipv4() && !left {
            // With its last address IPv4 is off on an interface, and its routes go unsaid as well
            // (fib_disable_ip).
            (self.defaults).retain(|default| default.ipv6 || default.hop.index != index);
        }
    }

    /// Every interface that has Ethernet neighbours.
    pub(super) fn links(&self) -> Vec<Link> {
        let [default_v4, default_v6] = [false, true].map(|ipv6| self.default_links(ipv6));
        let link = |(index, known): (&u32, &Known)| {
            Some(Link {
                index: *index,
                name: Arc::clone(&known.name),
                mac: known.mac.filter(|mac| known.ethernet && mac.is_unicast())?,
                up: known.is_up(),
                prefixes: self.prefixes(*index),
                default_route_v4: default_v4.contains(index),
                default_route_v6: default_v6.contains(index),
            })
        };
        self.links.iter().filter_map(link).collect()
    }

    /// Of the interfaces that are up, those that the default route with the lowest metric takes.
    fn default_links(&self, ipv6: bool) -> BTreeSet<u32> {
        let is_up = |index| self.links.get(index).is_some_and(Known::is_up);
        let mut usable = (self.defaults.iter())
            .filter(|default| default.ipv6 == ipv6 && is_up(&default.hop.index))
            .peekable();
        let Some(best) = usable.peek().map(|default| default.metric) else {
            return BTreeSet::new();
        };
        usable
            .take_while(|default| default.metric == best)
            .map(|default| default.hop.index)
            .collect()
    }

    fn prefixes(&self, index: u32) -> Vec<IpNet> {
        let of_link = (self.addresses.iter()).filter(|address| address.index == index);
        let mut prefixes: Vec<IpNet> = of_link
            .filter_map(|address| IpNet::new(address.on_link, address.prefix_length).ok())
            .map(|prefix| prefix.trunc())
            .collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }
}

impl Known {
    const fn is_up(&self) -> bool {
        self.up && self.running
    }
}

fn hops(route: Route) -> impl Iterator<Item = Default> {
    let Route { ipv6, metric, hops } = route;
    (hops.into_iter()).map(move |hop| Default { ipv6, metric, hop })
}
