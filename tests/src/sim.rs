//! A world without IO: an API server of JSON objects with resourceVersions, and any number of
//! engines that see it late, lose replies and crash. One seed, one history.
//!
//! Only what G1 rests on is modelled: preconditions, watch order per object, lists and quorum reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use allocator::block::{BlockId, Claim};
use controller::core::{
    admit::{self, Answer},
    effect::{Effect, Failure, Input, Kind, Now, Observed, ServicePatch},
    engine::{Engine, LOOK_EVERY, Settings},
    record::PoolKind,
    repair::Recorded,
    reserve::Change,
    translate,
};
use fastrand::Rng;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    networking::v1::{IPAddress, ServiceCIDR},
};
use model::{Number, Reason, ServiceKey, Uid, Use};
use serde_json::{Value, json};

use crate::fixtures::set;

/// The API server's state.
#[derive(Debug, Default)]
pub struct Store {
    version: u64,
    uids: u64,
    /// By kind and name (`namespace/name` for Services).
    objects: BTreeMap<(Kind, String), Value>,
    /// Every change, oldest first; the position is the watch cursor.
    history: Vec<(Kind, String, Option<Value>, Value)>,
    /// Every write that changed something, as `kind verb`, for counting.
    pub writes: BTreeMap<String, u64>,
    /// Judges nodePorts as kube-apiserver does: a port that another Service has is refused.
    pub judges_ports: bool,
    /// The IPAddress objects; `None`: this API server is older than they are.
    pub recorded: Option<Recorded>,
    /// The Events there are: the shell names each by its content, and a second of one name is refused.
    told: BTreeSet<(ServiceKey, Uid, Reason, String)>,
    /// What it says of itself.
    pub server_version: Option<(u32, u32)>,
}

fn kind_of(object: &Value) -> Kind {
    match object["kind"].as_str().expect("a kind") {
        "Service" => Kind::Service,
        "Namespace" => Kind::Namespace,
        "LoadBalancerClass" => Kind::Class,
        "AddressPool" => Kind::AddressPool,
        "NodePortPool" => Kind::NodePortPool,
        "AllocationBlock" => Kind::Block,
        "ServiceCIDR" => Kind::ServiceCidr,
        "IPAddress" => Kind::Reservation,
        other => panic!("no such kind: {other}"),
    }
}

