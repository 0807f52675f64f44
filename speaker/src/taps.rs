//! Packet sockets, as the core asks for them. An interface that goes away or cannot be listened on is
//! reported once and tried again; it never ends anything.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use packet::{EtherType, PacketSocket};
use rustc_hash::FxHashMap;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::filter::Filter;

use crate::interfaces::event_driven;

/// When an interface that could not be listened on is tried again, unless something is heard of it.
const AGAIN: Duration = Duration::from_secs(1);
/// Frames that wait for room in a socket: a takeover of thousands of addresses. Beyond that they are
/// lost; announcements are repeated.
const WAITING: usize = 16_384;

/// All packet sockets.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    taps: FxHashMap<u32, Tap>,
    /// Whose turn it is: no interface's flood keeps another from being heard.
    turn: usize,
    again: Option<Instant>,
    waiting: VecDeque<(u32, Vec<u8>)>,
    /// Frames that were not sent.
    pub(crate) lost: u64,
}

#[derive(Debug)]
struct Tap {
    filter: Filter,
    open: Option<Open>,
    /// The interface went down. The kernel binds the sockets to it again when it is up, but not when
    /// it was gone meanwhile, which looks the same (ENETDOWN).
    stale: bool,
    /// Trouble with it was reported.
    said: bool,
}

#[derive(Debug)]
struct Open {
    arp: AsyncFd<PacketSocket>,
    ipv6: AsyncFd<PacketSocket>,
}

impl Open {
    fn new(link: u32, filter: &Filter) -> io::Result<Self> {
        let open = |ether_type| event_driven(PacketSocket::open(link, ether_type, filter)?);
        Ok(Self {
            arp: open(EtherType::Arp)?,
            ipv6: open(EtherType::Ipv6)?,
        })
    }

    fn set_filter(&self, filter: &Filter) -> io::Result<()> {
        self.arp.get_ref().set_filter(filter)?;
        self.ipv6.get_ref().set_filter(filter)
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        match EtherType::of(frame) {
            Some(EtherType::Arp) => self.arp.get_ref().send(frame),
            Some(EtherType::Ipv6) => self.ipv6.get_ref().send(frame),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>, frame: &mut [u8]) -> Poll<io::Result<usize>> {
        match poll_socket(&self.arp, cx, frame) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => poll_socket(&self.ipv6, cx, frame),
        }
    }
}

fn poll_socket(
    socket: &AsyncFd<PacketSocket>,
    cx: &mut Context<'_>,
    frame: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let mut ready = ready!(socket.poll_read_ready(cx))?;
        if let Ok(read) = ready.try_io(|socket| socket.get_ref().receive(frame)) {
            return Poll::Ready(read);
        }
    }
}

impl Taps {
    /// Listens there with exactly this filter; `None`: not any more.
    pub(crate) fn listen(&mut self, link: u32, filter: Option<Filter>) {
        let Some(filter) = filter else {
            self.taps.remove(&link);
            return;
        };
        let tap = self.taps.entry(link).or_insert_with(|| Tap {
            filter: filter.clone(),
            open: None,
            stale: false,
            said: false,
        });
        if tap.filter != filter {
            tap.filter = filter;
        } else if tap.open.is_some() {
            return;
        }
        let changed = match &tap.open {
            Some(open) => open.set_filter(&tap.filter),
            None => Open::new(link, &tap.filter).map(|open| tap.open = Some(open)),
        };
        match changed {
            Ok(()) => {
                if std::mem::take(&mut tap.said) {
                    info!(link, "listening again");
                }
            }
            Err(error) => self.broken(link, &error),
        }
    }

    /// Tries again what could not be listened on, and replaces what has been down: to be called when
    /// the deadline has come or something is heard of interfaces. Says whose sockets are new: groups
    /// have to be joined anew there, too.
    pub(crate) fn mend(&mut self) -> Vec<u32> {
        self.again = None;
        let mut closed = Vec::new();
        for (link, tap) in &mut self.taps {
            if std::mem::take(&mut tap.stale) {
                tap.open = None;
            }
            if tap.open.is_none() {
                closed.push((*link, tap.filter.clone()));
            }
        }
        let mut mended = Vec::new();
        for (link, filter) in closed {
            self.listen(link, Some(filter));
            if self.taps.get(&link).is_some_and(|tap| tap.open.is_some()) {
                mended.push(link);
            }
        }
        mended
    }

