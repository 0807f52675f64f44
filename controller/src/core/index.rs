//! The latest record of every object and who waits for what. An event only changes a record and
//! marks keys dirty; nothing is decided here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use model::{Labels, Number, Reason, ServiceKey, Uid};

use super::{
    effect::Kind,
    record::{CidrRecord, ClassRecord, NamespaceRecord, PoolKind, PoolRecord, ServiceRecord},
    service_cidrs::ServiceCidrs,
    shown::{ShownAddresses, ShownPorts},
};

/// What a waiting Service waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// A freed number of one of these pools would help.
    pub pools: BTreeSet<Arc<str>>,
    /// These numbers themselves would help.
    pub numbers: BTreeSet<Number>,
}

/// Whose a Service of type LoadBalancer is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClassMatch<'a> {
    /// Ours, by this class.
    Ours(&'a ClassRecord),
    /// No class of ours has that name (any more), or it is being deleted.
    Gone,
}

/// Everything observed.
#[derive(Debug, Default)]
pub struct Index {
    /// By namespace and name.
    services: HashMap<ServiceKey, Arc<ServiceRecord>>,
    /// By `metadata.name`.
    namespaces: BTreeMap<Arc<str>, Arc<Labels>>,
    /// By `metadata.name`.
    classes: BTreeMap<Arc<str>, ClassRecord>,
    /// By resource and `metadata.name`.
    pools: BTreeMap<(PoolKind, Arc<str>), PoolRecord>,
    service_cidrs: ServiceCidrs,
    /// Waiting Services and what for.
    waits: HashMap<ServiceKey, (Reason, Waits)>,
    /// The reverse of `waits`.
    waiting_for_pool: HashMap<Arc<str>, HashSet<ServiceKey>>,
    /// The reverse of `waits`.
    waiting_for_number: HashMap<Number, HashSet<ServiceKey>>,
    /// How many wait for each reason; derived from `waits`.
    waiting: BTreeMap<Reason, usize>,
    /// Kinds that are being listed again, with the names seen so far.
    relisting: BTreeMap<Kind, HashSet<String>>,
    /// Derived from `services`.
    shown_ports: ShownPorts,
    /// Derived from `services`.
    shown_addresses: ShownAddresses,
    no_labels: Arc<Labels>,
}

/// What ends with a completed list: objects that did not come again.
#[derive(Debug, Default, PartialEq)]
pub struct Vanished {
    /// Services that are not there any more, as far as a list can tell.
    pub services: Vec<ServiceKey>,
    /// Whether a namespace, class, pool or ServiceCIDR vanished.
    pub others: bool,
}

