use allocator::PoolUsage;

use super::*;
use crate::core::engine::PoolFigures;

/// The samples of one metric, in order.
fn samples(figures: Figures, metric: &str) -> Vec<String> {
    let state = watch::Sender::new(State {
        figures: Arc::new(figures),
        ..State::default()
    });
    let exposition = Exposition::new(&Metrics::default(), state.subscribe(), None);
    let page = exposition.render().unwrap();
    let of_metric = |line: &&str| line.starts_with(&format!("{metric}{{"));
    page.lines().filter(of_metric).map(str::to_owned).collect()
}

fn usage(capacity: u128) -> UsageCounts {
    UsageCounts {
        capacity,
        claimed: 3,
        retained: 2,
        available: capacity.saturating_sub(5),
    }
}

fn pool(kind: PoolKind, usage: PoolUsage) -> Figures {
    Figures {
        pools: vec![PoolFigures {
            kind,
            name: "public".into(),
            usage,
        }],
        ..Figures::default()
    }
}

#[test]
fn waiting_services_are_told_by_reason_and_no_reason_is_told_with_none() {
    let figures = Figures {
        waiting: [(Reason::NoPool, 1), (Reason::PoolExhausted, 4)].into(),
        ..Figures::default()
    };
    assert_eq!(
        samples(figures, "portolan_services_waiting"),
        [
            "portolan_services_waiting{reason=\"NoPool\"} 1",
            "portolan_services_waiting{reason=\"PoolExhausted\"} 4",
        ]
    );
}

#[test]
fn outcomes_are_counted_by_reason() {
    let figures = Figures {
        outcomes: [(Reason::Allocated, 7)].into(),
        ..Figures::default()
    };
    assert_eq!(
        samples(figures, "portolan_service_outcomes_total"),
        ["portolan_service_outcomes_total{reason=\"Allocated\"} 7"]
    );
}

#[test]
fn addresses_are_told_for_each_family_that_the_pool_has() {
    let figures = pool(
        PoolKind::Address,
        PoolUsage {
            v4: usage(256),
            ..PoolUsage::default()
        },
    );
    assert_eq!(
        samples(figures, "portolan_pool_addresses"),
        [
            "portolan_pool_addresses{pool=\"public\",family=\"IPv4\",state=\"capacity\"} 256",
            "portolan_pool_addresses{pool=\"public\",family=\"IPv4\",state=\"claimed\"} 3",
            "portolan_pool_addresses{pool=\"public\",family=\"IPv4\",state=\"retained\"} 2",
            "portolan_pool_addresses{pool=\"public\",family=\"IPv4\",state=\"available\"} 251",
        ]
    );
}

#[test]
fn a_pool_larger_than_a_gauge_is_told_as_the_largest_gauge() {
    let figures = pool(
        PoolKind::Address,
        PoolUsage {
            v6: usage(1 << 64),
            ..PoolUsage::default()
        },
    );
    assert_eq!(
        samples(figures, "portolan_pool_addresses").first().unwrap(),
        "portolan_pool_addresses{pool=\"public\",family=\"IPv6\",state=\"capacity\"} 9223372036854775807"
    );
}

#[test]
fn ports_are_told_for_each_node_port_pool() {
    let figures = pool(
        PoolKind::NodePort,
        PoolUsage {
            ports: usage(2768),
            ..PoolUsage::default()
        },
    );
    assert_eq!(samples(figures.clone(), "portolan_pool_addresses"), [""; 0]);
    assert_eq!(
        samples(figures, "portolan_pool_ports"),
        [
            "portolan_pool_ports{pool=\"public\",state=\"capacity\"} 2768",
            "portolan_pool_ports{pool=\"public\",state=\"claimed\"} 3",
            "portolan_pool_ports{pool=\"public\",state=\"retained\"} 2",
            "portolan_pool_ports{pool=\"public\",state=\"available\"} 2763",
        ]
    );
}
