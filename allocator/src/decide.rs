//! Which numbers a Service gets, and why not: request in, [`Verdict`] out. Changes nothing.
//!
//! What is held comes first (G6): a number that some pool still contains and admits the Service to
//! stays, unless the request asks for another one that can be had. New numbers are `select`'s.

use model::{Family, Number, Space, Use};

use crate::{
    Allocator, Obstacle,
    block::{BlockId, Holder},
    entry::Entry,
    verdict::{Considered, Grant, Missing, Request, Verdict, Why},
    words,
};

/// One number that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Want<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) space: Space,
    pub(crate) now: i64,
}

/// What becomes of it.
struct Outcome {
    /// What is held can stay.
    kept: Option<Grant>,
    /// A new number.
    fresh: Option<Grant>,
    missing: Option<Missing>,
}

impl Want<'_> {
    pub(crate) const fn family(&self) -> Option<Family> {
        self.space.family()
    }

    pub(crate) fn number(&self, value: u128) -> Number {
        Number {
            space: self.space,
            value,
        }
    }

    pub(crate) fn explicit(&self) -> Option<Number> {
        let mut explicit = self.request.explicit.iter().copied();
        explicit.find(|number| number.space == self.space)
    }

    pub(crate) fn passes_over(&self, number: Number) -> bool {
        let pass_over = self.request.pass_over;
        pass_over.is_some_and(|others| others.passes_over(number))
    }

    pub(crate) fn admitted(&self, entry: &Entry) -> bool {
        entry.pool.admission.admits(
            &self.request.service.namespace,
            self.request.namespace_labels,
            self.request.service_labels,
        )
    }
}

impl Allocator {
    /// Which numbers the Service gets or keeps at `now` (Unix seconds), what is missing and why.
    pub fn decide(&self, request: &Request<'_>, now: i64) -> Verdict {
        let mut held: Vec<Number> = self
            .held_by(request.uid)
            .filter(|(number, usage)| *usage == request.usage && !request.exclude.contains(number))
            .map(|(number, _)| number)
            .collect();
        held.sort_unstable();
        let spaces: Vec<Space> = match request.usage {
            Use::LoadBalancer | Use::ClusterIp => request
                .families
                .iter()
                .map(|&family| family.into())
                .collect(),
            Use::NodePort | Use::HealthCheckNodePort => vec![Space::Port],
        };
        let mut verdict = Verdict::default();
        let mut outcomes: Vec<Outcome> = spaces
            .into_iter()
            .map(|space| {
                let want = Want {
                    request,
                    space,
                    now,
                };
                self.outcome(want, &held, &mut verdict.considered)
            })
            .collect();
        let blocked = request.require_all
            && outcomes
                .iter()
                .any(|outcome| outcome.kept.is_none() && outcome.fresh.is_none());
        for outcome in &mut outcomes {
            let fresh = outcome.fresh.take().filter(|_| !blocked);
            verdict.grants.extend(fresh.or(outcome.kept.take()));
            if let Some(mut missing) = outcome.missing.take() {
                if blocked {
                    missing.message.push_str(
                        "; spec.ipFamilyPolicy is RequireDualStack, so no family gets a new address",
                    );
                }
                verdict.missing.push(missing);
            }
        }
        verdict.surplus = held;
        verdict
            .surplus
            .retain(|number| !verdict.grants.iter().any(|grant| grant.number == *number));
        verdict
    }

    fn outcome(
        &self,
        want: Want<'_>,
        held: &[Number],
        considered: &mut Vec<Considered>,
    ) -> Outcome {
        let held: Vec<Number> = held
            .iter()
            .copied()
            .filter(|number| number.space == want.space)
            .collect();
        let explicit = want.explicit();
        let satisfying = held
            .iter()
            .copied()
            .filter(|number| explicit.is_none_or(|explicit| explicit == *number))
            .filter(|&number| !self.must_part(want, number));
        if let Some(grant) = self.keep(want, satisfying, want.request.pool) {
            if let Some(pool) = &grant.pool {
                considered.push(Considered {
                    pool: pool.clone(),
                    family: want.family(),
                    why: Why::Chosen,
                });
            }
            return Outcome {
                kept: Some(grant),
                fresh: None,
                missing: None,
            };
        }
        // A port that no field shows is not in service: another port's request must not end on it.
        let in_service = held
            .iter()
            .copied()
            .filter(|number| number.space != Space::Port || want.request.shown.contains(number));
        let mut kept = self.keep(want, in_service, None);
        if kept.is_none()
            && let Some((stuck, pool)) = self.stuck(want)
        {
            if explicit.is_none_or(|explicit| explicit == stuck.number) {
                let why = Why::LedgerDamaged;
                let missing = words::explicit(want, stuck.number, &pool.pool, &why);
                considered.push(Considered {
                    pool: pool.pool.name.clone(),
                    family: want.family(),
                    why,
                });
                return Outcome {
                    kept: Some(stuck),
                    fresh: None,
                    missing: Some(missing),
                };
            }
            kept = Some(stuck);
        }
        let acquired = self.acquire(want, &held, considered);
        let (fresh, missing) = match acquired {
            Ok(grant) => (Some(grant), None),
            Err(mut missing) => {
                if let Some(kept) = &kept {
                    use std::fmt::Write as _;
                    // Writing to a String cannot fail.
                    let _ = write!(
                        missing.message,
                        "; {} stays in service until then",
                        kept.number
                    );
                }
                (None, Some(missing))
            }
        };
        Outcome {
            kept,
            fresh,
            missing,
        }
    }

