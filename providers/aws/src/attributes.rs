//! What AWS gives an attribute that nobody sets. An attribute that a Service no longer names goes
//! back to this value; one that is not in these tables is left as it is.
//!
//! Source: the ELB API reference, LoadBalancerAttribute, TargetGroupAttribute, ListenerAttribute.

use std::collections::BTreeMap;

use crate::wanted::{Protocol, TargetType};

/// Switched on by hand or by a Service, it is never switched off unless the Service says so.
pub(crate) const DELETION_PROTECTION: &str = "deletion_protection.enabled";
/// Whether each zone's addresses forward to targets in every zone.
pub(crate) const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
/// Whether targets see the client's address.
pub(crate) const PRESERVE_CLIENT_IP: &str = "preserve_client_ip.enabled";

/// Whether targets are told the client's address in a header.
pub(crate) const PROXY_PROTOCOL: &str = "proxy_protocol_v2.enabled";

const LOAD_BALANCER: [(&str, &str); 4] = [
    ("access_logs.s3.enabled", "false"),
    ("dns_record.client_routing_policy", "any_availability_zone"),
    (CROSS_ZONE, "false"),
    ("zonal_shift.config.enabled", "false"),
];

const TARGET_GROUP: [(&str, &str); 7] = [
    (
        "deregistration_delay.connection_termination.enabled",
        "false",
    ),
    ("deregistration_delay.timeout_seconds", "300"),
    (CROSS_ZONE, "use_load_balancer_configuration"),
    (PROXY_PROTOCOL, "false"),
    ("stickiness.enabled", "false"),
    ("stickiness.type", "source_ip"),
    (
        "target_health_state.unhealthy.connection_termination.enabled",
        "true",
    ),
];

const LISTENER: [(&str, &str); 1] = [("tcp.idle_timeout.seconds", "350")];

/// Of a load balancer.
pub(crate) fn of_load_balancer(key: &str) -> Option<&'static str> {
    find(&LOAD_BALANCER, key)
}

/// Of a listener.
pub(crate) fn of_listener(key: &str) -> Option<&'static str> {
    find(&LISTENER, key)
}

/// Of a target group; whether targets see the client's address depends on what they are.
pub(crate) fn of_target_group(
    key: &str,
    target_type: TargetType,
    protocol: Protocol,
) -> Option<&'static str> {
    if key != PRESERVE_CLIENT_IP {
        return find(&TARGET_GROUP, key);
    }
    let preserves = match (target_type, protocol) {
        (TargetType::Instance, _) | (TargetType::Ip, Protocol::Udp | Protocol::TcpUdp) => true,
        (TargetType::Ip, Protocol::Tcp | Protocol::Tls) => false,
    };
    Some(if preserves { "true" } else { "false" })
}

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    let row = table.iter().find(|(name, _)| *name == key);
    row.map(|(_, value)| *value)
}

/// What must be said so that those attributes are as wanted: what differs from what is there and,
/// for one that nobody names, from the default. Of something just made (`there` is `None`) the
/// defaults are there.
pub(crate) fn changes(
    wanted: &BTreeMap<String, String>,
    there: Option<&BTreeMap<String, String>>,
    default: impl Fn(&str) -> Option<&'static str>,
) -> BTreeMap<String, String> {
    let named = wanted.iter().filter(|(key, value)| {
        let now = match there {
            Some(there) => there.get(*key).map(String::as_str),
            None => default(key),
        };
        now != Some(value)
    });
    let mut changes: BTreeMap<String, String> = named
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in there.into_iter().flatten() {
        if !wanted.contains_key(key)
            && let Some(default) = default(key)
            && default != value
        {
            changes.insert(key.clone(), default.to_owned());
        }
    }
    changes
}
