//! nodePorts that a policy changes: whose turn it is, what has become of it, and the range that the
//! API server gives from.

use super::*;
use crate::core::{
    decide::Move,
    pools::Server,
    reserve::{self, Ability},
};

/// What is to be reserved is looked at so often at most, while something happens.
const RESERVE_INTERVAL: Duration = Duration::from_secs(1);

impl Engine {
    /// Whether some NodePortPool can be read: without one no nodePort is changed.
    pub(super) fn has_node_port_policy(&self) -> bool {
        let mut pools = self.index.pools();
        pools.any(|record| record.kind == PoolKind::NodePort && record.pool.is_ok())
    }

    /// A Service that has something to change stands in line; one that has not leaves it.
    pub(super) fn keep_pace(&mut self, record: &ServiceRecord, moves: &[Move], now: Now) {
        if !moves.is_empty() {
            self.pace.wait(&record.key, record.created, now.mono);
            return;
        }
        // A write whose reply was lost has arrived all the same.
        let lost = self.pace.leave(&record.key);
        if !lost.is_empty() && lost.iter().all(|moved| moved.is_made(record)) {
            self.tell_moves(record, &lost);
        }
    }

    /// What the API server said a while ago is not believed for ever.
    pub(super) fn try_again(&mut self, now: Now) {
        let (numbers, services) = self.pace.expire(now.mono);
        for number in numbers {
            self.wake(number);
        }
        for key in services {
            self.push(&key);
        }
    }

    /// A write arrived.
    pub(super) fn renumbered(&mut self, key: &ServiceKey) {
        let moves = self.pace.arrived(key);
        if let Some(record) = self.index.service(key).cloned() {
            self.tell_moves(&record, &moves);
        }
    }

    fn tell_moves(&mut self, record: &ServiceRecord, moves: &[Move]) {
        for moved in moves {
            self.counters.renumbered += 1;
            self.counters.doubles_renumbered += u64::from(moved.was_double);
            self.emit(record, true, Reason::NodePortMoved, moved.to_string());
        }
    }

    /// A write failed; true when that was because of the nodePorts in it, and all is done about it.
    pub(super) fn renumbering_failed(
        &mut self,
        key: &ServiceKey,
        failure: &Failure,
        now: Now,
    ) -> bool {
        match failure {
            Failure::Unknown(_) => false,
            Failure::Conflict | Failure::NotFound => {
                self.pace.unsent(key);
                false
            }
            Failure::Refused(error) => {
                let changing = self.pace.unsent(key);
                let (another, new_range) = self.pace.learn(error, now.mono);
                if !changing && !another {
                    return false;
                }
                self.counters.renumber_refusals += 1;
                tracing::warn!(svc = %key, %error, "the API server refused nodePorts");
                self.pools_changed |= new_range;
                self.statuses_dirty |= new_range;
                if another {
                    // Not in a tight loop.
                    self.queue.failed(key, now.mono);
                } else {
                    // What is to be told of it; it is tried again later.
                    self.pace.refuse(key, error, now.mono);
                    self.push(key);
                }
                true
            }
        }
    }

    /// The range that bounds what may be handed out, unless this control plane leaves nodePorts to
    /// us and nobody has said what it takes. That it leaves them is seen at an empty field, and, when
    /// all are filled (after a restart), at pools of cluster IPs, which only such a one needs.
    pub(super) fn server_range(&self) -> Option<ServerRange> {
        let range = self.pace.range();
        let cluster_ips_too =
            !self.index.service_cidrs().are_known() && !self.cluster_families.is_empty();
        let leaves_them = self.ports_left_empty || cluster_ips_too;
        (range.told || !leaves_them).then_some(range)
    }

    /// What is known of the API server's own allocators.
    pub(super) fn server(&self) -> Server<'_> {
        let cidrs = self.index.service_cidrs();
        Server {
            ports: self.server_range(),
            cidrs: cidrs.are_known().then_some(cidrs),
            reservations: self.reservations.ability(),
        }
    }

    /// Whether any address is reserved, or may have to be.
    pub(super) fn reserves(&self) -> bool {
        let mut pools = self.allocator.pools();
        let may = self.reservations.ability() == Ability::Kept
            && self.index.service_cidrs().are_known()
            && pools.any(|(pool, _)| pool.usage == Use::ClusterIp);
        may || !self.reservations.is_empty()
    }

    /// Keeps addresses of ours from the API server's own picks.
    pub(super) fn reserve(&mut self, now: Now) {
        if !self.reserves() {
            return;
        }
        if now.mono >= self.reserve_at {
            self.reserve_at = now.mono + RESERVE_INTERVAL;
            self.reserve_dirty = false;
            let wanted = match self.reservations.ability() {
                Ability::Kept => {
                    let services = self.index.services();
                    let shown = services.flat_map(|record| &record.cluster_ips);
                    let shown = shown.map(|address| Number::from(*address)).collect();
                    let cidrs = self.index.service_cidrs();
                    reserve::wanted(&self.allocator, cidrs, &shown, now.wall)
                }
                Ability::Off | Ability::TooOld => BTreeMap::new(),
            };
            self.reservations.want(wanted, now.mono);
        }
        let allocator = &self.allocator;
        let free = |number| reserve::is_free(allocator, number, now.wall);
        self.reservations.write(now.mono, free, &mut self.effects);
    }

    /// When that has something to do.
    pub(super) fn reserve_due(&self) -> Option<Duration> {
        if !self.reserves() {
            return None;
        }
        let look = self.reserve_dirty.then_some(self.reserve_at);
        self.reservations.next_due().into_iter().chain(look).min()
    }

    /// No pool hands out a number that the API server does not take.
    pub(super) fn set_unusable(&self, pools: &mut [Pool]) {
        let cidrs = self.index.service_cidrs();
        cidrs.bound(pools);
        let Some(range) = self.server_range() else {
            return;
        };
        let all = RangeSet::new([(0, Space::Port.last())]);
        let usable = RangeSet::new([(range.first.into(), range.last.into())]);
        let unusable = all.subtract(&usable);
        for pool in pools.iter_mut().filter(|pool| pool.usage == Use::NodePort) {
            pool.unusable_ports = unusable.clone();
        }
    }

    /// What Kubernetes would do with an empty nodePort where nobody says otherwise.
    pub(super) fn default_node_ports(&self) -> Pool {
        let range = self.pace.range();
        Pool {
            created: i64::MAX,
            ports: RangeSet::new([(range.first.into(), range.last.into())]),
            ..Pool::new(DEFAULT_NODE_PORTS, Use::NodePort)
        }
    }
}
