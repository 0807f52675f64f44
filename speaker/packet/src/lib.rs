//! Packet sockets (packet(7)): frames of one interface, filtered in the kernel. Needs CAP_NET_RAW and
//! nothing else: no promiscuous mode, no larger buffers than the machine allows everybody.
//!
//! A [`Tap`] is two sockets, one for ARP and one for IPv6. One for all protocols would be shown, and
//! have to refuse, every frame that comes in, and a copy of every frame that goes out; these two
//! cost ARP and IPv6 that comes in one run of the filter, and everything else nothing.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use wire::filter::Filter;

/// Frames that wait to be read or sent, in bytes of kernel memory: some hundred, as the kernel counts
/// a small frame as nearly 1 KiB. More than `net.core.rmem_max` is not given, and need not be.
const BUFFER: usize = 1 << 20;

/// What a frame carries: the two protocols that are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// RFC 826.
    Arp,
    /// RFC 2464.
    Ipv6,
}

impl EtherType {
    /// Of a frame; `None` when it is neither.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [0x08, 0x06] => Some(Self::Arp),
            [0x86, 0xdd] => Some(Self::Ipv6),
            _ => None,
        }
    }

    const fn number(self) -> u16 {
        match self {
            Self::Arp => 0x0806,
            Self::Ipv6 => 0x86dd,
        }
    }
}

/// Frames of one protocol on one interface, from the Ethernet header on. Never blocks.
#[derive(Debug)]
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens one. Not even the first frame escapes the filter: the kernel hands nothing to a socket
    /// that is not bound to a protocol yet.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such interface (`ENODEV`).
    pub fn open(link: u32, ether_type: EtherType, filter: &Filter) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        // Refused or granted in part: what the machine gives is enough.
        let _granted = socket.set_recv_buffer_size(BUFFER);
        let _granted = socket.set_send_buffer_size(BUFFER);
        let socket = Self(socket);
        socket.set_filter(filter)?;
        socket.0.bind(&address(link, ether_type)?)?;
        Ok(socket)
    }

    /// Replaces the filter at once. What the former one has let through may still be read.
    ///
    /// # Errors
    /// When the kernel refuses the program (more than 4096 instructions, for example).
    pub fn set_filter(&self, filter: &Filter) -> io::Result<()> {
        let program: Vec<SockFilter> = (filter.instructions().iter())
            .map(|one| SockFilter::new(one.code, one.jt, one.jf, one.k))
            .collect();
        self.0.attach_filter(&program)
    }

    /// The next frame; how many bytes of it there are in `frame`, the rest is lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `ENETDOWN` once when the interface has gone down.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }

    /// Sends a frame of the socket's protocol.
    ///
    /// # Errors
    /// `WouldBlock` when the buffer is full; `ENETDOWN` or `ENXIO` when the interface is down or gone.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(|_all_or_nothing| ())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.0.into()
    }
}

fn address(link: u32, ether_type: EtherType) -> io::Result<SockAddr> {
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ether_type.number().to_be(),
        sll_ifindex: i32::try_from(link).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&link) as libc::socklen_t;
    let mut storage = SockAddrStorage::zeroed();
    #[expect(
        unsafe_code,
        reason = "socket2 and rustix have no safe way to make the address of an interface"
    )]
    // SAFETY: a sockaddr_ll is one of the address forms that the storage is large enough and aligned
    // for; it is written as a whole, its family says what it is, and the length is its size.
    let address = unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = link;
        SockAddr::new(storage, length)
    };
    Ok(address)
}

/// Both sockets of one interface.
#[derive(Debug)]
pub struct Tap {
    /// For ARP.
    pub arp: PacketSocket,
    /// For NDP.
    pub ipv6: PacketSocket,
}

impl Tap {
    /// Opens both.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open(link: u32, filter: &Filter) -> io::Result<Self> {
        Ok(Self {
            arp: PacketSocket::open(link, EtherType::Arp, filter)?,
            ipv6: PacketSocket::open(link, EtherType::Ipv6, filter)?,
        })
    }

    /// Sends a frame by the socket of its protocol.
    ///
    /// # Errors
    /// As [`PacketSocket::send`]; `InvalidInput` when it is of neither protocol.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match EtherType::of(frame) {
            Some(EtherType::Arp) => self.arp.send(frame),
            Some(EtherType::Ipv6) => self.ipv6.send(frame),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The next frame of either.
    ///
    /// # Errors
    /// As [`PacketSocket::receive`].
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        match self.arp.receive(frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ipv6.receive(frame),
            other => other,
        }
    }
}
