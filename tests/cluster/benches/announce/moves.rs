//! How long nobody, or two, answer.

use std::{thread, time::Duration};

use cluster::lab::Signal;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    town::{SHOP, SPEAKER, Town, dual},
    watch::{PATIENCE, Record, Watch, now},
};

/// Longer than it takes to be found dead.
const WHILE: Duration = Duration::from_millis(1_800);

/// Median and worst, and all of them, in milliseconds.
fn spread(mut all: Vec<f64>) -> Value {
    all.sort_by(f64::total_cmp);
    let rounded: Vec<f64> = all.iter().map(|ms| ms.round()).collect();
    json!({
        "count": all.len(),
        "median_ms": rounded.get(all.len() / 2),
        "worst_ms": rounded.last(),
        "all_ms": rounded,
    })
}

/// From the request that creates a Service until its address answers, for both families the later.
pub(crate) fn created(town: &mut Town, count: usize) -> Value {
    let client = town.runtime.block_on(town.lab.plane().client()).unwrap();
    let services: Api<Service> = Api::namespaced(client, SHOP);
    let mut all = Vec::new();
    for n in 0..count {
        let addresses = [
            format!("10.200.0.{}", 140 + n),
            format!("fd00:200::1:{}", 1 + n),
        ];
        let mut service = dual(&format!("created-{n}"), &json!({}));
        service["metadata"]["annotations"] = json!({"portolan.dev/addresses": addresses.join(",")});
        let service: Service = serde_json::from_value(service).unwrap();
        let watch = town.watch(&addresses);
        let begun = now();
        let parameters = PostParams::default();
        let create = services.create(&parameters, &service);
        town.runtime.block_on(create).unwrap();
        for ip in &addresses {
            town.owner(ip);
        }
        let record = watch.end();
        let first = |ip: &String| record.of(ip).next().unwrap().at - begun;
        all.push(addresses.iter().map(first).fold(0.0, f64::max));
    }
    spread(all)
}

/// From the last answer of the one that crashed until another's first, for both families the longer.
pub(crate) fn crashes(town: &mut Town, count: usize) -> Value {
    let addresses = town.serve("crash", &json!({}));
    let (mut all, mut by, mut after) = (Vec::new(), json!({}), 0.0_f64);
    let kinds = ["unplugged", "killed", "stopped", "cut", "killed", "stopped"];
    for kind in kinds.into_iter().cycle().take(count) {
        town.calm();
        let owner = town.owner(&addresses[0]);
        let mac = town.mac(owner);
        let watch = town.watch(&addresses);
        // At another moment of the peers' probes each time.
        thread::sleep(Duration::from_millis(300 + (all.len() as u64 * 37) % 250));
        match kind {
            "unplugged" => town.lab.unplug(owner).unwrap(),
            "cut" => town.lab.cut(owner).unwrap(),
            "killed" => drop(town.lab.signal(owner, SPEAKER, Signal::Kill).unwrap()),
            _ => drop(town.lab.signal(owner, SPEAKER, Signal::Stop).unwrap()),
        }
        thread::sleep(WHILE);
        let back = now();
        match kind {
            "unplugged" => town.lab.plug(owner).unwrap(),
            "cut" => town.lab.mend(owner).unwrap(),
            "killed" => {}
            _ => drop(town.lab.signal(owner, SPEAKER, Signal::Continue).unwrap()),
        }
        thread::sleep(Duration::from_millis(1_000));
        let record = watch.end();
        let took = |ip: &String| record.taken_over(ip, &mac).unwrap_or(f64::INFINITY);
        let took = addresses.iter().map(took).fold(0.0, f64::max);
        eprintln!("{kind} {owner}: {took:.0} ms");
        all.push(took);
        if by[kind].is_null() {
            by[kind] = json!([]);
        }
        by[kind].as_array_mut().unwrap().push(took.round().into());
        let both = |ip: &String| {
            record
                .both_until(ip, back)
                .map_or(0.0, |until| until - back)
        };
        after = after.max(addresses.iter().map(both).fold(0.0, f64::max));
    }
    let mut told = spread(all);
    told["by"] = by;
    told["both_answering_after_return_ms"] = after.round().into();
    told
}

/// A watch, and the two moments between which it counts.
type Watched = (Record, f64, f64);

