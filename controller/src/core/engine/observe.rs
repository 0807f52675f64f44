//! What the watches saw: records change, keys become dirty, what is proven gone is released.

use super::*;
use crate::core::record::Rejection;

impl Engine {
    pub(super) fn observe(&mut self, observed: Observed, now: Now) {
        match observed {
            Observed::Service(record) => self.service(record, now),
            Observed::ServiceDeleted(key, uid) => {
                self.index.remove_service(&key, &uid);
                self.silence(&key, &uid);
                self.gone(&key, &uid, now);
                self.push(&key);
            }
            Observed::Namespace(record) => {
                let name = record.name.clone();
                if self.index.set_namespace(record) {
                    self.push_namespace(&name);
                }
            }
            Observed::NamespaceDeleted(name) => {
                self.index.remove_namespace(&name);
            }
            Observed::Class(record) => {
                self.class_writes.remove(&record.name);
                self.statuses_dirty = true;
                if self.index.set_class(record) {
                    self.push_all();
                }
            }
            Observed::ClassDeleted(name) => {
                if self.index.remove_class(&name) {
                    self.statuses_dirty = true;
                    self.push_all();
                }
            }
            Observed::Pool(record) => {
                self.pool_writes.remove(&(record.kind, record.name.clone()));
                self.statuses_dirty = true;
                if self.index.set_pool(record) {
                    self.pools_changed = true;
                }
            }
            Observed::PoolDeleted(kind, name) => {
                self.pools_changed |= self.index.remove_pool(kind, &name);
            }
            Observed::Block(record) => {
                self.index.seen(Kind::Block, || record.id.name());
                let changes = self.ledger.observe(record);
                self.apply(changes, now);
            }
            Observed::BlockDeleted(id) => {
                let changes = self.ledger.observe_deleted(id);
                self.apply(changes, now);
            }
            Observed::ServiceCidr(record) => {
                self.pools_changed |= self.index.set_service_cidr(record);
            }
            Observed::ServiceCidrDeleted(name) => {
                self.pools_changed |= self.index.remove_service_cidr(&name);
            }
            Observed::ServerVersion(version) => {
                self.statuses_dirty |= self.reservations.server(version);
            }
            Observed::Reservation(record) => {
                let address = record.address;
                (self.index).seen(Kind::Reservation, || address.to_string());
                self.reservations.observe(record);
            }
            Observed::ReservationDeleted(address) => {
                self.reservations.observe_deleted(address, now.mono);
            }
            Observed::Unreadable { kind, name, error } => {
                self.counters.unreadable += 1;
                tracing::warn!(?kind, %name, %error, reason = %Reason::Unreadable, "an object cannot be read; what was known of it stays");
                if kind == Kind::Block
                    && let Some(id) = BlockId::parse_name(&name)
                {
                    let why = Rejection {
                        reason: Reason::LedgerDamaged,
                        message: format!(
                            "AllocationBlock {name} cannot be read: {error}; correct it or delete it"
                        ),
                    };
                    let changes = self.ledger.observe_unreadable(id, why);
                    self.apply(changes, now);
                }
                self.index.seen(kind, || name);
            }
            Observed::Restarted(kind) => self.index.restart(kind),
            Observed::Synced(kind) => self.listed(kind, now),
        }
    }

