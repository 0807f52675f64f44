//! A Kubernetes object becomes a small record holding only what is read later. Nothing is decided
//! and nothing is fetched here; a user's mistake becomes a [`Rejection`] inside the record, so that
//! one bad field never hides the rest of the object.
//!
//! An `Err` means that the object cannot be told apart from others (no name, uid or
//! resourceVersion), or, for a class, that nobody can say what fulfils it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use k8s_openapi::{
    api::{
        core::v1::{self, LoadBalancerIngress, Namespace, Service, ServiceSpec},
        networking::v1::{IPAddress, ServiceCIDR},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use model::{Family, Labels, Port, Protocol, Reason, ServiceKey, TrafficPolicy, Uid, quoted};

use super::{
    annotations::{self, stored_address},
    record::{
        CidrRecord, ClassRecord, FamilyPolicy, Ingress, NamespaceRecord, Provider, Rejection,
        ReservationRecord, ServicePort, ServiceRecord, ServiceType,
    },
};

mod block;
mod pool;
#[cfg(test)]
mod tests;

pub use block::{FORMAT_VERSION, block, block_spec};
pub use pool::{address_pool, node_port_pool};

/// A Service. What is wrong in its spec or annotations is in `request`; there the first mistake
/// wins, the spec before the annotations. An entry of `spec.ports` that cannot be read keeps its
/// place with port number 0; a clusterIP that cannot be read makes the Service count as headless,
/// so that no other is written over it.
///
/// # Errors
/// Namespace, name, uid or resourceVersion is missing.
pub fn service(service: &Service) -> Result<ServiceRecord, Rejection> {
    let identity = Identity::of("Service", &service.metadata)?;
    let Some(namespace) = service.metadata.namespace.as_deref() else {
        return Err(missing("Service", &identity.name, "namespace"));
    };
    static EMPTY_SPEC: LazyLock<ServiceSpec> = LazyLock::new(ServiceSpec::default);
    let spec = service.spec.as_ref().unwrap_or(&EMPTY_SPEC);
    let mut problems = Problems::default();

    let service_type = service_type(spec.type_.as_deref(), &mut problems);
    let ports = ports(spec.ports.as_deref().unwrap_or_default(), &mut problems);
    let (headless, cluster_ips) = cluster_ips(spec, &mut problems);
    let families = families(spec, &mut problems);
    let family_policy = family_policy(spec.ip_family_policy.as_deref(), &mut problems);
    let traffic_policy = traffic_policy(spec.external_traffic_policy.as_deref(), &mut problems);
    let health_check_node_port = spec
        .health_check_node_port
        .and_then(|number| problems.port("spec.healthCheckNodePort", number, 0))
        .unwrap_or_default();

    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let selector = spec.selector.as_ref().unwrap_or(&NONE);
    let request = match problems.first {
        Some(rejection) => Err(rejection),
        None => annotations::parse(
            service.metadata.annotations.as_ref().unwrap_or(&NONE),
            spec.load_balancer_ip.as_deref(),
            &ports,
            traffic_policy,
            selector,
        ),
    };
    let cloud = (service_type == ServiceType::LoadBalancer || has_finalizer(&service.metadata))
        .then(|| Arc::new(cloud_service(service, spec, &identity, &ports, &families)));
    let status = service.status.as_ref();
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    Ok(ServiceRecord {
        key: ServiceKey {
            namespace: word(namespace),
            name: identity.name,
        },
        uid: identity.uid,
        version: identity.version,
        created: identity.created,
        deleting: service.metadata.deletion_timestamp.is_some(),
        labels: labels(&service.metadata),
        service_type,
        headless,
        class: spec.load_balancer_class.as_deref().map(word),
        allocate_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true),
        ports,
        cluster_ips,
        families,
        family_policy,
        traffic_policy,
        health_check_node_port,
        has_selector: !selector.is_empty(),
        request,
        ingress: ingress.iter().map(ingress_entry).collect(),
        conditions: status
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default(),
        finalizers: (service.metadata.finalizers.iter().flatten())
            .map(|name| word(name))
            .collect(),
        cloud,
    })
}

fn has_finalizer(metadata: &ObjectMeta) -> bool {
    let mut finalizers = metadata.finalizers.iter().flatten();
    finalizers.any(|name| name == crds::FINALIZER)
}

