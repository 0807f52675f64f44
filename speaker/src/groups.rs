//! Multicast groups that solicitations for owned addresses are sent to: joined by plain UDP sockets,
//! which tells switches as well (MLD). A group that cannot be joined is tried again.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;
use tracing::{debug, warn};

/// Groups per socket: what one may remember is limited (`net.core.optmem_max`, on older kernels 20
/// KiB).
const PER_SOCKET: usize = 100;
/// When a group that could not be joined is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// All groups that are wanted, and the sockets that are in them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By interface and group: which socket is in it.
    wanted: BTreeMap<(u32, Ipv6Addr), Option<usize>>,
    /// With how many groups each is in.
    sockets: Vec<(Socket, usize)>,
    again: Option<Instant>,
    said: bool,
}

impl Groups {
    /// Joins a group until it is parted from.
    pub(crate) fn join(&mut self, link: u32, group: Ipv6Addr) {
        if let Some(Some(_)) = self.wanted.get(&(link, group)) {
            return;
        }
        let joined = self.try_join(link, group);
        if let Err(error) = &joined {
            if std::mem::replace(&mut self.said, true) {
                debug!(link, %group, %error, "a multicast group cannot be joined");
            } else {
                warn!(link, %group, %error, "a multicast group cannot be joined: trying again");
            }
            self.again = self.again.or_else(|| Some(Instant::now() + AGAIN));
        }
        self.wanted.insert((link, group), joined.ok());
    }

    fn try_join(&mut self, link: u32, group: Ipv6Addr) -> io::Result<usize> {
        let index = match self
            .sockets
            .iter()
            .position(|(_, count)| *count < PER_SOCKET)
        {
            Some(index) => index,
            None => {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
                self.sockets.push((socket, 0));
                self.sockets.len() - 1
            }
        };
        if let Some((socket, count)) = self.sockets.get_mut(index) {
            socket.join_multicast_v6(&group, link)?;
            *count += 1;
        }
        Ok(index)
    }

    /// Leaves a group.
    pub(crate) fn part(&mut self, link: u32, group: Ipv6Addr) {
        if let Some(Some(index)) = self.wanted.remove(&(link, group)) {
            self.leave(index, link, group);
        }
    }

    fn leave(&mut self, index: usize, link: u32, group: Ipv6Addr) {
        if let Some((socket, count)) = self.sockets.get_mut(index) {
            // Refused when the interface has gone: then nobody is in any group there.
            let _gone = socket.leave_multicast_v6(&group, link);
            *count = count.saturating_sub(1);
        }
    }

    /// Joins all groups of an interface anew: it may have been gone meanwhile.
    pub(crate) fn rejoin(&mut self, link: u32) {
        let all = (link, Ipv6Addr::UNSPECIFIED)..=(link, Ipv6Addr::from([0xff; 16]));
        let groups: Vec<_> = self.wanted.range(all).map(|(key, _)| *key).collect();
        for (link, group) in groups {
            self.part(link, group);
            self.join(link, group);
        }
    }

    /// Tries again what could not be joined.
    pub(crate) fn mend(&mut self) {
        self.again = None;
        let missing: Vec<_> = (self.wanted.iter())
            .filter(|(_, socket)| socket.is_none())
            .map(|(key, _)| *key)
            .collect();
        for (link, group) in missing {
            self.join(link, group);
        }
        self.said &= self.again.is_some();
    }

    /// When `mend` is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again
    }
}