fn name_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().expect("a name");
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl Store {
    /// Creates an object; panics if it exists.
    pub fn create(&mut self, mut object: Value) -> String {
        let slot = (kind_of(&object), name_of(&object));
        assert!(!self.objects.contains_key(&slot), "{slot:?} exists");
        self.uids += 1;
        set(
            &mut object,
            "/metadata/uid",
            json!(format!("uid-{:04}", self.uids)),
        );
        if object["metadata"]["creationTimestamp"].is_null() {
            let at = jiff_time(1_700_000_000 + i64::try_from(self.uids).unwrap());
            set(&mut object, "/metadata/creationTimestamp", json!(at));
        }
        set(&mut object, "/metadata/generation", json!(1));
        self.put(slot.clone(), object);
        slot.1
    }

    fn put(&mut self, slot: (Kind, String), mut object: Value) -> u64 {
        self.version += 1;
        set(
            &mut object,
            "/metadata/resourceVersion",
            json!(self.version.to_string()),
        );
        self.history
            .push((slot.0, slot.1.clone(), Some(object.clone()), Value::Null));
        self.objects.insert(slot, object);
        self.version
    }

    /// An object, if it is there.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// A user's edit: no precondition. Leaving LoadBalancer wipes the ingress, as kube-apiserver does.
    pub fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.get(kind, name).cloned() else {
            return;
        };
        let mut object = old.clone();
        change(&mut object);
        if kind == Kind::Service && object["spec"]["type"] != "LoadBalancer" {
            set(&mut object, "/status/loadBalancer", Value::Null);
        }
        if object["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            set(&mut object, "/metadata/generation", json!(generation));
        }
        if object != old {
            self.put((kind, name.to_owned()), object);
        }
    }

    /// Deletes an object.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        if let Some(last) = self.objects.remove(&(kind, name.to_owned())) {
            self.version += 1;
            self.history.push((kind, name.to_owned(), None, last));
        }
    }

    /// All objects of a kind.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(move |((k, _), _)| *k == kind)
            .map(|(_, object)| object)
    }

    /// Names of all Services.
    pub fn service_names(&self) -> Vec<String> {
        self.all(Kind::Service).map(name_of).collect()
    }

    fn perform(&mut self, effect: &Effect) -> Option<Input> {
        let input = match effect {
            Effect::WriteService { pass, key, patch } => Input::ServiceWritten {
                pass: *pass,
                key: key.clone(),
                result: self.write_service(&key.to_string(), patch),
            },
            Effect::ReadService { pass, key } => Input::ServiceRead {
                pass: *pass,
                key: key.clone(),
                result: Ok(self
                    .get(Kind::Service, &key.to_string())
                    .map(|o| Arc::new(service(o)))),
            },
            Effect::WriteBlock { id, version, spec } => {
                let slot = (Kind::Block, id.name());
                let current = self.objects.get(&slot).cloned();
                let current_version = current.as_ref().map(|o| {
                    o["metadata"]["resourceVersion"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                });
                let result = match (version, current_version) {
                    (None, None) => {
                        self.count("block create");
                        let object = json!({
                            "apiVersion": "portolan.dev/v1alpha1", "kind": "AllocationBlock",
                            "metadata": {"name": id.name(), "uid": id.name()}, "spec": spec,
                        });
                        Ok(self.put(slot, object).to_string().into())
                    }
                    (Some(wanted), Some(is)) if **wanted == *is => {
                        self.count("block update");
                        let mut object = current.unwrap();
                        object["spec"] = json!(spec);
                        Ok(self.put(slot, object).to_string().into())
                    }
                    (Some(_), None) => Err(Failure::NotFound),
                    _ => Err(Failure::Conflict),
                };
                Input::BlockWritten { id: *id, result }
            }
            Effect::ReadBlock { id } => Input::BlockRead {
                id: *id,
                result: match self.get(Kind::Block, &id.name()) {
                    None => Ok(None),
                    Some(object) => block(object)
                        .map(Some)
                        .ok_or_else(|| Failure::Unknown("unreadable".to_owned())),
                },
            },
            Effect::Emit(note) => {
                let name = (
                    note.key.clone(),
                    note.uid.clone(),
                    note.reason,
                    note.note.clone(),
                );
                if !self.told.insert(name) {
                    return None;
                }
                self.count("event");
                *self
                    .writes
                    .entry(format!("event {}", note.reason))
                    .or_default() += 1;
                return None;
            }
            Effect::WritePoolStatus { kind, name, patch } => {
                let kind_ = match kind {
                    PoolKind::Address => Kind::AddressPool,
                    PoolKind::NodePort => Kind::NodePortPool,
                };
                Input::PoolStatusWritten {
                    kind: *kind,
                    name: name.clone(),
                    result: self.merge(kind_, name, patch, "pool status").map(|_| ()),
                }
            }
            Effect::ListAddresses => {
                let recorded = self.recorded.clone();
                Input::AddressesListed(recorded.ok_or(Failure::NotFound))
            }
            Effect::Converge { .. } | Effect::Announce(_) | Effect::Answer { .. } => return None,
            Effect::WriteReservation { address, change } => Input::ReservationWritten {
                address: *address,
                result: self.reserve(*address, change),
            },
            Effect::WriteClassStatus { name, patch } => Input::ClassStatusWritten {
                name: name.clone(),
                result: self
                    .merge(Kind::Class, name, patch, "class status")
                    .map(|_| ()),
            },
        };
        Some(input)
    }

    /// An IPAddress of ours is made or deleted; a Service's own is in the way as at the API server.
    fn reserve(&mut self, address: IpAddr, change: &Change) -> Result<(), Failure> {
        let slot = (Kind::Reservation, address.to_string());
        match change {
            Change::Create { pool, uid } => {
                let text = json!(address.to_string());
                let shows = |o: &Value| {
                    let ips = o["spec"]["clusterIPs"].as_array();
                    ips.is_some_and(|ips| ips.contains(&text))
                };
                if self.objects.contains_key(&slot) || self.all(Kind::Service).any(shows) {
                    return Err(Failure::Conflict);
                }
                self.count("reservation create");
                self.create(json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                    "metadata": {
                        "name": text,
                        "ownerReferences": [{
                            "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
                            "name": &**pool, "uid": uid.as_str(),
                        }],
                    },
                    "spec": {"parentRef": {
                        "group": "portolan.dev", "resource": "addresspools", "name": &**pool,
                    }},
                }));
            }
            Change::Delete { uid, version } => {
                let found = self.objects.get(&slot).ok_or(Failure::NotFound)?;
                let is = |field: &str, text: &str| found["metadata"][field] == text;
                if !is("uid", uid.as_str()) || !is("resourceVersion", version) {
                    return Err(Failure::Conflict);
                }
                self.count("reservation delete");
                self.delete(slot.0, &slot.1);
            }
        }
        Ok(())
    }

    fn count(&mut self, what: &str) {
        *self.writes.entry(what.to_owned()).or_default() += 1;
    }

    fn merge(
        &mut self,
        kind: Kind,
        name: &str,
        patch: &Value,
        what: &str,
    ) -> Result<Arc<str>, Failure> {
        let slot = (kind, name.to_owned());
        let Some(old) = self.objects.get(&slot).cloned() else {
            return Err(Failure::NotFound);
        };
        let mut new = old.clone();
        json_patch::merge(&mut new, patch);
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(Failure::Conflict);
        }
        if new == old {
            *self.writes.entry(format!("no-op {what}")).or_default() += 1;
            return Ok(old["metadata"]["resourceVersion"].as_str().unwrap().into());
        }
        self.count(what);
        Ok(self.put(slot, new).to_string().into())
    }

    fn write_service(&mut self, name: &str, patch: &ServicePatch) -> Result<Arc<str>, Failure> {
        match patch {
            ServicePatch::Status(patch) => self.merge(Kind::Service, name, patch, "service status"),
            ServicePatch::Spec(patch) => {
                let slot = (Kind::Service, name.to_owned());
                let Some(old) = self.objects.get(&slot).cloned() else {
                    return Err(Failure::NotFound);
                };
                let mut new = old.clone();
                let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
                json_patch::patch(&mut new, &patch).unwrap();
                if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
                    return Err(Failure::Conflict);
                }
                if self.judges_ports {
                    self.judge_ports(name, &old, &new)?;
                }
                self.count("service spec");
                Ok(self.put(slot, new).to_string().into())
            }
        }
    }
}