/// What a cloud is told of a Service.
fn cloud_service(
    service: &Service,
    spec: &ServiceSpec,
    identity: &Identity,
    ports: &[ServicePort],
    families: &[Family],
) -> aws::input::Service {
    let read = |prefix: &&str, name: &str| name.starts_with(prefix);
    let annotations = service.metadata.annotations.iter().flatten();
    let entries = spec.ports.iter().flatten().zip(ports);
    aws::input::Service {
        key: ServiceKey {
            namespace: word(service.metadata.namespace.as_deref().unwrap_or_default()),
            name: identity.name.clone(),
        },
        uid: identity.uid.clone(),
        annotations: annotations
            .filter(|(name, _)| CLOUD_PREFIXES.iter().any(|prefix| read(prefix, name)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ports: entries
            .map(|(entry, port)| aws::input::ServicePort {
                name: port.name.to_string(),
                protocol: port.port.protocol,
                port: port.port.number,
                node_port: port.node_port,
                target_port: target_port(entry.target_port.as_ref(), port.port.number),
            })
            .collect(),
        source_ranges: spec.load_balancer_source_ranges.clone().unwrap_or_default(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        health_check_node_port: (spec.health_check_node_port)
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default(),
        families: families.to_vec(),
    }
}

/// Annotations that a cloud is told.
const CLOUD_PREFIXES: [&str; 2] = ["service.beta.kubernetes.io/", "portolan.dev/"];

fn target_port(port: Option<&IntOrString>, default: u16) -> aws::input::TargetPort {
    use aws::input::TargetPort;
    match port {
        None => TargetPort::Number(default),
        Some(IntOrString::Int(number)) => TargetPort::Number(
            u16::try_from(*number)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(default),
        ),
        Some(IntOrString::String(name)) if name.is_empty() => TargetPort::Number(default),
        Some(IntOrString::String(name)) => TargetPort::Name(name.clone()),
    }
}

/// A LoadBalancerClass.
///
/// # Errors
/// Name, uid or resourceVersion is missing, or not exactly one provider is set.
pub fn class(class: &crds::LoadBalancerClass) -> Result<ClassRecord, Rejection> {
    let identity = Identity::of("LoadBalancerClass", &class.metadata)?;
    let spec = &class.spec;
    let provider = match (&spec.pool, &spec.aws, &spec.gcp) {
        (Some(pool), None, None) => Provider::Pool(pool.address_pools.clone()),
        (None, Some(aws), None) => Provider::Aws(Arc::new(aws_class(&identity.name, aws))),
        (None, None, Some(_)) => Provider::Gcp,
        _ => {
            return Err(Rejection {
                reason: Reason::Unreadable,
                message: format!(
                    "LoadBalancerClass {}: set exactly one of spec.pool, spec.aws and spec.gcp \
                     ({{}} is enough)",
                    identity.name
                ),
            });
        }
    };
    Ok(ClassRecord {
        name: identity.name,
        version: identity.version,
        created: identity.created,
        deleting: class.metadata.deletion_timestamp.is_some(),
        class_name: word(&spec.class_name),
        default: spec.default,
        provider,
        generation: identity.generation,
        conditions: class
            .status
            .as_ref()
            .map(|status| status.conditions.clone())
            .unwrap_or_default(),
    })
}

fn aws_class(name: &str, aws: &crds::AwsProvider) -> aws::input::Class {
    aws::input::Class {
        name: name.to_owned(),
        region: aws.region.clone(),
        cluster: String::new(),
        scheme: match aws.scheme {
            crds::AwsScheme::Internal => aws::wanted::Scheme::Internal,
            crds::AwsScheme::InternetFacing => aws::wanted::Scheme::InternetFacing,
        },
        target_type: match aws.target_type {
            crds::AwsTargetType::Instance => aws::wanted::TargetType::Instance,
            crds::AwsTargetType::Ip => aws::wanted::TargetType::Ip,
        },
        annotations: aws.annotations.clone(),
        tags: aws.tags.clone(),
        node_security_groups: aws.node_security_groups.clone(),
        adoptable: aws.adoptable.iter().cloned().collect(),
        groups_across_namespaces: aws.groups_across_namespaces,
        max_targets: aws.max_targets.and_then(|most| usize::try_from(most).ok()),
        security_group_rules: aws
            .security_group_rules
            .and_then(|rules| usize::try_from(rules).ok())
            .unwrap_or(SECURITY_GROUP_RULES),
    }
}

/// Rules that fit into one security group (AWS's default quota).
const SECURITY_GROUP_RULES: usize = 60;

/// A Namespace.
///
/// # Errors
/// Name, uid or resourceVersion is missing.
pub fn namespace(namespace: &Namespace) -> Result<NamespaceRecord, Rejection> {
    let identity = Identity::of("Namespace", &namespace.metadata)?;
    Ok(NamespaceRecord {
        name: word(&identity.name),
        labels: labels(&namespace.metadata),
    })
}

/// A ServiceCIDR.
///
/// # Errors
/// Name, uid or resourceVersion is missing, or a CIDR cannot be read.
pub fn service_cidr(cidr: &ServiceCIDR) -> Result<CidrRecord, Rejection> {
    let identity = Identity::of("ServiceCIDR", &cidr.metadata)?;
    let texts = (cidr.spec.as_ref()).and_then(|spec| spec.cidrs.as_deref());
    let cidrs = texts.unwrap_or_default().iter().map(|text| {
        text.parse().map_err(|_| Rejection {
            reason: Reason::Unreadable,
            message: format!(
                "ServiceCIDR {}: spec.cidrs: {} is no CIDR",
                identity.name,
                quoted(text)
            ),
        })
    });
    let cidrs = cidrs.collect::<Result<_, _>>()?;
    let status = cidr.status.as_ref();
    let mut conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
        .iter();
    // Absent counts as True (kube-apiserver, `MetaAllocator`).
    let refused = conditions.any(|c| c.type_ == "Ready" && c.status != "True");
    Ok(CidrRecord {
        cidrs,
        ready: cidr.metadata.deletion_timestamp.is_none() && !refused,
        name: identity.name,
    })
}

/// An IPAddress of ours.
///
/// # Errors
/// Name, uid or resourceVersion is missing, or the name is no address.
pub fn reservation(found: &IPAddress) -> Result<ReservationRecord, Rejection> {
    let identity = Identity::of("IPAddress", &found.metadata)?;
    let address = identity.name.parse().map_err(|_| Rejection {
        reason: Reason::Unreadable,
        message: format!("IPAddress {}: its name is no address", identity.name),
    })?;
    let parent = found.spec.as_ref().map(|spec| &spec.parent_ref);
    let parent = parent.filter(|parent| {
        parent.group.as_deref() == Some(crds::GROUP) && parent.resource == ADDRESS_POOLS
    });
    let mut owners = found.metadata.owner_references.iter().flatten();
    let pool = parent.and_then(|parent| {
        let owner = owners.find(|owner| owner.name == parent.name)?;
        Some((word(&parent.name), Uid::from(owner.uid.as_str())))
    });
    Ok(ReservationRecord {
        address,
        uid: identity.uid,
        version: identity.version,
        pool,
    })
}

/// The resource that AddressPools are.
pub const ADDRESS_POOLS: &str = "addresspools";

/// What tells one object from all others, and one state of it from the next.
struct Identity {
    name: Arc<str>,
    uid: Uid,
    version: Arc<str>,
    created: i64,
    generation: i64,
}

impl Identity {
    fn of(kind: &str, metadata: &ObjectMeta) -> Result<Self, Rejection> {
        let text = |value: &'_ Option<String>| value.clone().filter(|text| !text.is_empty());
        let name = text(&metadata.name).ok_or_else(|| missing(kind, "without a name", "name"))?;
        let uid = text(&metadata.uid).ok_or_else(|| missing(kind, &name, "uid"))?;
        let version = text(&metadata.resource_version)
            .ok_or_else(|| missing(kind, &name, "resourceVersion"))?;
        Ok(Self {
            name: name.into(),
            uid: Uid::from(uid.as_str()),
            version: version.into(),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_second()),
            generation: metadata.generation.unwrap_or_default(),
        })
    }
}

fn missing(kind: &str, name: &str, field: &str) -> Rejection {
    Rejection {
        reason: Reason::Unreadable,
        message: format!("{kind} {name}: metadata.{field} is missing"),
    }
}

/// Collects what is wrong in a spec; the first is told.
#[derive(Default)]
struct Problems {
    first: Option<Rejection>,
}

impl Problems {
    /// `spec.type: "x" <what>`.
    fn add(&mut self, field: &str, value: &str, what: &str) {
        if self.first.is_none() {
            self.first = Some(Rejection {
                reason: Reason::InvalidRequest,
                message: format!("{field}: {} {what}", quoted(value)),
            });
        }
    }

    /// A port of at least `lowest`, which is 0 where empty is allowed.
    fn port(&mut self, field: &str, number: i32, lowest: u16) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port >= lowest);
        if port.is_none() {
            self.add(
                field,
                &number.to_string(),
                "is not a port; write a number from 1 to 65535",
            );
        }
        port
    }
}

