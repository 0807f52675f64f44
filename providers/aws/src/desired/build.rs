//! Services added to one load balancer, oldest first: who has which port, and who the targets are.

use std::collections::{BTreeMap, BTreeSet};

use model::Family;

use super::identity;
use crate::{
    Rejection,
    annotations::{self, PREFIX, Request, go_bool},
    attributes::CROSS_ZONE,
    front::Front,
    input::{Input, Service},
    names,
    ports::{self, Frame, Planned},
    security::{self, Exposure, Groups},
    tags,
    targets::{self, Candidate, PortNames, Room},
    wanted::{Listener, Rule, SecurityGroup, Target, TargetGroup, TargetType},
};

/// AWS: listeners of one load balancer.
const LISTENERS: usize = 50;

/// What of a request concerns the load balancer as a whole: in a group the oldest Service's counts.
const WHOLE: [&str; 20] = [
    "name",
    "scheme",
    "internal",
    "subnets",
    "eip-allocations",
    "private-ipv4-addresses",
    "ipv6-addresses",
    "ip-address-type",
    "enable-prefix-for-ipv6-source-nat",
    "source-nat-ipv6-prefixes",
    "attributes",
    "access-log-enabled",
    "access-log-s3-bucket-name",
    "access-log-s3-bucket-prefix",
    "cross-zone-load-balancing-enabled",
    "security-groups",
    "manage-backend-security-group-rules",
    "inbound-sg-rules-on-private-link-traffic",
    "disable-nlb-sg",
    "additional-resource-tags",
];

/// A Service with its listeners.
pub(super) struct Member<'a> {
    pub(super) service: &'a Service,
    pub(super) request: Request,
    pub(super) planned: Vec<Planned<'a>>,
}

