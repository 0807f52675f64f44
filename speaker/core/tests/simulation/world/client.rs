//! A client on the same network: asks every 10 ms, and notes who answers which question and what it
//! hears.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use wire::{Mac, arp, ndp};

use super::{Event, Station, World, ms};

pub(crate) const EVERY: Duration = Duration::from_millis(10);
/// It asks from so many addresses in turn, so that each answer within 640 ms tells its question.
const SOURCES: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) at: Duration,
    pub(crate) ip: IpAddr,
    /// When, and which node.
    pub(crate) answers: Vec<(Duration, usize)>,
}

pub(crate) struct Client {
    pub(crate) mac: Mac,
    pub(crate) group: usize,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) asks: Vec<Ask>,
    /// The last ask of each address from each source.
    open: BTreeMap<(IpAddr, IpAddr), usize>,
    /// What it would send to.
    pub(crate) cache: BTreeMap<IpAddr, usize>,
    pub(crate) until: Duration,
    rounds: usize,
}

/// The source of a round, in the family of who is asked.
fn source(round: usize, ip: IpAddr) -> IpAddr {
    let low = u8::try_from(round % SOURCES).unwrap();
    match ip {
        IpAddr::V4(_) => Ipv4Addr::new(203, 0, 114, low).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(low)).into(),
    }
}

impl Client {
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Duration) {
        let (ip, mac, asker) = if let Some(packet) = arp::Packet::read(bytes) {
            let is_answer =
                packet.operation == arp::Operation::Reply && packet.target_mac == self.mac;
            let asker = is_answer.then_some(IpAddr::V4(packet.target_ip));
            (IpAddr::V4(packet.sender_ip), packet.sender_mac, asker)
        } else if let Some(message) = ndp::Message::read(bytes) {
            let ndp::Kind::Advertisement { solicited, .. } = message.kind else {
                return;
            };
            (
                IpAddr::V6(message.target),
                message.link_layer.unwrap(),
                solicited.then_some(IpAddr::V6(message.to)),
            )
        } else {
            return;
        };
        let [2, 0, 0, 0, high, low] = mac.0 else {
            return;
        };
        let node = usize::from(u16::from_be_bytes([high, low]));
        self.cache.insert(ip, node);
        if let Some(asker) = asker
            && let Some(ask) = self.open.get(&(ip, asker))
        {
            self.asks[*ask].answers.push((now, node));
        }
    }

    pub(crate) fn unanswered(&self, ip: &str, from: Duration, to: Duration) -> Vec<Duration> {
        (self.asks_of(ip, from, to))
            .filter(|ask| ask.answers.is_empty())
            .map(|ask| ask.at)
            .collect()
    }

    pub(crate) fn asks_of(
        &self,
        ip: &str,
        from: Duration,
        to: Duration,
    ) -> impl Iterator<Item = &Ask> {
        let ip: IpAddr = ip.parse().unwrap();
        (self.asks.iter()).filter(move |ask| ask.ip == ip && ask.at >= from && ask.at < to)
    }

    /// Questions that two nodes answered.
    pub(crate) fn doubled(&self, from: Duration, to: Duration) -> Vec<&Ask> {
        (self.asks.iter())
            .filter(|ask| ask.at >= from && ask.at < to)
            .filter(|ask| {
                ask.answers
                    .iter()
                    .any(|(_, node)| *node != ask.answers[0].1)
            })
            .collect()
    }

    /// From then to the next answer.
    pub(crate) fn outage(&self, ip: &str, from: Duration) -> Option<Duration> {
        let ask = self
            .asks_of(ip, from, Duration::MAX)
            .find(|ask| !ask.answers.is_empty())?;
        Some(ask.answers[0].0 - from)
    }

    pub(crate) fn answers_from(&self, node: usize, from: Duration, to: Duration) -> usize {
        let asks = self.asks.iter().flat_map(|ask| &ask.answers);
        asks.filter(|(at, of)| *of == node && *at >= from && *at < to)
            .count()
    }
}

impl World {
    /// A client that asks for these from now on.
    pub(crate) fn client(&mut self, group: usize, ips: &[&str]) -> usize {
        let number = self.clients.len();
        let low = u8::try_from(200 + number).unwrap();
        self.clients.push(Client {
            mac: Mac([6, 0, 0, 0, 0, low]),
            group,
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            asks: Vec::new(),
            open: BTreeMap::new(),
            cache: BTreeMap::new(),
            until: Duration::MAX,
            rounds: 0,
        });
        self.push(self.now + ms(1), Event::Ask(number));
        number
    }

    pub(super) fn ask(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        if now > client.until {
            return;
        }
        let mut frames = Vec::new();
        for ip in client.ips.clone() {
            let source = source(client.rounds, ip);
            client.open.insert((ip, source), client.asks.len());
            client.asks.push(Ask {
                at: now,
                ip,
                answers: Vec::new(),
            });
            frames.push(match (ip, source) {
                (IpAddr::V4(ip), IpAddr::V4(from)) => {
                    arp::Packet::request(client.mac, from, ip).write()
                }
                (IpAddr::V6(ip), IpAddr::V6(from)) => {
                    ndp::Message::solicitation(client.mac, from, ip).write()
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                    panic!("{ip} is asked for from {source}")
                }
            });
        }
        client.rounds += 1;
        for frame in frames {
            self.frame(Station::Client(number), frame);
        }
        self.push(now + EVERY, Event::Ask(number));
    }
}
