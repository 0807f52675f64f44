//! What the ledger says, and who is looked at because of it.

use super::*;

impl Engine {
    pub(super) fn apply(&mut self, changes: Vec<Change>, now: Now) {
        for change in changes {
            match change {
                Change::Ended(op, fate) => self.ended(op, fate, now),
                Change::Held(number, holder) => {
                    if !self.allocator.holders(number).contains(&holder) {
                        // Another replica's claim. Its Service may be ahead of our watch or gone
                        // already, and the replica may never use it: look again later.
                        let known = self
                            .index
                            .service(&holder.service)
                            .map(|record| &record.uid);
                        if known != Some(&holder.uid) {
                            let due = now.mono + LEAK_GRACE;
                            self.suspected(&holder.service, &holder.uid, due);
                            // An edit by hand may have given a living Service's claim to another
                            // name: that Service records it anew.
                            let owner = (self.index.services())
                                .find(|record| record.uid == holder.uid)
                                .map(|record| record.key.clone());
                            if let Some(key) = owner {
                                self.push(&key);
                            }
                        }
                        self.queue
                            .push_at(&holder.service, now.mono + SUSPECT_AFTER);
                    }
                    self.allocator.hold(number, holder);
                    self.statuses_dirty = true;
                }
                Change::Freed(number, holder) => {
                    self.unhold(number, &holder.uid, holder.usage);
                    if !decide::holds_anything(&self.allocator, &holder.uid) {
                        self.departed.remove(&holder.uid);
                    }
                    self.push(&holder.service);
                }
                Change::Retained(number, owner, until) => {
                    self.allocator.retain(number, owner, until);
                    self.statuses_dirty = true;
                    // The one that shows it may have been looked at before this came.
                    self.push_showing(number);
                }
                Change::Unretained(number) => self.unretained(number),
                Change::Damaged(id, rejection) => {
                    tracing::warn!(block = %id.name(), reason = %rejection.reason, "{}", rejection.message);
                    self.allocator.quarantine(id);
                    self.statuses_dirty = true;
                }
                Change::Mended(id) => {
                    tracing::info!(block = %id.name(), "the block can be read again");
                    self.allocator.lift_quarantine(id);
                    self.statuses_dirty = true;
                    self.push_all();
                }
            }
        }
    }

    pub(super) fn ended(&mut self, op: Op, fate: Fate, now: Now) {
        match op {
            Op::Claim { number, holder, .. } => {
                if fate != Fate::Committed
                    && self
                        .ledger
                        .holder(number, &holder.uid, holder.usage)
                        .is_none()
                {
                    self.unhold(number, &holder.uid, holder.usage);
                    // Holding it has made memory forget whom the ledger keeps it for.
                    if let Some((owner, until)) = self.ledger.retained(number) {
                        self.allocator.retain(number, owner.clone(), until);
                    }
                }
                let key = &holder.service;
                let Some(pass) = self.passes.get_mut(key) else {
                    return;
                };
                let Stage::Claiming(open) = &mut pass.stage else {
                    return;
                };
                *open = open.saturating_sub(1);
                let last = *open == 0;
                if fate == Fate::Committed {
                    if last {
                        self.passes.remove(key);
                        self.push(key);
                    }
                } else {
                    // Decide again on what is true now, but not in a tight loop.
                    self.passes.remove(key);
                    self.queue.failed(key, now.mono);
                }
            }
            Op::Release {
                number, uid, usage, ..
            } => {
                if fate == Fate::Committed {
                    if self.ledger.holder(number, &uid, usage).is_none() {
                        self.counters.releases += 1;
                        self.unhold(number, &uid, usage);
                    }
                    self.leak_ended(&uid, number, true);
                    return;
                }
                self.leak_ended(&uid, number, false);
                // The block cannot be read, or somebody renewed the claim: prove it once more later.
                let holders = self.allocator.holders(number).iter();
                let found = holders.into_iter().find(|holder| holder.uid == uid);
                if let Some(key) = found.map(|holder| holder.service.clone()) {
                    if self.index.service(&key).map(|record| &record.uid) != Some(&uid) {
                        self.suspect(&key, &uid, now.mono + SUSPECT_AFTER);
                    }
                    self.queue.push_at(&key, now.mono + SUSPECT_AFTER);
                }
            }
            Op::Reserve { number, owner, .. } => self.reservation_ended(number, &owner, fate),
            Op::Forget { number, now } => {
                // Nobody is to be waited for whom only memory knows.
                let over = |(_, until): (&ServiceKey, i64)| until <= now;
                if self.ledger.retained(number).is_none()
                    && self.allocator.retained(number).is_some_and(over)
                {
                    self.unretained(number);
                }
            }
        }
    }

    /// A number is kept for nobody any longer.
    pub(super) fn unretained(&mut self, number: Number) {
        self.allocator.unretain(number);
        self.statuses_dirty = true;
        self.wake(number);
        self.push_showing(number);
    }

    /// Whoever shows the port could not be recorded while it was kept for another.
    fn push_showing(&mut self, number: Number) {
        let Some(port) = number.as_port() else { return };
        let showing: Vec<_> = self.index.shown_ports().all(port).cloned().collect();
        for key in showing {
            self.push(&key);
        }
    }

    pub(super) fn unhold(&mut self, number: Number, uid: &Uid, usage: Use) {
        if self.allocator.unhold(number, uid, usage) {
            self.joins.remove(&(number, uid.clone()));
            self.statuses_dirty = true;
            self.wake(number);
        }
    }

    /// A number became free: whoever waits for it or for its pools is looked at, oldest first.
    pub(super) fn wake(&mut self, number: Number) {
        let mut keys: Vec<ServiceKey> = self.index.waiting_for_number(number).cloned().collect();
        for pool in self.allocator.pools_containing(number) {
            keys.extend(self.index.waiting_for_pool(&pool.name).cloned());
        }
        keys.extend(self.index.waiting_because(Reason::NumberConflict));

        for key in keys {
            self.push(&key);
        }
    }

    pub(super) fn push(&mut self, key: &ServiceKey) {
        let (rank, created) = match self.index.service(key) {
            None => (Rank::Gone, 0),
            Some(record) if record.deleting => (Rank::Gone, record.created),
            Some(record)
                if !record.ingress.is_empty()
                    || decide::holds_anything(&self.allocator, &record.uid) =>
            {
                (Rank::Holder, record.created)
            }
            Some(record) => (Rank::Waiter, record.created),
        };
        if !self.leading {
            return;
        }
        self.queue.push(key, rank, created);
        if let Some(record) = self.index.service(key)
            && record.service_type == ServiceType::LoadBalancer
            && !record.deleting
            && record.ingress.is_empty()
            && !decide::holds_for(&self.allocator, &record.uid, Use::LoadBalancer)
        {
            let choosy = record
                .request
                .as_ref()
                .is_ok_and(|request| !request.addresses.is_empty() || request.sharing.is_some());
            self.line.join(key, created, choosy);
        }
    }

    pub(super) fn push_all(&mut self) {
        let keys: Vec<ServiceKey> = self
            .index
            .services()
            .map(|record| record.key.clone())
            .collect();
        for key in keys {
            self.push(&key);
        }
    }

    pub(super) fn push_namespace(&mut self, namespace: &str) {
        let keys: Vec<ServiceKey> = self
            .index
            .services()
            .filter(|record| &*record.key.namespace == namespace)
            .map(|record| record.key.clone())
            .collect();
        for key in keys {
            self.push(&key);
        }
    }
}