/// What became of all questions.
fn answered(records: &[Watched], addresses: &[String]) -> Value {
    let (mut asked, mut never, mut slowest) = (0, Vec::new(), 0.0_f64);
    let (mut silence, mut seconds) = (0.0_f64, 0.0);
    for (record, from, to) in records {
        seconds += (to - from) / 1e3;
        for ip in addresses {
            silence = silence.max(record.silence(ip, *from, *to));
            for question in record.questions(ip, *from, *to) {
                asked += 1;
                match question.answered_after {
                    Some(after) => slowest = slowest.max(after),
                    None => never.push(format!("{ip} after {:.0} ms", question.at - from)),
                }
            }
        }
    }
    if !never.is_empty() {
        eprintln!("never answered: {never:?}");
    }
    json!({
        "asked": asked,
        "never_answered": never.len(),
        "slowest_answer_ms": slowest.round(),
        "longest_silence_ms": silence.round(),
        "seconds": seconds.round(),
    })
}

/// The same addresses watched for as long while nothing moves.
fn still(town: &Town, addresses: &[String], milliseconds: f64) -> Watched {
    town.calm();
    let watch = town.watch(addresses);
    let from = now();
    thread::sleep(Duration::from_secs_f64(milliseconds / 1e3));
    ended(watch, from)
}

/// Ends a watch, once it is certain what became of all that was asked until now.
fn ended(watch: Watch, from: f64) -> Watched {
    let to = now();
    thread::sleep(PATIENCE);
    (watch.end(), from, to)
}

/// What moves cost, beside what this machine does to as many questions when nothing moves.
fn beside(moving: &[Watched], still: &[Watched], addresses: &[String]) -> Value {
    let mut told = answered(moving, addresses);
    told["beside_nothing_moving"] = answered(still, addresses);
    told
}

/// Cordons whoever owns, again and again.
pub(crate) fn planned(town: &mut Town, count: usize) -> Value {
    let addresses = town.serve("planned", &json!({}));
    let (mut moving, mut quiet) = (Vec::new(), Vec::new());
    for _ in 0..count {
        town.calm();
        let owner = town.owner(&addresses[0]);
        let watch = town.watch(&addresses);
        let from = now();
        town.kubectl(&["cordon", owner]);
        for ip in &addresses {
            town.until("another answers", || match town.owner(ip) {
                node if node == owner => Err(node.to_owned()),
                _ => Ok(()),
            });
        }
        let moved = ended(watch, from);
        town.kubectl(&["uncordon", owner]);
        thread::sleep(Duration::from_millis(500));
        quiet.push(still(town, &addresses, moved.2 - from));
        moving.push(moved);
    }
    let mut told = beside(&moving, &quiet, &addresses);
    told["moves"] = count.into();
    told
}

/// A rolling update of all speakers.
pub(crate) fn rollout(town: &mut Town) -> Value {
    let addresses = town.serve("rollout", &json!({}));
    let loads: Vec<_> = addresses.iter().map(|ip| town.load(ip)).collect();
    let watch = town.watch(&addresses);
    let from = now();
    town.roll_out();
    let moving = ended(watch, from);
    let quiet = still(town, &addresses, moving.2 - from);
    let mut told = beside(&[moving], &[quiet], &addresses);
    let mut requests = (0, 0);
    for load in loads {
        let asked = load.end();
        let failed = asked.iter().filter(|one| !one.is_answered()).count();
        requests = (requests.0 + asked.len(), requests.1 + failed);
    }
    told["requests"] = requests.0.into();
    told["requests_failed"] = requests.1.into();
    told
}

/// Both answering after a partition heals: from the first frame that crosses.
pub(crate) fn heals(town: &mut Town, count: usize) -> Value {
    let addresses = town.serve("heal", &json!({}));
    let (mut first_frame, mut heal) = (Vec::new(), Vec::new());
    for _ in 0..count {
        town.calm();
        let owner = town.owner(&addresses[0]);
        let others = town.others(owner);
        let watch = town.watch(&addresses);
        town.lab.partition(&[&[owner], &others]).unwrap();
        thread::sleep(Duration::from_millis(2_500));
        town.lab.heal().unwrap();
        let healed = now();
        // Less than the rejoin delay, after which addresses may move back.
        thread::sleep(Duration::from_millis(1_500));
        let ago = town.lab.crossed(&[owner], &others).unwrap().unwrap();
        let crossed = now() - ago.as_secs_f64() * 1e3;
        let record = watch.end();
        let both = |ip: &String| record.both_until(ip, healed).unwrap_or(healed);
        let both = addresses.iter().map(both).fold(0.0, f64::max);
        first_frame.push((both - crossed).max(0.0));
        heal.push(both - healed);
    }
    let (first_frame, heal) = (spread(first_frame), spread(heal));
    json!({
        "worst_ms_from_first_frame": first_frame["worst_ms"],
        "from_first_frame": first_frame, "from_heal": heal,
    })
}
