//! Builders that read as English. Every object is JSON, as a user would write it.

use serde_json::{Value, json};

/// A Service of type LoadBalancer with one TCP port, without nodePorts.
pub fn load_balancer(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    })
}

/// A Service whose numbers are all empty, as a control plane leaves it that allocates none.
pub fn bare(name: &str, type_: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": type_, "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

/// An AddressPool with these addresses.
pub fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": name},
        "spec": {"addresses": addresses},
    })
}

/// An AddressPool that gives clusterIPs.
pub fn cluster_pool(name: &str, addresses: &[&str]) -> Value {
    with(pool(name, addresses), "/spec/usage", json!("ClusterIP"))
}

/// A NodePortPool of these ports.
pub fn port_pool(name: &str, ports: &[&str]) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
        "metadata": {"name": name},
        "spec": {"ports": ports},
    })
}

/// The pool, which whoever it admits must use.
pub fn enforcing(pool: Value) -> Value {
    with(pool, "/spec/enforce", json!(true))
}

/// A Service of type NodePort with one TCP port named `http` that has this nodePort.
pub fn node_port(name: &str, port: u16) -> Value {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP", "nodePort": port}]);
    with(bare(name, "NodePort"), "/spec/ports", ports)
}

/// The object with one more annotation.
pub fn noted(object: Value, annotation: &str, value: &str) -> Value {
    let place = annotation.replace('/', "~1");
    with(
        object,
        &format!("/metadata/annotations/{place}"),
        json!(value),
    )
}

/// The class that takes Services without a class.
pub fn default_class() -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
        "metadata": {"name": "default"},
        "spec": {"className": "portolan.dev/pool", "default": true, "pool": {}},
    })
}

/// The object with one more field, by JSON pointer; missing parents are made.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    set(&mut object, pointer, value);
    object
}

/// Sets a field by JSON pointer (object fields only); missing parents are made, null removes.
pub fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    let parts: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    let (last, parents) = parts.split_last().expect("a pointer has a part");
    for part in parents {
        if let Ok(at) = part.parse::<usize>()
            && place.is_array()
        {
            place = &mut place[at];
        } else {
            if place[part.as_str()].is_null() {
                place[part.as_str()] = json!({});
            }
            place = &mut place[part.as_str()];
        }
    }
    if value.is_null() {
        if let Some(map) = place.as_object_mut() {
            map.remove(last);
        }
    } else {
        place[last.as_str()] = value;
    }
}
