//! One step over one Service: decide, claim, settle, write, prove.

use super::*;

impl Engine {
    pub(super) fn snapshot<'a>(&'a self, record: &'a ServiceRecord, now: Now) -> Snapshot<'a> {
        Snapshot {
            record,
            class: self.index.class_of(record),
            namespace_labels: self.index.namespace_labels(&record.key.namespace),
            allocator: &self.allocator,
            ledger: &self.ledger,
            cluster_families: &self.cluster_families,
            server_gives_cluster_ips: self.index.service_cidrs().are_known(),
            aws: self.aws,
            told: self.told(&record.key, &record.uid),
            node_port_policy: self.has_node_port_policy(),
            shown_ports: self.index.shown_ports(),
            shown_addresses: self.index.shown_addresses(),
            foreign: self.pace.foreign(),
            refused: self.pace.refused(&record.key),
            may_renumber: self.pace.allows(&record.key),
            now: now.wall,
        }
    }

    pub(super) fn pass(&mut self, key: &ServiceKey, now: Now) {
        let Some(record) = self.index.service(key).cloned() else {
            self.line.leave(key);
            self.announce(key, None);
            self.prove(key, None, Vec::new(), now);
            return;
        };
        if let Some((version, until)) = self.awaited.get(key) {
            if newer(version, &record.version) && now.mono < *until {
                self.queue.push_at(key, *until);
                return;
            }
            self.awaited.remove(key);
        }
        let span = tracing::debug_span!("pass", svc = %key, uid = %record.uid);
        let _entered = span.enter();
        self.counters.decisions += 1;
        let decision = decide::decide(&self.snapshot(&record, now));
        self.keep_pace(&record, &decision.moves, now);
        if self.stands_back(&record, &decision.address, now) {
            return;
        }
        if decision.address != Address::Later {
            self.line.leave(key);
        }
        let open = self.claim(&record, &decision.holds);
        if open > 0 {
            self.step(key, Some(&record.uid), Stage::Claiming(open));
            return;
        }
        self.converge(&record, &decision.address);
        self.wish(&record, &decision.address);
        let settled = settle::settle(&record, &decision, self.said(&record), now.wall);
        if decision.address != Address::Later {
            self.index.set_waits(key, settled.waits.clone());
        }
        let patch = match &decision.spec {
            Some(spec) => {
                self.counters.spec_writes += 1;
                if self.pace.allows(key) {
                    self.pace.sent(key, decision.moves.clone());
                }
                Some(ServicePatch::Spec(spec.clone()))
            }
            None => {
                for note in settled.notes(&record) {
                    self.counters.events += 1;
                    self.counters.put_back += u64::from(note.reason == Reason::Repaired);
                    self.effects.push(Effect::Emit(note));
                }
                self.counters.status_writes += u64::from(settled.status.is_some());
                if let Some(reason) = settled.outcome {
                    *self.outcomes.entry(reason).or_default() += 1;
                }
                settled.status
            }
        };
        if let Some(patch) = patch {
            let pass = self.step(key, Some(&record.uid), Stage::Writing);
            self.effects.push(Effect::WriteService {
                pass,
                key: key.clone(),
                patch,
            });
            return;
        }
        self.prove(key, Some(&record), decision.surplus, now);
    }

    /// Whether the pass is put off because a new external address might be one that an older
    /// Service, not decided on yet, would then miss. Nothing is held and nothing written for it.
    fn stands_back(&mut self, record: &ServiceRecord, address: &Address, now: Now) -> bool {
        let Address::Decided { grants, .. } = address else {
            return false;
        };
        let mut fresh = grants.iter().filter(|grant| grant.fresh);
        if !fresh.any(|grant| self.contended(record, grant)) {
            return false;
        }
        let Some(until) = self.line.stand_back(&record.key, now.mono) else {
            return false;
        };
        self.queue.push_at(&record.key, until);
        true
    }

