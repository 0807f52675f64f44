//! Tables: what `kubectl get` prints.

use jsonpath_rust::JsonPath;
use serde_json::{Value, json};

use crate::call::Call;
use crate::read::metadata_only;
use crate::resource::{Nature, at, list, strings, text};

/// A column of a built-in kind: name, priority (1: only with `-o wide`) and what stands in it.
type Column = (&'static str, i64, fn(&Value) -> Value);

const SERVICE: &[Column] = &[
    ("Name", 0, name),
    ("Type", 0, |s| text(s, &["spec", "type"]).into()),
    ("Cluster-IP", 0, cluster_ip),
    ("External-IP", 0, external_ip),
    ("Port(s)", 0, ports),
    ("Age", 0, |s| age(created(s))),
    ("Selector", 1, selector),
];

const EVENT: &[Column] = &[
    ("Last Seen", 0, |e| age(last_seen(e))),
    ("Type", 0, |e| text(e, &["type"]).into()),
    ("Reason", 0, |e| text(e, &["reason"]).into()),
    ("Object", 0, subject),
    ("Message", 0, |e| text(e, &["message"]).trim().into()),
    ("Name", 1, name),
];

/// Of kinds that no command of ours prints in columns of their own.
const ANY: &[Column] = &[("Name", 0, name), ("Age", 0, |o| age(created(o)))];

/// A `meta.k8s.io/v1` Table of objects in the requested version's shape.
pub(crate) fn of(call: &Call<'_>, objects: &[Value], metadata: Value) -> Value {
    let include = call.query.get("includeObject").unwrap_or("Metadata");
    let rows = objects.iter().map(|object| {
        let shown = match include {
            "Object" => object.clone(),
            "None" => Value::Null,
            _ => metadata_only(object),
        };
        json!({"cells": cells(call, object), "object": shown})
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions(call), "rows": rows.collect::<Vec<_>>(),
    })
}

fn columns(nature: Nature) -> &'static [Column] {
    match nature {
        Nature::Service => SERVICE,
        Nature::CoreEvent | Nature::NewEvent => EVENT,
        Nature::Namespace
        | Nature::Node
        | Nature::EndpointSlice
        | Nature::Lease
        | Nature::Definition
        | Nature::Custom => ANY,
    }
}

fn definitions(call: &Call<'_>) -> Vec<Value> {
    let own = |name: &str, priority: i64| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": "", "priority": priority})
    };
    let printed = &call.version().columns;
    if printed.is_empty() {
        let columns = columns(call.res.nature).iter();
        return columns
            .map(|(name, priority, _)| own(name, *priority))
            .collect();
    }
    let printed = printed.iter().map(|c| {
        let of = |key| text(c, &[key]);
        let priority = at(c, &["priority"]).as_i64().unwrap_or(0);
        json!({
            "name": of("name"), "type": of("type"), "format": of("format"),
            "description": of("description"), "priority": priority,
        })
    });
    std::iter::once(own("Name", 0)).chain(printed).collect()
}

fn cells(call: &Call<'_>, object: &Value) -> Vec<Value> {
    let printed = &call.version().columns;
    if !printed.is_empty() {
        let own = std::iter::once(name(object));
        return own
            .chain(printed.iter().map(|c| custom(object, c)))
            .collect();
    }
    let columns = columns(call.res.nature).iter();
    if call.res.nature == Nature::NewEvent {
        let stored = crate::event::to_core(object.clone());
        return columns.map(|(_, _, cell)| cell(&stored)).collect();
    }
    columns.map(|(_, _, cell)| cell(object)).collect()
}

fn name(object: &Value) -> Value {
    text(object, &["metadata", "name"]).into()
}

fn created(object: &Value) -> &str {
    text(object, &["metadata", "creationTimestamp"])
}

fn or_none(parts: &[String]) -> Value {
    match parts.join(",") {
        none if none.is_empty() => "<none>".into(),
        some => some.into(),
    }
}

fn cluster_ip(service: &Value) -> Value {
    let ips = strings(service, &["spec", "clusterIPs"]);
    let first = ips.first().map(|ip| (*ip).to_owned());
    or_none(&first.into_iter().collect::<Vec<_>>())
}

fn external_ip(service: &Value) -> Value {
    let kind = text(service, &["spec", "type"]);
    if kind == "ExternalName" {
        return or_none(&[text(service, &["spec", "externalName"]).to_owned()]);
    }
    let mut all = Vec::new();
    if kind == "LoadBalancer" {
        let ingress = list(service, &["status", "loadBalancer", "ingress"]).iter();
        all.extend(ingress.map(|entry| match text(entry, &["ip"]) {
            "" => text(entry, &["hostname"]).to_owned(),
            ip => ip.to_owned(),
        }));
    }
    let given = strings(service, &["spec", "externalIPs"]);
    all.extend(given.into_iter().map(str::to_owned));
    if kind == "LoadBalancer" && all.is_empty() {
        return "<pending>".into();
    }
    or_none(&all)
}

fn ports(service: &Value) -> Value {
    let ports = list(service, &["spec", "ports"]).iter().map(|p| {
        let (port, protocol) = (at(p, &["port"]), text(p, &["protocol"]));
        match at(p, &["nodePort"]).as_i64() {
            Some(node) if node > 0 => format!("{port}:{node}/{protocol}"),
            _ => format!("{port}/{protocol}"),
        }
    });
    or_none(&ports.collect::<Vec<_>>())
}

fn selector(service: &Value) -> Value {
    let selector = at(service, &["spec", "selector"]).as_object();
    let pairs = selector.into_iter().flatten();
    let pairs = pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    or_none(&pairs.collect::<Vec<_>>())
}

fn last_seen(event: &Value) -> &str {
    let series = text(event, &["series", "lastObservedTime"]);
    let (last, time) = (text(event, &["lastTimestamp"]), text(event, &["eventTime"]));
    let times = [series, last, time, created(event)];
    times
        .into_iter()
        .find(|t| !t.is_empty())
        .unwrap_or_default()
}

fn subject(event: &Value) -> Value {
    let of = |key| text(event, &["involvedObject", key]);
    format!("{}/{}", of("kind").to_lowercase(), of("name")).into()
}

/// A printer column: Kubernetes' JSONPath is the standard one without the `$`.
fn custom(object: &Value, column: &Value) -> Value {
    let path = text(column, &["jsonPath"]);
    let found = object.query(&format!("${path}")).unwrap_or_default();
    let Some(first) = found.into_iter().next() else {
        return Value::Null;
    };
    match (text(column, &["type"]), first) {
        ("date", Value::String(time)) => age(time),
        ("string", Value::String(_)) => first.clone(),
        ("string", other) => other.to_string().into(),
        (_, other) => other.clone(),
    }
}

fn age(time: &str) -> Value {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return "<unknown>".into();
    };
    let now = jiff::Timestamp::now().as_second();
    human(now.saturating_sub(then.as_second())).into()
}

/// Kubernetes' `HumanDuration`: at most two units, fewer as it gets longer.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 {
            format!("{a}{unit}")
        } else {
            format!("{a}{unit}{b}{small}")
        }
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        _ => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
    }
}
