//! One Service's listeners and target groups: which protocol each has, how its targets are checked,
//! and what is refused because a Network Load Balancer has one listener a port.

use std::collections::{BTreeMap, BTreeSet};

use model::{Family, Protocol as Transport};

use crate::{
    Rejection,
    annotations::{PREFIX, Request, go_bool},
    attributes::{PRESERVE_CLIENT_IP, PROXY_PROTOCOL},
    input::{Class, Service, ServicePort, TargetPort},
    names::{self, TargetGroupName},
    quoted, tags,
    wanted::{IpAddressType, Listener, Protocol, TargetGroup, TargetType},
};

mod check;

#[cfg(test)]
mod tests;

/// What a Service's ports become, targets not yet in it.
#[derive(Clone, Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) port: u16,
    /// LBC's id of the target group: `shop/web:443`.
    pub(crate) key: String,
    pub(crate) listener: Listener,
    pub(crate) target_group: TargetGroup,
    /// Names of the Service ports: two when TCP and UDP are one.
    pub(crate) first: &'a ServicePort,
    pub(crate) second: Option<&'a ServicePort>,
}

/// What a Service's ports are planned with.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) class: &'a Class,
    pub(crate) stack: &'a str,
    pub(crate) vpc: &'a str,
    pub(crate) families: IpAddressType,
}

/// Listeners and target groups of one Service, and what it should know.
///
/// # Errors
/// The first port that cannot be had, as a sentence with the cure.
pub(crate) fn plan<'a>(
    frame: Frame<'_>,
    service: &'a Service,
    request: &Request,
) -> Result<(Vec<Planned<'a>>, Vec<String>), Rejection> {
    let mut of_port: BTreeMap<u16, Vec<&ServicePort>> = BTreeMap::new();
    for port in &service.ports {
        of_port.entry(port.port).or_default().push(port);
    }
    check_tls_ports(service, request)?;
    let ipv6 = ipv6(service, frame.families)?;
    let users = tags::users(frame.class, &request.tags)?;
    let mut planned = vec![];
    for (number, ports) in of_port {
        let (first, second) = match ports.as_slice() {
            [] => continue,
            [one] => (*one, None),
            [first, second, ..] => {
                mixed(request, first, second)?;
                let tcp_first = first.protocol == Transport::Tcp;
                if tcp_first {
                    (*first, Some(*second))
                } else {
                    (*second, Some(*first))
                }
            }
        };
        let (listener, behind) = protocols(request, first, second)?;
        let key = format!("{}:{number}", service.key);
        let target_port = target_port(request.target_type, first)?;
        let health_check = check::health_check(service, request)?;
        let name = names::target_group(TargetGroupName {
            cluster: &frame.class.cluster,
            service,
            port: number,
            target_port,
            target_type: request.target_type,
            protocol: behind,
            check: health_check.protocol,
            interval: health_check.interval,
            ipv6,
        });
        let tls = listener == Protocol::Tls;
        let attributes = request.listener_attributes.get(&(listener, number));
        planned.push(Planned {
            port: number,
            listener: Listener {
                protocol: listener,
                certificates: if tls {
                    request.certificates.clone()
                } else {
                    vec![]
                },
                ssl_policy: tls.then(|| request.ssl_policy.as_deref().unwrap_or(POLICY).to_owned()),
                alpn: request.alpn.clone().filter(|_| tls),
                target_group: key.clone(),
                // AWS: a TLS listener has none.
                attributes: attributes.filter(|_| !tls).cloned().unwrap_or_default(),
            },
            target_group: TargetGroup {
                name,
                vpc: frame.vpc.to_owned(),
                protocol: behind,
                port: target_port,
                target_type: request.target_type,
                ipv6,
                health_check,
                attributes: attributes_of(request, number),
                targets: BTreeSet::new(),
                tags: tags::of(frame.class, frame.stack, &key, &users),
            },
            key,
            first,
            second,
        });
    }
    let warnings = warnings(service, request, &planned, frame.families);
    Ok((planned, warnings))
}

/// LBC's --default-ssl-policy, and what AWS takes when none is given.
const POLICY: &str = "ELBSecurityPolicy-2016-08";

