//! `SetDefaults_Service`.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{externally_accessible, is_external_name, is_load_balancer};

/// Three hours (`DefaultClientIPServiceAffinitySeconds`).
const CLIENT_IP_TIMEOUT: i32 = 10_800;

pub(super) fn spec(spec: &mut ServiceSpec) {
    fill(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let unset = |c: &SessionAffinityConfig| {
            c.client_ip
                .as_ref()
                .and_then(|c| c.timeout_seconds)
                .is_none()
        };
        if spec.session_affinity_config.as_ref().is_none_or(unset) {
            let client_ip = Some(ClientIPConfig {
                timeout_seconds: Some(CLIENT_IP_TIMEOUT),
            });
            spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        }
    }
    fill(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if externally_accessible(spec) {
        fill(&mut spec.external_traffic_policy, "Cluster");
    }
    if !is_external_name(spec) {
        fill(&mut spec.internal_traffic_policy, "Cluster");
    }
    if is_load_balancer(spec) && spec.allocate_load_balancer_node_ports.is_none() {
        spec.allocate_load_balancer_node_ports = Some(true);
    }
}

/// `ipMode` of entries with an `ip` (KEP-1860).
pub(super) fn status(service: &mut Service) {
    if !service.spec.as_ref().is_some_and(is_load_balancer) {
        return;
    }
    let balancer = service
        .status
        .get_or_insert_default()
        .load_balancer
        .get_or_insert_default();
    for entry in balancer.ingress.iter_mut().flatten() {
        if entry.ip.as_ref().is_some_and(|ip| !ip.is_empty()) && entry.ip_mode.is_none() {
            entry.ip_mode = Some("VIP".to_owned());
        }
    }
}

fn fill(field: &mut Option<String>, value: &str) {
    if field.as_ref().is_none_or(String::is_empty) {
        *field = Some(value.to_owned());
    }
}
