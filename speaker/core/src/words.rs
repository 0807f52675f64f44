//! What the speaker is told about the world, in its own words. Facts only: nothing here decides.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use wire::Mac;

/// The present, by two clocks. Intervals are measured on the first alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed instant; never goes back, and does not stand still while the process is
    /// stopped.
    pub mono: Duration,
    /// Unix milliseconds: for times that are told, and for the age of keys.
    pub wall: i64,
}

/// One address of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Globs of interfaces (`*` and `?`). None: those with an address in whose on-link prefix
    /// `ip` lies, else the default route's.
    pub interfaces: Option<Vec<Arc<str>>>,
}

/// A group of addresses that have one owner, as the controller wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Every pool of these addresses: a node must be allowed for each.
    pub pools: Vec<Arc<str>>,
    /// Whose addresses they are, as `namespace/name`.
    pub services: Vec<Arc<str>>,
    /// Only these nodes; None: any allowed one.
    pub nodes: Option<Vec<Arc<str>>>,
}

/// A pool that a node may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWeight {
    /// The pool's name.
    pub name: Arc<str>,
    /// 1 to 100: the share of its addresses, against the other nodes' weights.
    pub weight: u8,
}

/// What the controller says about one node (its `Speaker` object).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// InternalIPs; the first is where its peers reach it.
    pub addresses: Vec<IpAddr>,
    /// The pools that it may announce.
    pub pools: Vec<PoolWeight>,
    /// Only when no other node is left.
    pub last_choice: bool,
    /// Never.
    pub excluded: bool,
}

/// The two kinds that a speaker watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Announcement` objects.
    Announcements,
    /// `Speaker` objects.
    Peers,
}

/// A network interface of this machine as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its hardware address.
    pub mac: Mac,
    /// Up, with a carrier.
    pub up: bool,
    /// On-link prefixes of its addresses.
    pub prefixes: Vec<IpNet>,
    /// Whether the default route for IPv4 leaves here.
    pub default_route_v4: bool,
    /// Whether the default route for IPv6 leaves here.
    pub default_route_v6: bool,
}
