//! Nodes and speakers that end without a word.

use std::{thread, time::Duration};

use cluster::lab::Signal;
use serde_json::json;

use super::{
    town::{NODES, PROMISED, REJOIN, SHOP, SPEAKER, Town, dual, within},
    watch::{Record, now},
};

/// How long both may answer once frames cross again, and a margin for a machine that is busy.
const BOTH: f64 = 200.0 + 100.0;
/// Longer than it takes to be found dead and to be back.
const WHILE: Duration = Duration::from_millis(1_500);

/// Another has answered for each address within what is promised.
fn assert_moved(town: &Town, record: &Record, addresses: &[String], from: &str) {
    let mac = town.mac(from);
    for ip in addresses {
        let took = record.taken_over(ip, &mac);
        println!("{ip} from {from}: {took:?} ms");
        let story = record.story(ip, 0.0, |mac| town.node_of(mac));
        assert!(
            took.is_some_and(|took| took < PROMISED + record.stalled),
            "{ip}: {took:?} ms: {story:?}"
        );
    }
}

pub(crate) fn a_node_that_is_cut_off_loses_its_addresses_within_a_second(town: &mut Town) {
    let addresses = town.serve("cut", &json!({}));
    for silently in [false, true] {
        let owner = town.owner(&addresses[0]);
        let watch = town.watch(&addresses);
        match silently {
            false => town.lab.unplug(owner).unwrap(),
            true => town.lab.cut(owner).unwrap(),
        }
        thread::sleep(WHILE);
        let back = now();
        match silently {
            false => town.lab.plug(owner).unwrap(),
            true => town.lab.mend(owner).unwrap(),
        }
        thread::sleep(WHILE);
        let record = watch.end();
        assert_moved(town, &record, &addresses, owner);
        // Whoever sees its cable come back asks before it speaks. Who never saw it go has to hear a
        // peer first, and then yields: what it lost it does not take back.
        for ip in &addresses {
            let after = record.story(ip, back, |mac| town.node_of(mac));
            let both = record
                .both_until(ip, back)
                .map_or(0.0, |until| until - back);
            let most = if silently { BOTH + record.stalled } else { 0.0 };
            assert!(
                both <= most,
                "{ip} lost by {owner}: {after:?}\n{}",
                town.logs()
            );
            assert_ne!(town.node_of(&record.last(ip).mac), owner, "{ip}: {after:?}");
        }
        town.calm();
    }
    for ip in &addresses {
        town.curl(ip, "/hostname");
    }
}

pub(crate) fn a_killed_speaker_loses_its_addresses_within_a_second(town: &mut Town) {
    let addresses = town.serve("killed", &json!({}));
    let owner = town.owner(&addresses[0]);
    let watch = town.watch(&addresses);
    assert_eq!(town.lab.signal(owner, SPEAKER, Signal::Kill).unwrap(), 1);
    // The kubelet starts it again; until it has lived for a while it takes nothing back.
    thread::sleep(REJOIN.saturating_sub(Duration::from_millis(500)));
    let record = watch.end();
    assert_moved(town, &record, &addresses, owner);
    for ip in &addresses {
        let owners = record.answered(ip, 0.0, f64::INFINITY);
        assert_eq!(owners.len(), 2, "{owners:?}");
    }
}

pub(crate) fn a_stopped_speaker_loses_its_addresses_and_says_nothing_when_it_goes_on(
    town: &mut Town,
) {
    let addresses = town.serve("stopped", &json!({}));
    let owner = town.owner(&addresses[0]);
    let mac = town.mac(owner);
    let watch = town.watch(&addresses);
    assert_eq!(town.lab.signal(owner, SPEAKER, Signal::Stop).unwrap(), 1);
    thread::sleep(WHILE);
    let resumed = now();
    town.lab.signal(owner, SPEAKER, Signal::Continue).unwrap();
    thread::sleep(WHILE);
    let record = watch.end();
    assert_moved(town, &record, &addresses, owner);
    // Not even the questions that waited for it.
    for ip in &addresses {
        let mut said = record.of(ip).filter(|seen| seen.at >= resumed);
        assert!(
            said.all(|seen| seen.mac != mac),
            "{ip}: it spoke for another's address"
        );
    }
}

