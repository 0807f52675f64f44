//! Services as the registry of a real kube-apiserver treats them: defaulting, inheritance, wiping, validation.
//!
//! The one difference: nothing is allocated. What a client leaves empty of clusterIPs, ipFamilies, nodePorts and
//! healthCheckNodePort stays empty and may be filled in later, once, by an update.

mod default;
mod families;
mod update;
mod validate;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus};
use serde_json::{Value, json};

use crate::error::Errors;
use crate::resource::{at, list, put};

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
    match serde_json::to_value(&service) {
        Ok(mut out) => {
            tidy(&mut out);
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

/// Drops what Go's `omitempty` would not print, so that equal objects compare equal. Of the status
/// only what `loadBalancer` holds: the strings of a condition are printed even when they are empty.
fn tidy(service: &mut Value) {
    for flag in ["publishNotReadyAddresses", "healthCheckNodePort"] {
        let value = at(service, &["spec", flag]);
        if value == &json!(false) || value == &json!(0) {
            put(service, &["spec", flag], Value::Null);
        }
    }
    let ports = service
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if at(port, &["nodePort"]) == &json!(0) {
            put(port, &["nodePort"], Value::Null);
        }
    }
    if list(service, &["status", "conditions"]).is_empty() {
        put(service, &["status", "conditions"], Value::Null);
    }
    for part in ["/spec", "/status/loadBalancer"] {
        service.pointer_mut(part).into_iter().for_each(drop_empty);
    }
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, child| {
            drop_empty(child);
            *child != json!("") && *child != json!([]) && *child != json!({})
        }),
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
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
