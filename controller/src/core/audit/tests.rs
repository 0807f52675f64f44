#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use serde_json::json;

use super::*;

fn set(ranges: &[(u128, u128)]) -> RangeSet {
    RangeSet::new(ranges.iter().copied())
}

fn socket(protocol: Protocol, port: u16, state: SocketState) -> Socket {
    Socket {
        protocol,
        port,
        address: format!("0.0.0.0:{port}"),
        state,
        inode: 1,
        process: None,
    }
}

/// Takes 30000 to 60999 but for 30050 to 30099.
fn node(sockets: Vec<Socket>) -> Node {
    Node {
        ephemeral: set(&[(30000, 60999)]),
        reserved: set(&[(8080, 8080), (30050, 30099)]),
        sockets,
        warnings: Vec::new(),
    }
}

fn given(node_ports: &[(&str, u16)], health_check: Option<u16>) -> Given {
    let mut given = Given::default();
    let ports: Vec<_> = (node_ports.iter().enumerate())
        .map(|(at, (protocol, port))| {
            json!({"name": format!("p{at}"), "port": at + 1, "protocol": protocol, "nodePort": port})
        })
        .collect();
    let service = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "1"},
        "spec": {"type": "LoadBalancer", "ports": ports, "healthCheckNodePort": health_check},
    });
    given.service(&serde_json::from_value(service).unwrap());
    given
}

fn with_pool(mut given: Given, ports: &str, exclude: &[&str]) -> Given {
    let pool = json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
        "metadata": {"name": "p", "uid": "p", "resourceVersion": "1"},
        "spec": {"ports": [ports], "exclude": exclude},
    });
    given.node_port_pool(&serde_json::from_value(pool).unwrap());
    given
}

/// `WHAT PORTS PROTOCOLS OF` of each.
fn found(given: &Given, sockets: Vec<Socket>) -> Vec<String> {
    let report = audit(given, &node(sockets));
    let collisions = report.collisions.iter();
    collisions
        .map(|c| {
            format!(
                "{} {} {} {}",
                c.what.as_str(),
                c.ports,
                c.protocols.join(","),
                c.of
            )
        })
        .collect()
}

use Protocol::{Sctp, Tcp, Udp};
use SocketState::{Connected, Listening};

