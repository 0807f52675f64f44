//! Moves that somebody wants: nothing is lost, and at every instant somebody answers.
use std::time::Duration;

use crate::world::{Change, World, ms, secs};
use speaker_core::{Input, Phase};

const IPS: [&str; 6] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
];

/// A settled world whose watches lag by up to that, and a client.
fn world(seed: u64, nodes: usize, max_lag: u64) -> (World, usize) {
    let mut world = World::settled(seed, nodes, &IPS);
    world.max_lag = max_lag;
    let client = world.client(0, &IPS);
    world.run(ms(300));
    (world, client)
}

#[track_caller]
fn assert_nothing_was_lost(world: &World, client: usize) {
    for ip in IPS {
        let unanswered = world.clients[client].unanswered(ip, ms(0), world.now - ms(20));
        assert!(unanswered.is_empty(), "{ip}: {unanswered:?}");
        let cached = world.clients[client].cache[&ip.parse().unwrap()];
        assert_eq!(
            world.owners(ip),
            [cached],
            "{ip}: the last word is the owner's"
        );
    }
}

#[test]
fn a_cordoned_node_hands_over_and_takes_back() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 3, 400);
        let victim = world.owners(IPS[0])[0];
        world.write_peer(victim, |peer| peer.last_choice = true);
        world.run(secs(2));
        world.assert_converged();
        assert!(world.owned(victim).is_empty());
        world.write_peer(victim, |peer| peer.last_choice = false);
        world.run(secs(2));
        world.assert_converged();
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn an_excluded_node_and_one_without_the_pool_hand_over() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 3, 400);
        let victim = world.owners(IPS[0])[0];
        world.write_peer(victim, |peer| match seed % 2 {
            0 => peer.excluded = true,
            _ => peer.pools.clear(),
        });
        world.run(secs(2));
        world.assert_converged();
        assert!(world.owned(victim).is_empty());
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn when_all_are_cordoned_all_go_on() {
    let (mut world, client) = world(1, 3, 400);
    for node in 0..3 {
        world.write_peer(node, |peer| peer.last_choice = true);
        world.run(ms(700));
    }
    world.run(secs(2));
    world.assert_converged();
    assert_nothing_was_lost(&world, client);
}

#[test]
fn when_the_last_node_is_excluded_nobody_answers() {
    let (mut world, client) = world(1, 1, 50);
    world.write_peer(0, |peer| peer.excluded = true);
    world.run(ms(300));
    let from = world.now;
    world.run(secs(1));
    assert_eq!(world.clients[client].answers_from(0, from, world.now), 0);
    assert!(world.owned(0).is_empty());
}

#[test]
fn a_node_that_is_told_to_end_hands_over_first() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 3, 400);
        let victim = world.owners(IPS[0])[0];
        let at = world.now;
        world.leave(victim);
        while world.nodes[victim].speaker.is_some() {
            world.run(ms(1));
        }
        assert!(world.now - at < ms(300), "it took {:?}", world.now - at);
        world.run(secs(2));
        world.assert_converged();
        assert_nothing_was_lost(&world, client);
        for node in (0..3).filter(|node| *node != victim) {
            assert_eq!(world.figures(node).deaths, 0, "nobody had to find out");
        }
    }
}

#[test]
fn the_last_node_ends_in_time() {
    let (mut world, _) = world(1, 1, 50);
    world.leave(0);
    world.run(ms(10));
    assert!(world.nodes[0].speaker.is_none());
}

#[test]
fn a_rolling_restart_loses_nothing() {
    for seed in 0..4 {
        let (mut world, client) = world(seed, 3, 200);
        for node in 0..3 {
            world.nodes[node].restart_after = Some(secs(2));
            world.leave(node);
            world.run(secs(7));
        }
        world.run(secs(40));
        world.assert_converged();
        for node in 0..3 {
            assert_eq!(world.figures(node).phase, Phase::Settled);
        }
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn changing_endpoints_move_an_address_without_loss_whatever_the_watches_lag() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 4, 900);
        for round in 0..6 {
            for ip in IPS {
                let nodes: Vec<usize> = match round % 3 {
                    0 => vec![world.rng.usize(0..4)],
                    1 => vec![world.rng.usize(0..2), world.rng.usize(2..4)],
                    _ => vec![0, 1, 2, 3],
                };
                world.announce(ip, Some(&nodes));
            }
            world.run(ms(world.rng.clone().u64(100..2_500)));
        }
        world.run(secs(4));
        world.assert_converged();
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn an_address_that_moves_to_another_group_is_answered_throughout() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 4, 400);
        world.announce_group("group-a", &IPS[..3], None);
        world.announce_group("group-b", &IPS[3..], None);
        for ip in IPS {
            world.write(Change::Announcement(ip.into(), None));
        }
        world.run(secs(2));
        world.assert_converged();
        // Whoever writes gives the new group before it takes from the old one.
        world.announce_group("group-c", &IPS[1..3], None);
        world.announce_group("group-a", &IPS[..1], None);
        world.run(secs(2));
        world.assert_converged();
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn a_joining_node_takes_only_what_must_move_and_only_after_the_delay() {
    for seed in 0..5 {
        let mut world = World::new(seed, 4);
        for ip in IPS {
            world.announce(ip, None);
        }
        (0..3).for_each(|node| world.start(node));
        world.run(secs(8));
        world.assert_converged();
        let client = world.client(0, &IPS);
        world.run(ms(100));
        let before: Vec<_> = (0..3).map(|node| world.owned(node)).collect();
        world.start(3);
        world.run(secs(25));
        let during: Vec<_> = (0..3).map(|node| world.owned(node)).collect();
        assert_eq!(before, during);
        world.run(secs(10));
        world.assert_converged();
        let taken = world.owned(3);
        for (node, before) in before.iter().enumerate() {
            let kept: Vec<_> = before
                .iter()
                .filter(|ip| !taken.contains(ip))
                .copied()
                .collect();
            assert_eq!(world.owned(node), kept, "no other address moves");
        }
        assert_nothing_was_lost(&world, client);
    }
}

