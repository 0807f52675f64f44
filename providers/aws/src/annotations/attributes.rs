//! Attributes of load balancer, listeners and target groups, deprecated annotations among them.

use std::collections::BTreeMap;

use super::{
    PREFIX,
    values::{Annotations, Source, go_bool},
};
use crate::{
    Rejection,
    attributes::{CROSS_ZONE, PRESERVE_CLIENT_IP, PROXY_PROTOCOL},
    quoted,
    wanted::Protocol,
};

type Attributes = BTreeMap<String, String>;

/// Attributes that are truth values to us as well.
pub(super) fn check_booleans(
    source: Source<'_>,
    attributes: &BTreeMap<String, String>,
) -> Result<(), Rejection> {
    for key in [PRESERVE_CLIENT_IP, PROXY_PROTOCOL] {
        if let Some(value) = attributes.get(key)
            && go_bool(value).is_none()
        {
            return Err(Rejection::invalid(format!(
                "{}: {key} is {}, which is not a truth value: write \"true\" or \"false\"",
                source.place(),
                quoted(value)
            )));
        }
    }
    Ok(())
}

/// `target-group-attributes.443`.
pub(super) fn by_port(all: Annotations<'_>) -> Result<BTreeMap<u16, Attributes>, Rejection> {
    let mut found = BTreeMap::new();
    let prefix = format!("{PREFIX}target-group-attributes.");
    for source in all.all() {
        let Some(port) = source.name.strip_prefix(&prefix) else {
            continue;
        };
        let port = port.parse().map_err(|_| {
            Rejection::invalid(format!(
                "{}: the name must end in the number of a Service port, for example {prefix}443",
                source.place()
            ))
        })?;
        let attributes = source.map()?;
        check_booleans(source, &attributes)?;
        found.insert(port, attributes);
    }
    Ok(found)
}

/// `listener-attributes.TCP-80`.
pub(super) fn by_listener(
    all: Annotations<'_>,
) -> Result<BTreeMap<(Protocol, u16), Attributes>, Rejection> {
    let mut found = BTreeMap::new();
    let prefix = format!("{PREFIX}listener-attributes.");
    for source in all.all() {
        let Some(listener) = source.name.strip_prefix(&prefix) else {
            continue;
        };
        let listener = listener.split_once('-').and_then(|(protocol, port)| {
            let protocol = match protocol.to_ascii_uppercase().as_str() {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                "TCP_UDP" => Protocol::TcpUdp,
                "TLS" => Protocol::Tls,
                _ => return None,
            };
            Some((protocol, port.parse().ok()?))
        });
        let listener = listener.ok_or_else(|| {
            Rejection::invalid(format!(
                "{}: the name must end in protocol and port of a listener, for example \
                 {prefix}TCP-80",
                source.place()
            ))
        })?;
        found.insert(listener, source.map()?);
    }
    Ok(found)
}

/// The attribute that each deprecated annotation stands for.
const DEPRECATED: [(&str, &str, bool); 4] = [
    ("access-log-enabled", "access_logs.s3.enabled", true),
    ("access-log-s3-bucket-name", "access_logs.s3.bucket", false),
    (
        "access-log-s3-bucket-prefix",
        "access_logs.s3.prefix",
        false,
    ),
    ("cross-zone-load-balancing-enabled", CROSS_ZONE, true),
];

/// LBC: the deprecated annotations win over `attributes`; here a class's never wins over its
/// Service's.
pub(super) fn of_load_balancer(
    all: Annotations<'_>,
) -> Result<BTreeMap<String, String>, Rejection> {
    let source = all.get(&format!("{PREFIX}attributes"));
    let mut found = match source {
        Some(source) => source.map()?,
        None => BTreeMap::new(),
    };
    for (suffix, key, boolean) in DEPRECATED {
        let Some(old) = all.get(&format!("{PREFIX}{suffix}")) else {
            continue;
        };
        let value = if boolean {
            old.boolean()?.to_string()
        } else {
            old.text.to_owned()
        };
        let own = source.is_some_and(|source| source.class.is_none()) && found.contains_key(key);
        if !(own && old.class.is_some()) {
            found.insert(key.to_owned(), value);
        }
    }
    let policies = [
        "any_availability_zone",
        "availability_zone_affinity",
        "partial_availability_zone_affinity",
    ];
    if let Some(policy) = found.get("dns_record.client_routing_policy")
        && !policies.contains(&policy.as_str())
    {
        return Err(Rejection::invalid(format!(
            "annotation {PREFIX}attributes: dns_record.client_routing_policy is {}: write {}",
            quoted(policy),
            policies.join(" or ")
        )));
    }
    let logs = found.get("access_logs.s3.enabled").map(String::as_str);
    if logs.and_then(go_bool) == Some(true)
        && found
            .get("access_logs.s3.bucket")
            .is_none_or(String::is_empty)
    {
        let old = all.get(&format!("{PREFIX}access-log-enabled"));
        let place = old.or(source).map(Source::place).unwrap_or_default();
        return Err(Rejection::invalid(format!(
            "{place}: access logs are on but no bucket is named: add access_logs.s3.bucket=NAME to \
             annotation {PREFIX}attributes"
        )));
    }
    Ok(found)
}
