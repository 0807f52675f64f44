//! Watches Announcements and Speakers. Of an object only what the core takes is kept, and of its JSON
//! only its own fields are looked at. An object that cannot be read affects itself only; no error ends
//! a watch.

mod lean;
#[cfg(test)]
mod tests;
mod translate;

use std::{pin::pin, sync::Arc, time::Duration};

use daemon::{refuses_streaming, status};
use futures::TryStreamExt as _;
use kube::{
    Api, Client, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use speaker_core::{Announcement, Kind, Peer};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{debug, info, warn};

use lean::Lean;
pub(crate) use lean::Owner;
use translate::{Names, Words};

/// Objects per page where there are no streaming lists: a page is in memory as a whole.
const PAGE: u32 = 100;
/// The pause when there was no answer, doubled at most by chance: an API server that returns must find
/// everybody back within about a second, and not all at once.
const UNREACHABLE: Duration = Duration::from_millis(400);
/// The same when the answer was that it cannot, as while it starts.
const UNABLE: Duration = Duration::from_millis(700);
/// The same when it was that we may not, or that there is no such kind: somebody has to do something.
const REFUSED: Duration = Duration::from_secs(3);
/// How long a watch lasts, in seconds. A connection that is dead without a word is noticed only
/// then; the first node to notice sees a change and the others list anew by that.
const WATCH: u32 = 120;

/// What a watch tells the core; [`speaker_core::Input`] that owns what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// An `Announcement` came, changed or went.
    Announcement {
        /// Its name.
        name: Arc<str>,
        /// Its resourceVersion.
        version: u64,
        /// `None`: deleted.
        spec: Option<Announcement>,
    },
    /// A `Speaker` came, changed or went.
    Peer {
        /// The node's name.
        node: Arc<str>,
        /// Its resourceVersion.
        version: u64,
        /// `None`: deleted.
        spec: Option<Peer>,
    },
    /// A list begins.
    Restarted(Kind),
    /// A list is complete.
    Synced(Kind),
}

/// Which kinds have been listed as a whole at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) announcements: bool,
    pub(crate) peers: bool,
}

/// What both watches need.
#[derive(Clone)]
pub(crate) struct Sight {
    /// The API server.
    pub(crate) client: Client,
    /// Where everything goes.
    pub(crate) seen: mpsc::Sender<Seen>,
    /// Whenever it changes, everything is listed again.
    pub(crate) relists: watch::Receiver<u64>,
    /// For readiness.
    pub(crate) synced: watch::Sender<Synced>,
}

/// A kind that is watched.
trait Watched: Words + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static {
    /// The resource that has it as its spec.
    type Resource: Resource<DynamicType = ()>;
    /// Which.
    const KIND: Kind;

    /// What came; `None`: it is gone.
    fn seen(name: Arc<str>, version: u64, spec: Option<Self::Words>) -> Seen;
}

impl Watched for crds::AnnouncementSpec {
    type Resource = crds::Announcement;
    const KIND: Kind = Kind::Announcements;

    fn seen(name: Arc<str>, version: u64, spec: Option<Announcement>) -> Seen {
        Seen::Announcement {
            name,
            version,
            spec,
        }
    }
}

impl Watched for crds::SpeakerSpec {
    type Resource = crds::Speaker;
    const KIND: Kind = Kind::Peers;

    fn seen(name: Arc<str>, version: u64, spec: Option<Peer>) -> Seen {
        Seen::Peer {
            node: name,
            version,
            spec,
        }
    }
}

/// Watches Announcements for as long as somebody listens.
pub(crate) async fn announcements(sight: Sight) {
    follow::<crds::AnnouncementSpec>(sight, |_| {}).await;
}

/// Watches Speakers for as long as somebody listens, and tells who owns that of this node.
pub(crate) async fn speakers(sight: Sight, node: Arc<str>, owner: watch::Sender<Option<Owner>>) {
    follow::<crds::SpeakerSpec>(sight, |object| {
        if object.name() == &*node {
            let found = object.owner();
            owner.send_if_modified(|last| {
                let changed = found.is_some() && *last != found;
                if changed {
                    last.clone_from(&found);
                }
                changed
            });
        }
    })
    .await;
}