    /// When `mend` is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    fn broken(&mut self, link: u32, error: &io::Error) {
        let Some(tap) = self.taps.get_mut(&link) else {
            return;
        };
        if error.raw_os_error() == Some(libc::ENETDOWN) {
            debug!(link, "an interface is down");
            tap.stale = true;
            return;
        }
        tap.open = None;
        if std::mem::replace(&mut tap.said, true) {
            debug!(link, %error, "an interface cannot be listened on");
        } else {
            warn!(link, %error, "an interface cannot be listened on: trying again");
        }
        self.again = self.again.or_else(|| Some(Instant::now() + AGAIN));
    }

    /// Sends a frame, after those that wait already.
    pub(crate) fn send(&mut self, link: u32, frame: Vec<u8>) {
        if self.waiting.is_empty() {
            self.try_send(link, frame, false);
        } else if self.waiting.len() < WAITING {
            self.waiting.push_back((link, frame));
        } else {
            self.lost += 1;
        }
    }

    /// Sends what waits, as far as there is room; whether some still waits.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some((link, frame)) = self.waiting.pop_front() {
            if !self.try_send(link, frame, true) {
                return true;
            }
        }
        false
    }

    /// Whether the frame is dealt with; if not, it waits.
    fn try_send(&mut self, link: u32, frame: Vec<u8>, first: bool) -> bool {
        let Some(open) = self.taps.get(&link).and_then(|tap| tap.open.as_ref()) else {
            self.lost += 1;
            return true;
        };
        let Err(error) = open.send(&frame) else {
            return true;
        };
        match error.raw_os_error() {
            // The queue of the socket, or of the device.
            Some(libc::EAGAIN | libc::ENOBUFS) => {
                if first {
                    self.waiting.push_front((link, frame));
                } else {
                    self.waiting.push_back((link, frame));
                }
                return false;
            }
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => self.broken(link, &error),
            Some(_) | None => debug!(link, %error, "a frame was not sent"),
        }
        self.lost += 1;
        true
    }

    /// The next frame of any interface: whose, and how long. Losing this future loses no frame.
    pub(crate) async fn receive(&mut self, frame: &mut [u8]) -> (u32, usize) {
        std::future::poll_fn(|cx| self.poll_receive(cx, frame)).await
    }

    /// The next frame that waits in the kernel, whether or not the runtime has heard of it yet.
    pub(crate) fn try_receive(&mut self, frame: &mut [u8]) -> Option<(u32, usize)> {
        let mut failed = Vec::new();
        let mut found = None;
        'taps: for (link, tap) in &self.taps {
            let sockets = tap.open.iter().flat_map(|open| [&open.arp, &open.ipv6]);
            for socket in sockets {
                match socket.get_ref().receive(frame) {
                    Ok(length) => {
                        found = Some((*link, length));
                        break 'taps;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => failed.push((*link, error)),
                }
            }
        }
        for (link, error) in failed {
            self.broken(link, &error);
        }
        found
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, frame: &mut [u8]) -> Poll<(u32, usize)> {
        loop {
            self.turn = self.turn.wrapping_add(1);
            let count = self.taps.len().max(1);
            let first = self.turn % count;
            let turns = (self.taps.iter().skip(first)).chain(self.taps.iter().take(first));
            let mut failed = None;
            for (link, tap) in turns {
                let Some(open) = &tap.open else {
                    continue;
                };
                match open.poll_receive(cx, frame) {
                    Poll::Ready(Ok(length)) => return Poll::Ready((*link, length)),
                    Poll::Ready(Err(error)) => {
                        failed = Some((*link, error));
                        break;
                    }
                    Poll::Pending => {}
                }
            }
            match failed {
                Some((link, error)) => self.broken(link, &error),
                None => return Poll::Pending,
            }
        }
    }
}
