//! Cold starts, joins, losses, clocks, keys, and what it costs.
use std::time::Duration;

use crate::world::{World, ms, secs};
use speaker_core::{Input, Key, KeyRing, Phase};

const IPS: [&str; 4] = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"];

#[test]
fn a_cold_start_of_three_settles_within_two_seconds_and_nothing_moves_later() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3);
        IPS.iter().for_each(|ip| world.announce(ip, None));
        let client = world.client(0, &IPS);
        let begin = world.now;
        for node in 0..3 {
            world.start(node);
            world.run(ms(world.rng.clone().u64(0..300)));
        }
        world.run(begin + secs(2) - world.now);
        world.assert_converged();
        for node in 0..3 {
            assert_eq!(world.figures(node).phase, Phase::Settled);
        }
        let owners: Vec<_> = IPS.iter().map(|ip| world.owners(ip)).collect();
        world.run(secs(60));
        world.assert_converged();
        assert_eq!(
            owners,
            IPS.iter().map(|ip| world.owners(ip)).collect::<Vec<_>>()
        );
        let takeovers: u64 = (0..3).map(|node| world.figures(node).takeovers).sum();
        assert_eq!(takeovers, 4, "each address was taken once");
        assert!(
            world.clients[client]
                .doubled(ms(0), Duration::MAX)
                .is_empty()
        );
    }
}

#[test]
fn a_single_node_serves_at_once() {
    let mut world = World::new(1, 1);
    world.announce(IPS[0], None);
    world.start(0);
    world.run(ms(200));
    world.assert_converged();
    assert_eq!(world.owners(IPS[0]), [0]);
}

#[test]
fn one_of_three_that_is_alone_serves_and_shares_when_others_come() {
    let mut world = World::new(1, 3);
    IPS.iter().for_each(|ip| world.announce(ip, None));
    world.start(0);
    world.run(secs(3));
    assert_eq!(world.owned(0).len(), 4);
    let client = world.client(0, &IPS);
    world.run(ms(100));
    world.start(1);
    world.run(secs(10));
    world.assert_converged();
    for ip in IPS {
        assert_eq!(
            world.clients[client].unanswered(ip, ms(0), world.now - ms(20)),
            Vec::<Duration>::new()
        );
    }
}

#[test]
fn nothing_is_owned_before_objects_and_keys_are_there() {
    let mut world = World::new(1, 3);
    IPS.iter().for_each(|ip| world.announce(ip, None));
    world.set_api(false);
    (0..3).for_each(|node| world.start(node));
    world.run(secs(10));
    for node in 0..3 {
        assert_eq!(world.figures(node).phase, Phase::Waiting);
        assert!(world.owned(node).is_empty());
    }
}

