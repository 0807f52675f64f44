//! Nodes and endpoints, as far as they can be targets. What arrives is reduced at once; what cannot
//! be read is left out and stops nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use aws::input::{Endpoint, Node};
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use kube::{ResourceExt as _, runtime::watcher::Event};
use model::ServiceKey;

use crate::core::nodes;

/// Every node, by name.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<String, Node>,
    /// Those of a list that is not complete yet.
    listing: BTreeMap<String, Node>,
    listed: bool,
}

impl Nodes {
    /// Takes what the watch says; true when anything that counts has changed.
    pub(super) fn take(&mut self, event: Event<v1::Node>) -> bool {
        match event {
            Event::Apply(node) => {
                let node = nodes::node(&node);
                self.nodes.insert(node.name.clone(), node.clone()).as_ref() != Some(&node)
            }
            Event::Delete(node) => self.nodes.remove(&node.name_any()).is_some(),
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(node) => {
                let node = nodes::node(&node);
                self.listing.insert(node.name.clone(), node);
                false
            }
            Event::InitDone => {
                let new = std::mem::take(&mut self.listing);
                let first = !std::mem::replace(&mut self.listed, true);
                let changed = new != self.nodes;
                self.nodes = new;
                changed || first
            }
        }
    }

    /// Whether they have been listed once: before that nobody is a target of anything.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    pub(super) fn all(&self) -> Arc<[Node]> {
        self.nodes.values().cloned().collect()
    }
}

/// A slice, by namespace and name.
type SliceKey = (String, String);

/// Every Service's endpoints, from its slices.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slices: HashMap<SliceKey, (ServiceKey, Vec<Endpoint>)>,
    by_service: HashMap<ServiceKey, BTreeSet<SliceKey>>,
    /// Slices of a list that is not complete yet.
    listing: BTreeSet<SliceKey>,
    listed: bool,
}

impl Slices {
    /// Takes what the watch says; the Services whose endpoints have changed.
    pub(super) fn take(&mut self, event: Event<EndpointSlice>) -> Vec<ServiceKey> {
        match event {
            Event::Apply(slice) => self.put(&slice),
            Event::Delete(slice) => self.remove(&key(&slice)),
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(slice) => {
                self.listing.insert(key(&slice));
                self.put(&slice)
            }
            Event::InitDone => {
                self.listed = true;
                let listed = std::mem::take(&mut self.listing);
                let gone = self.slices.keys().filter(|key| !listed.contains(*key));
                let gone: Vec<SliceKey> = gone.cloned().collect();
                gone.iter().flat_map(|key| self.remove(key)).collect()
            }
        }
    }

    /// Whether they have been listed once.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    /// The endpoints of one Service.
    pub(super) fn of(&self, service: &ServiceKey) -> Vec<Endpoint> {
        let slices = self.by_service.get(service).into_iter().flatten();
        slices
            .filter_map(|key| self.slices.get(key))
            .flat_map(|(_, endpoints)| endpoints.iter().cloned())
            .collect()
    }

    fn put(&mut self, slice: &EndpointSlice) -> Vec<ServiceKey> {
        let key = key(slice);
        let Some(service) = nodes::service_of(slice) else {
            return self.remove(&key);
        };
        let new = (service.clone(), nodes::endpoints(slice));
        if self.slices.get(&key) == Some(&new) {
            return Vec::new();
        }
        let mut changed = self.remove(&key);
        self.slices.insert(key.clone(), new);
        self.by_service
            .entry(service.clone())
            .or_default()
            .insert(key);
        changed.push(service);
        changed
    }

    fn remove(&mut self, key: &SliceKey) -> Vec<ServiceKey> {
        let Some((service, _)) = self.slices.remove(key) else {
            return Vec::new();
        };
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        vec![service]
    }
}

fn key(slice: &EndpointSlice) -> SliceKey {
    (slice.namespace().unwrap_or_default(), slice.name_any())
}
