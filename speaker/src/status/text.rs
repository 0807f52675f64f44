//! A report as the object's `spec`. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use speaker_core::Report;

/// Entries in a list: what the definition allows (`maxItems`). A node that answers for more says so
/// about the first of them.
const ENTRIES: usize = 8192;

/// As [`crds::SpeakerStatusSpec`], but what is empty is written, too: it replaces what was there.
#[derive(Debug, Serialize)]
pub(super) struct Spec {
    services: Vec<String>,
    announced: Vec<crds::Announced>,
    unable: Vec<crds::Unable>,
}

pub(super) fn spec(report: &Report) -> Spec {
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
    Spec {
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
    let time = Timestamp::from_millisecond(unix).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use serde_json::json;
    use wire::Mac;

    use super::*;

    #[test]
    fn a_report_is_what_the_definition_says() {
        let report = Report {
            services: vec!["shop/web".into()],
            announced: vec![speaker_core::Announced {
                ip: [203, 0, 113, 5].into(),
                interfaces: vec!["eth0".into()],
                since: 1_795_913_400_250,
                conflict: Some(Mac([0xaa, 0xbb, 0xcc, 0, 0, 1])),
            }],
            unable: vec![speaker_core::Unable {
                pool: "dmz".into(),
                message: "no interface that is up matches eth1".into(),
            }],
        };
        let written = serde_json::to_value(spec(&report)).unwrap();
        let expected = json!({
            "services": ["shop/web"],
            "announced": [{
                "ip": "203.0.113.5",
                "interfaces": ["eth0"],
                "since": "2026-11-29T00:50:00.250Z",
                "conflict": "aa:bb:cc:00:00:01",
            }],
            "unable": [{"pool": "dmz", "message": "no interface that is up matches eth1"}],
        });
        assert_eq!(written, expected);
        serde_json::from_value::<crds::SpeakerStatusSpec>(written).unwrap();
    }

    #[test]
    fn an_empty_report_takes_back_everything() {
        let written = serde_json::to_value(spec(&Report::default())).unwrap();
        assert_eq!(
            written,
            json!({"services": [], "announced": [], "unable": []})
        );
    }
}
