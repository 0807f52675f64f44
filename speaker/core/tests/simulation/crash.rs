//! A node dies: how long its addresses are not answered.
use std::time::Duration;

use crate::world::{World, ms, secs};

const IPS: [&str; 6] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
];

/// Outages of all addresses of one dead node.
fn crash(seed: u64, nodes: usize) -> Vec<Duration> {
    let mut world = World::settled(seed, nodes, &IPS);
    let client = world.client(0, &IPS);
    let instant = Duration::from_micros(world.rng.u64(0..1_000_000));
    world.run(ms(500) + instant);
    let victim = world.owners(IPS[(seed % 6) as usize])[0];
    let owned = world.owned(victim);
    let at = world.now;
    world.kill(victim);
    world.run(secs(2));
    world.assert_converged();
    let client = &world.clients[client];
    for ip in IPS {
        if !owned.contains(&ip.parse().unwrap()) {
            let unanswered = client.unanswered(ip, ms(0), at + secs(2) - ms(20));
            assert!(unanswered.is_empty(), "{ip} of a live node: {unanswered:?}");
        }
    }
    let outage = |ip: &std::net::IpAddr| client.outage(&ip.to_string(), at).unwrap();
    owned.iter().map(outage).collect()
}

fn distribution(name: &str, mut outages: Vec<Duration>) {
    outages.sort_unstable();
    let at = |percent: usize| outages[(outages.len() - 1) * percent / 100];
    println!(
        "{name}: {} outages: least {:?}, median {:?}, 90 % {:?}, worst {:?}",
        outages.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
    assert!(at(50) <= ms(600) && at(100) <= secs(1));
}

#[test]
fn addresses_of_a_dead_node_are_answered_again_within_a_second() {
    let outages = (0..50).flat_map(|seed| crash(seed, 3)).collect();
    distribution("3 nodes", outages);
}

#[test]
fn the_same_among_two_nodes() {
    let outages = (100..130).flat_map(|seed| crash(seed, 2)).collect();
    distribution("2 nodes", outages);
}

#[test]
fn the_same_among_fifty_nodes() {
    let outages = (0..4).flat_map(|seed| crash(seed, 50)).collect();
    distribution("50 nodes", outages);
}
