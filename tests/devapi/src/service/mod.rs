//! Services as the registry of a real kube-apiserver treats them: defaulting, inheritance, wiping, validation.
//!
//! The one difference: nothing is allocated. What a client leaves empty of clusterIPs, ipFamilies, nodePorts and
//! healthCheckNodePort stays empty and may be filled in later, once, by an update.

mod default;
mod families;
mod update;
mod validate;

use k8s_openapi::api::core::v1::{
    LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use serde_json::{Value, json};

use crate::error::Errors;
use crate::resource::put;

pub(crate) fn create(value: &mut Value) -> Errors {
    with(value, None, |service, _| {
        service.status = Some(ServiceStatus::default());
        default::spec(spec(service));
        let mut errors = families::create(spec(service));
        if errors.is_empty() {
            errors = validate::spec(spec(service), None);
        }
        errors
    })
}

pub(crate) fn update(value: &mut Value, old: &Value) -> Errors {
    with(value, Some(old), |service, old| {
        let Some(old) = old else {
            return Errors::default();
        };
        default::spec(spec(service));
        let none = ServiceSpec::default();
        let old_spec = old.spec.as_ref().unwrap_or(&none);
        update::normalise_cluster_ips(spec(service), old_spec);
        update::inherit(spec(service), old_spec);
        let mut errors = families::update(spec(service), old_spec);
        update::wipe(service, old_spec);
        if errors.is_empty() {
            errors = validate::spec(spec(service), Some(old_spec));
        }
        errors
    })
}

pub(crate) fn update_status(value: &mut Value, old: &Value) -> Errors {
    with(value, Some(old), |service, _| {
        default::status(service);
        validate::status(service)
    })
}

/// Runs a step on the typed Service and writes the result back in the shape Kubernetes prints.
fn with(
    value: &mut Value,
    old: Option<&Value>,
    step: impl FnOnce(&mut Service, Option<&Service>) -> Errors,
) -> Errors {
    let parse = |v: &Value| serde_json::from_value::<Service>(v.clone());
    let broken =
        |e: serde_json::Error| Errors::of(|errors| errors.invalid("spec", "object", e.to_string()));
    let mut service = match parse(value) {
        Ok(service) => service,
        Err(e) => return broken(e),
    };
    let old = match old.map(parse).transpose() {
        Ok(old) => old,
        Err(e) => return broken(e),
    };
    let errors = step(&mut service, old.as_ref());
    tidy(&mut service);
    match serde_json::to_value(&service) {
        Ok(mut out) => {
            // The metadata is not ours and keeps its exact form.
            put(
                &mut out,
                &["metadata"],
                value.get("metadata").cloned().unwrap_or_default(),
            );
            if out.pointer("/status/loadBalancer").is_none() {
                put(&mut out, &["status", "loadBalancer"], json!({}));
            }
            *value = out;
            errors
        }
        Err(e) => broken(e),
    }
}

fn spec(service: &mut Service) -> &mut ServiceSpec {
    service.spec.get_or_insert_default()
}

/// Empties what Go's `omitempty` would not print, so that equal objects compare equal.
fn tidy(service: &mut Service) {
    let spec = spec(service);
    for text in [
        &mut spec.cluster_ip,
        &mut spec.external_name,
        &mut spec.load_balancer_ip,
        &mut spec.session_affinity,
    ] {
        take_if(text, String::is_empty);
    }
    for text in [
        &mut spec.external_traffic_policy,
        &mut spec.internal_traffic_policy,
        &mut spec.ip_family_policy,
    ] {
        take_if(text, String::is_empty);
    }
    for list in [
        &mut spec.cluster_ips,
        &mut spec.external_ips,
        &mut spec.ip_families,
        &mut spec.load_balancer_source_ranges,
    ] {
        take_if(list, Vec::is_empty);
    }
    take_if(&mut spec.selector, std::collections::BTreeMap::is_empty);
    take_if(&mut spec.publish_not_ready_addresses, |flag| !flag);
    take_if(&mut spec.health_check_node_port, |port| *port == 0);
    take_if(&mut spec.ports, Vec::is_empty);
    for port in spec.ports.iter_mut().flatten() {
        take_if(&mut port.node_port, |port| *port == 0);
        take_if(&mut port.name, String::is_empty);
    }
    let status = service.status.get_or_insert_default();
    take_if(&mut status.conditions, Vec::is_empty);
    let balancer = status
        .load_balancer
        .get_or_insert_with(LoadBalancerStatus::default);
    take_if(&mut balancer.ingress, Vec::is_empty);
    for entry in balancer.ingress.iter_mut().flatten() {
        take_if(&mut entry.ip, String::is_empty);
        take_if(&mut entry.hostname, String::is_empty);
    }
}

fn take_if<T>(field: &mut Option<T>, empty: impl FnOnce(&T) -> bool) {
    if field.as_ref().is_some_and(empty) {
        *field = None;
    }
}

// ---- What all parts ask of a spec.

pub(super) fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

pub(super) fn is_load_balancer(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer"
}

pub(super) fn is_external_name(spec: &ServiceSpec) -> bool {
    kind(spec) == "ExternalName"
}

pub(super) fn cluster_ip(spec: &ServiceSpec) -> &str {
    spec.cluster_ip.as_deref().unwrap_or_default()
}

pub(super) fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

pub(super) fn ip_families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

pub(super) fn ports(spec: &ServiceSpec) -> &[ServicePort] {
    spec.ports.as_deref().unwrap_or_default()
}

pub(super) fn node_port(port: &ServicePort) -> i32 {
    port.node_port.unwrap_or(0)
}

pub(super) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    cluster_ips(spec)
        .first()
        .map_or(cluster_ip(spec), String::as_str)
        == "None"
}

/// Reachable from outside: NodePort, LoadBalancer, or ClusterIP with externalIPs.
pub(super) fn externally_accessible(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => spec.external_ips.as_ref().is_some_and(|l| !l.is_empty()),
        _ => false,
    }
}

/// The types whose ports may carry nodePorts.
pub(super) fn may_have_node_ports(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

/// Whether a control plane would allocate nodePorts.
pub(super) fn wants_node_ports(spec: &ServiceSpec) -> bool {
    kind(spec) == "NodePort"
        || (is_load_balancer(spec) && spec.allocate_load_balancer_node_ports != Some(false))
}

pub(super) fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_load_balancer(spec) && spec.external_traffic_policy.as_deref() == Some("Local")
}