/// LBC: IPv6 targets if that is the Service's first family.
fn ipv6(service: &Service, families: IpAddressType) -> Result<bool, Rejection> {
    match (service.families.first(), families) {
        (None | Some(Family::V4), _) => Ok(false),
        (Some(Family::V6), IpAddressType::Dualstack) => Ok(true),
        (Some(Family::V6), IpAddressType::Ipv4) => Err(Rejection::conflict(format!(
            "spec.ipFamilies begins with IPv6, but the load balancer has IPv4 addresses only: add \
             annotation {PREFIX}ip-address-type: dualstack or put IPv4 first"
        ))),
    }
}

fn is_tls_port(request: &Request, port: &ServicePort) -> bool {
    request.tls_ports.is_empty()
        || request
            .tls_ports
            .iter()
            .any(|tls| *tls == port.name || *tls == port.port.to_string())
}

/// LBC: what `ssl-ports` names must be there.
fn check_tls_ports(service: &Service, request: &Request) -> Result<(), Rejection> {
    let name = format!("{PREFIX}ssl-ports");
    if !service.annotations.contains_key(&name) {
        return Ok(());
    }
    let known = |tls: &String| {
        let mut ports = service.ports.iter();
        ports.any(|port| *tls == port.name || *tls == port.port.to_string())
    };
    match request.tls_ports.iter().find(|tls| !known(tls)) {
        None => Ok(()),
        Some(unknown) => Err(Rejection::invalid(format!(
            "annotation {name}: {} is neither name nor number of a port in spec.ports: remove it, \
             or remove the annotation to have TLS on all ports",
            quoted(unknown)
        ))),
    }
}

/// Two protocols on one port.
fn mixed(request: &Request, first: &ServicePort, second: &ServicePort) -> Result<(), Rejection> {
    let number = first.port;
    if !request.tcp_udp {
        return Err(Rejection::conflict(format!(
            "spec.ports: {number} is there for {} and {}, but annotation \
             {PREFIX}enable-tcp-udp-listener is false and a Network Load Balancer has one listener \
             a port: remove the annotation or one of the ports",
            first.protocol, second.protocol
        )));
    }
    match request.target_type {
        TargetType::Instance if first.node_port != second.node_port => {
            Err(Rejection::conflict(format!(
                "spec.ports: {number} has nodePort {} for {} and {} for {}, but TCP and UDP on one \
                 port share a target group, which has one port of each node: set the same nodePort \
                 on both",
                first.node_port, first.protocol, second.node_port, second.protocol
            )))
        }
        TargetType::Instance => Ok(()),
        TargetType::Ip => match (&first.target_port, &second.target_port) {
            (TargetPort::Number(a), TargetPort::Number(b)) if a != b => {
                Err(Rejection::conflict(format!(
                    "spec.ports: {number} has targetPort {a} for {} and {b} for {}, but TCP and UDP \
                     on one port share a target group, which has one port of each pod: set the same \
                     targetPort on both",
                    first.protocol, second.protocol
                )))
            }
            (TargetPort::Number(_) | TargetPort::Name(_), _) => Ok(()),
        },
    }
}

/// Of the listener and of the target group behind it.
fn protocols(
    request: &Request,
    first: &ServicePort,
    second: Option<&ServicePort>,
) -> Result<(Protocol, Protocol), Rejection> {
    let tls = !request.certificates.is_empty()
        && first.protocol == Transport::Tcp
        && is_tls_port(request, first);
    match (tls, second) {
        (true, Some(_)) => Err(Rejection::conflict(format!(
            "spec.ports: {} is there for TLS and for UDP, but a Network Load Balancer has one \
             listener a port: name the ports with TLS in annotation {PREFIX}ssl-ports, or remove \
             one of the two",
            first.port
        ))),
        (true, None) if request.backend_tls => Ok((Protocol::Tls, Protocol::Tls)),
        (true, None) => Ok((Protocol::Tls, Protocol::Tcp)),
        (false, Some(_)) => Ok((Protocol::TcpUdp, Protocol::TcpUdp)),
        (false, None) => match first.protocol {
            Transport::Tcp => Ok((Protocol::Tcp, Protocol::Tcp)),
            Transport::Udp => Ok((Protocol::Udp, Protocol::Udp)),
            Transport::Sctp => Err(Rejection::invalid(format!(
                "spec.ports: port {} is SCTP, which a Network Load Balancer does not have: remove it",
                first.port
            ))),
        },
    }
}

