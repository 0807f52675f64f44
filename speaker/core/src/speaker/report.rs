//! What the node tells about itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Speaker;
use crate::io::{Announced, Effect, Report};
use crate::words::Now;

/// Changes come in crowds: one report for those of this long.
const GATHER: Duration = Duration::from_millis(100);

/// A report that is to be made.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) is_stale: bool,
    last: Option<Report>,
    next: Duration,
}

impl Speaker {
    /// The report, if it says something new.
    pub(super) fn next_report(&mut self, now: Now) -> Option<Effect> {
        if !self.report.is_stale || now.mono < self.report.next || !self.objects.are_synced() {
            return None;
        }
        self.report.is_stale = false;
        self.report.next = now.mono + GATHER;
        let report = self.make_report();
        if self.report.last.as_ref() == Some(&report) {
            return None;
        }
        self.report.last = Some(report.clone());
        Some(Effect::Report(report))
    }

    fn make_report(&self) -> Report {
        let mut services: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut announced = Vec::new();
        for (key, holding) in self.holdings.iter() {
            if let Some(spec) = self.objects.announcement(key) {
                services.extend(spec.services.iter().cloned());
            }
            for (ip, links) in &holding.places {
                let names = links.iter().filter_map(|link| self.links.name(*link));
                let mut interfaces: Vec<Arc<str>> = names.cloned().collect();
                interfaces.sort_unstable();
                announced.push(Announced {
                    ip: *ip,
                    interfaces,
                    since: holding.since,
                    conflict: self.conflicts.of(*ip),
                });
            }
        }
        announced.sort_by_key(|row| row.ip);
        announced.dedup_by_key(|row| row.ip);
        Report {
            services: services.into_iter().collect(),
            announced,
            unable: self.links.report(),
        }
    }
}
