//! The network splits and heals; nodes are stopped and resumed; links flap.
use std::time::Duration;

use speaker_core::Phase;

use crate::world::{World, ms, secs};

const IPS: [&str; 6] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
];

/// Splits, heals, and gives back for how long after the heal two nodes answered one question.
fn heal(seed: u64, nodes: usize, away: &[usize], split: Duration) -> Duration {
    let mut world = World::settled(seed, nodes, &IPS);
    let client = world.client(0, &IPS);
    world.run(ms(300));
    let owned: Vec<Vec<_>> = (0..nodes).map(|node| world.owned(node)).collect();
    let stay: Vec<usize> = (0..nodes).filter(|node| !away.contains(node)).collect();
    world.split(&[&stay, away]);
    let there = world.client(1, &IPS);
    world.run(split);
    let before: Vec<Vec<_>> = stay.iter().map(|node| world.owned(*node)).collect();
    if split > secs(1) {
        for ip in IPS {
            assert_eq!(world.owners(ip).len(), 2, "{ip} is served on both sides");
            for client in [client, there] {
                let from = world.now - ms(500);
                let unanswered = world.clients[client].unanswered(ip, from, world.now - ms(20));
                assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
            }
        }
    }
    let healed = world.now;
    world.heal();
    world.clients[there].until = healed;
    world.run(secs(5));
    world.assert_converged();
    for node in &stay {
        assert_eq!(world.figures(*node).phase, Phase::Settled, "seed {seed}");
        let mut kept = owned[*node].iter();
        assert!(
            kept.all(|ip| world.owned(*node).contains(ip)),
            "seed {seed}"
        );
    }
    let after: Vec<Vec<_>> = stay.iter().map(|node| world.owned(*node)).collect();
    if split > secs(1) {
        assert_eq!(before, after, "nothing moves on the larger side");
        for ip in IPS {
            let unanswered = world.clients[client].unanswered(ip, healed, world.now - ms(20));
            assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
            let cached = world.clients[there].cache[&ip.parse().unwrap()];
            assert_eq!(
                world.owners(ip),
                [cached],
                "clients of the smaller side learn it"
            );
        }
    }
    let doubled = world.clients[client].doubled(healed, Duration::MAX);
    let last = doubled
        .iter()
        .flat_map(|ask| &ask.answers)
        .map(|(at, _)| *at)
        .max();
    last.map_or(Duration::ZERO, |last| last - healed)
}

