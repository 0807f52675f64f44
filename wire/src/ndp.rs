//! Neighbor Solicitations and Advertisements (RFC 4861): reading and making frames.
//!
//! A message is read only if RFC 4861 7.1 says that it is valid; one behind extension headers or a
//! VLAN tag is not read.

use std::net::Ipv6Addr;

use etherparse::icmpv6::{
    NdpOptionSlice, NdpOptionsIterator, NeighborAdvertisementHeader,
    NeighborAdvertisementPayloadSlice, NeighborSolicitationPayloadSlice,
};
use etherparse::{
    EtherType, Ethernet2Header, Ethernet2HeaderSlice, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
    IpNumber, Ipv6Header, Ipv6HeaderSlice,
};

use crate::Mac;

/// Every node on the link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Proof that no router passed the message on (RFC 4861 7.1).
const HOP_LIMIT: u8 = 255;

/// The group that solicitations for an address are sent to (RFC 4291 2.7.1).
#[must_use]
pub const fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who has the target address?
    Solicitation,
    /// The target address is at the target link-layer address.
    Advertisement {
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what the receiver knows.
        overrides: bool,
    },
}

/// A message and the addresses of the packet and the frame that carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who the frame is for.
    pub destination: Mac,
    /// Which station sent the frame.
    pub source: Mac,
    /// Who sent it; unspecified in a solicitation that looks for duplicates (RFC 4862 5.4).
    pub from: Ipv6Addr,
    /// Whom it is for.
    pub to: Ipv6Addr,
    /// What it says.
    pub kind: Kind,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The source's link-layer address in a solicitation, the target's in an advertisement.
    pub link_layer: Option<Mac>,
}

impl Message {
    /// A solicitation: `mac`, which has `from`, asks for `target`.
    #[must_use]
    pub const fn solicitation(mac: Mac, from: Ipv6Addr, target: Ipv6Addr) -> Self {
        let to = solicited_node(target);
        Self {
            destination: Mac::of_group(to),
            source: mac,
            from,
            to,
            kind: Kind::Solicitation,
            target,
            link_layer: Some(mac),
        }
    }

    /// Whether anybody has `target`, before `mac` takes it (RFC 4862 5.4.2).
    #[must_use]
    pub const fn probe(mac: Mac, target: Ipv6Addr) -> Self {
        Self {
            link_layer: None,
            ..Self::solicitation(mac, Ipv6Addr::UNSPECIFIED, target)
        }
    }

    /// An answer to the station that asked (RFC 4861 7.2.4). It comes from the target itself: nobody
    /// checks the source, but switches that bind addresses to ports learn the right pair from it.
    #[must_use]
    pub const fn advertisement(mac: Mac, target: Ipv6Addr, asker: Mac, asker_ip: Ipv6Addr) -> Self {
        Self {
            destination: asker,
            source: mac,
            from: target,
            to: asker_ip,
            kind: Kind::Advertisement {
                router: false,
                solicited: true,
                overrides: true,
            },
            target,
            link_layer: Some(mac),
        }
    }

    /// An unsolicited advertisement, or the answer to a probe: `mac` has `target`, for everybody
    /// (RFC 4861 7.2.4, 7.2.6).
    #[must_use]
    pub const fn announcement(mac: Mac, target: Ipv6Addr) -> Self {
        Self {
            kind: Kind::Advertisement {
                router: false,
                solicited: false,
                overrides: true,
            },
            ..Self::advertisement(mac, target, Mac::of_group(ALL_NODES), ALL_NODES)
        }
    }

