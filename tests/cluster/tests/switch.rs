//! The lab's faults do what they say, seen by a prober that asks kernels for their own addresses.

#![cfg(test)]
#[path = "speaker/watch.rs"]
mod watch;

mod lab {
    use std::{collections::BTreeSet, thread, time::Duration};

    use cluster::{Lab, LabOptions, lab::Signal};

    use super::watch::{self, Watch, now};

    /// Node 1, the control plane, and a host that we add.
    const ADDRESSES: [&str; 6] = [
        "10.200.0.11",
        "fd00:200::b",
        "10.200.0.1",
        "fd00:200::1",
        "10.200.0.102",
        "fd00:200::66",
    ];

    /// Who of them answers within half a second: the numbers of the hosts.
    fn answers(lab: &Lab) -> BTreeSet<&'static str> {
        let addresses = ADDRESSES.map(str::to_owned);
        let prober = lab.on("watcher", &watch::program());
        let watch = Watch::start(prober, watch::EVERY, &addresses);
        thread::sleep(Duration::from_millis(500));
        let end = now();
        let record = watch.end();
        let both = |v4: &str, v6: &str| {
            let late = |ip: &str| record.answered(ip, end - 300.0, end).len() == 1;
            assert_eq!(late(v4), late(v6), "{v4} and {v6}");
            late(v4)
        };
        let hosts = ["node1", "plane", "other"];
        let pairs = ADDRESSES.chunks(2).zip(hosts);
        pairs
            .filter(|(pair, _)| both(pair[0], pair[1]))
            .map(|(_, host)| host)
            .collect()
    }

    fn set(hosts: &[&'static str]) -> BTreeSet<&'static str> {
        hosts.iter().copied().collect()
    }

    #[test]
    #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
    fn cables_switches_and_interfaces_fail_as_told() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = LabOptions {
            nodes: 1,
            ..LabOptions::default()
        };
        let lab = runtime.block_on(Lab::start(options)).unwrap();
        let host = |name: &str, v4: &str, v6: &str| {
            let addresses = [v4, v6].map(|ip| ip.parse().unwrap());
            lab.add_host(name, &addresses).unwrap();
        };
        host("watcher", "10.200.0.101", "fd00:200::65");
        host("other", "10.200.0.102", "fd00:200::66");
        let all = set(&["node1", "plane", "other"]);
        assert_eq!(answers(&lab), all);

        lab.unplug("node1").unwrap();
        assert_eq!(answers(&lab), set(&["plane", "other"]));
        lab.plug("node1").unwrap();
        lab.cut("other").unwrap();
        assert_eq!(answers(&lab), set(&["plane", "node1"]));
        lab.mend("other").unwrap();
        assert_eq!(answers(&lab), all);

        lab.partition(&[&["watcher", "node1"], &["other", "plane"]])
            .unwrap();
        assert_eq!(answers(&lab), set(&["node1"]));
        // Whoever is on no side is on both.
        lab.partition(&[&["node1"], &["other", "plane"]]).unwrap();
        assert_eq!(answers(&lab), all);
        lab.heal().unwrap();
        assert_eq!(answers(&lab), all);
        let crossed = lab.crossed(&["watcher"], &["node1", "other"]).unwrap();
        let ago = crossed.expect("the prober's frames crossed");
        assert!(ago < Duration::from_secs(30), "{ago:?}");
        assert_eq!(lab.crossed(&["client"], &["nobody"]).unwrap(), None);

        lab.rename_interface("node1", "eth0", "lan0").unwrap();
        assert_eq!(answers(&lab), all);
        let before = lab.mac("node1", "lan0").unwrap();
        lab.rename_interface("node1", "lan0", "eth0").unwrap();
        lab.remove_interface("node1").unwrap();
        assert_eq!(answers(&lab), set(&["plane", "other"]));
        lab.add_interface("node1").unwrap();
        assert_ne!(lab.mac("node1", "eth0").unwrap(), before);
        assert_eq!(answers(&lab), all);
        lab.remove_host("other").unwrap();
        assert_eq!(answers(&lab), set(&["node1", "plane"]));

        assert_eq!(lab.signal("node1", "nobody", Signal::Kill).unwrap(), 0);
    }
}