impl Store {
    /// Whether no Service but this one has the port.
    pub fn port_is_free(&self, port: u16, but: &str) -> bool {
        let mut others = self.all(Kind::Service).filter(|o| name_of(o) != but);
        !others.any(|other| node_ports(other).contains(&port))
    }

    /// kube-apiserver's judgement about new nodePorts, and ours about those that Portolan writes: by
    /// rule 2 of the proof of G1 they are in the ledger when the write arrives.
    fn judge_ports(&self, name: &str, old: &Value, new: &Value) -> Result<(), Failure> {
        let before = node_ports(old);
        let uid = new["metadata"]["uid"].as_str().unwrap();
        for port in node_ports(new).difference(&before) {
            if !self.port_is_free(*port, name) {
                return Err(Failure::Refused(format!(
                    "spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
                )));
            }
            let number = Number::port(*port);
            let held = self
                .get(Kind::Block, &BlockId::of(number).name())
                .and_then(block)
                .is_some_and(|record| {
                    matches!(record.claims.unwrap().get(&number), Some(Claim::Held(holders))
                        if holders.iter().any(|h| h.uid.as_str() == uid && h.usage == Use::NodePort))
                });
            assert!(
                held,
                "{port} was written into {name} and not claimed for it"
            );
        }
        Ok(())
    }
}

/// The nodePorts of a Service.
pub fn node_ports(service: &Value) -> BTreeSet<u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|port| port["nodePort"].as_u64());
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .collect()
}

fn jiff_time(unix: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_second(unix)
        .unwrap()
        .to_string()
}

