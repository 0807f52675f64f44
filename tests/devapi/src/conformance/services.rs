//! Services: defaults, refusals in Kubernetes' words, what updates inherit and wipe.

use http::Method;
use serde_json::{Value, json};

use super::probe::{Failed, MERGE, Probe, at, ensure, http_port, same, set, version};
use super::{Outcome, list};

list![
    a_plain_service_gets_kubernetes_defaults,
    a_load_balancer_gets_kubernetes_defaults,
    client_ip_affinity_lasts_three_hours,
    a_headless_service_without_selector_requires_both_families,
    numbers_are_allocated_or_left_empty,
    an_empty_cluster_ip_may_be_filled_in_once,
    ports_are_required,
    several_ports_need_names,
    port_names_are_unique,
    a_port_and_protocol_pair_is_unique,
    tcp_and_udp_may_share_a_port,
    port_numbers_have_a_range,
    an_unknown_type_is_refused,
    a_node_port_is_forbidden_for_cluster_ip,
    external_name_needs_a_name,
    external_name_takes_no_cluster_ip,
    headless_is_for_cluster_ip_only,
    several_families_need_a_dual_stack_policy,
    a_family_is_named_once,
    a_class_is_for_load_balancers_only,
    a_class_cannot_change_once_set,
    a_class_cannot_be_added_later,
    a_class_is_wiped_on_leaving_load_balancer,
    allocate_node_ports_is_for_load_balancers_only,
    source_ranges_are_for_load_balancers_only,
    source_ranges_are_cidrs,
    external_traffic_policy_is_for_external_services_only,
    a_health_check_port_is_for_load_balancer_and_local_only,
    cluster_ip_cannot_change_once_set,
    a_cluster_ip_left_out_of_an_update_stays,
    a_node_port_left_out_of_an_update_stays_by_port_name,
    a_node_port_may_be_changed,
    node_ports_are_wiped_on_leaving_node_port,
    cluster_ips_are_wiped_on_becoming_external_name,
    status_is_wiped_on_leaving_load_balancer,
    an_update_ignores_status,
    a_status_update_ignores_spec,
    a_status_update_may_change_metadata,
    an_ingress_ip_is_vip_by_default,
    ingress_is_for_load_balancers_only,
    an_ip_mode_needs_an_ip,
    an_unknown_ip_mode_is_refused,
    an_ingress_ip_must_be_an_ip,
    an_ingress_hostname_must_not_be_an_ip,
    an_external_name_may_become_a_cluster_ip_service,
];

const LB: &str = "LoadBalancer";

async fn change(p: &Probe<'_>, spec: Value) -> Result<Value, Failed> {
    p.merge(&p.services("/a"), json!({"spec": spec})).await
}

async fn change_refused(p: &Probe<'_>, spec: Value, words: &str) -> Outcome {
    let refusal = p
        .refused(
            Method::PATCH,
            &p.services("/a"),
            MERGE,
            json!({"spec": spec}),
        )
        .await?;
    refusal.says(422, "Invalid", words)
}

/// A LoadBalancer without nodePorts, so that nothing is allocated but the clusterIP.
async fn balancer(p: &Probe<'_>, mut spec: Value) -> Result<Value, Failed> {
    set(&mut spec, &["type"], LB);
    set(&mut spec, &["ports"], http_port());
    set(&mut spec, &["allocateLoadBalancerNodePorts"], false);
    p.service("a", spec).await
}

async fn set_status(p: &Probe<'_>, ingress: Value) -> Result<Value, Failed> {
    p.merge(
        &p.services("/a/status"),
        json!({"status": {"loadBalancer": {"ingress": ingress}}}),
    )
    .await
}

async fn status_refused(p: &Probe<'_>, ingress: Value, words: &str) -> Outcome {
    let body = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let refusal = p
        .refused(Method::PATCH, &p.services("/a/status"), MERGE, body)
        .await?;
    refusal.says(422, "Invalid", words)
}

