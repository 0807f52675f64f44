//! Which subnets a load balancer is in, one a zone, and for every subnet of the VPC why it is used
//! or not: a user who finds no address, or the wrong ones, reads here which tag is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    Rejection,
    annotations::PREFIX,
    input::{Existing, Network, Subnet},
    quoted,
    wanted::{IpAddressType, Scheme},
};

#[cfg(test)]
mod tests;

/// AWS: a load balancer needs so many free addresses in each of its subnets.
const FREE: u32 = 8;
/// A message is a condition's: 1024 characters in most places that show one.
const LONGEST: usize = 900;

/// Why one subnet is used or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// `subnet-…`.
    pub subnet: String,
    /// Its zone.
    pub zone: String,
    /// Whether the load balancer is in it.
    pub used: bool,
    /// A sentence without the subject: `is in the VPC, but …`.
    pub why: String,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Who is to reach it.
    pub scheme: Scheme,
    /// Families.
    pub ip_address_type: IpAddressType,
    /// Ids or Name tags from the annotation; empty: discover.
    pub named: &'a [String],
    /// The load balancer that is there.
    pub existing: Option<&'a Existing>,
}

/// The subnets to use, and a verdict on every one of the VPC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice<'a> {
    /// At least one; in the order of the annotation, else by id.
    pub subnets: Vec<&'a Subnet>,
    /// By id.
    pub verdicts: Vec<Verdict>,
}

/// Chooses subnets.
///
/// # Errors
/// None is left, or the annotation names what is not there or not usable; the message has the
/// verdicts, as many as fit.
pub fn choose<'a>(network: &'a Network, search: Search<'_>) -> Result<Choice<'a>, Rejection> {
    if !search.named.is_empty() {
        return named(network, search);
    }
    if let Some(existing) = search
        .existing
        .filter(|there| there.scheme == search.scheme)
        && let Some(kept) = kept(network, search, existing)?
    {
        return Ok(kept);
    }
    discovered(network, search)
}

/// LBC: the order of the list is kept.
fn named<'a>(network: &'a Network, search: Search<'_>) -> Result<Choice<'a>, Rejection> {
    let annotation = format!("annotation {PREFIX}subnets");
    let mut subnets: Vec<&Subnet> = vec![];
    for name in search.named {
        let is = |subnet: &&Subnet| subnet.id == *name || subnet.tags.get("Name") == Some(name);
        let mut found = network.subnets.iter().filter(is);
        let Some(subnet) = found.next() else {
            return Err(Rejection::invalid(format!(
                "{annotation}: {} is neither the id nor the Name tag of a subnet of {}: write one \
                 of {}",
                quoted(name),
                network.vpc,
                crate::listed(network.subnets.iter().map(|subnet| subnet.id.as_str()), 16)
            )));
        };
        if let Some(second) = found.next() {
            return Err(Rejection::invalid(format!(
                "{annotation}: {} is the Name tag of {} and {}: write the id of the one you mean",
                quoted(name),
                subnet.id,
                second.id
            )));
        }
        if let Some(other) = subnets.iter().find(|other| other.zone == subnet.zone) {
            return Err(Rejection::invalid(format!(
                "{annotation} has {} and {}, which are both in {}: keep one of each zone",
                other.id, subnet.id, subnet.zone
            )));
        }
        if let Some(other) = subnets.iter().find(|other| other.outpost != subnet.outpost) {
            return Err(Rejection::invalid(format!(
                "{annotation} has {} and {}, of which only one is on an outpost: keep one of them",
                other.id, subnet.id
            )));
        }
        if let Some(why) = unfit(subnet, search.ip_address_type) {
            return Err(Rejection::invalid(format!(
                "{annotation}: {} {why}: {}",
                subnet.id,
                cure(search.ip_address_type)
            )));
        }
        subnets.push(subnet);
    }
    let verdicts = verdicts(network, |subnet| {
        match subnets.iter().any(|used| used.id == subnet.id) {
            true => (true, format!("{annotation} names it")),
            false => (false, format!("{annotation} does not name it")),
        }
    });
    Ok(Choice { subnets, verdicts })
}

