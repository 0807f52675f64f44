#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use proptest::prelude::*;

use super::*;

fn name(number: usize) -> Arc<str> {
    format!("node-{number}").into()
}

fn candidate(weight: u8) -> Candidate {
    Candidate {
        settled: true,
        last_choice: false,
        pools: vec![PoolWeight {
            name: "lan".into(),
            weight,
        }],
        unable: Vec::new(),
    }
}

fn announcement() -> Announcement {
    Announcement {
        pools: vec!["lan".into()],
        ..Announcement::default()
    }
}

fn keys(count: usize) -> Vec<Key> {
    (0..count)
        .map(|n| hash(&format!("10.0.{}.{}", n / 256, n % 256)))
        .collect()
}

fn table(weights: &[u8], keys: &[Key]) -> Table {
    let mut table = Table::default();
    for (number, weight) in weights.iter().enumerate() {
        table.set_node(&name(number), Some(candidate(*weight)));
    }
    for key in keys {
        table.set_announcement(*key, Some(&announcement()));
    }
    table.take_changed();
    table
}

fn counts(table: &Table, nodes: usize) -> Vec<usize> {
    (0..nodes)
        .map(|number| table.owned_by(&name(number)).len())
        .collect()
}

#[test]
fn addresses_spread_evenly() {
    let keys = keys(5_000);
    for nodes in [2, 3, 10, 50] {
        let fair = 5_000.0 / nodes as f64;
        for count in counts(&table(&vec![1; nodes], &keys), nodes) {
            let deviation = (count as f64 - fair).abs() / fair.sqrt();
            assert!(deviation < 4.5, "{nodes} nodes: {count} instead of {fair}");
        }
    }
}

#[test]
fn a_node_owns_in_proportion_to_its_weight() {
    let counts = counts(&table(&[1, 2, 7], &keys(10_000)), 3);
    for (count, fair) in counts.iter().zip([1_000.0, 2_000.0, 7_000.0]) {
        assert!(
            (*count as f64 - fair).abs() < 4.5 * f64::sqrt(fair),
            "{counts:?}"
        );
    }
}