fn service(object: &Value) -> controller::core::record::ServiceRecord {
    let service: Service = serde_json::from_value(object.clone()).unwrap();
    translate::service(&service).unwrap()
}

fn block(object: &Value) -> Option<controller::core::record::BlockRecord> {
    let block: crds::AllocationBlock = serde_json::from_value(object.clone()).ok()?;
    translate::block(&block).ok()
}

fn observed(kind: Kind, object: &Value) -> Observed {
    match kind {
        Kind::Service => Observed::Service(Arc::new(service(object))),
        Kind::Namespace => {
            let namespace: Namespace = serde_json::from_value(object.clone()).unwrap();
            Observed::Namespace(translate::namespace(&namespace).unwrap())
        }
        Kind::Class => {
            let class: crds::LoadBalancerClass = serde_json::from_value(object.clone()).unwrap();
            Observed::Class(translate::class(&class).unwrap())
        }
        Kind::AddressPool => {
            let pool: crds::AddressPool = serde_json::from_value(object.clone()).unwrap();
            Observed::Pool(translate::address_pool(&pool).unwrap())
        }
        Kind::NodePortPool => {
            let pool: crds::NodePortPool = serde_json::from_value(object.clone()).unwrap();
            Observed::Pool(translate::node_port_pool(&pool).unwrap())
        }
        Kind::ServiceCidr => {
            let cidr: ServiceCIDR = serde_json::from_value(object.clone()).unwrap();
            Observed::ServiceCidr(translate::service_cidr(&cidr).unwrap())
        }
        Kind::Reservation => {
            let found: IPAddress = serde_json::from_value(object.clone()).unwrap();
            Observed::Reservation(translate::reservation(&found).unwrap())
        }
        Kind::Block => match block(object) {
            Some(record) => Observed::Block(record),
            None => Observed::Unreadable {
                kind,
                name: name_of(object),
                error: "not a block".to_owned(),
            },
        },
    }
}

fn deleted(kind: Kind, name: &str, last: &Value) -> Observed {
    match kind {
        Kind::Service => {
            let (namespace, name) = name.split_once('/').unwrap();
            let uid = last["metadata"]["uid"].as_str().unwrap();
            Observed::ServiceDeleted(ServiceKey::new(namespace, name), Uid::from(uid))
        }
        Kind::Namespace => Observed::NamespaceDeleted(name.into()),
        Kind::Class => Observed::ClassDeleted(name.into()),
        Kind::AddressPool => Observed::PoolDeleted(PoolKind::Address, name.into()),
        Kind::NodePortPool => Observed::PoolDeleted(PoolKind::NodePort, name.into()),
        Kind::ServiceCidr => Observed::ServiceCidrDeleted(name.into()),
        Kind::Reservation => Observed::ReservationDeleted(name.parse().unwrap()),
        Kind::Block => Observed::BlockDeleted(BlockId::parse_name(name).unwrap()),
    }
}

/// One replica.
#[derive(Debug)]
pub struct Replica {
    /// Its engine.
    pub engine: Engine,
    /// How far each kind's watch has come in the history.
    cursors: BTreeMap<Kind, usize>,
    inbox: Vec<Input>,
    generation: u64,
}

/// A request on its way: whose, in which life of that replica, what.
#[derive(Debug)]
struct Request {
    replica: usize,
    generation: u64,
    effect: Effect,
    /// It does not arrive before this tick (ignored once the world settles).
    not_before: u64,
}

/// The whole.
#[derive(Debug)]
pub struct World {
    /// The API server.
    pub store: Store,
    /// The replicas; all believe they lead.
    pub replicas: Vec<Replica>,
    requests: Vec<Request>,
    /// What was asked of whom by [`World::ask`] and has been answered, by its number.
    pub answers: Vec<(u64, Answer)>,
    asked: u64,
    /// Steps so far.
    pub tick: u64,
    /// Watches that deliver nothing before that tick.
    stalls: BTreeMap<(usize, Kind), u64>,
    /// Monotonic time.
    pub clock: Duration,
    /// The chances.
    pub rng: Rng,
    /// Faults on: conflicts out of nowhere, lost replies, requests that never arrive.
    pub faults: bool,
    identities: u64,
}

