//! A block's content: which operation still fits it, and what changed between two of them. Pure
//! functions over [`Claims`].

use std::collections::BTreeSet;

use allocator::{
    block::{Claim, Claims, Holder},
    may_share,
};
use model::Number;

use super::{Change, Op};
use crate::core::admit;

/// Whether the block says already what the operation is to make it say.
pub(super) fn is_there(op: &Op, claims: &Claims) -> bool {
    let claim = claims.get_key_value(&op.number());
    let mut alone: Claims = claim
        .map(|(number, claim)| (*number, claim.clone()))
        .into_iter()
        .collect();
    let before = alone.clone();
    apply(op, &mut alone) && alone == before
}

/// Applies an operation to a block's content; false when it does not fit.
pub(super) fn apply(op: &Op, claims: &mut Claims) -> bool {
    match op {
        Op::Claim {
            number,
            holder,
            join,
            shown,
        } => match claims.get_mut(number) {
            None => {
                claims.insert(*number, Claim::Held(vec![holder.clone()]));
                true
            }
            Some(Claim::Retained { owner, .. }) => {
                let fits = *owner == holder.service
                    || *shown && admit::is_kept_for(owner, &holder.service);
                if fits {
                    claims.insert(*number, Claim::Held(vec![holder.clone()]));
                }
                fits
            }
            Some(Claim::Held(holders)) => {
                if let Some(same) = holders
                    .iter_mut()
                    .find(|held| held.uid == holder.uid && held.usage == holder.usage)
                {
                    *same = holder.clone();
                    return true;
                }
                let fits = *join || holders.iter().all(|held| terms_fit(held, holder));
                if fits {
                    holders.push(holder.clone());
                    holders.sort_by(|a, b| (&a.uid, a.usage).cmp(&(&b.uid, b.usage)));
                }
                fits
            }
        },
        Op::Reserve {
            number,
            owner,
            until,
            at_least,
            now,
        } => match claims.get(number) {
            Some(Claim::Held(holders)) => holders.iter().all(|held| held.service == *owner),
            Some(Claim::Retained {
                owner: other,
                until: kept,
            }) if *kept > *now && other != owner => false,
            Some(Claim::Retained {
                owner: other,
                until: kept,
            }) if other == owner && *kept >= *at_least => true,
            Some(Claim::Retained { .. }) | None => {
                let claim = Claim::Retained {
                    owner: owner.clone(),
                    until: *until,
                };
                claims.insert(*number, claim);
                true
            }
        },
        Op::Release {
            number,
            uid,
            usage,
            at,
            retain,
        } => {
            let Some(Claim::Held(holders)) = claims.get_mut(number) else {
                return true;
            };
            let Some(place) = holders
                .iter()
                .position(|held| held.uid == *uid && held.usage == *usage)
            else {
                return true;
            };
            if let (Some(at), Some(held)) = (at, holders.get(place))
                && held.at != *at
            {
                return false;
            }
            holders.remove(place);
            if holders.is_empty() {
                match retain {
                    Some((owner, until)) => claims.insert(
                        *number,
                        Claim::Retained {
                            owner: owner.clone(),
                            until: *until,
                        },
                    ),
                    None => claims.remove(number),
                };
            }
            true
        }
        Op::Forget { number, now } => {
            if let Some(Claim::Retained { until, .. }) = claims.get(number)
                && *until <= *now
            {
                claims.remove(number);
            }
            true
        }
    }
}

/// Whether two holders may have one number.
fn terms_fit(a: &Holder, b: &Holder) -> bool {
    match (&a.sharing, &b.sharing) {
        (Some(mine), Some(theirs)) => {
            a.usage == b.usage
                && may_share(&a.service.namespace, mine, &b.service.namespace, theirs).is_ok()
        }
        _ => false,
    }
}

/// What changed between two contents, everything that ends before everything that begins.
pub(super) fn difference(old: &Claims, new: &Claims, changes: &mut Vec<Change>) {
    let empty: &[Holder] = &[];
    let held = |claims: &'_ Claims, number: &Number| -> Vec<Holder> {
        match claims.get(number) {
            Some(Claim::Held(holders)) => holders.clone(),
            Some(Claim::Retained { .. }) | None => empty.to_vec(),
        }
    };
    let numbers: BTreeSet<&Number> = old.keys().chain(new.keys()).collect();
    // First everything that ends, so that a number that changes hands is never held twice.
    for number in &numbers {
        if old.get(number) == new.get(number) {
            continue;
        }
        if matches!(old.get(number), Some(Claim::Retained { .. })) {
            changes.push(Change::Unretained(**number));
        }
        let after = held(new, number);
        for holder in held(old, number) {
            if !after
                .iter()
                .any(|other| other.uid == holder.uid && other.usage == holder.usage)
            {
                changes.push(Change::Freed(**number, holder));
            }
        }
    }
    for number in numbers {
        if old.get(number) == new.get(number) {
            continue;
        }
        if let Some(Claim::Retained { owner, until }) = new.get(number) {
            changes.push(Change::Retained(*number, owner.clone(), *until));
        }
        let before = held(old, number);
        for holder in held(new, number) {
            if !before.contains(&holder) {
                changes.push(Change::Held(*number, holder));
            }
        }
    }
}