/// LBC: an existing load balancer keeps its subnets. `None` when none of them is left.
fn kept<'a>(
    network: &'a Network,
    search: Search<'_>,
    existing: &Existing,
) -> Result<Option<Choice<'a>>, Rejection> {
    let mut subnets: Vec<&Subnet> = network
        .subnets
        .iter()
        .filter(|subnet| existing.subnets.contains(&subnet.id))
        .collect();
    if subnets.is_empty() {
        return Ok(None);
    }
    subnets.sort_by(|a, b| a.id.cmp(&b.id));
    for subnet in &subnets {
        if let Some(why) = unfit(subnet, search.ip_address_type) {
            return Err(Rejection::invalid(format!(
                "the load balancer is in {}, which {why}: {}, or name other subnets in annotation \
                 {PREFIX}subnets",
                subnet.id,
                cure(search.ip_address_type)
            )));
        }
    }
    let verdicts = verdicts(network, |subnet| {
        let zone = |used: &&&Subnet| used.zone == subnet.zone;
        if subnets.iter().any(|used| used.id == subnet.id) {
            (true, "the load balancer is in it already".to_owned())
        } else if let Some(used) = subnets.iter().find(zone) {
            (
                false,
                format!("the load balancer is in {} of this zone already", used.id),
            )
        } else {
            (
                false,
                format!(
                    "the load balancer is in other zones already and keeps them: to add this zone, \
                     name all subnets in annotation {PREFIX}subnets"
                ),
            )
        }
    });
    Ok(Some(Choice { subnets, verdicts }))
}

/// The tag by which a subnet is meant for load balancers.
const fn role(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Internal => "kubernetes.io/role/internal-elb",
        Scheme::InternetFacing => "kubernetes.io/role/elb",
    }
}

/// LBC's order: role tags, else reachability; not another cluster's; free addresses; families; one a
/// zone, own cluster's first, then the lowest id.
fn discovered<'a>(network: &'a Network, search: Search<'_>) -> Result<Choice<'a>, Rejection> {
    let role = role(search.scheme);
    let tagged =
        |subnet: &Subnet| matches!(subnet.tags.get(role).map(String::as_str), Some("" | "1"));
    let by_role = network.subnets.iter().any(tagged);
    let own = format!("kubernetes.io/cluster/{}", search.cluster);
    let public = search.scheme == Scheme::InternetFacing;

    let mut why_not = BTreeMap::new();
    let mut of_zone: BTreeMap<&str, Vec<&Subnet>> = BTreeMap::new();
    for subnet in &network.subnets {
        let others = || {
            let mut keys = subnet.tags.keys();
            keys.find(|key| key.starts_with("kubernetes.io/cluster/") && **key != own)
        };
        let why = if by_role && !tagged(subnet) {
            Some(match subnet.tags.get(role) {
                None => format!("it has no tag {role}, which others have"),
                Some(value) => format!("its tag {role} is {} and not 1", quoted(value)),
            })
        } else if !by_role && subnet.public != public {
            Some(match subnet.public {
                true => "its route table leads to an internet gateway: it is not internal".into(),
                false => "its route table leads to no internet gateway: the internet cannot reach \
                          it"
                .into(),
            })
        } else if let Some(outpost) = &subnet.outpost {
            Some(format!("it is on outpost {outpost}"))
        } else if let (Some(other), false) = (others(), subnet.tags.contains_key(&own)) {
            Some(format!("it is tagged {other} and not {own}"))
        } else if subnet.available < FREE {
            Some(format!(
                "it has {} free addresses and a load balancer needs {FREE}",
                subnet.available
            ))
        } else {
            unfit(subnet, search.ip_address_type).map(|why| format!("it {why}"))
        };
        match why {
            Some(why) => {
                why_not.insert(subnet.id.as_str(), why);
            }
            None => of_zone.entry(&subnet.zone).or_default().push(subnet),
        }
    }
    let mut subnets = vec![];
    for candidates in of_zone.values() {
        let rank = |subnet: &&&Subnet| (!subnet.tags.contains_key(&own), subnet.id.clone());
        let Some(best) = candidates.iter().min_by_key(rank) else {
            continue;
        };
        subnets.push(*best);
        for other in candidates.iter().filter(|other| other.id != best.id) {
            let why = match best.tags.contains_key(&own) == other.tags.contains_key(&own) {
                true => format!("{} of the same zone has the lower id", best.id),
                false => format!("{} of the same zone is tagged {own}", best.id),
            };
            why_not.insert(&other.id, why);
        }
    }
    subnets.sort_by(|a, b| a.id.cmp(&b.id));
    let verdicts = verdicts(network, |subnet| match why_not.get(subnet.id.as_str()) {
        Some(why) => (false, why.clone()),
        None if by_role => (true, format!("it is tagged {role}")),
        None if public => (
            true,
            "its route table leads to an internet gateway".to_owned(),
        ),
        None => (
            true,
            "its route table leads to no internet gateway".to_owned(),
        ),
    });
    if subnets.is_empty() {
        return Err(none(network, search, &verdicts));
    }
    Ok(Choice { subnets, verdicts })
}