    /// The number to keep: the one shown, else the lowest, of those that a pool still contains and
    /// admits the Service to. A pool that is disabled, overlaps or reserves the number keeps what
    /// it gave.
    fn keep(
        &self,
        want: Want<'_>,
        numbers: impl Iterator<Item = Number>,
        only: Option<&str>,
    ) -> Option<Grant> {
        let mut best: Option<(bool, Grant)> = None;
        for number in numbers {
            let Some(entry) = self.keeper(want, number, only) else {
                continue;
            };
            let shown = want.request.shown.contains(&number);
            if best.as_ref().is_some_and(|(best, _)| *best || !shown) {
                continue;
            }
            best = Some((
                shown,
                Grant {
                    number,
                    pool: Some(entry.pool.name.clone()),
                    fresh: false,
                    keep_terms: self.must_part(want, number),
                },
            ));
        }
        best.map(|(_, grant)| grant)
    }

    /// The Service shows a number whose block cannot be read: nobody can tell whose it is, so the
    /// Service neither loses it nor is it claimed.
    fn stuck(&self, want: Want<'_>) -> Option<(Grant, &Entry)> {
        let shown = want.request.shown.iter().copied();
        shown
            .filter(|number| number.space == want.space)
            .filter(|number| self.is_quarantined(BlockId::of(*number)))
            .filter(|&number| self.occupied(want, number).is_none())
            .find_map(|number| {
                let entry = self.keeper(want, number, None)?;
                let grant = Grant {
                    number,
                    pool: Some(entry.pool.name.clone()),
                    fresh: false,
                    keep_terms: false,
                };
                Some((grant, entry))
            })
    }

    /// The pool that lets the number be kept.
    pub(crate) fn keeper(
        &self,
        want: Want<'_>,
        number: Number,
        only: Option<&str>,
    ) -> Option<&Entry> {
        self.entries_containing(number).find(|entry| {
            entry.pool.serves(want.request.usage)
                && only.is_none_or(|only| *only == *entry.pool.name)
                && want.admitted(entry)
        })
    }

    /// Whether the Service has changed its terms of sharing so that they clash with another holder
    /// of a number it holds. The others, which changed nothing, stay.
    fn must_part(&self, want: Want<'_>, number: Number) -> bool {
        let holders = self.holders(number);
        let own = |holder: &&Holder| {
            holder.uid == *want.request.uid && holder.usage == want.request.usage
        };
        if holders.len() < 2 {
            return false;
        }
        let recorded = holders
            .iter()
            .find(own)
            .and_then(|own| own.sharing.as_ref());
        recorded != want.request.sharing && self.clash(want, number).is_some()
    }

    /// Another holder of the number that the request may not share it with: of several the first by
    /// name, so that every replica names the same one, in whatever order it learned of them.
    pub(crate) fn clash(&self, want: Want<'_>, number: Number) -> Option<Why> {
        let request = want.request;
        let against = |holder: &Holder| {
            let by = || holder.service.clone();
            if holder.uid == *request.uid {
                return (holder.usage != request.usage).then(|| Why::InUse { by: by() });
            }
            let Some(sharing) = request.sharing else {
                return Some(Why::InUse { by: by() });
            };
            let obstacle = match &holder.sharing {
                None => Some(Obstacle::NotShared),
                Some(other) => crate::may_share(
                    &request.service.namespace,
                    sharing,
                    &holder.service.namespace,
                    other,
                )
                .err(),
            };
            obstacle.map(|why| Why::CannotShare { with: by(), why })
        };
        match self.holders(number) {
            [] => None,
            [only] => against(only),
            several => (several.iter())
                .filter_map(|holder| Some((holder, against(holder)?)))
                .min_by(|(a, _), (b, _)| (&a.service, &a.uid).cmp(&(&b.service, &b.uid)))
                .map(|(_, why)| why),
        }
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
