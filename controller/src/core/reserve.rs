//! Which addresses of the pools of cluster IPs are kept from the API server's own picks, by
//! IPAddress objects of ours: its allocator passes over an address that has such an object, whoever
//! made it (kubernetes.md 4.4). Desired against observed, object by object and paced. Pure.
//!
//! It never reserves an address that a Service has or that is promised to one in the ledger, and
//! never touches an object that is not ours.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use allocator::{Allocator, PoolState};
use model::{Number, Space, Uid, Use};

use super::{
    effect::{Effect, Failure},
    failing::Failing,
    record::ReservationRecord,
    service_cidrs::ServiceCidrs,
};

#[cfg(test)]
mod tests;

/// The label of all IPAddress objects that says who made them (Kubernetes' `LabelManagedBy`).
pub const LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// Its value on ours.
pub const OURS: &str = "portolan.dev";

/// Of a pool and family its first so many addresses are reserved, in the order in which they are
/// given. Four times the largest static band; and each IPAddress makes the API server slower, which
/// counts all of them twice for every Service that it gives one (kubernetes.md 2.3).
pub const MOST: usize = 1024;
/// Kubernetes before this keeps its older allocator's bitmap beside the objects, picks from that,
/// and refuses the Service when the object is there (kubernetes.md 4.4).
const SINCE: (u32, u32) = (1, 34);
/// So many objects a second are made or deleted, and at first as many at once: a full pool within a
/// minute, beside what an API server does otherwise.
const PER_SECOND: f64 = 20.0;
/// A reservation that somebody else took away is not made again for so long: the webhook deletes it
/// just before a Service gets the address, and the ledger may tell later that it is promised.
const HANDED_OVER: Duration = Duration::from_secs(90);
/// The same for whoever begins to lead and may have missed that.
const BEGINNING: Duration = Duration::from_secs(10);
/// A promise that ends within so many seconds may be the webhook's, whose Service is about to come;
/// one that lasts longer is a pool's `retainFor`, and its address is reserved meanwhile.
const PROMISE: i64 = 300;
/// A write that has not come back by the watch after so long is not waited for any longer.
const ECHO: Duration = Duration::from_secs(30);

/// What to do about one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Create the object, for this AddressPool. Twice is harmless: the second time it exists.
    Create {
        /// Its name.
        pool: Arc<str>,
        /// Which one.
        uid: Uid,
    },
    /// Delete it, if it is still this very object. Twice is harmless: it is gone.
    Delete {
        /// Which one.
        uid: Uid,
        /// As it was seen.
        version: Arc<str>,
    },
}

/// The pool that an address is reserved for.
type Parent = (Arc<str>, Uid);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Busy {
    /// A write is under way, a deletion if true.
    Writing(bool),
    /// It has arrived, and the watch has not told of it yet.
    Echo(Duration),
    /// Nothing is done about it until then.
    Rests(Duration),
}

/// What the API server can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ability {
    /// Reservations are kept.
    Kept,
    /// The flag is off.
    Off,
    /// It is older than 1.34, or does not say what it is.
    TooOld,
}

/// What is reserved, what is to be, and what is under way.
#[derive(Debug)]
pub struct Reservations {
    wished: bool,
    server: Option<(u32, u32)>,
    found: BTreeMap<IpAddr, ReservationRecord>,
    wanted: BTreeMap<IpAddr, Parent>,
    /// Addresses of which both may differ.
    unequal: BTreeSet<IpAddr>,
    busy: HashMap<IpAddr, Busy>,
    failing: Failing<IpAddr>,
    /// When this process began to lead, as far as it has looked.
    began: Option<Duration>,
    tokens: f64,
    refilled: Duration,
}

impl Reservations {
    /// None, and `wished` whether there are to be any.
    pub fn new(wished: bool, seed: u64) -> Self {
        Self {
            wished,
            server: None,
            found: BTreeMap::new(),
            wanted: BTreeMap::new(),
            unequal: BTreeSet::new(),
            busy: HashMap::new(),
            failing: Failing::new(seed),
            began: None,
            tokens: PER_SECOND,
            refilled: Duration::ZERO,
        }
    }

