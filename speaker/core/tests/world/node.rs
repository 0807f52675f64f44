//! A node: its process, its links, and what is under way to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use speaker_core::{Input, Key, KeyRing, Link, Now, Peer, Report, Settings, Speaker};
use wire::Mac;

use super::{Event, weight};

pub struct Node {
    pub name: Arc<str>,
    pub number: usize,
    pub mac: Mac,
    pub group: usize,
    pub speaker: Option<Speaker>,
    pub process: u32,
    pub is_stopped: bool,
    pub inbox: Vec<Event>,
    pub wake: Option<Duration>,
    pub is_listening: bool,
    pub report: Option<Report>,
    pub has_link: bool,
    /// Of the watch: events arrive up to this late, in milliseconds.
    pub lag: Option<u64>,
    pub is_watching: bool,
    pub is_stuck: bool,
    pub is_list_broken: bool,
    pub sent: usize,
    pub watched_at: Duration,
    pub relists: u32,
    pub restart_after: Option<Duration>,
}

impl Node {
    pub fn new(number: usize) -> Self {
        let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
        Self {
            name: format!("node-{number}").into(),
            number,
            mac: Mac([2, 0, 0, 0, high, low]),
            group: 0,
            speaker: None,
            process: 0,
            is_stopped: false,
            inbox: Vec::new(),
            wake: None,
            is_listening: false,
            report: None,
            has_link: true,
            lag: None,
            is_watching: false,
            is_stuck: false,
            is_list_broken: false,
            sent: 0,
            watched_at: Duration::ZERO,
            relists: 0,
            restart_after: None,
        }
    }

    pub fn ip(&self) -> IpAddr {
        let [_, _, high, low] = u32::try_from(self.number + 1).unwrap().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), 7947)
    }

    pub fn peer(&self) -> Peer {
        Peer {
            addresses: vec![self.ip()],
            pools: vec![weight("lan", 1)],
            last_choice: false,
            excluded: false,
        }
    }

    pub fn links(&self) -> Vec<Link> {
        let prefixes = ["203.0.113.0/24", "198.18.0.0/15", "2001:db8::/64"];
        let link = Link {
            index: 1,
            name: "eth0".into(),
            mac: self.mac,
            up: true,
            prefixes: prefixes
                .iter()
                .map(|prefix| prefix.parse().unwrap())
                .collect(),
            default_route_v4: false,
            default_route_v6: false,
        };
        if self.has_link {
            vec![link]
        } else {
            Vec::new()
        }
    }

    pub fn start(&mut self, now: Now, boot: u64, seed: u64, rejoin_delay: Duration) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut settings = Settings::new(self.name.clone(), boot, bytes);
        settings.rejoin_delay = rejoin_delay;
        let mut speaker = Speaker::new(settings, now);
        speaker.handle(Input::Keys(KeyRing::new(vec![Key::new(0, [7; 32])])), now);
        speaker.handle(Input::Links(&self.links()), now);
        self.process += 1;
        self.speaker = Some(speaker);
        self.wake = None;
        self.is_watching = false;
        self.report = None;
    }

    pub fn kill(&mut self) {
        self.speaker = None;
        self.process += 1;
        self.is_stopped = false;
        self.inbox.clear();
        self.is_listening = false;
        self.is_watching = false;
        self.report = None;
    }
}