pub(crate) fn hundreds_of_addresses_move_at_once(town: &mut Town) {
    const COUNT: usize = 300;
    let ip = |n: usize| format!("10.201.{}.{}", 1 + n / 200, 1 + n % 200);
    let services: Vec<_> = (0..COUNT)
        .map(|n| {
            let mut service = dual(
                &format!("many-{n:03}"),
                &json!({"ipFamilyPolicy": "SingleStack"}),
            );
            service["metadata"]["annotations"] = json!({
                "portolan.dev/address-pool": "far", "portolan.dev/addresses": ip(n),
            });
            service
        })
        .collect();
    town.apply(&json!({"apiVersion": "v1", "kind": "List", "items": services}));
    let addresses: Vec<String> = (0..COUNT).map(ip).collect();
    let slowly = Duration::from_millis(100);
    let owners = town.until("all are answered", || {
        let watch = town.watch_every(slowly, &addresses);
        thread::sleep(Duration::from_millis(350));
        let record = watch.end();
        let mut owners = std::collections::BTreeMap::<&str, usize>::new();
        let mut missing = 0;
        for ip in &addresses {
            match record.of(ip).next_back() {
                Some(seen) => *owners.entry(town.node_of(&seen.mac)).or_default() += 1,
                None => missing += 1,
            }
        }
        match missing {
            0 => Ok(owners),
            _ => Err(format!("{missing} are silent")),
        }
    });
    println!("{owners:?}");
    for node in NODES {
        let share = owners.get(node).copied().unwrap_or_default();
        assert!(share * 5 > COUNT, "not evenly spread: {owners:?}");
    }

    let dead = NODES[0];
    let mac = town.mac(dead);
    let watch = town.watch_every(slowly, &addresses);
    thread::sleep(Duration::from_millis(300));
    town.lab.cut(dead).unwrap();
    thread::sleep(Duration::from_millis(2_500));
    let record = watch.end();
    let (mut moved, mut worst) = (0, 0.0_f64);
    for ip in &addresses {
        let mut by: Vec<&str> = record.of(ip).map(|seen| seen.mac.as_str()).collect();
        by.dedup();
        match by.first() {
            Some(first) if *first == mac => {
                moved += 1;
                worst = worst.max(record.taken_over(ip, &mac).unwrap_or(f64::INFINITY));
            }
            // What need not move does not move.
            _ => assert_eq!(by.len(), 1, "{ip}: {by:?}"),
        }
    }
    println!("{moved} moved within {worst:.0} ms");
    assert_eq!(Some(&moved), owners.get(dead));
    assert!(
        worst < PROMISED + 100.0 + record.stalled,
        "{worst} ms, asked every 100 ms"
    );
    town.lab.mend(dead).unwrap();
}

pub(crate) fn a_flapping_node_takes_nothing_back(town: &mut Town) {
    let addresses = town.serve("flap", &json!({}));
    let owner = town.owner(&addresses[0]);
    let watch = town.watch(&addresses);
    let mut back = f64::INFINITY;
    for _ in 0..4 {
        town.lab.unplug(owner).unwrap();
        thread::sleep(Duration::from_millis(900));
        back = back.min(now());
        town.lab.plug(owner).unwrap();
        thread::sleep(Duration::from_millis(900));
    }
    let record = watch.end();
    assert_moved(town, &record, &addresses, owner);
    let mac = town.mac(owner);
    for ip in &addresses {
        let story = record.story(ip, 0.0, |mac| town.node_of(mac));
        println!("{story:?}");
        // Whoever sees its cable come back asks before it speaks.
        let after = record.answered(ip, back, f64::INFINITY);
        assert_eq!(after.len(), 1, "{ip} is answered by two: {story:?}");
        assert!(!after.contains_key(mac.as_str()), "{ip}: {story:?}");
    }
}

pub(crate) fn addresses_are_answered_and_fail_over_while_the_api_server_is_down(town: &mut Town) {
    let addresses = town.serve("down", &json!({}));
    town.lab.stop_api_server().unwrap();
    let owner = town.owner(&addresses[0]);
    let watch = town.watch(&addresses);
    let from = now();
    thread::sleep(Duration::from_secs(60));
    let before = now();
    town.lab.cut(owner).unwrap();
    thread::sleep(WHILE);
    let record = watch.end();
    for ip in &addresses {
        let silence = record.silence(ip, from, before);
        assert!(
            silence < 500.0 + record.stalled,
            "{ip}: {silence} ms of silence"
        );
    }
    assert_moved(town, &record, &addresses, owner);
    town.lab.mend(owner).unwrap();
    let Town { runtime, lab, .. } = town;
    runtime.block_on(lab.start_api_server()).unwrap();
    within("it takes part again", Duration::from_secs(30), || {
        town.metrics(owner).is_ok()
    });
    town.kubectl(&["-n", SHOP, "get", "services"]);
}
