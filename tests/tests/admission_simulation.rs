//! Numbers for Services that are being created, by replicas of which one leads or none or all: under
//! stale caches, lost and late replies, crashes, requests that end in nothing. Many seeds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use allocator::block::BlockId;
use controller::core::{
    admit::Answer,
    effect::{Failure, Input, Kind},
};
use model::Number;
use serde_json::{Value, json};
use tests::{
    fixtures::{bare, cluster_pool, enforcing, port_pool, set, with},
    sim::{World, node_ports},
};

fn seeds(default: u64) -> u64 {
    let asked = std::env::var("PORTOLAN_SEEDS");
    asked.ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// A world in which `team` has these ports; the first replica leads, the others do not.
fn world(seed: u64, replicas: usize, ports: &str) -> World {
    let mut world = World::new(seed, replicas);
    world.store.judges_ports = true;
    world.store.create(port_pool("team", &[ports]));
    for replica in 0..replicas {
        for kind in Kind::ALL {
            world.list(replica, kind);
        }
        world.lead(replica, replica == 0);
    }
    world
}

/// Lets requests and replies run, without faults and without time passing, until nothing moves.
fn run(world: &mut World) {
    for _ in 0..20_000 {
        if !world.work() {
            return;
        }
    }
    panic!("no end: {:?}", world.store.writes);
}

/// This one leads, if there is one, and has caught up before.
fn elect(world: &mut World, leader: usize) {
    for replica in 0..world.replicas.len() {
        if replica == leader {
            for kind in Kind::ALL {
                while world.deliver(replica, kind) {}
            }
        }
        world.lead(replica, replica == leader);
    }
}

fn answer_to(world: &World, id: u64) -> &Answer {
    let mut answers = world.answers.iter();
    &answers.find(|(other, _)| *other == id).unwrap().1
}

fn given(answer: &Answer) -> Vec<u64> {
    let Answer::Allow { patch, .. } = answer else {
        panic!("{answer:?}");
    };
    patch
        .iter()
        .map(|op| op["value"].as_u64().unwrap())
        .collect()
}

/// Sets a field by JSON pointer, inside a list too.
fn put(object: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
}

fn name_of(object: &Value) -> String {
    format!(
        "default/{}",
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

fn patched(mut object: Value, answer: &Answer) -> Value {
    if let Answer::Allow { patch, .. } = answer {
        for operation in patch {
            let path = operation["path"].as_str().unwrap();
            put(&mut object, path, operation["value"].clone());
        }
    }
    object
}

#[test]
fn sixty_four_at_once_get_sixty_four_numbers_by_few_writes() {
    let mut world = world(1, 3, "30000-30099");
    for n in 0..64 {
        world.ask(n % 3, &bare(&format!("web-{n}"), "NodePort"), None, false);
    }
    run(&mut world);
    let numbers: Vec<u64> = world
        .answers
        .iter()
        .flat_map(|(_, answer)| given(answer))
        .collect();
    assert_eq!(numbers.len(), 64);
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 64);
    let writes: u64 = (world.store.writes.iter())
        .filter(|(what, _)| what.starts_with("block"))
        .map(|(_, count)| count)
        .sum();
    assert!((1..=12).contains(&writes), "{:?}", world.store.writes);
}

#[test]
fn r1_what_was_kept_for_a_request_that_was_refused_is_free_again() {
    let mut world = world(2, 2, "30000-30003");
    for n in 0..4 {
        world.ask(n % 2, &bare(&format!("web-{n}"), "NodePort"), None, false);
    }
    run(&mut world);
    assert_eq!(world.kept().len(), 4);
    // The pool is full; nobody enforces it, so the API server's own pick will do.
    let id = world.ask(0, &bare("late", "NodePort"), None, false);
    run(&mut world);
    let answer = answer_to(&world, id);
    assert!(
        matches!(answer, Answer::Allow { patch, warnings, .. } if patch.is_empty() && warnings.len() == 1),
        "{answer:?}"
    );
    world.clock += Duration::from_secs(59);
    run(&mut world);
    assert_eq!(world.kept().len(), 4, "a slow request may still arrive");
    world.settle();
    assert_eq!(world.kept(), []);
    let id = world.ask(1, &bare("again", "NodePort"), None, false);
    run(&mut world);
    let answer = answer_to(&world, id);
    assert_eq!(given(answer), [30_000]);
}

#[test]
fn r4_a_dry_run_leaves_no_trace() {
    let mut world = world(3, 2, "30000-30003");
    run(&mut world);
    let (writes, before) = (
        world.store.writes.clone(),
        format!("{:?}", world.replicas[1].engine.allocator()),
    );
    let id = world.ask(1, &bare("web", "NodePort"), None, true);
    world.poll(1);
    assert_eq!(world.answers.len(), 1);
    assert_eq!(
        (world.answers[0].0, given(&world.answers[0].1)),
        (id, vec![30_000])
    );
    run(&mut world);
    assert_eq!(world.store.writes, writes);
    assert_eq!(
        format!("{:?}", world.replicas[1].engine.allocator()),
        before
    );
}

#[test]
fn r5_the_same_name_is_given_the_same_number_whoever_is_asked_and_however_often() {
    let mut world = world(4, 3, "30000-30003");
    let web = bare("web", "NodePort");
    for replica in [0, 1, 2, 1] {
        world.ask(replica, &web, None, false);
        run(&mut world);
    }
    let numbers: Vec<Vec<u64>> = world
        .answers
        .iter()
        .map(|(_, answer)| given(answer))
        .collect();
    assert_eq!(numbers, vec![vec![30_000]; 4]);
    let writes = world.store.writes.clone();
    // A second invocation shows what the first one gave.
    let again = patched(web.clone(), &world.answers[0].1);
    world.ask(2, &again, None, false);
    run(&mut world);
    assert_eq!(world.answers.pop().unwrap().1, Answer::unchanged());
    assert_eq!(world.store.writes, writes);
    // It is stored, seen, held; an update that changes nothing of it changes nothing.
    let name = world.store.create(again);
    world.settle();
    let stored = world.store.get(Kind::Service, &name).unwrap().clone();
    let writes = world.store.writes.clone();
    let labelled = with(stored.clone(), "/metadata/labels/a", json!("b"));
    world.ask(1, &labelled, Some(&stored), false);
    run(&mut world);
    assert_eq!(world.answers.pop().unwrap().1, Answer::unchanged());
    assert_eq!(world.store.writes, writes);
    assert_eq!((world.kept().len(), world.claims().len()), (0, 1));
}

#[test]
fn r5_two_that_have_no_name_yet_get_two_numbers_and_a_second_invocation_changes_nothing() {
    let mut world = world(5, 2, "30000-30003");
    let mut unnamed = bare("x", "NodePort");
    unnamed["metadata"].as_object_mut().unwrap().remove("name");
    set(&mut unnamed, "/metadata/generateName", json!("web-"));
    world.ask(0, &unnamed, None, false);
    world.ask(1, &unnamed, None, false);
    run(&mut world);
    let numbers: BTreeSet<u64> = world
        .answers
        .iter()
        .flat_map(|(_, answer)| given(answer))
        .collect();
    assert_eq!(numbers, BTreeSet::from([30_000, 30_001]));
    for n in 0..2 {
        let again = patched(unnamed.clone(), &world.answers[n].1);
        world.ask(1 - n, &again, None, false);
        run(&mut world);
        assert_eq!(world.answers.pop().unwrap().1, Answer::unchanged());
    }
    // Another name cannot have them.
    let thief = patched(bare("thief", "NodePort"), &world.answers[0].1);
    world.ask(0, &thief, None, false);
    run(&mut world);
    let Answer::Deny { message, .. } = world.answers.pop().unwrap().1 else {
        panic!("a number that is kept for somebody else");
    };
    assert!(message.contains("30002 is free"), "{message}");
    // Each gets its name, and holds what was kept.
    for n in 0..2 {
        let named = with(
            patched(unnamed.clone(), &world.answers[n].1),
            "/metadata/name",
            json!(format!("web-{n}")),
        );
        world.store.create(named);
    }
    world.settle();
    assert_eq!((world.kept().len(), world.claims().len()), (0, 2));
    world.check();
}

#[test]
fn a_question_without_an_answer_in_time_is_left_to_the_failure_policy() {
    let mut world = world(6, 1, "30000-30003");
    world.ask(0, &bare("web", "NodePort"), None, false);
    world.poll(0);
    assert_eq!(world.answers.len(), 0, "the ledger keeps nothing yet");
    world.clock += Duration::from_millis(2_001);
    run(&mut world);
    assert_eq!(world.answers.len(), 0);
    assert_eq!(world.replicas[0].engine.counters().reviews_late, 1);
    world.settle();
    assert_eq!(world.kept(), []);
}

#[test]
fn whoever_wins_or_loses_leadership_answers_all_the_same() {
    for change in [true, false] {
        let mut world = world(7, 2, "30000-30003");
        let replica = usize::from(change);
        world.ask(replica, &bare("web", "NodePort"), None, false);
        world.poll(replica);
        world.lead(replica, change);
        run(&mut world);
        assert_eq!(given(&world.answers[0].1), [30_000]);
    }
}

#[test]
fn r1_what_is_not_kept_any_longer_is_free_by_itself() {
    let mut world = world(8, 2, "30000-30003");
    world.ask(1, &bare("web", "NodePort"), None, false);
    run(&mut world);
    assert_eq!(world.kept().len(), 1);
    // Nobody asks for anything else meanwhile.
    world.run_until(Duration::from_secs(92));
    assert_eq!(world.kept(), []);
    let writes = world.store.writes.clone();
    world.run_until(Duration::from_secs(200));
    assert_eq!(world.store.writes, writes, "once is enough");
}

#[test]
fn what_was_about_to_be_kept_when_leadership_ended_stands_in_nobody_s_way() {
    for was_leading in [true, false] {
        let mut world = world(9, 2, "30000-30003");
        let replica = usize::from(!was_leading);
        run(&mut world);
        world.ask(replica, &bare("web", "NodePort"), None, false);
        world.poll(replica);
        let kept = |world: &World| {
            let engine = &world.replicas[replica].engine;
            engine.allocator().all_retained().count()
        };
        assert_eq!(kept(&world), 1, "in memory, and on its way into the ledger");
        // The write never gets there, and nobody waits for it any more.
        world.clock += Duration::from_millis(2_001);
        world.poll(replica);
        world.drop_requests();
        world.lead(replica, !was_leading);
        world.lead(replica, was_leading);
        run(&mut world);
        assert_eq!((kept(&world), world.kept()), (0, Vec::new()));
    }
}

#[test]
fn who_creates_a_namespace_and_a_service_in_it_at_once_is_meant_by_the_pools_that_select_it() {
    let team = || {
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "fresh", "labels": {"team": "a"}}})
    };
    let selecting = |world: &mut World| {
        world.store.edit(Kind::NodePortPool, "team", |pool| {
            set(
                pool,
                "/spec/namespaceSelector",
                json!({"matchLabels": {"team": "a"}}),
            );
        });
        run(world);
    };
    let web = with(
        bare("web", "NodePort"),
        "/metadata/namespace",
        json!("fresh"),
    );
    let mut world = world(10, 2, "30000-30003");
    selecting(&mut world);
    world.ask(1, &web, None, false);
    run(&mut world);
    assert_eq!(world.answers, [], "nobody knows yet what labels it has");
    world.store.create(team());
    run(&mut world);
    assert_eq!(given(&world.answers[0].1), [30_000]);

    // The watch never tells: half of the time is enough to wait.
    let mut world = self::world(11, 2, "30000-30003");
    selecting(&mut world);
    world.ask(1, &web, None, false);
    run(&mut world);
    let asked = world.clock;
    world.run_until(asked + Duration::from_millis(999));
    assert_eq!(world.answers, []);
    world.run_until(asked + Duration::from_millis(1_000));
    assert_eq!(world.answers[0].1, Answer::unchanged());
}

