//! What is counted, for `/metrics`. Every label comes from a closed enum, except the names of pools:
//! their series are made from the pools that exist at the moment, so a deleted one leaves none.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeLabelValue, EncodeMetric,
        LabelSetEncoder, LabelValueEncoder, text,
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use allocator::UsageCounts;
use model::Reason;

use super::{
    run::{CloudFigures, State},
    webhook::Expiry,
};
use crate::core::{
    announce,
    effect::Kind,
    engine::{Counters, Figures},
    record::PoolKind,
};

/// What is written or read, apart from watching.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(super) enum Verb {
    ServiceSpec,
    ServiceStatus,
    ServiceRead,
    Block,
    BlockRead,
    Addresses,
    Event,
    PoolStatus,
    ClassStatus,
    Reservation,
    Announcement,
    Speaker,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(super) enum Outcome {
    Done,
    Conflict,
    NotFound,
    Refused,
    Unknown,
}

/// What became of a question of the API server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(super) enum Reviewed {
    /// It goes on as it was.
    Unchanged,
    /// With numbers of ours.
    Changed,
    /// It does not go on.
    Refused,
    /// No answer: the failure policy decides.
    Unavailable,
    /// No question.
    Malformed,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct ReviewLabels {
    pub(super) outcome: Reviewed,
}

/// Seconds; the API server waits for five.
const REVIEW_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) kind: Verb,
    pub(super) outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct KindLabels {
    pub(super) kind: WatchedKind,
}

/// Everything that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum WatchedKind {
    /// For the engine.
    Engine(Kind),
    /// For the announcer.
    Announcer(announce::Kind),
}

/// Labels of what is told by reason. Not derived: `Reason` is of a crate that knows no metrics.
#[derive(Clone, Copy, Debug)]
struct Because(Reason);

impl EncodeLabelSet for Because {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("reason", self.0.as_str()).encode(encoder.encode_label())
    }
}

impl EncodeLabelValue for WatchedKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        std::fmt::Write::write_str(encoder, self.as_str())
    }
}

impl From<Kind> for WatchedKind {
    fn from(kind: Kind) -> Self {
        Self::Engine(kind)
    }
}

impl From<announce::Kind> for WatchedKind {
    fn from(kind: announce::Kind) -> Self {
        Self::Announcer(kind)
    }
}

impl WatchedKind {
    /// The word Kubernetes uses.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Engine(Kind::Service) => "Service",
            Self::Engine(Kind::Namespace) => "Namespace",
            Self::Engine(Kind::Class) => "LoadBalancerClass",
            Self::Engine(Kind::AddressPool) => "AddressPool",
            Self::Engine(Kind::NodePortPool) => "NodePortPool",
            Self::Engine(Kind::Block) => "AllocationBlock",
            Self::Engine(Kind::ServiceCidr) => "ServiceCIDR",
            Self::Engine(Kind::Reservation) => "IPAddress",
            Self::Announcer(announce::Kind::Node) => "Node",
            Self::Announcer(announce::Kind::Slice) => "EndpointSlice",
            Self::Announcer(announce::Kind::Announcement) => "Announcement",
            Self::Announcer(announce::Kind::Speaker) => "Speaker",
            Self::Announcer(announce::Kind::Status) => "SpeakerStatus",
        }
    }
}

/// The shell's own counters. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    /// Requests by kind and outcome; those of the watches and the lease are not here.
    pub(super) requests: Family<RequestLabels, Counter>,
    /// Lists begun; the first of each kind counts.
    pub(super) watch_restarts: Family<KindLabels, Counter>,
    /// Errors of watch streams.
    pub(super) watch_errors: Family<KindLabels, Counter>,
    /// Objects that could not be parsed.
    pub(super) unreadable: Family<KindLabels, Counter>,
    /// How long the webhook's answers took, by outcome.
    pub(super) reviews: Family<ReviewLabels, Histogram>,
    /// When the webhook's certificate ends.
    pub(super) certificate_expiry: Expiry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            watch_restarts: Family::default(),
            watch_errors: Family::default(),
            unreadable: Family::default(),
            reviews: Family::new_with_constructor(|| Histogram::new(REVIEW_BUCKETS)),
            certificate_expiry: Expiry::default(),
        }
    }
}

