//! The load balancer as clients see it: scheme, families, subnets and the addresses in them.

use crate::{
    Rejection,
    annotations::{PREFIX, Request},
    input::{Input, Subnet},
    subnets::{self, Choice, Search},
    wanted::{IpAddressType, Scheme, SubnetMapping},
};

#[cfg(test)]
mod tests;

/// What is decided before any port is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Front<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) ip_address_type: IpAddressType,
    pub(crate) choice: Choice<'a>,
}

/// LBC: the annotation, else what is there, else the class.
///
/// # Errors
/// No subnet fits.
pub(crate) fn front<'a>(input: &Input<'a>, request: &Request) -> Result<Front<'a>, Rejection> {
    let scheme = request
        .scheme
        .or(input.existing.map(|existing| existing.scheme))
        .unwrap_or(input.class.scheme);
    let choice = subnets::choose(
        input.network,
        Search {
            cluster: &input.class.cluster,
            scheme,
            ip_address_type: request.ip_address_type,
            named: &request.subnets,
            existing: input.existing,
        },
    )?;
    Ok(Front {
        scheme,
        ip_address_type: request.ip_address_type,
        choice,
    })
}

/// Each subnet with the addresses that were asked for.
///
/// # Errors
/// Addresses that do not go with the scheme, the families or the subnets.
pub(crate) fn mappings(
    front: &Front<'_>,
    request: &Request,
) -> Result<Vec<SubnetMapping>, Rejection> {
    let subnets = &front.choice.subnets;
    needs(
        request.eip_allocations.len(),
        "eip-allocations",
        front.scheme == Scheme::InternetFacing,
        "scheme internet-facing",
        subnets,
    )?;
    needs(
        request.private_ipv4.len(),
        "private-ipv4-addresses",
        front.scheme == Scheme::Internal,
        "scheme internal",
        subnets,
    )?;
    let dualstack = front.ip_address_type == IpAddressType::Dualstack;
    needs(
        request.ipv6.len(),
        "ipv6-addresses",
        dualstack,
        "ip-address-type dualstack",
        subnets,
    )?;
    needs(
        request.source_nat_prefixes.len(),
        "source-nat-ipv6-prefixes",
        request.ipv6_source_nat,
        "enable-prefix-for-ipv6-source-nat on",
        subnets,
    )?;
    if request.ipv6_source_nat && !dualstack {
        return Err(Rejection::conflict(format!(
            "annotation {PREFIX}enable-prefix-for-ipv6-source-nat is on, which only a dualstack load \
             balancer can have: add {PREFIX}ip-address-type: dualstack or remove it"
        )));
    }
    let mut mappings = vec![];
    for (index, subnet) in subnets.iter().enumerate() {
        mappings.push(SubnetMapping {
            subnet: subnet.id.clone(),
            allocation: request.eip_allocations.get(index).cloned(),
            private_ipv4: within(
                &request.private_ipv4,
                "private-ipv4-addresses",
                subnet,
                |address| subnet.ipv4.is_some_and(|net| net.contains(address)),
            )?,
            ipv6: within(&request.ipv6, "ipv6-addresses", subnet, |address| {
                subnet.ipv6.iter().any(|net| net.contains(address))
            })?,
            source_nat_prefix: match request.source_nat_prefixes.get(index) {
                None => None,
                Some(prefix) => Some(source_nat_prefix(prefix, subnet)?),
            },
        });
    }
    Ok(mappings)
}

/// A list of addresses: one for each subnet, and only where it can be had.
fn needs(
    count: usize,
    suffix: &str,
    met: bool,
    what: &str,
    subnets: &[&Subnet],
) -> Result<(), Rejection> {
    if count == 0 {
        return Ok(());
    }
    if !met {
        return Err(Rejection::conflict(format!(
            "annotation {PREFIX}{suffix} needs {PREFIX}{}: add it or remove {suffix}",
            what.replacen(' ', ": ", 1)
        )));
    }
    if count != subnets.len() {
        return Err(Rejection::invalid(format!(
            "annotation {PREFIX}{suffix} has {count} entries but the load balancer is in {} subnets \
             ({}): write one for each of them, or name the subnets in {PREFIX}subnets",
            subnets.len(),
            crate::listed(subnets.iter().map(|subnet| subnet.id.as_str()), 8)
        )));
    }
    Ok(())
}

/// The one address out of `addresses` that is the subnet's.
fn within<T: std::fmt::Display>(
    addresses: &[T],
    suffix: &str,
    subnet: &Subnet,
    contains: impl Fn(&T) -> bool,
) -> Result<Option<String>, Rejection> {
    if addresses.is_empty() {
        return Ok(None);
    }
    let found: Vec<&T> = addresses
        .iter()
        .filter(|address| contains(address))
        .collect();
    let nets = || {
        let v4 = subnet.ipv4.iter().map(ToString::to_string);
        let all = v4.chain(subnet.ipv6.iter().map(ToString::to_string));
        all.collect::<Vec<_>>().join(", ")
    };
    match found.as_slice() {
        [address] => Ok(Some(address.to_string())),
        [] => Err(Rejection::invalid(format!(
            "annotation {PREFIX}{suffix} has no address of {} ({}): write exactly one of each subnet",
            subnet.id,
            nets()
        ))),
        [first, second, ..] => Err(Rejection::invalid(format!(
            "annotation {PREFIX}{suffix} has {first} and {second}, which are both in {} ({}): write \
             exactly one of each subnet",
            subnet.id,
            nets()
        ))),
    }
}

fn source_nat_prefix(prefix: &str, subnet: &Subnet) -> Result<String, Rejection> {
    let inside = prefix
        .parse::<ipnet::Ipv6Net>()
        .is_ok_and(|prefix| subnet.ipv6.iter().any(|net| net.contains(&prefix)));
    if inside || prefix == "auto_assigned" {
        return Ok(prefix.to_owned());
    }
    Err(Rejection::invalid(format!(
        "annotation {PREFIX}source-nat-ipv6-prefixes: {prefix} does not lie in {}, for which it is: \
         write the prefixes in the order of the subnets, or auto_assigned",
        subnet.id
    )))
}