impl World {
    /// A world with the namespace `default` and so many replicas.
    pub fn new(seed: u64, replicas: usize) -> Self {
        let mut world = Self {
            store: Store::default(),
            replicas: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            asked: 0,
            tick: 0,
            stalls: BTreeMap::new(),
            clock: Duration::ZERO,
            rng: Rng::with_seed(seed),
            faults: false,
            identities: 0,
        };
        world.store.create(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
        );
        for _ in 0..replicas {
            let replica = world.fresh();
            world.replicas.push(replica);
        }
        world
    }

    /// What a replica's clocks say.
    pub fn now(&self) -> Now {
        Now {
            mono: self.clock,
            wall: 1_800_000_000 + i64::try_from(self.clock.as_secs()).unwrap(),
        }
    }

    fn fresh(&mut self) -> Replica {
        self.identities += 1;
        let mut engine = Engine::new(Settings {
            identity: format!("replica-{}", self.identities).into(),
            seed: self.rng.u64(..),
            aws: false,
            node_ports: Default::default(),
            look_every: LOOK_EVERY,
            reserve_cluster_ips: true,
        });
        engine.handle(Input::Leading(true), self.now());
        Replica {
            engine,
            cursors: BTreeMap::new(),
            inbox: Vec::new(),
            generation: self.identities,
        }
    }

    /// Kills a replica and starts it anew with empty memory; what it has sent stays on its way.
    pub fn crash(&mut self, replica: usize) {
        self.replicas[replica] = self.fresh();
    }

