//! Structural schemas: pruning, defaulting, OpenAPI validation and CEL rules, with Kubernetes' error texts.
//! What no definition of ours uses is not judged: `allOf`, `anyOf`, `oneOf`, `not`, `multipleOf`, exclusive bounds
//! and `minProperties`.

mod compile;
mod fill;

use std::collections::HashMap;

use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema, validate_compiled};
use regex::Regex;
use serde_json::{Map, Value};

use crate::error::{Errors, Rule};
use crate::resource::{at, strings};

/// One version's `openAPIV3Schema`, compiled once.
pub(crate) struct Schema {
    pub(crate) raw: Value,
    cel: CompiledSchema,
    patterns: HashMap<String, Regex>,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema")
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema; the errors are patterns and CEL rules that do not compile.
    pub(crate) fn new(raw: Value) -> Result<Self, Errors> {
        let mut patterns = HashMap::new();
        let mut errors = Errors::default();
        compile::collect_patterns(&raw, &mut patterns, &mut errors);
        let cel = compile_schema(&raw);
        compile::collect_cel_errors(&cel, "", &mut errors);
        if errors.is_empty() {
            Ok(Self { raw, cel, patterns })
        } else {
            Err(errors)
        }
    }

    /// Drops what the schema does not know; returns the paths dropped.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        fill::prune(object, &self.raw, "", true, &mut dropped);
        dropped
    }

    /// Fills in the schema's `default`s.
    pub(crate) fn default(&self, object: &mut Value) {
        fill::default(object, &self.raw);
    }

    /// OpenAPI rules first; CEL rules only for what passes them, as the real API server does. What is unchanged since
    /// `old` is not judged again (CRDValidationRatcheting, GA in 1.33).
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Errors::default();
        self.check(object, old, &self.raw, "", &mut errors);
        if errors.is_empty() {
            self.check_cel(object, old, &mut errors);
        }
        errors
    }

    fn check_cel(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) {
        let Err(failed) = validate_compiled(&self.cel, object, old) else {
            return;
        };
        for failure in failed.into_vec() {
            let path = failure.field_path.trim_start_matches('.');
            let keys: Vec<&str> = path.split('.').filter(|k| !k.is_empty()).collect();
            let unchanged =
                old.is_some_and(|o| !path.contains('[') && at(o, &keys) == at(object, &keys));
            if unchanged
                && failure.kind == ErrorKind::ValidationFailure
                && !failure.rule.contains("oldSelf")
            {
                continue;
            }
            let rule = match failure.reason.as_deref() {
                Some("FieldValueRequired") => Rule::Required,
                Some("FieldValueForbidden") => Rule::Forbidden,
                Some("FieldValueDuplicate") => Rule::Duplicate,
                _ => Rule::Invalid,
            };
            let field = if path.is_empty() {
                "<nil>".to_owned()
            } else {
                path.to_owned()
            };
            // Objects and lists are not printed.
            let value = value_at(object, path).unwrap_or(&Value::Null);
            let printed = matches!(rule, Rule::Invalid | Rule::Duplicate)
                && !value.is_object()
                && !value.is_array();
            errors.add(field, rule, printed.then_some(value), &failure.message);
        }
    }

    fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        schema: &Value,
        path: &str,
        errors: &mut Errors,
    ) {
        if old == Some(value) || (value.is_null() && flag(schema, "nullable")) {
            return;
        }
        let expected = schema.get("type").and_then(Value::as_str);
        let int_or_string = flag(schema, "x-kubernetes-int-or-string");
        let fits = match expected {
            _ if int_or_string => value.is_string() || is_integer(value),
            Some("integer") => is_integer(value),
            Some("number") => value.is_number(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => true,
        };
        if !fits {
            let (actual, wanted) = (type_name(value), expected.unwrap_or("integer or string"));
            let detail = format!("{path} in body must be of type {wanted}: \"{actual}\"");
            errors.invalid(path, actual, detail);
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let list: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            errors.not_supported(path, value.clone(), &list);
        }
        match value {
            Value::Number(_) => check_number(value, schema, path, errors),
            Value::String(text) => self.check_string(text, schema, path, errors),
            Value::Array(items) => self.check_array(items, schema, path, errors),
            Value::Object(map) => self.check_object(map, old, schema, path, errors),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_string(&self, text: &str, schema: &Value, path: &str, errors: &mut Errors) {
        let length = text.chars().count() as u64;
        if let Some(most) = at(schema, &["maxLength"]).as_u64()
            && length > most
        {
            errors.too_long(path, most);
        }
        if let Some(least) = at(schema, &["minLength"]).as_u64()
            && length < least
        {
            let detail = format!("{path} in body should be at least {least} chars long");
            errors.invalid(path, text, detail);
        }
        if let Some(pattern) = at(schema, &["pattern"]).as_str()
            && self
                .patterns
                .get(pattern)
                .is_some_and(|regex| !regex.is_match(text))
        {
            errors.invalid(
                path,
                text,
                format!("{path} in body should match '{pattern}'"),
            );
        }
        if at(schema, &["format"]) == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            let detail = format!("{path} in body must be of type date-time: \"{text}\"");
            errors.invalid(path, text, detail);
        }
    }

    fn check_array(&self, items: &[Value], schema: &Value, path: &str, errors: &mut Errors) {
        if let Some(most) = at(schema, &["maxItems"]).as_u64()
            && items.len() as u64 > most
        {
            errors.too_many(path, items.len(), most);
            return;
        }
        if let Some(least) = at(schema, &["minItems"]).as_u64()
            && (items.len() as u64) < least
        {
            let detail = format!("{path} in body should have at least {least} items");
            errors.invalid(path, items.len(), detail);
        }
        if let Some(item_schema) = schema.get("items") {
            for (i, item) in items.iter().enumerate() {
                self.check(item, None, item_schema, &format!("{path}[{i}]"), errors);
            }
        }
        let mut seen = std::collections::HashSet::new();
        for (i, item) in items.iter().enumerate() {
            if let Some(key) = list_key(item, schema)
                && !seen.insert(key.to_string())
            {
                errors.duplicate(format!("{path}[{i}]"), key);
            }
        }
    }

    fn check_object(
        &self,
        map: &Map<String, Value>,
        old: Option<&Value>,
        schema: &Value,
        path: &str,
        errors: &mut Errors,
    ) {
        for name in strings(schema, &["required"]) {
            if !map.contains_key(name) {
                errors.required(join(path, name), "");
            }
        }
        if let Some(most) = at(schema, &["maxProperties"]).as_u64()
            && map.len() as u64 > most
        {
            errors.too_many(path, map.len(), most);
        }
        let properties = schema.get("properties");
        let additional = schema.get("additionalProperties").filter(|a| a.is_object());
        for (key, value) in map {
            if let Some(next) = properties.and_then(|p| p.get(key)).or(additional) {
                self.check(
                    value,
                    old.and_then(|o| o.get(key)),
                    next,
                    &join(path, key),
                    errors,
                );
            }
        }
    }
}

/// What makes an item of a `set` or `map` list unique; `None` for other lists.
pub(crate) fn list_key(item: &Value, schema: &Value) -> Option<Value> {
    match schema
        .get("x-kubernetes-list-type")
        .and_then(Value::as_str)?
    {
        "set" => Some(item.clone()),
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
            let pick = |k: &Value| {
                let key = k.as_str()?;
                let preset = at(schema, &["items", "properties", key, "default"]);
                Some((key.to_owned(), item.get(key).unwrap_or(preset).clone()))
            };
            Some(Value::Object(keys.iter().filter_map(pick).collect()))
        }
        _ => None,
    }
}

fn check_number(value: &Value, schema: &Value, path: &str, errors: &mut Errors) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let Some(number) = value.as_f64() else { return };
    let mut refuse = |words: &str, name: &str| {
        let bound = at(schema, &[name]);
        let detail = format!("{path} in body should be {words} or equal to {bound}");
        errors.invalid(path, value.clone(), detail);
    };
    if bound("minimum").is_some_and(|least| number < least) {
        refuse("greater than", "minimum");
    }
    if bound("maximum").is_some_and(|most| number > most) {
        refuse("less than", "maximum");
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(crate) fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The value at a path such as `spec.parts[1].name`.
fn value_at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let pointer = path.replace('[', ".").replace(']', "");
    pointer
        .split('.')
        .filter(|part| !part.is_empty())
        .try_fold(object, |here, part| match here.as_array() {
            Some(items) => items.get(part.parse::<usize>().ok()?),
            None => here.get(part),
        })
}
