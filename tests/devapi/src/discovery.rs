//! Discovery (group by group, not aggregated), version, and the little of OpenAPI v3 that kubectl asks for.

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
pub(crate) fn page(api: &DevApi, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let page = match parts.as_slice() {
        ["version"] => version(),
        ["healthz" | "livez" | "readyz", ..] => Value::from("ok"),
        ["api"] => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        ["apis"] => {
            let groups = groups(api);
            let named = groups.iter().filter(|(name, _)| !name.is_empty());
            let list: Vec<Value> = named.map(|(name, v)| group(name, v)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
        }
        ["apis", name] => group(name, groups(api).get(*name)?),
        ["api", version] => resource_list(api, "", version)?,
        ["apis", group, version] => resource_list(api, group, version)?,
        ["openapi", "v3"] => openapi_index(api),
        ["openapi", "v3", "api", version] => openapi(api, "", version)?,
        ["openapi", "v3", "apis", group, version] => openapi(api, group, version)?,
        _ => return None,
    };
    Some(page)
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

fn resource_list(api: &DevApi, group: &str, version: &str) -> Option<Value> {
    let groups = groups(api);
    let resources = groups.get(group)?.get(version)?;
    let mut list = Vec::new();
    for r in resources {
        list.push(json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind,
            "verbs": VERBS, "shortNames": r.short_names, "categories": r.categories,
        }));
        if r.version(version).is_some_and(|v| v.status) {
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

fn prefix(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

fn openapi_index(api: &DevApi) -> Value {
    let mut paths = Map::new();
    for (group, versions) in groups(api) {
        for version in versions.keys() {
            let path = prefix(&group, version);
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
        let prefix = prefix(group, version);
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
            format!("/{prefix}{scope}/{}/{{name}}", r.plural),
            json!({"patch": operation}),
        );
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "devapi", "version": "v1"}, "paths": paths, "components": {"schemas": {}},
    }))
}
