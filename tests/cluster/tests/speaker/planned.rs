//! Moves that are wanted: nothing may be lost by them.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    town::{Load, Request, Town},
    watch::{PATIENCE, Record, now},
};

/// Every question was answered. An answer may be late on a busy machine, and none is lost: each has
/// [`PATIENCE`] of its own.
fn assert_all_answered(town: &Town, record: &Record, addresses: &[String], from: f64, to: f64) {
    for ip in addresses {
        let (mut asked, mut slowest, mut unanswered) = (0, 0.0_f64, Vec::new());
        for question in record.questions(ip, from, to) {
            asked += 1;
            match question.answered_after {
                Some(after) => slowest = slowest.max(after),
                None => unanswered.push(format!("{:.0}", question.at - from)),
            }
        }
        let silence = record.silence(ip, from, to);
        println!(
            "{ip}: {asked} questions, {} without an answer, the slowest after {slowest:.0} ms; \
             at most {silence:.0} ms without a word",
            unanswered.len()
        );
        let story = || record.story(ip, from, |mac| town.node_of(mac));
        assert!(
            asked > 10 && unanswered.is_empty(),
            "{ip}: of {asked} these had no answer, in ms: {unanswered:?}; who answered: {:?}\n{}",
            story(),
            town.logs()
        );
    }
}

/// Every request was answered, but for one whose connection was open in the very moment of a move: the
/// next node does not know that connection and the pod behind it resets it, as wherever an address
/// moves on layer 2. It is known at once, and the next request is answered.
fn assert_requests(record: &Record, ip: &str, load: Load, least: usize) {
    let requests = load.end();
    let failed = requests.iter().enumerate();
    let failed: Vec<_> = failed.filter(|(_, one)| !one.is_answered()).collect();
    println!("{ip}: {} requests, {} failed", requests.len(), failed.len());
    for (place, one) in &failed {
        let next = requests.get(place + 1);
        let was_cut = one.told.contains("reset by peer") && record.moved(ip, one.began, one.ended);
        assert!(
            was_cut && next.is_none_or(Request::is_answered),
            "{ip}: {one:?}, then {next:?}"
        );
    }
    assert!(requests.len() > least, "{ip}: {}", requests.len());
}

pub(crate) fn cordon_moves_addresses_without_a_lost_request(town: &mut Town) {
    let addresses = town.serve("cordon", &json!({}));
    let loads: Vec<_> = addresses.iter().map(|ip| town.load(ip)).collect();
    let watch = town.watch(&addresses);
    let from = now();
    thread::sleep(Duration::from_millis(200));
    let owner = town.owner(&addresses[0]);
    town.kubectl(&["cordon", owner]);
    for ip in &addresses {
        town.until("another answers", || match town.owner(ip) {
            node if node == owner => Err(node.to_owned()),
            _ => Ok(()),
        });
    }
    let to = now();
    thread::sleep(PATIENCE);
    let record = watch.end();
    assert_all_answered(town, &record, &addresses, from, to);
    for (ip, load) in addresses.iter().zip(loads) {
        assert_requests(&record, ip, load, 10);
    }
    // Last choice: when there is no other, it answers all the same.
    let others = town.others(owner);
    for node in &others {
        town.kubectl(&["cordon", node]);
    }
    for ip in &addresses {
        town.owner(ip);
    }
    for node in super::town::NODES {
        town.kubectl(&["uncordon", node]);
    }
}

pub(crate) fn an_update_of_the_speakers_loses_no_request(town: &mut Town) {
    let addresses = town.serve("update", &json!({}));
    let loads: Vec<_> = addresses.iter().map(|ip| town.load(ip)).collect();
    let watch = town.watch(&addresses);
    let from = now();
    town.roll_out();
    let to = now();
    thread::sleep(PATIENCE);
    let record = watch.end();
    assert_all_answered(town, &record, &addresses, from, to);
    for (ip, load) in addresses.iter().zip(loads) {
        assert_requests(&record, ip, load, 50);
    }
}

pub(crate) fn a_deleted_node_loses_its_addresses(town: &mut Town) {
    let addresses = town.serve("deleted", &json!({}));
    let owner = town.owner(&addresses[0]);
    let watch = town.watch(&addresses);
    let from = now();
    town.kubectl(&["delete", "node", owner]);
    for ip in &addresses {
        town.until("another answers", || match town.owner(ip) {
            node if node == owner => Err(node.to_owned()),
            _ => Ok(()),
        });
    }
    let to = now();
    thread::sleep(PATIENCE);
    let record = watch.end();
    assert_all_answered(town, &record, &addresses, from, to);
    // What belonged to the node goes with it.
    town.until("its objects are gone", || {
        let left = town.kubectl(&["get", "speakers,speakerstatuses", "-o", "name"]);
        let ours = left.lines().filter(|line| line.ends_with(owner)).count();
        if ours == 0 { Ok(()) } else { Err(left) }
    });
    let Town { runtime, lab, .. } = town;
    runtime.block_on(lab.revive(owner)).unwrap();
}
