//! How few calls things take. The benchmark `aws` prints the same with a thousand Services.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use aws_tests::{
    figures::{self, Many, NODES},
    tcp,
};

/// Reads that do not grow with the number of Services: three listings of the account, the VPC.
const ONCE: usize = 12;
/// Enough for a call per Service to be seen.
const SERVICES: usize = 50;

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn one_port_takes_eight_calls_and_three_take_fourteen() {
    for (ports, most) in [(tcp(80), 8), (figures::three_ports(), 14)] {
        for step in figures::provision(ports).await {
            assert!(step.calls.elb() <= most, "{:#?}", step.calls);
        }
    }
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn unchanged_services_cost_next_to_nothing() {
    let many = Many::new(SERVICES).await;
    let (running, created) = many.create().await;
    running.stop().await;
    assert!(
        created.calls.elb() <= 8 * SERVICES + ONCE,
        "{:#?}",
        created.calls
    );
    let most = SERVICES * 15 / 100 + ONCE;

    let (running, restarted) = many.restart(many.settings()).await;
    running.stop().await;
    assert!(restarted.calls.reads() <= most, "{:#?}", restarted.calls);
    assert_eq!(restarted.calls.writes(), 0, "{:#?}", restarted.calls);
    assert_eq!(restarted.kubernetes_writes, [""; 0]);

    let every = Duration::from_secs(5);
    let times = 3;
    let resynced = many.resync(every, times).await;
    assert!(
        resynced.calls.reads() <= times as usize * most,
        "{:#?}",
        resynced.calls
    );
    assert!(
        resynced.calls.count("DescribeLoadBalancers") >= times as usize - 1,
        "the account was not listed: {:#?}",
        resynced.calls
    );
    assert_eq!(resynced.calls.writes(), 0, "{:#?}", resynced.calls);
    assert_eq!(resynced.kubernetes_writes, [""; 0]);
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn nodes_within_a_window_are_one_call_for_each_target_group() {
    let many = Many::new(SERVICES).await;
    let (running, _) = many.create().await;
    for nodes in [NODES..NODES + 1, NODES + 1..NODES + 11] {
        let step = many.nodes(nodes.clone()).await;
        let calls = &step.calls;
        assert_eq!(calls.count("RegisterTargets"), SERVICES, "{calls:#?}");
        assert_eq!(calls.count("DeregisterTargets"), 0, "{calls:#?}");
        let tagged = calls.count("AddTags");
        assert_eq!(calls.writes(), SERVICES + tagged, "{calls:#?}");
        let groups = many.play.target_groups().await;
        assert_eq!(groups.len(), SERVICES);
        for group in groups {
            let targets = many.play.targets(&group).await;
            assert_eq!(targets.len(), nodes.end, "{targets:?}");
        }
    }
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_closer_look_takes_five_calls_and_writes_nothing() {
    let many = Many::new(SERVICES).await;
    let (running, _) = many.create().await;
    running.stop().await;
    let step = many.verify().await;
    let looks = step.calls.count("DescribeListeners");
    // Looks that overlap with the beginning or the end are counted in part.
    let overlapping = 16;
    let reads = step.calls.reads();
    assert!(reads <= 5 * (looks + overlapping), "{:#?}", step.calls);
    assert!(looks <= SERVICES + overlapping, "{:#?}", step.calls);
    assert_eq!(step.calls.writes(), 0, "{:#?}", step.calls);
    assert_eq!(step.kubernetes_writes, [""; 0]);
}
