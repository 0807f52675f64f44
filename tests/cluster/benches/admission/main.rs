//! What it costs to have Services' numbers chosen while they are created: the shipped program as
//! processes of its own beside a real kube-apiserver that asks them.
//!
//! `cargo bench -p cluster --bench admission -- [--services 500] [--only rate,latency,writes,churn]`
//! prints one JSON object. Needs the programs of `cargo xtask cluster build`; `PORTOLAN_BIN` names
//! another `portolan` than the release build.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a broken assumption must end the run"
)]

mod churn;
mod load;
mod tap;
mod town;

use std::path::Path;

use serde_json::{Value, json};
use tests::program;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let mut pairs = arguments.windows(2);
        pairs.find(|two| two[0] == flag).map(|two| two[1].as_str())
    };
    let services: usize = value("--services").map_or(500, |count| count.parse().unwrap());
    let churn: usize = value("--churn").map_or(10_000, |count| count.parse().unwrap());
    let only = value("--only");
    let wanted = |part: &str| only.is_none_or(|only| only.split(',').any(|one| one == part));
    let binary = program::release();

    let mut run = json!({});
    if wanted("rate") {
        run["rate"] = told("rate", load::rate(binary.clone(), services).await);
    }
    if wanted("latency") {
        run["latency"] = told("latency", load::latency(binary.clone()).await);
    }
    if wanted("writes") {
        run["writes"] = told("writes", load::writes(binary.clone()).await);
    }
    if wanted("churn") {
        run["churn"] = told("churn", churn::churn(binary.clone(), churn).await);
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let told = json!({
        "machine": {"cpus": cpus, "load": program::load()},
        "kubernetes": cluster::VERSION,
        "program": built(&binary),
        "goals_met": goals(&run),
        "run": run,
    });
    println!("{}", serde_json::to_string_pretty(&told).unwrap());
}

fn told(part: &str, figures: Value) -> Value {
    eprintln!("{part}: {figures}");
    figures
}

/// With which profile, by its folder.
fn built(binary: &Path) -> Value {
    let folder = binary.parent().and_then(|folder| folder.file_name());
    folder.map_or(Value::Null, |name| name.to_string_lossy().into())
}

/// What issue 7 asks for; what did not run is missing.
fn goals(run: &Value) -> Value {
    let mut goals = json!({});
    for (goal, place, least, most) in [
        ("rate_at_least_0.85", "/rate/ratio", 0.85, f64::MAX),
        ("p99_at_most_10_ms", "/latency/admission/p99_ms", 0.0, 10.0),
        (
            "ledger_writes_at_most_0.2",
            "/writes/per_creation",
            0.0,
            0.2,
        ),
        ("no_number_twice", "/churn/doubles", 0.0, 0.0),
        ("no_claim_of_nobody", "/churn/leaked", 0.0, 0.0),
    ] {
        if let Some(found) = run.pointer(place).and_then(Value::as_f64) {
            goals[goal] = (least..=most).contains(&found).into();
        }
    }
    goals
}