fn spread(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{name}: both answered for {:?} (median) to {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    assert!(times[times.len() - 1] <= ms(200));
}

#[test]
fn after_a_heal_two_answer_for_200_ms_at_most_and_nothing_moves_on_the_larger_side() {
    spread(
        "1 of 3",
        (0..20).map(|seed| heal(seed, 3, &[2], secs(5))).collect(),
    );
}

#[test]
fn the_same_when_the_sides_are_equal() {
    let mut times = Vec::new();
    for seed in 0..12 {
        let mut world = World::settled(seed, 4, &IPS);
        let client = world.client(0, &IPS);
        world.split(&[&[0, 1], &[2, 3]]);
        world.run(secs(4));
        let healed = world.now;
        world.heal();
        world.run(secs(5));
        world.assert_converged();
        let settled = (0..4).filter(|node| world.figures(*node).phase == Phase::Settled);
        assert_eq!(settled.count(), 2, "one side goes on");
        let doubled = world.clients[client].doubled(healed, Duration::MAX);
        let last = doubled
            .iter()
            .flat_map(|ask| &ask.answers)
            .map(|(at, _)| *at)
            .max();
        times.push(last.map_or(Duration::ZERO, |last| last - healed));
    }
    spread("2 of 4", times);
}

#[test]
fn the_same_among_many() {
    let away: Vec<usize> = (12..20).collect();
    spread(
        "8 of 20",
        (0..2).map(|seed| heal(seed, 20, &away, secs(5))).collect(),
    );
}

#[test]
fn a_short_split_ends_well_whenever_it_heals() {
    let times = (0..60).map(|seed| heal(seed, 3, &[(seed % 3) as usize], ms(100 + seed * 15)));
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    println!(
        "short splits: both answered for up to {:?}",
        times[times.len() - 1]
    );
    assert!(
        times[times.len() - 1] <= ms(450),
        "at most until one is found dead"
    );
}

#[test]
fn three_sides_become_one() {
    for seed in 0..5 {
        let mut world = World::settled(seed, 5, &IPS);
        world.split(&[&[0, 1], &[2, 3], &[4]]);
        world.run(secs(4));
        world.heal();
        world.run(secs(6));
        world.assert_converged();
    }
}

#[test]
fn all_alone_and_then_together_again() {
    for seed in 0..5 {
        let mut world = World::settled(seed, 4, &IPS);
        let client = world.client(0, &IPS);
        world.split(&[&[0], &[1], &[2], &[3]]);
        world.run(secs(4));
        let healed = world.now;
        world.heal();
        world.run(secs(6));
        world.assert_converged();
        let late = world.clients[client].doubled(healed + ms(400), Duration::MAX);
        assert!(late.is_empty(), "{late:?}");
    }
}

#[test]
fn a_flapping_link_takes_nothing_back_before_the_rejoin_delay() {
    for seed in 0..4 {
        let mut world = World::settled(seed, 3, &IPS);
        let victim = world.owners(IPS[0])[0];
        let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
        let client = world.client(0, &IPS);
        for _ in 0..10 {
            world.split(&[&others, &[victim]]);
            world.run(ms(world.rng.clone().u64(700..2_500)));
            world.heal();
            let healed = world.now;
            world.run(ms(world.rng.clone().u64(700..2_500)));
            assert!(world.owned(victim).is_empty(), "seed {seed}");
            let doubled = world.clients[client].doubled(healed + ms(200), world.now);
            assert!(doubled.is_empty(), "{doubled:?}");
        }
        world.heal();
        world.run(secs(33));
        world.assert_converged();
        assert_eq!(world.figures(victim).phase, Phase::Settled);
        assert_eq!(world.owners(IPS[0]), [victim]);
    }
}

#[test]
fn a_node_whose_cable_is_back_answers_nothing_that_another_owns() {
    for seed in 0..12 {
        for out in [ms(900), ms(1_500), secs(3)] {
            let mut world = World::settled(seed, 3, &IPS);
            let victim = world.owners(IPS[0])[0];
            let client = world.client(0, &IPS);
            world.run(ms(100 + seed * 7));
            world.unplug(victim);
            world.run(out);
            world.heal();
            world.plug(victim);
            let back = world.now;
            world.run(secs(3));
            world.assert_converged();
            let client = &world.clients[client];
            let answers = client.answers_from(victim, back, world.now);
            assert_eq!(answers, 0, "seed {seed}, out for {out:?}");
            for ip in IPS {
                let unanswered = client.unanswered(ip, back, world.now - ms(20));
                assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
            }
        }
    }
}

#[test]
fn a_cable_that_was_out_for_an_instant_costs_nothing_but_that() {
    for seed in 0..8 {
        let mut world = World::settled(seed, 3, &IPS);
        let victim = world.owners(IPS[0])[0];
        let client = world.client(0, &IPS);
        world.run(ms(100 + seed * 7));
        world.unplug(victim);
        world.run(ms(50 + seed * 20));
        world.heal();
        world.plug(victim);
        let back = world.now;
        world.run(secs(3));
        world.assert_converged();
        assert_eq!(world.figures(victim).phase, Phase::Settled);
        for ip in IPS {
            // Of the last round some are under way when the cable comes back.
            let unanswered = world.clients[client].unanswered(ip, back + ms(5), world.now - ms(20));
            assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
        }
    }
}

#[test]
fn a_node_whose_cable_is_back_and_that_nobody_hears_serves_its_side_soon() {
    for seed in 0..4 {
        let mut world = World::settled(seed, 3, &IPS);
        let victim = world.owners(IPS[0])[0];
        world.unplug(victim);
        let client = world.client(1, &IPS);
        world.run(secs(2));
        world.plug(victim);
        let back = world.now;
        world.run(secs(2));
        assert_eq!(world.owned(victim).len(), 6);
        for ip in IPS {
            let outage = world.clients[client].outage(ip, back).unwrap();
            assert!(outage <= ms(1_250), "{ip}: {outage:?}");
        }
    }
}

#[test]
fn a_stopped_node_answers_nothing_after_it_is_resumed_that_another_owns() {
    for seed in 0..8 {
        for (number, stop) in [ms(160), ms(300), ms(400), ms(600), secs(1), secs(5)]
            .into_iter()
            .enumerate()
        {
            let mut world = World::settled(seed * 10 + number as u64, 3, &IPS);
            let victim = world.owners(IPS[(seed % 6) as usize])[0];
            let client = world.client(0, &IPS);
            world.run(ms(100 + seed * 7));
            world.stop(victim);
            world.run(stop);
            let resumed = world.now;
            world.resume(victim);
            world.run(secs(3));
            world.assert_converged();
            let doubled = world.clients[client].doubled(ms(0), Duration::MAX);
            assert!(doubled.is_empty(), "stopped for {stop:?}: {doubled:?}");
            if stop >= secs(1) {
                let answers = world.clients[client].answers_from(victim, resumed, world.now);
                assert_eq!(answers, 0, "stopped for {stop:?}, seed {seed}");
                for ip in IPS {
                    let unanswered =
                        world.clients[client].unanswered(ip, resumed, world.now - ms(20));
                    assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
                }
            }
            if stop <= ms(300) {
                assert_eq!(
                    world.figures(victim).phase,
                    Phase::Settled,
                    "it was not missed"
                );
                // What was asked meanwhile is answered late.
                for ip in IPS {
                    assert_eq!(
                        world.clients[client].unanswered(ip, ms(0), world.now - ms(20)),
                        []
                    );
                }
            }
        }
    }
}

#[test]
fn a_node_that_was_stopped_while_the_network_split_serves_its_side_soon() {
    let mut world = World::settled(1, 3, &IPS);
    world.stop(2);
    world.split(&[&[0, 1], &[2]]);
    world.run(secs(2));
    world.resume(2);
    let resumed = world.now;
    let client = world.client(1, &IPS);
    world.run(secs(3));
    for ip in world.owned(2) {
        let outage = world.clients[client]
            .outage(&ip.to_string(), resumed)
            .unwrap();
        assert!(outage <= ms(1_200), "{outage:?}");
    }
    assert_eq!(world.owned(2).len(), 6);
}

#[test]
fn a_foreign_machine_that_has_an_address_is_told_and_the_address_is_answered_on() {
    for ip in ["203.0.113.1", "2001:db8::1"] {
        let mut world = World::settled(3, 3, &IPS);
        let owner = world.owners(ip)[0];
        let client = world.client(0, &[ip]);
        world.run(ms(200));
        let mac = wire::Mac([0x0a, 1, 2, 3, 4, 5]);
        let claim = |world: &mut World| {
            let bytes = match ip.parse().unwrap() {
                std::net::IpAddr::V4(ip) => wire::arp::Packet::announcement(mac, ip).write(),
                std::net::IpAddr::V6(ip) => wire::ndp::Message::announcement(mac, ip).write(),
            };
            world.frame(crate::world::Station::Client(client), bytes);
        };
        let at = world.now;
        for _ in 0..20 {
            claim(&mut world);
            world.run(ms(500));
        }
        let silent = world.clients[client]
            .unanswered(ip, at, world.now - ms(20))
            .len();
        assert!(
            (10..=17).contains(&silent),
            "silent once, for 150 ms: {silent} questions"
        );
        let conflict = |world: &World| {
            let report = world.nodes[owner].report.clone().unwrap();
            let ip: std::net::IpAddr = ip.parse().unwrap();
            report
                .announced
                .iter()
                .find(|row| row.ip == ip)
                .unwrap()
                .conflict
        };
        assert_eq!(conflict(&world), Some(mac));
        assert!(world.figures(owner).conflicts >= 20);
        assert_eq!(world.owners(ip), [owner]);
        world.run(secs(62));
        assert_eq!(conflict(&world), None, "over");
    }
}
