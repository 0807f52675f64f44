use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::*;

pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn read_service(spec: Value) -> ServiceRecord {
    service(&read(json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "7"},
        "spec": spec,
    })))
    .unwrap()
}

#[test]
fn a_full_service_becomes_a_record() {
    let condition: Condition = read(json!({
        "type": "example.com/Other", "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }));
    let object = json!({
        "metadata": {
            "namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "7",
            "creationTimestamp": "1970-01-01T00:01:40Z",
            "deletionTimestamp": "1970-01-01T00:02:00Z",
            "labels": {"app": "web"},
            "annotations": {"portolan.dev/address-pool": "production"},
        },
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "portolan.dev/pool",
            "allocateLoadBalancerNodePorts": false,
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "2001:db8::1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
            "selector": {"app": "web"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        },
        "status": {
            "loadBalancer": {"ingress": [{"ip": "203.0.113.7", "ipMode": "VIP"}]},
            "conditions": [condition],
        },
    });
    let port = |name: &str, port: &str, node_port| ServicePort {
        name: name.into(),
        port: port.parse().unwrap(),
        node_port,
    };
    let wanted = ServiceRecord {
        key: ServiceKey::new("shop", "web"),
        uid: Uid::from("u1"),
        version: "7".into(),
        created: 100,
        deleting: true,
        labels: Arc::new(Labels::from([("app".to_owned(), "web".to_owned())])),
        service_type: ServiceType::LoadBalancer,
        headless: false,
        class: Some("portolan.dev/pool".into()),
        allocate_node_ports: false,
        ports: vec![port("http", "TCP/80", 30080), port("dns", "UDP/53", 0)],
        cluster_ips: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        families: vec![Family::V4, Family::V6],
        family_policy: Some(FamilyPolicy::PreferDualStack),
        traffic_policy: TrafficPolicy::Local,
        health_check_node_port: 30999,
        has_selector: true,
        request: Ok(crate::core::record::LoadBalancerRequest {
            pool: Some("production".into()),
            ..Default::default()
        }),
        ingress: vec![Ingress {
            ip: Some("203.0.113.7".parse().unwrap()),
            hostname: None,
            plain: true,
        }],
        conditions: vec![condition],
        finalizers: Vec::new(),
        cloud: None,
    };
    let record = service(&read(object)).unwrap();
    let cloud = record.cloud.clone();
    assert!(cloud.is_some_and(|cloud| cloud.ports.len() == 2 && cloud.local));
    let record = ServiceRecord {
        cloud: None,
        ..record
    };
    assert_eq!(record, wanted);
}

#[test]
fn an_empty_spec_has_the_defaults_of_kubernetes() {
    let record = read_service(json!({}));
    assert_eq!(record.service_type, ServiceType::ClusterIp);
    assert_eq!(record.traffic_policy, TrafficPolicy::Cluster);
    assert!(record.allocate_node_ports);
    assert!(!record.headless);
    assert!(!record.has_selector);
    assert_eq!(record.family_policy, None);
    assert_eq!(
        record.request,
        Ok(crate::core::record::LoadBalancerRequest::default())
    );
}

#[test]
fn a_service_without_identity_is_refused() {
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        let mut metadata =
            json!({"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "7"});
        metadata.as_object_mut().unwrap().remove(field);
        let rejection = service(&read(json!({"metadata": metadata}))).unwrap_err();
        assert_eq!(rejection.reason, Reason::Unreadable);
        let named = rejection
            .message
            .contains(&format!("metadata.{field} is missing"));
        assert!(named, "{}", rejection.message);
    }
}

#[test]
fn what_is_wrong_in_the_spec_becomes_a_rejection_in_the_record() {
    const PORT: &str = "is not a port; write a number from 1 to 65535";
    let rows = [
        (
            json!({"type": "Magic"}),
            "spec.type: \"Magic\" is none of ClusterIP, NodePort, LoadBalancer, ExternalName"
                .to_owned(),
        ),
        (
            json!({"ports": [{"port": 0}]}),
            format!("spec.ports[0].port: \"0\" {PORT}"),
        ),
        (
            json!({"ports": [{"port": 70000}]}),
            format!("spec.ports[0].port: \"70000\" {PORT}"),
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 80, "nodePort": -1}]}),
            format!("spec.ports[1].nodePort: \"-1\" {PORT}"),
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: \"ICMP\" is none of TCP, UDP, SCTP".to_owned(),
        ),
        (
            json!({"clusterIP": "ten"}),
            "spec.clusterIPs: \"ten\" is not an IP address".to_owned(),
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            "spec.ipFamilies: \"IPv5\" is neither IPv4 nor IPv6".to_owned(),
        ),
        (
            json!({"ipFamilyPolicy": "Both"}),
            "spec.ipFamilyPolicy: \"Both\" is none of SingleStack, PreferDualStack, \
             RequireDualStack"
                .to_owned(),
        ),
        (
            json!({"externalTrafficPolicy": "Nearby"}),
            "spec.externalTrafficPolicy: \"Nearby\" is neither Cluster nor Local".to_owned(),
        ),
        (
            json!({"healthCheckNodePort": 70000}),
            format!("spec.healthCheckNodePort: \"70000\" {PORT}"),
        ),
    ];
    for (spec, message) in rows {
        let wanted = Rejection {
            reason: Reason::InvalidRequest,
            message,
        };
        assert_eq!(read_service(spec).request, Err(wanted));
    }
}

