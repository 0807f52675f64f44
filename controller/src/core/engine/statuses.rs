//! The allocator's pools from the records, and what pools and classes say about themselves.

use super::*;

/// The families of the pools of cluster IPs. IPv4 first: what Kubernetes does unless told otherwise
/// by the order of its flag.
fn pool_families(pools: &[Pool]) -> Vec<Family> {
    let mut families = BTreeSet::new();
    for pool in pools.iter().filter(|pool| pool.usage == Use::ClusterIp) {
        if !pool.v4.is_empty() {
            families.insert(Family::V4);
        }
        if !pool.v6.is_empty() {
            families.insert(Family::V6);
        }
    }
    families.into_iter().collect()
}

impl Engine {
    pub(super) fn set_pools(&mut self) {
        self.pools_changed = false;
        let mut pools: Vec<Pool> = self
            .index
            .pools()
            .filter_map(|record| record.pool.as_ref().ok().cloned())
            .collect();
        self.cluster_families = match self.index.service_cidrs().are_known() {
            true => self.index.service_cidrs().families(),
            false => pool_families(&pools),
        };
        let has_port_pool = self
            .index
            .pools()
            .any(|record| record.kind == PoolKind::NodePort);
        if self.ports_in_charge && !has_port_pool {
            pools.push(self.default_node_ports());
        }
        self.set_unusable(&mut pools);
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
            let wanted = pools::status(
                record,
                &self.allocator,
                &self.ledger,
                self.server(),
                now.wall,
            );
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
        self.emit_about(
            (record.key.clone(), record.uid.clone()),
            warning,
            reason,
            note,
        );
    }

    /// The same of a Service of which there is no record, any longer perhaps.
    pub(super) fn emit_about(
        &mut self,
        (key, uid): (ServiceKey, Uid),
        warning: bool,
        reason: Reason,
        note: String,
    ) {
        self.counters.events += 1;
        self.effects.push(Effect::Emit(EventNote {
            key,
            uid,
            warning,
            reason,
            note,
        }));
    }
}
