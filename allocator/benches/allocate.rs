//! What one allocation costs, as JSON on stdout: `cargo bench -p allocator`.
//!
//! * `allocate`: find the lowest free number of the set, mark it taken, record its holder (Service,
//!   uid, use, resourceVersion) so that number and uid both lead to it, and count it in its pool.
//!   No decision, no request. The holder's strings exist already.
//! * `release`: remove that holder again, from all of those.
//! * `decide_and_hold`: the whole of a typical request, from the pools that admit it (three of them)
//!   to the recorded holder.
//! * `bitmap`: for comparison a bitmap with a random start and a linear scan, as Kubernetes'
//!   allocators have it: written for this comparison, not Kubernetes' code. It marks the number and
//!   records nothing.
//!
//! Each figure is the median over samples of the mean of one sample, in nanoseconds; a sample is a
//! batch of allocations, then of their releases, so that the filling stays what it says. The tenth
//! percentile is given too: where it is much lower, something else used the machine. Filling is
//! `lowest` (contiguous) or `random`.
//!
//! `full_16_bytes`: how much resident memory (VmRSS) grows while a /16 is filled: occupancy,
//! holders and indexes, without the strings, which exist before.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::indexing_slicing, reason = "a benchmark may fail loudly")]

use std::{
    collections::HashSet,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use allocator::{Allocator, Pool, RangeSet, Request, block::Holder};
use model::{Family, Labels, Number, ServiceKey, Space, Uid, Use};
use serde_json::{Value, json};

const BATCH: usize = 64;
const SAMPLES: usize = 3_000;

fn main() {
    let memory = full_16_bytes();
    let mut rows = Vec::new();
    for (name, cidr, percents) in [
        ("v4 /16", "10.0.0.0/16", [0u32, 50, 90, 99]),
        ("v6 /112", "2001:db8::/112", [0, 50, 90, 99]),
    ] {
        for pattern in ["lowest", "random"] {
            for percent in percents {
                let held = 65_536 * percent as usize / 100;
                let case = Case::new(cidr, held, pattern);
                rows.push(case.run(name, &format!("{percent} %"), true));
            }
        }
    }
    for pattern in ["lowest", "random"] {
        for held in [10_000, 1_000_000] {
            let case = Case::new("2001:db8:0:1::/64", held, pattern);
            rows.push(case.run("v6 /64", &format!("{held} held"), false));
        }
    }
    let medians: Vec<f64> = rows
        .iter()
        .map(|row| row["allocate_ns"].as_f64().unwrap())
        .collect();
    let (least, most) = medians
        .iter()
        .fold((f64::MAX, 0.0f64), |(least, most), &ns| {
            (least.min(ns), most.max(ns))
        });
    let report = json!({
        "rows": rows,
        "allocate_ns_least": least,
        "allocate_ns_most": most,
        "full_16_bytes": memory,
        "full_16_mib": (memory as f64 / 1_048_576.0 * 100.0).round() / 100.0,
        "goals": { "allocate_ns": 100, "most_over_least_per_space": 2, "full_16_mib": 8 },
    });
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

struct Case {
    allocator: Allocator,
    set: RangeSet,
    space: Space,
    spare: Vec<Holder>,
    numbers: Vec<u128>,
    first: u128,
}

impl Case {
    fn new(cidr: &str, held: usize, pattern: &str) -> Self {
        let (v4, v6) = RangeSet::parse_addresses(&[cidr.to_owned()]).unwrap();
        let (space, set) = if v4.is_empty() {
            (Space::V6, v6.clone())
        } else {
            (Space::V4, v4.clone())
        };
        let mut allocator = Allocator::new();
        let other = |name: &str, text: &str, namespace: &str| {
            let (v4, v6) = RangeSet::parse_addresses(&[text.to_owned()]).unwrap();
            let mut pool = pool(name, v4, v6);
            pool.admission.namespaces = Some([namespace.to_owned()].into());
            pool
        };
        allocator.set_pools(vec![
            pool("general", v4, v6),
            other("tenant-a", "192.0.2.0/24", "tenant-a"),
            other("tenant-b", "2001:db8:ffff::/64", "tenant-b"),
        ]);
        let mut random = fastrand::Rng::with_seed(7);
        let (first, last) = set.ranges()[0];
        let mut numbers: Vec<u128> = match pattern {
            "lowest" => (0..held as u128).map(|offset| first + offset).collect(),
            _ if last - first < 1 << 20 => {
                let mut all: Vec<u128> = (first..=last).collect();
                random.shuffle(&mut all);
                all.truncate(held);
                all
            }
            _ => {
                let mut seen = HashSet::new();
                while seen.len() < held {
                    seen.insert(first + u128::from(random.u64(..)));
                }
                seen.into_iter().collect()
            }
        };
        random.shuffle(&mut numbers);
        for (index, &value) in numbers.iter().enumerate() {
            allocator.hold(Number { space, value }, holder(index));
        }
        let spare = (0..BATCH).map(|index| holder(10_000_000 + index)).collect();
        Self {
            allocator,
            set,
            space,
            spare,
            numbers,
            first,
        }
    }

    fn run(mut self, name: &str, filled: &str, bitmap: bool) -> Value {
        let (mut allocate, mut release, mut decide) = (Vec::new(), Vec::new(), Vec::new());
        let mut given = Vec::with_capacity(BATCH);
        for _ in 0..SAMPLES {
            let holders = self.spare.clone();
            let begin = Instant::now();
            for holder in holders {
                let number = self.allocator.next_free(self.space, &self.set).unwrap();
                self.allocator.hold(number, holder);
                given.push(number);
            }
            allocate.push(begin.elapsed());
            release.push(self.release(&mut given));
        }
        let families = [if self.space == Space::V4 {
            Family::V4
        } else {
            Family::V6
        }];
        let (labels, at): (Labels, Arc<str>) = (Labels::new(), "12345".into());
        for _ in 0..SAMPLES {
            let begin = Instant::now();
            for holder in &self.spare {
                let request = Request {
                    service: &holder.service,
                    uid: &holder.uid,
                    usage: Use::LoadBalancer,
                    namespace_labels: &labels,
                    service_labels: &labels,
                    families: &families,
                    require_all: false,
                    pool: None,
                    explicit: &[],
                    sharing: None,
                    allowed_pools: None,
                    shown: &[],
                    exclude: &[],
                    pass_over: None,
                    stable_salt: None,
                };
                let verdict = black_box(self.allocator.decide(&request, 0));
                let number = verdict.grants[0].number;
                self.allocator.hold(
                    number,
                    Holder {
                        service: holder.service.clone(),
                        uid: holder.uid.clone(),
                        usage: Use::LoadBalancer,
                        at: at.clone(),
                        sharing: None,
                    },
                );
                given.push(number);
            }
            decide.push(begin.elapsed());
            self.release(&mut given);
        }
        let quantile = |samples: &mut Vec<Duration>, hundredths: usize| {
            samples.sort_unstable();
            let sample = samples[samples.len() * hundredths / 100];
            (sample.as_nanos() as f64 / BATCH as f64 * 10.0).round() / 10.0
        };
        let median = |samples: &mut Vec<Duration>| quantile(samples, 50);
        let bitmap = bitmap.then(|| {
            let mut bitmap = Bitmap::new(self.first, &self.numbers);
            let mut samples = Vec::new();
            // Fewer: in a contiguous filling it walks through half of it.
            for _ in 0..SAMPLES / 30 {
                let mut given = Vec::with_capacity(BATCH);
                let begin = Instant::now();
                for _ in 0..BATCH {
                    given.push(bitmap.next());
                }
                samples.push(begin.elapsed());
                given.into_iter().for_each(|at| bitmap.clear(at));
            }
            median(&mut samples)
        });
        json!({
            "space": name,
            "filled": filled,
            "pattern": if self.numbers.is_empty() { "empty" } else if self.is_lowest() { "lowest" } else { "random" },
            "allocate_ns": median(&mut allocate),
            "allocate_p10_ns": quantile(&mut allocate, 10),
            "release_ns": median(&mut release),
            "decide_and_hold_ns": median(&mut decide),
            "bitmap_ns": bitmap,
        })
    }

    fn is_lowest(&self) -> bool {
        self.numbers.iter().max().unwrap() - self.first < self.numbers.len() as u128
    }

    fn release(&mut self, given: &mut Vec<Number>) -> Duration {
        let begin = Instant::now();
        for (number, holder) in given.drain(..).zip(&self.spare) {
            let gone = self
                .allocator
                .unhold(number, &holder.uid, Use::LoadBalancer);
            black_box(gone);
        }
        begin.elapsed()
    }
}

fn pool(name: &str, v4: RangeSet, v6: RangeSet) -> Pool {
    Pool {
        v4,
        v6,
        ..Pool::new(name, Use::LoadBalancer)
    }
}

fn holder(index: usize) -> Holder {
    // As random as a real uid, and as long.
    let mut random = fastrand::Rng::with_seed(index as u64);
    let uid = format!(
        "{:08x}-0000-4000-8000-{:012x}",
        random.u32(..),
        random.u64(..1 << 48)
    );
    Holder {
        service: ServiceKey::new("default", &format!("service-{index}")),
        uid: Uid::from(uid.as_str()),
        usage: Use::LoadBalancer,
        at: index.to_string().into(),
        sharing: None,
    }
}

/// Random start, then one bit after the other, with wrap.
struct Bitmap {
    words: Vec<u64>,
    random: fastrand::Rng,
}

impl Bitmap {
    const SIZE: usize = 65_536;

    fn new(first: u128, taken: &[u128]) -> Self {
        let mut words = vec![0u64; Self::SIZE / 64];
        for value in taken {
            let at = (value - first) as usize;
            words[at / 64] |= 1 << (at % 64);
        }
        Self {
            words,
            random: fastrand::Rng::with_seed(7),
        }
    }

    fn next(&mut self) -> usize {
        let start = self.random.usize(..Self::SIZE);
        for step in 0..Self::SIZE {
            let at = (start + step) % Self::SIZE;
            if self.words[at / 64] & (1 << (at % 64)) == 0 {
                self.words[at / 64] |= 1 << (at % 64);
                return at;
            }
        }
        unreachable!("99 % at most are taken")
    }

    fn clear(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }
}

fn resident() -> usize {
    // Fields of proc(5) statm: size and resident, in pages; 4 KiB ones where this is run.
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn full_16_bytes() -> usize {
    let holders: Vec<Holder> = (0..65_536).map(holder).collect();
    let (v4, v6) = RangeSet::parse_addresses(&["10.0.0.0/16".to_owned()]).unwrap();
    let first = v4.ranges()[0].0;
    let mut allocator = Allocator::new();
    allocator.set_pools(vec![pool("general", v4, v6)]);
    let before = resident();
    for (offset, holder) in holders.into_iter().enumerate() {
        let value = first + offset as u128;
        allocator.hold(
            Number {
                space: Space::V4,
                value,
            },
            holder,
        );
        if offset == 65_535 {
            // Measured before the list of holders is given back.
            let bytes = resident().saturating_sub(before);
            assert_eq!(
                allocator
                    .usage("general", model::Use::LoadBalancer)
                    .v4
                    .available,
                0
            );
            return bytes;
        }
    }
    unreachable!("the last one returns")
}