#[test]
fn a_link_that_is_gone_and_back_under_another_name_moves_what_needs_it() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 3, 50);
        let victim = world.owners(IPS[0])[0];
        world.nodes[victim].has_link = false;
        world.input(victim, Input::Links(&[]));
        world.run(secs(1));
        world.assert_converged();
        let report = world.nodes[victim].report.clone().unwrap();
        assert_eq!(report.unable.len(), 1);
        assert_eq!(&*report.unable[0].pool, "lan");
        world.nodes[victim].has_link = true;
        let mut links = world.nodes[victim].links();
        links[0].name = "lan0".into();
        world.input(victim, Input::Links(&links));
        world.run(secs(2));
        world.assert_converged();
        assert_eq!(
            &*world.nodes[victim].report.clone().unwrap().announced[0].interfaces[0],
            "lan0"
        );
        let _ = client;
    }
}

#[test]
fn hundreds_of_addresses_move_at_once() {
    let ips: Vec<String> = (0..400)
        .map(|n| format!("198.18.{}.{}", n / 250, n % 250))
        .collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let mut world = World::settled(7, 3, &ips);
    let victim = world.owners(ips[0])[0];
    let sample: Vec<String> = world
        .owned(victim)
        .iter()
        .step_by(8)
        .map(ToString::to_string)
        .collect();
    let sample: Vec<&str> = sample.iter().map(String::as_str).collect();
    let count = world.owned(victim).len();
    let client = world.client(0, &sample);
    world.run(ms(300));
    // Planned.
    let other = (victim + 1) % 3;
    world.write_peer(other, |peer| peer.last_choice = true);
    world.run(secs(2));
    world.write_peer(other, |peer| peer.last_choice = false);
    world.run(secs(2));
    for ip in &sample {
        assert_eq!(
            world.clients[client].unanswered(ip, ms(0), world.now - ms(20)),
            Vec::<Duration>::new()
        );
    }
    // By a crash.
    let at = world.now;
    world.kill(victim);
    world.run(secs(2));
    world.assert_converged();
    let outage = |ip: &&str| world.clients[client].outage(ip, at).unwrap();
    let worst = sample.iter().map(outage).max().unwrap();
    println!("{count} addresses of a dead node: the last was answered after {worst:?}");
    assert!(worst <= secs(1));
}

#[test]
fn while_the_api_server_is_down_addresses_are_answered_and_fail_over() {
    for seed in 0..5 {
        let (mut world, client) = world(seed, 3, 50);
        world.set_api(false);
        world.run(secs(60));
        assert_nothing_was_lost(&world, client);
        let victim = world.owners(IPS[0])[0];
        let at = world.now;
        world.kill(victim);
        world.run(secs(2));
        world.assert_converged();
        assert!(world.clients[client].outage(IPS[0], at).unwrap() <= secs(1));
        world.start(victim);
        world.run(secs(5));
        assert!(
            world.owned(victim).is_empty(),
            "it cannot know what there is"
        );
        world.set_api(true);
        world.run(secs(35));
        world.assert_converged();
    }
}

#[test]
fn a_node_whose_watch_is_stuck_asks_for_a_list_and_if_that_hangs_too_it_yields() {
    for seed in 0..5 {
        for is_broken in [false, true] {
            let (mut world, client) = world(seed, 3, 50);
            let victim = world.owners(IPS[0])[0];
            world.nodes[victim].is_stuck = true;
            world.nodes[victim].is_list_broken = is_broken;
            world.announce("203.0.113.77", None);
            world.run(secs(10));
            if is_broken {
                assert_eq!(world.figures(victim).phase, Phase::Joining);
                assert!(world.owned(victim).is_empty());
            } else {
                assert_eq!(world.nodes[victim].relists, 1);
                assert_eq!(world.figures(victim).phase, Phase::Settled);
            }
            world.assert_converged();
            assert_nothing_was_lost(&world, client);
        }
    }
}

#[test]
fn a_deleted_object_makes_nobody_who_starts_later_look_stuck() {
    let (mut world, client) = world(2, 3, 50);
    world.announce("203.0.113.77", None);
    world.run(secs(1));
    world.write(Change::Announcement("203.0.113.77".into(), None));
    world.run(secs(1));
    world.nodes[1].restart_after = Some(secs(1));
    world.leave(1);
    world.run(secs(45));
    assert_eq!(world.figures(1).phase, Phase::Settled);
    assert_eq!(world.owners("203.0.113.77"), []);
    assert_nothing_was_lost(&world, client);
}
