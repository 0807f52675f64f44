//! IP families and clusterIPs, without allocation: `initIPFamilyFields` as far as it judges and trims.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;

use super::{cluster_ip, cluster_ips, ip_families, is_external_name, is_headless, kind};
use crate::error::Errors;

pub(super) fn create(spec: &mut ServiceSpec) -> Errors {
    // Clients that know only the singular field.
    if !cluster_ip(spec).is_empty() && cluster_ips(spec).is_empty() {
        spec.cluster_ips = Some(vec![cluster_ip(spec).to_owned()]);
    }
    if is_external_name(spec) {
        return Errors::default();
    }
    if spec.ip_family_policy.as_ref().is_none_or(String::is_empty) {
        // A selectorless headless Service gets both families: its endpoints are written by hand.
        let both = is_headless(spec)
            && spec
                .selector
                .as_ref()
                .is_none_or(std::collections::BTreeMap::is_empty);
        spec.ip_family_policy = Some(
            if both {
                "RequireDualStack"
            } else {
                "SingleStack"
            }
            .to_owned(),
        );
    }
    let mut errors = stand_alone(spec);
    if errors.is_empty() {
        errors = policy_fits(spec);
    }
    if errors.is_empty() {
        infer_families(spec);
    }
    errors
}

pub(super) fn update(spec: &mut ServiceSpec, old: &ServiceSpec) -> Errors {
    if is_external_name(spec) {
        return Errors::default();
    }
    if is_external_name(old) {
        return create(spec);
    }
    if spec.ip_family_policy.as_ref().is_none_or(String::is_empty) {
        spec.ip_family_policy.clone_from(&old.ip_family_policy);
    }
    if spec.ip_family_policy.is_none() {
        spec.ip_family_policy = Some("SingleStack".to_owned());
    }
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    if single {
        // Asking for SingleStack and leaving both lists alone releases the secondary.
        if cluster_ips(spec) == cluster_ips(old) {
            spec.cluster_ips.iter_mut().for_each(|l| l.truncate(1));
        }
        if ip_families(spec) == ip_families(old) {
            spec.ip_families.iter_mut().for_each(|l| l.truncate(1));
        }
    }
    let mut errors = stand_alone(spec);
    errors.extend(immutable(spec, old));
    let policy = spec.ip_family_policy.clone().unwrap_or_default();
    let mut must_be_single = |what: &str| {
        let why = format!("must be 'SingleStack' to release the secondary {what}");
        errors.invalid("spec.ipFamilyPolicy", policy.as_str(), why);
    };
    if !single && cluster_ips(old).len() == 2 && cluster_ips(spec).len() == 1 {
        must_be_single("cluster IP");
    }
    if !single && ip_families(old).len() == 2 && ip_families(spec).len() == 1 {
        must_be_single("IP family");
    }
    if errors.is_empty() {
        errors = policy_fits(spec);
    }
    if errors.is_empty() {
        infer_families(spec);
    }
    errors
}

/// What was given once may not change; what is still empty may be filled in (a stock API server never leaves it so).
fn immutable(spec: &ServiceSpec, old: &ServiceSpec) -> Errors {
    let mut errors = Errors::default();
    let mut check = |field: &str, new: &[String], old: &[String], removal_is_wrong: bool| {
        for (i, was) in old.iter().enumerate() {
            let changed = match new.get(i) {
                Some(is) => is != was,
                None => i == 0 && removal_is_wrong,
            };
            if changed {
                let path = format!("spec.{field}[{i}]");
                errors.invalid(path, json!(new), "may not change once set");
            }
        }
    };
    check("clusterIPs", cluster_ips(spec), cluster_ips(old), true);
    if !is_headless(old) {
        // Families left out are inferred again from the clusterIPs.
        check("ipFamilies", ip_families(spec), ip_families(old), false);
    }
    errors
}

/// Rules that need neither the old Service nor the cluster.
fn stand_alone(spec: &ServiceSpec) -> Errors {
    let mut errors = Errors::default();
    let (ip, ips, families) = (cluster_ip(spec), cluster_ips(spec), ip_families(spec));
    let path = "spec.clusterIPs";
    if ip.is_empty() && !ips.is_empty() {
        errors.invalid(
            path,
            json!(ips),
            "must be empty when `clusterIP` is not specified",
        );
        return errors;
    }
    if ips.first().is_some_and(|first| first != ip) {
        errors.invalid(path, json!(ips), "first value must match `clusterIP`");
    }
    if ips.len() > 2 {
        errors.invalid(path, json!(ips), "may only hold up to 2 values");
    }
    if ips.iter().any(|i| i == "None") {
        if ips.len() > 1 {
            errors.invalid(path, json!(ips), "'None' must be the first and only value");
        }
        if matches!(kind(spec), "NodePort" | "LoadBalancer") {
            let why = format!("may not be set to 'None' for {} services", kind(spec));
            errors.invalid("spec.clusterIPs[0]", "None", why);
        }
    } else {
        for (i, text) in ips.iter().enumerate() {
            if family_of(text).is_none() {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.invalid(format!("{path}[{i}]"), text.as_str(), why);
            }
        }
    }
    for (i, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        if family != "IPv4" && family != "IPv6" {
            errors.not_supported(field, family.as_str(), &["IPv4", "IPv6"]);
        } else if families.iter().take(i).any(|f| f == family) {
            errors.duplicate(field, family.as_str());
        }
    }
    if let [first, second] = ips
        && family_of(first).is_some()
        && family_of(first) == family_of(second)
    {
        let why = "may specify no more than one IP for each IP family";
        errors.invalid(path, json!(ips), why);
    }
    for (i, (text, family)) in ips.iter().zip(families).enumerate() {
        if family_of(text).is_some_and(|f| f != family) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(format!("{path}[{i}]"), text.as_str(), why);
        }
    }
    errors
}

fn policy_fits(spec: &ServiceSpec) -> Errors {
    let policy = spec.ip_family_policy.as_deref().unwrap_or_default();
    let refuse = |what: &str| {
        let why = format!(
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        );
        Errors::of(|errors| errors.invalid("spec.ipFamilyPolicy", policy, why))
    };
    if policy == "SingleStack" && cluster_ips(spec).len() == 2 {
        return refuse("cluster IPs");
    }
    if policy == "SingleStack" && ip_families(spec).len() == 2 {
        return refuse("IP families");
    }
    Errors::default()
}

/// A given clusterIP says its family.
fn infer_families(spec: &mut ServiceSpec) {
    let known = ip_families(spec).len();
    let inferred: Vec<String> = cluster_ips(spec)
        .iter()
        .skip(known)
        .filter_map(|ip| family_of(ip))
        .map(str::to_owned)
        .collect();
    if !inferred.is_empty() {
        spec.ip_families.get_or_insert_default().extend(inferred);
    }
}

pub(super) fn family_of(text: &str) -> Option<&'static str> {
    match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}
