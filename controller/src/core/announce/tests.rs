#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{net::IpAddr, sync::Arc, time::Duration};

use crds::{AnnouncementSpec, SpeakerSpec, SpeakerStatusSpec};
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use model::{ServiceKey, Uid};
use serde_json::{Value, json};

use super::*;
use crate::core::effect::Failure;

mod rules;
mod steps;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}

/// Addresses of pool `lan`, unless another is named: `2001:db8::1@wan`.
fn wish(name: &str, addresses: &[&str], local: bool) -> Arc<Wish> {
    let address = |text: &&str| {
        let (address, pool) = text.split_once('@').unwrap_or((text, "lan"));
        (ip(address), pool.into())
    };
    Arc::new(Wish {
        key: key(name),
        uid: Uid::from(name),
        addresses: addresses.iter().map(address).collect(),
        local,
    })
}

fn a_node(object: Value) -> Option<Node> {
    let node: v1::Node = serde_json::from_value(object).unwrap();
    node_of(&node)
}

use super::node as node_of;

fn plain(name: &str, address: &str) -> Node {
    a_node(json!({
        "metadata": {"name": name, "uid": name, "labels": {"name": name}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }))
    .unwrap()
}

/// A slice of a Service: node and `ready`, `going` (serving and terminating) or `gone`.
fn endpoints(service: &str, endpoints: &[(&str, &str)]) -> Option<(ServiceKey, Slice)> {
    let endpoint = |(node, state): &(&str, &str)| {
        let conditions = match *state {
            "ready" => json!({"ready": true}),
            "going" => json!({"ready": false, "serving": true, "terminating": true}),
            "gone" => json!({"ready": false, "serving": false, "terminating": true}),
            "starting" => json!({"ready": false, "serving": false, "terminating": false}),
            other => panic!("{other}"),
        };
        let mut endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
        if !node.is_empty() {
            endpoint["nodeName"] = json!(node);
        }
        endpoint
    };
    let object: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "namespace": "shop", "name": service,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    }))
    .unwrap();
    slice(&object)
}

fn said(addresses: &[(&str, u32)]) -> SpeakerStatusSpec {
    let announced = |(ip, at): &(&str, u32)| json!({"ip": ip, "interfaces": ["eth0"], "since": format!("2026-11-29T00:00:{at:02}Z")});
    let announced: Vec<_> = addresses.iter().map(announced).collect();
    serde_json::from_value(json!({"announced": announced})).unwrap()
}

/// An announcer with its API server: what it writes is there at once, and comes back by the watch.
struct World {
    announcer: Announcer,
    now: Duration,
    version: u64,
    /// What it has written, in words.
    wrote: Vec<String>,
    told: Vec<Told>,
    /// Results are held back.
    stuck: bool,
    held: Vec<(Name, Change)>,
    announcements: BTreeMap<Arc<str>, AnnouncementSpec>,
    speakers: BTreeMap<Arc<str>, SpeakerSpec>,
}

impl World {
    /// Everything is listed and nothing is there.
    fn new() -> Self {
        let mut world = Self::blind();
        for kind in [
            Kind::Node,
            Kind::Slice,
            Kind::Announcement,
            Kind::Speaker,
            Kind::Status,
        ] {
            world.see(Seen::Restarted(kind));
            world.see(Seen::Synced(kind));
        }
        world
    }

    fn blind() -> Self {
        Self {
            announcer: Announcer::new(7),
            now: Duration::ZERO,
            version: 0,
            wrote: Vec::new(),
            told: Vec::new(),
            stuck: false,
            held: Vec::new(),
            announcements: BTreeMap::new(),
            speakers: BTreeMap::new(),
        }
    }

    fn see(&mut self, seen: Seen) {
        self.announcer.handle(Input::Seen(seen), self.now);
    }

    fn hear(&mut self, word: Word) {
        self.announcer.handle(Input::Word(word), self.now);
    }

    fn node(&mut self, name: &str, node: Option<Node>) {
        self.see(Seen::Node(name.into(), node));
    }