    /// Whether older Services in line could need this number: there are as many as the pool has
    /// numbers left, or one of them asks for this very number or shares by the same key. Which pools
    /// the others would choose is not asked: who stands back in vain loses a moment only.
    fn contended(&self, record: &ServiceRecord, grant: &Grant) -> bool {
        let usage = match grant.number.space {
            Space::V4 | Space::V6 => Use::LoadBalancer,
            Space::Port => Use::NodePort,
        };
        let usage = (grant.pool.as_deref()).map(|pool| self.allocator.usage(pool, usage));
        let left = usage.map_or(0, |usage| match grant.number.space {
            Space::V4 => usage.v4.available,
            Space::V6 => usage.v6.available,
            Space::Port => usage.ports.available,
        });
        let left = usize::try_from(left).unwrap_or(usize::MAX).max(1);
        if self.line.before(&record.key).take(left).count() == left {
            return true;
        }
        let key = |request: &LoadBalancerRequest| request.sharing.as_ref().map(|s| s.key.clone());
        let mine = record.request.as_ref().ok().and_then(key);
        self.line
            .before(&record.key)
            .filter(|(_, choosy)| *choosy)
            .filter_map(|(other, _)| self.index.service(other)?.request.as_ref().ok())
            .any(|request| {
                let mut addresses = request.addresses.iter();
                addresses.any(|address| Number::from(*address) == grant.number)
                    || (mine.is_some() && key(request) == mine)
            })
    }

    /// Holds what was decided in memory and submits what is not committed; returns how many
    /// operations must end before anything may be written.
    pub(super) fn claim(&mut self, record: &ServiceRecord, holds: &[Wanted]) -> usize {
        let mut open = 0;
        for wanted in holds {
            let committed = self.ledger.holder(wanted.number, &record.uid, wanted.usage);
            let settled = committed.is_some_and(|holder| {
                holder.service == record.key
                    && holder.sharing == wanted.sharing
                    && (!wanted.written || holder.at == record.version)
            });
            if settled {
                continue;
            }
            let holder = Holder {
                service: record.key.clone(),
                uid: record.uid.clone(),
                usage: wanted.usage,
                at: record.version.clone(),
                sharing: wanted.sharing.clone(),
            };
            self.allocator.hold(wanted.number, holder.clone());
            self.statuses_dirty = true;
            if self.ledger.damage(wanted.number).is_some() && !wanted.written {
                continue; // in service and in a block that cannot be read: stays as it is
            }
            self.ledger.submit(Op::Claim {
                number: wanted.number,
                holder,
                join: self.joins.contains(&(wanted.number, record.uid.clone())),
                shown: !wanted.written && shows(record, wanted.number, wanted.usage),
            });
            open += 1;
        }
        open
    }

    /// Nothing is left to write: what the Service holds and should not, and what others of its name
    /// hold, may go once a quorum read proves it.
    pub(super) fn prove(
        &mut self,
        key: &ServiceKey,
        record: Option<&ServiceRecord>,
        surplus: Vec<(Number, Use)>,
        now: Now,
    ) {
        let mut doubtful = Vec::new();
        if let Some(record) = record {
            for (number, usage) in surplus {
                match self.ledger.holder(number, &record.uid, usage) {
                    Some(holder) => doubtful.push((number, usage, holder.at.clone())),
                    // Held in memory only: it was never anybody's.
                    None => self.unhold(number, &record.uid, usage),
                }
            }
        }
        let suspects = self.due_suspects(key, now.mono);
        if doubtful.is_empty() && suspects.is_empty() {
            self.queue.succeeded(key);
            return;
        }
        self.counters.reads += 1;
        let uid = record.map(|record| &record.uid);
        let pass = self.step(
            key,
            uid,
            Stage::Proving {
                surplus: doubtful,
                suspects,
            },
        );
        self.effects.push(Effect::ReadService {
            pass,
            key: key.clone(),
        });
    }

    pub(super) fn step(&mut self, key: &ServiceKey, uid: Option<&Uid>, stage: Stage) -> Pass {
        self.next_pass += 1;
        let id = self.next_pass;
        let uid = uid.cloned();
        self.passes
            .insert(key.clone(), PassState { id, uid, stage });
        id
    }

