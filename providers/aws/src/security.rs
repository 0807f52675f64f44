//! Who may connect: the security groups of the load balancer, and the rules of the one that is made
//! for it. Rules on the nodes' security group are not decided here.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{Protocol as Transport, ServiceKey};

use crate::{
    Rejection,
    annotations::{PREFIX, Request, SOURCE_RANGES},
    input::{Input, Network, Service},
    listed, quoted,
    wanted::{IpAddressType, Rule, Scheme, Source},
};

#[cfg(test)]
mod tests;

/// What one Service opens, and to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// Whose.
    pub service: ServiceKey,
    /// Which ports.
    pub ports: Vec<(Transport, u16)>,
    /// To whom.
    pub sources: BTreeSet<Source>,
    /// ICMP for path MTU discovery as well.
    pub path_mtu: bool,
    /// Whether the user limits who may connect.
    pub limited: bool,
}

/// What the load balancer gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Groups {
    /// One is made, with rules.
    Managed,
    /// These ids.
    Given(Vec<String>),
    /// None: a warning why, if nobody asked for it.
    None(Option<String>),
}

/// Which security groups the load balancer gets.
///
/// # Errors
/// A group that is not there, or groups together with their absence.
pub fn groups(input: &Input<'_>, request: &Request, scheme: Scheme) -> Result<Groups, Rejection> {
    let annotation = format!("annotation {PREFIX}security-groups");
    if request.without_security_groups && !request.security_groups.is_empty() {
        return Err(Rejection::conflict(format!(
            "{annotation} names groups but {PREFIX}disable-nlb-sg asks for none: remove one of the two"
        )));
    }
    if request.without_security_groups {
        return Ok(Groups::None(None));
    }
    if request.adopt.is_some() {
        return Ok(Groups::None(Some(
            "the load balancer is adopted, so that its own security groups decide who may connect, and the nodes must let it in by rules of its owner"
                .to_owned(),
        )));
    }
    let given = request
        .security_groups
        .iter()
        .map(|name| group(input.network, &annotation, name))
        .collect::<Result<Vec<String>, Rejection>>()?;
    // Another scheme makes another load balancer, which can have groups.
    let there = input.existing.filter(|there| there.scheme == scheme);
    if there.is_some_and(|there| !there.has_security_groups) {
        return Ok(Groups::None(Some(
            "the load balancer was made without security groups and AWS cannot add any: to get \
             them, make a new one (delete the Service and create it again)"
                .to_owned(),
        )));
    }
    Ok(match given.is_empty() {
        true => Groups::Managed,
        false => Groups::Given(given),
    })
}

/// LBC: an id, else a Name tag.
fn group(network: &Network, annotation: &str, name: &str) -> Result<String, Rejection> {
    if network.security_groups.contains_key(name) {
        return Ok(name.to_owned());
    }
    let named: Vec<&str> = network
        .security_groups
        .iter()
        .filter(|(_, group)| group.tags.get("Name").is_some_and(|tag| tag == name))
        .map(|(id, _)| id.as_str())
        .collect();
    match named.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(Rejection::invalid(format!(
            "{annotation}: {} is neither the id nor the Name tag of a security group of {}: write \
             one that is there",
            quoted(name),
            network.vpc
        ))),
        several => Err(Rejection::invalid(format!(
            "{annotation}: {} is the Name tag of {}: write the id of the one you mean",
            quoted(name),
            listed(several.iter().copied(), 4)
        ))),
    }
}

/// What a Service opens.
///
/// # Errors
/// IPv6 sources of a load balancer without IPv6.
pub fn exposure(
    service: &Service,
    request: &Request,
    families: IpAddressType,
) -> Result<Exposure, Rejection> {
    let dualstack = match families {
        IpAddressType::Ipv4 => false,
        IpAddressType::Dualstack => true,
    };
    if let Some(v6) = request
        .source_ranges
        .iter()
        .find(|range| range.addr().is_ipv6())
        && !dualstack
    {
        let field = match service.source_ranges.is_empty() {
            true => format!("annotation {SOURCE_RANGES}"),
            false => "spec.loadBalancerSourceRanges".to_owned(),
        };
        return Err(Rejection::conflict(format!(
            "{field} has {v6}, but the load balancer has IPv4 addresses only: remove it or add \
             annotation {PREFIX}ip-address-type: dualstack"
        )));
    }
    let mut sources: BTreeSet<Source> = request.source_ranges.iter().map(source).collect();
    sources.extend(request.prefix_lists.iter().cloned().map(Source::PrefixList));
    let limited = !sources.is_empty();
    if !limited {
        sources.insert(Source::Ipv4("0.0.0.0/0".to_owned()));
        if dualstack {
            sources.insert(Source::Ipv6("::/0".to_owned()));
        }
    }
    Ok(Exposure {
        service: service.key.clone(),
        ports: service
            .ports
            .iter()
            .map(|port| (port.protocol, port.port))
            .collect(),
        sources,
        path_mtu: request.path_mtu,
        limited,
    })
}

fn source(range: &IpNet) -> Source {
    match range {
        IpNet::V4(net) => Source::Ipv4(net.to_string()),
        IpNet::V6(net) => Source::Ipv6(net.to_string()),
    }
}

