//! Tables: what `kubectl get` prints.

use jsonpath_rust::JsonPath;
use serde_json::{Value, json};

use crate::call::Call;
use crate::read::metadata_only;
use crate::resource::{Nature, at, text};

struct Definition {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
}

fn column(name: &str, priority: i64) -> Definition {
    let format = if name == "Name" { "name" } else { "" };
    Definition {
        name: name.to_owned(),
        kind: "string".to_owned(),
        format: format.to_owned(),
        description: String::new(),
        priority,
    }
}

/// A `meta.k8s.io/v1` Table of objects in the requested version's shape.
pub(crate) fn of(call: &Call<'_>, objects: &[Value], metadata: Value) -> Value {
    let include = call
        .query
        .get("includeObject")
        .unwrap_or("Metadata")
        .to_owned();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let shown = match include.as_str() {
                "Object" => object.clone(),
                "None" => Value::Null,
                _ => metadata_only(object),
            };
            json!({"cells": cells(call, object), "object": shown})
        })
        .collect();
    let columns: Vec<Value> = columns(call)
        .into_iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format,
                "description": c.description, "priority": c.priority,
            })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn columns(call: &Call<'_>) -> Vec<Definition> {
    let names: &[(&str, i64)] = match call.res.nature {
        Nature::Service => &[
            ("Name", 0),
            ("Type", 0),
            ("Cluster-IP", 0),
            ("External-IP", 0),
            ("Port(s)", 0),
            ("Age", 0),
            ("Selector", 1),
        ],
        Nature::Namespace => &[("Name", 0), ("Status", 0), ("Age", 0)],
        Nature::Node => &[
            ("Name", 0),
            ("Status", 0),
            ("Roles", 0),
            ("Age", 0),
            ("Version", 0),
        ],
        Nature::EndpointSlice => &[
            ("Name", 0),
            ("AddressType", 0),
            ("Ports", 0),
            ("Endpoints", 0),
            ("Age", 0),
        ],
        Nature::CoreEvent | Nature::NewEvent => &[
            ("Last Seen", 0),
            ("Type", 0),
            ("Reason", 0),
            ("Object", 0),
            ("Source", 1),
            ("Message", 0),
            ("First Seen", 1),
            ("Count", 1),
            ("Name", 1),
        ],
        Nature::Lease => &[("Name", 0), ("Holder", 0), ("Age", 0)],
        Nature::Definition => &[("Name", 0), ("Created At", 0)],
        Nature::Custom => {
            let custom = &call.version().columns;
            let mut list = vec![column("Name", 0)];
            list.extend(custom.iter().map(|c| Definition {
                name: c.name.clone(),
                kind: c.kind.clone(),
                format: c.format.clone(),
                description: c.description.clone(),
                priority: c.priority,
            }));
            if custom.is_empty() {
                list.push(column("Age", 0));
            }
            return list;
        }
    };
    names
        .iter()
        .map(|(name, priority)| column(name, *priority))
        .collect()
}