    /// Reads a frame. Bytes after the packet are padding.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        if ethernet.ether_type() != EtherType::IPV6 {
            return None;
        }
        let packet = frame.get(Ethernet2Header::LEN..)?;
        let ip = Ipv6HeaderSlice::from_slice(packet).ok()?;
        if ip.next_header() != IpNumber::IPV6_ICMP || ip.hop_limit() != HOP_LIMIT {
            return None;
        }
        let end = Ipv6Header::LEN.checked_add(ip.payload_length().into())?;
        let icmp = Icmpv6Slice::from_slice(packet.get(Ipv6Header::LEN..end)?).ok()?;
        if !icmp.is_checksum_valid(ip.source(), ip.destination()) {
            return None;
        }
        let (kind, target, options) = read_body(&icmp)?;
        let message = Self {
            destination: Mac(ethernet.destination()),
            source: Mac(ethernet.source()),
            from: ip.source_addr(),
            to: ip.destination_addr(),
            kind,
            target,
            link_layer: read_options(kind, options)?,
        };
        message.is_valid().then_some(message)
    }

    /// What RFC 4861 7.1.1 and 7.1.2 demand beyond the form.
    fn is_valid(&self) -> bool {
        if self.target.is_multicast() || self.from.is_multicast() {
            return false;
        }
        match self.kind {
            Kind::Solicitation if self.from.is_unspecified() => {
                self.to == solicited_node(self.target) && self.link_layer.is_none()
            }
            Kind::Solicitation => true,
            Kind::Advertisement { solicited, .. } => !(self.to.is_multicast() && solicited),
        }
    }

    /// Makes the frame.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        /// Type and length, in units of 8 bytes, of the option with the link-layer address (RFC 4861 4.6.1).
        const OF_SOURCE: [u8; 2] = [1, 1];
        const OF_TARGET: [u8; 2] = [2, 1];
        let (icmp_type, option) = match self.kind {
            Kind::Solicitation => (Icmpv6Type::NeighborSolicitation, OF_SOURCE),
            Kind::Advertisement {
                router,
                solicited,
                overrides,
            } => {
                let flags = NeighborAdvertisementHeader {
                    router,
                    solicited,
                    r#override: overrides,
                };
                (Icmpv6Type::NeighborAdvertisement(flags), OF_TARGET)
            }
        };
        let mut payload = self.target.octets().to_vec();
        if let Some(mac) = self.link_layer {
            payload.extend(option);
            payload.extend(mac.0);
        }
        let (from, to) = (self.from.octets(), self.to.octets());
        // Fails for payloads beyond 4 GiB only.
        let icmp = Icmpv6Header::with_checksum(icmp_type, from, to, &payload)
            .unwrap_or_else(|_| Icmpv6Header::new(icmp_type));
        let icmp = icmp.to_bytes();
        let ethernet = Ethernet2Header {
            source: self.source.0,
            destination: self.destination.0,
            ether_type: EtherType::IPV6,
        };
        let ip = Ipv6Header {
            payload_length: u16::try_from(icmp.len() + payload.len()).unwrap_or(u16::MAX),
            next_header: IpNumber::IPV6_ICMP,
            hop_limit: HOP_LIMIT,
            source: from,
            destination: to,
            ..Ipv6Header::default()
        };
        [&ethernet.to_bytes(), &ip.to_bytes()[..], &icmp, &payload].concat()
    }
}

fn read_body<'a>(icmp: &Icmpv6Slice<'a>) -> Option<(Kind, Ipv6Addr, NdpOptionsIterator<'a>)> {
    let icmp_type = icmp.icmp_type();
    if matches!(icmp_type, Icmpv6Type::NeighborSolicitation) {
        let body = NeighborSolicitationPayloadSlice::from_slice(icmp.payload()).ok()?;
        let options = body.options_iterator();
        return Some((Kind::Solicitation, body.target_address(), options));
    }
    let Icmpv6Type::NeighborAdvertisement(flags) = icmp_type else {
        return None;
    };
    let body = NeighborAdvertisementPayloadSlice::from_slice(icmp.payload()).ok()?;
    let kind = Kind::Advertisement {
        router: flags.router,
        solicited: flags.solicited,
        overrides: flags.r#override,
    };
    Some((kind, body.target_address(), body.options_iterator()))
}

/// The link-layer address among the options. `None` if one of them is broken: one of length zero or
/// beyond the end makes the message invalid.
fn read_options(kind: Kind, options: NdpOptionsIterator<'_>) -> Option<Option<Mac>> {
    let mut found = None;
    for option in options {
        let option = option.ok()?;
        let address = match (kind, &option) {
            (Kind::Solicitation, NdpOptionSlice::SourceLinkLayerAddress(own)) => {
                own.link_layer_address()
            }
            (Kind::Advertisement { .. }, NdpOptionSlice::TargetLinkLayerAddress(own)) => {
                own.link_layer_address()
            }
            _ => continue,
        };
        if let Ok(mac) = <[u8; 6]>::try_from(address) {
            found = found.or(Some(Mac(mac)));
        }
    }
    Some(found)
}
