//! What a refused request is answered with: Kubernetes' `Status` body and its wording of field errors.

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: the `Status` object to be, without the ornaments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: String) -> Self {
        Self {
            code: code.as_u16(),
            reason,
            message,
            details: Value::Null,
        }
    }

    fn on(mut self, group: &str, plural: &str, name: &str) -> Self {
        self.details = json!({"name": name, "group": group, "kind": plural});
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message.into())
    }

    pub(crate) fn not_found(id: &Qualified<'_>, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("{id} \"{name}\" not found"),
        )
        .on(id.group, id.plural, name)
    }

    /// The path itself is unknown, as opposed to an object.
    pub(crate) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource".into(),
        )
    }

    pub(crate) fn already_exists(id: &Qualified<'_>, name: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "AlreadyExists",
            format!("{id} \"{name}\" already exists"),
        )
        .on(id.group, id.plural, name)
    }

    pub(crate) fn conflict(id: &Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {id} \"{name}\": {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).on(id.group, id.plural, name)
    }

    pub(crate) fn modified(id: &Qualified<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(id, name, why)
    }

    pub(crate) fn forbidden(id: &Qualified<'_>, name: &str, why: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!("{id} \"{name}\" is forbidden: {why}"),
        )
        .on(id.group, id.plural, name)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message.into())
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            message.into(),
        )
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    /// What a built-in kind says to a patch in a format it does not know; custom resources and other
    /// verbs list what they accept.
    pub(crate) fn unsupported_patch() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "415: Unsupported Media Type".to_owned(),
        )
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// A JSON patch that parses but cannot be applied, a failed `test` op among them.
    pub(crate) fn unprocessable(cause: &str) -> Self {
        let message = "the server rejected our request due to an error in our request".to_owned();
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        error.details =
            json!({"causes": [{"reason": "UnexpectedServerResponse", "message": cause}]});
        error
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let list: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        let text = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let message = format!("{qualified} \"{name}\" is invalid: {text}");
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.rule.reason(), "message": e.body(), "field": e.field}))
            .collect();
        error.details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
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
        if self.group.is_empty() {
            f.write_str(self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// Kubernetes' kinds of field errors (`field.ErrorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Required,
    Invalid,
    /// As `Invalid`, of an object or list, whose value is not printed.
    InvalidObject,
    Duplicate,
    Forbidden,
    NotSupported,
    TooLong,
    TooMany,
}

impl Rule {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid | Self::InvalidObject => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

/// One field that is wrong. The value is what Kubernetes prints behind "Invalid value:".
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) rule: Rule,
    pub(crate) value: Value,
    pub(crate) detail: String,
}

impl FieldError {
    fn new(field: impl Into<String>, rule: Rule, value: Value, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule,
            value,
            detail: detail.into(),
        }
    }

    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new(field, Rule::Required, Value::Null, detail)
    }

    pub(crate) fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(field, Rule::Invalid, value.into(), detail)
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(field, Rule::Duplicate, value.into(), "")
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, Rule::Forbidden, Value::Null, detail)
    }

    pub(crate) fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        Self::new(
            field,
            Rule::NotSupported,
            value.into(),
            format!("supported values: {}", list.join(", ")),
        )
    }

    pub(crate) fn too_long(field: impl Into<String>, most: u64) -> Self {
        Self::new(
            field,
            Rule::TooLong,
            Value::Null,
            format!("may not be more than {most} bytes"),
        )
    }

    pub(crate) fn too_many(field: impl Into<String>, actual: usize, most: u64) -> Self {
        Self::new(
            field,
            Rule::TooMany,
            actual.into(),
            format!("must have at most {most} items"),
        )
    }

    fn body(&self) -> String {
        let (value, detail) = (&self.value, &self.detail);
        let head = match self.rule {
            Rule::Required => "Required value".to_owned(),
            Rule::Forbidden => "Forbidden".to_owned(),
            Rule::TooLong => "Too long".to_owned(),
            Rule::TooMany => format!("Too many: {value}"),
            Rule::Duplicate => format!("Duplicate value: {value}"),
            Rule::NotSupported => format!("Unsupported value: {value}"),
            Rule::Invalid => format!("Invalid value: {value}"),
            Rule::InvalidObject => "Invalid value".to_owned(),
        };
        if detail.is_empty() {
            head
        } else {
            format!("{head}: {detail}")
        }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
