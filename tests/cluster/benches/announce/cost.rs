//! What speakers cost when nothing happens.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};

use crate::town::{NAMESPACE, NODES, SHOP, SPEAKER, Town, dual};

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(60);

/// The process of the speaker on a node.
pub(crate) fn speaker(town: &Town, node: &str) -> u32 {
    town.until("one speaker runs", || {
        match town.lab.processes(node, SPEAKER).unwrap()[..] {
            [pid] => Ok(pid),
            ref other => Err(format!("{other:?}")),
        }
    })
}

/// A figure of /proc in KiB.
fn kib(pid: u32, file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Seconds of CPU that a process has used.
pub(crate) fn cpu(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> f64 { fields.next().unwrap().parse().unwrap() };
    (ticks() + ticks()) / 100.0 // USER_HZ is 100 on every architecture that we build for
}

/// Writes of the API server's log while nothing happens, and the CPU of a speaker meanwhile.
pub(crate) fn quiet(town: &mut Town) -> Value {
    let addresses = town.serve("quiet", &json!({}));
    for ip in &addresses {
        town.owner(ip);
    }
    // The last events of what came before are written with a delay.
    thread::sleep(Duration::from_secs(10));
    let before = town.lab.plane().audit().unwrap().len();
    let used: Vec<f64> = NODES.iter().map(|node| cpu(speaker(town, node))).collect();
    thread::sleep(QUIET);
    let lines = town.lab.plane().audit().unwrap();
    let ours = |line: &&cluster::AuditLine| {
        let user = format!("system:serviceaccount:{NAMESPACE}:");
        line.user.username.starts_with(&user) && line.is_write()
    };
    let all = lines.iter().skip(before).filter(ours);
    let (leases, writes): (Vec<_>, Vec<_>) = all.partition(|line| line.resource() == "leases");
    let per_hour = 3_600.0 / QUIET.as_secs_f64();
    let shares = NODES.iter().zip(used);
    let shares: Vec<f64> = shares
        .map(|(node, used)| (cpu(speaker(town, node)) - used) / QUIET.as_secs_f64() * 100.0)
        .collect();
    json!({
        "writes_per_hour": writes.len() as f64 * per_hour,
        "lease_writes_of_the_controller_per_hour": leases.len() as f64 * per_hour,
        "cpu_percent_of_each_speaker": shares,
    })
}

/// A speaker that owns as many addresses: all others are cordoned.
pub(crate) fn memory(town: &mut Town, count: usize) -> Value {
    let [last, others @ ..] = NODES;
    for node in others {
        town.kubectl(&["cordon", node]);
    }
    let pause = Duration::from_secs(2);
    let few = speaker(town, last);
    thread::sleep(pause);
    let before = kib(few, "status", "VmRSS:");
    let services: Vec<Value> = (0..count)
        .map(|n| {
            let spec = json!({"ipFamilyPolicy": "SingleStack"});
            let mut service = dual(&format!("many-{n:04}"), &spec);
            service["metadata"]["annotations"] = json!({"portolan.dev/address-pool": "far"});
            service
        })
        .collect();
    town.apply(&json!({"apiVersion": "v1", "kind": "List", "items": services}));
    town.until("it owns all", || {
        let metrics = town.metrics(last)?;
        let owned = metrics["portolan_speaker_owned_addresses"];
        if owned >= count as f64 {
            Ok(())
        } else {
            Err(owned.to_string())
        }
    });
    thread::sleep(pause);
    let pid = speaker(town, last);
    let mib = |kib: f64| (kib / 1024.0 * 10.0).round() / 10.0;
    let told = json!({
        "addresses": count,
        "rss_mib_without": mib(before),
        "rss_mib": mib(kib(pid, "status", "VmRSS:")),
        "rss_anonymous_mib": mib(kib(pid, "status", "RssAnon:")),
        "peak_rss_mib": mib(kib(pid, "status", "VmHWM:")),
        "pss_mib": mib(kib(pid, "smaps_rollup", "Pss:")),
    });
    for node in others {
        town.kubectl(&["uncordon", node]);
    }
    town.kubectl(&["-n", SHOP, "delete", "services", "--all", "--wait=false"]);
    told
}
