#![allow(
    clippy::unwrap_used,
    reason = "test code: a broken assumption must end the test"
)]

use super::*;

fn read(text: &str) -> Result<Manifests, Error> {
    let mut manifests = Manifests::default();
    manifests.read("file.yaml", text)?;
    Ok(manifests)
}

fn names(services: &[Service]) -> Vec<&str> {
    let names = services.iter();
    names.map(|s| s.metadata.name.as_deref().unwrap()).collect()
}

#[test]
fn documents_lists_and_json_are_read_and_other_kinds_passed_over() {
    let text = r#"
apiVersion: v1
kind: Service
metadata: {name: a}
---
# nothing
---
apiVersion: v1
kind: List
items:
- kind: Service
  metadata: {name: b}
- kind: ConfigMap
  metadata: {name: other}
---
{"kind": "ServiceList", "items": [{"metadata": {"name": "c"}}]}
"#;
    let found = read(text).unwrap();
    assert_eq!(names(&found.services), ["a", "b", "c"]);
    assert!(found.unknown.is_empty(), "{:?}", found.unknown);
}

#[test]
fn what_is_no_manifest_is_refused_with_its_place() {
    let rows = [
        ("kind: [", "file.yaml: this is no YAML: "),
        (
            "kind: Node\n---\na: b",
            "file.yaml: document 2 is no Kubernetes manifest",
        ),
        (
            "just words",
            "file.yaml: document 1 is no Kubernetes manifest",
        ),
        (
            "kind: Node\nmetadata: {name: n1}\nspec: {taints: [{effect: 1}]}",
            "file.yaml: Node n1: spec.taints[0].effect: invalid type",
        ),
        (
            "kind: LoadBalancerClass\nmetadata: {name: nlb}\nspec: {className: x, aws: {scheme: publik}}",
            "file.yaml: LoadBalancerClass nlb: spec.aws.scheme: unknown variant `publik`",
        ),
    ];
    for (text, expected) in rows {
        let said = read(text).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_service_that_cannot_be_read_stops_no_other() {
    let text = "
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: eighty}]}
---
kind: Service
metadata: {name: b}
";
    let found = read(text).unwrap();
    assert_eq!(names(&found.services), ["b"]);
    let (service, message) = found.unreadable.first().unwrap();
    assert_eq!(service, "shop/a");
    assert!(message.starts_with("spec.ports[0].port: "), "{message}");
}

#[test]
fn a_misspelt_field_is_told() {
    let text = "
kind: Service
metadata: {name: a, creationTimestamp: null}
spec: {loadBalancerClas: x, ports: [{port: 80, nodeport: 1}], externalIPs: []}
";
    let found = read(text).unwrap();
    let expected = ["loadBalancerClas", "ports[0].nodeport"].map(|field| {
        format!("Service a in file.yaml: the field spec.{field} is not known and has no effect")
    });
    assert_eq!(found.unknown, expected);
}
