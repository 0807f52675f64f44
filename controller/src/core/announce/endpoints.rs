//! EndpointSlices, as far as they say which nodes can serve a Service: kube-proxy's rule (KEP-1669).
//! Pods, ports and addresses are not kept, so that a Pod which is replaced on its node changes
//! nothing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1 as discovery;
use model::ServiceKey;

use crate::core::nodes;

/// What an endpoint is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Grade {
    Ready,
    /// It is going and still answers: good enough while no other does.
    ServingTerminating,
}

/// The endpoints of one slice that serve at all: where, how well.
pub type Slice = BTreeSet<(Option<Arc<str>>, Serves)>;

/// How well an endpoint serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Serves(Grade);

/// Whose endpoints a slice has and where they are; `None`: nobody's.
pub fn slice(slice: &discovery::EndpointSlice) -> Option<(ServiceKey, Slice)> {
    let service = nodes::service_of(slice)?;
    // Names, not addresses: kube-proxy forwards nothing there.
    if slice.address_type == "FQDN" {
        return Some((service, Slice::new()));
    }
    let serving = slice.endpoints.iter().filter_map(|endpoint| {
        let grade = grade(endpoint.conditions.as_ref())?;
        Some((endpoint.node_name.as_deref().map(Arc::from), Serves(grade)))
    });
    Some((service, serving.collect()))
}

/// KEP-1672: `ready` and `serving` count as true when they are not said, `terminating` as false.
fn grade(conditions: Option<&discovery::EndpointConditions>) -> Option<Grade> {
    let says =
        |field: fn(&discovery::EndpointConditions) -> Option<bool>| conditions.and_then(field);
    if says(|c| c.ready).unwrap_or(true) {
        return Some(Grade::Ready);
    }
    let terminating = says(|c| c.terminating).unwrap_or(false);
    let serving = says(|c| c.serving).unwrap_or(true);
    (serving && terminating).then_some(Grade::ServingTerminating)
}

/// The endpoints of every Service, from its slices.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// By `namespace/name` of the slice.
    slices: HashMap<Arc<str>, (ServiceKey, Slice)>,
    by_service: HashMap<ServiceKey, BTreeSet<Arc<str>>>,
}

impl Endpoints {
    /// Keeps a slice, `None`: forgets it. Returns the Services whose endpoints have changed.
    pub fn set(&mut self, name: &Arc<str>, new: Option<(ServiceKey, Slice)>) -> Vec<ServiceKey> {
        if self.slices.get(name) == new.as_ref() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        if let Some((service, _)) = self.slices.remove(name) {
            if let Some(slices) = self.by_service.get_mut(&service) {
                slices.remove(name);
                if slices.is_empty() {
                    self.by_service.remove(&service);
                }
            }
            changed.push(service);
        }
        if let Some((service, slice)) = new {
            let slices = self.by_service.entry(service.clone()).or_default();
            slices.insert(Arc::clone(name));
            self.slices
                .insert(Arc::clone(name), (service.clone(), slice));
            changed.push(service);
        }
        changed
    }

    /// The names of all slices.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.slices.keys()
    }

    /// Whether anything serves the Service, wherever.
    pub fn any(&self, service: &ServiceKey) -> bool {
        self.of(service).next().is_some()
    }

    /// The nodes that serve it from endpoints of their own: those with a ready one; while there is
    /// none anywhere, those with one that still serves.
    pub fn nodes(&self, service: &ServiceKey) -> BTreeSet<Arc<str>> {
        let on = |grade: Grade| {
            let good = self
                .of(service)
                .filter(move |(_, serves)| serves.0 == grade);
            good.filter_map(|(node, _)| node.clone()).collect()
        };
        let ready: BTreeSet<_> = on(Grade::Ready);
        match ready.is_empty() {
            true => on(Grade::ServingTerminating),
            false => ready,
        }
    }

    fn of(&self, service: &ServiceKey) -> impl Iterator<Item = &(Option<Arc<str>>, Serves)> {
        let slices = self.by_service.get(service).into_iter().flatten();
        let slices = slices.filter_map(|name| self.slices.get(name));
        slices.flat_map(|(_, slice)| slice)
    }
}