impl Metrics {
    pub(super) fn request(&self, kind: Verb, outcome: Outcome) {
        self.requests
            .get_or_create(&RequestLabels { kind, outcome })
            .inc();
    }

    pub(super) fn reviewed(&self, outcome: Reviewed, took: Duration) {
        self.reviews
            .get_or_create(&ReviewLabels { outcome })
            .observe(took.as_secs_f64());
    }
}

/// Renders everything in the OpenMetrics text format.
#[derive(Clone, Debug)]
pub(super) struct Exposition(Arc<Registry>);

impl Exposition {
    pub(super) fn new(
        metrics: &Metrics,
        state: watch::Receiver<State>,
        cloud: Option<Arc<dyn Fn() -> CloudFigures + Send + Sync>>,
    ) -> Self {
        let mut registry = Registry::with_prefix("portolan");
        registry.register(
            "requests",
            "Requests to the API server by what they are for and how they went",
            metrics.requests.clone(),
        );
        registry.register(
            "watch_restarts",
            "Lists begun by kind; the first of each kind counts",
            metrics.watch_restarts.clone(),
        );
        registry.register(
            "watch_errors",
            "Errors of watch streams by kind",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "unreadable_objects",
            "Objects seen that could not be parsed by kind",
            metrics.unreadable.clone(),
        );
        registry.register_with_unit(
            "admission_review",
            "How long answers to the API server's questions took, by outcome",
            Unit::Seconds,
            metrics.reviews.clone(),
        );
        registry.register_collector(Box::new(metrics.certificate_expiry.clone()));
        registry.register_collector(Box::new(Snapshot(state)));
        if let Some(cloud) = cloud {
            registry.register_collector(Box::new(Cloud(cloud)));
        }
        Self(Arc::new(registry))
    }

    pub(super) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

/// Reads the published state at each scrape.
#[derive(Debug)]
struct Snapshot(watch::Receiver<State>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let state = self.0.borrow().clone();
        let gauges = [
            ("leader", "1 while this process leads", state.leading),
            ("ready", "1 once every watch is initialised", state.ready()),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::from(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in engine_counters(state.counters) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let mut family = encoder.encode_descriptor(
            "repairs",
            "What repair has mended, by kind",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in repairs(state.counters) {
            ConstCounter::new(count).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
        }
        encode_figures(&state.figures, &mut encoder)
    }
}

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(at) = self.get() else {
            return Ok(());
        };
        let gauge = ConstGauge::new(at);
        gauge.encode(encoder.encode_descriptor(
            "webhook_certificate_expiry_timestamp",
            "When the webhook's certificate ends, in Unix seconds",
            Some(&Unit::Seconds),
            gauge.metric_type(),
        )?)
    }
}

/// Asks the cloud's provider at each scrape.
struct Cloud(Arc<dyn Fn() -> CloudFigures + Send + Sync>);

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cloud")
    }
}