fn cells(call: &Call<'_>, object: &Value) -> Vec<Value> {
    let name = text(object, &["metadata", "name"]);
    let age = || Value::from(age(text(object, &["metadata", "creationTimestamp"])));
    match call.res.nature {
        Nature::Service => service(object, name, age()),
        Nature::Namespace => vec![
            name.into(),
            text(object, &["status", "phase"]).into(),
            age(),
        ],
        Nature::Node => node(object, name, age()),
        Nature::EndpointSlice => endpoint_slice(object, name, age()),
        Nature::CoreEvent => event(object, name),
        Nature::NewEvent => event(&crate::event::to_core(object.clone()), name),
        Nature::Lease => vec![
            name.into(),
            text(object, &["spec", "holderIdentity"]).into(),
            age(),
        ],
        Nature::Definition => vec![
            name.into(),
            text(object, &["metadata", "creationTimestamp"]).into(),
        ],
        Nature::Custom => {
            let columns = &call.version().columns;
            let mut cells = vec![Value::from(name)];
            cells.extend(columns.iter().map(|c| custom(object, &c.path, &c.kind)));
            if columns.is_empty() {
                cells.push(age());
            }
            cells
        }
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn or_none(text: String) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

fn service(object: &Value, name: &str, age: Value) -> Vec<Value> {
    let spec = at(object, &["spec"]);
    let kind = text(spec, &["type"]);
    let cluster_ip = strings(at(spec, &["clusterIPs"]))
        .first()
        .map_or("", |ip| *ip)
        .to_owned();
    let external = strings(at(spec, &["externalIPs"]));
    let external = match kind {
        "ExternalName" => text(spec, &["externalName"]).to_owned(),
        "LoadBalancer" => {
            let ingress = at(object, &["status", "loadBalancer", "ingress"])
                .as_array()
                .cloned()
                .unwrap_or_default();
            let name_of = |i: &Value| match text(i, &["ip"]) {
                "" => text(i, &["hostname"]).to_owned(),
                ip => ip.to_owned(),
            };
            let mut all: Vec<String> = ingress.iter().map(name_of).collect();
            all.extend(external.iter().map(|e| (*e).to_owned()));
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        _ => external.join(","),
    };
    let ports = at(spec, &["ports"]).as_array().cloned().unwrap_or_default();
    let ports: Vec<String> = ports
        .iter()
        .map(|p| {
            let (port, protocol) = (at(p, &["port"]), text(p, &["protocol"]));
            match at(p, &["nodePort"]).as_i64() {
                Some(node) if node > 0 => format!("{port}:{node}/{protocol}"),
                _ => format!("{port}/{protocol}"),
            }
        })
        .collect();
    let selector = at(spec, &["selector"])
        .as_object()
        .cloned()
        .unwrap_or_default();
    let mut selector: Vec<String> = selector
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    selector.sort();
    vec![
        name.into(),
        kind.into(),
        or_none(cluster_ip),
        or_none(external),
        or_none(ports.join(",")),
        age,
        or_none(selector.join(",")),
    ]
}

fn node(object: &Value, name: &str, age: Value) -> Vec<Value> {
    let conditions = at(object, &["status", "conditions"])
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|c| text(c, &["type"]) == "Ready")
        .map(|c| text(c, &["status"]) == "True");
    let mut status = match ready {
        Some(true) => "Ready".to_owned(),
        Some(false) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if at(object, &["spec", "unschedulable"]).as_bool() == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = at(object, &["metadata", "labels"])
        .as_object()
        .cloned()
        .unwrap_or_default();
    let mut roles: Vec<&str> = labels
        .keys()
        .filter_map(|k| k.strip_prefix("node-role.kubernetes.io/"))
        .filter(|r| !r.is_empty())
        .collect();
    roles.sort_unstable();
    let version = text(object, &["status", "nodeInfo", "kubeletVersion"]);
    vec![
        name.into(),
        status.into(),
        or_none(roles.join(",")),
        age,
        version.into(),
    ]
}

fn endpoint_slice(object: &Value, name: &str, age: Value) -> Vec<Value> {
    let ports = at(object, &["ports"])
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ports: Vec<String> = ports.iter().map(|p| at(p, &["port"]).to_string()).collect();
    let endpoints = at(object, &["endpoints"])
        .as_array()
        .cloned()
        .unwrap_or_default();
    let addresses: Vec<&str> = endpoints
        .iter()
        .flat_map(|e| strings(at(e, &["addresses"])))
        .collect();
    let unset = |text: String| {
        if text.is_empty() {
            Value::from("<unset>")
        } else {
            text.into()
        }
    };
    vec![
        name.into(),
        text(object, &["addressType"]).into(),
        unset(ports.join(",")),
        unset(addresses.join(",")),
        age,
    ]
}

fn event(object: &Value, name: &str) -> Vec<Value> {
    let first_of = |paths: &[&[&str]]| {
        paths
            .iter()
            .map(|p| text(object, p))
            .find(|t| !t.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let last = first_of(&[
        &["series", "lastObservedTime"],
        &["lastTimestamp"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ]);
    let first = first_of(&[
        &["firstTimestamp"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ]);
    let source = first_of(&[&["source", "component"], &["reportingComponent"]]);
    let count = at(object, &["series", "count"])
        .as_i64()
        .or(at(object, &["count"]).as_i64())
        .unwrap_or(1);
    let subject = format!(
        "{}/{}",
        text(object, &["involvedObject", "kind"]).to_lowercase(),
        text(object, &["involvedObject", "name"])
    );
    vec![
        age(&last).into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        subject.into(),
        source.into(),
        text(object, &["message"]).trim().into(),
        age(&first).into(),
        count.into(),
        name.into(),
    ]
}

/// A printer column: Kubernetes' JSONPath is the standard one without the `$`.
fn custom(object: &Value, path: &str, kind: &str) -> Value {
    let path = if path.starts_with('$') {
        path.to_owned()
    } else {
        format!("${path}")
    };
    let found = object.query(&path).unwrap_or_default();
    let Some(first) = found.into_iter().next() else {
        return Value::Null;
    };
    match (kind, first) {
        ("date", Value::String(time)) => age(time).into(),
        ("string", Value::String(_)) => first.clone(),
        ("string", other) => other.to_string().into(),
        (_, other) => other.clone(),
    }
}

fn age(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(then) => human(
            jiff::Timestamp::now()
                .as_second()
                .saturating_sub(then.as_second()),
        ),
        Err(_) => "<unknown>".to_owned(),
    }
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
