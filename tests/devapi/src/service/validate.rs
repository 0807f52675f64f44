//! `ValidateService`, `ValidateServiceUpdate`, `ValidateLoadBalancerStatus`: the rules in Kubernetes' words.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{
    cluster_ips, externally_accessible, ip_families, is_external_name, is_headless,
    is_load_balancer, kind, needs_health_check, node_port, ports, protocol,
};
use crate::error::Errors;
use crate::names;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const VALID_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// `MaxClientIPServiceAffinitySeconds`, one day, inclusive in spite of the text.
const MAX_CLIENT_IP_TIMEOUT: i32 = 86_400;

pub(super) fn spec(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> Errors {
    let mut errors = Errors::default();
    if let Some(old) = old {
        transition(spec, old, &mut errors);
    }
    if ports(spec).is_empty() && !is_headless(spec) && !is_external_name(spec) {
        errors.required("spec.ports", "");
    }
    if !TYPES.contains(&kind(spec)) {
        errors.not_supported("spec.type", kind(spec), &TYPES);
    }
    external_name(spec, &mut errors);
    all_ports(spec, &mut errors);
    affinity(spec, &mut errors);
    external_ips(spec, &mut errors);
    load_balancer(spec, &mut errors);
    policies(spec, &mut errors);
    errors
}

fn transition(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    if is_load_balancer(new)
        && is_load_balancer(old)
        && new.load_balancer_class != old.load_balancer_class
    {
        let value = json!(new.load_balancer_class);
        errors.invalid("spec.loadBalancerClass", value, "may not change once set");
    }
    // Filling in what this server left empty is no change.
    let was = old.health_check_node_port.unwrap_or(0);
    if needs_health_check(new)
        && needs_health_check(old)
        && was != 0
        && new.health_check_node_port != Some(was)
    {
        errors.forbidden("spec.healthCheckNodePort", "field is immutable");
    }
}

fn external_name(spec: &ServiceSpec, errors: &mut Errors) {
    if !is_external_name(spec) {
        return;
    }
    let mut forbid = |field: &str, given: bool| {
        if given {
            errors.forbidden(field, "may not be set for ExternalName services");
        }
    };
    forbid("spec.clusterIPs", !cluster_ips(spec).is_empty());
    forbid("spec.ipFamilies", !ip_families(spec).is_empty());
    forbid("spec.ipFamilyPolicy", spec.ip_family_policy.is_some());
    match spec.external_name.as_deref().unwrap_or_default() {
        "" => errors.required("spec.externalName", ""),
        name => {
            if let Some(wrong) = names::subdomain(name.strip_suffix('.').unwrap_or(name)) {
                errors.invalid("spec.externalName", name, wrong);
            }
        }
    }
}

fn all_ports(spec: &ServiceSpec, errors: &mut Errors) {
    let list = ports(spec);
    let mut seen_names = HashSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        match port.name.as_deref().unwrap_or_default() {
            "" if list.len() > 1 => errors.required(format!("{at}.name"), ""),
            "" => {}
            name => {
                if let Some(wrong) = names::label(name) {
                    errors.invalid(format!("{at}.name"), name, wrong);
                } else if !seen_names.insert(name) {
                    errors.duplicate(format!("{at}.name"), name);
                }
            }
        }
        one_port(spec, port, &at, errors);
    }
    let mut ports_seen = HashSet::new();
    let mut node_ports_seen = HashSet::new();
    for (i, port) in list.iter().enumerate() {
        if !ports_seen.insert((protocol(port), port.port)) {
            errors.duplicate(format!("spec.ports[{i}]"), go_port(port, 0));
        }
        let number = node_port(port);
        if number != 0 && !node_ports_seen.insert((protocol(port), number)) {
            let mut key = go_port(port, number);
            crate::resource::put(&mut key, &["Port"], 0.into());
            errors.duplicate(format!("spec.ports[{i}].nodePort"), key);
        }
    }
}

fn one_port(spec: &ServiceSpec, port: &ServicePort, at: &str, errors: &mut Errors) {
    const RANGE: &str = "must be between 1 and 65535, inclusive";
    if !(1..=65535).contains(&port.port) {
        errors.invalid(format!("{at}.port"), port.port, RANGE);
    }
    if !["TCP", "UDP", "SCTP"].contains(&protocol(port)) {
        let field = format!("{at}.protocol");
        errors.not_supported(field, protocol(port), &["SCTP", "TCP", "UDP"]);
    }
    match &port.target_port {
        Some(IntOrString::Int(n)) if !(1..=65535).contains(n) => {
            errors.invalid(format!("{at}.targetPort"), *n, RANGE);
        }
        Some(IntOrString::String(name)) => {
            if let Some(wrong) = wrong_port_name(name) {
                errors.invalid(format!("{at}.targetPort"), name.as_str(), wrong);
            }
        }
        Some(IntOrString::Int(_)) | None => {}
    }
    if let Some(app) = &port.app_protocol
        && let Some(wrong) = names::qualified(app)
    {
        errors.invalid(format!("{at}.appProtocol"), app.as_str(), wrong);
    }
    if kind(spec) == "ClusterIP" && node_port(port) != 0 {
        let why = "may not be used when `type` is 'ClusterIP'";
        errors.forbidden(format!("{at}.nodePort"), why);
    }
    if is_load_balancer(spec) && port.port == 10250 {
        let why = "may not expose port 10250 externally since it is used by kubelet";
        errors.invalid(format!("{at}.port"), port.port, why);
    }
}

/// `IsValidPortName` (RFC 6335 5.1).
fn wrong_port_name(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters");
    }
    if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens");
    }
    (name.starts_with('-') || name.ends_with('-')).then_some("must not begin or end with a hyphen")
}

