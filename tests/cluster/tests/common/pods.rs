//! What runs in the pods: Kubernetes' own test image, which tells its host name, who asked, and what
//! it gets from elsewhere.

#![allow(dead_code, reason = "each suite uses its own part")]

use std::sync::atomic::{AtomicU32, Ordering};

use cluster::lab::AGNHOST;
use serde_json::{Value, json};

use super::kubectl::Kubectl;

/// A namespace of this test alone.
pub(crate) fn namespace(town: &Kubectl, name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    town.kubectl(&["create", "namespace", &name]);
    name
}

/// Runs that many pods with label `app=NAME`: `http` is TCP 8080, `udp` is UDP 8081. Waits until
/// they are ready; returns them.
pub(crate) fn run(town: &Kubectl, namespace: &str, name: &str, replicas: u32) -> Vec<Pod> {
    town.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "netexec", "image": AGNHOST, "imagePullPolicy": "Never",
                        "args": ["netexec", "--http-port=8080", "--udp-port=8081"],
                        "ports": [
                            {"name": "http", "containerPort": 8080},
                            {"name": "udp", "containerPort": 8081, "protocol": "UDP"},
                        ],
                        "readinessProbe": {
                            "httpGet": {"path": "/healthz", "port": "http"},
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    }));
    let deployment = format!("deployment/{name}");
    town.kubectl(&[
        "-n",
        namespace,
        "rollout",
        "status",
        &deployment,
        "--timeout=120s",
    ]);
    let pods = town.list("pods", namespace);
    let ours = pods
        .iter()
        .filter(|pod| pod["metadata"]["labels"]["app"] == name);
    ours.map(|pod| Pod {
        namespace: namespace.to_owned(),
        name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
        node: pod["spec"]["nodeName"].as_str().unwrap().to_owned(),
        address: pod["status"]["podIP"].as_str().unwrap().to_owned(),
    })
    .collect()
}

/// A pod that is ready.
pub(crate) struct Pod {
    namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) address: String,
}

impl Pod {
    /// The host name that this pod gets from there by HTTP.
    pub(crate) fn dial(&self, town: &Kubectl, host: &str, port: u16) -> String {
        let path = format!(
            "/api/v1/namespaces/{}/pods/http:{}:8080/proxy/dial?host={host}&port={port}&protocol=http&request=hostname&tries=1",
            self.namespace, self.name
        );
        town.until(&format!("{} reaches {host}:{port}", self.name), || {
            let text = town.try_kubectl(&["get", "--raw", &path])?;
            let answer: Value = serde_json::from_str(&text).unwrap();
            match answer["responses"][0].as_str() {
                Some(name) => Ok(name.to_owned()),
                None => Err(text),
            }
        })
    }
}

/// A Service of type LoadBalancer with label selector `app=NAME` and TCP port 80, and more of spec.
pub(crate) fn service(namespace: &str, name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "type": "LoadBalancer",
        "selector": {"app": name},
        "ports": [{"name": "web", "port": 80, "targetPort": "http"}],
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    })
}
