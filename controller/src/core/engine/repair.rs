//! What has leaked is released after a grace, under the proof of every release; what else does not
//! agree is looked at now and then, and told when it stays.

use super::*;
use crate::core::{
    holdings::{Given, Group},
    repair::{Finding, FindingId, Kind as Found, Recorded, compare},
};

/// A uid that holds numbers and is not the Service of its name, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    since: Duration,
    /// Asked for no sooner.
    due: Duration,
}

/// What a uid proven gone held, until the ledger has let go of all of it.
#[derive(Debug)]
pub(super) struct Leak {
    key: ServiceKey,
    open: BTreeSet<Number>,
    released: Vec<Number>,
    /// How it was proven, as the end of a sentence.
    proof: &'static str,
}

/// When ledger, Services and IPAddress objects are compared, and what was found.
#[derive(Debug)]
pub(super) struct Looks {
    every: Duration,
    pub(super) at: Duration,
    /// What the last look found, and whether the one before had found it too.
    found: BTreeMap<FindingId, bool>,
    /// This API server has no IPAddress objects.
    unlisted: bool,
}

impl Looks {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            at: every,
            found: BTreeMap::new(),
            unlisted: false,
        }
    }

    /// What another leader has found is found again.
    pub(super) fn begin(&mut self, now: Duration) {
        *self = Self::new(self.every);
        self.at = now + self.every;
    }
}

impl Engine {
    /// Numbers that the ledger has for this very Service: an edit by hand may have given a living
    /// Service's uid to another name.
    pub(super) fn held_under(&self, key: &ServiceKey, uid: &Uid) -> Vec<(Number, Use)> {
        let under = |(number, usage): &(Number, Use)| {
            let mut holders = self.allocator.holders(*number).iter();
            holders.any(|held| held.uid == *uid && held.usage == *usage && held.service == *key)
        };
        self.allocator.held_by(uid).filter(under).collect()
    }

    /// A uid that is not the Service of its name, as far as is known; asked for no sooner than `due`.
    pub(super) fn suspect(&mut self, key: &ServiceKey, uid: &Uid, due: Duration) {
        if decide::holds_anything(&self.allocator, uid) {
            self.suspected(key, uid, due);
        }
    }

    pub(super) fn suspected(&mut self, key: &ServiceKey, uid: &Uid, due: Duration) {
        let suspects = self.suspects.entry(key.clone()).or_default();
        let since = due.saturating_sub(LEAK_GRACE);
        suspects
            .entry(uid.clone())
            .or_insert(Suspect { since, due });
    }

    /// Those whose grace is over; for the others the key is looked at again.
    pub(super) fn due_suspects(&mut self, key: &ServiceKey, now: Duration) -> Vec<Uid> {
        let suspects = self.suspects.get(key).into_iter().flatten();
        let (due, waiting): (Vec<_>, Vec<_>) = suspects.partition(|(_, it)| it.due <= now);
        if let Some(next) = waiting.into_iter().map(|(_, it)| it.due).min() {
            self.queue.push_at(key, next);
        }
        due.into_iter().map(|(uid, _)| uid.clone()).collect()
    }

    /// A quorum read has found somebody else, or nobody: what this uid holds goes.
    pub(super) fn release_leaked(
        &mut self,
        key: &ServiceKey,
        uid: &Uid,
        found: Option<&ServiceRecord>,
        now: Now,
    ) {
        let proof = match found {
            None => "a quorum read finds no Service of this name",
            Some(_) => "a quorum read finds another Service of this name",
        };
        let held = self.held_under(key, uid);
        let open: BTreeSet<Number> = held.iter().map(|(number, _)| *number).collect();
        for (number, usage) in held {
            let claim = self.ledger.holder(number, uid, usage);
            let claimed_at = claim.map_or_else(|| "-".into(), |claim| Arc::clone(&claim.at));
            let suspect = self.suspects.get(key).and_then(|all| all.get(uid));
            let missed = suspect.map_or(Duration::ZERO, |it| now.mono.saturating_sub(it.since));
            tracing::info!(%number, %usage, svc = %key, %uid, %claimed_at, missed_for_s = missed.as_secs(), proof, "releasing a leaked claim");
        }
        if !open.is_empty() {
            let leak = Leak {
                key: key.clone(),
                open,
                released: Vec::new(),
                proof,
            };
            self.leaks.insert(uid.clone(), leak);
        }
        self.release_all(key, uid, now);
    }

