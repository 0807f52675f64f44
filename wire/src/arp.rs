//! ARP for IPv4 on Ethernet (RFC 826, 5227): reading and making frames.
//!
//! Other kinds of hardware, protocol, length and operation, and frames with a VLAN tag, are not read.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header,
    Ethernet2HeaderSlice,
};

use crate::Mac;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet and the two addresses of the frame that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Who the frame is for.
    pub destination: Mac,
    /// Which station sent the frame.
    pub source: Mac,
    /// What the packet is for.
    pub operation: Operation,
    /// Where `sender_ip` is, says the sender.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe (RFC 5227 2.1.1).
    pub sender_ip: Ipv4Addr,
    /// Where `target_ip` is; not heeded in a request.
    pub target_mac: Mac,
    /// Who is asked for, or told.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// A request: `mac`, which has `ip`, asks everybody for `target`.
    #[must_use]
    pub const fn request(mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            destination: Mac::BROADCAST,
            source: mac,
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: Mac::ZERO,
            target_ip: target,
        }
    }

    /// A reply: `mac` has `ip`, for the station that asked.
    #[must_use]
    pub const fn reply(mac: Mac, ip: Ipv4Addr, asker: Mac, asker_ip: Ipv4Addr) -> Self {
        Self {
            destination: asker,
            source: mac,
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: asker,
            target_ip: asker_ip,
        }
    }

    /// An announcement (RFC 5227 2.3): `mac` has `ip`, for everybody.
    #[must_use]
    pub const fn announcement(mac: Mac, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// The same as a reply, for systems that heed only those. The target's link-layer address is the
    /// sender's (RFC 5944 4.6): otherwise Linux does not take it for gratuitous, and does not replace
    /// an entry that is younger than a second (`arp_is_garp`, `locktime`).
    #[must_use]
    pub const fn gratuitous_reply(mac: Mac, ip: Ipv4Addr) -> Self {
        Self {
            destination: Mac::BROADCAST,
            ..Self::reply(mac, ip, mac, ip)
        }
    }

    /// Reads a frame. Bytes after the packet are padding.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        if header.ether_type() != EtherType::ARP {
            return None;
        }
        let packet = ArpPacketSlice::from_slice(frame.get(Ethernet2Header::LEN..)?).ok()?;
        let packet = packet.to_packet().try_eth_ipv4().ok()?;
        let operation = match packet.operation {
            ArpOperation::REQUEST => Operation::Request,
            ArpOperation::REPLY => Operation::Reply,
            _ => return None,
        };
        Some(Self {
            destination: Mac(header.destination()),
            source: Mac(header.source()),
            operation,
            sender_mac: Mac(packet.sender_mac),
            sender_ip: packet.sender_ipv4.into(),
            target_mac: Mac(packet.target_mac),
            target_ip: packet.target_ipv4.into(),
        })
    }

    /// Makes the frame. Padding to Ethernet's minimum is the driver's.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let header = Ethernet2Header {
            source: self.source.0,
            destination: self.destination.0,
            ether_type: EtherType::ARP,
        };
        let packet = ArpEthIpv4Packet {
            operation: match self.operation {
                Operation::Request => ArpOperation::REQUEST,
                Operation::Reply => ArpOperation::REPLY,
            },
            sender_mac: self.sender_mac.0,
            sender_ipv4: self.sender_ip.octets(),
            target_mac: self.target_mac.0,
            target_ipv4: self.target_ip.octets(),
        };
        [&header.to_bytes()[..], &packet.to_bytes()[..]].concat()
    }
}
