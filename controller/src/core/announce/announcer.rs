//! The memory of the announcing: wishes, nodes, endpoints, what the API server has and what the
//! speakers say. Sans-IO: [`Announcer::handle`] takes what happened, [`Announcer::poll`] says what to
//! do. Only what a change touches is computed anew, and only what differs is written.
//!
//! Nothing is written before everything is known: a restart must not take away an address that is
//! announced.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use crds::{AnnouncementSpec, SpeakerSpec, SpeakerStatusSpec};
use model::{ServiceKey, Uid};

use super::{
    Told, Word,
    answers::Answers,
    endpoints::{Endpoints, Slice},
    groups::Groups,
    node::Node,
    policy::Policies,
    verdict::{Facts, Verdict},
    wanted,
};
use crate::core::{effect::Failure, failing::Failing, ledger::newer};

mod told;
mod write;

/// Changes that come so close together are one: a Pod that is replaced is several.
const GATHER: Duration = Duration::from_millis(20);
/// Writes under way at once.
const WRITES: usize = 16;
/// A write's echo that has not come by the watch after so long is not waited for any longer.
const ECHO: Duration = Duration::from_secs(30);
/// That nobody answers though somebody could is told after so long: longer than a speaker takes to
/// start to answer and to say so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kinds watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1` Node.
    Node,
    /// `discovery.k8s.io/v1` EndpointSlice.
    Slice,
    /// Announcement.
    Announcement,
    /// Speaker.
    Speaker,
    /// SpeakerStatus.
    Status,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Node,
        Self::Slice,
        Self::Announcement,
        Self::Speaker,
        Self::Status,
    ];

    /// Whether it is needed only while some pool is announced: then nothing but what was written
    /// before is left to be looked at.
    pub fn only_in_use(self) -> bool {
        match self {
            Self::Node | Self::Slice | Self::Status => true,
            Self::Announcement | Self::Speaker => false,
        }
    }
}

/// An object of ours as the API server has it.
#[derive(Clone, PartialEq, Debug)]
pub struct Found<S> {
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// `metadata.uid`.
    pub uid: Uid,
    /// It has our label: it goes when nobody wants it.
    pub ours: bool,
    /// The uid of the Node that owns it.
    pub owner: Option<Uid>,
    /// What it says.
    pub spec: S,
}

/// What a watch saw. Names are `metadata.name`, with the namespace before it where there is one.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    /// A Node; `None`: it is gone.
    Node(Arc<str>, Option<Node>),
    /// A slice; `None`: it is gone, or nobody's.
    Slice(Arc<str>, Option<(ServiceKey, Slice)>),
    /// An Announcement.
    Announcement(Arc<str>, Option<Found<AnnouncementSpec>>),
    /// A Speaker.
    Speaker(Arc<str>, Option<Found<SpeakerSpec>>),
    /// A SpeakerStatus.
    Status(Arc<str>, Option<SpeakerStatusSpec>),
    /// An object that cannot be read: it stays as last known.
    Unreadable(Kind, Arc<str>),
    /// A list of this kind begins.
    Restarted(Kind),
    /// It is complete: what has not come again is gone.
    Synced(Kind),
}

/// Which of the objects that are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Object {
    /// A Speaker: first, as no Announcement is of use without them.
    Speaker,
    /// An Announcement.
    Announcement,
}

/// Which object.
pub type Name = (Object, Arc<str>);

/// What an object is to say.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// An Announcement, made anew or, with this version, changed. Twice is harmless: the second time
    /// it exists, or has another version.
    Announcement(Option<Arc<str>>, Arc<AnnouncementSpec>),
    /// Likewise a Speaker, whose owner is the Node of its name and this uid.
    Speaker(Option<Arc<str>>, Arc<SpeakerSpec>, Uid),
    /// It is to go, if it is still this one in this version. Twice is harmless: the second time it is
    /// gone, or another.
    Delete {
        /// Its version.
        version: Arc<str>,
        /// Its uid.
        uid: Uid,
    },
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Write; the result is [`Input::Written`].
    Write(Name, Change),
    /// Tell the engine.
    Tell(Told),
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The engine has spoken.
    Word(Word),
    /// This process does not lead any more: what was said is void, and no result will come.
    Void,
    /// A watch has seen something.
    Seen(Seen),
    /// The result of a write: the new version, which of a deletion is of no account.
    Written(Name, Result<Arc<str>, Failure>),
}

