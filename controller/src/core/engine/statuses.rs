//! The allocator's pools from the records, and what pools and classes say about themselves.

use super::*;

impl Engine {
    pub(super) fn set_pools(&mut self) {
        self.pools_changed = false;
        let mut pools: Vec<Pool> = self
            .index
            .pools()
            .filter_map(|record| record.pool.as_ref().ok().cloned())
            .collect();
        let mut families = BTreeSet::new();
        for pool in pools.iter().filter(|pool| pool.usage == Use::ClusterIp) {
            if !pool.v4.is_empty() {
                families.insert(Family::V4);
            }
            if !pool.v6.is_empty() {
                families.insert(Family::V6);
            }
        }
        // IPv4 first: what Kubernetes does unless told otherwise by the order of its flag.
        self.cluster_families = families.into_iter().collect();
        let has_port_pool = self
            .index
            .pools()
            .any(|record| record.kind == PoolKind::NodePort);
        if self.ports_in_charge && !has_port_pool {
            pools.push(default_node_ports());
        }
        self.allocator.set_pools(pools);
        self.set_policies();
        self.statuses_dirty = true;
        self.push_all();
    }

    pub(super) fn statuses(&mut self, now: Now) {
        if !self.statuses_dirty || now.mono < self.statuses_at {
            return;
        }
        self.statuses_dirty = false;
        self.statuses_at = now.mono + STATUS_INTERVAL;
        self.count();
        for record in self.index.pools() {
            let slot = (record.kind, record.name.clone());
            if self.pool_writes.contains(&slot) {
                self.statuses_dirty = true;
                continue;
            }
            let wanted = pools::status(record, &self.allocator, &self.ledger, now.wall);
            if let Some(patch) = pools::patch(record, &wanted) {
                self.counters.pool_writes += 1;
                self.pool_writes.insert(slot);
                self.effects.push(Effect::WritePoolStatus {
                    kind: record.kind,
                    name: record.name.clone(),
                    patch,
                });
            }
        }
        for class in self.index.classes() {
            if self.class_writes.contains(&class.name) {
                self.statuses_dirty = true;
                continue;
            }
            if let Some(patch) = pools::class_patch(class, &self.index, self.aws, now.wall) {
                self.counters.pool_writes += 1;
                self.class_writes.insert(class.name.clone());
                self.effects.push(Effect::WriteClassStatus {
                    name: class.name.clone(),
                    patch,
                });
            }
        }
    }

    pub(super) fn emit(
        &mut self,
        record: &ServiceRecord,
        warning: bool,
        reason: Reason,
        note: String,
    ) {
        self.counters.events += 1;
        self.effects.push(Effect::Emit(EventNote {
            key: record.key.clone(),
            uid: record.uid.clone(),
            warning,
            reason,
            note,
        }));
    }
}

/// What Kubernetes would do with an empty nodePort where nobody says otherwise.
fn default_node_ports() -> Pool {
    Pool {
        created: i64::MAX,
        ports: RangeSet::parse_ports(&[DEFAULT_NODE_PORT_RANGE.to_owned()]).unwrap_or_default(),
        ..Pool::new(DEFAULT_NODE_PORTS, Use::NodePort)
    }
}