    /// The API server has said its version, or that it does not say.
    pub fn server(&mut self, version: Option<(u32, u32)>) -> bool {
        let before = self.ability();
        self.server = version;
        self.ability() != before
    }

    /// Whether any are kept.
    pub fn ability(&self) -> Ability {
        match (self.wished, self.server) {
            (false, _) => Ability::Off,
            (true, Some(version)) if version >= SINCE => Ability::Kept,
            (true, _) => Ability::TooOld,
        }
    }

    /// Another replica leads, or this one anew.
    pub fn reset(&mut self) {
        self.wanted.clear();
        self.unequal.clear();
        self.busy.clear();
        self.failing.clear();
        self.began = None;
    }

    /// An IPAddress that carries our label is there.
    pub fn observe(&mut self, record: ReservationRecord) {
        let address = record.address;
        if self.began.is_none() {
            self.found.insert(address, record);
            return;
        }
        if !matches!(self.busy.get(&address), Some(Busy::Writing(_))) {
            self.busy.remove(&address);
        }
        self.unequal.insert(address);
        self.found.insert(address, record);
    }

    /// It is gone.
    pub fn observe_deleted(&mut self, address: IpAddr, now: Duration) {
        if self.found.remove(&address).is_none() || self.began.is_none() {
            return;
        }
        self.unequal.insert(address);
        match self.busy.get(&address) {
            // By us.
            Some(Busy::Writing(true)) => {}
            Some(Busy::Echo(_)) => drop(self.busy.remove(&address)),
            Some(Busy::Writing(false) | Busy::Rests(_)) | None => {
                let until = now + HANDED_OVER;
                self.busy.insert(address, Busy::Rests(until));
            }
        }
    }

