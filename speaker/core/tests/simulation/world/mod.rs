//! A simulated network of nodes that run the real `Speaker`, on virtual time: datagrams and frames
//! are late, lost or cut off; watches lag; processes are stopped, killed and started; clients ask by
//! ARP and NDP and remember who answered.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption must end the test; not every suite uses everything"
)]

pub(crate) mod client;
pub(crate) mod node;
mod seen;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use speaker_core::{Address, Announcement, Effect, Input, Kind, Now, Peer, PoolWeight};
use wire::Mac;

pub(crate) use client::Client;
pub(crate) use node::Node;

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const EPOCH: i64 = 1_800_000_000;

/// An object as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Announcement(Arc<str>, Option<Announcement>),
    Peer(Arc<str>, Option<Peer>),
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Wake(usize),
    Datagram {
        to: usize,
        bytes: Arc<[u8]>,
        from: SocketAddr,
    },
    Frame {
        to: Station,
        bytes: Arc<[u8]>,
    },
    Watch {
        node: usize,
        process: u32,
        index: usize,
    },
    List {
        node: usize,
        process: u32,
    },
    Ask(usize),
    Start(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Station {
    Node(usize),
    Client(usize),
}

struct Due(Duration, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) largest: usize,
    pub(crate) frames: u64,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: fastrand::Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) loss: f64,
    /// Microseconds.
    pub(crate) delay: std::ops::Range<u64>,
    pub(crate) rejoin_delay: Duration,
    pub(crate) max_lag: u64,
    pub(crate) is_api_up: bool,
    /// Nodes do not hear each other's frames: of many, the kernel's filters drop nearly all.
    pub(crate) is_deaf: bool,
    pub(crate) log: Vec<(u64, Change)>,
    pub(crate) current: BTreeMap<(bool, Arc<str>), (u64, Change)>,
    pub(crate) version: u64,
    pub(crate) counts: Counts,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
}