#[test]
fn each_port_is_compared_with_range_reservation_and_sockets() {
    type Row<'a> = (
        &'a [(&'a str, u16)],
        Option<u16>,
        Vec<Socket>,
        &'a [&'a str],
    );
    #[rustfmt::skip]
    let rows: Vec<(&str, Row<'_>)> = vec![
        ("below the range", (&[("TCP", 29999)], None, vec![], &[])),
        ("in the range", (&[("TCP", 30000)], None, vec![], &["Ephemeral 30000 TCP Service shop/web"])),
        ("reserved", (&[("TCP", 30050)], None, vec![], &[])),
        ("last of the range", (&[("UDP", 60999)], None, vec![], &["Ephemeral 60999 UDP Service shop/web"])),
        ("listener", (&[("TCP", 30050)], None, vec![socket(Tcp, 30050, Listening)], &["Listener 30050 TCP Service shop/web"])),
        ("listener of another protocol", (&[("TCP", 30050)], None, vec![socket(Udp, 30050, Listening), socket(Sctp, 30050, Listening)], &[])),
        ("SCTP", (&[("SCTP", 30050)], None, vec![socket(Sctp, 30050, Listening)], &["Listener 30050 SCTP Service shop/web"])),
        ("listener of another port", (&[("TCP", 30050)], None, vec![socket(Tcp, 30051, Listening)], &[])),
        ("outgoing connection", (&[("TCP", 30000)], None, vec![socket(Tcp, 30000, Connected)],
            &["Ephemeral 30000 TCP Service shop/web", "Connection 30000 TCP Service shop/web"])),
        ("health checks are answered by kube-proxy", (&[], Some(30050), vec![socket(Tcp, 30050, Listening), socket(Tcp, 30050, Connected)], &[])),
        ("health checks that kube-proxy has accepted in the range", (&[], Some(30001), vec![socket(Tcp, 30001, Listening), socket(Tcp, 30001, Connected)],
            &["Ephemeral 30001 TCP Service shop/web"])),
        ("health check port that is taken", (&[], Some(30001), vec![socket(Tcp, 30001, Connected)],
            &["Ephemeral 30001 TCP Service shop/web", "Connection 30001 TCP Service shop/web"])),
        ("health check port in the range", (&[], Some(30001), vec![], &["Ephemeral 30001 TCP Service shop/web"])),
        ("two protocols of one port", (&[("TCP", 30053), ("UDP", 30053)], None, vec![socket(Udp, 30053, Listening)], &["Listener 30053 UDP Service shop/web"])),
    ];
    for (name, (ports, health_check, sockets, expected)) in rows {
        assert_eq!(
            found(&given(ports, health_check), sockets),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_pool_is_compared_as_far_as_it_hands_out() {
    let pool = with_pool(
        given(&[("TCP", 30060)], None),
        "30040-30060",
        &["30045", "30058"],
    );
    let sockets = vec![
        socket(Tcp, 30055, Listening),
        socket(Tcp, 30056, Connected),
        // Excluded, held (told of the Service) and in the range that is a collision already.
        socket(Tcp, 30058, Listening),
        socket(Tcp, 30060, Listening),
        socket(Udp, 30041, Listening),
    ];
    let expected = [
        "Ephemeral 30040-30044,30046-30049  NodePortPool p",
        "Listener 30055 TCP NodePortPool p",
        "Listener 30060 TCP Service shop/web",
    ];
    assert_eq!(found(&pool, sockets), expected);
}

#[test]
fn the_cure_is_the_complete_setting() {
    let pool = with_pool(given(&[("TCP", 31544)], None), "30040-30060", &[]);
    let report = audit(&pool, &node(vec![]));
    let value = "8080,30040-30099,31544";
    assert_eq!(report.reserve.as_deref(), Some(value));
    assert_eq!(report.cures.len(), 1);
    assert!(report.cures[0].contains(value), "{:?}", report.cures);
    let cured = Node {
        reserved: proc::reserved(value).unwrap(),
        ..node(vec![])
    };
    let report = audit(&pool, &cured);
    assert!(report.is_clean());
    assert_eq!((report.reserve, report.cures), (None, vec![]));
}

#[test]
fn processes_are_named_where_they_are_known() {
    let mut named = socket(Tcp, 30050, Listening);
    named.process = Some("nginx (pid 4711)".to_owned());
    let sockets = vec![named.clone(), named, socket(Tcp, 30050, Listening)];
    let report = audit(&given(&[("TCP", 30050)], None), &node(sockets));
    let why = &report.collisions[0].why;
    let who = "nginx (pid 4711) listens on 0.0.0.0:30050, a process listens on 0.0.0.0:30050; ";
    assert!(why.starts_with(who), "{why}");
}

#[test]
fn settings_are_read_as_the_kernel_writes_them() {
    assert_eq!(
        proc::ephemeral("32768\t60999\n"),
        Ok(set(&[(32768, 60999)]))
    );
    for bad in ["", "1", "1 2 3", "9 1", "1 70000", "a b"] {
        assert!(proc::ephemeral(bad).is_err(), "{bad}");
    }
    assert_eq!(proc::reserved("\n"), Ok(set(&[])));
    assert_eq!(
        proc::reserved("8080,30000-30010\n"),
        Ok(set(&[(8080, 8080), (30000, 30010)]))
    );
    assert!(proc::reserved("a").is_err());
}

/// As on a machine with the bytes of an integer in this order.
fn word(bytes: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(bytes))
}

#[test]
fn sockets_are_read_as_the_kernel_writes_them() {
    let any = word([0; 4]);
    let line = |local: &str, port: u16, state: &str| {
        format!(
            "   0: {local}:{port:04X} {any}:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 1209 1 00000000a12fe23c 100 0 0 10 0"
        )
    };
    let loopback = word([127, 0, 0, 1]);
    let text = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode".to_owned(),
        line(&loopback, 30080, "0A"),
        line(&loopback, 30081, "01"),
        line(&loopback, 30082, "06"),
        line(&loopback, 30083, "07"),
        line(&loopback, 0, "0A"),
        "ends early: 1".to_owned(),
    ]
    .join("\n");
    let seen = |protocol| {
        let sockets = proc::sockets(protocol, &text).into_iter();
        sockets
            .map(|s| (s.address, s.state, s.inode))
            .collect::<Vec<_>>()
    };
    let at = |port: u16, state| (format!("127.0.0.1:{port}"), state, 1209);
    let tcp = [
        at(30080, Listening),
        at(30081, Connected),
        at(30082, Connected),
    ];
    assert_eq!(seen(Tcp), tcp);
    assert_eq!(seen(Udp), [at(30081, Connected), at(30083, Listening)]);

    let v6 = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 7]];
    let v6: String = v6.map(word).concat();
    let sockets = proc::sockets(Tcp, &line(&v6, 30080, "0A"));
    assert_eq!(sockets[0].address, "[2001:db8::7]:30080");

    let endpoints = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n\
        ffff0000 ffff0001 0   10  5    30132     0 777 0.0.0.0 \n\
        ffff0000 ffff0001 0   7   5    30133     0 778 0.0.0.0 \n";
    let sockets = proc::endpoints(endpoints);
    assert_eq!(sockets.len(), 1);
    assert_eq!((sockets[0].port, sockets[0].inode), (30132, 777));
}