    fn slice(&mut self, service: &str, on: &[(&str, &str)]) {
        self.see(Seen::Slice(service.into(), endpoints(service, on)));
    }

    fn says(&mut self, node: &str, said: Option<SpeakerStatusSpec>) {
        self.see(Seen::Status(node.into(), said));
    }

    fn wishes(&mut self, wish: Arc<Wish>) {
        self.hear(Word::Wish(wish.key.clone(), Some(wish)));
    }

    /// Goes on until nothing is due, at most so long.
    fn go(&mut self, longest: Duration) {
        let end = self.now + longest;
        loop {
            let effects = self.announcer.poll(self.now);
            let quiet = effects.is_empty();
            for effect in effects {
                match effect {
                    Effect::Tell(told) => self.told.push(told),
                    Effect::Write(name, change) if self.stuck => self.held.push((name, change)),
                    Effect::Write(name, change) => self.write(name, change),
                }
            }
            if !quiet {
                continue;
            }
            match self.announcer.deadline() {
                Some(next) if next <= end => {
                    assert!(next >= self.now, "a deadline is not in the past");
                    self.now = next.max(self.now + Duration::from_millis(1));
                }
                Some(_) | None => break,
            }
        }
        self.now = end;
    }

    fn settle(&mut self) {
        self.go(Duration::from_secs(1));
    }

    /// The API server does it, tells so, and the watch brings it.
    fn write(&mut self, name: Name, change: Change) {
        let (result, seen) = self.serve(&name, change);
        self.announcer
            .handle(Input::Written(name, result), self.now);
        if let Some(seen) = seen {
            self.see(seen);
        }
    }

    fn serve(&mut self, name: &Name, change: Change) -> (Result<Arc<str>, Failure>, Option<Seen>) {
        self.version += 1;
        let version: Arc<str> = self.version.to_string().into();
        let (object, plain) = name;
        let seen = match change {
            Change::Announcement(_, spec) => {
                self.wrote.push(format!("announcement {plain}"));
                self.announcements.insert(plain.clone(), (*spec).clone());
                Seen::Announcement(plain.clone(), Some(found(&version, &spec, None)))
            }
            Change::Speaker(_, spec, owner) => {
                self.wrote.push(format!("speaker {plain}"));
                self.speakers.insert(plain.clone(), (*spec).clone());
                Seen::Speaker(plain.clone(), Some(found(&version, &spec, Some(owner))))
            }
            Change::Delete { .. } => {
                self.wrote.push(format!("delete {plain}"));
                match object {
                    Object::Announcement => {
                        self.announcements.remove(plain);
                        Seen::Announcement(plain.clone(), None)
                    }
                    Object::Speaker => {
                        self.speakers.remove(plain);
                        Seen::Speaker(plain.clone(), None)
                    }
                }
            }
        };
        (Ok(version), Some(seen))
    }

    fn wrote(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wrote)
    }

    /// What was told since asked last, in one line each.
    fn told(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        told.iter()
            .map(|told| format!("{} {}: {}", told.key.name, told.reason, told.message))
            .collect()
    }

    fn announcement(&self, name: &str) -> Value {
        json!(self.announcements.get(name))
    }
}

fn found<S: Clone>(version: &Arc<str>, spec: &S, owner: Option<Uid>) -> Found<S> {
    Found {
        version: version.clone(),
        uid: Uid::from("object"),
        ours: true,
        owner,
        spec: spec.clone(),
    }
}

fn policies(names: &[&str]) -> Policies {
    let policy = |name: &&str| (Arc::from(*name), Arc::default());
    names.iter().map(policy).collect()
}

/// Nodes `a` and `b`, pool `lan`, and these wishes.
fn lan(wishes: &[Arc<Wish>]) -> World {
    let mut world = World::new();
    world.node("a", Some(plain("a", "10.0.0.1")));
    world.node("b", Some(plain("b", "10.0.0.2")));
    world.hear(Word::All(policies(&["lan"]), wishes.to_vec()));
    world
}
