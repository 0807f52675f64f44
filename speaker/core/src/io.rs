//! What goes into a speaker and what comes out: the whole interface to the shell.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wire::Mac;
use wire::filter::Filter;

use crate::keys::KeyRing;
use crate::words::{Announcement, Kind, Link, Peer};

/// What a speaker is and how patient it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: Arc<str>,
    /// When this process began, in Unix nanoseconds: tells it from its predecessors.
    pub boot: u64,
    /// From the operating system's entropy, never used twice: nonces come from it.
    pub seed: [u8; 32],
    /// UDP port at which every speaker hears its peers.
    pub port: u16,
    /// How long a node that (re)turns must live before it takes anything from others.
    pub rejoin_delay: Duration,
    /// How often one peer is probed.
    pub probe_period: Duration,
    /// How long a direct answer to a probe may take.
    pub probe_rtt: Duration,
    /// How long a suspect may take to speak up.
    pub suspicion: Duration,
    /// How announcements are repeated.
    pub wire: wire::Settings,
}

impl Settings {
    /// The defaults for the node of that name.
    #[must_use]
    pub fn new(node: Arc<str>, boot: u64, seed: [u8; 32]) -> Self {
        Self {
            node,
            boot,
            seed,
            port: 7947,
            rejoin_delay: Duration::from_secs(30),
            probe_period: Duration::from_millis(100),
            probe_rtt: Duration::from_millis(40),
            suspicion: Duration::from_millis(250),
            wire: wire::Settings::default(),
        }
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// An `Announcement` object came, changed or (None) went.
    Announcement {
        /// Its name.
        name: Arc<str>,
        /// Its resourceVersion.
        version: u64,
        /// None: deleted.
        spec: Option<Announcement>,
    },
    /// A `Speaker` object came, changed or (None) went.
    Peer {
        /// The node's name.
        node: Arc<str>,
        /// Its resourceVersion.
        version: u64,
        /// None: deleted.
        spec: Option<Peer>,
    },
    /// A list of that kind begins: every object that exists comes again.
    Restarted(Kind),
    /// The list is complete: what did not come again is gone.
    Synced(Kind),
    /// All interfaces, whenever one changed.
    Links(&'a [Link]),
    /// The keys, at the start and whenever they changed.
    Keys(KeyRing),
    /// A datagram from the peers' port.
    Datagram {
        /// Where the kernel says that it came from.
        from: SocketAddr,
        /// Its payload.
        bytes: &'a [u8],
    },
    /// A frame that the filter let through.
    Frame {
        /// The interface's index.
        link: u32,
        /// From the Ethernet header on.
        bytes: &'a [u8],
    },
    /// SIGTERM: hand over, then end.
    Leave,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this datagram from the peers' port.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// Payload.
        bytes: Vec<u8>,
    },
    /// Send this frame.
    Frame {
        /// The interface's index.
        link: u32,
        /// From the Ethernet header on.
        bytes: Vec<u8>,
    },
    /// Have a packet socket on that interface with exactly this filter; None: close it.
    /// Idempotent; a new one replaces the filter.
    Listen {
        /// The interface's index.
        link: u32,
        /// Which frames are wanted.
        filter: Option<Filter>,
    },
    /// Join that multicast group on that interface.
    Join {
        /// The interface's index.
        link: u32,
        /// The group.
        group: Ipv6Addr,
    },
    /// Leave it.
    Part {
        /// The interface's index.
        link: u32,
        /// The group.
        group: Ipv6Addr,
    },
    /// What the `SpeakerStatus` should say. The newest counts; the shell paces the writes.
    Report(Report),
    /// Peers have seen newer objects for some time: begin both watches anew (`Restarted` and
    /// `Synced` of both kinds are expected). Without it a watch that hangs unnoticed would stay so.
    Relist,
    /// After `Leave`: everything is handed over, the process may end.
    Done,
}

/// What this node announces and cannot announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The Services whose addresses are announced, sorted.
    pub services: Vec<Arc<str>>,
    /// By address, sorted.
    pub announced: Vec<Announced>,
    /// By pool, sorted.
    pub unable: Vec<Unable>,
}

/// An address that this node answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The address.
    pub ip: IpAddr,
    /// On these interfaces, sorted.
    pub interfaces: Vec<Arc<str>>,
    /// Unix milliseconds.
    pub since: i64,
    /// A foreign machine that claims it too.
    pub conflict: Option<Mac>,
}

/// A pool that this node may announce and cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// The pool's name.
    pub pool: Arc<str>,
    /// What is missing, for people.
    pub message: Arc<str>,
}

/// How settled a speaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for objects, keys or its own address; talks to nobody.
    Waiting,
    /// Alive for less than the rejoin delay: owns only what no settled node can.
    Joining,
    /// A full candidate.
    Settled,
    /// Hands over and will end.
    Leaving,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Addresses that this node answers for.
    pub owned: usize,
    /// How often an address became owned.
    pub takeovers: u64,
    /// How often a claim by somebody who is no live peer was seen.
    pub conflicts: u64,
    /// Requests answered.
    pub answered: u64,
    /// Live peers, without this node.
    pub peers: usize,
    /// Datagrams that no key opens or that came twice.
    pub refused: u64,
    /// How often a dead peer was found by this node itself.
    pub deaths: u64,
    /// Ownership scores computed.
    pub scores: u64,
    /// How settled this node is.
    pub phase: Phase,
    /// Whether it is silent for now: it may have been stopped, or does not know its peers yet.
    pub silent: bool,
}
