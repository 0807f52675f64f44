//! What a replica does when it starts to lead, or stops.

use super::*;

impl Engine {
    pub(super) fn lead(&mut self, leading: bool) {
        if self.leading == leading {
            return;
        }
        self.leading = leading;
        self.begun = false;
        self.passes.clear();
        self.awaited.clear();
        self.clouds.clear();
        self.announced.clear();
        self.epoch += 1;
        // Whoever has an answer gets it.
        self.effects
            .retain(|effect| matches!(effect, Effect::Answer { .. }));
        self.queue.clear();
        self.line = Line::default();
        self.pace.reset();
        self.joins.clear();
        self.pool_writes.clear();
        self.reservations.reset();
        self.class_writes.clear();
        self.ledger.abandon();
        self.leaks.clear();
        self.ask_again();
        self.forget_figures();
        if !leading {
            // Nothing that was only about to be claimed or kept stands in the way of questions.
            self.remember();
        }
    }

    /// The allocator's memory is made anew of what the ledger says; returns who holds anything.
    fn remember(&mut self) -> BTreeMap<ServiceKey, BTreeSet<Uid>> {
        self.allocator = Allocator::new();
        self.set_pools();
        for (id, _) in self.ledger.damaged() {
            self.allocator.quarantine(id);
        }
        let mut holders: BTreeMap<ServiceKey, BTreeSet<Uid>> = BTreeMap::new();
        for (number, claim) in self.ledger.claims() {
            match claim {
                Claim::Held(held) => {
                    for holder in held {
                        self.allocator.hold(number, holder.clone());
                        holders
                            .entry(holder.service.clone())
                            .or_default()
                            .insert(holder.uid.clone());
                    }
                }
                Claim::Retained { owner, until } => {
                    self.allocator.retain(number, owner.clone(), *until)
                }
            }
        }
        holders
    }

    /// The first thing a leader does: the allocator's memory is made anew from the ledger, numbers
    /// that Services show and no block has are adopted, and everyone is looked at once.
    pub(super) fn begin(&mut self, now: Now) {
        self.begun = true;
        self.ports_in_charge |= self.ledger.has_ports();
        let holders = self.remember();
        self.suspects.clear();
        self.looks.begin(now.mono);
        for (key, uids) in holders {
            let known = self.index.service(&key).map(|record| record.uid.clone());
            for uid in uids {
                if self.departed.remove(&uid) {
                    self.release_all(&key, &uid, now);
                } else if Some(&uid) != known.as_ref() {
                    self.suspect(&key, &uid, now.mono + LEAK_GRACE);
                    self.queue.push(&key, Rank::Gone, 0);
                }
            }
        }
        self.departed.clear();
        self.adopt();
        self.announce_all();
        self.push_all();
        self.statuses_dirty = true;
    }

    /// Holds in memory what statuses show and no block has, oldest Service first; the pass over each
    /// Service commits it. Two Services that show one address keep it if they asked to share it,
    /// whatever their namespaces; that is reported.
    pub(super) fn adopt(&mut self) {
        let mut candidates: Vec<Arc<ServiceRecord>> = self
            .index
            .services()
            .filter(|record| record.service_type == ServiceType::LoadBalancer && !record.deleting)
            .filter(|record| !record.ingress.is_empty())
            .filter(|record| matches!(self.index.class_of(record), ClassMatch::Ours(_)))
            .cloned()
            .collect();
        candidates.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        for record in candidates {
            for number in record.ingress_numbers() {
                let has_one = self
                    .allocator
                    .held_by(&record.uid)
                    .any(|(held, usage)| usage == Use::LoadBalancer && held.space == number.space);
                if has_one || !decide::pool_contains(&self.allocator, number, Use::LoadBalancer) {
                    continue;
                }
                let sharing = record
                    .request
                    .as_ref()
                    .ok()
                    .and_then(|request| request.sharing.clone());
                let mut strangers = Vec::new();
                let mut fits = true;
                for other in self.allocator.holders(number) {
                    let terms = (sharing.as_ref(), other.sharing.as_ref());
                    let same_key = matches!(terms, (Some(mine), Some(theirs))
                        if mine.key == theirs.key && !mine.ports.iter().any(|port| theirs.ports.contains(port)));
                    fits &= same_key && other.usage == Use::LoadBalancer;
                    if other.service.namespace != record.key.namespace {
                        strangers.push(other.service.clone());
                    }
                }
                if !fits {
                    continue; // somebody else holds it: the pass gives this one another and says so
                }
                if !self.allocator.holders(number).is_empty() {
                    self.joins.insert((number, record.uid.clone()));
                }
                for other in strangers {
                    let note = format!(
                        "shares {number} with Service {other} of another namespace, as found at the start; it stays; list the namespaces in portolan.dev/share-with-namespaces on both, or set another address"
                    );
                    self.emit(&record, true, Reason::SharingConflict, note);
                }
                self.allocator.hold(
                    number,
                    Holder {
                        service: record.key.clone(),
                        uid: record.uid.clone(),
                        usage: Use::LoadBalancer,
                        at: record.version.clone(),
                        sharing,
                    },
                );
                self.counters.adopted += 1;
            }
        }
    }
}
