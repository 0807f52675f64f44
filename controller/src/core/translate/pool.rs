//! AddressPool and NodePortPool to [`allocator::Pool`]. CEL has refused most mistakes already; what
//! it cannot judge, and what an API server without our CRD let in, is found here.

use std::{collections::BTreeSet, sync::Arc};

use allocator::{Admission, Operator, Pool, RangeError, RangeSet, Requirement, Selector, Strategy};
use crds::{LabelSelector, PoolUsage, PortStrategy};
use model::{Reason, Use};

use super::{Identity, quoted};
use crate::core::{
    announce::Policy,
    record::{PoolKind, PoolRecord, PoolStatus, Rejection},
};

#[cfg(test)]
mod tests;

/// An AddressPool. What is wrong in its spec is in `pool`, with the field and the cure.
///
/// # Errors
/// Name, uid or resourceVersion is missing.
pub fn address_pool(pool: &crds::AddressPool) -> Result<PoolRecord, Rejection> {
    let identity = Identity::of("AddressPool", &pool.metadata)?;
    let status = pool.status.clone().unwrap_or_default();
    let (read, announce) = match (address_pool_spec(&identity, &pool.spec), policy(&pool.spec)) {
        (Ok(pool), Ok(policy)) => (Ok(pool), policy.map(Arc::new)),
        (Err(what), _) | (Ok(_), Err(what)) => (Err(what), None),
    };
    Ok(PoolRecord {
        kind: PoolKind::Address,
        name: identity.name.clone(),
        version: identity.version.clone(),
        generation: identity.generation,
        pool: read.map_err(invalid("AddressPool", &identity)),
        announce,
        status: PoolStatus {
            observed_generation: status.observed_generation,
            v4: status.ipv4,
            v6: status.ipv6,
            ports: None,
            conditions: status.conditions,
        },
    })
}

/// A NodePortPool. What is wrong in its spec is in `pool`, with the field and the cure.
///
/// # Errors
/// Name, uid or resourceVersion is missing.
pub fn node_port_pool(pool: &crds::NodePortPool) -> Result<PoolRecord, Rejection> {
    let identity = Identity::of("NodePortPool", &pool.metadata)?;
    let status = pool.status.clone().unwrap_or_default();
    Ok(PoolRecord {
        kind: PoolKind::NodePort,
        name: identity.name.clone(),
        version: identity.version.clone(),
        generation: identity.generation,
        pool: node_port_pool_spec(&identity, &pool.spec)
            .map_err(invalid("NodePortPool", &identity)),
        announce: None,
        status: PoolStatus {
            observed_generation: status.observed_generation,
            v4: None,
            v6: None,
            ports: status.ports,
            conditions: status.conditions,
        },
    })
}

fn invalid(kind: &str, identity: &Identity) -> impl Fn(String) -> Rejection {
    move |what| Rejection {
        reason: Reason::PoolInvalid,
        message: format!("{kind} {}: {what}", identity.name),
    }
}

fn address_pool_spec(identity: &Identity, spec: &crds::AddressPoolSpec) -> Result<Pool, String> {
    let (v4, v6) = ranges("spec.addresses", &spec.addresses, RangeSet::parse_addresses)?;
    if v4.is_empty() && v6.is_empty() {
        return Err("spec.addresses is empty: add a range, for example 203.0.113.0/24".to_owned());
    }
    let (reserved_v4, reserved_v6) =
        ranges("spec.reserved", &spec.reserved, RangeSet::parse_addresses)?;
    Ok(Pool {
        name: identity.name.clone(),
        created: identity.created,
        uid: identity.uid.clone(),
        usage: match spec.usage {
            PoolUsage::LoadBalancer => Use::LoadBalancer,
            PoolUsage::ClusterIP => Use::ClusterIp,
        },
        v4,
        v6,
        ports: RangeSet::default(),
        reserved_v4,
        reserved_v6,
        excluded_ports: RangeSet::default(),
        unusable_ports: RangeSet::default(),
        unusable_v4: RangeSet::default(),
        unusable_v6: RangeSet::default(),
        auto_assign: spec.auto_assign,
        priority: spec.priority,
        disabled: spec.disabled,
        admission: admission(
            spec.namespaces.as_deref(),
            spec.namespace_selector.as_ref(),
            spec.service_selector.as_ref(),
        )?,
        enforce: spec.enforce,
        strategy: match spec.strategy {
            crds::Strategy::LowestFree => Strategy::LowestFree,
            crds::Strategy::Stable => Strategy::Stable,
        },
        retain_for: retain_for(spec.retain_for.as_deref())?,
        avoid_buggy_ips: spec.avoid_buggy_ips,
    })
}

/// How the addresses are announced; `None`: not at all, by us.
fn policy(spec: &crds::AddressPoolSpec) -> Result<Option<Policy>, String> {
    let l2 = spec
        .announce
        .as_ref()
        .and_then(|announce| announce.l2.as_ref());
    let Some(l2) = l2.filter(|_| spec.usage == PoolUsage::LoadBalancer) else {
        return Ok(None);
    };
    let nodes = l2.node_selector.as_ref();
    let preferred = l2.preferred_nodes.iter().enumerate().map(|(index, nodes)| {
        let field = format!("spec.announce.l2.preferredNodes[{index}]");
        if !(1..=100).contains(&nodes.weight) {
            return Err(format!(
                "{field}.weight: a weight is a number from 1 to 100"
            ));
        }
        let selector = labels(&format!("{field}.nodeSelector"), &nodes.node_selector)?;
        Ok((nodes.weight, selector))
    });
    Ok(Some(Policy {
        interfaces: l2.interfaces.clone(),
        nodes: nodes
            .map(|nodes| labels("spec.announce.l2.nodeSelector", nodes))
            .transpose()?,
        preferred: preferred.collect::<Result<_, _>>()?,
    }))
}