    /// The API server asks a replica before it creates this object, or before it puts it in the place
    /// of `old`; returns the question's number.
    pub fn ask(
        &mut self,
        replica: usize,
        object: &Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> u64 {
        self.asked += 1;
        let id = self.asked;
        let service = json!({"group": "", "version": "v1", "kind": "Service"});
        let request = json!({
            "uid": format!("call-{id}"), "kind": service,
            "resource": {"group": "", "version": "v1", "resource": "services"},
            "name": object["metadata"]["name"].as_str().unwrap_or_default(),
            "namespace": object["metadata"]["namespace"],
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {}, "object": object, "oldObject": old, "dryRun": dry_run,
        });
        let request = serde_json::from_value(request).expect("a request");
        let review = Arc::new(admit::review(id, &request).expect("a Service"));
        let now = self.now();
        let deadline = now.mono + Duration::from_secs(2);
        let input = Input::Review { review, deadline };
        self.replicas[replica].engine.handle(input, now);
        id
    }

    /// No request under way arrives, and none is answered.
    pub fn drop_requests(&mut self) {
        self.requests.clear();
    }

    /// Tells a replica whether it leads.
    pub fn lead(&mut self, replica: usize, leading: bool) {
        let now = self.now();
        let replica = &mut self.replicas[replica];
        replica.engine.handle(Input::Leading(leading), now);
    }

    /// Numbers that the ledger keeps for somebody.
    pub fn kept(&self) -> Vec<(Number, ServiceKey)> {
        let mut kept = Vec::new();
        for object in self.store.all(Kind::Block) {
            for (number, claim) in block(object).unwrap().claims.unwrap() {
                if let Claim::Retained { owner, .. } = claim {
                    kept.push((number, owner));
                }
            }
        }
        kept
    }

    /// Lists a kind (the first time, or again after a watch broke).
    pub fn list(&mut self, replica: usize, kind: Kind) {
        let now = self.now();
        let mut inputs = Vec::new();
        if kind == Kind::ServiceCidr {
            inputs.push(Observed::ServerVersion(self.store.server_version));
        }
        inputs.push(Observed::Restarted(kind));
        inputs.extend(self.store.all(kind).map(|object| observed(kind, object)));
        inputs.push(Observed::Synced(kind));
        let end = self.store.history.len();
        let replica = &mut self.replicas[replica];
        replica.cursors.insert(kind, end);
        for input in inputs {
            replica.engine.handle(Input::Observed(input), now);
        }
    }

    /// Delivers the next watch event of one kind; lists first if that has not happened.
    pub fn deliver(&mut self, replica: usize, kind: Kind) -> bool {
        let Some(cursor) = self.replicas[replica].cursors.get(&kind).copied() else {
            self.list(replica, kind);
            return true;
        };
        let next = self.store.history[cursor..]
            .iter()
            .position(|(k, ..)| *k == kind);
        let Some(next) = next else { return false };
        let (_, name, object, last) = &self.store.history[cursor + next];
        let input = match object {
            Some(object) => observed(kind, object),
            None => deleted(kind, name, last),
        };
        let now = self.now();
        let replica = &mut self.replicas[replica];
        replica.cursors.insert(kind, cursor + next + 1);
        replica.engine.handle(Input::Observed(input), now);
        true
    }

    /// Lets a replica say what it wants.
    pub fn poll(&mut self, replica: usize) -> bool {
        let now = self.now();
        let generation = self.replicas[replica].generation;
        let effects = self.replicas[replica].engine.poll(now);
        let mut any = false;
        for effect in effects {
            if effect == Effect::ListAddresses {
                // Time passes for it, too, while nothing happens: it is no sign of work.
                let lost = self.faults && self.rng.u8(..10) == 0;
                let reply = match lost {
                    true => failed(&effect, Failure::Unknown("lost".to_owned())),
                    false => self.store.perform(&effect),
                };
                let replica = &mut self.replicas[replica];
                (replica.engine).handle(reply.expect("a list is answered"), now);
                continue;
            }
            any = true;
            if let Effect::Answer { id, answer } = effect {
                self.answers.push((id, answer));
                continue;
            }
            let slow = self.rng.u8(..4) == 0;
            let delay = if slow { self.rng.u64(..150) } else { 0 };
            self.requests.push(Request {
                replica,
                generation,
                effect,
                not_before: self.tick + delay,
            });
        }
        any
    }

    /// One request reaches the API server, or does not, and its reply comes, or does not.
    pub fn serve(&mut self) -> bool {
        let ready: Vec<usize> = (0..self.requests.len())
            .filter(|place| self.requests[*place].not_before <= self.tick)
            .collect();
        if ready.is_empty() {
            return false;
        }
        let chosen = ready[self.rng.usize(..ready.len())];
        let request = self.requests.swap_remove(chosen);
        let fate = if self.faults { self.rng.u8(..100) } else { 100 };
        let lost = || Failure::Unknown("lost".to_owned());
        let reply = match fate {
            0..3 => failed(&request.effect, lost()),
            3..6 => {
                let _ = self.store.perform(&request.effect);
                failed(&request.effect, lost())
            }
            6..8 => failed(&request.effect, Failure::Conflict),
            8..10 => {
                // Times out for the sender and arrives much later.
                let reply = failed(&request.effect, lost());
                self.requests.push(Request {
                    generation: 0,
                    effect: request.effect.clone(),
                    not_before: self.tick + self.rng.u64(..300),
                    ..request
                });
                reply
            }
            _ => self.store.perform(&request.effect),
        };
        if let Some(reply) = reply {
            let replica = &mut self.replicas[request.replica];
            if replica.generation == request.generation {
                replica.inbox.push(reply);
            }
        }
        true
    }

    /// A replica reads one reply.
    pub fn receive(&mut self, replica: usize) -> bool {
        let now = self.now();
        let replica = &mut self.replicas[replica];
        if replica.inbox.is_empty() {
            return false;
        }
        let input = replica.inbox.remove(0);
        replica.engine.handle(input, now);
        true
    }

    /// One random step of the machinery.
    pub fn step(&mut self) {
        self.tick += 1;
        let replica = self.rng.usize(..self.replicas.len());
        match self.rng.u8(..10) {
            0..3 => {
                let kind = Kind::ALL[self.rng.usize(..Kind::ALL.len())];
                if self.rng.u8(..40) == 0 {
                    let until = self.tick + self.rng.u64(..300);
                    self.stalls.insert((replica, kind), until);
                }
                if self
                    .stalls
                    .get(&(replica, kind))
                    .is_none_or(|until| *until <= self.tick)
                {
                    self.deliver(replica, kind);
                }
            }
            3..5 => {
                self.poll(replica);
            }
            5..8 => {
                self.serve();
            }
            8 => {
                self.receive(replica);
            }
            _ => self.clock += Duration::from_millis(self.rng.u64(1..100)),
        }
    }

    /// Delivers everything that is on its way to replicas, and lets them say what they want; false
    /// when nothing happens.
    fn exchange(&mut self) -> bool {
        self.tick += 1_000;
        let mut any = false;
        for replica in 0..self.replicas.len() {
            for kind in Kind::ALL {
                while self.deliver(replica, kind) {
                    any = true;
                }
            }
            any |= self.poll(replica);
            while self.receive(replica) {
                any = true;
            }
        }
        self.tick += 1_000;
        any
    }

    /// Delivers everything and serves one request; false when there is nothing to do now.
    pub fn work(&mut self) -> bool {
        self.exchange() | self.serve()
    }

    /// Runs without faults to that time.
    pub fn run_until(&mut self, end: Duration) {
        self.faults = false;
        loop {
            while self.work() {}
            let engines = self.replicas.iter().map(|replica| &replica.engine);
            let next = engines.filter_map(|engine| engine.next_deadline(self.clock));
            let next = next.min().unwrap_or(end);
            if self.clock >= end {
                return;
            }
            self.clock = next.max(self.clock + Duration::from_millis(1)).min(end);
        }
    }

    /// Runs without faults until nothing happens any more, however far the clock must go; panics
    /// when that takes too long. Returns how many steps it took.
    pub fn settle(&mut self) -> usize {
        self.faults = false;
        self.tick += 1_000;
        let mut quiet_until = None;
        for steps in 0..20_000 {
            let mut any = self.exchange();
            while self.serve() {
                any = true;
            }
            if any {
                quiet_until = None;
                // Requests take time: a replica that waits for its next try gets there, although the
                // other one and it may meanwhile write in turns what each knows.
                self.clock += Duration::from_millis(1);
                continue;
            }
            // Nothing to do now: go on to the next deadline; quiet for a resync's length is the end.
            let end = *quiet_until.get_or_insert(self.clock + Duration::from_secs(660));
            let next = self
                .replicas
                .iter()
                .filter_map(|replica| replica.engine.next_deadline(self.clock))
                .min()
                .unwrap_or(end);
            self.clock = next.max(self.clock + Duration::from_millis(1));
            if self.clock >= end {
                return steps;
            }
        }
        panic!(
            "no fixed point; under way: {:#?}; last changes: {:#?}",
            self.requests,
            self.store.history.iter().rev().take(4).collect::<Vec<_>>()
        );
    }

    /// Who shows which number, by what.
    pub fn shown(&self) -> BTreeMap<Number, Vec<(Value, Use)>> {
        let mut shown: BTreeMap<Number, Vec<(Value, Use)>> = BTreeMap::new();
        for object in self.store.all(Kind::Service) {
            let record = service(object);
            let mut add = |number: Number, usage: Use| {
                shown
                    .entry(number)
                    .or_default()
                    .push((object.clone(), usage));
            };
            for number in record.ingress_numbers() {
                add(number, Use::LoadBalancer);
            }
            let ports: BTreeSet<u16> = record.ports.iter().map(|port| port.node_port).collect();
            for port in ports.into_iter().filter(|port| *port != 0) {
                add(Number::port(port), Use::NodePort);
            }
            if record.health_check_node_port != 0 {
                add(
                    Number::port(record.health_check_node_port),
                    Use::HealthCheckNodePort,
                );
            }
        }
        shown
    }

    /// Settles, then proves the fixed point: a restart with nothing to do writes nothing.
    pub fn rest(&mut self) {
        self.settle();
        let before = self.store.writes.clone();
        self.crash(0);
        self.settle();
        assert_eq!(
            self.store.writes, before,
            "the second pass over unchanged input wrote"
        );
    }

    /// G1: nobody shows what another shows (unless they share it by key), and whatever a Service
    /// shows is held by it in the ledger.
    pub fn check(&self) {
        for (number, holders) in self.shown() {
            for (object, usage) in &holders {
                let uid = object["metadata"]["uid"].as_str().unwrap();
                let object_of = self.store.get(Kind::Block, &BlockId::of(number).name());
                let held = object_of.and_then(block).is_some_and(|record| {
                    matches!(record.claims.unwrap().get(&number), Some(Claim::Held(holders))
                        if holders.iter().any(|h| h.uid.as_str() == uid && h.usage == *usage))
                });
                assert!(
                    held,
                    "{number} is shown by {} and not held by it: {object_of:?}",
                    name_of(object)
                );
            }
            if let [(one, _), (other, _), ..] = holders.as_slice() {
                let key =
                    |o: &Value| o["metadata"]["annotations"]["portolan.dev/sharing-key"].clone();
                assert!(
                    !key(one).is_null() && key(one) == key(other),
                    "{number} is shown by {} and {}",
                    name_of(one),
                    name_of(other)
                );
            }
        }
    }

    /// Every claim in the ledger, with who holds it.
    pub fn claims(&self) -> Vec<(Number, String, Use)> {
        let mut claims = Vec::new();
        for object in self.store.all(Kind::Block) {
            for (number, claim) in block(object).unwrap().claims.unwrap() {
                if let Claim::Held(holders) = claim {
                    claims.extend(
                        holders
                            .into_iter()
                            .map(|h| (number, h.uid.to_string(), h.usage)),
                    );
                }
            }
        }
        claims
    }

    /// Nothing leaked: what the ledger says is held is shown by that very Service.
    pub fn check_no_leak(&self) {
        let mut shown = self.shown();
        for object in self.store.all(Kind::Service) {
            for ip in service(object).cluster_ips {
                let showing = (object.clone(), Use::ClusterIp);
                shown.entry(ip.into()).or_default().push(showing);
            }
        }
        for (number, uid, usage) in self.claims() {
            let live = shown.get(&number).is_some_and(|holders| {
                holders
                    .iter()
                    .any(|(o, u)| o["metadata"]["uid"] == json!(uid) && *u == usage)
            });
            assert!(
                live,
                "{number} is held by {uid} as {usage} and shown by {:?}",
                shown.get(&number)
            );
        }
    }

    /// The address a Service shows.
    pub fn address(&self, name: &str) -> Option<String> {
        let object = self.store.get(Kind::Service, name)?;
        Some(
            object["status"]["loadBalancer"]["ingress"][0]["ip"]
                .as_str()?
                .to_owned(),
        )
    }

    /// A Service's condition, as `status reason: message`.
    pub fn condition(&self, name: &str) -> Option<String> {
        let object = self.store.get(Kind::Service, name)?;
        let conditions = object["status"]["conditions"].as_array()?;
        let mine = conditions
            .iter()
            .find(|c| c["type"] == "portolan.dev/AddressAllocated")?;
        Some(format!(
            "{} {}: {}",
            mine["status"].as_str().unwrap(),
            mine["reason"].as_str().unwrap(),
            mine["message"].as_str().unwrap()
        ))
    }
}

fn failed(effect: &Effect, failure: Failure) -> Option<Input> {
    Some(match effect {
        Effect::WriteService { pass, key, .. } => Input::ServiceWritten {
            pass: *pass,
            key: key.clone(),
            result: Err(failure),
        },
        Effect::ReadService { pass, key } => Input::ServiceRead {
            pass: *pass,
            key: key.clone(),
            result: Err(failure),
        },
        Effect::WriteBlock { id, .. } => Input::BlockWritten {
            id: *id,
            result: Err(failure),
        },
        Effect::ReadBlock { id } => Input::BlockRead {
            id: *id,
            result: Err(failure),
        },
        Effect::ListAddresses => Input::AddressesListed(Err(failure)),
        Effect::Emit(_) | Effect::Converge { .. } | Effect::Announce(_) | Effect::Answer { .. } => {
            return None;
        }
        Effect::WritePoolStatus { kind, name, .. } => Input::PoolStatusWritten {
            kind: *kind,
            name: name.clone(),
            result: Err(failure),
        },
        Effect::WriteClassStatus { name, .. } => Input::ClassStatusWritten {
            name: name.clone(),
            result: Err(failure),
        },
        Effect::WriteReservation { address, .. } => Input::ReservationWritten {
            address: *address,
            result: Err(failure),
        },
    })
}
