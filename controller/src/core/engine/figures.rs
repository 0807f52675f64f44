//! What is true now in numbers, for `/metrics`: made anew together with the statuses of pools, at most
//! once a second, so that a busy engine does not spend its time counting.

use std::{collections::BTreeMap, sync::Arc};

use allocator::PoolUsage;
use model::{Reason, Use};

use super::{Engine, PoolKind};
use crate::core::repair;

/// Who waits, what came of it and what the pools have. Only a leader knows who waits and what the
/// pools have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// How many Services wait, by reason; no reason is there with none.
    pub waiting: BTreeMap<Reason, usize>,
    /// How often a status was asked for, by the reason in its first condition.
    pub outcomes: BTreeMap<Reason, u64>,
    /// What repair has found at two looks in a row; every kind is there, if only with none.
    pub findings: BTreeMap<repair::Kind, usize>,
    /// The pools that exist.
    pub pools: Vec<PoolFigures>,
}

/// What one pool has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolFigures {
    /// Which resource it is.
    pub kind: PoolKind,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Its numbers.
    pub usage: PoolUsage,
}

impl Engine {
    /// What is true now; shared, and another one only when something in it differs.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Whether counting again would tell of other waiting Services or outcomes. What the pools have
    /// changes together with their statuses.
    pub(super) fn figures_differ(&self) -> bool {
        self.figures.waiting != *self.index.waiting() || self.figures.outcomes != self.outcomes
    }

    pub(super) fn count(&mut self) {
        let pools = self.index.pools().map(|record| PoolFigures {
            kind: record.kind,
            name: record.name.clone(),
            usage: {
                let usage = match record.kind {
                    PoolKind::Address => Use::LoadBalancer,
                    PoolKind::NodePort => Use::NodePort,
                };
                self.allocator.usage(&record.name, usage)
            },
        });
        let figures = Figures {
            waiting: self.index.waiting().clone(),
            outcomes: self.outcomes.clone(),
            findings: self.findings(),
            pools: pools.collect(),
        };
        if *self.figures != figures {
            self.figures = Arc::new(figures);
        }
    }

    /// A standby is not the one to ask.
    pub(super) fn forget_figures(&mut self) {
        self.figures = Arc::new(Figures {
            outcomes: self.outcomes.clone(),
            ..Figures::default()
        });
    }
}