/// The rules of the managed group: port by source as they are written, as long as they fit; else
/// with neighbouring ports and CIDRs taken together, which lets in exactly the same.
///
/// # Errors
/// They do not fit even so: a sentence with count, limit and cure.
pub fn rules(
    exposures: &[Exposure],
    families: IpAddressType,
    limit: usize,
) -> Result<BTreeSet<Rule>, Rejection> {
    let written: BTreeSet<Rule> = exposures
        .iter()
        .flat_map(|exposure| {
            let ports = exposure.ports.iter().filter_map(|(transport, port)| {
                protocol(*transport).map(|protocol| (protocol, *port, *port))
            });
            of(
                ports.collect(),
                &exposure.sources,
                exposure.path_mtu,
                families,
            )
        })
        .collect();
    if count(&written) <= limit {
        return Ok(written);
    }
    let merged: BTreeSet<Rule> = exposures
        .iter()
        .flat_map(|exposure| {
            let sources = fewer(&exposure.sources);
            of(
                ranges(&exposure.ports),
                &sources,
                exposure.path_mtu,
                families,
            )
        })
        .collect();
    let needed = count(&merged);
    if needed <= limit {
        return Ok(merged);
    }
    let sources: BTreeSet<&Source> = exposures.iter().flat_map(|each| &each.sources).collect();
    let ports: usize = exposures.iter().map(|each| each.ports.len()).sum();
    Err(Rejection::invalid(format!(
        "the security group of the load balancer would need {needed} rules ({ports} ports for {} \
         sources), but it can have {limit}: put the CIDRs into a prefix list and name it in \
         annotation {PREFIX}security-group-prefix-lists, write fewer source ranges, or have AWS \
         raise the quota and set spec.aws.securityGroupRules of the class",
        sources.len()
    )))
}

/// AWS counts rules for IPv4 and for IPv6 apart, and those that name a list or a group in both.
fn count(rules: &BTreeSet<Rule>) -> usize {
    let (mut v4, mut v6) = (0, 0);
    for rule in rules {
        match rule.source {
            Source::Ipv4(_) => v4 += 1,
            Source::Ipv6(_) => v6 += 1,
            Source::PrefixList(_) | Source::SecurityGroup(_) => {
                v4 += 1;
                v6 += 1;
            }
        }
    }
    v4.max(v6)
}

const fn protocol(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Tcp => Some("tcp"),
        Transport::Udp => Some("udp"),
        Transport::Sctp => None,
    }
}

fn of(
    ports: Vec<(&'static str, u16, u16)>,
    sources: &BTreeSet<Source>,
    path_mtu: bool,
    families: IpAddressType,
) -> Vec<Rule> {
    // RFC 1191: type 3 code 4. RFC 8201: type 2 code 0.
    const V4: (&str, i32, i32) = ("icmp", 3, 4);
    const V6: (&str, i32, i32) = ("icmpv6", 2, 0);
    let mut rules = vec![];
    for source in sources {
        let mut add = |protocol, from, to| {
            rules.push(Rule {
                protocol,
                from,
                to,
                source: source.clone(),
            });
        };
        for (protocol, from, to) in &ports {
            add(*protocol, i32::from(*from), i32::from(*to));
        }
        if !path_mtu {
            continue;
        }
        let (v4, v6) = match source {
            Source::Ipv4(_) => (true, false),
            Source::Ipv6(_) => (false, true),
            Source::PrefixList(_) | Source::SecurityGroup(_) => match families {
                IpAddressType::Ipv4 => (true, false),
                IpAddressType::Dualstack => (true, true),
            },
        };
        if v4 {
            add(V4.0, V4.1, V4.2);
        }
        if v6 {
            add(V6.0, V6.1, V6.2);
        }
    }
    rules
}

/// Neighbouring ports of a protocol as ranges.
fn ranges(ports: &[(Transport, u16)]) -> Vec<(&'static str, u16, u16)> {
    let mut of: BTreeMap<&'static str, BTreeSet<u16>> = BTreeMap::new();
    for (transport, port) in ports {
        if let Some(protocol) = protocol(*transport) {
            of.entry(protocol).or_default().insert(*port);
        }
    }
    let mut ranges: Vec<(&'static str, u16, u16)> = vec![];
    for (protocol, ports) in of {
        for port in ports {
            match ranges.last_mut() {
                Some((same, _, last)) if *same == protocol && last.checked_add(1) == Some(port) => {
                    *last = port;
                }
                Some(_) | None => ranges.push((protocol, port, port)),
            }
        }
    }
    ranges
}

/// The same addresses in as few CIDRs as can be.
fn fewer(sources: &BTreeSet<Source>) -> BTreeSet<Source> {
    let (mut v4, mut v6): (Vec<Ipv4Net>, Vec<Ipv6Net>) = (vec![], vec![]);
    let mut others = BTreeSet::new();
    for source in sources {
        match source {
            Source::Ipv4(net) => v4.extend(net.parse::<Ipv4Net>()),
            Source::Ipv6(net) => v6.extend(net.parse::<Ipv6Net>()),
            Source::PrefixList(_) | Source::SecurityGroup(_) => {
                others.insert(source.clone());
            }
        }
    }
    let v4 = Ipv4Net::aggregate(&v4).into_iter();
    let v6 = Ipv6Net::aggregate(&v6).into_iter();
    others.extend(v4.map(|net| Source::Ipv4(net.to_string())));
    others.extend(v6.map(|net| Source::Ipv6(net.to_string())));
    others
}
