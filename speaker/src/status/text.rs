//! A report as the object's `spec`. Pure.

use std::sync::Arc;

use crds::SpeakerStatusSpec;
use jiff::Timestamp;
use speaker_core::Report;

/// Entries in a list: what the definition allows (`maxItems`). A node that answers for more says so
/// about the first of them.
const ENTRIES: usize = 8192;

pub(super) fn spec(report: &Report) -> SpeakerStatusSpec {
    let announced = |one: &speaker_core::Announced| crds::Announced {
        ip: one.ip.to_string(),
        interfaces: strings(&one.interfaces),
        since: time(one.since),
        conflict: one.conflict.map(|mac| mac.to_string()),
    };
    let unable = |one: &speaker_core::Unable| crds::Unable {
        pool: one.pool.to_string(),
        message: one.message.to_string(),
    };
    SpeakerStatusSpec {
        services: strings(report.services.get(..ENTRIES).unwrap_or(&report.services)),
        announced: report
            .announced
            .iter()
            .take(ENTRIES)
            .map(announced)
            .collect(),
        unable: report.unable.iter().map(unable).collect(),
    }
}

fn strings(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn time(unix: i64) -> String {
    let time = Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}