async fn follow<S: Watched>(mut sight: Sight, look: impl Fn(&Lean<S>)) {
    let mut names = Names::default();
    let mut trouble = Trouble::new::<S>();
    let mut streaming = true;
    loop {
        let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH);
        if streaming {
            config = config.streaming_lists();
        }
        let api = Api::<Lean<S>>::all(sight.client.clone());
        let mut events = pin!(watcher(api, config));
        loop {
            let event = tokio::select! {
                event = events.try_next() => event,
                Ok(()) = sight.relists.changed() => break,
                () = sight.seen.closed() => return,
            };
            let error = match event {
                Ok(Some(event)) => {
                    trouble.over(&event);
                    if let Event::Apply(object) | Event::InitApply(object) = &event {
                        look(object);
                    }
                    if let Event::InitDone = &event {
                        sight.synced.send_modify(|synced| match S::KIND {
                            Kind::Announcements => synced.announcements = true,
                            Kind::Peers => synced.peers = true,
                        });
                    }
                    if let Some(seen) = translated(event, &mut names)
                        && sight.seen.send(seen).await.is_err()
                    {
                        return;
                    }
                    continue;
                }
                // kube's watcher never ends; begin again if a later one does.
                Ok(None) => break,
                Err(error) => error,
            };
            if streaming && refuses_streaming(&error) {
                // The WatchList gate is off, which is Kubernetes 1.33's default.
                info!(
                    kind = ?S::KIND,
                    "the API server has no streaming lists: listing in pages"
                );
                streaming = false;
                break;
            }
            trouble.say(&error);
            sleep(pause(&error).mul_f64(1.0 + fastrand::f64())).await;
        }
    }
}

/// What one event tells the core; `None` when nothing.
fn translated<S: Watched>(event: Event<Lean<S>>, names: &mut Names) -> Option<Seen> {
    match event {
        Event::Init => Some(Seen::Restarted(S::KIND)),
        Event::InitDone => {
            names.forget_unused();
            Some(Seen::Synced(S::KIND))
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let spec = match object.spec.as_ref() {
                Ok(spec) => spec.words(names),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = &spec {
                // Its version is told all the same: nobody is to think that we have not seen it.
                let name = object.name();
                warn!(kind = ?S::KIND, name, error, "an object cannot be read: it counts as none");
            }
            Some(S::seen(object.name().into(), object.version(), spec.ok()))
        }
        Event::Delete(object) => Some(S::seen(object.name().into(), object.version(), None)),
    }
}

fn pause(error: &watcher::Error) -> Duration {
    match status(error).map(|status| status.code) {
        None => UNREACHABLE,
        Some(401 | 403 | 404) => REFUSED,
        Some(_) => UNABLE,
    }
}

/// Errors of one watch: the first is said, the end is said.
struct Trouble {
    kind: Kind,
    definition: String,
    said: bool,
}

impl Trouble {
    fn new<S: Watched>() -> Self {
        Self {
            kind: S::KIND,
            definition: format!("{}.{}", S::Resource::plural(&()), crds::GROUP),
            said: false,
        }
    }

    /// `Init` alone is no sign of life: listing in pages, it comes before the first request.
    fn over<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init => return,
            Event::Apply(_) | Event::Delete(_) | Event::InitApply(_) | Event::InitDone => {}
        }
        if std::mem::take(&mut self.said) {
            info!(kind = ?self.kind, "the watch works again");
        }
    }

    fn say(&mut self, error: &watcher::Error) {
        let kind = self.kind;
        // Routine: the server compacted its history or closed the connection.
        let routine = status(error).is_some_and(|status| status.code == 410);
        if routine || self.said {
            debug!(?kind, %error, "the watch failed");
            return;
        }
        self.said = true;
        match status(error) {
            Some(status) if status.code == 404 => warn!(
                ?kind,
                "the API server does not know {}: run `portolan crds | kubectl apply -f -`",
                self.definition
            ),
            Some(status) => warn!(
                ?kind,
                code = status.code,
                message = status.message,
                "the watch failed: trying again"
            ),
            None => warn!(?kind, %error, "the watch failed: trying again"),
        }
    }
}