#[test]
fn r4_a_dry_run_takes_no_address_from_what_is_reserved() {
    for dry_run in [true, false] {
        let mut world = World::new(12, 1);
        world
            .store
            .create(cluster_pool("inside", &["10.96.0.16-10.96.0.19"]));
        world.store.create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]},
        }));
        for kind in Kind::ALL {
            world.list(0, kind);
        }
        world.ask(0, &bare("web", "ClusterIP"), None, dry_run);
        run(&mut world);
        let Answer::Allow {
            patch, unreserve, ..
        } = world.answers.pop().unwrap().1
        else {
            panic!("refused");
        };
        assert_eq!(patch.len(), 2);
        assert_eq!(
            (unreserve.is_empty(), world.kept().is_empty()),
            (dry_run, dry_run)
        );
    }
}

#[test]
fn what_the_leader_was_about_to_keep_for_another_is_recorded_at_once_for_whoever_has_it() {
    let mut world = world(13, 2, "30000-30003");
    run(&mut world);
    world.ask(0, &bare("slow", "NodePort"), None, false);
    world.poll(0);
    world.drop_requests();
    // Meanwhile another replica keeps the same number, and what it is for is there.
    let web = bare("web", "NodePort");
    let id = world.ask(1, &web, None, false);
    run(&mut world);
    assert_eq!(given(answer_to(&world, id)), [30_000]);
    let stored = patched(web, answer_to(&world, id));
    world.store.create(stored);
    run(&mut world);
    assert_eq!(world.claims(), [], "the leader takes it for the other's");
    let lost = Input::BlockWritten {
        id: BlockId::of(Number::port(30_000)),
        result: Err(Failure::Conflict),
    };
    let now = world.now();
    world.replicas[0].engine.handle(lost, now);
    run(&mut world);
    assert_eq!(world.claims().len(), 1, "{:?}", world.kept());
    assert_eq!(world.kept()[0].0, Number::port(30_001));
}