#[test]
fn a_process_that_restarts_within_the_time_to_be_missed_owns_nothing_until_it_has_joined() {
    for seed in 0..10 {
        let mut world = World::settled(seed, 3, &IPS);
        let victim = world.owners(IPS[0])[0];
        let client = world.client(0, &IPS);
        world.run(ms(100));
        let killed = world.now;
        world.kill(victim);
        world.run(ms(50));
        world.start(victim);
        world.run(secs(3));
        world.assert_converged();
        assert_eq!(world.figures(victim).phase, Phase::Joining);
        let outage = world.clients[client].outage(IPS[0], killed).unwrap();
        assert!(outage <= ms(700), "{outage:?}");
        assert!(
            world.clients[client]
                .doubled(ms(0), Duration::MAX)
                .is_empty()
        );
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_out() {
    let mut world = World::settled(1, 3, &IPS);
    world.kill(1);
    world.run(secs(2));
    // It starts as if a day earlier.
    let now = world.now();
    world.nodes[1].start(now, 1_000, 5, secs(30));
    let process = world.nodes[1].process;
    world.push(
        world.now + ms(10),
        crate::world::Event::List { node: 1, process },
    );
    world.run(secs(5));
    world.assert_converged();
    assert_eq!(world.figures(1).peers, 2);
    assert_eq!(world.figures(1).phase, Phase::Joining);
    world.run(secs(40));
    world.assert_converged();
}

#[test]
fn keys_rotate_without_a_death() {
    let mut world = World::settled(1, 3, &IPS);
    let wall = world.now().wall / 1_000;
    let (old, new) = (Key::new(0, [7; 32]), Key::new(wall + 10, [8; 32]));
    for node in [2, 0, 1] {
        world.input(
            node,
            Input::Keys(KeyRing::new(vec![old.clone(), new.clone()])),
        );
        world.run(secs(3));
    }
    world.run(secs(10));
    for node in [1, 2, 0] {
        world.input(node, Input::Keys(KeyRing::new(vec![new.clone()])));
        world.run(secs(3));
    }
    for node in 0..3 {
        assert_eq!(world.figures(node).deaths, 0);
        assert_eq!(world.figures(node).peers, 2);
        assert_eq!(world.figures(node).refused, 0);
    }
    world.assert_converged();
}

#[test]
fn a_stranger_without_the_key_changes_nothing() {
    let mut world = World::settled(1, 3, &IPS);
    for number in 0..200_u8 {
        let bytes: Vec<u8> = (0..number).map(|byte| byte.wrapping_mul(number)).collect();
        let from = world.nodes[1].addr();
        world.input(
            0,
            Input::Datagram {
                from,
                bytes: &bytes,
            },
        );
    }
    assert_eq!(world.figures(0).refused, 200);
    world.run(secs(5));
    world.assert_converged();
}

fn deaths(seed: u64, nodes: usize, loss: f64, time: Duration) -> u64 {
    let mut world = World::settled(seed, nodes, &IPS);
    world.loss = loss;
    let client = world.client(0, &IPS[..1]);
    world.run(time);
    let unanswered = world.clients[client].unanswered(IPS[0], ms(0), world.now - ms(20));
    assert!(unanswered.is_empty(), "{unanswered:?}");
    world.assert_converged();
    (0..nodes).map(|node| world.figures(node).deaths).sum()
}

#[test]
fn a_tenth_of_all_datagrams_lost_kills_nobody_in_ten_minutes() {
    for (nodes, time) in [(2, 120), (3, 600), (5, 120)] {
        assert_eq!(deaths(1, nodes, 0.1, secs(time)), 0, "{nodes} nodes");
    }
}

#[test]
fn nor_among_twenty_in_20_seconds() {
    assert_eq!(deaths(1, 20, 0.1, secs(20)), 0);
}

#[test]
fn a_crash_is_noticed_in_time_while_datagrams_are_lost() {
    let mut outages = Vec::new();
    for seed in 0..30 {
        let mut world = World::settled(seed, 3, &IPS);
        world.loss = 0.1;
        let client = world.client(0, &IPS);
        world.run(secs(1));
        let victim = world.owners(IPS[0])[0];
        let at = world.now;
        world.kill(victim);
        world.run(secs(4));
        outages.push(world.clients[client].outage(IPS[0], at).unwrap());
    }
    outages.sort_unstable();
    println!(
        "with losses: median {:?}, worst {:?}",
        outages[15], outages[29]
    );
    assert!(outages[29] <= ms(1_500));
}

#[test]
fn what_peers_say_to_each_other_when_nothing_happens_is_little() {
    for nodes in [3, 12] {
        let mut world = World::settled(1, nodes, &IPS);
        world.run(secs(30));
        world.counts = crate::world::Counts::default();
        world.run(secs(10));
        let rate = world.counts.datagrams as f64 / 10.0 / nodes as f64;
        let size = world.counts.bytes as f64 / world.counts.datagrams as f64;
        println!(
            "{nodes} nodes: {rate:.1} datagrams/s sent by each, {size:.0} bytes on average, largest {}",
            world.counts.largest
        );
        assert!(rate < 50.0);
        assert!(world.counts.largest <= 1_400);
    }
}
