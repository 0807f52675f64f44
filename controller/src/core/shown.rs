//! Which Services show which port of the nodes, and which cluster IPs any shows, whoever gave them.
//! Kept as Services come and go; decides nothing.

use std::collections::{BTreeMap, HashMap};

use allocator::PassOver;
use model::{Number, ServiceKey};

use super::record::{ServiceRecord, ServiceType};

/// By port: the Services that have it as a nodePort or healthCheckNodePort.
#[derive(Debug, Default)]
pub struct ShownPorts {
    by_port: HashMap<u16, BTreeMap<ServiceKey, Shower>>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shower {
    created: i64,
    deleting: bool,
}

/// The ports of nodes that a Service shows, each once, in no order.
fn ports(record: &ServiceRecord) -> Vec<u16> {
    // An ExternalName with a nodePort is a mistake that kube-apiserver lets pass; nothing listens.
    if record.service_type == ServiceType::ExternalName {
        return Vec::new();
    }
    let own = record.ports.iter().map(|port| port.node_port);
    let mut ports: Vec<u16> = own.chain([record.health_check_node_port]).collect();
    ports.retain(|port| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

impl ShownPorts {
    /// A Service is there, in this state.
    pub fn add(&mut self, record: &ServiceRecord) {
        let shower = Shower {
            created: record.created,
            deleting: record.deleting,
        };
        for port in ports(record) {
            let showers = self.by_port.entry(port).or_default();
            showers.insert(record.key.clone(), shower);
        }
    }

    /// It is not, any more, in the state that was added.
    pub fn remove(&mut self, record: &ServiceRecord) {
        for port in ports(record) {
            if let Some(showers) = self.by_port.get_mut(&port) {
                showers.remove(&record.key);
                if showers.is_empty() {
                    self.by_port.remove(&port);
                }
            }
        }
    }

    /// The Services that show the port.
    pub fn all(&self, port: u16) -> impl Iterator<Item = &ServiceKey> {
        self.by_port.get(&port).into_iter().flat_map(BTreeMap::keys)
    }

    /// Some other Service that shows the port: the first by name.
    pub fn other(&self, port: u16, than: &ServiceKey) -> Option<&ServiceKey> {
        self.by_port.get(&port)?.keys().find(|key| *key != than)
    }

    /// The oldest Service that shows the port and is older than this one, unless it is going.
    pub fn elder(&self, port: u16, than: &ServiceRecord) -> Option<&ServiceKey> {
        let showers = self.by_port.get(&port)?.iter();
        let (key, shower) = showers.min_by_key(|(key, shower)| (shower.created, *key))?;
        let older = (shower.created, key) < (than.created, &than.key);
        (older && !shower.deleting).then_some(key)
    }

    /// All others that show a port that this Service shows.
    pub fn twins(&self, record: &ServiceRecord) -> Vec<ServiceKey> {
        let showers = ports(record)
            .into_iter()
            .filter_map(|port| self.by_port.get(&port));
        let mut twins: Vec<ServiceKey> = showers
            .flat_map(BTreeMap::keys)
            .filter(|key| **key != record.key)
            .cloned()
            .collect();
        twins.sort_unstable();
        twins.dedup();
        twins
    }
}

/// How many Services show a cluster IP: by whom is not kept, since nobody asks and there is one at least
/// for each Service.
#[derive(Debug, Default)]
pub struct ShownAddresses {
    by_address: HashMap<Number, u32>,
}

impl ShownAddresses {
    /// A Service is there, in this state.
    pub fn add(&mut self, record: &ServiceRecord) {
        for address in &record.cluster_ips {
            *self.by_address.entry((*address).into()).or_default() += 1;
        }
    }

    /// It is not, any more, in the state that was added.
    pub fn remove(&mut self, record: &ServiceRecord) {
        for address in &record.cluster_ips {
            let number = Number::from(*address);
            if let Some(count) = self.by_address.get_mut(&number) {
                *count -= 1;
                if *count == 0 {
                    self.by_address.remove(&number);
                }
            }
        }
    }
}

impl PassOver for ShownAddresses {
    fn passes_over(&self, number: Number) -> bool {
        self.by_address.contains_key(&number)
    }
}
