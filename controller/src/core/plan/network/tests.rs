#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;

#[test]
fn a_network_file_becomes_the_network() {
    let text = "
vpc: vpc-1
cidrs: [10.0.0.0/16]
subnets:
- {id: subnet-b, zone: eu-central-1b, ipv4: 10.0.2.0/24, available: 3, public: true}
- {id: subnet-a, zone: eu-central-1a, ipv4: 10.0.1.0/28, tags: {Name: one}, ipv6: ['2001:db8::/64']}
securityGroups:
- {id: sg-1, name: nodes}
";
    let network = read("net.yaml", text).unwrap();
    let subnets: Vec<_> = (network.subnets.iter())
        .map(|subnet| (subnet.id.as_str(), subnet.available, subnet.public))
        .collect();
    assert_eq!(subnets, [("subnet-a", 11, false), ("subnet-b", 3, true)]);
    assert_eq!(network.security_groups.get("sg-1").unwrap().name, "nodes");
}

#[test]
fn what_is_wrong_with_a_network_file_is_said() {
    let rows = [
        ("", "net.yaml: the network: the file is empty"),
        ("vpc: vpc-1", "net.yaml: the network: missing field `cidrs`"),
        (
            "vpc: v\ncidrs: []\nsubnets: [{id: a, zone: b, ipv4: 10.0.0.0/40}]",
            "net.yaml: the network: subnets[0].ipv4: ",
        ),
        (
            "vpc: v\ncidrs: []\nsubnets: [{id: a, zone: b, publik: true}]",
            "net.yaml: the network: subnets[0].publik: unknown field `publik`",
        ),
        (
            "vpc: a\n---\nvpc: b",
            "net.yaml: the network: the file has more than one document",
        ),
    ];
    for (text, expected) in rows {
        let said = read("net.yaml", text).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
    }
}