/// LBC: the nodePort; the target port if it is a number, else 1. Each target has its own.
fn target_port(target_type: TargetType, port: &ServicePort) -> Result<u16, Rejection> {
    match (target_type, &port.target_port) {
        (TargetType::Instance, _) if port.node_port == 0 => Err(Rejection::conflict(format!(
            "spec.ports: {} has no nodePort, which instance targets need: set \
             spec.allocateLoadBalancerNodePorts to true, or add annotation \
             {PREFIX}nlb-target-type: ip",
            port.port
        ))),
        (TargetType::Instance, _) => Ok(port.node_port),
        (TargetType::Ip, TargetPort::Number(number)) => Ok(*number),
        (TargetType::Ip, TargetPort::Name(_)) => Ok(1),
    }
}

/// LBC: those of the port win over those of all, an empty value does not; both annotations for proxy
/// protocol win over either, the one with ports over the other.
fn attributes_of(request: &Request, port: u16) -> BTreeMap<String, String> {
    let mut found = request.target_group_attributes.clone();
    for (key, value) in request
        .target_group_attributes_of
        .get(&port)
        .into_iter()
        .flatten()
    {
        if !value.is_empty() || !found.contains_key(key) {
            found.insert(key.clone(), value.clone());
        }
    }
    if request.proxy_protocol {
        found.insert(PROXY_PROTOCOL.to_owned(), true.to_string());
    }
    if let Some(ports) = &request.proxy_protocol_ports {
        found.insert(PROXY_PROTOCOL.to_owned(), ports.contains(&port).to_string());
    }
    found
}

/// What a user should know and nothing stops for.
fn warnings(
    service: &Service,
    request: &Request,
    planned: &[Planned<'_>],
    families: IpAddressType,
) -> Vec<String> {
    let has = |port: u16| planned.iter().any(|planned| planned.port == port);
    let own = |name: &str| service.annotations.contains_key(name);
    let mut found = vec![];
    let ports = format!("{PREFIX}proxy-protocol-per-target-group");
    if own(&ports) {
        for port in request
            .proxy_protocol_ports
            .iter()
            .flatten()
            .filter(|port| !has(**port))
        {
            found.push(format!(
                "annotation {ports}: {port} is no port in spec.ports"
            ));
        }
    }
    for port in request
        .target_group_attributes_of
        .keys()
        .filter(|port| !has(**port))
    {
        let name = format!("{PREFIX}target-group-attributes.{port}");
        if own(&name) {
            found.push(format!(
                "annotation {name}: {port} is no port in spec.ports"
            ));
        }
    }
    for (protocol, port) in request.listener_attributes.keys() {
        let name = format!("{PREFIX}listener-attributes.{}-{port}", protocol.as_str());
        let listener = planned.iter().find(|planned| planned.port == *port);
        let there = listener.is_some_and(|planned| planned.listener.protocol == *protocol);
        if own(&name) && *protocol == Protocol::Tls {
            found.push(format!(
                "annotation {name}: a TLS listener has no attributes"
            ));
        } else if own(&name) && !there {
            found.push(format!(
                "annotation {name}: there is no {} listener on port {port}{}",
                protocol.as_str(),
                listener
                    .map(|planned| format!("; it is {}", planned.listener.protocol.as_str()))
                    .unwrap_or_default()
            ));
        }
    }
    for planned in planned {
        let group = &planned.target_group;
        if group.protocol == Protocol::Udp && group.health_check.port == check::TRAFFIC_PORT {
            found.push(format!(
                "spec.ports: {} is UDP, but its targets are checked by {} on the same port, where \
                 nothing may answer: name a TCP port in annotation {PREFIX}healthcheck-port",
                planned.port,
                group.health_check.protocol.as_str()
            ));
        }
        let udp = match group.protocol {
            Protocol::Udp | Protocol::TcpUdp => true,
            Protocol::Tcp | Protocol::Tls => false,
        };
        if udp && families == IpAddressType::Dualstack && !request.ipv6_source_nat {
            found.push(format!(
                "spec.ports: {} is UDP on a dualstack load balancer, which AWS takes only with \
                 annotation {PREFIX}enable-prefix-for-ipv6-source-nat: \"on\"",
                planned.port
            ));
        }
        let preserve = group.attributes.get(PRESERVE_CLIENT_IP);
        if group.target_type == TargetType::Ip
            && preserve.map(String::as_str).and_then(go_bool) == Some(true)
        {
            found.push(format!(
                "spec.ports: {} keeps the client's address: a pod that connects to its own Service \
                 through the load balancer will time out when it is its own target",
                planned.port
            ));
        }
    }
    found
}