async fn a_plain_service_gets_kubernetes_defaults(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"ports": http_port()})).await?;
    same(&made, "/spec/type", "ClusterIP")?;
    same(&made, "/spec/sessionAffinity", "None")?;
    same(&made, "/spec/internalTrafficPolicy", "Cluster")?;
    same(&made, "/spec/ipFamilyPolicy", "SingleStack")?;
    same(&made, "/spec/externalTrafficPolicy", Value::Null)?;
    same(
        &made,
        "/spec/ports/0",
        json!({"port": 80, "targetPort": 80, "protocol": "TCP"}),
    )?;
    same(&made, "/status", json!({"loadBalancer": {}}))
}

async fn a_load_balancer_gets_kubernetes_defaults(p: &Probe<'_>) -> Outcome {
    let made = p
        .service("a", json!({"type": LB, "ports": http_port()}))
        .await?;
    same(&made, "/spec/allocateLoadBalancerNodePorts", true)?;
    same(&made, "/spec/externalTrafficPolicy", "Cluster")
}

async fn client_ip_affinity_lasts_three_hours(p: &Probe<'_>) -> Outcome {
    let made = p
        .service(
            "a",
            json!({"ports": http_port(), "sessionAffinity": "ClientIP"}),
        )
        .await?;
    same(
        &made,
        "/spec/sessionAffinityConfig/clientIP/timeoutSeconds",
        10_800,
    )
}

async fn a_headless_service_without_selector_requires_both_families(p: &Probe<'_>) -> Outcome {
    let made = p.service("a", json!({"clusterIP": "None"})).await?;
    same(&made, "/spec/ipFamilyPolicy", "RequireDualStack")?;
    same(&made, "/spec/clusterIPs", json!(["None"]))
}

async fn numbers_are_allocated_or_left_empty(p: &Probe<'_>) -> Outcome {
    let spec = json!({"type": LB, "ports": http_port(), "externalTrafficPolicy": "Local"});
    let made = p.service("a", spec).await?;
    let numbers = [
        "/spec/clusterIP",
        "/spec/clusterIPs/0",
        "/spec/ipFamilies/0",
        "/spec/ports/0/nodePort",
        "/spec/healthCheckNodePort",
    ];
    for pointer in numbers {
        let there = !at(&made, pointer).is_null();
        ensure(
            there == p.cluster.allocates_numbers(),
            format!("{pointer} is {} in {made}", at(&made, pointer)),
        )?;
    }
    Ok(())
}

async fn an_empty_cluster_ip_may_be_filled_in_once(p: &Probe<'_>) -> Outcome {
    if p.cluster.allocates_numbers() {
        return Ok(()); // It is never empty there.
    }
    let mut object = p.service("a", json!({"ports": http_port()})).await?;
    set(&mut object, &["spec", "clusterIP"], "10.96.0.10");
    set(&mut object, &["spec", "clusterIPs"], json!(["10.96.0.10"]));
    set(&mut object, &["spec", "ipFamilies"], json!(["IPv4"]));
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/spec/clusterIPs", json!(["10.96.0.10"]))?;
    let other = json!({"clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]});
    change_refused(
        p,
        other,
        "spec.clusterIPs[0]: Invalid value: [\"10.96.0.11\"]: may not change once set",
    )
    .await
}

async fn ports_are_required(p: &Probe<'_>) -> Outcome {
    p.invalid_service(
        json!({}),
        "Service \"wrong\" is invalid: spec.ports: Required value",
    )
    .await
}

async fn several_ports_need_names(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"port": 80}, {"port": 81, "name": "b"}]);
    p.invalid_service(
        json!({"ports": ports}),
        "spec.ports[0].name: Required value",
    )
    .await
}

async fn port_names_are_unique(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"port": 80, "name": "b"}, {"port": 81, "name": "b"}]);
    p.invalid_service(
        json!({"ports": ports}),
        "spec.ports[1].name: Duplicate value: \"b\"",
    )
    .await
}

async fn a_port_and_protocol_pair_is_unique(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]);
    p.invalid_service(json!({"ports": ports}), "spec.ports[1]: Duplicate value")
        .await
}

