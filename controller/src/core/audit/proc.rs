//! What the kernel says of a node's ports, read from text. proc_sys_net_ipv4(5), proc_net_tcp in the
//! kernel's Documentation/networking. IPv6 and SCTP follow the settings of IPv4 too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use allocator::RangeSet;
use model::Protocol;

/// What a socket does with its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketState {
    /// It waits for whoever comes.
    Listening,
    /// It talks to one peer.
    Connected,
}

/// A socket that has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port of this node.
    pub port: u16,
    /// Address and port of this node.
    pub address: String,
    /// What it does.
    pub state: SocketState,
    /// To find its process: `socket:[inode]` among a process's open files.
    pub inode: u64,
    /// Whose it is, as `nginx (pid 4711)`, if that is known.
    pub process: Option<String>,
}

/// A node's ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// From which outgoing connections take theirs.
    pub ephemeral: RangeSet,
    /// Which of these they never take.
    pub reserved: RangeSet,
    /// In the order of the files.
    pub sockets: Vec<Socket>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

impl Node {
    /// Ports that an outgoing connection may get.
    pub fn taken_by_itself(&self) -> RangeSet {
        self.ephemeral.subtract(&self.reserved)
    }
}

/// `/proc/sys/net/ipv4/ip_local_port_range`: two numbers.
///
/// # Errors
/// What it should look like.
pub fn ephemeral(text: &str) -> Result<RangeSet, String> {
    let numbers: Vec<u16> = (text.split_whitespace())
        .map_while(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        [first, last] if first <= last => {
            Ok(RangeSet::new([(u128::from(*first), u128::from(*last))]))
        }
        _ => Err(format!("{:?} is not like \"32768 60999\"", text.trim())),
    }
}

/// `/proc/sys/net/ipv4/ip_local_reserved_ports`: ports and ranges with commas, or nothing.
///
/// # Errors
/// What it should look like.
pub fn reserved(text: &str) -> Result<RangeSet, String> {
    let entries = text.trim().split(',').filter(|entry| !entry.is_empty());
    let read = |entry: &str| -> Option<(u128, u128)> {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        Some((u128::from(first), u128::from(last)))
    };
    let ranges: Option<Vec<_>> = entries.map(read).collect();
    ranges
        .map(RangeSet::new)
        .ok_or_else(|| format!("{:?} is not like \"8080,30000-32767\"", text.trim()))
}

/// TCP_ESTABLISHED, TCP_CLOSE and TCP_LISTEN of include/net/tcp_states.h. UDP uses the first for a
/// connected socket and the second for any other that has a port.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// `/proc/net/tcp`, `tcp6`, `udp` or `udp6`. Lines that are none are passed over. Connections that
/// are being opened or closed count as connected.
pub fn sockets(protocol: Protocol, text: &str) -> Vec<Socket> {
    let socket = |line: &str| -> Option<Socket> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = address(fields.get(1)?)?;
        let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
        let state = match (protocol, state) {
            (Protocol::Tcp, LISTEN) | (Protocol::Udp | Protocol::Sctp, CLOSE) => {
                SocketState::Listening
            }
            // Closed, and not yet gone.
            (Protocol::Tcp, CLOSE) => return None,
            (Protocol::Tcp, _) | (Protocol::Udp, ESTABLISHED) => SocketState::Connected,
            (Protocol::Udp | Protocol::Sctp, _) => return None,
        };
        Some(Socket {
            protocol,
            port: local.port(),
            address: local.to_string(),
            state,
            inode: fields
                .get(9)
                .and_then(|inode| inode.parse().ok())
                .unwrap_or(0),
            process: None,
        })
    };
    let sockets = text.lines().filter_map(socket);
    sockets.filter(|socket| socket.port != 0).collect()
}

/// `/proc/net/sctp/eps`: `ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`, ports in decimal.
pub fn endpoints(text: &str) -> Vec<Socket> {
    let endpoint = |line: &str| -> Option<Socket> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let state: u8 = fields.get(3)?.parse().ok()?;
        let port: u16 = fields.get(5)?.parse().ok()?;
        let address = fields
            .get(8)
            .and_then(|address| address.parse::<IpAddr>().ok());
        (state == LISTEN && port != 0).then(|| Socket {
            protocol: Protocol::Sctp,
            port,
            address: match address {
                Some(address) => SocketAddr::new(address, port).to_string(),
                None => format!("*:{port}"),
            },
            state: SocketState::Listening,
            inode: fields
                .get(7)
                .and_then(|inode| inode.parse().ok())
                .unwrap_or(0),
            process: None,
        })
    };
    text.lines().filter_map(endpoint).collect()
}

/// `0100007F:7530`: words of 32 bits, each as this machine's integer over the bytes on the wire.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !address.is_ascii() {
        return None;
    }
    let word = |at: usize| {
        let word = address.get(at..at + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}