    /// One release has ended. When the last has, the former Service is told, all of it in one Event:
    /// who looks at its namespace finds it there, as Events need no object to be about.
    pub(super) fn leak_ended(&mut self, uid: &Uid, number: Number, released: bool) {
        let Some(leak) = self.leaks.get_mut(uid) else {
            return;
        };
        if leak.open.remove(&number) && released {
            leak.released.push(number);
        }
        if !leak.open.is_empty() {
            return;
        }
        let Some(leak) = self.leaks.remove(uid) else {
            return;
        };
        if leak.released.is_empty() {
            return;
        }
        self.counters.leaks_released += u64::try_from(leak.released.len()).unwrap_or(u64::MAX);
        let numbers: Vec<String> = leak.released.iter().map(ToString::to_string).collect();
        let note = format!(
            "{} of this Service, whose deletion was not seen, is free again: {}",
            numbers.join(", "),
            leak.proof
        );
        self.emit_about((leak.key, uid.clone()), false, Reason::LeakedClaim, note);
    }

    /// Compares now, or as soon as the IPAddress objects are listed.
    pub(super) fn look_if_due(&mut self, now: Now) {
        if now.mono < self.looks.at {
            return;
        }
        self.looks.at = now.mono + self.looks.every;
        if self.gives_cluster_ips() && !self.looks.unlisted {
            self.effects.push(Effect::ListAddresses);
        } else {
            self.look(None);
        }
    }

    pub(super) fn addresses_listed(&mut self, result: Result<Recorded, Failure>) {
        if !self.leading || !self.begun {
            return;
        }
        let recorded = match result {
            Ok(recorded) => Some(recorded),
            Err(failure) => {
                self.looks.unlisted = failure == Failure::NotFound;
                if let Failure::Refused(error) | Failure::Unknown(error) = failure {
                    tracing::warn!(%error, "IPAddress objects cannot be listed; cluster IPs are compared without them");
                }
                None
            }
        };
        self.look(recorded);
    }

    fn gives_cluster_ips(&self) -> bool {
        let mut pools = self.index.pools().filter_map(|it| it.pool.as_ref().ok());
        pools.any(|pool| pool.usage == Use::ClusterIp)
    }

    /// Compares, and tells what the look before has found as well.
    fn look(&mut self, recorded: Option<Recorded>) {
        let mut given = Given::default();
        for record in self.index.services() {
            given.record(record, &[]);
        }
        for (number, claim) in self.ledger.claims() {
            given.claim(number, claim);
        }
        for (id, why) in self.ledger.damaged() {
            given.unreadable(id, why);
        }
        if let Some(recorded) = recorded {
            given.recorded(recorded);
        }
        let ports = self.has_node_port_policy() || self.ports_in_charge;
        let cluster_ips = self.gives_cluster_ips();
        let before = std::mem::take(&mut self.looks.found);
        for finding in compare(&given) {
            let ours = match (finding.kind, finding.group()) {
                (Found::LeakedClaim | Found::UnreadableBlock, _) => true,
                (_, Some(Group::NodePort)) => ports,
                (_, Some(Group::ClusterIp)) => cluster_ips,
                (_, Some(Group::External) | None) => true,
            };
            if !ours {
                continue;
            }
            let id = finding.id();
            let stays = before.get(&id).copied();
            if stays == Some(false) {
                self.tell(&finding);
            }
            self.looks.found.insert(id, stays.is_some());
        }
        for ((kind, number, _), _) in before.iter().filter(|(_, told)| **told) {
            let mut now = self.looks.found.keys();
            if !now.any(|(other, same, _)| other == kind && same == number) {
                tracing::info!(kind = %kind.reason(), %number, "what repair had found is over");
            }
        }
        self.statuses_dirty |= self.figures.findings != self.findings();
    }

    /// It begins to be told: once, not at every look.
    fn tell(&mut self, finding: &Finding) {
        let kind = finding.kind.reason();
        let (namespace, service) = (&finding.namespace, &finding.service);
        tracing::warn!(%kind, number = %finding.number, ?namespace, ?service, "{}", finding.note);
        let Some(whose) = finding.whose() else { return };
        // A condition and its Event have said that another Service holds its number.
        let waits = self.index.waits(&whose.0);
        let said = waits.is_some_and(|(reason, _)| *reason == Reason::NumberConflict);
        if finding.kind.is_told() && !said {
            self.emit_about(whose, true, kind, finding.note.clone());
        }
    }

    /// What stays, by kind.
    pub(super) fn findings(&self) -> BTreeMap<Found, usize> {
        let mut counts: BTreeMap<Found, usize> = Found::ALL.map(|kind| (kind, 0)).into();
        let told = self.looks.found.iter().filter(|(_, told)| **told);
        for ((kind, ..), _) in told {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }
}