async fn tcp_and_udp_may_share_a_port(p: &Probe<'_>) -> Outcome {
    let ports = json!([{"port": 53, "name": "t"}, {"port": 53, "name": "u", "protocol": "UDP"}]);
    p.service("a", json!({"ports": ports})).await.map(|_| ())
}

async fn port_numbers_have_a_range(p: &Probe<'_>) -> Outcome {
    let words = "spec.ports[0].port: Invalid value: 65536: must be between 1 and 65535, inclusive";
    p.invalid_service(json!({"ports": [{"port": 65536}]}), words)
        .await
}

async fn an_unknown_type_is_refused(p: &Probe<'_>) -> Outcome {
    let words = "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"";
    p.invalid_service(json!({"type": "Magic", "ports": http_port()}), words)
        .await
}

async fn a_node_port_is_forbidden_for_cluster_ip(p: &Probe<'_>) -> Outcome {
    let words = "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'";
    p.invalid_service(json!({"ports": [{"port": 80, "nodePort": 30080}]}), words)
        .await
}

async fn external_name_needs_a_name(p: &Probe<'_>) -> Outcome {
    p.invalid_service(
        json!({"type": "ExternalName"}),
        "spec.externalName: Required value",
    )
    .await
}

async fn external_name_takes_no_cluster_ip(p: &Probe<'_>) -> Outcome {
    let spec = json!({"type": "ExternalName", "externalName": "example.com", "clusterIP": "None"});
    p.invalid_service(spec, "spec.clusterIPs").await
}

async fn headless_is_for_cluster_ip_only(p: &Probe<'_>) -> Outcome {
    let spec =
        json!({"type": LB, "clusterIP": "None", "ports": http_port(), "selector": {"a": "b"}});
    let words = "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services";
    p.invalid_service(spec, words).await
}

async fn several_families_need_a_dual_stack_policy(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"});
    p.invalid_service(
        spec,
        "must be 'RequireDualStack' or 'PreferDualStack' when multiple",
    )
    .await
}

async fn a_family_is_named_once(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"});
    p.invalid_service(spec, "spec.ipFamilies[1]: Duplicate value: \"IPv4\"")
        .await
}

async fn a_class_is_for_load_balancers_only(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "loadBalancerClass": "example.com/a"});
    let words = "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'";
    p.invalid_service(spec, words).await
}

async fn a_class_cannot_change_once_set(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({"loadBalancerClass": "example.com/a"})).await?;
    let words = "spec.loadBalancerClass: Invalid value: \"example.com/b\": may not change once set";
    change_refused(p, json!({"loadBalancerClass": "example.com/b"}), words).await?;
    let words = "spec.loadBalancerClass: Invalid value: null: may not change once set";
    change_refused(p, json!({"loadBalancerClass": null}), words).await
}

async fn a_class_cannot_be_added_later(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let words = "spec.loadBalancerClass: Invalid value: \"example.com/b\": may not change once set";
    change_refused(p, json!({"loadBalancerClass": "example.com/b"}), words).await
}

async fn a_class_is_wiped_on_leaving_load_balancer(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({"loadBalancerClass": "example.com/a"})).await?;
    let new = change(p, json!({"type": "ClusterIP"})).await?;
    for field in [
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    ] {
        same(&new, &format!("/spec/{field}"), Value::Null)?;
    }
    let again = change(p, json!({"type": LB, "loadBalancerClass": "example.com/b"})).await?;
    same(&again, "/spec/loadBalancerClass", "example.com/b")
}

async fn allocate_node_ports_is_for_load_balancers_only(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "allocateLoadBalancerNodePorts": false});
    let words = "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'";
    p.invalid_service(spec, words).await
}

async fn source_ranges_are_for_load_balancers_only(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "loadBalancerSourceRanges": ["10.0.0.0/8"]});
    let words =
        "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'";
    p.invalid_service(spec, words).await
}

async fn source_ranges_are_cidrs(p: &Probe<'_>) -> Outcome {
    let spec =
        json!({"type": LB, "ports": http_port(), "loadBalancerSourceRanges": ["10.0.0.0/33"]});
    p.invalid_service(spec, "spec.LoadBalancerSourceRanges")
        .await
}

