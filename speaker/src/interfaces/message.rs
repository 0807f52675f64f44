//! Reads rtnetlink messages (rtnetlink(7)): what changed, in the few facts that matter here. A message
//! that cannot be read changes nothing; attributes that are not known here are not looked at, so a
//! newer kernel's are no trouble.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_packet_route::{
    AddressFamily,
    address::AddressHeader,
    link::{LinkFlags, LinkHeader, LinkLayerType},
    route::{RouteHeader, RouteType},
};
use wire::Mac;

/// Bytes of the headers that attributes follow: `ifinfomsg`, `ifaddrmsg`, `rtmsg`, `rtnexthop`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const HOP_HEADER: usize = 8;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A change, in a dump or on its own.
    Change(Change),
    /// The dump that was asked for with this number is complete.
    Done { sequence: u32 },
    /// What was asked for with this number failed.
    Failed { sequence: u32, errno: i32 },
    /// The dump is of no use: something changed meanwhile (`NLM_F_DUMP_INTR`).
    Interrupted { sequence: u32 },
}

/// Something about the machine's interfaces that is so from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Link(LinkFacts),
    LinkGone { index: u32 },
    Address(Address),
    AddressGone(Address),
    Default { route: Route, replaces: bool },
    DefaultGone(Route),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkFacts {
    pub(super) index: u32,
    /// Ethernet frames, and neighbours that are asked for.
    pub(super) ethernet: bool,
    /// By an administrator.
    pub(super) up: bool,
    /// There is a carrier, too.
    pub(super) running: bool,
    pub(super) name: Option<String>,
    pub(super) mac: Option<Mac>,
}

/// An interface's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) index: u32,
    /// Whose prefix is on the link: the address itself, or the other end's.
    pub(super) on_link: IpAddr,
    pub(super) prefix_length: u8,
    pub(super) local: IpAddr,
}

/// A default route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) ipv6: bool,
    pub(super) metric: u32,
    pub(super) hops: Vec<Hop>,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub(super) index: u32,
    /// As in the message: it only tells hops apart.
    pub(super) gateway: Vec<u8>,
}

/// All messages of one datagram that say something.
pub(super) fn messages(mut datagram: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    while let Ok(envelope) = NetlinkBuffer::new_checked(datagram) {
        let length = envelope.length() as usize;
        found.extend(message(&envelope));
        let next = length.next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    found
}

fn message(envelope: &NetlinkBuffer<&[u8]>) -> Option<Message> {
    let body = (envelope.buffer).get(HEADER..envelope.length() as usize)?;
    let sequence = envelope.sequence_number();
    if i32::from(envelope.flags()) & libc::NLM_F_DUMP_INTR != 0 {
        return Some(Message::Interrupted { sequence });
    }
    let change = match envelope.message_type() {
        DONE => return Some(Message::Done { sequence }),
        ERROR => {
            let errno = i32::from_ne_bytes(*body.first_chunk()?);
            return (errno != 0).then_some(Message::Failed { sequence, errno });
        }
        libc::RTM_NEWLINK => Change::Link(link(body)?),
        libc::RTM_DELLINK => Change::LinkGone {
            index: link(body)?.index,
        },
        libc::RTM_NEWADDR => Change::Address(address(body)?),
        libc::RTM_DELADDR => Change::AddressGone(address(body)?),
        libc::RTM_NEWROUTE => Change::Default {
            route: default_route(body)?,
            replaces: i32::from(envelope.flags()) & libc::NLM_F_REPLACE != 0,
        },
        libc::RTM_DELROUTE => Change::DefaultGone(default_route(body)?),
        _ => return None,
    };
    Some(Message::Change(change))
}

const DONE: u16 = libc::NLMSG_DONE as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn link(body: &[u8]) -> Option<LinkFacts> {
    let header = LinkHeader::parse(body).ok()?;
    // A bridge tells about its ports with the same messages, where "gone" means out of the bridge.
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mac) = (None, None);
    for attribute in attributes(body.get(LINK_HEADER..)?) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => name = text(value),
            libc::IFLA_ADDRESS => mac = <[u8; 6]>::try_from(value).ok().map(Mac),
            _ => {}
        }
    }
    let unasked = LinkFlags::Loopback | LinkFlags::Noarp;
    Some(LinkFacts {
        index: header.index,
        ethernet: header.link_layer_type == LinkLayerType::Ether
            && !header.flags.intersects(unasked),
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Running),
        name,
        mac,
    })
}

fn text(value: &[u8]) -> Option<String> {
    let bytes = value.split(|byte| *byte == 0).next()?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(value).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn address(body: &[u8]) -> Option<Address> {
    let header = AddressHeader::parse(body).ok()?;
    let (mut on_link, mut local) = (None, None);
    for attribute in attributes(body.get(ADDRESS_HEADER..)?) {
        match attribute.kind() {
            libc::IFA_ADDRESS => on_link = ip(attribute.value()),
            libc::IFA_LOCAL => local = ip(attribute.value()),
            _ => {}
        }
    }
    let on_link = on_link.or(local)?;
    Some(Address {
        index: header.index,
        on_link,
        prefix_length: header.prefix_len,
        local: local.unwrap_or(on_link),
    })
}

/// `None` for every other route.
fn default_route(body: &[u8]) -> Option<Route> {
    let header = RouteHeader::parse(body).ok()?;
    let ipv6 = header.address_family == AddressFamily::Inet6;
    if header.destination_prefix_length != 0
        || header.source_prefix_length != 0
        || header.tos != 0
        || header.kind != RouteType::Unicast
        || !(ipv6 || header.address_family == AddressFamily::Inet)
    {
        return None;
    }
    let (mut table, mut metric) = (u32::from(header.table), 0);
    let (mut index, mut gateway, mut hops) = (None, Vec::new(), Vec::new());
    for attribute in attributes(body.get(ROUTE_HEADER..)?) {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_TABLE => table = number(value)?,
            libc::RTA_PRIORITY => metric = number(value)?,
            libc::RTA_OIF => index = number(value),
            libc::RTA_GATEWAY | libc::RTA_VIA => gateway = value.to_vec(),
            libc::RTA_MULTIPATH => hops = next_hops(value),
            _ => {}
        }
    }
    if hops.is_empty() {
        hops.extend(index.map(|index| Hop { index, gateway }));
    }
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(Route { ipv6, metric, hops })
}

/// A sequence of `struct rtnexthop`, each with attributes of its own.
fn next_hops(mut bytes: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(header) = bytes.first_chunk::<HOP_HEADER>() {
        let [low, high, _flags, _weight, index @ ..] = *header;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some(own) = bytes.get(HOP_HEADER..length) else {
            break;
        };
        let gateway = attributes(own)
            .find(|one| matches!(one.kind(), libc::RTA_GATEWAY | libc::RTA_VIA))
            .map(|one| one.value().to_vec());
        hops.push(Hop {
            index: u32::from_ne_bytes(index),
            gateway: gateway.unwrap_or_default(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}
