//! The machine's interfaces, their addresses and the default routes, by events of the kernel: nothing
//! is polled, nothing is ever written. After an overrun everything is asked for again.

mod message;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink,
};
use speaker_core::Link;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use message::{Message, messages};
use table::Table;

/// Events within so long are told as one: nodes have hundreds of interfaces, and a pod's comes with
/// half a dozen of them.
const TOGETHER: Duration = Duration::from_millis(20);
/// The pause before everything is asked for again: after an overrun there is a storm outside.
const AGAIN: Duration = Duration::from_millis(200);
/// What the kernel fills at most per read of a dump.
const BUFFER: usize = 32 << 10;

/// What is listened to (`RTMGRP_*`).
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE;

/// What is asked for, one after the other: the kernel answers one dump at a time.
const DUMPS: [u16; 3] = [libc::RTM_GETLINK, libc::RTM_GETADDR, libc::RTM_GETROUTE];

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(crate) struct Interfaces {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// What is known; being filled while `asking`.
    table: Table,
    /// Which of [`DUMPS`] is being answered.
    asking: Option<usize>,
    sequence: u32,
}

impl Interfaces {
    /// Opens the socket. Needs a runtime.
    ///
    /// # Errors
    /// When the kernel has no netlink for us.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // No protocol is protocol 0, which is NETLINK_ROUTE.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // As much as the machine allows: a burst of events must not become a dump.
        let _granted = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20);
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self {
            socket: event_driven(socket)?,
            buffer: vec![0; BUFFER],
            table: Table::default(),
            asking: None,
            sequence: 0,
        })
    }

    /// Tells all links at first and whenever one of them changed, for as long as somebody listens.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) async fn run(mut self, told: watch::Sender<Option<Vec<Link>>>) -> io::Result<()> {
        let mut again = Some(Instant::now());
        let mut tell: Option<Instant> = None;
        loop {
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                heard = Self::receive(&self.socket, &mut self.buffer) => {
                    let complete = match heard {
                        Ok(length) => {
                            let datagram = self.buffer.get(..length).unwrap_or_default();
                            let messages = messages(datagram);
                            self.take(messages)
                        }
                        Err(error) => Err(error),
                    };
                    match complete {
                        Ok(true) => tell = tell.or_else(|| Some(Instant::now() + TOGETHER)),
                        Ok(false) => {}
                        Err(error) if is_overrun(&error) => {
                            debug!(%error, "interfaces: asking for everything again");
                            again = again.or_else(|| Some(Instant::now() + AGAIN));
                        }
                        Err(error) => return Err(error),
                    }
                }
                () = sleep_until(again.unwrap_or(far)), if again.is_some() => {
                    again = None;
                    if let Err(error) = self.ask(0) {
                        warn!(%error, "interfaces: the kernel does not take a question");
                        again = Some(Instant::now() + AGAIN);
                    }
                }
                () = sleep_until(tell.unwrap_or(far)), if tell.is_some() => {
                    tell = None;
                    if self.asking.is_none() {
                        let links = Some(self.table.links());
                        told.send_if_modified(|last| {
                            let changed = *last != links;
                            *last = links;
                            changed
                        });
                    }
                }
                () = told.closed() => return Ok(()),
            }
        }
    }

    /// One datagram of the kernel's.
    async fn receive(socket: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = socket.readable().await?;
            let read = ready.try_io(|socket| {
                let (length, _, from) =
                    rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::TRUNC)?;
                Ok((length, from))
            });
            let Ok(read) = read else {
                continue;
            };
            let (length, from) = read?;
            // Another process may send us what it likes.
            let kernel = from
                .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if kernel {
                return Ok(length);
            }
        }
    }

    /// Takes in what was said; whether the links may have changed and are known as a whole.
    fn take(&mut self, messages: Vec<Message>) -> io::Result<bool> {
        let mut changed = false;
        for message in messages {
            match message {
                Message::Change(change) => {
                    self.table.apply(change);
                    changed = true;
                }
                Message::Done { sequence } if sequence == self.sequence => {
                    match self.asking {
                        Some(dump) if dump + 1 < DUMPS.len() => self.ask(dump + 1)?,
                        Some(_) | None => self.asking = None,
                    }
                    changed = true;
                }
                Message::Failed { sequence, errno } if sequence == self.sequence => {
                    debug!(errno, "interfaces: the kernel does not answer");
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Message::Interrupted { sequence } if sequence == self.sequence => {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                // Of a question that was given up.
                Message::Done { .. } | Message::Failed { .. } | Message::Interrupted { .. } => {}
            }
        }
        Ok(changed && self.asking.is_none())
    }

    /// Asks for one of [`DUMPS`]; the first begins from nothing.
    fn ask(&mut self, dump: usize) -> io::Result<()> {
        if dump == 0 {
            self.table = Table::default();
        }
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.asking = Some(dump);
        let Some(kind) = DUMPS.get(dump) else {
            return Ok(());
        };
        // struct nlmsghdr, and a body of zeros, which is all families and is long enough for each.
        let mut question = vec![0; 32];
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let header = [
            &32_u32.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &self.sequence.to_ne_bytes(),
        ]
        .concat();
        (question.iter_mut().zip(header)).for_each(|(to, byte)| *to = byte);
        rustix::net::send(self.socket.get_ref(), &question, SendFlags::empty())?;
        Ok(())
    }
}

/// Tells the runtime to watch a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that change their descriptor; these never do"
)]
pub(crate) fn event_driven<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}

/// Whether something was missed, or came too mixed up to be used.
fn is_overrun(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::ENOBUFS)
}
