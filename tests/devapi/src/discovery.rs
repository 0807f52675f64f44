//! Discovery in both forms, version, and the little of OpenAPI v3 that kubectl asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::DevApi;
use crate::resource::{Nature, Resource, api_version};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The version this server's behaviour follows.
const VERSION: (&str, &str) = ("1", "33");

/// Answers a path that names no resource; `None` when there is no such page.
pub(crate) fn page(api: &DevApi, path: &str, accept: &str) -> Option<(Value, String)> {
    let plain = |value: Value| Some((value, "application/json".to_owned()));
    let aggregated = accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2");
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => plain(version()),
        ["healthz" | "livez" | "readyz", ..] => plain(Value::from("ok")),
        ["api"] if aggregated => Some(aggregate(api, true)),
        ["apis"] if aggregated => Some(aggregate(api, false)),
        ["api"] => plain(
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        ["apis"] => {
            let groups: Vec<Value> = groups(api)
                .iter()
                .filter(|(g, _)| !g.is_empty())
                .map(|(g, v)| group(g, v))
                .collect();
            plain(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => groups(api).get(*name).and_then(|v| plain(group(name, v))),
        ["api", version] => resource_list(api, "", version).and_then(plain),
        ["apis", group, version] => resource_list(api, group, version).and_then(plain),
        ["openapi", "v3"] => plain(openapi_index(api)),
        ["openapi", "v3", "api", version] => openapi(api, "", version).and_then(plain),
        ["openapi", "v3", "apis", group, version] => openapi(api, group, version).and_then(plain),
        _ => None,
    }
}

fn version() -> Value {
    let (major, minor) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0+devapi"), "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
        "platform": "in-process",
    })
}

type Served = BTreeMap<String, Vec<Arc<Resource>>>;

/// Group to version to resources. Versions sort newest first for the simple names used here.
fn groups(api: &DevApi) -> BTreeMap<String, Served> {
    let mut out: BTreeMap<String, Served> = BTreeMap::new();
    for resource in api.lock().resources() {
        for version in resource.versions.iter().filter(|v| v.served) {
            let versions = out.entry(resource.group.clone()).or_default();
            versions
                .entry(version.name.clone())
                .or_default()
                .push(resource.clone());
        }
    }
    out
}

fn group(name: &str, versions: &Served) -> Value {
    let list: Vec<Value> = versions
        .keys()
        .map(|v| json!({"groupVersion": api_version(name, v), "version": v}))
        .collect();
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": list,
        "preferredVersion": list.first(), "serverAddressByClientCIDRs": [],
    })
}

fn has_status(resource: &Resource, version: &str) -> bool {
    resource.version(version).is_some_and(|v| v.status)
}

fn resource_list(api: &DevApi, group: &str, version: &str) -> Option<Value> {
    let groups = groups(api);
    let resources = groups.get(group)?.get(version)?;
    let mut list = Vec::new();
    for r in resources {
        list.push(json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind,
            "verbs": VERBS, "shortNames": r.short_names, "categories": r.categories,
        }));
        if has_status(r, version) {
            list.push(json!({
                "name": format!("{}/status", r.plural), "singularName": "", "namespaced": r.namespaced,
                "kind": r.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": list,
    }))
}

/// Aggregated discovery (KEP-3352), and its content type.
fn aggregate(api: &DevApi, core: bool) -> (Value, String) {
    let kind =
        |r: &Resource, version: &str| json!({"group": r.group, "version": version, "kind": r.kind});
    let items: Vec<Value> = groups(api)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, resources)| {
                    let resources: Vec<Value> = resources
                        .iter()
                        .map(|r| {
                            let status = json!([{
                                "subresource": "status", "responseKind": kind(r, version),
                                "verbs": ["get", "patch", "update"],
                            }]);
                            json!({
                                "resource": r.plural, "responseKind": kind(r, version),
                                "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
                                "singularResource": r.singular, "verbs": VERBS, "shortNames": r.short_names,
                                "categories": r.categories,
                                "subresources": if has_status(r, version) { status } else { json!([]) },
                            })
                        })
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    (
        list,
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList".to_owned(),
    )
}

fn openapi_index(api: &DevApi) -> Value {
    let mut paths = Map::new();
    for (group, versions) in groups(api) {
        for version in versions.keys() {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = format!("/openapi/v3/{path}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// Enough for kubectl to learn that dryRun and fieldValidation work and which patch formats there are.
fn openapi(api: &DevApi, group: &str, version: &str) -> Option<Value> {
    let groups = groups(api);
    let resources = groups.get(group)?.get(version)?;
    let mut paths = Map::new();
    for r in resources {
        let prefix = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let scope = if r.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        let mut content = Map::new();
        let mut formats = vec![
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ];
        if r.nature != Nature::Custom {
            formats.push("application/strategic-merge-patch+json");
        }
        for format in formats {
            content.insert(format.to_owned(), json!({"schema": {"type": "object"}}));
        }
        let operation = json!({
            "parameters": parameters, "requestBody": {"content": content, "required": true}, "responses": {},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": r.group, "version": version, "kind": r.kind},
        });
        paths.insert(
            format!("{prefix}{scope}/{}/{{name}}", r.plural),
            json!({"patch": operation}),
        );
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "devapi", "version": "v1"}, "paths": paths, "components": {"schemas": {}},
    }))
}