/// An object that is not decided on for now.
#[derive(Debug)]
enum Busy {
    /// Its write is under way.
    Writing(Deleting),
    /// It was written; this version (of a deletion: its end) is awaited by the watch, but no longer
    /// than this.
    Echo(Option<Arc<str>>, Duration),
    /// A write has failed; again then.
    Failed(Duration),
}

type Deleting = bool;

/// The memory.
#[derive(Debug)]
pub struct Announcer {
    /// The engine has said everything since this process leads.
    stated: bool,
    policies: Policies,
    groups: Groups,
    nodes: BTreeMap<Arc<str>, Node>,
    endpoints: Endpoints,
    answers: Answers,
    announcements: BTreeMap<Arc<str>, Found<AnnouncementSpec>>,
    speakers: BTreeMap<Arc<str>, Found<SpeakerSpec>>,
    synced: BTreeSet<Kind>,
    relisting: BTreeMap<Kind, HashSet<Arc<str>>>,

    /// Wanted, as computed last; what is dirty is computed anew.
    wanted_announcements: BTreeMap<Arc<str>, Arc<AnnouncementSpec>>,
    wanted_speakers: BTreeMap<Arc<str>, (Arc<SpeakerSpec>, Uid)>,
    dirty_groups: BTreeSet<Arc<str>>,
    dirty_nodes: BTreeSet<Arc<str>>,
    /// Services whose verdict may be another.
    dirty_services: BTreeSet<ServiceKey>,
    /// When what is dirty is looked at.
    due: Option<Duration>,

    /// Objects that may differ from what is wanted.
    unequal: BTreeSet<Name>,
    busy: HashMap<Name, Busy>,
    failing: Failing<Name>,
    writing: usize,

    told: HashMap<ServiceKey, Told>,
    /// Since when nobody answers for a Service though somebody could.
    silent: HashMap<ServiceKey, Duration>,
}

