//! Figures of announced addresses in the lab: three nodes, Portolan as its chart, and a client on the
//! same switch that asks for addresses every 10 ms.
//!
//! `cargo bench -p cluster --bench announce -- [--crashes 24] [--only crashes,heals]` prints one JSON
//! object. Needs root, the lab's packages and `cargo xtask image --no-build` before it: memory and CPU
//! are those of the programs in `target/image`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a broken assumption must end the run"
)]

#[path = "../../tests/common/kubectl.rs"]
mod kubectl;
#[path = "../../tests/common/pods.rs"]
mod pods;
#[path = "../../tests/speaker/town.rs"]
mod town;
#[path = "../../tests/speaker/watch.rs"]
mod watch;

mod cost;
mod moves;
mod swarm;

use serde_json::{Value, json};
use town::Town;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "swarm") {
        swarm::run(&arguments[1..]);
        return;
    }
    let value = |flag: &str| {
        let mut pairs = arguments.windows(2);
        pairs.find(|two| two[0] == flag).map(|two| two[1].as_str())
    };
    let crashes = value("--crashes").map_or(24, |count| count.parse().unwrap());
    let only = value("--only");
    let wanted = |part: &str| only.is_none_or(|only| only.split(',').any(|one| one == part));

    let mut town = Town::new(&["speaker.rejoinDelay=2s"]);
    let mut run = json!({});
    type Part = fn(&mut Town, usize) -> Value;
    let parts: [(&str, Part); 8] = [
        ("created", |town, _| moves::created(town, 20)),
        ("crashes", moves::crashes),
        ("planned", |town, _| moves::planned(town, 12)),
        ("rollout", |town, _| moves::rollout(town)),
        ("heals", |town, _| moves::heals(town, 6)),
        ("quiet", |town, _| cost::quiet(town)),
        ("memory", |town, _| cost::memory(town, 1_000)),
        ("idle", |town, _| swarm::idle(town, 100)),
    ];
    for (name, part) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        eprintln!("{name} ...");
        town.put_in_order();
        run[name] = part(&mut town, crashes);
        eprintln!("{name}: {}", run[name]);
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let told = json!({
        "machine": {"cpus": cpus, "load": tests::program::load()},
        "kubernetes": cluster::VERSION,
        "goals_met": goals(&run),
        "run": run,
    });
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

/// What issue 6 asks for; what did not run is missing.
fn goals(run: &Value) -> Value {
    let mut goals = json!({});
    for (goal, place, most) in [
        ("crash_median_600_ms", "/crashes/median_ms", 600.0),
        ("crash_worst_1000_ms", "/crashes/worst_ms", 1_000.0),
        ("planned_none_unanswered", "/planned/never_answered", 0.0),
        ("rollout_none_unanswered", "/rollout/never_answered", 0.0),
        (
            "heal_both_200_ms",
            "/heals/worst_ms_from_first_frame",
            200.0,
        ),
        ("created_1000_ms", "/created/worst_ms", 1_000.0),
        ("memory_12_mib", "/memory/rss_mib", 12.0),
        ("quiet_no_writes", "/quiet/writes_per_hour", 0.0),
    ] {
        if let Some(found) = run.pointer(place).and_then(Value::as_f64) {
            goals[goal] = (found <= most).into();
        }
    }
    goals
}