#[test]
fn only_what_a_dead_node_owned_moves_and_it_takes_the_same_back() {
    let keys = keys(1_000);
    let mut table = table(&[1; 10], &keys);
    let before: Vec<_> = keys.iter().map(|key| table.owner(*key).cloned()).collect();
    table.set_node(&name(3), None);
    for (key, owner) in keys.iter().zip(&before) {
        let is_moved = table.owner(*key) != owner.as_ref();
        assert_eq!(is_moved, owner.as_ref() == Some(&name(3)));
    }
    let moved = table.take_changed();
    assert!(moved.len() < 150, "{}", moved.len());
    table.set_node(&name(3), Some(candidate(1)));
    let after: Vec<_> = keys.iter().map(|key| table.owner(*key).cloned()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_change_of_one_among_500_computes_only_what_it_can_move() {
    let keys = keys(5_000);
    let mut table = table(&[1; 500], &keys);
    let of = table.owned_by(&name(7)).len() as u64;
    let begin = table.scores();
    table.set_node(&name(7), None);
    assert_eq!(
        table.scores() - begin,
        of * 499,
        "its own, among all others"
    );
    let begin = table.scores();
    table.set_node(&name(7), Some(candidate(1)));
    assert_eq!(table.scores() - begin, 5_000, "one score per announcement");
}

#[test]
fn a_joining_node_owns_only_what_no_settled_one_can() {
    let mut table = table(&[1, 1], &keys(100));
    let joining = Candidate {
        settled: false,
        ..candidate(100)
    };
    table.set_node(&name(2), Some(joining));
    assert_eq!(counts(&table, 3)[2], 0);
    table.set_node(&name(0), None);
    assert_eq!(counts(&table, 3), [0, 100, 0]);
    table.set_node(&name(1), None);
    assert_eq!(counts(&table, 3), [0, 0, 100]);
}

#[test]
fn a_node_of_last_choice_comes_after_a_joining_one() {
    let last = Candidate {
        last_choice: true,
        ..candidate(1)
    };
    let joining = Candidate {
        settled: false,
        ..candidate(1)
    };
    let mut table = table(&[], &keys(10));
    table.set_node(&name(0), Some(last));
    assert_eq!(counts(&table, 1), [10]);
    table.set_node(&name(1), Some(joining));
    assert_eq!(counts(&table, 2), [0, 10]);
}

#[test]
fn a_node_needs_every_pool_and_an_interface_for_each() {
    let key = hash("10.0.0.1");
    let mut table = Table::default();
    let mut spec = announcement();
    spec.pools.push("dmz".into());
    table.set_announcement(key, Some(&spec));
    table.set_node(&name(0), Some(candidate(1)));
    assert_eq!(table.owner(key), None);
    let mut both = candidate(1);
    both.pools.push(PoolWeight {
        name: "dmz".into(),
        weight: 5,
    });
    table.set_node(&name(0), Some(both.clone()));
    assert_eq!(table.owner(key), Some(&name(0)));
    both.unable = vec![pool_hash("dmz")];
    table.set_node(&name(0), Some(both.clone()));
    assert_eq!(table.owner(key), None);
    both.unable = vec![pool_hash("other")];
    table.set_node(&name(0), Some(both.clone()));
    assert_eq!(table.owner(key), Some(&name(0)));
    both.unable = vec![0];
    table.set_node(&name(0), Some(both));
    assert_eq!(table.owner(key), None, "0 stands for all");
}

#[derive(Clone, Debug)]
enum Step {
    Node(usize, Option<Candidate>),
    Announcement(usize, Option<Announcement>),
}

fn pools() -> impl Strategy<Value = Vec<Arc<str>>> {
    proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3)
        .prop_map(|names| names.into_iter().map(Arc::from).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let weights = (pools(), 1_u8..=100);
    let candidate = (any::<bool>(), any::<bool>(), weights, pools(), 0_u8..4).prop_map(
        |(settled, last_choice, (pools, weight), unable, lacks)| Candidate {
            settled,
            last_choice,
            pools: (pools.into_iter())
                .map(|name| PoolWeight { name, weight })
                .collect(),
            unable: if lacks == 0 {
                unable.iter().map(|pool| pool_hash(pool)).collect()
            } else {
                Vec::new()
            },
        },
    );
    let nodes = proptest::option::of(proptest::collection::vec(0_usize..8, 0..4));
    let announcement = (pools(), nodes).prop_map(|(pools, nodes)| Announcement {
        pools,
        nodes: nodes.map(|nodes| nodes.into_iter().map(name).collect()),
        ..Announcement::default()
    });
    prop_oneof![
        (0_usize..8, proptest::option::of(candidate)).prop_map(|(n, c)| Step::Node(n, c)),
        (0_usize..20, proptest::option::of(announcement))
            .prop_map(|(n, a)| Step::Announcement(n, a)),
    ]
}

proptest! {
    #[test]
    fn step_by_step_and_all_at_once_give_the_same_owners(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut table = Table::default();
        let mut nodes: FxHashMap<usize, Candidate> = FxHashMap::default();
        let mut rows: FxHashMap<usize, Announcement> = FxHashMap::default();
        for step in steps {
            let before: Vec<_> = (0..20).map(|n| table.owner(hash(&n.to_string())).cloned()).collect();
            match step {
                Step::Node(number, candidate) => {
                    table.set_node(&name(number), candidate.clone());
                    match candidate {
                        Some(candidate) => { nodes.insert(number, candidate); }
                        None => { nodes.remove(&number); }
                    }
                }
                Step::Announcement(number, spec) => {
                    table.set_announcement(hash(&number.to_string()), spec.as_ref());
                    match spec {
                        Some(spec) => { rows.insert(number, spec); }
                        None => { rows.remove(&number); }
                    }
                }
            }
            let changed = table.take_changed();
            let mut full = Table::default();
            for (number, spec) in &rows {
                full.set_announcement(hash(&number.to_string()), Some(spec));
            }
            for (number, candidate) in &nodes {
                full.set_node(&name(*number), Some(candidate.clone()));
            }
            for (number, before) in before.iter().enumerate() {
                let key = hash(&number.to_string());
                prop_assert_eq!(table.owner(key), full.owner(key));
                if table.owner(key) != before.as_ref() {
                    prop_assert!(changed.contains(&key), "a change is told");
                }
                if let Some(owner) = table.owner(key) {
                    prop_assert!(table.owned_by(owner).contains(&key));
                }
            }
        }
    }
}