impl World {
    /// Nodes that are known and not started.
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut world = Self {
            now: secs(10),
            rng: fastrand::Rng::with_seed(seed),
            nodes: Vec::new(),
            clients: Vec::new(),
            loss: 0.0,
            delay: 100..2_000,
            rejoin_delay: secs(30),
            max_lag: 50,
            is_api_up: true,
            is_deaf: false,
            log: Vec::new(),
            current: BTreeMap::new(),
            version: 1_000,
            counts: Counts::default(),
            queue: BinaryHeap::new(),
            number: 0,
        };
        for number in 0..nodes {
            let node = Node::new(number);
            let (name, peer) = (node.name.clone(), node.peer());
            world.nodes.push(node);
            world.write(Change::Peer(name, Some(peer)));
        }
        world
    }

    /// Nodes that have settled together.
    pub(crate) fn settled(seed: u64, nodes: usize, ips: &[&str]) -> Self {
        let mut world = Self::new(seed, nodes);
        for ip in ips {
            world.announce(ip, None);
        }
        for node in 0..nodes {
            world.start(node);
        }
        world.run(secs(8));
        world.assert_converged();
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            mono: self.now,
            wall: EPOCH * 1_000 + i64::try_from(self.now.as_millis()).unwrap(),
        }
    }

    pub(crate) fn push(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.queue.push(Reverse(Due(at, self.number, event)));
    }

    // --- objects ---

    pub(crate) fn announce(&mut self, ip: &str, nodes: Option<&[usize]>) {
        self.announce_group(ip, &[ip], nodes);
    }

    pub(crate) fn announce_group(&mut self, name: &str, ips: &[&str], nodes: Option<&[usize]>) {
        let names = nodes.map(|nodes| nodes.iter().map(|n| self.nodes[*n].name.clone()).collect());
        let spec = Announcement {
            addresses: (ips.iter())
                .map(|ip| Address {
                    ip: ip.parse().unwrap(),
                    interfaces: None,
                })
                .collect(),
            pools: vec!["lan".into()],
            services: vec![format!("shop/{name}").into()],
            nodes: names,
        };
        self.write(Change::Announcement(name.into(), Some(spec)));
    }

    pub(crate) fn write_peer(&mut self, node: usize, change: impl FnOnce(&mut Peer)) {
        let name = self.nodes[node].name.clone();
        let Some((_, Change::Peer(_, Some(peer)))) = self.current.get(&(true, name.clone())) else {
            panic!("no such node");
        };
        let mut peer = peer.clone();
        change(&mut peer);
        self.write(Change::Peer(name, Some(peer)));
    }

    pub(crate) fn write(&mut self, change: Change) {
        self.version += 1;
        let (key, is_gone) = match &change {
            Change::Announcement(name, spec) => ((false, name.clone()), spec.is_none()),
            Change::Peer(name, spec) => ((true, name.clone()), spec.is_none()),
        };
        if is_gone {
            self.current.remove(&key);
        } else {
            self.current.insert(key, (self.version, change.clone()));
        }
        self.log.push((self.version, change));
        if self.is_api_up {
            (0..self.nodes.len()).for_each(|node| self.watch(node));
        }
    }

    /// Sends a node the events that it has not been sent.
    fn watch(&mut self, node: usize) {
        let (max_lag, now) = (self.max_lag, self.now);
        let at = &mut self.nodes[node];
        if !at.is_watching || at.is_stuck {
            return;
        }
        let lag = at.lag.unwrap_or(max_lag);
        for index in at.sent..self.log.len() {
            let when = (now + ms(self.rng.u64(0..=lag))).max(self.nodes[node].watched_at);
            self.nodes[node].watched_at = when;
            let process = self.nodes[node].process;
            self.push(
                when,
                Event::Watch {
                    node,
                    process,
                    index,
                },
            );
        }
        self.nodes[node].sent = self.log.len();
    }

    pub(crate) fn set_api(&mut self, is_up: bool) {
        self.is_api_up = is_up;
        if is_up {
            for node in 0..self.nodes.len() {
                self.watch(node);
                if self.nodes[node].speaker.is_some() && !self.nodes[node].is_watching {
                    let process = self.nodes[node].process;
                    self.push(self.now + ms(20), Event::List { node, process });
                }
            }
        }
    }

    // --- processes ---

    pub(crate) fn start(&mut self, node: usize) {
        let (now, delay, seed) = (self.now(), self.rejoin_delay, self.rng.u64(..));
        let boot = u64::try_from(EPOCH).unwrap() * 1_000_000_000
            + u64::try_from(self.now.as_nanos()).unwrap();
        self.nodes[node].start(now, boot, seed, delay);
        if self.is_api_up {
            let process = self.nodes[node].process;
            let lag = self.rng.u64(5..=60);
            self.push(self.now + ms(lag), Event::List { node, process });
        }
        self.drain(node);
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].is_stopped = true;
    }

    pub(crate) fn resume(&mut self, node: usize) {
        self.nodes[node].is_stopped = false;
        let inbox = std::mem::take(&mut self.nodes[node].inbox);
        for event in inbox {
            self.deliver(event);
        }
        self.wake(node);
    }

    pub(crate) fn leave(&mut self, node: usize) {
        self.input(node, Input::Leave);
    }

    /// Each node is put into a group; who is in another one is not reached.
    pub(crate) fn split(&mut self, groups: &[&[usize]]) {
        for (group, members) in groups.iter().enumerate() {
            for node in *members {
                self.nodes[*node].group = group;
            }
        }
    }

    /// Takes a node off the network, and its interface is down.
    pub(crate) fn unplug(&mut self, node: usize) {
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| *other != node)
            .collect();
        self.split(&[&others, &[node]]);
        self.nodes[node].is_unplugged = true;
        let links = self.nodes[node].links();
        self.input(node, Input::Links(&links));
    }

    /// Its interface is up again; who is in its group is reached.
    pub(crate) fn plug(&mut self, node: usize) {
        self.nodes[node].is_unplugged = false;
        let links = self.nodes[node].links();
        self.input(node, Input::Links(&links));
    }

    pub(crate) fn heal(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.group = 0);
        self.clients.iter_mut().for_each(|client| client.group = 0);
    }

    // --- time ---

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(Reverse(due)) = self.queue.peek()
            && due.0 <= end
        {
            let Some(Reverse(Due(at, _, event))) = self.queue.pop() else {
                break;
            };
            self.now = self.now.max(at);
            self.deliver(event);
        }
        self.now = end;
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Wake(node) => {
                if self.nodes[node].wake == Some(self.now) {
                    self.wake(node);
                }
            }
            Event::Datagram { to, .. }
            | Event::Frame {
                to: Station::Node(to),
                ..
            } if self.nodes[to].is_stopped => {
                if self.nodes[to].inbox.len() < 2_000 {
                    self.nodes[to].inbox.push(event);
                }
            }
            Event::Datagram { to, bytes, from } => {
                self.input(
                    to,
                    Input::Datagram {
                        from,
                        bytes: &bytes,
                    },
                );
            }
            Event::Frame {
                to: Station::Node(to),
                bytes,
            } => {
                if self.nodes[to].is_listening {
                    self.input(
                        to,
                        Input::Frame {
                            link: 1,
                            bytes: &bytes,
                        },
                    );
                }
            }
            Event::Frame {
                to: Station::Client(to),
                bytes,
            } => {
                let now = self.now;
                self.clients[to].hear(&bytes, now);
            }
            Event::Watch {
                node,
                process,
                index,
            } => {
                if self.nodes[node].is_stopped {
                    self.nodes[node].inbox.push(Event::Watch {
                        node,
                        process,
                        index,
                    });
                } else if self.nodes[node].process == process {
                    let (version, change) = self.log[index].clone();
                    self.show(node, version, change);
                }
            }
            Event::List { node, process } => {
                if self.nodes[node].is_stopped {
                    self.nodes[node].inbox.push(Event::List { node, process });
                } else if self.nodes[node].process == process {
                    self.list(node);
                }
            }
            Event::Ask(client) => self.ask(client),
            Event::Start(node) => self.start(node),
        }
    }

    fn show(&mut self, node: usize, version: u64, change: Change) {
        match change {
            Change::Announcement(name, spec) => {
                self.input(
                    node,
                    Input::Announcement {
                        name,
                        version,
                        spec,
                    },
                );
            }
            Change::Peer(name, spec) => {
                self.input(
                    node,
                    Input::Peer {
                        node: name,
                        version,
                        spec,
                    },
                );
            }
        }
    }

    fn list(&mut self, node: usize) {
        if !self.is_api_up || self.nodes[node].is_list_broken {
            return;
        }
        self.nodes[node].is_watching = true;
        self.nodes[node].is_stuck = false;
        self.nodes[node].sent = self.log.len();
        for kind in [Kind::Announcements, Kind::Peers] {
            self.input(node, Input::Restarted(kind));
        }
        let objects: Vec<(u64, Change)> = self.current.values().cloned().collect();
        for (version, change) in objects {
            self.show(node, version, change);
        }
        for kind in [Kind::Announcements, Kind::Peers] {
            self.input(node, Input::Synced(kind));
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        let now = self.now();
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.handle(input, now);
            self.drain(node);
        }
    }

    fn wake(&mut self, node: usize) {
        self.nodes[node].wake = None;
        if !self.nodes[node].is_stopped {
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        let now = self.now();
        while let Some(effect) = (self.nodes[node].speaker.as_mut()).and_then(|s| s.poll(now)) {
            match effect {
                Effect::Datagram { to, bytes } => self.datagram(node, to, bytes),
                Effect::Frame { link: _, bytes } => self.frame(Station::Node(node), bytes),
                Effect::Listen { link: _, filter } => {
                    self.nodes[node].is_listening = filter.is_some();
                }
                Effect::Join { .. } | Effect::Part { .. } => {}
                Effect::Report(report) => self.nodes[node].report = Some(report),
                Effect::Relist => {
                    let process = self.nodes[node].process;
                    self.nodes[node].relists += 1;
                    self.push(self.now + ms(30), Event::List { node, process });
                }
                Effect::Done => {
                    self.nodes[node].kill();
                    if let Some(after) = self.nodes[node].restart_after.take() {
                        self.push(self.now + after, Event::Start(node));
                    }
                }
            }
        }
        let deadline = self.nodes[node].speaker.as_ref().and_then(|s| s.deadline());
        if let Some(deadline) = deadline {
            let at = deadline.max(self.now + Duration::from_micros(20));
            if self.nodes[node]
                .wake
                .is_none_or(|wake| at < wake || wake < self.now)
            {
                self.nodes[node].wake = Some(at);
                self.push(at, Event::Wake(node));
            }
        }
    }

    // --- the network ---

    fn late(&mut self) -> Duration {
        self.now + Duration::from_micros(self.rng.u64(self.delay.clone()))
    }

    fn datagram(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.counts.datagrams += 1;
        self.counts.bytes += bytes.len() as u64;
        self.counts.largest = self.counts.largest.max(bytes.len());
        let Some(leaves) = self.nodes[from].leaves(self.now) else {
            return;
        };
        let node = Node::number_at(to).filter(|number| *number < self.nodes.len());
        let Some(to) = node.filter(|to| self.nodes[*to].group == self.nodes[from].group) else {
            return;
        };
        if self.rng.f64() < self.loss || self.nodes[to].speaker.is_none() {
            return;
        }
        let at = self.late() + leaves.saturating_sub(self.now);
        let from = self.nodes[from].addr();
        let bytes = bytes.into();
        self.push(at, Event::Datagram { to, bytes, from });
    }

    fn group_of(&self, station: Station) -> usize {
        match station {
            Station::Node(node) => self.nodes[node].group,
            Station::Client(client) => self.clients[client].group,
        }
    }

    pub(crate) fn frame(&mut self, from: Station, bytes: Vec<u8>) {
        self.counts.frames += 1;
        let group = self.group_of(from);
        let to = Mac(bytes[..6].try_into().unwrap());
        let bytes: Arc<[u8]> = bytes.into();
        let is_heard = !(self.is_deaf && matches!(from, Station::Node(_)));
        let nodes = (0..self.nodes.len())
            .filter(|_| is_heard)
            .map(Station::Node);
        let clients = (0..self.clients.len()).map(Station::Client);
        let stations: Vec<Station> = nodes
            .chain(clients)
            .filter(|station| *station != from && self.group_of(*station) == group)
            .filter(|station| {
                to.is_group()
                    || match station {
                        Station::Node(node) => self.nodes[*node].mac == to,
                        Station::Client(client) => self.clients[*client].mac == to,
                    }
            })
            .collect();
        for station in stations {
            let at = self.late();
            self.push(
                at,
                Event::Frame {
                    to: station,
                    bytes: bytes.clone(),
                },
            );
        }
    }
}

pub(crate) fn weight(name: &str, weight: u8) -> PoolWeight {
    PoolWeight {
        name: name.into(),
        weight,
    }
}
