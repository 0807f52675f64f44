//! What a change costs among many nodes. Scores among 500 nodes and 5,000 addresses are counted
//! in `ownership`.
use std::time::Instant;

use crate::world::{Counts, World, ms, secs};

const NODES: usize = 100;
const ADDRESSES: usize = 400;

#[test]
#[ignore = "minutes: for a person who changes what speakers say to each other"]
fn a_change_among_many_nodes_costs_each_a_bounded_number_of_messages_and_scores() {
    let began = Instant::now();
    let mut world = World::new(1, NODES);
    world.is_deaf = true;
    let ips: Vec<String> = (0..ADDRESSES)
        .map(|n| format!("198.18.{}.{}", n / 250, n % 250))
        .collect();
    ips.iter().for_each(|ip| world.announce(ip, None));
    for node in 0..NODES {
        world.start(node);
    }
    for _ in 0..12 {
        world.run(secs(1));
        println!(
            "{:?}: {:?} after {:?}",
            world.now,
            world.counts,
            began.elapsed()
        );
    }
    world.assert_converged();
    world.counts = Counts::default();
    world.run(secs(2));
    let idle = world.counts.datagrams / 2;
    println!("idle: {:.1} datagrams/s each", idle as f64 / NODES as f64);

    let scores = |world: &World| -> Vec<u64> {
        let up = (0..NODES).filter(|node| world.nodes[*node].speaker.is_some());
        up.map(|node| world.figures(node).scores).collect()
    };
    // A crash.
    let victim = world.owners(&ips[0])[0];
    let owned = world.owned(victim);
    let client = world.client(0, &[&ips[0]]);
    world.run(ms(100));
    world.kill(victim);
    let (before, at) = (scores(&world), world.now);
    world.counts = Counts::default();
    world.run(secs(2));
    world.assert_converged();
    let after = scores(&world);
    let most = before.iter().zip(&after).map(|(a, b)| b - a).max().unwrap();
    let extra = world.counts.datagrams.saturating_sub(idle * 2);
    println!(
        "crash: {} addresses, outage {:?}; {extra} extra datagrams in all; at most {most} scores in one node",
        owned.len(),
        world.clients[client].outage(&ips[0], at).unwrap()
    );
    assert!(most <= (owned.len() * NODES) as u64);
    assert!(extra <= 10 * NODES as u64);

    // A cordon.
    let victim = world.owners(&ips[1])[0];
    let count = world.owned(victim).len();
    let before = scores(&world);
    world.write_peer(victim, |peer| peer.last_choice = true);
    world.counts = Counts::default();
    world.run(secs(2));
    world.assert_converged();
    let after = scores(&world);
    let most = before.iter().zip(&after).map(|(a, b)| b - a).max().unwrap();
    let extra = world.counts.datagrams.saturating_sub(idle * 2);
    println!(
        "cordon: {count} addresses; {extra} extra datagrams in all; at most {most} scores in one node"
    );
    assert!(most <= (count * NODES) as u64);
    assert!(extra <= 2 * NODES as u64);

    // A node comes.
    let victim = world
        .nodes
        .iter()
        .position(|node| node.speaker.is_none())
        .unwrap();
    let before = scores(&world);
    world.counts = Counts::default();
    world.start(victim);
    world.run(secs(5));
    world.assert_converged();
    let after: Vec<u64> = scores(&world);
    let extra = world.counts.datagrams.saturating_sub(idle * 5);
    println!(
        "join: {extra} extra datagrams in all; scores {} -> {}",
        before[0], after[0]
    );
    assert!(extra <= 8 * NODES as u64);
}
