//! From Services, class, nodes, endpoints and network to the load balancer that should exist. Pure: the
//! same input always gives the same answer, whatever is in the account.
//!
//! In a group the oldest Service decides what the load balancer itself is like, and an older one keeps
//! the ports it has. A younger one that is wrong is left out and stops nobody.

use std::collections::BTreeMap;

use crate::{
    Rejection,
    annotations::{self, Request},
    front,
    input::{Class, Input, Service},
    names, nodes,
    security::{self, Groups},
    seen::{self, Seen},
    subnets::Verdict,
    tags,
    wanted::{LoadBalancer, Tags, Wanted},
};

mod build;

use build::{Build, cross_zone};

#[cfg(test)]
mod tests;

/// The stack a Service belongs to: `namespace/name`; when it shares its load balancer
/// `namespace/group:NAME`, or `group:NAME` where the class lets namespaces share. No namespace and no
/// Service can be called so, and no two of these forms can be alike. Whatever else is wrong with a Service, it stays in its group.
///
/// # Errors
/// The name of the group cannot be read.
pub fn stack(service: &Service, class: &Class) -> Result<String, Rejection> {
    let group = annotations::group(service, class)?;
    Ok(stack_of(service, class, group.as_deref()))
}

/// Whether what was made for a Service that is gone stays: its annotation says so, or what is in the
/// account was made on these terms.
#[must_use]
pub fn is_retained(service: &Service, seen: &Seen) -> bool {
    match service.annotations.get(annotations::ON_DELETE) {
        Some(said) => said.trim() == RETAIN,
        None => seen.load_balancers.iter().any(stays),
    }
}

/// Whether a load balancer was made on the terms that it stays.
pub(crate) fn stays(there: &seen::LoadBalancer) -> bool {
    (there.tags.get(tags::ON_DELETE)).is_some_and(|tag| tag == RETAIN)
}

/// What [`tags::ON_DELETE`] says of a load balancer that stays.
const RETAIN: &str = "retain";

fn stack_of(service: &Service, class: &Class, group: Option<&str>) -> String {
    match (group, class.groups_across_namespaces) {
        (None, _) => service.key.to_string(),
        (Some(group), false) => format!("{}/group:{group}", service.key.namespace),
        (Some(group), true) => format!("group:{group}"),
    }
}

/// Why each subnet of the VPC is used or not.
///
/// # Errors
/// As [`desired`], as far as it concerns subnets.
pub fn subnet_verdicts(input: &Input<'_>) -> Result<Vec<Verdict>, Rejection> {
    let request = annotations::request(oldest(input)?.0, input.class)?;
    Ok(front::front(input, &request)?.choice.verdicts)
}

fn oldest<'a>(input: &Input<'a>) -> Result<(&'a Service, &'a [Service]), Rejection> {
    input
        .services
        .split_first()
        .ok_or_else(|| Rejection::invalid("a load balancer needs at least one Service"))
}

/// The load balancer that should exist for `input.services`.
///
/// # Errors
/// What is wrong with the oldest Service, or with what concerns all.
pub fn desired(input: &Input<'_>) -> Result<Wanted, Rejection> {
    let (first, younger) = oldest(input)?;
    // Every Service of a group shows the message; it is the oldest's.
    decide(input, first, younger).map_err(|rejection| match younger {
        [] => rejection,
        [..] => Rejection {
            message: format!("Service {}: {}", first.key, rejection.message),
            ..rejection
        },
    })
}

fn decide<'a>(
    input: &Input<'a>,
    first: &'a Service,
    younger: &'a [Service],
) -> Result<Wanted, Rejection> {
    let request = annotations::request(first, input.class)?;
    let front = front::front(input, &request)?;
    let subnets = front::mappings(&front, &request)?;
    let groups = security::groups(input, &request, front.scheme)?;
    let stack = stack_of(first, input.class, request.group.as_deref());

    let mut build = Build {
        input,
        front: &front,
        stack: &stack,
        managed: groups == Groups::Managed,
        members: vec![],
        ports: BTreeMap::new(),
        exposures: vec![],
        warnings: vec![],
    };
    build.add(first, request.clone())?;
    for service in younger {
        let added =
            annotations::request(service, input.class).and_then(|own| build.add(service, own));
        if let Err(rejection) = added {
            build.warnings.push(format!(
                "Service {} is left out of the load balancer it shares: {}",
                service.key, rejection.message
            ));
        }
        build.overruled(first, service);
    }
    build.unguarded(&groups);
    let security_group = build.security_group(&request)?;
    let cross_zone = cross_zone(&request, &build.members);
    let (listeners, target_groups) = build.targets(cross_zone);
    let identity = identity(first, input.class, &request);

    let users = tags::users(input.class, &request.tags)?;
    let mut warnings = build.warnings;
    let (traffic, unheard) = nodes::traffic(input.network, input.class, &request, &groups);
    let mut security_groups = match groups {
        Groups::Managed => vec![],
        Groups::Given(ids) => ids,
        Groups::None(why) => {
            warnings.extend(why);
            vec![]
        }
    };
    warnings.extend(unheard);
    security_groups.extend(traffic.filter(|id| !security_groups.contains(id)));
    let guarded = security_group.is_some() || !security_groups.is_empty();
    Ok(Wanted {
        adopt: request.adopt.clone(),
        load_balancer: LoadBalancer {
            name: request.name.clone().unwrap_or_else(|| {
                names::load_balancer(
                    &input.class.cluster,
                    identity.namespace,
                    identity.name,
                    &identity.unique,
                    front.scheme,
                )
            }),
            scheme: front.scheme,
            ip_address_type: front.ip_address_type,
            subnets,
            security_groups,
            attributes: request.attributes.clone(),
            tags: with_on_delete(
                tags::of(input.class, &stack, tags::RESOURCE_LOAD_BALANCER, &users),
                request.retain,
            ),
            // AWS takes it together with security groups only.
            enforce_rules_on_private_link: request.private_link_rules.filter(|_| guarded),
            ipv6_source_nat: request.ipv6_source_nat,
        },
        listeners,
        target_groups,
        security_group,
        warnings,
        stack,
    })
}

fn with_on_delete(mut tags: Tags, retain: bool) -> Tags {
    let on_delete = if retain { RETAIN } else { "delete" };
    tags.insert(tags::ON_DELETE.to_owned(), on_delete.to_owned());
    tags
}

/// What names are made of.
struct Identity<'a> {
    namespace: &'a str,
    name: &'a str,
    /// A group outlives its Services, a Service's successor is another one.
    unique: String,
}

fn identity<'a>(first: &'a Service, class: &Class, request: &'a Request) -> Identity<'a> {
    let Some(group) = request.group.as_deref() else {
        return Identity {
            namespace: &first.key.namespace,
            name: &first.key.name,
            unique: first.uid.to_string(),
        };
    };
    Identity {
        // Whose Service is the oldest may change.
        namespace: match class.groups_across_namespaces {
            true => "group",
            false => &first.key.namespace,
        },
        name: group,
        unique: stack_of(first, class, Some(group)),
    }
}