impl Announcer {
    /// One that knows nothing yet; the seed is for jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            stated: false,
            policies: Policies::new(),
            groups: Groups::default(),
            nodes: BTreeMap::new(),
            endpoints: Endpoints::default(),
            answers: Answers::default(),
            announcements: BTreeMap::new(),
            speakers: BTreeMap::new(),
            synced: BTreeSet::new(),
            relisting: BTreeMap::new(),
            wanted_announcements: BTreeMap::new(),
            wanted_speakers: BTreeMap::new(),
            dirty_groups: BTreeSet::new(),
            dirty_nodes: BTreeSet::new(),
            dirty_services: BTreeSet::new(),
            due: None,
            unequal: BTreeSet::new(),
            busy: HashMap::new(),
            failing: Failing::new(seed),
            writing: 0,
            told: HashMap::new(),
            silent: HashMap::new(),
        }
    }

    /// Whether some pool is announced: without that there is no need to see
    /// [what is needed only then](Kind::only_in_use).
    pub fn in_use(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Whether nothing is under way or due.
    pub fn is_idle(&self) -> bool {
        self.due.is_none() && self.unequal.is_empty() && self.busy.is_empty()
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Duration) {
        match input {
            Input::Word(word) => self.hear(word),
            Input::Void => self.void(),
            Input::Seen(seen) => self.see(seen),
            Input::Written(name, result) => self.written(&name, result, now),
        }
        let dirty = !self.dirty_groups.is_empty()
            || !self.dirty_nodes.is_empty()
            || !self.dirty_services.is_empty();
        if dirty && self.due.is_none() {
            self.due = Some(now + GATHER);
        }
    }

    /// Says what to do now.
    pub fn poll(&mut self, now: Duration) -> Vec<Effect> {
        if !self.knows() {
            return Vec::new();
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.compute();
        }
        let mut effects = Vec::new();
        if self.due.is_some() {
            // What is wanted is about to be another, or has not been computed at all yet.
            return effects;
        }
        self.write(now, &mut effects);
        self.tell(now, &mut effects);
        effects
    }

    /// When [`Self::poll`] has something to do that no input will announce.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.knows() {
            return None;
        }
        let busy = self.busy.values().filter_map(|busy| match busy {
            Busy::Writing(_) => None,
            Busy::Echo(_, until) | Busy::Failed(until) => Some(*until),
        });
        let silent = self.silent.values().map(|since| *since + PATIENCE);
        busy.chain(silent).chain(self.due).min()
    }

    /// Whether all that must be known is known.
    fn knows(&self) -> bool {
        let needed = |kind: &Kind| self.in_use() || !kind.only_in_use();
        let mut needed = Kind::ALL.iter().filter(|kind| needed(kind));
        self.stated && needed.all(|kind| self.synced.contains(kind))
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::All(policies, wishes) => {
                let keys: Vec<ServiceKey> = self.groups.services().cloned().collect();
                let mut left: HashSet<ServiceKey> = keys.into_iter().collect();
                for wish in wishes {
                    left.remove(&wish.key);
                    let key = wish.key.clone();
                    self.wish(&key, Some(wish));
                }
                for key in left {
                    self.wish(&key, None);
                }
                self.stated = true;
                // The engine has forgotten what it was told.
                self.told.clear();
                self.silent.clear();
                self.policies = policies;
                self.all_dirty();
            }
            Word::Policies(policies) => {
                if self.policies != policies {
                    self.policies = policies;
                    self.all_dirty();
                }
            }
            Word::Wish(key, wish) => self.wish(&key, wish),
        }
    }

    fn wish(&mut self, key: &ServiceKey, wish: Option<Arc<super::Wish>>) {
        let touched = self.groups.set(key, wish);
        for name in touched {
            self.group_dirty(&name);
        }
        self.dirty_services.insert(key.clone());
    }

    fn group_dirty(&mut self, name: &Arc<str>) {
        if let Some(group) = self.groups.get(name) {
            self.dirty_services.extend(group.services.iter().cloned());
        }
        self.dirty_groups.insert(Arc::clone(name));
    }

    fn all_dirty(&mut self) {
        self.dirty_groups.extend(self.groups.names().cloned());
        let known = self
            .wanted_announcements
            .keys()
            .chain(self.announcements.keys());
        self.dirty_groups.extend(known.cloned());
        self.dirty_nodes.extend(self.nodes.keys().cloned());
        let known = self.wanted_speakers.keys().chain(self.speakers.keys());
        self.dirty_nodes.extend(known.cloned());
        self.dirty_services.extend(self.groups.services().cloned());
    }

    fn void(&mut self) {
        self.stated = false;
        self.busy.clear();
        self.writing = 0;
        self.failing.clear();
        self.unequal.clear();
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Node(name, node) => self.node(&name, node),
            Seen::Slice(name, slice) => self.slice(&name, slice),
            Seen::Announcement(name, found) => {
                self.came(Kind::Announcement, &name);
                let object = (Object::Announcement, name);
                if let Some(found) = found {
                    self.echo(&object, Some(&found.version));
                    self.announcements.insert(object.1.clone(), found);
                } else {
                    self.echo(&object, None);
                    self.announcements.remove(&object.1);
                }
                self.unequal.insert(object);
            }
            Seen::Speaker(name, found) => {
                self.came(Kind::Speaker, &name);
                let object = (Object::Speaker, name);
                if let Some(found) = found {
                    self.echo(&object, Some(&found.version));
                    self.speakers.insert(object.1.clone(), found);
                } else {
                    self.echo(&object, None);
                    self.speakers.remove(&object.1);
                }
                self.unequal.insert(object);
            }
            Seen::Status(name, said) => {
                self.came(Kind::Status, &name);
                self.status(&name, said.as_ref());
            }
            Seen::Unreadable(kind, name) => self.came(kind, &name),
            Seen::Restarted(kind) => {
                self.relisting.insert(kind, HashSet::new());
            }
            Seen::Synced(kind) => self.listed(kind),
        }
    }

    /// An object was seen: a list that runs does not sweep it away.
    fn came(&mut self, kind: Kind, name: &Arc<str>) {
        if let Some(seen) = self.relisting.get_mut(&kind) {
            seen.insert(Arc::clone(name));
        }
    }

    fn listed(&mut self, kind: Kind) {
        self.synced.insert(kind);
        let Some(seen) = self.relisting.remove(&kind) else {
            return;
        };
        let gone = |names: &mut dyn Iterator<Item = &Arc<str>>| -> Vec<Arc<str>> {
            names
                .filter(|name| !seen.contains(*name))
                .cloned()
                .collect()
        };
        let gone = match kind {
            Kind::Node => gone(&mut self.nodes.keys()),
            Kind::Slice => gone(&mut self.endpoints.names()),
            Kind::Announcement => gone(&mut self.announcements.keys()),
            Kind::Speaker => gone(&mut self.speakers.keys()),
            Kind::Status => gone(&mut self.answers.nodes()),
        };
        for name in gone {
            self.see(match kind {
                Kind::Node => Seen::Node(name, None),
                Kind::Slice => Seen::Slice(name, None),
                Kind::Announcement => Seen::Announcement(name, None),
                Kind::Speaker => Seen::Speaker(name, None),
                Kind::Status => Seen::Status(name, None),
            });
        }
    }

    fn node(&mut self, name: &Arc<str>, node: Option<Node>) {
        self.came(Kind::Node, name);
        if self.nodes.get(name) == node.as_ref() {
            return; // a heartbeat
        }
        match node {
            Some(node) => self.nodes.insert(Arc::clone(name), node),
            None => self.nodes.remove(name),
        };
        self.dirty_nodes.insert(Arc::clone(name));
        // What it says of addresses counts, or does no longer.
        let said: Vec<IpAddr> = self.answers.of(name).collect();
        for ip in said {
            self.dirty_services.extend(self.groups.sharers(ip).cloned());
        }
        self.waiting_dirty();
    }

    fn slice(&mut self, name: &Arc<str>, slice: Option<(ServiceKey, Slice)>) {
        self.came(Kind::Slice, name);
        for key in self.endpoints.set(name, slice) {
            let named = self.groups.wish(&key).and_then(|wish| self.groups.of(wish));
            if let Some(name) = named.map(|(name, _)| Arc::clone(name)) {
                self.group_dirty(&name);
            }
        }
    }

    fn status(&mut self, node: &Arc<str>, said: Option<&SpeakerStatusSpec>) {
        let (addresses, able) = self.answers.set(node, said);
        for ip in addresses {
            self.dirty_services.extend(self.groups.sharers(ip).cloned());
        }
        if able {
            self.waiting_dirty();
        }
    }

    /// Everybody for whom nobody answers: their sentences name nodes.
    fn waiting_dirty(&mut self) {
        let waiting = self.told.iter().filter(|(_, told)| !told.ready);
        let waiting = waiting.map(|(key, _)| key);
        self.dirty_services
            .extend(waiting.chain(self.silent.keys()).cloned());
    }

    /// Computes what is wanted where that may have changed.
    fn compute(&mut self) {
        for name in std::mem::take(&mut self.dirty_groups) {
            let group = self.groups.get(&name);
            let wanted = group.and_then(|group| {
                wanted::announcement(group, &self.groups, &self.policies, &self.endpoints)
            });
            match wanted {
                Some(spec) => self
                    .wanted_announcements
                    .insert(Arc::clone(&name), Arc::new(spec)),
                None => self.wanted_announcements.remove(&name),
            };
            self.unequal.insert((Object::Announcement, name));
        }
        for name in std::mem::take(&mut self.dirty_nodes) {
            let node = self.nodes.get(&name).filter(|_| !self.policies.is_empty());
            let wanted = node.and_then(|node| {
                let spec = wanted::speaker(node, &self.policies)?;
                Some((Arc::new(spec), node.uid.clone()))
            });
            match wanted {
                Some(wanted) => self.wanted_speakers.insert(Arc::clone(&name), wanted),
                None => self.wanted_speakers.remove(&name),
            };
            self.unequal.insert((Object::Speaker, name));
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            policies: &self.policies,
            groups: &self.groups,
            endpoints: &self.endpoints,
            nodes: &self.nodes,
            answers: &self.answers,
        }
    }
}
