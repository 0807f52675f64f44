//! The audit log: one line for every finished request, as the API server wrote it. This is how
//! writes are counted, and how verbs used are compared with verbs granted.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One finished request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, ...
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// What the client said it is.
    #[serde(default)]
    pub user_agent: String,
    /// Who it proved to be.
    #[serde(default)]
    pub user: User,
    /// What it was about; absent for `/version` and such.
    #[serde(default)]
    pub object_ref: Option<ObjectRef>,
    /// When it was answered, RFC 3339 with microseconds.
    #[serde(default)]
    pub stage_timestamp: String,
    /// Absent while nothing was answered.
    #[serde(default)]
    pub response_status: Option<ResponseStatus>,
    /// What admission noted.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What one entry of a MutatingWebhookConfiguration was asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
pub struct Consulted {
    /// The entry's name.
    pub webhook: String,
    /// Whether it changed the object.
    #[serde(default)]
    pub mutated: bool,
    /// Whether the object passed because there was no answer.
    #[serde(default)]
    pub failed_open: bool,
}

impl AuditLine {
    /// The HTTP code of the answer, 0 when there was none.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.response_status
            .as_ref()
            .map_or(0, |status| status.code)
    }

    /// Whether it could change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// The entries of this MutatingWebhookConfiguration that were asked, in order.
    #[must_use]
    pub fn consulted(&self, configuration: &str) -> Vec<Consulted> {
        #[derive(Deserialize)]
        struct Note {
            configuration: String,
            #[serde(flatten)]
            consulted: Consulted,
        }
        const ASKED: &str = "mutation.webhook.admission.k8s.io/";
        let places = self
            .annotations
            .iter()
            .filter_map(|(name, note)| Some((name.strip_prefix(ASKED)?, note)));
        let notes = places.filter_map(|(place, note)| {
            let mut note: Note = serde_json::from_str(note).ok()?;
            let open = format!("failed-open.{ASKED}{place}");
            note.consulted.failed_open = self.annotations.contains_key(&open);
            (note.configuration == configuration).then_some(note.consulted)
        });
        notes.collect()
    }

    /// `services/status`, `leases`, ...
    #[must_use]
    pub fn resource(&self) -> String {
        match &self.object_ref {
            None => String::new(),
            Some(object) if object.subresource.is_empty() => object.resource.clone(),
            Some(object) => format!("{}/{}", object.resource, object.subresource),
        }
    }
}

/// Who asked.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// The user name.
    #[serde(default)]
    pub username: String,
}

/// How it was answered.
#[derive(Clone, Debug, Deserialize)]
pub struct ResponseStatus {
    /// The HTTP code.
    #[serde(default)]
    pub code: u16,
}

/// What a request was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural, lower case.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for resources without one and for requests over all.
    pub namespace: String,
    /// Empty for lists and some creations.
    pub name: String,
    /// Empty for the core group.
    pub api_group: String,
}

/// The lines of a log; a last line that is still being written is left out.
pub(crate) fn parse(log: &str) -> serde_json::Result<Vec<AuditLine>> {
    (log.split_inclusive('\n'))
        .filter(|line| line.ends_with('\n'))
        .map(serde_json::from_str)
        .collect()
}
