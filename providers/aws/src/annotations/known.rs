//! Which annotations under LBC's prefix are known, and what is said about those that are not
//! carried out.

use super::{
    PREFIX,
    values::{Annotations, nearest},
};
use crate::Rejection;

/// Everything after [`PREFIX`] that is carried out.
pub(crate) const KNOWN: [&str; 47] = [
    "type",
    "nlb-target-type",
    "name",
    "scheme",
    "internal",
    "subnets",
    "eip-allocations",
    "private-ipv4-addresses",
    "ipv6-addresses",
    "ip-address-type",
    "enable-prefix-for-ipv6-source-nat",
    "source-nat-ipv6-prefixes",
    "proxy-protocol",
    "proxy-protocol-per-target-group",
    "ssl-cert",
    "ssl-ports",
    "ssl-negotiation-policy",
    "backend-protocol",
    "alpn-policy",
    "healthcheck-protocol",
    "healthcheck-port",
    "healthcheck-path",
    "healthcheck-interval",
    "healthcheck-timeout",
    "healthcheck-healthy-threshold",
    "healthcheck-unhealthy-threshold",
    "healthcheck-success-codes",
    "target-group-attributes",
    "target-node-labels",
    "attributes",
    "access-log-enabled",
    "access-log-s3-bucket-name",
    "access-log-s3-bucket-prefix",
    "cross-zone-load-balancing-enabled",
    "additional-resource-tags",
    "security-groups",
    "manage-backend-security-group-rules",
    "inbound-sg-rules-on-private-link-traffic",
    "security-group-prefix-lists",
    "enable-icmp-for-path-mtu-discovery",
    "disable-nlb-sg",
    "enable-tcp-udp-listener",
    // Of these there is one for each port or listener.
    "target-group-attributes.",
    "listener-attributes.",
    // Known, and refused below.
    "multi-cluster-target-group",
    "minimum-load-balancer-capacity",
    "quic-enabled-ports",
];

/// What is said about annotations that are known and not carried out.
const REFUSED: [(&str, &str); 3] = [
    (
        "multi-cluster-target-group",
        "Portolan does not share a target group with other clusters: remove the annotation and \
         give each cluster its own load balancer",
    ),
    (
        "minimum-load-balancer-capacity",
        "Portolan does not reserve capacity: remove the annotation and reserve it with \
         aws elbv2 modify-capacity-reservation, which Portolan leaves alone",
    ),
    (
        "quic-enabled-ports",
        "Portolan makes no QUIC listeners: remove the annotation, and UDP ports are forwarded as \
         UDP",
    ),
];

/// Annotations of whole other schemes that LBC reads under the Service's own prefix.
const ACTIONS: [&str; 2] = ["service.beta.kubernetes.io/actions.", "actions."];

/// Refuses what is not carried out.
pub(super) fn refuse_others(all: Annotations<'_>) -> Result<(), Rejection> {
    for source in all.all() {
        if ACTIONS.iter().any(|prefix| source.name.starts_with(prefix)) {
            return Err(Rejection::invalid(format!(
                "{}: Portolan has no weighted target groups: remove the annotation",
                source.place()
            )));
        }
        let Some(suffix) = source.name.strip_prefix(PREFIX) else {
            continue;
        };
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == suffix) {
            return Err(Rejection::invalid(format!("{}: {why}", source.place())));
        }
        let family = suffix
            .split_once('.')
            .map(|(family, _)| format!("{family}."));
        if !KNOWN.contains(&suffix) && !family.is_some_and(|family| KNOWN.contains(&&*family)) {
            let cure = match nearest(suffix, &KNOWN) {
                Some(meant) => format!("did you mean {PREFIX}{meant}? Otherwise remove it"),
                None => "remove it".to_owned(),
            };
            return Err(Rejection::invalid(format!(
                "{}: no such annotation is known for Network Load Balancers; {cure}",
                source.place()
            )));
        }
    }
    Ok(())
}
