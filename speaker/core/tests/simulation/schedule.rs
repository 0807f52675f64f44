//! Anything in any order. Afterwards, when the network is one and quiet: exactly one node answers
//! for every address that has a candidate, all agree, and it is the function's answer.
use crate::world::{Change, World, ms, secs};
use speaker_core::Input;

const IPS: [&str; 8] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.4",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
    "2001:db8::4",
];

fn step(world: &mut World, nodes: usize) -> String {
    let node = world.rng.usize(0..nodes);
    let is_up = world.nodes[node].speaker.is_some();
    match world.rng.u8(0..16) {
        0 => {
            world.kill(node);
            format!("kill {node}")
        }
        1 | 2 if !is_up => {
            world.start(node);
            format!("start {node}")
        }
        3 => {
            world.leave(node);
            format!("leave {node}")
        }
        4 => {
            world.stop(node);
            format!("stop {node}")
        }
        5 | 6 if world.nodes[node].is_stopped => {
            world.resume(node);
            format!("resume {node}")
        }
        7 => {
            for at in 0..nodes {
                world.nodes[at].group = world.rng.usize(0..2);
            }
            "split".into()
        }
        8 | 9 => {
            world.heal();
            "heal".into()
        }
        10 => {
            world.write_peer(node, |peer| peer.last_choice = !peer.last_choice);
            format!("cordon or not {node}")
        }
        11 => {
            world.write_peer(node, |peer| peer.excluded = !peer.excluded);
            format!("exclude or not {node}")
        }
        12 => {
            let ip = IPS[world.rng.usize(0..IPS.len())];
            let named: Vec<usize> = (0..nodes).filter(|_| world.rng.bool()).collect();
            let nodes = world.rng.bool().then_some(named);
            world.announce(ip, nodes.as_deref());
            format!("endpoints of {ip}: {nodes:?}")
        }
        13 => {
            let is_up = world.rng.bool();
            world.set_api(is_up);
            format!("API server {is_up}")
        }
        14 => {
            world.loss = [0.0, 0.0, 0.05, 0.2][world.rng.usize(0..4)];
            format!("loss {}", world.loss)
        }
        _ => {
            world.nodes[node].has_link = !world.nodes[node].has_link;
            let links = world.nodes[node].links();
            if !world.nodes[node].is_stopped {
                world.input(node, Input::Links(&links));
            } else {
                world.nodes[node].has_link = !world.nodes[node].has_link;
            }
            format!("link of {node}: {}", world.nodes[node].has_link)
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, 0);
    let nodes = 2 + world.rng.usize(0..4);
    let mut world = World::new(seed, nodes);
    world.rejoin_delay = secs(5);
    IPS.iter().for_each(|ip| world.announce(ip, None));
    let mut steps = Vec::new();
    for node in 0..nodes {
        world.start(node);
    }
    for _ in 0..40 {
        let at = world.now;
        steps.push((at, step(&mut world, nodes)));
        let pause = match world.rng.u8(0..3) {
            0 => world.rng.u64(0..20),
            1 => world.rng.u64(0..500),
            _ => world.rng.u64(0..4_000),
        };
        world.run(ms(pause));
    }
    world.heal();
    world.loss = 0.0;
    world.set_api(true);
    for node in 0..nodes {
        if world.nodes[node].is_stopped {
            world.resume(node);
        }
    }
    world.write(Change::Announcement("203.0.113.99".into(), None));
    world.run(secs(15));
    let client = world.client(0, &IPS);
    world.run(ms(500));
    let result = world.check_converged();
    let phases: Vec<_> = (0..nodes)
        .map(|n| world.nodes[n].speaker.as_ref().map(|s| s.figures()))
        .collect();
    assert!(
        result.is_ok(),
        "seed {seed}: {result:?}\n{steps:#?}\n{phases:#?}"
    );
    for ip in IPS {
        let owners = world.owners(ip);
        assert!(owners.len() <= 1, "seed {seed}");
        let asks = world.clients[client].asks_of(ip, ms(0), world.now - ms(20));
        for ask in asks {
            let nodes: Vec<usize> = ask.answers.iter().map(|(_, node)| *node).collect();
            assert_eq!(nodes, owners, "seed {seed} {ip}");
        }
    }
}

#[test]
fn whatever_happens_in_the_end_exactly_one_answers() {
    let from = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let range = from.map_or(0..60, |from: u64| {
        from..from + std::env::var("SEEDS").map_or(1, |n| n.parse().unwrap())
    });
    for seed in range {
        run(seed);
    }
}
