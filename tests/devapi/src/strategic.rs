//! Strategic merge patch for the built-in types, with its directives.

use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::patch::item_keys;

/// `patchMergeKey` by field name. `None`: the list is replaced. `Some("")`: a list of primitives that merges as a set.
fn merge_key(field: &str) -> Option<&'static str> {
    item_keys(field).map(|keys| keys.first().copied().unwrap_or_default())
}

pub(crate) fn merge(here: &mut Value, patch: &Value) -> Result<()> {
    let (Some(map), Some(changes)) = (here.as_object_mut(), patch.as_object()) else {
        *here = patch.clone();
        return Ok(());
    };
    merge_map(map, changes)
}

fn merge_map(map: &mut Map<String, Value>, changes: &Map<String, Value>) -> Result<()> {
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *map = changes
                .iter()
                .filter(|(k, _)| *k != "$patch")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "Unknown patch type found: {other}"
            )));
        }
    }
    if let Some(keep) = changes.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    for (key, change) in changes.iter().filter(|(k, _)| !k.starts_with('$')) {
        match change {
            Value::Null => {
                map.remove(key);
            }
            Value::Object(_) => {
                let child = map
                    .entry(key.clone())
                    .or_insert_with(|| Value::Object(Map::new()));
                if !child.is_object() {
                    *child = Value::Object(Map::new());
                }
                merge(child, change)?;
            }
            Value::Array(items) if merge_key(key).is_some() => {
                let child = map
                    .entry(key.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Some(list) = child.as_array_mut() else {
                    *child = change.clone();
                    continue;
                };
                merge_list(list, items, merge_key(key).unwrap_or_default())?;
            }
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                map.insert(key.clone(), change.clone());
            }
        }
    }
    for (directive, value) in changes {
        if let (Some(key), Some(gone)) = (
            directive.strip_prefix("$deleteFromPrimitiveList/"),
            value.as_array(),
        ) && let Some(list) = map.get_mut(key).and_then(Value::as_array_mut)
        {
            list.retain(|item| !gone.contains(item));
        }
        if let (Some(key), Some(order)) = (
            directive.strip_prefix("$setElementOrder/"),
            value.as_array(),
        ) && let Some(list) = map.get_mut(key).and_then(Value::as_array_mut)
        {
            sort_as(list, order, merge_key(key).unwrap_or_default());
        }
    }
    Ok(())
}

fn merge_list(list: &mut Vec<Value>, changes: &[Value], key: &str) -> Result<()> {
    if key.is_empty() {
        for change in changes {
            if !list.contains(change) {
                list.push(change.clone());
            }
        }
        return Ok(());
    }
    if changes
        .iter()
        .any(|c| c.get("$patch").and_then(Value::as_str) == Some("replace") && c.get(key).is_none())
    {
        list.clear();
    }
    for change in changes {
        let Some(id) = change.get(key) else {
            if change.get("$patch").is_some() {
                continue;
            }
            return Err(ApiError::bad_request(format!(
                "map: {change} does not contain declared merge key: {key}"
            )));
        };
        if change.get("$patch").and_then(Value::as_str) == Some("delete") {
            list.retain(|item| item.get(key) != Some(id));
            continue;
        }
        match list.iter_mut().find(|item| item.get(key) == Some(id)) {
            Some(item) => merge(item, change)?,
            None => {
                let mut fresh = Value::Object(Map::new());
                merge(&mut fresh, change)?;
                list.push(fresh);
            }
        }
    }
    Ok(())
}

/// Items named by `$setElementOrder` in that order; what the patch does not know keeps its place behind them.
fn sort_as(list: &mut [Value], order: &[Value], key: &str) {
    let place = |item: &Value| {
        let same = |o: &Value| {
            if key.is_empty() {
                o == item
            } else {
                o.get(key) == item.get(key)
            }
        };
        order.iter().position(same).unwrap_or(usize::MAX)
    };
    list.sort_by_key(place);
}
