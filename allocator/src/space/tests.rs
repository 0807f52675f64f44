use std::collections::BTreeMap;

use super::*;

fn all(first: u128, last: u128) -> RangeSet {
    RangeSet::new([(first, last)])
}

#[test]
fn the_lowest_free_number_is_found_wherever_the_space_lies() {
    for base in [0u128, 0x0a00_0000, 0xffff_0000, 0x2001_0db8 << 96, u128::MAX - 0xffff] {
        let mut space = NumberSpace::new();
        let set = all(base, base + 0xffff);
        for offset in 0..=0xffff {
            assert_eq!(space.next_free(&set), Some(base + offset));
            assert!(space.insert(base + offset));
        }
        assert_eq!(space.next_free(&set), None);
        assert_eq!(space.len(), 65_536);
        for offset in [0u128, 255, 256, 257, 32_768, 65_535] {
            assert!(space.remove(base + offset));
            assert_eq!(space.next_free(&set), Some(base + offset));
            assert_eq!(space.next_free_from(&set, base + 300), Some(base + offset));
            assert!(space.insert(base + offset));
        }
    }
}

#[test]
fn a_search_leaves_full_groups_through_their_summary() {
    // 2^18 numbers fill four groups of 65,536; the search ends behind them.
    let mut space = NumberSpace::new();
    for value in 0..1 << 18 {
        space.insert(value);
    }
    let set = all(0, 1 << 30);
    assert_eq!(space.next_free(&set), Some(1 << 18));
    assert_eq!(space.full.iter().map(FxHashMap::len).collect::<Vec<_>>(), [4, 1, 0]);
    space.remove(70_000);
    assert_eq!(space.next_free(&set), Some(70_000));
    assert_eq!(space.next_free_between(&set, 70_001, 1 << 18), Some(1 << 18));
}

#[test]
fn an_emptied_space_holds_nothing() {
    let mut space = NumberSpace::new();
    (0..100_000).for_each(|value| assert!(space.insert(value)));
    (0..100_000).for_each(|value| assert!(space.remove(value)));
    assert!(space.is_empty() && space.leaves.is_empty());
    assert!(space.full.iter().all(FxHashMap::is_empty));
}

#[test]
fn random_operations_agree_with_a_map() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let base = if seed % 2 == 0 { 1_000 } else { u128::MAX - 1_023 };
        let (mut space, mut map) = (NumberSpace::<u32>::new(), BTreeMap::new());
        let set = RangeSet::new([(base, base + 300), (base + 301, base + 511), (base + 600, base + 1_023)]);
        // First mostly taken, then mostly freed, so that leaves become full and empty.
        for step in 0..6_000u32 {
            let value = base + random.u128(..1_024);
            if random.u32(..6_000) > step {
                assert_eq!(space.put(value, step), map.insert(value, step));
            } else {
                assert_eq!(space.take(value), map.remove(&value));
            }
            let probe = base + random.u128(..1_024);
            assert_eq!(space.get(probe), map.get(&probe));
            assert_eq!(space.contains(probe), map.contains_key(&probe));
            if step % 16 == 0 {
                let free = |from: u128, to: u128| (from..=to).find(|value| set.contains(*value) && !map.contains_key(value));
                assert_eq!(space.next_free(&set), free(base, base + 1_023));
                let wrapped = free(probe, base + 1_023).or_else(|| free(base, probe));
                assert_eq!(space.next_free_from(&set, probe), wrapped);
                assert_eq!(space.len(), map.len());
            }
        }
        let mut listed: Vec<_> = space.iter().map(|(value, note)| (value, *note)).collect();
        listed.sort_unstable();
        assert_eq!(listed, map.into_iter().collect::<Vec<_>>());
    }
}
