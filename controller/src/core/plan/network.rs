//! The network of an offline plan: a file that describes a VPC, or one that is assumed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use aws::{
    input::{Network, SecurityGroup, Subnet},
    nodes::{Missing, missing},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::quoted;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    Member,
    manifests::{Error, documents, typed},
};

/// `docs/plan.md`, "The network".
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    vpc: String,
    cidrs: Vec<Parsed<IpNet>>,
    #[serde(default)]
    subnets: Vec<FileSubnet>,
    #[serde(default)]
    security_groups: Vec<FileGroup>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileSubnet {
    id: String,
    zone: String,
    ipv4: Option<Parsed<Ipv4Net>>,
    #[serde(default)]
    ipv6: Vec<Parsed<Ipv6Net>>,
    /// Without it, as many as an empty subnet has.
    available: Option<u32>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    public: bool,
    outpost: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileGroup {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// A text that is a CIDR.
#[derive(Debug)]
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|error| D::Error::custom(format!("{}: {error}", quoted(&text))))
    }
}

/// Reads a network file.
///
/// # Errors
/// What is wrong, and where.
pub fn read(place: &str, text: &str) -> Result<Network, Error> {
    let mut documents = documents(place, text)?.into_iter();
    let wrong = |message: String| Error::Field {
        place: place.to_owned(),
        object: "the network".to_owned(),
        message,
    };
    let Some(document) = documents.next() else {
        return Err(wrong("the file is empty".to_owned()));
    };
    if documents.next().is_some() {
        return Err(wrong("the file has more than one document".to_owned()));
    }
    let file: File = typed(document).map_err(wrong)?;
    let mut subnets: Vec<Subnet> = file.subnets.into_iter().map(subnet).collect();
    subnets.sort_by(|a, b| a.id.cmp(&b.id));
    let groups = file.security_groups.into_iter().map(|group| {
        let FileGroup { id, name, tags } = group;
        let rules = BTreeSet::new();
        (id, SecurityGroup { name, rules, tags })
    });
    Ok(Network {
        vpc: file.vpc,
        cidrs: file.cidrs.into_iter().map(|cidr| cidr.0).collect(),
        subnets,
        security_groups: groups.collect(),
    })
}

/// AWS keeps five addresses of each subnet.
const KEPT: u32 = 5;

fn subnet(file: FileSubnet) -> Subnet {
    let ipv4 = file.ipv4.map(|net| net.0);
    let size = ipv4.map_or(0, |net| {
        let bits = 32_u32.saturating_sub(u32::from(net.prefix_len()));
        1_u32.checked_shl(bits).unwrap_or(u32::MAX)
    });
    Subnet {
        id: file.id,
        zone: file.zone,
        ipv4,
        ipv6: file.ipv6.into_iter().map(|net| net.0).collect(),
        available: file.available.unwrap_or_else(|| size.saturating_sub(KEPT)),
        tags: file.tags,
        public: file.public,
        outpost: file.outpost,
    }
}

/// Zones of the assumed network.
const ZONES: [char; 3] = ['a', 'b', 'c'];
const REGION: &str = "eu-central-1";
/// The nodes' security group, and the one that they let in.
const NODES: &str = "sg-assumed-nodes";
const TRAFFIC: &str = "sg-assumed-traffic";

/// A VPC with a private and a public subnet in each of three zones, all dual-stack and tagged for
/// load balancers. What the Services name is assumed to be there, as many zones as they name.
pub fn assumed<'a>(members: impl Iterator<Item = &'a Member>) -> Network {
    let mut network = Network {
        vpc: "vpc-assumed".to_owned(),
        cidrs: ["10.0.0.0/16", "2001:db8::/56"]
            .iter()
            .filter_map(|cidr| cidr.parse().ok())
            .collect(),
        ..Network::default()
    };
    for zone in ZONES {
        for (kind, role) in [("private", "internal-elb"), ("public", "elb")] {
            let id = format!("subnet-assumed-{kind}-{zone}");
            let role = format!("kubernetes.io/role/{role}");
            let tags = BTreeMap::from([(role, "1".to_owned())]);
            add(&mut network, &id, zone, kind == "public", tags);
        }
    }
    for member in members {
        let Some(service) = &member.record.cloud else {
            continue;
        };
        // What cannot be read is told where it is planned.
        let Ok(request) = aws::annotations::request(service, &member.class) else {
            continue;
        };
        for (zone, name) in ('a'..='z').zip(&request.subnets) {
            if !network.subnets.iter().any(|subnet| is(subnet, name)) {
                let tags = match name.starts_with("subnet-") {
                    true => BTreeMap::new(),
                    false => BTreeMap::from([("Name".to_owned(), name.clone())]),
                };
                add(&mut network, name, zone, false, tags);
            }
        }
        let named = member.class.node_security_groups.iter();
        for id in named.chain(std::iter::once(&NODES.to_owned())) {
            let tag = format!("kubernetes.io/cluster/{}", member.class.cluster);
            let group = SecurityGroup {
                name: "nodes".to_owned(),
                rules: BTreeSet::new(),
                tags: BTreeMap::from([(tag, "owned".to_owned())]),
            };
            network.security_groups.entry(id.clone()).or_insert(group);
        }
        if let Missing::TrafficGroup(group) = missing(&network, &member.class.cluster, &[]) {
            let group = SecurityGroup {
                name: group.name,
                rules: BTreeSet::new(),
                tags: group.tags,
            };
            network.security_groups.insert(TRAFFIC.to_owned(), group);
        }
        for name in &request.security_groups {
            let tags = BTreeMap::from([("Name".to_owned(), name.clone())]);
            let group = SecurityGroup {
                name: name.clone(),
                rules: BTreeSet::new(),
                tags,
            };
            network.security_groups.insert(name.clone(), group);
        }
    }
    network
}

fn is(subnet: &Subnet, name: &str) -> bool {
    subnet.id == name || subnet.tags.get("Name").is_some_and(|tag| tag == name)
}

fn add(network: &mut Network, id: &str, zone: char, public: bool, tags: BTreeMap<String, String>) {
    let number = network.subnets.len();
    network.subnets.push(Subnet {
        id: id.to_owned(),
        zone: format!("{REGION}{zone}"),
        ipv4: format!("10.0.{number}.0/24").parse().ok(),
        ipv6: format!("2001:db8:0:{number:x}::/64")
            .parse()
            .into_iter()
            .collect(),
        available: 256 - KEPT,
        tags,
        public,
        outpost: None,
    });
}

#[cfg(test)]
mod tests;
