//! The thread on which the core runs: everything that happens goes in, everything that it asks for is
//! done. Nothing here waits for the API server, for JSON or for a disk: questions on the network are
//! answered in between. Decides nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use speaker_core::{Effect, Figures, Input, KeyRing, Link, Phase, Report, Settings, Speaker};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use crate::clock;
use crate::groups::Groups;
use crate::interfaces::Interfaces;
use crate::peers::Peers;
use crate::taps::Taps;
use crate::watch::Seen;

/// The core is called at least this often: from longer gaps it concludes that the process was stopped.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// When frames that found no room are tried again.
const UNSENT: Duration = Duration::from_millis(1);
/// Objects that are taken in before anything else has its turn.
const AT_ONCE: usize = 16;
/// Frames that are heard before a datagram at most: about as many as wait in a socket. Those of a
/// flood must not keep peers from being heard.
const WAITING: usize = 512;
/// No ARP or NDP message is longer than a frame of Ethernet.
const FRAME: usize = 2048;
/// No datagram is longer.
const DATAGRAM: usize = 65_535;

/// What the thread hears from the others.
#[derive(Debug)]
pub(crate) struct Ears {
    /// Objects of the API server.
    pub(crate) seen: mpsc::Receiver<Seen>,
    /// The keys.
    pub(crate) keys: watch::Receiver<KeyRing>,
    /// Whether to hand over and end.
    pub(crate) leave: watch::Receiver<bool>,
}

/// What it tells them.
#[derive(Debug)]
pub(crate) struct Mouth {
    /// For metrics and readiness.
    pub(crate) state: watch::Sender<Option<State>>,
    /// What this node announces; `None` before the core has anything to go by.
    pub(crate) report: watch::Sender<Option<Arc<Report>>>,
    /// Goes up when both watches are to begin anew.
    pub(crate) relists: watch::Sender<u64>,
}

/// Numbers of the core and of the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) figures: Figures,
    /// Frames and datagrams that were not sent.
    pub(crate) frames_lost: u64,
    pub(crate) datagrams_lost: u64,
}

/// Runs until the core is done, which it is some time after `leave`.
///
/// # Errors
/// When a socket that everything depends on cannot be had or breaks, or the other side is gone.
pub(crate) async fn run(settings: Settings, mut ears: Ears, mouth: Mouth) -> io::Result<()> {
    let peers = Peers::open(settings.port)
        .map_err(|error| context(error, &format!("UDP port {} of the peers", settings.port)))?;
    let (told, mut links) = watch::channel(None);
    let interfaces = Interfaces::open().map_err(|error| context(error, "netlink"))?;
    let mut following = tokio::spawn(interfaces.run(told));
    let mut drive = Drive {
        speaker: Speaker::new(settings, clock::now()),
        taps: Taps::default(),
        groups: Groups::default(),
        peers,
        mouth,
        done: false,
        leaving: false,
    };
    let mut frame = vec![0; FRAME];
    let mut datagram = vec![0; DATAGRAM];
    let mut seen = Vec::with_capacity(AT_ONCE);
    loop {
        drive.act();
        if drive.done {
            return Ok(());
        }
        let wake = drive.deadline();
        tokio::select! {
            (link, length) = drive.taps.receive(&mut frame) => {
                let bytes = frame.get(..length).unwrap_or_default();
                drive.tell(Input::Frame { link, bytes });
            }
            heard = drive.peers.receive(&mut datagram) => match heard {
                Ok((from, length)) => {
                    drive.hear_waiting(&mut frame);
                    let bytes = datagram.get(..length).unwrap_or_default();
                    drive.tell(Input::Datagram { from, bytes });
                }
                Err(error) => debug!(%error, "a datagram was not received"),
            },
            count = ears.seen.recv_many(&mut seen, AT_ONCE) => {
                if count == 0 {
                    return Err(io::Error::other("nobody watches objects any more"));
                }
                for one in seen.drain(..) {
                    drive.seen(one);
                }
            }
            changed = links.changed() => {
                if changed.is_ok() {
                    let links = links.borrow_and_update().clone().unwrap_or_default();
                    drive.links(&links);
                }
            }
            ended = &mut following => {
                return match ended {
                    Ok(Err(error)) => Err(context(error, "netlink")),
                    Ok(Ok(())) | Err(_) => Err(io::Error::other("interfaces: ended")),
                };
            }
            Ok(()) = ears.keys.changed() => {
                let keys = ears.keys.borrow_and_update().clone();
                drive.tell(Input::Keys(keys));
            }
            _ = ears.leave.wait_for(|leave| *leave), if !drive.leaving => {
                drive.leaving = true;
                drive.tell(Input::Leave);
            }
            () = sleep_until(wake) => drive.mend(),
        }
    }
}

