//! What load balancers, target groups and security groups are called: as LBC calls them, so that
//! who moves from it finds them under the names he knows. Names do not identify: tags do.

use sha2::{Digest, Sha256};

use crate::{
    input::Service,
    wanted::{HealthCheckProtocol, Protocol, Scheme, TargetType},
};

/// What names begin with that nobody chooses: no annotation may, so that what AWS has under such a name
/// is what we have made under it.
pub const GIVEN: &str = "k8s-";

/// Of a load balancer: `k8s-shop-web-6b0ba8ff70`. `identity` is the Service's UID, or the stack of a
/// group.
pub fn load_balancer(
    cluster: &str,
    namespace: &str,
    name: &str,
    identity: &str,
    scheme: Scheme,
) -> String {
    named(namespace, name, &[cluster, identity, scheme.as_str()])
}

/// What the name of a target group depends on.
#[derive(Clone, Copy, Debug)]
pub struct TargetGroupName<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// Whose it is.
    pub service: &'a Service,
    /// The Service port.
    pub port: u16,
    /// The nodePort, or the target port if it is a number, else 1.
    pub target_port: u16,
    /// What is registered.
    pub target_type: TargetType,
    /// Its protocol.
    pub protocol: Protocol,
    /// The protocol of its health check.
    pub check: HealthCheckProtocol,
    /// Seconds between two health checks.
    pub interval: u32,
    /// IPv6 targets. LBC's names do not have it, so that it cannot make the one beside the other.
    pub ipv6: bool,
}

/// Of a target group. All that cannot be changed in place is in it, so that a new one can be made
/// beside the old one.
pub fn target_group(of: TargetGroupName<'_>) -> String {
    named(
        &of.service.key.namespace,
        &of.service.key.name,
        &[
            of.cluster,
            of.service.uid.as_str(),
            &of.target_port.to_string(),
            &of.port.to_string(),
            of.target_type.as_str(),
            of.protocol.as_str(),
            of.check.as_str(),
            &of.interval.to_string(),
            if of.ipv6 { "ipv6" } else { "" },
        ],
    )
}

/// Of the security group in front of a load balancer.
pub fn security_group(cluster: &str, namespace: &str, name: &str, identity: &str) -> String {
    named(namespace, name, &[cluster, name, namespace, identity])
}

/// Of the security group that nodes let in: one a cluster and VPC, and not the one that LBC makes
/// (`k8s-traffic-…`).
pub fn traffic_security_group(cluster: &str) -> String {
    format!(
        "portolan-traffic-{:.200}-{:.10}",
        alphanumeric(cluster),
        hash(&[cluster])
    )
}

fn named(namespace: &str, name: &str, parts: &[&str]) -> String {
    format!(
        "{GIVEN}{:.8}-{:.8}-{:.10}",
        alphanumeric(namespace),
        alphanumeric(name),
        hash(parts)
    )
}

fn alphanumeric(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// SHA-256 of the parts one after the other, in hexadecimal.
pub(crate) fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    const UID: &str = "bdca2bd0-bfc6-449a-88a3-03451f05f18c";

    #[test]
    fn load_balancers_are_called_as_lbc_calls_them() {
        let rows = [
            (
                "",
                "foo",
                "bar",
                "",
                Scheme::InternetFacing,
                "k8s-foo-bar-e053368fb2",
            ),
            (
                "my-cluster",
                "default",
                "nlb-ip-svc-tls",
                UID,
                Scheme::Internal,
                "k8s-default-nlbipsvc-6b0ba8ff70",
            ),
            (
                "my-cluster",
                "default",
                "nlb-ip-svc-tls",
                UID,
                Scheme::InternetFacing,
                "k8s-default-nlbipsvc-4d831c6ca6",
            ),
        ];
        for (cluster, namespace, name, uid, scheme, expected) in rows {
            let named = load_balancer(cluster, namespace, name, uid, scheme);
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn target_groups_are_called_as_lbc_calls_them() {
        let service = crate::input::Service {
            key: model::ServiceKey::new("default", "nlb-ip-svc-tls"),
            uid: UID.into(),
            ..fixtures::service("any", &[])
        };
        let of = TargetGroupName {
            cluster: "my-cluster",
            service: &service,
            port: 80,
            target_port: 80,
            target_type: TargetType::Ip,
            protocol: Protocol::Tcp,
            check: HealthCheckProtocol::Tcp,
            interval: 10,
            ipv6: false,
        };
        assert_eq!(target_group(of), "k8s-default-nlbipsvc-d4818dcd51");
        assert_ne!(
            target_group(of),
            target_group(TargetGroupName { ipv6: true, ..of }),
            "the one can be made beside the other"
        );
    }

    #[test]
    fn security_groups_are_called_as_lbc_calls_them() {
        let named = security_group("my-cluster", "default", "nlb-ip-svc-tls", UID);
        assert_eq!(named, "k8s-default-nlbipsvc-1da4b78715");
    }

    #[test]
    fn the_traffic_group_is_not_called_as_lbcs() {
        let named = traffic_security_group("my-cluster");
        assert_eq!(named, "portolan-traffic-mycluster-4cbfcec96c");
        assert_ne!(named, traffic_security_group("mycluster"));
    }

    #[test]
    fn a_name_has_at_most_32_characters_and_none_that_aws_refuses() {
        let named = load_balancer(
            "c",
            "a-very-long-namespace-name",
            "a.very-long-name",
            "u",
            Scheme::Internal,
        );
        assert!(named.len() <= 32, "{named}");
        assert!(named.starts_with("k8s-averylon-averylon-"), "{named}");
    }
}
