//! What a frame asks and what it claims. Knows nothing of what we own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ndp::{Kind, Message};
use crate::{Mac, arp};

/// A frame that says something about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Arp(arp::Packet),
    Ndp(Message),
}

/// A question, and who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// For an IPv4 address, by a station with an address or, in a probe, without.
    Arp {
        ip: Ipv4Addr,
        asker: Mac,
        asker_ip: Ipv4Addr,
    },
    /// For an IPv6 address, by a station with an address.
    Ndp {
        ip: Ipv6Addr,
        asker: Mac,
        asker_ip: Ipv6Addr,
    },
    /// For an IPv6 address, before somebody takes it: that it is taken is for everybody.
    Probe { ip: Ipv6Addr },
}

impl Heard {
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        (arp::Packet::read(frame).map(Self::Arp)).or_else(|| Message::read(frame).map(Self::Ndp))
    }

    /// Every station that the frame says it is from: if one of them is ours, we hear ourselves.
    pub(super) fn stations(&self) -> impl Iterator<Item = Mac> {
        let (source, inner) = match self {
            Self::Arp(packet) => (packet.source, Some(packet.sender_mac)),
            Self::Ndp(message) => (message.source, message.link_layer),
        };
        std::iter::once(source).chain(inner)
    }

    /// The question in it, if it is for everybody, a group, or `own`, and the asker can be answered.
    pub(super) fn asked(&self, own: Mac) -> Option<Asked> {
        match self {
            Self::Arp(packet) => {
                let asks = packet.operation == arp::Operation::Request
                    && packet.sender_ip != packet.target_ip
                    && (packet.destination.is_group() || packet.destination == own)
                    && packet.sender_mac.is_unicast();
                asks.then_some(Asked::Arp {
                    ip: packet.target_ip,
                    asker: packet.sender_mac,
                    asker_ip: packet.sender_ip,
                })
            }
            Self::Ndp(message) => {
                let Kind::Solicitation = message.kind else {
                    return None;
                };
                if !(message.destination.is_group() || message.destination == own) {
                    return None;
                }
                let ip = message.target;
                if message.from.is_unspecified() {
                    return Some(Asked::Probe { ip });
                }
                let asker = message.link_layer.unwrap_or(message.source);
                let can_be_answered = asker.is_unicast() && !message.from.is_loopback();
                can_be_answered.then_some(Asked::Ndp {
                    ip,
                    asker,
                    asker_ip: message.from,
                })
            }
        }
    }

    /// The address that the frame says its sender has, or is about to take, and where.
    pub(super) fn claimed(&self) -> Option<(IpAddr, Mac)> {
        match self {
            // A probe claims nothing: it asks first (RFC 5227 2.1.1).
            Self::Arp(packet) => (!packet.sender_ip.is_unspecified())
                .then_some((packet.sender_ip.into(), packet.sender_mac)),
            Self::Ndp(message) => match message.kind {
                Kind::Advertisement { .. } => {
                    let mac = message.link_layer.unwrap_or(message.source);
                    Some((message.target.into(), mac))
                }
                // Two may probe at once, so RFC 4862 5.4.3 takes a probe for a conflict.
                Kind::Solicitation => (message.from.is_unspecified())
                    .then_some((message.target.into(), message.source)),
            },
        }
    }
}

impl Asked {
    pub(super) const fn ip(&self) -> IpAddr {
        match self {
            Self::Arp { ip, .. } => IpAddr::V4(*ip),
            Self::Ndp { ip, .. } | Self::Probe { ip } => IpAddr::V6(*ip),
        }
    }

    /// The frame that answers: the address is at `own`.
    pub(super) fn answer(&self, own: Mac) -> Vec<u8> {
        match *self {
            Self::Arp {
                ip,
                asker,
                asker_ip,
            } => arp::Packet::reply(own, ip, asker, asker_ip).write(),
            Self::Ndp {
                ip,
                asker,
                asker_ip,
            } => Message::advertisement(own, ip, asker, asker_ip).write(),
            Self::Probe { ip } => Message::announcement(own, ip).write(),
        }
    }
}
