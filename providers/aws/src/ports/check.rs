//! How targets are checked: LBC's defaults, and what a Service says instead.

use crate::{
    Rejection,
    annotations::{PREFIX, Request},
    input::{Service, TargetPort},
    quoted,
    wanted::{HealthCheck, HealthCheckProtocol, TargetType},
};

/// AWS's word for the port that traffic goes to.
pub(super) const TRAFFIC_PORT: &str = "traffic-port";

/// LBC: with `externalTrafficPolicy: Local` and instance targets kube-proxy answers whether a node has
/// endpoints.
pub(super) fn health_check(service: &Service, request: &Request) -> Result<HealthCheck, Rejection> {
    let asked = &request.health_check;
    let local = service.local && request.target_type == TargetType::Instance;
    let protocol = asked.protocol.unwrap_or(match local {
        true => HealthCheckProtocol::Http,
        false => HealthCheckProtocol::Tcp,
    });
    let http = match protocol {
        HealthCheckProtocol::Tcp => false,
        HealthCheckProtocol::Http | HealthCheckProtocol::Https => true,
    };
    let port = match &asked.port {
        Some(port) => port_of(service, request, port)?,
        None if local && service.health_check_node_port == 0 => {
            return Err(Rejection::invalid(
                "spec.healthCheckNodePort is not set, by which nodes with externalTrafficPolicy \
                 Local are checked: set it, or set externalTrafficPolicy to Cluster",
            ));
        }
        None if local => service.health_check_node_port.to_string(),
        None => TRAFFIC_PORT.to_owned(),
    };
    let threshold = if local { 2 } else { 3 };
    let timeout = if local { 6 } else { 10 };
    // AWS refuses a timeout beyond the interval; who sets one of them does not mean that.
    let interval = asked
        .interval
        .unwrap_or(10.max(asked.timeout.unwrap_or_default()));
    Ok(HealthCheck {
        protocol,
        port,
        path: http.then(|| {
            let path = if local { "/healthz" } else { "/" };
            asked.path.clone().unwrap_or(path.to_owned())
        }),
        success_codes: http.then(|| {
            let codes = asked.success_codes.clone();
            codes.unwrap_or("200-399".to_owned())
        }),
        interval,
        timeout: asked.timeout.unwrap_or(timeout.min(interval)),
        healthy_threshold: asked.healthy_threshold.unwrap_or(threshold),
        unhealthy_threshold: asked.unhealthy_threshold.unwrap_or(threshold),
    })
}

/// A number, `traffic-port` or the name of a Service port.
fn port_of(service: &Service, request: &Request, asked: &str) -> Result<String, Rejection> {
    let refuse = |why: &str| {
        Err(Rejection::invalid(format!(
            "annotation {PREFIX}healthcheck-port: {} {why}: write a number from 1 to 65535, \
             traffic-port or the name of a port in spec.ports",
            quoted(asked)
        )))
    };
    if asked == TRAFFIC_PORT {
        return Ok(asked.to_owned());
    }
    if asked.bytes().all(|byte| byte.is_ascii_digit()) {
        return match asked.parse::<u16>() {
            Ok(number) if number > 0 => Ok(number.to_string()),
            Ok(_) | Err(_) => refuse("is not a port"),
        };
    }
    let Some(port) = service.ports.iter().find(|port| port.name == asked) else {
        return refuse("is not the name of a port in spec.ports");
    };
    match (request.target_type, &port.target_port) {
        (TargetType::Instance, _) if port.node_port == 0 => refuse("has no nodePort"),
        (TargetType::Instance, _) => Ok(port.node_port.to_string()),
        (TargetType::Ip, TargetPort::Number(number)) => Ok(number.to_string()),
        (TargetType::Ip, TargetPort::Name(_)) => {
            refuse("has a named targetPort, which may be another number in each pod")
        }
    }
}