fn context(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The core and all that it acts on.
#[derive(Debug)]
struct Drive {
    speaker: Speaker,
    taps: Taps,
    groups: Groups,
    peers: Peers,
    mouth: Mouth,
    done: bool,
    leaving: bool,
}

impl Drive {
    fn tell(&mut self, input: Input<'_>) {
        self.speaker.handle(input, clock::now());
        self.act();
    }

    fn seen(&mut self, seen: Seen) {
        self.tell(match seen {
            Seen::Announcement {
                name,
                version,
                spec,
            } => Input::Announcement {
                name,
                version,
                spec,
            },
            Seen::Peer {
                node,
                version,
                spec,
            } => Input::Peer {
                node,
                version,
                spec,
            },
            Seen::Restarted(kind) => Input::Restarted(kind),
            Seen::Synced(kind) => Input::Synced(kind),
        });
    }

    fn links(&mut self, links: &[Link]) {
        self.tell(Input::Links(links));
        self.mend_now();
    }

    /// Frames that have come already. A datagram may say that another answers from now on: what was
    /// asked before that one listened is still for us, and waits in a socket while we are busy.
    fn hear_waiting(&mut self, frame: &mut [u8]) {
        for _ in 0..WAITING {
            let Some((link, length)) = self.taps.try_receive(frame) else {
                return;
            };
            let bytes = frame.get(..length).unwrap_or_default();
            self.tell(Input::Frame { link, bytes });
        }
    }

    /// Does what the core asks for.
    fn act(&mut self) {
        while let Some(effect) = self.speaker.poll(clock::now()) {
            match effect {
                Effect::Datagram { to, bytes } => self.peers.send(to, &bytes),
                Effect::Frame { link, bytes } => self.taps.send(link, bytes),
                Effect::Listen { link, filter } => self.taps.listen(link, filter),
                Effect::Join { link, group } => self.groups.join(link, group),
                Effect::Part { link, group } => self.groups.part(link, group),
                Effect::Report(report) => {
                    self.mouth.report.send_replace(Some(Arc::new(report)));
                }
                Effect::Relist => {
                    info!("peers have seen newer objects: listing all again");
                    self.mouth.relists.send_modify(|count| *count += 1);
                }
                Effect::Done => self.done = true,
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let state = State {
            figures: self.speaker.figures(),
            frames_lost: self.taps.lost,
            datagrams_lost: self.peers.lost,
        };
        let before = self.mouth.state.borrow().map(|state| state.figures.phase);
        if before != Some(state.figures.phase) {
            info!(phase = ?state.figures.phase, peers = state.figures.peers, "standing");
        }
        self.mouth.state.send_if_modified(|last| {
            let changed = *last != Some(state);
            *last = Some(state);
            changed
        });
        if state.figures.phase != Phase::Waiting && self.mouth.report.borrow().is_none() {
            // Nothing is announced, which is news if a predecessor has left a status behind.
            self.mouth.report.send_replace(Some(Arc::default()));
        }
    }

    /// When something is to be done at the latest.
    fn deadline(&mut self) -> Instant {
        let now = Instant::now();
        let due = (self.speaker.deadline())
            .map(|due| now + due.saturating_sub(clock::now().mono).min(LONGEST_PAUSE));
        let unsent = self.taps.flush().then_some(now + UNSENT);
        let mends = [self.taps.deadline(), self.groups.deadline()];
        (due.into_iter().chain(unsent))
            .chain(mends.into_iter().flatten())
            .fold(now + LONGEST_PAUSE, Instant::min)
    }

    /// Tries again what failed, if it is time.
    fn mend(&mut self) {
        let now = Instant::now();
        let due = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        if due(self.taps.deadline()) || due(self.groups.deadline()) {
            self.mend_now();
        }
    }

    fn mend_now(&mut self) {
        for link in self.taps.mend() {
            self.groups.rejoin(link);
        }
        self.groups.mend();
    }
}
