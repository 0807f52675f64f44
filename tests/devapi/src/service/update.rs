//! What an update inherits from the stored Service and what it wipes, before it is judged.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec};

use super::{
    cluster_ip, cluster_ips, externally_accessible, ip_families, is_external_name,
    is_load_balancer, may_have_node_ports, needs_health_check, node_port, ports, spec,
    wants_node_ports,
};

/// `normalizeClusterIPs` on update: clients that know only `clusterIP`.
pub(super) fn normalise_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let (was, is) = (cluster_ip(old).to_owned(), cluster_ip(new).to_owned());
    let same_list = cluster_ips(new) == cluster_ips(old);
    if was == is || !same_list {
        return;
    }
    if is.is_empty() {
        new.cluster_ips = None;
    } else if let Some(first) = new.cluster_ips.iter_mut().flatten().next() {
        *first = is;
    } else {
        new.cluster_ips = Some(vec![is]);
    }
}

/// `patchAllocatedValues`: what was allocated and the client left out stays.
pub(super) fn inherit(new: &mut ServiceSpec, old: &ServiceSpec) {
    if !is_external_name(old) && !is_external_name(new) {
        if cluster_ip(new).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if cluster_ips(new).is_empty() && cluster_ip(new) == cluster_ip(old) {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if ip_families(new).is_empty() && cluster_ips(new) == cluster_ips(old) {
            new.ip_families.clone_from(&old.ip_families);
        }
    }
    if wants_node_ports(old) && wants_node_ports(new) {
        let before: BTreeSet<i32> = ports(old).iter().map(node_port).collect();
        let used: BTreeSet<i32> = ports(new)
            .iter()
            .map(node_port)
            .filter(|p| before.contains(p))
            .collect();
        let by_name: BTreeMap<&str, i32> = ports(old)
            .iter()
            .map(|p| (p.name.as_deref().unwrap_or_default(), node_port(p)))
            .collect();
        for port in new.ports.iter_mut().flatten().filter(|p| node_port(p) == 0) {
            let inherited = by_name.get(port.name.as_deref().unwrap_or_default());
            port.node_port = inherited
                .copied()
                .filter(|p| *p != 0 && !used.contains(p))
                .or(port.node_port);
        }
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// `dropTypeDependentFields`: what the new type has no use for goes, unless the client changed it (then it is judged).
pub(super) fn wipe(service: &mut Service, old: &ServiceSpec) {
    let left_load_balancer = is_load_balancer(old) && !is_load_balancer(spec(service));
    let new = spec(service);
    if !is_external_name(old) && is_external_name(new) {
        if cluster_ip(new) == cluster_ip(old) && cluster_ips(new) == cluster_ips(old) {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if ip_families(new) == ip_families(old) {
            new.ip_families = None;
        }
        wipe_same(&mut new.ip_family_policy, &old.ip_family_policy);
    }
    if may_have_node_ports(old) && !may_have_node_ports(new) {
        let numbers = |s: &ServiceSpec| ports(s).iter().map(node_port).collect::<BTreeSet<i32>>();
        if numbers(new) == numbers(old) {
            new.ports
                .iter_mut()
                .flatten()
                .for_each(|p| p.node_port = None);
        }
    }
    if needs_health_check(old) && !needs_health_check(new) {
        wipe_same(&mut new.health_check_node_port, &old.health_check_node_port);
    }
    if left_load_balancer {
        wipe_same(
            &mut new.allocate_load_balancer_node_ports,
            &old.allocate_load_balancer_node_ports,
        );
        wipe_same(&mut new.load_balancer_class, &old.load_balancer_class);
    }
    if externally_accessible(old) && !externally_accessible(new) {
        wipe_same(
            &mut new.external_traffic_policy,
            &old.external_traffic_policy,
        );
    }
    if left_load_balancer {
        service.status.get_or_insert_default().load_balancer = Some(LoadBalancerStatus::default());
    }
}

fn wipe_same<T: PartialEq>(new: &mut Option<T>, old: &Option<T>) {
    if new == old {
        *new = None;
    }
}