/// A selector whose keys and values could be a node's: one that can match nothing is a slip.
fn labels(field: &str, given: &LabelSelector) -> Result<Selector, String> {
    let selector = selector(field, given)?;
    for requirement in &selector.requirements {
        let key = &requirement.key;
        if !is_label_key(key) {
            return Err(format!("{field}: {} is no label key", quoted(key)));
        }
        if let Some(value) = requirement
            .values
            .iter()
            .find(|value| !is_label_value(value))
        {
            return Err(format!(
                "{field}: {} is no value of label {key}",
                quoted(value)
            ));
        }
    }
    Ok(selector)
}

/// `apimachinery/pkg/util/validation`, IsQualifiedName: a DNS name and a slash may come before.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns = |part: &str| {
        let ends =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().next_back())
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(dns))
        && !name.is_empty()
        && is_label_value(name)
}

/// `apimachinery/pkg/util/validation`, IsValidLabelValue.
fn is_label_value(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && ends(value.chars().next())
        && ends(value.chars().next_back())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn node_port_pool_spec(identity: &Identity, spec: &crds::NodePortPoolSpec) -> Result<Pool, String> {
    let ports = ranges("spec.ports", &spec.ports, RangeSet::parse_ports)?;
    if ports.is_empty() {
        return Err("spec.ports is empty: add a range, for example 30000-32767".to_owned());
    }
    Ok(Pool {
        name: identity.name.clone(),
        created: identity.created,
        uid: identity.uid.clone(),
        usage: Use::NodePort,
        v4: RangeSet::default(),
        v6: RangeSet::default(),
        ports,
        reserved_v4: RangeSet::default(),
        reserved_v6: RangeSet::default(),
        excluded_ports: ranges("spec.exclude", &spec.exclude, RangeSet::parse_ports)?,
        unusable_ports: RangeSet::default(),
        unusable_v4: RangeSet::default(),
        unusable_v6: RangeSet::default(),
        auto_assign: spec.auto_assign,
        priority: spec.priority,
        disabled: spec.disabled,
        admission: admission(
            spec.namespaces.as_deref(),
            spec.namespace_selector.as_ref(),
            spec.service_selector.as_ref(),
        )?,
        enforce: spec.enforce,
        strategy: match spec.strategy {
            PortStrategy::LowestFree => Strategy::LowestFree,
            PortStrategy::Stable => Strategy::Stable,
            PortStrategy::Random => Strategy::Random,
        },
        retain_for: retain_for(spec.retain_for.as_deref())?,
        avoid_buggy_ips: false,
    })
}

/// Reads the list; an error names the entry by its index.
fn ranges<T>(
    field: &str,
    entries: &[String],
    parse: impl Fn(&[String]) -> Result<T, RangeError>,
) -> Result<T, String> {
    parse(entries).map_err(|error| {
        let bad = |entry: &String| parse(std::slice::from_ref(entry)).is_err();
        match entries.iter().position(bad) {
            Some(index) => format!("{field}[{index}]: {error}"),
            None => format!("{field}: {error}"),
        }
    })
}

fn admission(
    namespaces: Option<&[String]>,
    namespace_selector: Option<&LabelSelector>,
    service_selector: Option<&LabelSelector>,
) -> Result<Admission, String> {
    let read = |field: &'static str| move |given| selector(field, given);
    Ok(Admission {
        namespaces: namespaces.map(|names| names.iter().cloned().collect()),
        namespace_selector: namespace_selector
            .map(read("spec.namespaceSelector"))
            .transpose()?,
        service_selector: service_selector
            .map(read("spec.serviceSelector"))
            .transpose()?,
    })
}

/// By the rules of `LabelSelector` (apimachinery): values with In and NotIn only.
fn selector(field: &str, given: &LabelSelector) -> Result<Selector, String> {
    let mut requirements = Vec::new();
    for (key, value) in given.match_labels.iter().flatten() {
        requirements.push(Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: BTreeSet::from([value.clone()]),
        });
    }
    for (index, given) in given.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let values = given.values.as_deref().unwrap_or_default();
        let operator = match given.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(format!(
                    "{field}.operator: {} is none of In, NotIn, Exists, DoesNotExist",
                    quoted(other)
                ));
            }
        };
        let wants_values = match operator {
            Operator::In | Operator::NotIn => true,
            Operator::Exists | Operator::DoesNotExist => false,
        };
        if wants_values == values.is_empty() {
            let cure = if wants_values {
                "add at least one"
            } else {
                "remove them"
            };
            return Err(format!(
                "{field}.values do not fit {}: {cure}",
                given.operator
            ));
        }
        requirements.push(Requirement {
            key: given.key.clone(),
            operator,
            values: values.iter().cloned().collect(),
        });
    }
    Ok(Selector { requirements })
}

fn retain_for(text: Option<&str>) -> Result<Option<i64>, String> {
    let Some(text) = text else { return Ok(None) };
    let duration =
        crds::parse_duration(text).map_err(|error| format!("spec.retainFor: {error}"))?;
    Ok(Some(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
}
