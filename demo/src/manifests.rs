//! Manifests: read from files, put in an order that works, created in the API server.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, TypeMeta},
    core::GroupVersionKind,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// In which order kinds are applied; what is not named comes last.
const ORDER: [&str; 5] = [
    "CustomResourceDefinition",
    "Namespace",
    "LoadBalancerClass",
    "AddressPool",
    "NodePortPool",
];
/// How long a new kind may take to be served, and how often that is tried.
const SERVED: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// The embedded server has these from the start.
const GIVEN_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// The objects of these files; of `examples/` when there are none. Users' own manifests get the
/// examples' classes and pools unless they bring a kind themselves.
pub(crate) fn load(files: &[PathBuf]) -> Result<Vec<Value>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut objects = Vec::new();
    if files.is_empty() {
        let mut names: Vec<PathBuf> = std::fs::read_dir(&examples)
            .with_context(|| format!("cannot read {}", examples.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .collect();
        names.sort();
        for name in names {
            objects.extend(parse(&name)?);
        }
    } else {
        for file in files {
            objects.extend(parse(file)?);
        }
        let kinds: BTreeSet<String> = objects.iter().map(|o| kind(o).to_owned()).collect();
        for (file, brings) in [
            ("classes.yaml", "LoadBalancerClass"),
            ("pools.yaml", "AddressPool"),
            ("pools-cluster-ips.yaml", "AddressPool"),
        ] {
            if !kinds.contains(brings) {
                objects.extend(parse(&examples.join(file))?);
            }
        }
    }
    objects.extend(missing_namespaces(&objects));
    objects.sort_by_key(|object| {
        ORDER
            .iter()
            .position(|kind_| *kind_ == kind(object))
            .unwrap_or(ORDER.len())
    });
    Ok(objects)
}

fn kind(object: &Value) -> &str {
    object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn namespace_of(object: &Value) -> Option<&str> {
    object.pointer("/metadata/namespace")?.as_str()
}

fn missing_namespaces(objects: &[Value]) -> Vec<Value> {
    let there: BTreeSet<&str> = objects
        .iter()
        .filter(|object| kind(object) == "Namespace")
        .filter_map(|object| object.pointer("/metadata/name")?.as_str())
        .chain(GIVEN_NAMESPACES)
        .collect();
    objects
        .iter()
        .filter_map(namespace_of)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|name| !there.contains(name))
        .map(|name| {
            serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        })
        .collect()
}

fn parse(file: &Path) -> Result<Vec<Value>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let mut objects = Vec::new();
    for document in documents {
        match document.get("items").and_then(Value::as_array) {
            Some(items) if kind(&document) == "List" => objects.extend(items.iter().cloned()),
            _ if document.is_null() => {}
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// Creates the CRDs and the objects, by server-side apply.
pub(crate) async fn apply(client: &Client, objects: &[Value]) -> Result<()> {
    for crd in crds::all() {
        one(client, &serde_json::to_value(crd)?).await?;
    }
    for object in objects {
        let started = Instant::now();
        // A real API server serves a new kind a moment after it has taken its definition.
        while let Err(error) = one(client, object).await {
            let unknown = error.downcast_ref::<kube::Error>().is_some_and(
                |error| matches!(error, kube::Error::Api(status) if status.code == 404),
            );
            if !unknown || started.elapsed() > SERVED {
                return Err(error);
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn one(client: &Client, object: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())
        .context("a manifest has no apiVersion, kind or metadata")?;
    let Some(TypeMeta { api_version, kind }) = object.types.clone() else {
        bail!(
            "a manifest named {} has no apiVersion or kind",
            object.name_any()
        );
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let cluster_scoped =
        ORDER.contains(&kind.as_str()) || kind == "AllocationBlock" || kind == "Node";
    let api: Api<DynamicObject> = if cluster_scoped {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    let name = object.name_any();
    api.patch(
        &name,
        &PatchParams::apply("portolan-demo"),
        &Patch::Apply(&object),
    )
    .await
    .with_context(|| format!("cannot apply {kind} {name}"))?;
    Ok(())
}
