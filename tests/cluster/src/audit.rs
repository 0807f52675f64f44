//! The audit log: one line for every finished request, as the API server wrote it. This is how
//! writes are counted, and how verbs used are compared with verbs granted.

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
