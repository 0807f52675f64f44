//! Nodes and EndpointSlices, as far as a cloud makes targets of them. What cannot be read is left
//! out and stops nothing.

use std::collections::BTreeMap;

use aws::input::{Endpoint, Node};
use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use model::ServiceKey;

/// The label of a slice that says whose endpoints it has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What of a node counts.
pub fn node(node: &v1::Node) -> Node {
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|spec| spec.taints.as_ref());
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        provider_id: spec
            .and_then(|spec| spec.provider_id.clone())
            .unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints
            .into_iter()
            .flatten()
            .map(|taint| taint.key.clone())
            .collect(),
        deleting: node.metadata.deletion_timestamp.is_some(),
    }
}

/// Whose endpoints a slice has; `None`: nobody's.
pub fn service_of(slice: &discovery::EndpointSlice) -> Option<ServiceKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let name = labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(ServiceKey::new(namespace, name))
}

/// The endpoints of a slice: one for each address. An address that is none (FQDN slices) is left
/// out.
pub fn endpoints(slice: &discovery::EndpointSlice) -> Vec<Endpoint> {
    let ports: BTreeMap<String, u16> = (slice.ports.iter().flatten())
        .filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), number))
        })
        .collect();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| {
        let ready = is_ready(endpoint);
        let addresses = endpoint.addresses.iter();
        addresses.filter_map(move |text| Some((text.parse().ok()?, ready)))
    });
    addresses
        .map(|(address, ready)| Endpoint {
            address,
            ports: ports.clone(),
            ready,
        })
        .collect()
}

/// KEP-1672: what is not said counts as ready. One that terminates is not ready, also while it
/// still serves: it is deregistered, so that its connections drain.
fn is_ready(endpoint: &discovery::Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_keeps_what_decides_whether_it_is_a_target() {
        let full: v1::Node = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "labels": {"pool": "web"},
                "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "providerID": "aws:///eu-central-1a/i-1",
                "taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}],
            },
        }))
        .unwrap();
        let expected = Node {
            name: "a".to_owned(),
            provider_id: "aws:///eu-central-1a/i-1".to_owned(),
            labels: [("pool".to_owned(), "web".to_owned())].into(),
            taints: ["karpenter.sh/disrupted".to_owned()].into(),
            deleting: true,
        };
        assert_eq!(node(&full), expected);
        let empty = node(&v1::Node::default());
        assert_eq!((empty.provider_id.as_str(), empty.deleting), ("", false));
    }

    fn slice(object: serde_json::Value) -> discovery::EndpointSlice {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_slice_belongs_to_the_service_that_its_label_names() {
        let object = |labels| {
            slice(json!({
                "metadata": {"namespace": "shop", "name": "web-1", "labels": labels},
                "addressType": "IPv4", "endpoints": [],
            }))
        };
        let rows = [
            (
                json!({"kubernetes.io/service-name": "web"}),
                Some("shop/web"),
            ),
            (json!({"kubernetes.io/service-name": ""}), None),
            (json!({"app": "web"}), None),
        ];
        for (labels, expected) in rows {
            let found = service_of(&object(labels)).map(|key| key.to_string());
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn an_endpoint_is_ready_unless_it_says_no() {
        let found = endpoints(&slice(json!({
            "metadata": {"namespace": "shop", "name": "web-1"},
            "addressType": "IPv4",
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"},
                {"port": 9090},
                {"name": "any"},
                {"name": "odd", "port": 70000},
            ],
            "endpoints": [
                {"addresses": ["10.0.0.1", "10.0.0.2"]},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.4"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.5"],
                 "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["not.an.address"]},
            ],
        })));
        let ready: Vec<_> = (found.iter())
            .map(|endpoint| (endpoint.address.to_string(), endpoint.ready))
            .collect();
        let expected = [
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("10.0.0.3", true),
            ("10.0.0.4", false),
            ("10.0.0.5", false),
        ];
        assert_eq!(
            ready,
            expected.map(|(address, ready)| (address.to_owned(), ready))
        );
        let ports = BTreeMap::from([("http".to_owned(), 8080), (String::new(), 9090)]);
        assert!(found.iter().all(|endpoint| endpoint.ports == ports));
    }
}