impl Index {
    /// A Service by key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceRecord>> {
        self.services.get(key)
    }

    /// All Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceRecord>> {
        self.services.values()
    }

    /// Keeps a Service; returns the one before.
    pub fn set_service(&mut self, record: Arc<ServiceRecord>) -> Option<Arc<ServiceRecord>> {
        self.seen(Kind::Service, || record.key.to_string());
        let old = self
            .services
            .insert(record.key.clone(), Arc::clone(&record));
        if let Some(old) = &old {
            self.shown_ports.remove(old);
            self.shown_addresses.remove(old);
        }
        self.shown_ports.add(&record);
        self.shown_addresses.add(&record);
        old
    }

    /// Which Services show which port of the nodes.
    pub fn shown_ports(&self) -> &ShownPorts {
        &self.shown_ports
    }

    /// Which cluster IPs some Service shows.
    pub fn shown_addresses(&self) -> &ShownAddresses {
        &self.shown_addresses
    }

    /// Forgets a Service if it is still of that uid.
    pub fn remove_service(&mut self, key: &ServiceKey, uid: &Uid) -> Option<Arc<ServiceRecord>> {
        if self.services.get(key)?.uid != *uid {
            return None;
        }
        self.set_waits(key, None);
        let old = self.services.remove(key)?;
        self.shown_ports.remove(&old);
        self.shown_addresses.remove(&old);
        Some(old)
    }

    /// Whether a namespace has been seen.
    pub fn knows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// Labels of a namespace; none when it is not known.
    pub fn namespace_labels(&self, namespace: &str) -> &Arc<Labels> {
        self.namespaces.get(namespace).unwrap_or(&self.no_labels)
    }

    /// Keeps a namespace; true when its labels changed.
    pub fn set_namespace(&mut self, record: NamespaceRecord) -> bool {
        self.seen(Kind::Namespace, || record.name.to_string());
        let labels = record.labels.clone();
        self.namespaces.insert(record.name, record.labels).as_ref() != Some(&labels)
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.namespaces.remove(name).is_some()
    }

    /// Keeps a class; true when anything but its status and version changed.
    pub fn set_class(&mut self, record: ClassRecord) -> bool {
        self.seen(Kind::Class, || record.name.to_string());
        let old = self.classes.insert(record.name.clone(), record.clone());
        old.is_none_or(|old| {
            let same = ClassRecord {
                version: record.version.clone(),
                conditions: record.conditions.clone(),
                generation: record.generation,
                ..old
            };
            same != record
        })
    }

    /// Forgets a class.
    pub fn remove_class(&mut self, name: &str) -> bool {
        self.classes.remove(name).is_some()
    }

    /// All classes by name.
    pub fn classes(&self) -> impl Iterator<Item = &ClassRecord> {
        self.classes.values()
    }

    /// Keeps a pool; true when anything but its status and version changed.
    pub fn set_pool(&mut self, record: PoolRecord) -> bool {
        let kind = match record.kind {
            PoolKind::Address => Kind::AddressPool,
            PoolKind::NodePort => Kind::NodePortPool,
        };
        self.seen(kind, || record.name.to_string());
        let slot = (record.kind, record.name.clone());
        let old = self.pools.insert(slot, record.clone());
        old.is_none_or(|old| old.pool != record.pool || old.announce != record.announce)
    }

    /// Forgets a pool.
    pub fn remove_pool(&mut self, kind: PoolKind, name: &Arc<str>) -> bool {
        self.pools.remove(&(kind, name.clone())).is_some()
    }

    /// One pool.
    pub fn pool(&self, kind: PoolKind, name: &Arc<str>) -> Option<&PoolRecord> {
        self.pools.get(&(kind, name.clone()))
    }

    /// All pools.
    pub fn pools(&self) -> impl Iterator<Item = &PoolRecord> {
        self.pools.values()
    }

    /// Keeps a ServiceCIDR; true when it changed.
    pub fn set_service_cidr(&mut self, record: CidrRecord) -> bool {
        self.seen(Kind::ServiceCidr, || record.name.to_string());
        self.service_cidrs.set(record)
    }

    /// Forgets a ServiceCIDR.
    pub fn remove_service_cidr(&mut self, name: &str) -> bool {
        self.service_cidrs.remove(name)
    }

    /// From where the API server gives clusterIPs.
    pub fn service_cidrs(&self) -> &ServiceCidrs {
        &self.service_cidrs
    }

    /// The class that takes a Service, and `Gone` when none does. Of two classes with one name the
    /// older has it, likewise of two defaults.
    pub fn class_of(&self, record: &ServiceRecord) -> ClassMatch<'_> {
        let candidates = self.classes.values().filter(|class| match &record.class {
            Some(name) => class.class_name == *name,
            None => class.default,
        });
        match candidates.min_by_key(|class| (class.created, class.name.clone())) {
            Some(class) if !class.deleting => ClassMatch::Ours(class),
            _ => ClassMatch::Gone,
        }
    }

    /// A list of this kind begins.
    pub fn restart(&mut self, kind: Kind) {
        self.relisting.insert(kind, HashSet::new());
    }

    /// The list is complete: forgets what did not come again.
    pub fn finish(&mut self, kind: Kind) -> Vanished {
        let mut vanished = Vanished::default();
        let Some(seen) = self.relisting.remove(&kind) else {
            return vanished;
        };
        match kind {
            Kind::Service => {
                vanished.services = self
                    .services
                    .keys()
                    .filter(|key| !seen.contains(&key.to_string()))
                    .cloned()
                    .collect();
                for key in &vanished.services {
                    self.set_waits(key, None);
                    if let Some(old) = self.services.remove(key) {
                        self.shown_ports.remove(&old);
                        self.shown_addresses.remove(&old);
                    }
                }
            }
            Kind::Namespace => {
                let before = self.namespaces.len();
                self.namespaces.retain(|name, _| seen.contains(&**name));
                vanished.others = self.namespaces.len() != before;
            }
            Kind::Class => {
                let before = self.classes.len();
                self.classes.retain(|name, _| seen.contains(&**name));
                vanished.others = self.classes.len() != before;
            }
            Kind::AddressPool | Kind::NodePortPool => {
                let mine = if kind == Kind::AddressPool {
                    PoolKind::Address
                } else {
                    PoolKind::NodePort
                };
                let before = self.pools.len();
                self.pools
                    .retain(|(kind, name), _| *kind != mine || seen.contains(&**name));
                vanished.others = self.pools.len() != before;
            }
            Kind::ServiceCidr => {
                vanished.others = self.service_cidrs.retain(|name| seen.contains(name));
            }
            Kind::Block | Kind::Reservation => {}
        }
        vanished
    }

    /// An object of this kind was seen, readable or not: a list that runs does not sweep it away.
    pub fn seen(&mut self, kind: Kind, name: impl FnOnce() -> String) {
        if let Some(seen) = self.relisting.get_mut(&kind) {
            seen.insert(name());
        }
    }

    /// Whether this object came in the list that runs.
    pub fn was_seen(&self, kind: Kind, name: &str) -> bool {
        self.relisting
            .get(&kind)
            .is_none_or(|seen| seen.contains(name))
    }

    /// Says what a Service waits for; `None` when it does not wait.
    pub fn set_waits(&mut self, key: &ServiceKey, waits: Option<(Reason, Waits)>) {
        if self.waits.get(key) == waits.as_ref() {
            return;
        }
        if let Some((reason, old)) = self.waits.remove(key) {
            for pool in old.pools {
                if let Some(keys) = self.waiting_for_pool.get_mut(&pool) {
                    keys.remove(key);
                }
            }
            for number in old.numbers {
                if let Some(keys) = self.waiting_for_number.get_mut(&number) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.waiting_for_number.remove(&number);
                    }
                }
            }
            if let Some(count) = self.waiting.get_mut(&reason) {
                *count -= 1;
                if *count == 0 {
                    self.waiting.remove(&reason);
                }
            }
        }
        if let Some((reason, new)) = waits {
            for pool in &new.pools {
                self.waiting_for_pool
                    .entry(pool.clone())
                    .or_default()
                    .insert(key.clone());
            }
            for number in &new.numbers {
                self.waiting_for_number
                    .entry(*number)
                    .or_default()
                    .insert(key.clone());
            }
            *self.waiting.entry(reason).or_default() += 1;
            self.waits.insert(key.clone(), (reason, new));
        }
    }

    /// Everyone whom a free number of this pool would help.
    pub fn waiting_for_pool(&self, pool: &str) -> impl Iterator<Item = &ServiceKey> {
        self.waiting_for_pool.get(pool).into_iter().flatten()
    }

    /// Everyone whom exactly this number would help.
    pub fn waiting_for_number(&self, number: Number) -> impl Iterator<Item = &ServiceKey> {
        self.waiting_for_number.get(&number).into_iter().flatten()
    }

    /// Everyone who waits for this reason.
    pub fn waiting_because(&self, reason: Reason) -> Vec<ServiceKey> {
        if !self.waiting.contains_key(&reason) {
            return Vec::new();
        }
        self.waits
            .iter()
            .filter(|(_, (why, _))| *why == reason)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// How many Services wait, by reason; no reason is there with none.
    pub fn waiting(&self) -> &BTreeMap<Reason, usize> {
        &self.waiting
    }

    /// Why a Service waits.
    pub fn waits(&self, key: &ServiceKey) -> Option<&(Reason, Waits)> {
        self.waits.get(key)
    }
}
