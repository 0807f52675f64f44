//! What holds for every kind: bounded, documented, covered schemas, and committed YAML.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::cel::ValidationErrors;
use serde_json::Value;

/// A spec that breaks one rule: the path of the error without its indices, and a part of its
/// message.
pub(crate) type Rejected = (Value, &'static str, &'static str);

/// Fails unless every spec passes every rule.
pub(crate) fn assert_accepted(
    specs: Vec<Value>,
    judge: impl Fn(Value) -> Result<(), ValidationErrors>,
) {
    for spec in specs {
        let verdict = judge(spec.clone());
        assert!(verdict.is_ok(), "{spec} was rejected: {verdict:?}");
    }
}

/// Fails unless every spec breaks exactly the rule that it is meant to break, and unless every rule
/// of the kind that judges a single object is broken by at least one of them.
pub(crate) fn assert_rejected(
    kind: &str,
    rows: Vec<Rejected>,
    judge: impl Fn(Value) -> Result<(), ValidationErrors>,
) {
    let mut covered = BTreeSet::new();
    for (spec, path, message) in rows {
        let Err(errors) = judge(spec.clone()) else {
            panic!("{spec} was accepted");
        };
        let [error] = errors.as_slice() else {
            panic!("{spec} breaks more than one rule: {errors:?}");
        };
        assert_eq!(error.field_path, path, "{spec}: {error:?}");
        assert!(error.message.contains(message), "{spec}: {error:?}");
        covered.insert(error.rule.clone());
    }
    let rules: BTreeSet<_> = rules_of(kind)
        .into_iter()
        .filter(|rule| !rule.contains("oldSelf"))
        .collect();
    let untested: Vec<_> = rules.difference(&covered).collect();
    assert!(untested.is_empty(), "no test breaks {untested:#?}");
}

fn definition(kind: &str) -> CustomResourceDefinition {
    crate::all()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .expect("a kind of this crate")
}

fn root(crd: &CustomResourceDefinition) -> JSONSchemaProps {
    let [version] = crd.spec.versions.as_slice() else {
        panic!("{:?} has one version", crd.spec.names.kind);
    };
    version
        .schema
        .clone()
        .and_then(|schema| schema.open_api_v3_schema)
        .expect("a schema")
}

/// Calls `visit` with every node of a schema, its path and whether it is a named property.
fn walk(
    path: &str,
    is_property: bool,
    node: &JSONSchemaProps,
    visit: &mut dyn FnMut(&str, bool, &JSONSchemaProps),
) {
    visit(path, is_property, node);
    for (name, property) in node.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), true, property, visit);
    }
    match &node.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => {
            walk(&format!("{path}[]"), false, item, visit);
        }
        Some(JSONSchemaPropsOrArray::Schemas(_)) => panic!("{path}: tuples are not structural"),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &node.additional_properties {
        walk(&format!("{path}{{}}"), false, value, visit);
    }
}

fn walk_all(mut visit: impl FnMut(&str, bool, &JSONSchemaProps)) {
    for crd in crate::all() {
        let kind = crd.spec.names.kind.clone();
        walk(&kind, false, &root(&crd), &mut visit);
    }
}

fn rules_of(kind: &str) -> Vec<String> {
    let mut rules = Vec::new();
    walk(kind, false, &root(&definition(kind)), &mut |_, _, node| {
        let here = node.x_kubernetes_validations.iter().flatten();
        rules.extend(here.map(|rule| rule.rule.clone()));
    });
    rules
}

#[test]
fn every_string_list_and_map_is_bounded() {
    let mut unbounded = Vec::new();
    walk_all(|path, _, node| {
        let bounded = match node.type_.as_deref() {
            Some("string") => {
                node.max_length.is_some()
                    || node.enum_.is_some()
                    || node.format.as_deref() == Some("date-time")
            }
            Some("array") => node.max_items.is_some(),
            Some("object") => node.additional_properties.is_none() || node.max_properties.is_some(),
            Some("integer" | "boolean") => true,
            other => panic!("{path}: unexpected type {other:?}"),
        };
        if !bounded {
            unbounded.push(path.to_owned());
        }
    });
    assert!(unbounded.is_empty(), "without a limit: {unbounded:#?}");
}

#[test]
fn every_property_is_documented() {
    let mut silent = Vec::new();
    walk_all(|path, is_property, node| {
        let is_sentence = node
            .description
            .as_deref()
            .is_some_and(|text| text.ends_with('.') && !text.contains('\n'));
        if is_property && !is_sentence {
            silent.push(format!("{path}: {:?}", node.description));
        }
    });
    assert!(silent.is_empty(), "without a sentence: {silent:#?}");
}

#[test]
fn no_property_is_nullable() {
    walk_all(|path, _, node| assert_eq!(node.nullable, None, "{path}"));
}

#[test]
fn every_rule_says_what_to_change() {
    walk_all(|path, _, node| {
        for rule in node.x_kubernetes_validations.iter().flatten() {
            assert!(rule.message.is_some(), "{path}: {}", rule.rule);
        }
    });
}

#[test]
fn every_list_says_how_it_is_merged() {
    walk_all(|path, _, node| {
        if node.type_.as_deref() == Some("array") {
            assert!(node.x_kubernetes_list_type.is_some(), "{path}");
        }
    });
}

#[test]
fn every_kind_is_cluster_scoped_and_in_the_category() {
    for crd in crate::all() {
        let names = &crd.spec.names;
        assert_eq!(crd.spec.group, crate::GROUP);
        assert_eq!(crd.spec.scope, "Cluster", "{}", names.kind);
        assert_eq!(names.categories, Some(vec!["portolan".to_owned()]));
    }
}

#[test]
fn short_names_are_those_of_the_design() {
    let short: Vec<_> = crate::all()
        .into_iter()
        .flat_map(|crd| crd.spec.names.short_names.unwrap_or_default())
        .collect();
    assert_eq!(short, ["apool", "ablock", "ann", "lbc", "npool"]);
}

#[test]
fn what_portolan_writes_for_itself_has_no_status() {
    let without: Vec<_> = crate::all()
        .into_iter()
        .filter(|crd| {
            crd.spec
                .versions
                .iter()
                .all(|version| version.subresources.is_none())
        })
        .map(|crd| crd.spec.names.kind)
        .collect();
    assert_eq!(
        without,
        [
            "AllocationBlock",
            "Announcement",
            "Speaker",
            "SpeakerStatus"
        ]
    );
}

#[test]
fn the_committed_yaml_is_what_the_types_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let mut committed: Vec<String> = std::fs::read_dir(&directory)
        .expect("deploy/crds exists")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    committed.sort();
    let generated = crate::yaml().expect("the definitions can be rendered");
    let names: Vec<_> = generated.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(committed, names, "run `cargo xtask generate`");
    for (name, content) in generated {
        let old = std::fs::read_to_string(directory.join(&name)).expect("readable");
        assert!(
            old == content,
            "deploy/crds/{name} is not what the types say: run `cargo xtask generate`"
        );
    }
}

#[test]
fn the_yaml_reads_back_as_the_definitions() {
    let generated = crate::yaml().expect("the definitions can be rendered");
    for ((name, content), crd) in generated.iter().zip(crate::all()) {
        let read: Value = serde_saphyr::from_str(content).expect("YAML");
        let crd = serde_json::to_value(&crd).expect("JSON");
        assert_eq!(read, crd, "{name}");
    }
}