fn service_type(text: Option<&str>, problems: &mut Problems) -> ServiceType {
    match text {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            problems.add(
                "spec.type",
                other,
                "is none of ClusterIP, NodePort, LoadBalancer, ExternalName",
            );
            // The type that has no numbers, so nothing is done about it.
            ServiceType::ExternalName
        }
    }
}

fn ports(entries: &[v1::ServicePort], problems: &mut Problems) -> Vec<ServicePort> {
    let entry = |(index, entry): (usize, &v1::ServicePort)| {
        let field = |name: &str| format!("spec.ports[{index}].{name}");
        let protocol = match entry.protocol.as_deref() {
            None | Some("") => Some(Protocol::Tcp),
            Some(text) => text.parse().ok(),
        };
        if protocol.is_none() {
            problems.add(
                &field("protocol"),
                entry.protocol.as_deref().unwrap_or_default(),
                "is none of TCP, UDP, SCTP",
            );
        }
        let number = problems.port(&field("port"), entry.port, 1);
        let node_port = problems.port(&field("nodePort"), entry.node_port.unwrap_or_default(), 0);
        let readable = protocol.is_some() && node_port.is_some();
        ServicePort {
            name: entry.name.as_deref().map(word).unwrap_or_default(),
            port: Port {
                protocol: protocol.unwrap_or(Protocol::Tcp),
                number: number.filter(|_| readable).unwrap_or_default(),
            },
            node_port: node_port.unwrap_or_default(),
        }
    };
    entries.iter().enumerate().map(entry).collect()
}

