//! Single values with rules of their own: names, ARNs, CIDRs.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    SOURCE_RANGES,
    values::{Annotations, Source},
};
use crate::{Rejection, input::Service, names::GIVEN, quoted};

/// AWS: at most 32 letters, digits and hyphens; not hyphens at the ends, nor `internal-` first.
pub(super) fn name(source: Source<'_>) -> Result<Option<String>, Rejection> {
    let Some(name) = source.text() else {
        return Ok(None);
    };
    let valid = name.len() <= 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.starts_with("internal-");
    if valid && name.starts_with(GIVEN) {
        return Err(source.invalid(
            "begins with \"k8s-\", as the names do that nobody chooses: write another one, or remove \
             the annotation",
        ));
    }
    if valid {
        return Ok(Some(name));
    }
    Err(source.invalid(
        "is not the name of a load balancer: write at most 32 letters, digits and hyphens, without \
         a hyphen at either end and without \"internal-\" in front",
    ))
}

pub(super) fn alpn(source: Source<'_>) -> Result<String, Rejection> {
    let policies = [
        "None",
        "HTTP1Only",
        "HTTP2Only",
        "HTTP2Optional",
        "HTTP2Preferred",
    ];
    let policies = policies.map(|policy| (policy, policy));
    source
        .one_of("an ALPN policy", &policies)
        .map(str::to_owned)
}

pub(super) fn source_nat_prefixes(source: Source<'_>) -> Result<Vec<String>, Rejection> {
    let prefixes = source.list();
    let bad = prefixes.iter().find(|prefix| {
        let net = prefix.parse::<ipnet::Ipv6Net>();
        *prefix != "auto_assigned" && !net.is_ok_and(|net| net.prefix_len() == 80)
    });
    match bad {
        None => Ok(prefixes),
        Some(prefix) => Err(source.invalid(format_args!(
            "has {}, which is no prefix for source NAT: write \"auto_assigned\" or an IPv6 CIDR of \
             length 80 for each subnet",
            quoted(prefix)
        ))),
    }
}

/// `spec.loadBalancerSourceRanges`, else the annotation.
pub(super) fn source_ranges(
    service: &Service,
    all: Annotations<'_>,
) -> Result<Vec<IpNet>, Rejection> {
    let own: Vec<&str> = service
        .source_ranges
        .iter()
        .map(|range| range.trim())
        .collect();
    let (place, ranges) = match all.get(SOURCE_RANGES) {
        Some(source) if own.is_empty() => (source.place(), source.list()),
        Some(_) | None => (
            "spec.loadBalancerSourceRanges".to_owned(),
            own.into_iter().map(str::to_owned).collect(),
        ),
    };
    let ranges: Result<BTreeSet<IpNet>, Rejection> = ranges
        .iter()
        .map(|range| {
            range.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
                Rejection::invalid(format!(
                    "{place}: {} is not a CIDR: write for example \"203.0.113.0/24\"",
                    quoted(range)
                ))
            })
        })
        .collect();
    Ok(ranges?.into_iter().collect())
}

/// RFC 1123 label.
pub(super) fn group(source: Source<'_>) -> Result<String, Rejection> {
    let text = source.text;
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let valid = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid {
        return Ok(text.to_owned());
    }
    Err(source.invalid(
        "is not the name of a group: write at most 63 lower-case letters, digits and hyphens, for \
         example \"edge\"",
    ))
}

pub(super) fn adopt(source: Source<'_>) -> Result<String, Rejection> {
    if source.text.starts_with("arn:") && source.text.contains(":loadbalancer/net/") {
        return Ok(source.text.to_owned());
    }
    Err(source.invalid(
        "is not the ARN of a Network Load Balancer: write arn:aws:elasticloadbalancing:REGION:\
         ACCOUNT:loadbalancer/net/NAME/ID",
    ))
}
