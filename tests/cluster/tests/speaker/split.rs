//! Networks that fall apart and grow together, and machines that have no right to an address.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    town::{NODES, Town},
    watch::now,
};

/// Long enough for both sides to find the other dead.
const APART: Duration = Duration::from_millis(2_000);
/// How long both may answer once frames cross, and a margin for a machine that is busy.
const BOTH: f64 = 200.0 + 300.0;

// A client between both sides hears both: it is the network that is split.
pub(crate) fn after_a_partition_heals_one_side_falls_silent_at_once(town: &mut Town) {
    let addresses = town.serve("split", &json!({}));
    let owner = town.owner(&addresses[0]);
    let others = town.others(owner);
    let watch = town.watch(&addresses);
    town.lab.partition(&[&[owner], &others]).unwrap();
    thread::sleep(APART);
    let before = now();
    town.lab.heal().unwrap();
    let healed = now();
    thread::sleep(APART);
    let ago = town.lab.crossed(&[owner], &others).unwrap();
    let crossed = now() - ago.expect("frames cross").as_secs_f64() * 1e3;
    let record = watch.end();
    for ip in &addresses {
        let during = record.answered(ip, before - 1_000.0, before);
        assert_eq!(during.len(), 2, "each side has an owner: {during:?}");
        let both = record.both_until(ip, healed).unwrap_or(healed);
        let (since, heal) = (both - crossed, both - healed);
        println!(
            "{ip}: both until {since:.0} ms after the first frame, {heal:.0} ms after the heal"
        );
        assert!(
            since < BOTH + record.stalled,
            "{ip}: both answered for {since} ms"
        );
        // The larger side has kept it, and tells everybody again.
        let winner = town.node_of(&record.last(ip).mac);
        assert!(others.contains(&winner), "{winner}");
        let told = |seen: &&super::watch::Seen| seen.announcement && seen.at > healed;
        let mut told = record.of(ip).filter(told);
        assert!(told.any(|seen| town.node_of(&seen.mac) == winner), "{ip}");
    }
}

pub(crate) fn a_minority_goes_on_answering_its_own_clients(town: &mut Town) {
    let addresses = town.serve("minority", &json!({}));
    let owner = town.owner(&addresses[0]);
    let others = town.others(owner);
    let watch = town.watch(&addresses);
    let from = now();
    town.lab
        .partition(&[
            &[owner, "client", "watcher"],
            &[&others[..], &["plane"]].concat(),
        ])
        .unwrap();
    thread::sleep(APART);
    let to = now();
    let record = watch.end();
    let mac = town.mac(owner);
    for ip in &addresses {
        let silence = record.silence(ip, from, to);
        assert!(
            silence < 1_000.0 + record.stalled,
            "{ip}: {silence} ms of silence"
        );
        assert_eq!(record.last(ip).mac, mac);
    }
}

pub(crate) fn a_foreign_machine_with_the_address_is_told_of_and_defended_against(town: &mut Town) {
    let addresses = town.serve("foreign", &json!({}));
    let owner = town.owner(&addresses[0]);
    let own = town.mac(owner);
    let theirs: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    town.lab.add_host("stranger", &theirs).unwrap();
    let stranger = town.lab.mac("stranger", "eth0").unwrap();
    let watch = town.watch(&addresses);
    thread::sleep(Duration::from_millis(300));
    let claimed = now();
    // It says so, as a machine that has just been given the address does.
    let mut claim = town.lab.on("stranger", &super::watch::program());
    claim
        .args([
            "--interface",
            "eth0",
            "--every-ms",
            "0",
            "--claim-every-ms",
            "200",
        ])
        .args(["--claims", "10", "--seconds", "2.5"])
        .args(&addresses);
    town.run(&mut claim);
    let record = watch.end();
    for ip in &addresses {
        // Silent for a moment at most, to see whether it is one of the peers; then it goes on.
        let after = record
            .of(ip)
            .filter(|seen| seen.mac == own && seen.at > claimed);
        let mut times: Vec<f64> = after.map(|seen| seen.at).collect();
        times.insert(0, claimed);
        let pause = times
            .windows(2)
            .map(|two| two[1] - two[0])
            .fold(0.0, f64::max);
        assert!(
            times.len() > 10 && pause < 500.0 + record.stalled,
            "{ip}: silent for {pause} ms"
        );
        let mut said = record
            .of(ip)
            .filter(|seen| seen.mac == own && seen.at > claimed);
        assert!(said.any(|seen| seen.announcement), "{ip} is not defended");
        for node in town.others(owner) {
            let mac = town.mac(node);
            assert!(
                record.of(ip).all(|seen| seen.mac != mac),
                "{node} took {ip}"
            );
        }
    }
    town.until("the status of the node names the machine", || {
        let status = town.get("default", &format!("speakerstatus/{owner}"));
        let announced = status["spec"]["announced"].as_array().unwrap();
        let conflicts = addresses.iter().filter(|ip| {
            let ours = announced.iter().find(|entry| entry["ip"] == **ip);
            ours.is_some_and(|entry| entry["conflict"] == stranger)
        });
        match conflicts.count() == addresses.len() {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    town.lab.remove_host("stranger").unwrap();
    for node in NODES {
        assert!(town.metrics(node).is_ok());
    }
}
