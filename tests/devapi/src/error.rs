//! What a refused request is answered with: Kubernetes' `Status` body and its wording of field errors.

use serde_json::{Value, json};

/// A refusal: the `Status` object to be, without the ornaments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    fn on(mut self, id: &Qualified<'_>, name: &str) -> Self {
        self.details = json!({"name": name, "group": id.group, "kind": id.plural});
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn not_found(id: &Qualified<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{id} \"{name}\" not found")).on(id, name)
    }

    /// The path itself is unknown, as opposed to an object.
    pub(crate) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(404, "NotFound", message)
    }

    pub(crate) fn already_exists(id: &Qualified<'_>, name: &str) -> Self {
        let message = format!("{id} \"{name}\" already exists");
        Self::new(409, "AlreadyExists", message).on(id, name)
    }

    pub(crate) fn conflict(id: &Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {id} \"{name}\": {why}");
        Self::new(409, "Conflict", message).on(id, name)
    }

    pub(crate) fn modified(id: &Qualified<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(id, name, why)
    }

    pub(crate) fn forbidden(id: &Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("{id} \"{name}\" is forbidden: {why}");
        Self::new(403, "Forbidden", message).on(id, name)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// What a built-in kind says to a patch in a format it does not know; custom resources and other
    /// verbs list what they accept.
    pub(crate) fn unsupported_patch() -> Self {
        let message = "415: Unsupported Media Type";
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {cause}");
        Self::new(500, "InternalError", message)
    }

    /// A JSON patch that parses but cannot be applied, a failed `test` op among them.
    pub(crate) fn unprocessable(cause: &str) -> Self {
        let message = "the server rejected our request due to an error in our request";
        let mut error = Self::new(422, "Invalid", message);
        error.details =
            json!({"causes": [{"reason": "UnexpectedServerResponse", "message": cause}]});
        error
    }

    /// The `Status` object that goes over the wire.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null()
            && let Some(map) = status.as_object_mut()
        {
            map.insert("details".into(), self.details.clone());
        }
        status
    }
}

/// `services`, `addresspools.portolan.dev`: how messages name a resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qualified<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
}

impl std::fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&qualified(self.plural, self.group))
    }
}

fn qualified(name: &str, group: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{name}{dot}{group}")
}

/// Kubernetes' kinds of field errors (`field.ErrorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Required,
    Invalid,
    Duplicate,
    Forbidden,
    NotSupported,
    TooLong,
    TooMany,
}

impl Rule {
    /// The reason of the cause, and the words before the value.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Required => ("FieldValueRequired", "Required value"),
            Self::Invalid => ("FieldValueInvalid", "Invalid value"),
            Self::Duplicate => ("FieldValueDuplicate", "Duplicate value"),
            Self::Forbidden => ("FieldValueForbidden", "Forbidden"),
            Self::NotSupported => ("FieldValueNotSupported", "Unsupported value"),
            Self::TooLong => ("FieldValueTooLong", "Too long"),
            Self::TooMany => ("FieldValueTooMany", "Too many"),
        }
    }
}

/// One field that is wrong.
#[derive(Debug)]
struct FieldError {
    field: String,
    rule: Rule,
    /// What is wrong with it, behind the field's name.
    body: String,
}

/// What is wrong with one object, field by field.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    pub(crate) fn of(fill: impl FnOnce(&mut Self)) -> Self {
        let mut errors = Self::default();
        fill(&mut errors);
        errors
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Takes over what is wrong with a part of the object.
    pub(crate) fn extend_below(&mut self, path: &str, more: Self) {
        self.0.extend(more.0.into_iter().map(|error| FieldError {
            field: format!("{path}.{}", error.field),
            ..error
        }));
    }

    /// Adds one; the value is what Kubernetes prints behind "Invalid value:", if it prints any.
    pub(crate) fn add(
        &mut self,
        field: impl Into<String>,
        rule: Rule,
        value: Option<&Value>,
        detail: &str,
    ) {
        let mut body = rule.words().1.to_owned();
        if let Some(value) = value {
            body += &format!(": {value}");
        }
        if !detail.is_empty() {
            body += &format!(": {detail}");
        }
        let field = field.into();
        self.0.push(FieldError { field, rule, body });
    }

    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.add(field, Rule::Required, None, detail);
    }

    pub(crate) fn invalid(
        &mut self,
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl AsRef<str>,
    ) {
        self.add(field, Rule::Invalid, Some(&value.into()), detail.as_ref());
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.add(field, Rule::Duplicate, Some(&value.into()), "");
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.add(field, Rule::Forbidden, None, detail);
    }

    pub(crate) fn not_supported(
        &mut self,
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let detail = format!("supported values: {}", list.join(", "));
        self.add(field, Rule::NotSupported, Some(&value.into()), &detail);
    }

    pub(crate) fn too_long(&mut self, field: &str, most: u64) {
        let detail = format!("may not be more than {most} bytes");
        self.add(field, Rule::TooLong, None, &detail);
    }

    pub(crate) fn too_many(&mut self, field: &str, actual: usize, most: u64) {
        let detail = format!("must have at most {most} items");
        self.add(field, Rule::TooMany, Some(&actual.into()), &detail);
    }

    /// The refusal of an object with these; `Ok` when there are none.
    pub(crate) fn refuse(self, group: &str, kind: &str, name: &str) -> Result<()> {
        let whole = |e: &FieldError| format!("{}: {}", e.field, e.body);
        let list: Vec<String> = self.0.iter().map(whole).collect();
        let text = match list.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid: {text}", qualified(kind, group));
        let cause = |e: &FieldError| json!({"reason": e.rule.words().0, "message": e.body, "field": e.field});
        let causes: Vec<Value> = self.0.iter().map(cause).collect();
        let mut error = ApiError::new(422, "Invalid", message);
        error.details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        Err(error)
    }
}
