//! Kubernetes manifests as people keep them: YAML or JSON, several documents, Lists. What is of no
//! interest for a plan is passed over.

use crds::LoadBalancerClass;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What manifests have.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Services.
    pub services: Vec<Service>,
    /// LoadBalancerClasses.
    pub classes: Vec<LoadBalancerClass>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// EndpointSlices.
    pub slices: Vec<EndpointSlice>,
    /// Services that cannot be read: `namespace/name`, and why.
    pub unreadable: Vec<(String, String)>,
    /// Fields that are not known, each a sentence: most likely misspelt.
    pub unknown: Vec<String>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not YAML; the message has line and column.
    #[error("{place}: this is no YAML: {error}")]
    Yaml {
        /// The file.
        place: String,
        /// What is wrong, and where.
        error: String,
    },
    /// Not a manifest.
    #[error("{place}: document {document} is no Kubernetes manifest: it has no {field}")]
    NoManifest {
        /// The file.
        place: String,
        /// Counted from 1.
        document: usize,
        /// What is missing.
        field: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{place}: {object}: {message}")]
    Field {
        /// The file.
        place: String,
        /// Kind and name.
        object: String,
        /// The field, and what is wrong.
        message: String,
    },
}

/// All documents of a YAML file, which JSON is as well. Empty ones are left out.
///
/// # Errors
/// [`Error::Yaml`].
pub(super) fn documents(place: &str, text: &str) -> Result<Vec<Value>, Error> {
    // The file is the user's own: `kubectl get nodes -o yaml` of 5,000 nodes has 100 MB.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 100_000_000,
            max_nodes: 100_000_000,
            max_documents: 1_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Error::Yaml {
            place: place.to_owned(),
            error: error.to_string(),
        })?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// What is wrong with which field.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        path if path == "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })
}

impl Manifests {
    /// Adds what a file has.
    ///
    /// # Errors
    /// It cannot be read. A Service that cannot be read is no error of the others: it is kept in
    /// [`Manifests::unreadable`].
    pub fn read(&mut self, place: &str, text: &str) -> Result<(), Error> {
        for (index, document) in documents(place, text)?.into_iter().enumerate() {
            self.document(place, index + 1, document)?;
        }
        Ok(())
    }

    fn document(&mut self, place: &str, number: usize, mut document: Value) -> Result<(), Error> {
        let missing = |field| Error::NoManifest {
            place: place.to_owned(),
            document: number,
            field,
        };
        let kind = document.get("kind").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| missing("kind"))?.to_owned();
        if let (Some(of), Some(Value::Array(items))) =
            (kind.strip_suffix("List"), document.get_mut("items"))
        {
            for mut item in std::mem::take(items) {
                // The API server leaves the kind out where the list's says it.
                if let (Some(fields), false) = (item.as_object_mut(), of.is_empty()) {
                    fields.entry("kind").or_insert_with(|| of.into());
                }
                self.document(place, number, item)?;
            }
            return Ok(());
        }
        match kind.as_str() {
            "Service" => {
                let named = name(&document);
                match self.object::<Service>(place, &kind, document) {
                    Ok(service) => self.services.push(service),
                    Err(Error::Field { message, .. }) => self.unreadable.push((named, message)),
                    Err(error @ (Error::Yaml { .. } | Error::NoManifest { .. })) => {
                        return Err(error);
                    }
                }
            }
            "LoadBalancerClass" => {
                let class = self.object(place, &kind, document)?;
                self.classes.push(class);
            }
            "Node" => {
                let node = self.object(place, "", document)?;
                self.nodes.push(node);
            }
            "EndpointSlice" => {
                let slice = self.object(place, "", document)?;
                self.slices.push(slice);
            }
            _ => {} // a Deployment, a ConfigMap
        }
        Ok(())
    }

    /// An object; of one of `kind` also which fields are not known.
    fn object<T: DeserializeOwned + Serialize>(
        &mut self,
        place: &str,
        kind: &str,
        document: Value,
    ) -> Result<T, Error> {
        let is = document.get("kind").and_then(Value::as_str);
        let object = format!("{} {}", is.unwrap_or(kind), name(&document));
        let whole = (!kind.is_empty()).then(|| document.clone());
        let read: T = typed(document).map_err(|message| Error::Field {
            place: place.to_owned(),
            object: object.clone(),
            message,
        })?;
        if let (Some(whole), Ok(kept)) = (whole, serde_json::to_value(&read)) {
            let mut lost = Vec::new();
            compare(&whole, &kept, "", &mut lost);
            for field in lost {
                self.unknown.push(format!(
                    "{object} in {place}: the field {field} is not known and has no effect"
                ));
            }
        }
        Ok(read)
    }
}

/// `namespace/name`, as far as it has them.
fn name(document: &Value) -> String {
    let text = |field: &str| {
        let value = document.get("metadata").and_then(|of| of.get(field));
        value.and_then(Value::as_str)
    };
    let name = text("name").unwrap_or("without a name");
    match text("namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Fields that were written and are not kept.
fn compare(written: &Value, kept: &Value, path: &str, lost: &mut Vec<String>) {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (field, value) in written {
                let path = match path {
                    "" => field.clone(),
                    path => format!("{path}.{field}"),
                };
                match kept.get(field) {
                    Some(kept) => compare(value, kept, &path, lost),
                    None if is_empty(value) => {}
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(kept)) => {
            for (index, (written, kept)) in written.iter().zip(kept).enumerate() {
                compare(written, kept, &format!("{path}[{index}]"), lost);
            }
        }
        (
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_),
            _,
        ) => {}
    }
}

/// What serialisation leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests;