    /// Forgets what did not come again in a list.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool, now: Duration) {
        let gone = self.found.keys().filter(|ip| !stays(&ip.to_string()));
        let gone: Vec<IpAddr> = gone.copied().collect();
        for address in gone {
            self.observe_deleted(address, now);
        }
    }

    /// What there is to be, from pools, the ledger and the Services.
    pub fn want(&mut self, wanted: BTreeMap<IpAddr, Parent>, now: Duration) {
        self.began.get_or_insert(now);
        self.wanted = wanted;
        let differs = |address: &&IpAddr| self.change(**address).is_some();
        let all = self.wanted.keys().chain(self.found.keys());
        self.unequal = all.filter(differs).copied().collect();
    }

    /// Whether there is none, and is to be none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.wanted.is_empty()
    }

    /// The next writes, as far as the pace allows. `free` judges by this moment: what is wanted may be
    /// a second old, and the webhook may have promised the address meanwhile.
    pub fn write(
        &mut self,
        now: Duration,
        free: impl Fn(Number) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(began) = self.began else { return };
        let over = self.busy.extract_if(|_, busy| match busy {
            Busy::Writing(_) => false,
            Busy::Echo(until) | Busy::Rests(until) => *until <= now,
        });
        self.unequal.extend(over.map(|(address, _)| address));
        let elapsed = now.saturating_sub(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * PER_SECOND).min(PER_SECOND);
        self.refilled = now;
        let mut later = BTreeSet::new();
        while let Some(address) = self.unequal.pop_first() {
            if self.busy.contains_key(&address) {
                continue; // its end makes it be looked at again
            }
            let Some(change) = self.change(address) else {
                self.failing.succeeded(&address);
                continue;
            };
            let deleting = match change {
                Change::Create { .. } if now < began + BEGINNING => {
                    let until = began + BEGINNING;
                    self.busy.insert(address, Busy::Rests(until));
                    continue;
                }
                // It is not wanted any more, as the next look will tell.
                Change::Create { .. } if !free(address.into()) => continue,
                Change::Create { .. } => false,
                Change::Delete { .. } => true,
            };
            if self.tokens < 1.0 {
                later.insert(address);
                break;
            }
            self.tokens -= 1.0;
            self.busy.insert(address, Busy::Writing(deleting));
            effects.push(Effect::WriteReservation { address, change });
        }
        self.unequal.append(&mut later);
    }

    fn change(&self, address: IpAddr) -> Option<Change> {
        let delete = |found: &ReservationRecord| Change::Delete {
            uid: found.uid.clone(),
            version: found.version.clone(),
        };
        match (self.found.get(&address), self.wanted.get(&address)) {
            (None, None) => None,
            (Some(found), None) => Some(delete(found)),
            // The parent cannot be changed: it is made anew.
            (Some(found), Some(wanted)) => {
                (found.pool.as_ref() != Some(wanted)).then(|| delete(found))
            }
            (None, Some((pool, uid))) => Some(Change::Create {
                pool: pool.clone(),
                uid: uid.clone(),
            }),
        }
    }

    /// What became of a write.
    pub fn written(&mut self, address: IpAddr, result: Result<(), Failure>, now: Duration) {
        let Some(Busy::Writing(deleting)) = self.busy.get(&address).copied() else {
            return; // of a leadership that is over
        };
        let told = self.found.contains_key(&address) != deleting;
        let gone = deleting && result == Err(Failure::NotFound);
        let busy = match result {
            // The watch has been quicker than the reply.
            _ if told && (result.is_ok() || gone) => {
                self.busy.remove(&address);
                self.unequal.insert(address);
                return;
            }
            Ok(()) => Busy::Echo(now + ECHO),
            // The watch will say so.
            Err(Failure::NotFound) if gone => Busy::Echo(now + ECHO),
            Err(failure) => {
                match &failure {
                    // Of a creation: a Service has it that the watch has not told of yet, or one that
                    // is being deleted. Of a deletion: it is another object by now.
                    Failure::Conflict | Failure::NotFound | Failure::Unknown(_) => {
                        tracing::debug!(%address, ?failure, "a reservation failed: again");
                    }
                    Failure::Refused(error) => {
                        tracing::warn!(%address, %error, "the API server refused a reservation");
                    }
                }
                Busy::Rests(now + self.failing.delay(&address))
            }
        };
        self.busy.insert(address, busy);
    }

    /// When [`Self::write`] has something to do that no input will announce.
    pub fn next_due(&self) -> Option<Duration> {
        self.began?;
        let missing = (1.0 - self.tokens).max(0.0) / PER_SECOND;
        // A nanosecond more than it takes, so that no rounding makes it come too early for ever.
        let wait = Duration::from_secs_f64(missing) + Duration::from_nanos(1);
        let turn = (!self.unequal.is_empty()).then(|| self.refilled + wait);
        let over = self.busy.values().filter_map(|busy| match busy {
            Busy::Writing(_) => None,
            Busy::Echo(until) | Busy::Rests(until) => Some(*until),
        });
        turn.into_iter().chain(over).min()
    }

    /// Whether something is under way or could be done now.
    pub fn is_working(&self) -> bool {
        let rests = |busy: &Busy| matches!(busy, Busy::Rests(_));
        !self.unequal.is_empty() || !self.busy.values().all(rests)
    }
}

/// The addresses that are to be reserved, and for which pool: what a pool gives where the API server
/// picks too, as long as nobody has it and it is promised to nobody.
pub fn wanted(
    allocator: &Allocator,
    cidrs: &ServiceCidrs,
    shown: &HashSet<Number>,
    now: i64,
) -> BTreeMap<IpAddr, Parent> {
    let mut wanted = BTreeMap::new();
    let gives = allocator.pools().filter(|(pool, state)| {
        pool.usage == Use::ClusterIp && **state == PoolState::Ready && !pool.disabled
    });
    let spaces = [Space::V4, Space::V6].map(|space| (space, cidrs.dynamic(space)));
    for (pool, _) in gives {
        for (space, picked) in &spaces {
            let first = allocator.first_given((&pool.name, pool.usage), *space, picked);
            for number in first.take(MOST) {
                let free = is_free(allocator, number, now) && !shown.contains(&number);
                if let Some(address) = number.address().filter(|_| free) {
                    wanted.insert(address, (pool.name.clone(), pool.uid.clone()));
                }
            }
        }
    }
    wanted
}

/// Whether nobody has the address, and nobody is about to get it.
pub fn is_free(allocator: &Allocator, number: Number, now: i64) -> bool {
    let promised =
        (allocator.retained(number)).is_some_and(|(_, until)| until.saturating_sub(now) <= PROMISE);
    allocator.holders(number).is_empty() && !promised
}