async fn external_traffic_policy_is_for_external_services_only(p: &Probe<'_>) -> Outcome {
    let spec = json!({"ports": http_port(), "externalTrafficPolicy": "Local"});
    let words = "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services";
    p.invalid_service(spec, words).await
}

async fn a_health_check_port_is_for_load_balancer_and_local_only(p: &Probe<'_>) -> Outcome {
    let spec = json!({"type": LB, "ports": http_port(), "healthCheckNodePort": 30999});
    let words = "spec.healthCheckNodePort: Invalid value: 30999: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    p.invalid_service(spec, words).await
}

/// A Service with a clusterIP: the server's, or where it gives none one of our own.
async fn with_cluster_ip(p: &Probe<'_>, mut spec: Value) -> Result<Value, Failed> {
    if !p.cluster.allocates_numbers() {
        set(&mut spec, &["clusterIP"], "10.96.0.10");
    }
    p.service("a", spec).await
}

async fn cluster_ip_cannot_change_once_set(p: &Probe<'_>) -> Outcome {
    with_cluster_ip(p, json!({"ports": http_port()})).await?;
    let other = json!({"clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]});
    change_refused(p, other, "may not change once set").await?;
    let none = json!({"clusterIP": "None", "clusterIPs": ["None"]});
    change_refused(p, none, "may not change once set").await
}

async fn a_cluster_ip_left_out_of_an_update_stays(p: &Probe<'_>) -> Outcome {
    let made = with_cluster_ip(p, json!({"ports": http_port()})).await?;
    let mut object = made.clone();
    set(&mut object, &["spec"], json!({"ports": [{"port": 81}]}));
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/spec/ports/0/port", 81)?;
    for pointer in ["/spec/clusterIP", "/spec/clusterIPs", "/spec/ipFamilies"] {
        same(&new, pointer, at(&made, pointer).clone())?;
    }
    Ok(())
}

/// Some nodePort that is free: the server's choice, or where it makes none one of our own.
async fn node_port_service(p: &Probe<'_>) -> Result<Value, Failed> {
    let mut port = json!({"name": "web", "port": 80});
    if !p.cluster.allocates_numbers() {
        set(&mut port, &["nodePort"], 30080);
    }
    p.service("a", json!({"type": "NodePort", "ports": [port]}))
        .await
}

async fn a_node_port_left_out_of_an_update_stays_by_port_name(p: &Probe<'_>) -> Outcome {
    let made = node_port_service(p).await?;
    let mut object = made.clone();
    set(
        &mut object,
        &["spec", "ports"],
        json!([{"name": "web", "port": 8080}]),
    );
    let new = p.put(&p.services("/a"), &object).await?;
    same(
        &new,
        "/spec/ports/0/nodePort",
        at(&made, "/spec/ports/0/nodePort").clone(),
    )
}

async fn a_node_port_may_be_changed(p: &Probe<'_>) -> Outcome {
    // Low in the static band, where no server picks by itself.
    let number = 30000 + i64::from(fastrand::u8(..80));
    node_port_service(p).await?;
    let new = change(
        p,
        json!({"ports": [{"name": "web", "port": 80, "nodePort": number}]}),
    )
    .await?;
    same(&new, "/spec/ports/0/nodePort", number)
}

async fn node_ports_are_wiped_on_leaving_node_port(p: &Probe<'_>) -> Outcome {
    node_port_service(p).await?;
    let new = change(p, json!({"type": "ClusterIP"})).await?;
    same(&new, "/spec/ports/0/nodePort", Value::Null)
}

async fn cluster_ips_are_wiped_on_becoming_external_name(p: &Probe<'_>) -> Outcome {
    with_cluster_ip(p, json!({"ports": http_port()})).await?;
    let new = change(
        p,
        json!({"type": "ExternalName", "externalName": "example.com"}),
    )
    .await?;
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        same(&new, &format!("/spec/{field}"), Value::Null)?;
    }
    Ok(())
}

async fn status_is_wiped_on_leaving_load_balancer(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    set_status(p, json!([{"ip": "192.0.2.1"}])).await?;
    let new = change(p, json!({"type": "ClusterIP"})).await?;
    same(&new, "/status/loadBalancer", json!({}))
}

async fn an_update_ignores_status(p: &Probe<'_>) -> Outcome {
    let mut object = balancer(p, json!({})).await?;
    set(
        &mut object,
        &["status", "loadBalancer", "ingress"],
        json!([{"ip": "192.0.2.1"}]),
    );
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/status/loadBalancer", json!({}))?;
    same(&new, "/metadata/resourceVersion", version(&object))
}

async fn a_status_update_ignores_spec(p: &Probe<'_>) -> Outcome {
    let mut object = balancer(p, json!({})).await?;
    set(&mut object, &["spec", "ports"], json!([{"port": 99}]));
    set(
        &mut object,
        &["status", "loadBalancer", "ingress"],
        json!([{"ip": "192.0.2.1"}]),
    );
    let new = p.put(&p.services("/a/status"), &object).await?;
    same(&new, "/spec/ports/0/port", 80)?;
    same(&new, "/status/loadBalancer/ingress/0/ip", "192.0.2.1")
}

async fn a_status_update_may_change_metadata(p: &Probe<'_>) -> Outcome {
    let mut object = balancer(p, json!({})).await?;
    set(&mut object, &["metadata", "labels"], json!({"x": "1"}));
    let new = p.put(&p.services("/a/status"), &object).await?;
    same(&new, "/metadata/labels/x", "1")
}

async fn an_ingress_ip_is_vip_by_default(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let new = set_status(
        p,
        json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]),
    )
    .await?;
    let expected = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]);
    same(&new, "/status/loadBalancer/ingress", expected)
}