#[test]
fn an_unreadable_port_keeps_its_place() {
    let record = read_service(json!({"ports": [{"port": 80, "nodePort": 70000}, {"port": 81}]}));
    let numbers: Vec<u16> = record.ports.iter().map(|port| port.port.number).collect();
    assert_eq!(numbers, [0, 81]);
}

#[test]
fn an_unreadable_cluster_ip_is_never_written_over() {
    assert!(!read_service(json!({"clusterIP": "ten"})).needs_cluster_ips());
}

#[test]
fn headless_is_the_word_none_in_either_field() {
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"clusterIPs": ["None"]}),
    ] {
        let record = read_service(spec);
        assert!(record.headless && record.cluster_ips.is_empty());
    }
}

#[test]
fn the_single_cluster_ip_counts_when_there_is_no_list() {
    let record = read_service(json!({"clusterIP": "10.0.0.1"}));
    assert_eq!(record.cluster_ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn only_an_entry_as_we_write_it_is_plain() {
    let rows = [
        (json!({"ip": "203.0.113.7", "ipMode": "VIP"}), true, true),
        (
            json!({"ip": "2001:db8::7", "ipMode": "VIP", "ports": []}),
            true,
            true,
        ),
        (json!({"ip": "203.0.113.7"}), true, false),
        (json!({"ip": "203.0.113.7", "ipMode": "Proxy"}), true, false),
        (json!({"ip": "2001:DB8::7", "ipMode": "VIP"}), true, false),
        (
            json!({"ip": "203.0.113.7", "ipMode": "VIP", "hostname": "a.b"}),
            true,
            false,
        ),
        (
            json!({"ip": "203.0.113.7", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}),
            true,
            false,
        ),
        (json!({"hostname": "a.b"}), false, true),
        (json!({"hostname": "a.b", "ipMode": "VIP"}), false, false),
    ];
    for (entry, readable, plain) in rows {
        let found = ingress_entry(&read(entry.clone()));
        assert_eq!(
            (found.ip.is_some(), found.plain),
            (readable, plain),
            "{entry}"
        );
    }
}

#[test]
fn words_of_many_objects_are_kept_once() {
    let (one, other) = (read_service(json!({})), read_service(json!({})));
    assert!(Arc::ptr_eq(&one.key.namespace, &other.key.namespace));
    assert!(Arc::ptr_eq(&one.labels, &other.labels));
}

fn read_class(spec: Value) -> Result<ClassRecord, Rejection> {
    class(&read(json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
        "metadata": {"name": "pool", "uid": "u1", "resourceVersion": "7", "generation": 2},
        "spec": spec,
    })))
}

#[test]
fn a_class_becomes_a_record_with_its_provider() {
    let rows = [
        (
            json!({"className": "c", "pool": {}}),
            Provider::Pool(vec![]),
        ),
        (
            json!({"className": "c", "pool": {"addressPools": ["a"]}}),
            Provider::Pool(vec!["a".to_owned()]),
        ),
        (json!({"className": "c", "gcp": {}}), Provider::Gcp),
    ];
    for (spec, provider) in rows {
        let record = read_class(spec).unwrap();
        assert_eq!((&*record.class_name, record.generation), ("c", 2));
        assert_eq!(record.provider, provider);
    }
    let aws = json!({"targetType": "ip", "tags": {"team": "edge"}, "maxTargets": 25});
    let record = read_class(json!({"className": "c", "aws": aws})).unwrap();
    let Provider::Aws(class) = record.provider else {
        panic!("{:?}", record.provider);
    };
    assert_eq!(class.target_type, aws::wanted::TargetType::Ip);
    assert_eq!(class.scheme, aws::wanted::Scheme::Internal);
    assert_eq!(class.max_targets, Some(25));
    assert_eq!(class.security_group_rules, 60);
    assert!(class.node_security_groups.is_empty() && class.adoptable.is_empty());
    assert!(!class.groups_across_namespaces);
    assert_eq!(class.tags["team"], "edge");
}

#[test]
fn a_class_says_what_its_services_share_and_with_whom() {
    let arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/a/0";
    let aws = json!({
        "nodeSecurityGroups": ["sg-01234567"], "securityGroupRules": 200, "adoptable": [arn],
        "groupsAcrossNamespaces": true,
    });
    let record = read_class(json!({"className": "c", "aws": aws})).unwrap();
    let Provider::Aws(class) = record.provider else {
        panic!("{:?}", record.provider);
    };
    assert_eq!(class.node_security_groups, ["sg-01234567"]);
    assert_eq!(class.security_group_rules, 200);
    assert!(class.adoptable.contains(arn) && class.groups_across_namespaces);
}

#[test]
fn a_class_with_no_provider_or_two_is_refused() {
    for spec in [
        json!({"className": "c"}),
        json!({"className": "c", "pool": {}, "aws": {}}),
    ] {
        assert_eq!(
            read_class(spec).unwrap_err().message,
            "LoadBalancerClass pool: set exactly one of spec.pool, spec.aws and spec.gcp ({} is \
             enough)"
        );
    }
}

#[test]
fn a_namespace_needs_its_labels_only() {
    let record = namespace(&read(json!({
        "metadata": {"name": "shop", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
    })))
    .unwrap();
    assert_eq!(&*record.name, "shop");
    assert_eq!(record.labels.get("a").map(String::as_str), Some("b"));
}
