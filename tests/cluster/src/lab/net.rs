//! The lab's networks: one host each for the control plane, every node and a client outside, all on
//! one bridge, as machines are on one switch. Addresses are the same in every lab: no lab sees
//! another or the machine that it runs on.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The control plane's address.
pub(crate) const PLANE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// Every pod's address: what is not from here and comes to a Service is masqueraded.
pub(crate) const POD_CIDRS: &str = "10.244.0.0/16,fd00:244::/48";

/// What pools give that are not in the nodes' subnet: the ranges for documentation.
const EXTERNAL: [&str; 4] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// The client's network: the way in from outside.
pub(crate) const CLIENT: &str = "client";

/// The addresses of a node, counted from 1.
#[must_use]
pub fn node(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    host(10 + number)
}

/// The address of the client.
#[must_use]
pub fn client() -> (Ipv4Addr, Ipv6Addr) {
    host(100)
}

fn host(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::new(10, 200, 0, number),
        Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, number.into()),
    )
}

/// Where a node's pods get their addresses.
pub(crate) fn pods(number: u8) -> [String; 2] {
    [
        format!("10.244.{number}.0/24"),
        format!("fd00:244:0:{number}::/64"),
    ]
}

/// Makes all of it.
pub(crate) fn script(nodes: u8) -> String {
    let mut script = String::from(
        "ip netns add plane
ip -n plane link set lo up
ip -n plane link add br0 type bridge
ip -n plane address add 10.200.0.1/24 dev br0
ip -n plane address add fd00:200::1/64 dev br0 nodad
ip -n plane link set br0 up
",
    );
    let hosts = (1..=nodes).map(|number| (format!("node{number}"), node(number)));
    for (name, (v4, v6)) in hosts.chain([(CLIENT.to_owned(), client())]) {
        script += &format!("ip netns add {name}\nip -n {name} link set lo up\n");
        script += &plug_in(&name, &[v4.into(), v6.into()]);
        script += &default_routes(&name);
    }
    let names = (1..=nodes).map(|number| format!("node{number}"));
    for name in names.chain(["plane".to_owned()]) {
        let _infallible = writeln!(
            script,
            "ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        );
        script += &pod_routes(&name, nodes);
    }
    for number in 1..=nodes {
        script += &unreachable(number);
    }
    // A packet that comes before kube-proxy knows its address goes on to the default route, out of
    // the interface that it came in by; a redirect would teach the client that way for good.
    let _infallible = writeln!(
        script,
        "for family in 4 6; do for of in all eth0; do
ip netns exec {CLIENT} sysctl -qw net.ipv$family.conf.$of.accept_redirects=0
done; done"
    );
    script
}

/// A cable from a host's `eth0` to the switch, and its addresses.
pub(crate) fn plug_in(name: &str, addresses: &[IpAddr]) -> String {
    let mut script = format!(
        "ip -n {name} link add eth0 type veth peer name {name} netns plane
ip -n plane link set {name} master br0 up
"
    );
    for address in addresses {
        let length = if address.is_ipv4() { "24" } else { "64 nodad" };
        let _infallible = writeln!(
            script,
            "ip -n {name} address add {address}/{length} dev eth0"
        );
    }
    let _infallible = writeln!(script, "ip -n {name} link set eth0 up");
    script
}

/// Without them answers to addresses outside the subnet are dropped before NAT has seen them.
pub(crate) fn default_routes(name: &str) -> String {
    format!(
        "ip -n {name} route add default via 10.200.0.1
ip -n {name} -6 route add default via fd00:200::1
"
    )
}

/// An external address leads nowhere until kube-proxy knows it. Were the packet sent on, the kernel
/// would remember its connection as one that is not translated, and take the next one from the same
/// port for that: it would fail for two minutes after every other one succeeds.
fn unreachable(number: u8) -> String {
    let mut script = String::new();
    for addresses in EXTERNAL {
        let _infallible = writeln!(
            script,
            "ip -n node{number} route add unreachable {addresses}"
        );
    }
    script
}

/// The ways to the pods of all other nodes.
pub(crate) fn pod_routes(name: &str, nodes: u8) -> String {
    let mut script = String::new();
    for number in (1..=nodes).filter(|number| name != format!("node{number}")) {
        let (v4, v6) = node(number);
        let [pods_v4, pods_v6] = pods(number);
        let _infallible = writeln!(
            script,
            "ip -n {name} route add {pods_v4} via {v4}
ip -n {name} -6 route add {pods_v6} via {v6}"
        );
    }
    script
}