/// Why a subnet cannot have a load balancer of these families, whoever chose it.
fn unfit(subnet: &Subnet, families: IpAddressType) -> Option<&'static str> {
    if subnet.ipv4.is_none() {
        return Some("has no IPv4 addresses");
    }
    match families {
        IpAddressType::Dualstack if subnet.ipv6.is_empty() => {
            Some("has no IPv6 addresses, which dualstack needs")
        }
        IpAddressType::Dualstack | IpAddressType::Ipv4 => None,
    }
}

const fn cure(families: IpAddressType) -> &'static str {
    match families {
        IpAddressType::Dualstack => {
            "associate an IPv6 CIDR with it or ask for ip-address-type ipv4"
        }
        IpAddressType::Ipv4 => "name another one",
    }
}

fn verdicts(network: &Network, of: impl Fn(&Subnet) -> (bool, String)) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = network
        .subnets
        .iter()
        .map(|subnet| {
            let (used, why) = of(subnet);
            Verdict {
                subnet: subnet.id.clone(),
                zone: subnet.zone.clone(),
                used,
                why,
            }
        })
        .collect();
    verdicts.sort_by(|a, b| a.subnet.cmp(&b.subnet));
    verdicts
}

/// The verdicts as one message of about [`LONGEST`] bytes.
fn none(network: &Network, search: Search<'_>, verdicts: &[Verdict]) -> Rejection {
    let mut message = format!(
        "no subnet of {} can have this {} load balancer: tag one of each zone with {}=1 or name \
         them in annotation {PREFIX}subnets",
        network.vpc,
        search.scheme.as_str(),
        role(search.scheme)
    );
    let mut left = verdicts.len();
    // Each reason once, however many subnets share it.
    let mut said = BTreeSet::new();
    for verdict in verdicts {
        if !said.insert(&verdict.why) {
            continue;
        }
        let alike: Vec<&str> = verdicts
            .iter()
            .filter(|other| other.why == verdict.why)
            .map(|other| other.subnet.as_str())
            .collect();
        let part = format!(
            "; {}: {}",
            crate::listed(alike.iter().copied(), 4),
            verdict.why
        );
        if message.len() + part.len() > LONGEST {
            break;
        }
        message.push_str(&part);
        left = left.saturating_sub(alike.len());
    }
    if left > 0 {
        message.push_str(&format!("; and {left} more subnets"));
    }
    Rejection::invalid(message)
}
