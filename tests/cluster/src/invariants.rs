//! What must hold in a cluster, judged from objects as the API shows them. Shares no code with the
//! controller, so that both cannot be wrong in the same way.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value indexed by a name is null where there is none"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde_json::Value;

/// Annotations by which Services agree to share an address.
const SHARING: [&str; 3] = [
    "portolan.dev/sharing-key",
    "metallb.io/allow-shared-ip",
    "metallb.universe.tf/allow-shared-ip",
];

fn name(object: &Value) -> String {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The external addresses that a Service shows.
fn addresses(service: &Value) -> impl Iterator<Item = &str> {
    each(&service["status"]["loadBalancer"]["ingress"]).filter_map(|entry| entry["ip"].as_str())
}

fn sharing_key(service: &Value) -> Option<&str> {
    let annotations = &service["metadata"]["annotations"];
    SHARING.iter().find_map(|key| annotations[*key].as_str())
}

/// Protocol and port of every port, by this field.
fn ports(service: &Value, field: &str) -> BTreeSet<(String, u64)> {
    each(&service["spec"]["ports"])
        .filter_map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            Some((protocol.to_owned(), port[field].as_u64()?))
        })
        .collect()
}

/// What holds at every moment, in one list of Services: no address and no nodePort is shown by two
/// Services, unless they share the address by one key and on different ports.
#[must_use]
pub fn doubles(services: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_address: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let mut by_port: BTreeMap<(String, u64), Vec<&Value>> = BTreeMap::new();
    for service in services {
        for address in addresses(service) {
            by_address.entry(address).or_default().push(service);
        }
        for port in ports(service, "nodePort") {
            by_port.entry(port).or_default().push(service);
        }
    }
    for (address, holders) in by_address {
        for (at, one) in holders.iter().enumerate() {
            for other in holders.iter().skip(at + 1) {
                let key = sharing_key(one);
                let shared = key.is_some()
                    && key == sharing_key(other)
                    && ports(one, "port").is_disjoint(&ports(other, "port"));
                if !shared {
                    wrong.push(format!(
                        "{address} is shown by {} and {}",
                        name(one),
                        name(other)
                    ));
                }
            }
        }
    }
    for ((protocol, port), holders) in by_port {
        if holders.len() > 1 {
            let names: Vec<String> = holders.into_iter().map(name).collect();
            wrong.push(format!("nodePort {port}/{protocol} is shown by {names:?}"));
        }
    }
    wrong
}

/// What holds once nothing changes any more: no doubles; every address shown is one of a pool, has
/// its ipMode, and is held in the ledger by that very Service; nothing else is held; nobody who was
/// told that he has an address lacks it; the pools together say how many addresses are held.
#[must_use]
pub fn settled(services: &[Value], blocks: &[Value], pools: &[Value]) -> Vec<String> {
    let mut wrong = doubles(services);
    let mut held: BTreeSet<(String, String)> = BTreeSet::new();
    for block in blocks {
        for claim in block["spec"]["claims"].as_str().unwrap_or_default().lines() {
            // Number, kind, Service, uid.
            let words: Vec<&str> = claim.split(' ').collect();
            if let [number, "LoadBalancer", _, uid, ..] = words.as_slice()
                && !held.insert(((*number).to_owned(), (*uid).to_owned()))
            {
                wrong.push(format!("{claim} stands in two blocks"));
            }
        }
    }
    let numbers: BTreeSet<&String> = held.iter().map(|(number, _)| number).collect();
    let told: u64 = pools
        .iter()
        .flat_map(|pool| ["ipv4", "ipv6"].map(|family| &pool["status"][family]["claimed"]))
        .filter_map(Value::as_u64)
        .sum();
    if told != numbers.len() as u64 {
        let held = numbers.len();
        wrong.push(format!(
            "the pools say that {told} are claimed, and {held} are held"
        ));
    }
    for service in services {
        let uid = service["metadata"]["uid"].as_str().unwrap_or_default();
        for entry in each(&service["status"]["loadBalancer"]["ingress"]) {
            let address = entry["ip"].as_str().unwrap_or_default();
            if !in_a_pool(address, pools) {
                wrong.push(format!(
                    "{} shows {address}, which is in no pool",
                    name(service)
                ));
            }
            if entry["ipMode"] != "VIP" {
                wrong.push(format!(
                    "{} shows {entry} without its ipMode",
                    name(service)
                ));
            }
            if !held.remove(&(address.to_owned(), uid.to_owned())) {
                wrong.push(format!(
                    "{} shows {address} and does not hold it",
                    name(service)
                ));
            }
        }
        let told = each(&service["status"]["conditions"]).any(|condition| {
            condition["type"] == "portolan.dev/AddressAllocated" && condition["status"] == "True"
        });
        if told && addresses(service).next().is_none() {
            wrong.push(format!("{} was told that it has an address", name(service)));
        }
    }
    wrong.extend(
        held.into_iter()
            .map(|(number, uid)| format!("{number} is held by {uid}, which does not show it")),
    );
    wrong
}