async fn ingress_is_for_load_balancers_only(p: &Probe<'_>) -> Outcome {
    p.service("a", json!({"ports": http_port()})).await?;
    let words = "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'";
    status_refused(p, json!([{"hostname": "lb.example.com"}]), words).await
}

async fn an_ip_mode_needs_an_ip(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let words = "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set";
    status_refused(
        p,
        json!([{"hostname": "lb.example.com", "ipMode": "VIP"}]),
        words,
    )
    .await
}

async fn an_unknown_ip_mode_is_refused(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let words = "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"Magic\": supported values: \"Proxy\", \"VIP\"";
    status_refused(p, json!([{"ip": "192.0.2.1", "ipMode": "Magic"}]), words).await
}

async fn an_ingress_ip_must_be_an_ip(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let words = "status.loadBalancer.ingress[0].ip: Invalid value: \"nonsense\": must be a valid IP address";
    status_refused(p, json!([{"ip": "nonsense"}]), words).await
}

async fn an_ingress_hostname_must_not_be_an_ip(p: &Probe<'_>) -> Outcome {
    balancer(p, json!({})).await?;
    let words = "status.loadBalancer.ingress[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address";
    status_refused(p, json!([{"hostname": "192.0.2.1"}]), words).await
}

async fn an_external_name_may_become_a_cluster_ip_service(p: &Probe<'_>) -> Outcome {
    let mut object = p
        .service(
            "a",
            json!({"type": "ExternalName", "externalName": "example.com"}),
        )
        .await?;
    same(&object, "/spec/internalTrafficPolicy", Value::Null)?;
    set(
        &mut object,
        &["spec"],
        json!({"type": "ClusterIP", "ports": http_port()}),
    );
    let new = p.put(&p.services("/a"), &object).await?;
    same(&new, "/spec/ipFamilyPolicy", "SingleStack")?;
    // The Service is whole again: it may be refused like any other.
    let refusal = p
        .refused(
            Method::PATCH,
            &p.services("/a"),
            MERGE,
            json!({"spec": {"ports": null}}),
        )
        .await?;
    refusal.says(422, "Invalid", "spec.ports: Required value")?;
    Ok(())
}
