//! CustomResourceDefinitions: accepted, established at once, and served.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::call::Call;
use crate::delete;
use crate::error::{Errors, Result};
use crate::resource::{Nature, Resource, Version, at, list, put, strings, text};
use crate::schema::{Schema, flag};
use crate::store::Object;

/// Defaults and checks a definition, and writes the status a real API server's controllers would.
pub(crate) fn prepare(value: &mut Value) -> Errors {
    let mut errors = Errors::default();
    let spec = at(value, &["spec"]).clone();
    let (group, plural) = (text(&spec, &["group"]), text(&spec, &["names", "plural"]));
    let (name, wanted) = (
        text(value, &["metadata", "name"]).to_owned(),
        format!("{plural}.{group}"),
    );
    if name != wanted {
        let why = format!("must be spec.names.plural+\".\"+spec.group: expected \"{wanted}\"");
        errors.invalid("metadata.name", name.as_str(), why);
    }
    let scope = text(&spec, &["scope"]);
    if scope != "Namespaced" && scope != "Cluster" {
        errors.not_supported("spec.scope", scope, &["Cluster", "Namespaced"]);
    }
    let versions = list(&spec, &["versions"]);
    if versions.iter().filter(|v| flag(v, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid("spec.versions", json!(versions), why);
    }
    for (i, version) in versions.iter().enumerate() {
        let schema = at(version, &["schema", "openAPIV3Schema"]).clone();
        if let Err(wrong) = Schema::new(schema) {
            let path = format!("spec.versions[{i}].schema.openAPIV3Schema");
            errors.extend_below(&path, wrong);
        }
    }
    let kind = text(&spec, &["names", "kind"]);
    for (field, default) in [
        ("singular", kind.to_lowercase()),
        ("listKind", format!("{kind}List")),
    ] {
        if text(&spec, &["names", field]).is_empty() {
            put(value, &["spec", "names", field], default.into());
        }
    }
    if at(&spec, &["conversion"]).is_null() {
        put(value, &["spec", "conversion"], json!({"strategy": "None"}));
    }
    let since = text(value, &["metadata", "creationTimestamp"]).to_owned();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since});
    let names = at(value, &["spec", "names"]).clone();
    let stored: Vec<&str> = versions
        .iter()
        .filter(|v| flag(v, "storage"))
        .map(|v| text(v, &["name"]))
        .collect();
    let status = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": names,
        "storedVersions": stored,
    });
    put(value, &["status"], status);
    errors
}

/// After a write of a definition: serve what it defines. After any other write: nothing.
pub(crate) fn changed(call: &Call<'_>, object: &Object) {
    if call.res.nature == Nature::Definition {
        call.api.lock().serve(resource(&object.value));
    }
}

/// After the removal of a definition: stop serving.
pub(crate) fn removed(call: &Call<'_>, object: &Arc<Object>) {
    if call.res.nature == Nature::Definition {
        let spec = at(&object.value, &["spec"]);
        call.api
            .lock()
            .stop_serving(text(spec, &["group"]), text(spec, &["names", "plural"]));
    }
}

/// Deletes every object of a definition; true when something with finalizers is left.
pub(crate) fn delete_instances(call: &Call<'_>, definition: &Arc<Object>) -> Result<bool> {
    let spec = at(&definition.value, &["spec"]);
    let found = call
        .api
        .lock()
        .resource(text(spec, &["group"]), text(spec, &["names", "plural"]));
    let Some(res) = found else { return Ok(false) };
    let keys = call.api.keys(&res, None);
    for key in keys {
        delete::if_there(&call.within(&res, &key.0), &key, &Value::Null)?;
    }
    Ok(!call.api.keys(&res, None).is_empty())
}

/// When the last object of a definition that is being deleted goes, so does the definition.
pub(crate) fn finish_deletion(definitions: &Call<'_>, res: &Resource) {
    if res.nature != Nature::Custom {
        return;
    }
    let key = (String::new(), format!("{}.{}", res.plural, res.group));
    let Some(definition) = definitions.get(&key) else {
        return;
    };
    let deleting = !at(&definition.value, &["metadata", "deletionTimestamp"]).is_null();
    let empty = definitions.api.keys(res, None).is_empty();
    if deleting && empty && definitions.commit(&key, Some(&definition), None).is_ok() {
        removed(definitions, &definition);
    }
}

fn resource(definition: &Value) -> Resource {
    let spec = at(definition, &["spec"]);
    let names = at(spec, &["names"]);
    let owned = |path: &[&str]| text(names, path).to_owned();
    let owned_list = |key| {
        let list = strings(names, &[key]);
        list.into_iter().map(str::to_owned).collect()
    };
    let (group, plural) = (text(spec, &["group"]), text(names, &["plural"]));
    let versions = list(spec, &["versions"]);
    Resource {
        table: Arc::from(format!("{plural}.{group}")),
        group: group.to_owned(),
        kind: owned(&["kind"]),
        list_kind: owned(&["listKind"]),
        plural: plural.to_owned(),
        singular: owned(&["singular"]),
        short_names: owned_list("shortNames"),
        categories: owned_list("categories"),
        namespaced: text(spec, &["scope"]) == "Namespaced",
        nature: Nature::Custom,
        storage: versions
            .iter()
            .find(|v| flag(v, "storage"))
            .map_or("", |v| text(v, &["name"]))
            .to_owned(),
        versions: versions.iter().map(version).collect(),
    }
}

fn version(value: &Value) -> Version {
    Version {
        name: text(value, &["name"]).to_owned(),
        served: flag(value, "served"),
        status: !at(value, &["subresources", "status"]).is_null(),
        schema: Schema::new(at(value, &["schema", "openAPIV3Schema"]).clone()).ok(),
        columns: list(value, &["additionalPrinterColumns"]).to_vec(),
    }
}