    /// Ends the step with that number, if it is still under way.
    pub(super) fn end(&mut self, pass: Pass, key: &ServiceKey) -> Option<PassState> {
        if self.passes.get(key)?.id != pass {
            return None;
        }
        self.passes.remove(key)
    }

    pub(super) fn service_written(
        &mut self,
        pass: Pass,
        key: &ServiceKey,
        result: Result<Arc<str>, Failure>,
        now: Now,
    ) {
        if self.end(pass, key).is_none() {
            return;
        }
        match result {
            Ok(version) => {
                self.renumbered(key);
                self.awaited.insert(key.clone(), (version, now.mono + ECHO));
                self.push(key);
            }
            Err(failure) => {
                if self.renumbering_failed(key, &failure, now) {
                    return;
                }
                match &failure {
                    Failure::Conflict => {
                        self.counters.service_conflicts += 1;
                        tracing::debug!(svc = %key, "the Service changed meanwhile; deciding again");
                    }
                    Failure::NotFound => tracing::debug!(svc = %key, "the Service is gone"),
                    Failure::Refused(error) => {
                        tracing::warn!(svc = %key, %error, "the API server refused a write");
                    }
                    Failure::Unknown(error) => {
                        tracing::debug!(svc = %key, %error, "a write may or may not have happened");
                    }
                }
                self.queue.failed(key, now.mono);
            }
        }
    }

    pub(super) fn service_read(
        &mut self,
        pass: Pass,
        key: &ServiceKey,
        result: Result<Option<Arc<ServiceRecord>>, Failure>,
        now: Now,
    ) {
        let Some(PassState {
            uid,
            stage: Stage::Proving { surplus, suspects },
            ..
        }) = self.end(pass, key)
        else {
            return;
        };
        let found = match result {
            Ok(found) => found,
            Err(_) => {
                self.queue.failed(key, now.mono);
                return;
            }
        };
        let (mut again, mut fence) = (false, false);
        for suspect in suspects {
            if found.as_ref().is_some_and(|found| found.uid == suspect) {
                again = true; // it lives; the watch is behind
            } else {
                self.release_leaked(key, &suspect, found.as_deref(), now);
            }
        }
        for (number, usage, at) in surplus {
            let Some(uid) = &uid else { continue };
            let at = match &found {
                Some(found) if found.uid == *uid => {
                    fence |= found.version == at && !shows(found, number, usage);
                    if found.version == at || shows(found, number, usage) {
                        again = true;
                        continue;
                    }
                    Some(at)
                }
                _ => None,
            };
            let retain = self.retention(key, number, usage, now);
            self.ledger.submit(Op::Release {
                number,
                uid: uid.clone(),
                usage,
                at,
                retain,
            });
        }
        if fence
            && let Some(found) = found
            && let Some(patch) = settle::fence(&found, now.wall)
        {
            // Somebody's write of that number on this very version may still be under way: only a
            // newer version proves that it can never succeed.
            self.counters.fences += 1;
            let uid = found.uid.clone();
            let pass = self.step(key, Some(&uid), Stage::Writing);
            self.effects.push(Effect::WriteService {
                pass,
                key: key.clone(),
                patch,
            });
        } else if again {
            self.queue.failed(key, now.mono);
        }
    }
}

/// Whether a Service shows a number where it would be used.
fn shows(record: &ServiceRecord, number: Number, usage: Use) -> bool {
    match usage {
        Use::LoadBalancer => {
            record.service_type == ServiceType::LoadBalancer
                && record.ingress_numbers().any(|shown| shown == number)
        }
        Use::ClusterIp => record
            .cluster_ips
            .iter()
            .any(|ip| Number::from(*ip) == number),
        Use::NodePort => record
            .ports
            .iter()
            .any(|port| Number::port(port.node_port) == number),
        Use::HealthCheckNodePort => Number::port(record.health_check_node_port) == number,
    }
}