fn in_a_pool(address: &str, pools: &[Value]) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let mut ranges = pools
        .iter()
        .flat_map(|pool| each(&pool["spec"]["addresses"]))
        .filter_map(Value::as_str);
    ranges.any(|range| match range.split_once('-') {
        Some((first, last)) => match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&address),
            (Ok::<IpAddr, _>(_), Err(_)) | (Err(_), _) => false,
        },
        None => match range.parse::<IpNet>() {
            Ok(net) => net.contains(&address),
            Err(_) => range.parse() == Ok(address),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, address: &str, key: Option<&str>, port: u16) -> Value {
        json!({
            "metadata": {"namespace": "n", "name": name, "uid": format!("uid-{name}"),
                "annotations": key.map(|key| json!({"portolan.dev/sharing-key": key}))},
            "spec": {"ports": [{"port": port, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}},
        })
    }

    fn block(claims: &[(&str, &[&str])]) -> Value {
        let each = |(number, uids): &(&str, &[&str])| {
            let claim = |uid: &&str| format!("{number} LoadBalancer n/s {uid} 1");
            uids.iter().map(claim).collect::<Vec<_>>()
        };
        let claims = claims.iter().flat_map(each).collect::<Vec<_>>().join("\n");
        json!({"spec": {"claims": claims}})
    }

    fn pool(claimed: u64) -> Value {
        json!({
            "spec": {"addresses": ["192.0.2.0/28", "192.0.2.32-192.0.2.40", "2001:db8::7"]},
            "status": {"ipv4": {"claimed": claimed}},
        })
    }

    #[test]
    fn what_is_right_is_right() {
        let services = [
            service("a", "192.0.2.1", Some("k"), 80),
            service("b", "192.0.2.1", Some("k"), 443),
            service("c", "192.0.2.40", None, 80),
            service("d", "2001:db8::7", None, 80),
        ];
        let blocks = [
            block(&[
                ("192.0.2.1", &["uid-a", "uid-b"]),
                ("192.0.2.40", &["uid-c"]),
            ]),
            block(&[("2001:db8::7", &["uid-d"])]),
        ];
        assert_eq!(settled(&services, &blocks, &[pool(3)]), [""; 0]);
    }

    #[test]
    fn each_planted_fault_is_found() {
        let a = || service("a", "192.0.2.1", None, 80);
        let holds = |claims: &[(&str, &[&str])]| vec![block(claims)];
        let right = || holds(&[("192.0.2.1", &["uid-a"])]);
        let mut without_mode = a();
        without_mode["status"]["loadBalancer"]["ingress"][0]["ipMode"] = Value::Null;
        let mut promised = a();
        promised["status"] = json!({"conditions": [
            {"type": "portolan.dev/AddressAllocated", "status": "True"},
        ]});
        let port = |name: &str| {
            let mut service = service(name, "192.0.2.1", Some("k"), 80);
            service["spec"]["ports"][0] = json!({"port": name.len(), "nodePort": 30_000});
            service
        };
        let twice = [("192.0.2.1", &["uid-a", "uid-b"][..])];
        let keys = |one, other, port| {
            let services = [
                service("a", "192.0.2.1", Some(one), 80),
                service("b", "192.0.2.1", Some(other), port),
            ];
            services.to_vec()
        };
        let ports = vec![port("a"), port("bb")];
        for (services, blocks, found) in [
            (
                keys("k", "l", 443),
                holds(&twice),
                "is shown by n/a and n/b",
            ),
            (keys("k", "k", 80), holds(&twice), "is shown by n/a and n/b"),
            (
                ports,
                holds(&[("192.0.2.1", &["uid-a", "uid-bb"])]),
                "nodePort 30000/TCP",
            ),
            (vec![a()], holds(&[]), "does not hold it"),
            (
                vec![a()],
                holds(&[("192.0.2.1", &["uid-old"])]),
                "does not hold it",
            ),
            (vec![], right(), "does not show it"),
            (
                vec![a()],
                [right(), right()].concat(),
                "stands in two blocks",
            ),
            (vec![without_mode], right(), "without its ipMode"),
            (
                vec![],
                vec![],
                "the pools say that 1 are claimed, and 0 are held",
            ),
            (vec![promised], vec![], "was told that it has an address"),
            (
                vec![service("a", "192.0.2.99", None, 80)],
                holds(&[("192.0.2.99", &["uid-a"])]),
                "is in no pool",
            ),
        ] {
            let wrong = settled(&services, &blocks, &[pool(1)]);
            assert!(
                wrong.iter().any(|text| text.contains(found)),
                "{found}: {wrong:?}"
            );
        }
    }
}
