//! A node: its process, its links, and what is under way to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use speaker_core::{Input, Key, KeyRing, Link, Now, Peer, Report, Settings, Speaker};
use wire::Mac;

use super::{Event, weight};

pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) number: usize,
    pub(crate) mac: Mac,
    pub(crate) group: usize,
    pub(crate) speaker: Option<Speaker>,
    pub(crate) process: u32,
    pub(crate) is_stopped: bool,
    pub(crate) inbox: Vec<Event>,
    pub(crate) wake: Option<Duration>,
    pub(crate) is_listening: bool,
    pub(crate) report: Option<Report>,
    pub(crate) has_link: bool,
    /// Its link is down.
    pub(crate) is_unplugged: bool,
    /// Since when its kernel asks in vain for its neighbours' hardware addresses.
    pub(crate) in_vain: Option<Duration>,
    /// Of the watch: events arrive up to this late, in milliseconds.
    pub(crate) lag: Option<u64>,
    pub(crate) is_watching: bool,
    pub(crate) is_stuck: bool,
    pub(crate) is_list_broken: bool,
    pub(crate) sent: usize,
    pub(crate) watched_at: Duration,
    pub(crate) relists: u32,
    pub(crate) restart_after: Option<Duration>,
}

impl Node {
    pub(crate) fn new(number: usize) -> Self {
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
            is_unplugged: false,
            in_vain: None,
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

    pub(crate) fn ip(&self) -> IpAddr {
        let [_, _, high, low] = u32::try_from(self.number + 1).unwrap().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    /// Whose address that is.
    pub(crate) fn number_at(addr: SocketAddr) -> Option<usize> {
        match addr.ip() {
            IpAddr::V4(ip) => {
                let [_, _, high, low] = ip.octets();
                usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
            }
            IpAddr::V6(_) => None,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), 7947)
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            addresses: vec![self.ip()],
            pools: vec![weight("lan", 1)],
            last_choice: false,
            excluded: false,
        }
    }

    /// When its kernel asks next for a neighbour that it has asked for in vain: every second.
    fn asks_again(&self, now: Duration) -> Option<Duration> {
        let mut at = self.in_vain?;
        while at < now {
            at += Duration::from_secs(1);
        }
        Some(at)
    }

    /// When a datagram of its leaves; `None`: never.
    pub(crate) fn leaves(&mut self, now: Duration) -> Option<Duration> {
        if self.is_unplugged {
            self.in_vain.get_or_insert(now);
            return None;
        }
        let at = self.asks_again(now).unwrap_or(now);
        if at <= now {
            self.in_vain = None;
        }
        Some(at)
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        let prefixes = [
            "10.0.0.0/16",
            "203.0.113.0/24",
            "198.18.0.0/15",
            "2001:db8::/64",
        ];
        let link = Link {
            index: 1,
            name: "eth0".into(),
            mac: self.mac,
            up: !self.is_unplugged,
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

    pub(crate) fn start(&mut self, now: Now, boot: u64, seed: u64, rejoin_delay: Duration) {
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

    pub(crate) fn kill(&mut self) {
        self.speaker = None;
        self.process += 1;
        self.is_stopped = false;
        self.inbox.clear();
        self.is_listening = false;
        self.is_watching = false;
        self.report = None;
    }
}
