//! What follows when two hear each other, from how each considers the other. It must come out so
//! that of two who lived on apart exactly one goes on: a table, and a test over all of it.

use crate::message::View;

/// How one of two considers the other, in its present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    Unknown,
    Alive,
    Down,
    Lost,
    /// Of a former life.
    Stale,
}

pub(super) fn opinion(view: View, bump: u64) -> Opinion {
    match view {
        View::Alive { bump: of } if of == bump => Opinion::Alive,
        View::Down { bump: of } if of == bump => Opinion::Down,
        View::Lost { bump: of } if of == bump => Opinion::Lost,
        View::Alive { .. } => Opinion::Stale,
        View::Down { .. } | View::Lost { .. } | View::Unknown => Opinion::Unknown,
    }
}

/// What follows from how two consider each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// Listen to it.
    Peer,
    /// It has not heard of our present life: tell it, and listen.
    Remind,
    /// Get to know it.
    Join,
    /// It is out: tell it.
    Tell,
    /// We are out.
    Fall,
    /// Both lived on apart: the larger side goes on.
    Sides,
    /// It belongs to those whom we left, and will learn that itself.
    Ignore,
}

/// `mine`: how I consider it; `its`: how it considers me. Whether anybody is settled on my side and
/// on its side.
pub(super) const fn meeting(
    mine: Opinion,
    its: Opinion,
    is_mine_settled: bool,
    is_its_settled: bool,
) -> Meeting {
    match (mine, its) {
        (Opinion::Alive, Opinion::Alive | Opinion::Unknown) => Meeting::Peer,
        (Opinion::Alive, Opinion::Stale) => Meeting::Remind,
        // It hears nobody: what it does not see is its own fault, and it yields.
        (Opinion::Alive, Opinion::Lost) => Meeting::Tell,
        (Opinion::Alive | Opinion::Lost | Opinion::Unknown, Opinion::Down) => Meeting::Fall,
        (Opinion::Down, Opinion::Down) | (Opinion::Lost, Opinion::Lost) => Meeting::Sides,
        (Opinion::Down, Opinion::Alive | Opinion::Lost | Opinion::Unknown | Opinion::Stale) => {
            Meeting::Tell
        }
        (Opinion::Lost, Opinion::Alive | Opinion::Stale) => Meeting::Fall,
        (Opinion::Lost, Opinion::Unknown) if is_its_settled => Meeting::Fall,
        (Opinion::Lost, Opinion::Unknown) => Meeting::Tell,
        (Opinion::Unknown, Opinion::Lost) if is_mine_settled => Meeting::Tell,
        (Opinion::Unknown, Opinion::Lost) => Meeting::Fall,
        (Opinion::Unknown, Opinion::Stale) => Meeting::Ignore,
        (Opinion::Unknown, Opinion::Alive | Opinion::Unknown) => Meeting::Join,
        (Opinion::Stale, _) => Meeting::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Opinion; 4] = [
        Opinion::Unknown,
        Opinion::Alive,
        Opinion::Down,
        Opinion::Lost,
    ];

    /// What both do when each hears the other: never do both stay away, never do both go on.
    #[test]
    fn of_two_who_disagree_at_most_one_goes_on() {
        for (mine, its, here, there) in pairs() {
            let (one, other) = (
                meeting(mine, its, here, there),
                meeting(its, mine, there, here),
            );
            let falls = [one, other].iter().filter(|m| **m == Meeting::Fall).count();
            let is_dead = |opinion| matches!(opinion, Opinion::Down | Opinion::Lost);
            if !is_dead(mine) && !is_dead(its) {
                assert_eq!(falls, 0, "{mine:?} {its:?}");
            } else if one == Meeting::Sides {
                assert_eq!(other, Meeting::Sides);
            } else {
                assert_eq!(falls, 1, "{mine:?} {its:?}: {one:?} {other:?}");
            }
        }
    }

    fn pairs() -> impl Iterator<Item = (Opinion, Opinion, bool, bool)> {
        let settled = [(true, true), (true, false), (false, true), (false, false)];
        let opinions = ALL.into_iter().flat_map(|mine| ALL.map(|its| (mine, its)));
        opinions.flat_map(move |(mine, its)| settled.map(|(here, there)| (mine, its, here, there)))
    }
}