    pub(super) fn service(&mut self, record: Arc<ServiceRecord>, now: Now) {
        let key = record.key.clone();
        if let Some(known) = self.index.service(&key)
            && known.uid == record.uid
            && newer(&known.version, &record.version)
        {
            self.index.seen(Kind::Service, || key.to_string());
            return;
        }
        let port_lacking =
            record.needs_node_ports() && record.ports.iter().any(|port| port.node_port == 0);
        let health_lacking = record.needs_health_check_port() && record.health_check_node_port == 0;
        if (port_lacking || health_lacking) && !self.ports_left_empty {
            self.ports_in_charge = true;
            self.ports_left_empty = true;
            self.pools_changed = true;
        }
        if let Some(suspects) = self.suspects.get_mut(&key) {
            suspects.remove(&record.uid);
        }
        let uid = record.uid.clone();
        let old = self.index.set_service(Arc::clone(&record));
        if let Some(old) = old
            && old.uid != uid
        {
            self.suspect(&key, &old.uid, now.mono + LEAK_GRACE);
        }
        // Of two that show one nodePort the younger may have to change.
        for twin in self.index.shown_ports().twins(&record) {
            self.push(&twin);
        }
        self.push(&key);
    }

    /// The API server said DELETED for this uid: it never comes back, so its numbers are free.
    pub(super) fn gone(&mut self, key: &ServiceKey, uid: &Uid, now: Now) {
        self.awaited.remove(key);
        self.pace.leave(key);
        self.forsake(key, uid);
        if self
            .passes
            .get(key)
            .is_some_and(|pass| pass.uid.as_ref() == Some(uid))
        {
            self.passes.remove(key);
        }
        if self.leading && self.begun {
            self.leaks.remove(uid);
            self.release_all(key, uid, now);
        } else if decide::holds_anything(&self.allocator, uid) {
            self.departed.insert(uid.clone());
        }
    }

    /// Submits the release of everything that a uid proven gone holds.
    pub(super) fn release_all(&mut self, key: &ServiceKey, uid: &Uid, now: Now) {
        for (number, usage) in self.held_under(key, uid) {
            let retain = self.retention(key, number, usage, now);
            self.ledger.submit(Op::Release {
                number,
                uid: uid.clone(),
                usage,
                at: None,
                retain,
            });
        }
        if let Some(suspects) = self.suspects.get_mut(key) {
            suspects.remove(uid);
            if suspects.is_empty() {
                self.suspects.remove(key);
            }
        }
    }

    pub(super) fn retention(
        &self,
        key: &ServiceKey,
        number: Number,
        usage: Use,
        now: Now,
    ) -> Option<(ServiceKey, i64)> {
        if usage == Use::HealthCheckNodePort {
            return None;
        }
        let seconds = self
            .allocator
            .pools_containing(number)
            .find(|pool| pool.usage == usage)?
            .retain_for?;
        Some((key.clone(), now.wall.saturating_add(seconds)))
    }

    pub(super) fn listed(&mut self, kind: Kind, now: Now) {
        if kind == Kind::Reservation {
            let seen = |name: &str| self.index.was_seen(kind, name);
            self.reservations.retain(seen, now.mono);
        }
        if kind == Kind::Block {
            let lost: Vec<BlockId> = self
                .ledger
                .existing()
                .into_iter()
                .filter(|id| !self.index.was_seen(Kind::Block, &id.name()))
                .collect();
            for id in lost {
                let changes = self.ledger.observe_deleted(id);
                self.apply(changes, now);
            }
        }
        let before: HashMap<ServiceKey, Uid> =
            if kind == Kind::Service && self.synced.contains(&kind) {
                self.index
                    .services()
                    .map(|r| (r.key.clone(), r.uid.clone()))
                    .collect()
            } else {
                HashMap::new()
            };
        let vanished = self.index.finish(kind);
        for key in vanished.services {
            // A list is no proof: the cache behind it may be stale. A quorum read decides.
            if let Some(uid) = before.get(&key) {
                self.suspect(&key, uid, now.mono + LEAK_GRACE);
            }
            self.push(&key);
        }
        if vanished.others {
            match kind {
                Kind::AddressPool | Kind::NodePortPool | Kind::ServiceCidr => {
                    self.pools_changed = true;
                }
                Kind::Service | Kind::Namespace | Kind::Class | Kind::Block | Kind::Reservation => {
                    self.push_all()
                }
            }
        }
        self.synced.insert(kind);
    }
}