/// A load balancer to which Services are added, oldest first.
pub(super) struct Build<'a, 'b> {
    pub(super) input: &'b Input<'a>,
    pub(super) front: &'b Front<'a>,
    pub(super) stack: &'b str,
    pub(super) managed: bool,
    pub(super) members: Vec<Member<'a>>,
    /// Who has which port.
    pub(super) ports: BTreeMap<u16, &'a Service>,
    pub(super) exposures: Vec<Exposure>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Build<'a, '_> {
    /// Adds a Service, or says why it cannot be added and changes nothing.
    pub(super) fn add(&mut self, service: &'a Service, request: Request) -> Result<(), Rejection> {
        let frame = Frame {
            class: self.input.class,
            stack: self.stack,
            vpc: &self.input.network.vpc,
            families: self.front.ip_address_type,
        };
        let (mut planned, found) = ports::plan(frame, service, &request)?;
        let mut exposure = security::exposure(service, &request, self.front.ip_address_type)?;
        let mut warnings: Vec<String> = found;
        planned.retain(|listener| match self.ports.get(&listener.port) {
            None => true,
            Some(older) => {
                warnings.push(format!(
                    "port {} belongs to the older Service {}, which shares the load balancer: \
                     change the port of one of them",
                    listener.port, older.key
                ));
                false
            }
        });
        let listeners = self.ports.len() + planned.len();
        if listeners > LISTENERS {
            return Err(Rejection::invalid(format!(
                "spec.ports: the load balancer would have {listeners} listeners, and AWS lets it have \
                 {LISTENERS}: remove ports or give some Services a load balancer of their own"
            )));
        }
        exposure
            .ports
            .retain(|(_, port)| planned.iter().any(|listener| listener.port == *port));
        let mut exposures = self.exposures.clone();
        exposures.push(exposure);
        if self.managed {
            self.rules(&exposures)?;
        }
        self.exposures = exposures;
        self.ports
            .extend(planned.iter().map(|listener| (listener.port, service)));
        self.warnings.extend(
            warnings
                .iter()
                .map(|warning| format!("Service {}: {warning}", service.key)),
        );
        self.members.push(Member {
            service,
            request,
            planned,
        });
        Ok(())
    }

    fn rules(&self, exposures: &[Exposure]) -> Result<BTreeSet<Rule>, Rejection> {
        let limit = self.input.class.security_group_rules;
        security::rules(exposures, self.front.ip_address_type, limit)
    }

    /// What a younger Service says about the whole and the oldest says otherwise.
    pub(super) fn overruled(&mut self, oldest: &Service, service: &Service) {
        let others: Vec<String> = WHOLE
            .iter()
            .map(|suffix| format!("{PREFIX}{suffix}"))
            .chain([
                annotations::ADOPT.to_owned(),
                annotations::ON_DELETE.to_owned(),
            ])
            .filter(|name| match service.annotations.get(name) {
                None => false,
                own => own != oldest.annotations.get(name),
            })
            .collect();
        if !others.is_empty() {
            self.warnings.push(format!(
                "Service {}: the older Service {} decides for the load balancer they share, so these \
                 annotations have no effect on it: {}",
                service.key,
                oldest.key,
                crate::listed(others.iter().map(String::as_str), 8)
            ));
        }
    }

    /// Limits that nothing enforces.
    pub(super) fn unguarded(&mut self, groups: &Groups) {
        let why = match groups {
            Groups::Managed => return,
            Groups::Given(_) => "the security groups that are given decide",
            Groups::None(_) => "the load balancer has no security group",
        };
        for exposure in self.exposures.iter().filter(|exposure| exposure.limited) {
            self.warnings.push(format!(
                "Service {}: source ranges and prefix lists do not limit who may connect, because {why}",
                exposure.service
            ));
        }
    }

    /// The group that is made, if one is.
    pub(super) fn security_group(
        &self,
        request: &Request,
    ) -> Result<Option<SecurityGroup>, Rejection> {
        let Some(first) = self.members.first().filter(|_| self.managed) else {
            return Ok(None);
        };
        let class = self.input.class;
        let users = tags::users(class, &request.tags)?;
        let identity = identity(first.service, class, request);
        Ok(Some(SecurityGroup {
            name: names::security_group(
                &class.cluster,
                identity.namespace,
                identity.name,
                &identity.unique,
            ),
            description: "[k8s] Managed SecurityGroup for LoadBalancer".to_owned(),
            rules: self.rules(&self.exposures)?,
            tags: tags::of(class, self.stack, tags::RESOURCE_SECURITY_GROUP, &users),
        }))
    }

    /// Listeners and target groups, with targets.
    pub(super) fn targets(
        &mut self,
        cross_zone: bool,
    ) -> (BTreeMap<u16, Listener>, BTreeMap<String, TargetGroup>) {
        let (mut listeners, mut groups) = (BTreeMap::new(), BTreeMap::new());
        let mut warnings: Vec<String> = vec![];
        let (mut pods, mut instance_groups) = (0, 0);
        // Pods first: nodes get the room that they leave.
        for member in &mut self.members {
            let endpoints = self.input.endpoints.get(&member.service.key);
            for planned in &mut member.planned {
                match planned.target_group.target_type {
                    TargetType::Instance => instance_groups += 1,
                    TargetType::Ip => {
                        let family = match planned.target_group.ipv6 {
                            true => Family::V6,
                            false => Family::V4,
                        };
                        let ports = PortNames {
                            first: &planned.first.name,
                            second: planned.second.map(|port| port.name.as_str()),
                        };
                        let (targets, split) = targets::pods(
                            endpoints.map(Vec::as_slice).unwrap_or_default(),
                            ports,
                            family,
                            &self.input.network.cidrs,
                        );
                        if split > 0 {
                            warnings.push(format!(
                                "Service {}: {split} pods are no targets of port {}, because their \
                                 TCP and UDP ports differ and share a target group",
                                member.service.key, planned.port
                            ));
                        }
                        pods += targets.len();
                        planned.target_group.targets = targets;
                    }
                }
            }
        }
        let room = Room::of(
            instance_groups,
            pods,
            cross_zone,
            self.input.class.max_targets,
        );
        for member in &mut self.members {
            let instances = member.request.target_type == TargetType::Instance;
            if instances {
                warnings.extend(nodes(self.input, self.stack, room, member));
            }
            for planned in std::mem::take(&mut member.planned) {
                listeners.insert(planned.port, planned.listener);
                groups.insert(planned.key, planned.target_group);
            }
        }
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        (listeners, groups)
    }
}

/// Makes nodes the targets of a Service's groups; what a user should know.
fn nodes(input: &Input<'_>, stack: &str, room: Room, member: &mut Member<'_>) -> Vec<String> {
    let (all, mut warnings) = targets::candidates(input.nodes, &member.request.node_labels);
    let chosen: Vec<&Candidate> = room.choose(stack, &all);
    let key = &member.service.key;
    if all.is_empty() {
        warnings.push(format!("Service {key}: no node can be a target"));
    } else if chosen.len() < all.len() {
        let local = match member.service.local {
            true => {
                ", and with externalTrafficPolicy Local pods on the others get no traffic: use \
                 annotation service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip"
            }
            false => "",
        };
        warnings.push(format!(
            "Service {key}: {} of {} nodes are targets, as many as the class or AWS's quotas let \
             in{local}",
            chosen.len(),
            all.len()
        ));
    }
    for planned in &mut member.planned {
        planned.target_group.targets = chosen
            .iter()
            .map(|node| Target {
                id: node.instance.clone(),
                port: planned.target_group.port,
                zone: None,
            })
            .collect();
    }
    warnings
}

/// Whether AWS counts targets of all zones together.
pub(super) fn cross_zone(request: &Request, members: &[Member<'_>]) -> bool {
    let on = |attributes: &BTreeMap<String, String>| {
        attributes
            .get(CROSS_ZONE)
            .map(String::as_str)
            .and_then(go_bool)
            == Some(true)
    };
    let mut groups = members.iter().flat_map(|member| &member.planned);
    on(&request.attributes) || groups.any(|planned| on(&planned.target_group.attributes))
}
