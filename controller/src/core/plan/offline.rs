//! A plan from manifests alone: nothing is there yet, and what only a cluster or an account could
//! say is assumed, and said so.

use std::collections::{BTreeMap, BTreeSet};

use aws::{
    input::{Endpoint, Network},
    seen::Seen,
    wanted::TargetType,
};
use k8s_openapi::api::core::v1;
use model::{Reason, Rejection, ServiceKey};

use super::{
    Facts, Member, Sorted,
    manifests::Manifests,
    network,
    report::{Planned, Rejected, Report},
    sort,
};
use crate::core::{index::Index, nodes, translate};

/// The class name that a class is assumed for when none is given: LBC's, whose Services Portolan
/// takes over.
const CLASS_NAME: &str = "service.k8s.aws/nlb";
const CLUSTER: &str = "cluster";
/// The first nodePort that is assumed.
const NODE_PORTS: i32 = 30000;

/// What a plan is made from besides manifests.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The VPC.
    pub network: Option<Network>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Of Services that do not say.
    pub namespace: Option<String>,
}

/// Plans every Service of the manifests.
///
/// # Errors
/// A class that nobody could use: what is wrong with it.
pub fn plan(mut manifests: Manifests, given: Given) -> Result<Report, Rejection> {
    let mut assumed = Assumed::default();
    let cluster = given.cluster.unwrap_or_else(|| {
        assumed.say(format!(
            "the cluster is called {CLUSTER}: give --cluster-name, names and tags have it"
        ));
        CLUSTER.to_owned()
    });
    let mut report = Report {
        cluster: cluster.clone(),
        ..Report::default()
    };
    let mut index = Index::default();
    classes(&manifests, &mut index, &mut assumed)?;
    let mut ports = NodePorts::of(&manifests.services);
    let namespace = given.namespace.as_deref().unwrap_or("default");
    let mut known = BTreeSet::new();
    for service in &mut manifests.services {
        fill(service, namespace, &mut ports, &mut assumed);
        match record(service) {
            Ok(record) if !known.insert(record.key.clone()) => {
                report.rejected.push(Rejected::of(
                    &record.key,
                    Rejection::conflict(
                        "metadata.name: the Service is there twice, and the first one is planned: \
                         remove one",
                    ),
                ));
            }
            Ok(record) => drop(index.set_service(std::sync::Arc::new(record))),
            Err(rejection) => report.rejected.push(Rejected {
                service: format!("{namespace}/…"),
                reason: rejection.reason,
                message: rejection.message,
            }),
        }
    }
    for (service, message) in &manifests.unreadable {
        report.rejected.push(Rejected {
            service: match service.contains('/') {
                true => service.clone(),
                false => format!("{namespace}/{service}"),
            },
            reason: Reason::Unreadable,
            message: message.clone(),
        });
    }
    let Sorted {
        stacks,
        rejected,
        skipped,
    } = sort(&index, &cluster);
    report.rejected.extend(rejected);
    report.skipped = skipped;

    let network = given.network.unwrap_or_else(|| {
        assumed.say(
            "THE SUBNETS ARE ASSUMED, and so are VPC and security groups: give --network, or plan \
             against the account (portolan plan svc/NAME)"
                .to_owned(),
        );
        network::assumed(stacks.values().flatten())
    });
    let nodes: Vec<_> = manifests.nodes.iter().map(nodes::node).collect();
    let endpoints = endpoints(&manifests, namespace);
    let facts = Facts {
        nodes: &nodes,
        endpoints: &endpoints,
        network: &network,
        seen: &Seen::default(),
        existing: None,
        now: 0,
    };
    for members in stacks.values() {
        match super::stack(members, facts) {
            Ok((planned, rejected)) => {
                targets(&planned, &manifests, &mut assumed);
                report.load_balancers.push(planned);
                report.rejected.extend(rejected);
            }
            Err(rejection) => {
                let each = members.iter().map(|member: &Member| &member.record.key);
                let each = each.map(|key| Rejected::of(key, rejection.clone()));
                report.rejected.extend(each);
            }
        }
    }
    assumed.sentences.append(&mut manifests.unknown);
    report.assumed = assumed.sentences;
    report.put_in_order();
    Ok(report)
}

/// What is assumed, each sentence once.
#[derive(Debug, Default)]
struct Assumed {
    sentences: Vec<String>,
}

impl Assumed {
    fn say(&mut self, sentence: String) {
        if !self.sentences.contains(&sentence) {
            self.sentences.push(sentence);
        }
    }
}