impl Collector for Cloud {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let CloudFigures { calls, orphans } = (self.0)();
        let mut family = encoder.encode_descriptor(
            "cloud_calls",
            "Calls to the cloud by operation and outcome, each attempt counted",
            None,
            MetricType::Counter,
        )?;
        for (operation, outcome, count) in calls {
            let labels = [("operation", operation), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let gauge = ConstGauge::new(i64::try_from(orphans).unwrap_or(i64::MAX));
        gauge.encode(encoder.encode_descriptor(
            "cloud_orphans",
            "Load balancers in the cloud, or what is left of them, that no Service is for",
            None,
            gauge.metric_type(),
        )?)?;
        Ok(())
    }
}

fn encode_figures(figures: &Figures, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let mut family = encoder.encode_descriptor(
        "services_waiting",
        "Services that wait for a number, by reason",
        None,
        MetricType::Gauge,
    )?;
    for (reason, count) in &figures.waiting {
        let gauge = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&Because(*reason))?)?;
    }
    let mut family = encoder.encode_descriptor(
        "service_outcomes",
        "Service statuses asked for, by the reason they give",
        None,
        MetricType::Counter,
    )?;
    for (reason, count) in &figures.outcomes {
        ConstCounter::new(*count).encode(family.encode_family(&Because(*reason))?)?;
    }
    let mut family = encoder.encode_descriptor(
        "findings",
        "What Services, ledger and IPAddress objects have disagreed about at two looks, by kind",
        None,
        MetricType::Gauge,
    )?;
    for (kind, count) in &figures.findings {
        let gauge = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[("kind", kind.reason().as_str())])?)?;
    }
    let mut family = encoder.encode_descriptor(
        "pool_addresses",
        "Addresses of each AddressPool by family and state",
        None,
        MetricType::Gauge,
    )?;
    for pool in figures
        .pools
        .iter()
        .filter(|pool| pool.kind == PoolKind::Address)
    {
        for (ip, counts) in [("IPv4", pool.usage.v4), ("IPv6", pool.usage.v6)] {
            for (state, count) in states(counts) {
                let labels = [("pool", &*pool.name), ("family", ip), ("state", state)];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let mut family = encoder.encode_descriptor(
        "pool_ports",
        "Ports of each NodePortPool by state",
        None,
        MetricType::Gauge,
    )?;
    for pool in figures
        .pools
        .iter()
        .filter(|pool| pool.kind == PoolKind::NodePort)
    {
        for (state, count) in states(pool.usage.ports) {
            let labels = [("pool", &*pool.name), ("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// The same four words as in a pool's status; nothing of a family that the pool has not.
fn states(counts: UsageCounts) -> impl Iterator<Item = (&'static str, i64)> {
    let UsageCounts {
        capacity,
        claimed,
        retained,
        available,
    } = counts;
    [
        ("capacity", capacity),
        ("claimed", claimed),
        ("retained", retained),
        ("available", available),
    ]
    .into_iter()
    .filter(move |_| capacity > 0)
    // A /64 has more than 2^63, as in the status.
    .map(|(state, count)| (state, i64::try_from(count).unwrap_or(i64::MAX)))
}

/// By the reason in the Event that tells of it.
fn repairs(counters: Counters) -> [(Reason, u64); 3] {
    [
        (Reason::LeakedClaim, counters.leaks_released),
        (Reason::DuplicateNodePort, counters.doubles_renumbered),
        (Reason::Repaired, counters.put_back),
    ]
}

/// The engine's counters; destructured, so that a new one must be looked at here.
fn engine_counters(counters: Counters) -> [(&'static str, &'static str, u64); 18] {
    let Counters {
        decisions,
        spec_writes,
        status_writes,
        ledger_writes,
        ledger_conflicts,
        service_conflicts,
        pool_writes,
        events,
        reads,
        fences,
        releases,
        adopted,
        unreadable,
        renumbered,
        renumber_refusals,
        // These are told by kind.
        leaks_released: _,
        doubles_renumbered: _,
        put_back: _,
        reserved,
        reserved_elsewhere,
        reviews_late,
    } = counters;
    [
        ("decisions", "Times DECIDE ran", decisions),
        ("spec_writes", "Service spec writes asked for", spec_writes),
        (
            "status_writes",
            "Service status writes asked for",
            status_writes,
        ),
        ("ledger_writes", "Ledger writes asked for", ledger_writes),
        (
            "ledger_conflicts",
            "Ledger writes refused because somebody else had written",
            ledger_conflicts,
        ),
        (
            "service_conflicts",
            "Service writes refused because the Service had changed",
            service_conflicts,
        ),
        (
            "pool_writes",
            "Pool and class status writes asked for",
            pool_writes,
        ),
        ("events", "Events asked for", events),
        ("reads", "Quorum reads asked for", reads),
        (
            "fences",
            "Status writes whose only purpose is a newer resourceVersion",
            fences,
        ),
        ("releases", "Holders released from the ledger", releases),
        (
            "adopted",
            "Addresses adopted from a status that no block had",
            adopted,
        ),
        (
            "unreadable",
            "Objects the engine was told it cannot read",
            unreadable,
        ),
        (
            "renumbered",
            "nodePorts changed, because of a policy or because two Services had one",
            renumbered,
        ),
        (
            "renumber_refusals",
            "Writes to change nodePorts that the API server refused",
            renumber_refusals,
        ),
        (
            "reserved",
            "Numbers kept for Services that were being created or changed",
            reserved,
        ),
        (
            "reserved_elsewhere",
            "Numbers chosen for such a Service that another replica had given away meanwhile",
            reserved_elsewhere,
        ),
        (
            "reviews_late",
            "Questions of the API server without an answer in time",
            reviews_late,
        ),
    ]
}

#[cfg(test)]
mod tests;