/// G1 for what is promised: while requests take less than a minute, the API server never has to
/// refuse a number that it was asked to use because somebody else has it; afterwards nothing is
/// left that nobody has. But for one case: a Service is deleted and made again under its name, and
/// judged again before the leader has seen the first one come and go. Then its number may be free
/// for a moment in which another asks.
#[test]
fn no_number_is_promised_to_two_and_nothing_leaks() {
    for seed in 0..seeds(150) {
        let mut world = world(seed, 3, "30000-30011");
        if world.rng.bool() {
            world.store.edit(Kind::NodePortPool, "team", |pool| {
                *pool = enforcing(pool.clone());
            });
        }
        world.faults = true;
        // A creation, since when, and what it has been answered already.
        let mut asked: BTreeMap<u64, (Duration, Value, Option<Answer>)> = BTreeMap::new();
        let mut promised: Vec<(Duration, Value)> = Vec::new();
        let (mut names, mut latest) = (0, None);
        for _ in 0..1_500 {
            match world.rng.u16(..400) {
                0..24 => {
                    // Tried again before it is there, or another.
                    let again = latest.take().filter(|_| world.rng.u8(..3) == 0);
                    let name = again.unwrap_or_else(|| {
                        names += 1;
                        format!("web-{names}")
                    });
                    latest = Some(name.clone());
                    let mut object = bare(&name, "NodePort");
                    if world.rng.u8(..4) == 0 {
                        object["metadata"].as_object_mut().unwrap().remove("name");
                        set(&mut object, "/metadata/generateName", json!("web-"));
                    }
                    let replica = world.rng.usize(..3);
                    let dry_run = world.rng.u8(..6) == 0;
                    let id = world.ask(replica, &object, None, dry_run);
                    if !dry_run {
                        asked.insert(id, (world.clock, object, None));
                    }
                }
                24..30 => {
                    let names = world.store.service_names();
                    if !names.is_empty() {
                        let name = names[world.rng.usize(..names.len())].clone();
                        world.store.delete(Kind::Service, &name);
                        // A second creation of this name that is still on its way has the number
                        // of the first, which is free from now on.
                        let other = |object: &Value| name_of(object) != name;
                        promised.retain(|(_, object)| other(object));
                        asked.retain(|_, (_, object, _)| other(object));
                    }
                }
                30 => {
                    let replica = world.rng.usize(..3);
                    world.crash(replica);
                    elect(&mut world, replica);
                }
                31 | 32 => {
                    let leader = world.rng.usize(..4);
                    elect(&mut world, leader);
                }
                33 => world.clock += Duration::from_secs(world.rng.u64(..20)),
                _ => world.step(),
            }
            for (id, answer) in std::mem::take(&mut world.answers) {
                let Some((since, object, before)) = asked.remove(&id) else {
                    continue;
                };
                // The server has given up waiting for the engine.
                if world.clock > since + Duration::from_millis(2_500) {
                    continue;
                }
                if let Some(before) = before {
                    assert!(
                        answer == Answer::unchanged(),
                        "seed {seed}: {} was given {before:?}, then told {answer:?}",
                        name_of(&object)
                    );
                } else if let Answer::Allow { patch, .. } = &answer
                    && !patch.is_empty()
                    && world.rng.bool()
                {
                    // Another entry, or a second invocation.
                    let object = patched(object, &answer);
                    let replica = world.rng.usize(..3);
                    let id = world.ask(replica, &object, None, false);
                    asked.insert(id, (world.clock, object, Some(answer)));
                    continue;
                }
                // A quota, another webhook: it never gets any further.
                if matches!(answer, Answer::Allow { .. }) && world.rng.u8(..3) > 0 {
                    let arrives = world.clock + Duration::from_secs(world.rng.u64(..30));
                    promised.push((arrives, patched(object, &answer)));
                }
            }
            let (due, later) = promised.into_iter().partition(|(at, _)| *at <= world.clock);
            promised = later;
            for (_, mut object) in due {
                if object["metadata"]["name"].is_null() {
                    let suffix: String = (0..6).map(|_| world.rng.lowercase()).collect();
                    set(
                        &mut object,
                        "/metadata/name",
                        json!(format!("web-{suffix}")),
                    );
                }
                let name = name_of(&object);
                if world.store.get(Kind::Service, &name).is_some() {
                    continue;
                }
                if node_ports(&object).is_empty() {
                    let own = (31_000..).find(|port| world.store.port_is_free(*port, ""));
                    put(&mut object, "/spec/ports/0/nodePort", json!(own.unwrap()));
                }
                for port in node_ports(&object) {
                    assert!(
                        world.store.port_is_free(port, &name),
                        "seed {seed}: {name} was promised {port}, which another has"
                    );
                }
                world.store.create(object);
                latest = None;
            }
        }
        elect(&mut world, 0);
        world.settle();
        world.check_no_leak();
        assert_eq!(world.kept(), [], "seed {seed}");
    }
}
