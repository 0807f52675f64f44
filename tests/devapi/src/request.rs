//! One HTTP request as the API machinery sees it: which resource, which object, which options.

use std::collections::HashMap;

use http::Method;
use http::request::Parts;

use crate::error::{ApiError, Result};

/// The resource part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// Parses `/api/v1/...` and `/apis/GROUP/VERSION/...`; `None` for anything else (discovery, health).
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // `namespaces/NAME` and its subresources are the Namespace itself.
            ["namespaces", _] | ["namespaces", _, "status"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some((*name).to_owned()), None),
            [plural, name, sub] => (*plural, Some((*name).to_owned()), Some((*sub).to_owned())),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            plural: plural.to_owned(),
            name,
            subresource,
        })
    }
}

/// The Kubernetes verb of a request on a resource, as RBAC and audit logs name it.
pub(crate) fn verb(method: &Method, named: bool, watch: bool) -> &'static str {
    match (method.as_str(), named) {
        ("GET", _) if watch => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "other",
    }
}

/// The query string.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        Self(
            form_urlencoded::parse(raw.unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v == "true" || v == "1")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|v| v.parse().ok())
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.get("dryRun") == Some("All")
    }

    pub(crate) fn strict(&self) -> bool {
        self.get("fieldValidation") == Some("Strict")
    }

    /// `resourceVersion`, absent when empty; 400 when it is no number.
    pub(crate) fn resource_version(&self) -> Result<Option<u64>> {
        self.get("resourceVersion")
            .map(|v| v.parse().map_err(|_| bad_version(v)))
            .transpose()
    }
}

fn bad_version(version: &str) -> ApiError {
    ApiError::bad_request(format!(
        "resourceVersion: Invalid value: \"{version}\": must be a non-negative integer"
    ))
}

/// How the answer is to be encoded, by the Accept header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
}

impl Shape {
    pub(crate) fn of(parts: &Parts) -> Self {
        let accept = parts
            .headers
            .get(http::header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        for wanted in accept.split(',') {
            if wanted.contains("as=Table")
                && wanted.contains("v=v1;") | wanted.trim_end().ends_with("v=v1")
            {
                return Self::Table;
            }
        }
        Self::Object
    }
}

/// One clause of a label or field selector.
#[derive(Debug, Clone)]
struct Clause {
    key: String,
    /// `None`: the key is enough.
    values: Option<Vec<String>>,
    negated: bool,
}

impl Clause {
    fn parse(clause: &str) -> Option<Self> {
        let values = |list: &str| {
            let inner = list.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(inner.split(',').map(|v| v.trim().to_owned()).collect())
        };
        let one = |value: &str| Some(vec![value.trim().to_owned()]);
        // In this order: each of these may contain the next.
        let (key, values, negated) = if let Some((key, list)) = clause.split_once(" notin") {
            (key, Some(values(list)?), true)
        } else if let Some((key, list)) = clause.split_once(" in") {
            (key, Some(values(list)?), false)
        } else if let Some((key, value)) = clause.split_once("!=") {
            (key, one(value), true)
        } else if let Some((key, value)) = clause.split_once("==") {
            (key, one(value), false)
        } else if let Some((key, value)) = clause.split_once('=') {
            (key, one(value), false)
        } else if let Some(key) = clause.strip_prefix('!') {
            (key, None, true)
        } else {
            (clause, None, false)
        };
        let key = key.trim().to_owned();
        let odd = |c: char| c.is_whitespace() || "!=()".contains(c);
        let word = !key.is_empty() && !key.contains(odd);
        word.then_some(Self {
            key,
            values,
            negated,
        })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let found = match &self.values {
            None => value.is_some(),
            Some(list) => value.is_some_and(|value| list.iter().any(|v| v == value)),
        };
        found != self.negated
    }
}

/// A label or field selector.
#[derive(Debug, Clone)]
pub(crate) struct Selector(Vec<Clause>);

impl Selector {
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self> {
        let refused =
            |clause| ApiError::bad_request(format!("unable to parse requirement: {clause}"));
        let clauses = split_clauses(raw.unwrap_or_default()).into_iter();
        let parsed = clauses.map(|clause| Clause::parse(clause).ok_or_else(|| refused(clause)));
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that it names and that is not known.
    pub(crate) fn unknown(&self, known: impl Fn(&str) -> bool) -> Option<&str> {
        self.0.iter().map(|c| c.key.as_str()).find(|k| !known(k))
    }

    pub(crate) fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|clause| clause.matches(value(&clause.key)))
    }
}

/// Splits at commas outside parentheses.
fn split_clauses(raw: &str) -> Vec<&str> {
    let mut clauses = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (i, c) in raw.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                clauses.push(raw.get(start..i).unwrap_or_default());
                start = i + 1;
            }
            _ => {}
        }
    }
    clauses.push(raw.get(start..).unwrap_or_default());
    clauses
        .into_iter()
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect()
}