fn classes(
    manifests: &Manifests,
    index: &mut Index,
    assumed: &mut Assumed,
) -> Result<(), Rejection> {
    for class in &manifests.classes {
        let mut class = class.clone();
        identify(&mut class.metadata, "class");
        index.set_class(translate::class(&class)?);
    }
    if manifests.classes.is_empty() {
        assumed.say(format!(
            "a LoadBalancerClass nlb with className {CLASS_NAME} is there and is the default: give \
             --class"
        ));
        let mut class = crds::LoadBalancerClass::new(
            "nlb",
            crds::LoadBalancerClassSpec {
                class_name: CLASS_NAME.to_owned(),
                default: true,
                aws: Some(crds::AwsProvider::default()),
                ..crds::LoadBalancerClassSpec::default()
            },
        );
        identify(&mut class.metadata, "class");
        index.set_class(translate::class(&class)?);
    }
    Ok(())
}

/// What the API server would fill in.
fn identify(metadata: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, uid: &str) {
    metadata.uid.get_or_insert_with(|| uid.to_owned());
    metadata
        .resource_version
        .get_or_insert_with(|| "0".to_owned());
}

/// The record of a Service as it will be; one that is not there yet is younger than all that are.
fn record(service: &v1::Service) -> Result<crate::core::record::ServiceRecord, Rejection> {
    let mut record = translate::service(service)?;
    if service.metadata.creation_timestamp.is_none() {
        record.created = i64::MAX;
    }
    Ok(record)
}

/// NodePorts that no Service of the manifests has.
struct NodePorts {
    taken: BTreeSet<i32>,
    next: i32,
}

impl NodePorts {
    fn of(services: &[v1::Service]) -> Self {
        let specs = services.iter().filter_map(|service| service.spec.as_ref());
        let taken = specs.flat_map(|spec| {
            let ports = spec.ports.iter().flatten();
            ports
                .filter_map(|port| port.node_port)
                .chain(spec.health_check_node_port)
        });
        Self {
            taken: taken.collect(),
            next: NODE_PORTS,
        }
    }

    fn take(&mut self) -> i32 {
        while self.taken.contains(&self.next) {
            self.next = self.next.saturating_add(1);
        }
        self.taken.insert(self.next);
        self.next
    }
}

/// Fills in what the API server does.
fn fill(
    service: &mut v1::Service,
    namespace: &str,
    node_ports: &mut NodePorts,
    assumed: &mut Assumed,
) {
    let metadata = &mut service.metadata;
    let namespace = metadata
        .namespace
        .get_or_insert_with(|| namespace.to_owned())
        .clone();
    let key = format!(
        "{namespace}/{}",
        metadata.name.as_deref().unwrap_or_default()
    );
    let Some(spec) = service
        .spec
        .as_mut()
        .filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
    else {
        identify(metadata, &key);
        return;
    };
    if metadata.uid.as_deref().unwrap_or_default().is_empty() {
        metadata.uid = None;
        assumed.say(
            "Services get their metadata.uid when they are created: the last ten digits of names \
             depend on it and will be others"
                .to_owned(),
        );
    }
    identify(metadata, &key);
    let mut given = Vec::new();
    if spec.allocate_load_balancer_node_ports != Some(false) {
        // The API server gives TCP and UDP on one port the same nodePort.
        let mut of_port: BTreeMap<i32, i32> = BTreeMap::new();
        for port in spec.ports.iter_mut().flatten() {
            if port.node_port.unwrap_or_default() == 0 {
                let number = *of_port
                    .entry(port.port)
                    .or_insert_with(|| node_ports.take());
                port.node_port = Some(number);
                given.push(format!("{number} for port {}", port.port));
            }
        }
    }
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    if local && spec.health_check_node_port.unwrap_or_default() == 0 {
        let number = node_ports.take();
        spec.health_check_node_port = Some(number);
        given.push(format!("{number} as healthCheckNodePort"));
    }
    if !given.is_empty() {
        assumed.say(format!(
            "Service {key} gets the nodePorts {}",
            given.join(", ")
        ));
    }
}

fn endpoints(manifests: &Manifests, namespace: &str) -> BTreeMap<ServiceKey, Vec<Endpoint>> {
    let mut endpoints: BTreeMap<ServiceKey, Vec<Endpoint>> = BTreeMap::new();
    for slice in &manifests.slices {
        let mut slice = slice.clone();
        slice
            .metadata
            .namespace
            .get_or_insert_with(|| namespace.to_owned());
        if let Some(key) = nodes::service_of(&slice) {
            endpoints
                .entry(key)
                .or_default()
                .extend(nodes::endpoints(&slice));
        }
    }
    endpoints
}

/// Empty target groups are not what a cluster would have.
fn targets(planned: &Planned, manifests: &Manifests, assumed: &mut Assumed) {
    let groups = planned
        .wanted
        .iter()
        .flat_map(|wanted| wanted.target_groups.values());
    for group in groups {
        match group.target_type {
            TargetType::Instance if manifests.nodes.is_empty() => assumed.say(
                "no Node is given, so target groups of nodes are empty: give --nodes".to_owned(),
            ),
            TargetType::Ip if manifests.slices.is_empty() => assumed.say(
                "no EndpointSlice is given, so target groups of pods are empty: give them with -f"
                    .to_owned(),
            ),
            TargetType::Instance | TargetType::Ip => {}
        }
    }
}
