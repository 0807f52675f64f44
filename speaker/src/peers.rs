//! The socket by which speakers hear of each other: one for both families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tracing::{debug, info};

/// Datagrams that wait, in bytes of kernel memory; the machine may grant less.
const BUFFER: usize = 1 << 20;

/// The socket.
#[derive(Debug)]
pub(crate) struct Peers {
    socket: UdpSocket,
    ipv6: bool,
    /// Datagrams that were not sent.
    pub(crate) lost: u64,
}

impl Peers {
    /// Opens it at that port of every address. Needs a runtime.
    ///
    /// # Errors
    /// When the port is taken.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let (socket, ipv6) = match open_v6(port) {
            Ok(socket) => (socket, true),
            // Not because of the port, or IPv4 has the same trouble and says so.
            Err(error) => {
                let socket = open_v4(port)?;
                info!(%error, "no socket for IPv6: peers are reached by IPv4 only");
                (socket, false)
            }
        };
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            ipv6,
            lost: 0,
        })
    }

    /// Sends a datagram, or loses it as the network may.
    pub(crate) fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let to = match to.ip() {
            IpAddr::V4(ip) if self.ipv6 => (ip.to_ipv6_mapped(), to.port()).into(),
            IpAddr::V4(_) | IpAddr::V6(_) => to,
        };
        if let Err(error) = self.socket.try_send_to(bytes, to) {
            self.lost += 1;
            debug!(%to, %error, "a datagram was not sent");
        }
    }

    /// The next datagram: from whom, and how long. Losing this future loses no datagram.
    pub(crate) async fn receive(&self, datagram: &mut [u8]) -> io::Result<(SocketAddr, usize)> {
        let (length, from) = self.socket.recv_from(datagram).await?;
        Ok((
            SocketAddr::new(from.ip().to_canonical(), from.port()),
            length,
        ))
    }
}

fn open_v6(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    bind(socket, (Ipv6Addr::UNSPECIFIED, port).into())
}

fn open_v4(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    bind(socket, (Ipv4Addr::UNSPECIFIED, port).into())
}

fn bind(socket: Socket, address: SocketAddr) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    let _granted = socket.set_recv_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}
