//! What is counted, for `/metrics`. No label has a value that is not known here.

use std::fmt::{Error, Write as _};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, text,
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::Registry,
};
use speaker_core::Phase;
use tokio::sync::watch;

use crate::drive::State;

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Done,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    outcome: Outcome,
}

/// All that is counted outside of the core, and the registry of everything.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    writes: Family<Written, Counter>,
}

impl Metrics {
    /// With the core's numbers as they are when somebody asks.
    pub(crate) fn new(state: watch::Receiver<Option<State>>) -> Self {
        let mut registry = Registry::with_prefix("portolan_speaker");
        registry.register_collector(Box::new(Core(state)));
        let writes = Family::default();
        registry.register(
            "status_writes",
            "Writes of this node's SpeakerStatus",
            Family::clone(&writes),
        );
        Self { registry, writes }
    }

    /// What counts writes of the status.
    pub(crate) fn writes(&self) -> impl Fn(bool) + Send + 'static {
        let writes = self.writes.clone();
        move |done| {
            let outcome = if done { Outcome::Done } else { Outcome::Failed };
            writes.get_or_create(&Written { outcome }).inc();
        }
    }

    /// Everything, in the OpenMetrics text format.
    pub(crate) fn render(&self) -> Result<String, Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// The core's numbers.
#[derive(Debug)]
struct Core(watch::Receiver<Option<State>>);

#[derive(Clone, Copy)]
struct Standing(Phase);

impl EncodeLabelValue for Standing {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), Error> {
        encoder.write_str(match self.0 {
            Phase::Waiting => "waiting",
            Phase::Joining => "joining",
            Phase::Settled => "settled",
            Phase::Leaving => "leaving",
        })
    }
}

impl Collector for Core {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(state) = *self.0.borrow() else {
            return Ok(());
        };
        let figures = state.figures;
        let gauges = [
            (
                "owned_addresses",
                "Addresses that this node answers for",
                figures.owned,
            ),
            (
                "peers_alive",
                "Speakers on other nodes that are alive",
                figures.peers,
            ),
            (
                "silent",
                "Whether nothing is answered for now: this node may have been stopped, or does not know its peers yet",
                usize::from(figures.silent),
            ),
        ];
        for (name, help, value) in gauges {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            let one = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(one)?;
        }
        let counters = [
            (
                "takeovers",
                "Addresses that became owned",
                figures.takeovers,
            ),
            (
                "conflicts",
                "Claims of an owned address by somebody who is no peer",
                figures.conflicts,
            ),
            (
                "requests_answered",
                "ARP requests and neighbour solicitations answered",
                figures.answered,
            ),
            (
                "deaths_found",
                "Peers that this node found dead itself",
                figures.deaths,
            ),
            (
                "datagrams_refused",
                "Datagrams that no key opens or that came twice",
                figures.refused,
            ),
            (
                "scores_computed",
                "Scores computed to find owners",
                figures.scores,
            ),
            (
                "frames_lost",
                "Frames that could not be sent",
                state.frames_lost,
            ),
            (
                "datagrams_lost",
                "Datagrams to peers that could not be sent",
                state.datagrams_lost,
            ),
        ];
        for (name, help, value) in counters {
            let one = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(one)?;
        }
        let help = "How settled this node is: 1 for what it is";
        let mut standing = encoder.encode_descriptor("standing", help, None, MetricType::Gauge)?;
        for phase in [
            Phase::Waiting,
            Phase::Joining,
            Phase::Settled,
            Phase::Leaving,
        ] {
            let labels = [("standing", Standing(phase))];
            let one = standing.encode_family(&labels)?;
            ConstGauge::new(i64::from(phase == figures.phase)).encode(one)?;
        }
        Ok(())
    }
}