/// Kubernetes prints its internal struct, which has no JSON names.
fn go_port(port: &ServicePort, number: i32) -> Value {
    json!({
        "Name": "", "Protocol": protocol(port), "AppProtocol": null, "Port": port.port, "TargetPort": 0,
        "NodePort": number,
    })
}

fn affinity(spec: &ServiceSpec, errors: &mut Errors) {
    let config = spec.session_affinity_config.as_ref();
    match spec.session_affinity.as_deref().unwrap_or_default() {
        "None" if config.is_some() => {
            let why = "must not be set when session affinity is None";
            errors.forbidden("spec.sessionAffinityConfig", why);
        }
        "None" => {}
        "ClientIP" => {
            let seconds = config
                .and_then(|c| c.client_ip.as_ref())
                .and_then(|c| c.timeout_seconds)
                .unwrap_or(0);
            if !(1..=MAX_CLIENT_IP_TIMEOUT).contains(&seconds) {
                let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
                let why = format!("must be greater than 0 and less than {MAX_CLIENT_IP_TIMEOUT}");
                errors.invalid(field, seconds, why);
            }
        }
        other => errors.not_supported("spec.sessionAffinity", other, &["ClientIP", "None"]),
    }
}

fn external_ips(spec: &ServiceSpec, errors: &mut Errors) {
    for (i, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
        let wrong = match text.parse::<IpAddr>() {
            Err(_) => Some(VALID_IP),
            Ok(ip) if ip.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
            Ok(ip) if ip.is_loopback() => {
                Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
            }
            Ok(IpAddr::V4(ip)) if ip.is_link_local() => {
                Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
            }
            Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            errors.invalid(field, text.as_str(), wrong);
        }
    }
}

fn load_balancer(spec: &ServiceSpec, errors: &mut Errors) {
    let ranges = spec
        .load_balancer_source_ranges
        .as_deref()
        .unwrap_or_default();
    if !is_load_balancer(spec) {
        let allocate = spec.allocate_load_balancer_node_ports.is_some();
        for (field, given) in [
            ("spec.LoadBalancerSourceRanges", !ranges.is_empty()),
            ("spec.allocateLoadBalancerNodePorts", allocate),
            ("spec.loadBalancerClass", spec.load_balancer_class.is_some()),
        ] {
            if given {
                errors.forbidden(field, ONLY_LOAD_BALANCER);
            }
        }
        return;
    }
    for (i, range) in ranges.iter().enumerate() {
        if !valid_cidr(range.trim()) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            let field = format!("spec.LoadBalancerSourceRanges[{i}]");
            errors.invalid(field, range.as_str(), why);
        }
    }
    if let Some(class) = &spec.load_balancer_class
        && let Some(wrong) = names::qualified(class)
    {
        errors.invalid("spec.loadBalancerClass", class.as_str(), wrong);
    }
}

fn valid_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

fn policies(spec: &ServiceSpec, errors: &mut Errors) {
    const BOTH: [&str; 2] = ["Cluster", "Local"];
    match spec.external_traffic_policy.as_deref() {
        Some(policy) if !externally_accessible(spec) => {
            let why = "may only be set for externally-accessible services";
            errors.invalid("spec.externalTrafficPolicy", policy, why);
        }
        Some(policy) if !BOTH.contains(&policy) => {
            errors.not_supported("spec.externalTrafficPolicy", policy, &BOTH);
        }
        None if externally_accessible(spec) => errors.required("spec.externalTrafficPolicy", ""),
        Some(_) | None => {}
    }
    let port = spec.health_check_node_port.unwrap_or(0);
    if port != 0 && !needs_health_check(spec) {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid("spec.healthCheckNodePort", port, why);
    }
    const FAMILY: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    const CLOSE: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    let (internal, distribution) = (&spec.internal_traffic_policy, &spec.traffic_distribution);
    for (field, given, allowed) in [
        ("spec.internalTrafficPolicy", internal, &BOTH[..]),
        ("spec.ipFamilyPolicy", &spec.ip_family_policy, &FAMILY),
        ("spec.trafficDistribution", distribution, &CLOSE),
    ] {
        if let Some(word) = given.as_deref().filter(|word| !allowed.contains(word)) {
            errors.not_supported(field, word, allowed);
        }
    }
}

pub(super) fn status(service: &Service) -> Errors {
    let mut errors = Errors::default();
    let balancer = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|b| b.ingress.as_deref())
        .unwrap_or_default();
    let at = "status.loadBalancer.ingress";
    if !ingress.is_empty() && !service.spec.as_ref().is_some_and(is_load_balancer) {
        errors.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for (i, entry) in ingress.iter().enumerate() {
        let ip = entry.ip.as_deref().unwrap_or_default();
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            errors.invalid(format!("{at}[{i}].ip"), ip, VALID_IP);
        }
        let field = format!("{at}[{i}].ipMode");
        match entry.ip_mode.as_deref() {
            None if !ip.is_empty() => errors.required(field, "must be specified when `ip` is set"),
            Some(_) if ip.is_empty() => {
                errors.forbidden(field, "may not be specified when `ip` is not set");
            }
            Some(mode) if mode != "VIP" && mode != "Proxy" => {
                errors.not_supported(field, mode, &["Proxy", "VIP"]);
            }
            Some(_) | None => {}
        }
        let hostname = entry.hostname.as_deref().unwrap_or_default();
        let field = format!("{at}[{i}].hostname");
        if !hostname.is_empty() {
            if let Some(wrong) = names::subdomain(hostname) {
                errors.invalid(field.as_str(), hostname, wrong);
            }
            if hostname.parse::<IpAddr>().is_ok() {
                errors.invalid(field, hostname, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}
