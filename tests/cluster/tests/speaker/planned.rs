//! Moves that are wanted: nothing may be lost by them.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    town::Town,
    watch::{Record, now},
};

/// A few questions may wait for their turn on a busy machine, but none until somebody is found dead
/// (350 ms at least). That no request is lost is asserted besides.
const SILENCE: f64 = 250.0;

fn assert_never_silent(record: &Record, addresses: &[String], from: f64, to: f64) {
    for ip in addresses {
        let silence = record.silence(ip, from, to);
        println!(
            "{ip}: at most {silence:.0} ms, {} late answers",
            record.unanswered(ip)
        );
        assert!(silence < SILENCE, "{ip}: {silence} ms of silence");
    }
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
    thread::sleep(Duration::from_millis(200));
    let record = watch.end();
    assert_never_silent(&record, &addresses, from, now() - 300.0);
    for load in loads {
        let (asked, failed) = load.end();
        assert!(failed.is_empty() && asked > 10, "of {asked}: {failed:#?}");
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
    thread::sleep(Duration::from_millis(300));
    let record = watch.end();
    assert_never_silent(&record, &addresses, from, now() - 300.0);
    for load in loads {
        let (asked, failed) = load.end();
        println!("{asked} requests, {} failed", failed.len());
        assert!(failed.is_empty() && asked > 50, "of {asked}: {failed:#?}");
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
    let record = watch.end();
    assert_never_silent(&record, &addresses, from, now() - 200.0);
    // What belonged to the node goes with it.
    town.until("its objects are gone", || {
        let left = town.kubectl(&["get", "speakers,speakerstatuses", "-o", "name"]);
        let ours = left.lines().filter(|line| line.ends_with(owner)).count();
        if ours == 0 { Ok(()) } else { Err(left) }
    });
    let Town { runtime, lab, .. } = town;
    runtime.block_on(lab.revive(owner)).unwrap();
}
