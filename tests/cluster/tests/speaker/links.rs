//! Interfaces that change under the speaker.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    town::{PROMISED, Town},
    watch::now,
};

pub(crate) fn an_interface_may_be_renamed(town: &mut Town) {
    let addresses = town.serve("renamed", &json!({}));
    let owner = town.owner(&addresses[0]);
    for (from, to) in [("eth0", "lan0"), ("lan0", "eth0")] {
        let watch = town.watch(&addresses);
        let begin = now();
        town.lab.rename_interface(owner, from, to).unwrap();
        thread::sleep(Duration::from_millis(1_000));
        let end = now();
        let record = watch.end();
        for ip in &addresses {
            let silence = record.silence(ip, begin, end);
            assert!(
                silence < 300.0 + record.stalled,
                "{ip}: {silence} ms of silence"
            );
        }
        if to == "lan0" {
            town.until("the status names the interface", || {
                let node = town.owner(&addresses[0]);
                let status = town.get("default", &format!("speakerstatus/{node}"));
                let wanted = if node == owner { "lan0" } else { "eth0" };
                match status["spec"]["announced"][0]["interfaces"] == json!([wanted]) {
                    true => Ok(()),
                    false => Err(status.to_string()),
                }
            });
        }
    }
    for ip in &addresses {
        town.curl(ip, "/hostname");
    }
}

pub(crate) fn an_interface_that_is_gone_gives_its_addresses_away_and_comes_back(town: &mut Town) {
    let addresses = town.serve("gone", &json!({}));
    let owner = town.owner(&addresses[0]);
    let old = town.mac(owner);
    let watch = town.watch(&addresses);
    town.lab.remove_interface(owner).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    town.lab.add_interface(owner).unwrap();
    let record = watch.end();
    for ip in &addresses {
        let took = record.taken_over(ip, &old);
        println!("{ip}: {took:?} ms");
        assert!(
            took.is_some_and(|took| took < PROMISED + record.stalled),
            "{ip}: {took:?} ms"
        );
    }
    town.calm();
    // It answers again, by its new hardware address, when no other can.
    for node in town.others(owner) {
        town.lab.unplug(node).unwrap();
    }
    for ip in &addresses {
        town.until("it answers", || match town.owner(ip) {
            node if node == owner => Ok(()),
            node => Err(node.to_owned()),
        });
    }
    assert_ne!(town.mac(owner), old);
}