/// Whether it is headless, and else the addresses.
fn cluster_ips(spec: &ServiceSpec, problems: &mut Problems) -> (bool, Vec<IpAddr>) {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let texts = if listed.is_empty() {
        spec.cluster_ip.as_slice()
    } else {
        listed
    };
    let mut addresses = Vec::with_capacity(texts.len());
    for text in texts {
        match text.as_str() {
            "" => {}
            "None" => return (true, Vec::new()),
            text => match stored_address(text) {
                Some(address) => addresses.push(address),
                None => {
                    problems.add("spec.clusterIPs", text, "is not an IP address");
                    return (true, Vec::new());
                }
            },
        }
    }
    (false, addresses)
}

fn families(spec: &ServiceSpec, problems: &mut Problems) -> Vec<Family> {
    let mut families = Vec::new();
    for text in spec.ip_families.as_deref().unwrap_or_default() {
        match text.as_str() {
            "IPv4" => families.push(Family::V4),
            "IPv6" => families.push(Family::V6),
            other => problems.add("spec.ipFamilies", other, "is neither IPv4 nor IPv6"),
        }
    }
    families
}

fn family_policy(text: Option<&str>, problems: &mut Problems) -> Option<FamilyPolicy> {
    match text {
        None | Some("") => None,
        Some("SingleStack") => Some(FamilyPolicy::SingleStack),
        Some("PreferDualStack") => Some(FamilyPolicy::PreferDualStack),
        Some("RequireDualStack") => Some(FamilyPolicy::RequireDualStack),
        Some(other) => {
            problems.add(
                "spec.ipFamilyPolicy",
                other,
                "is none of SingleStack, PreferDualStack, RequireDualStack",
            );
            None
        }
    }
}

fn traffic_policy(text: Option<&str>, problems: &mut Problems) -> TrafficPolicy {
    match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            problems.add(
                "spec.externalTrafficPolicy",
                other,
                "is neither Cluster nor Local",
            );
            TrafficPolicy::Cluster
        }
    }
}

fn ingress_entry(entry: &LoadBalancerIngress) -> Ingress {
    let text = entry.ip.as_deref().unwrap_or_default();
    let ip = stored_address(text);
    let hostname = entry.hostname.as_deref().filter(|name| !name.is_empty());
    let address = ip.is_some_and(|ip| ip.to_string() == text)
        && entry.ip_mode.as_deref() == Some("VIP")
        && hostname.is_none();
    let name = hostname.is_some() && entry.ip.is_none() && entry.ip_mode.is_none();
    Ingress {
        ip,
        hostname: hostname.map(Arc::from),
        plain: (address || name) && entry.ports.as_deref().unwrap_or_default().is_empty(),
    }
}

/// Shared when there are none.
fn labels(metadata: &ObjectMeta) -> Arc<Labels> {
    static NONE: LazyLock<Arc<Labels>> = LazyLock::new(Arc::default);
    match &metadata.labels {
        Some(labels) if !labels.is_empty() => Arc::new(labels.clone()),
        Some(_) | None => Arc::clone(&NONE),
    }
}

/// How many words are remembered for sharing; when there are more it starts anew, which costs
/// memory only.
const WORDS: usize = 4096;

/// A word that many objects have (namespaces, port names, classes), kept once.
fn word(text: &str) -> Arc<str> {
    thread_local! {
        static KNOWN: RefCell<HashSet<Arc<str>>> = RefCell::default();
    }
    if text.is_empty() {
        return Arc::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(word) = known.get(text) {
            return Arc::clone(word);
        }
        if known.len() >= WORDS {
            known.clear();
        }
        let word: Arc<str> = text.into();
        known.insert(Arc::clone(&word));
        word
    })
}
