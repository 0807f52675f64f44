//! What a user asks of Portolan in annotations and `spec.loadBalancerIP`. The only place where
//! annotations are read; nothing is decided here, and what cannot be read is never guessed.
//!
//! | what | read from |
//! |---|---|
//! | pool | `portolan.dev/address-pool`, `metallb.io/address-pool`, `metallb.universe.tf/address-pool` |
//! | addresses | `portolan.dev/addresses`, `metallb.io/loadBalancerIPs`, `metallb.universe.tf/loadBalancerIPs`, `spec.loadBalancerIP` |
//! | sharing key | `portolan.dev/sharing-key`, `metallb.io/allow-shared-ip`, `metallb.universe.tf/allow-shared-ip` |
//! | who else may share | `portolan.dev/share-with-namespaces` |
//! | nodePorts | `portolan.dev/node-port-pool`, `portolan.dev/node-ports`, `portolan.dev/keep-node-ports` |
//!
//! Several sources of one thing may be present as long as they say the same. All values are
//! untrusted: a message shows at most [`model::SHOWN`] characters of one, escaped.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use allocator::{Sharing, Terms};
use crds::limits;
use model::{Family, Reason, TrafficPolicy, quoted};

use super::record::{LoadBalancerRequest, Rejection, ServicePort};

#[cfg(test)]
mod tests;

/// Take the address from this pool only.
pub const ADDRESS_POOL: &str = "portolan.dev/address-pool";
/// Exactly these addresses, separated by commas; at most one of a family.
pub const ADDRESSES: &str = "portolan.dev/addresses";
/// Services with the same key may share an address.
pub const SHARING_KEY: &str = "portolan.dev/sharing-key";
/// Other namespaces whose Services may share it too, separated by commas.
pub const SHARE_WITH_NAMESPACES: &str = "portolan.dev/share-with-namespaces";
/// Take nodePorts from this pool only.
pub const NODE_PORT_POOL: &str = "portolan.dev/node-port-pool";
/// Port name to nodePort: `http=30080,https=30443`; for the one port without a name just `30080`.
pub const NODE_PORTS: &str = "portolan.dev/node-ports";
/// `true`: the nodePorts that the Service has stay, whatever a pool says.
pub const KEEP_NODE_PORTS: &str = "portolan.dev/keep-node-ports";

const POOL_SOURCES: [&str; 3] = [
    ADDRESS_POOL,
    "metallb.io/address-pool",
    "metallb.universe.tf/address-pool",
];
const ADDRESS_SOURCES: [&str; 3] = [
    ADDRESSES,
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
];
const KEY_SOURCES: [&str; 3] = [
    SHARING_KEY,
    "metallb.io/allow-shared-ip",
    "metallb.universe.tf/allow-shared-ip",
];

/// Reads the request of one Service. `ports` must be the Service's, in order.
///
/// # Errors
/// The first thing that cannot be read (`InvalidRequest`) or that contradicts another
/// (`ConflictingRequest`), as one sentence that names it and says what to write instead.
pub fn parse(
    annotations: &BTreeMap<String, String>,
    spec_load_balancer_ip: Option<&str>,
    ports: &[ServicePort],
    traffic_policy: TrafficPolicy,
    selector: &BTreeMap<String, String>,
) -> Result<LoadBalancerRequest, Rejection> {
    let pool = agreed(present(annotations, &POOL_SOURCES), pool_name)?;
    let address_sources = present(annotations, &ADDRESS_SOURCES).chain(
        spec_load_balancer_ip
            .filter(|text| !text.is_empty())
            .map(|text| Source::field("spec.loadBalancerIP", text)),
    );
    let addresses = agreed(address_sources, addresses)?.unwrap_or_default();
    let key = agreed(present(annotations, &KEY_SOURCES), sharing_key)?;
    let with = agreed(present(annotations, &[SHARE_WITH_NAMESPACES]), namespaces)?;
    let node_port_pool = agreed(present(annotations, &[NODE_PORT_POOL]), pool_name)?;
    let node_ports = agreed(present(annotations, &[NODE_PORTS]), |source| {
        node_ports(source, ports)
    })?
    .unwrap_or_default();

    let keep_node_ports =
        agreed(present(annotations, &[KEEP_NODE_PORTS]), yes_or_no)?.unwrap_or_default();
    if keep_node_ports && !node_ports.is_empty() {
        return Err(Rejection {
            reason: Reason::ConflictingRequest,
            message: format!(
                "annotation {NODE_PORTS} asks for nodePorts and {KEEP_NODE_PORTS} for no change of \
                 them: remove one of the two"
            ),
        });
    }

    let sharing = match (key, with) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(invalid(format!(
                "annotation {SHARE_WITH_NAMESPACES} has no effect without a sharing key: add \
                 {SHARING_KEY} or remove it"
            )));
        }
        (Some(key), with) => Some(sharing(
            key,
            with.unwrap_or_default(),
            ports,
            traffic_policy,
            selector,
        )?),
    };
    Ok(LoadBalancerRequest {
        pool,
        addresses,
        sharing,
        node_port_pool,
        node_ports,
        keep_node_ports,
    })
}

/// An address in any notation Kubernetes still stores: IPv4 octets with leading zeros count as
/// decimal (as Go's ParseIPSloppy has it), IPv4 mapped into IPv6 is IPv4.
pub fn stored_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let octets: Vec<u8> = text
        .split('.')
        .map(|part| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().ok() } else { None }
        })
        .collect::<Option<_>>()?;
    Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?))
}

/// Where a value was written.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// `annotation ` or nothing, for messages.
    kind: &'static str,
    name: &'static str,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn field(name: &'static str, text: &'a str) -> Self {
        Self {
            kind: "",
            name,
            text,
        }
    }

    /// `annotation portolan.dev/addresses: "10.0.0" <what>`.
    fn invalid(self, what: &str) -> Rejection {
        invalid(format!(
            "{}{}: {} {what}",
            self.kind,
            self.name,
            quoted(self.text)
        ))
    }
}

/// The sources out of `names` that are there, in that order.
fn present<'a>(
    annotations: &'a BTreeMap<String, String>,
    names: &'a [&'static str],
) -> impl Iterator<Item = Source<'a>> {
    names.iter().filter_map(|name| {
        annotations.get(*name).map(|text| Source {
            kind: "annotation ",
            name,
            text,
        })
    })
}

/// Reads every source; all must say the same.
fn agreed<'a, T: PartialEq>(
    sources: impl Iterator<Item = Source<'a>>,
    read: impl Fn(Source<'_>) -> Result<T, Rejection>,
) -> Result<Option<T>, Rejection> {
    let mut first: Option<(Source<'_>, T)> = None;
    for source in sources {
        let value = read(Source {
            text: source.text.trim(),
            ..source
        })?;
        match &first {
            None => first = Some((source, value)),
            Some((_, known)) if *known == value => {}
            Some((other, _)) => {
                return Err(Rejection {
                    reason: Reason::ConflictingRequest,
                    message: format!(
                        "{}{} is {} but {}{} is {}: remove one of them or make them equal",
                        other.kind,
                        other.name,
                        quoted(other.text),
                        source.kind,
                        source.name,
                        quoted(source.text)
                    ),
                });
            }
        }
    }
    Ok(first.map(|(_, value)| value))
}

fn pool_name(source: Source<'_>) -> Result<Arc<str>, Rejection> {
    let label = |part: &str| is_label(part, 253);
    if source.text.len() <= 253 && source.text.split('.').all(label) {
        Ok(source.text.into())
    } else {
        Err(source.invalid(
            "is not the name of a pool; write the metadata.name of one, for example \"production\"",
        ))
    }
}

/// In canonical form, IPv4 first: a set as far as comparing goes.
fn addresses(source: Source<'_>) -> Result<Vec<IpAddr>, Rejection> {
    let mut found = BTreeSet::new();
    for part in source.text.split(',') {
        let Ok(address) = part.trim().parse::<IpAddr>() else {
            let what = "is not an IP address or one of each family separated by a comma; write \
                        for example \"203.0.113.7\" or \"203.0.113.7,2001:db8::7\"";
            return Err(source.invalid(what));
        };
        found.insert(address.to_canonical());
    }
    let found: Vec<IpAddr> = found.into_iter().collect();
    for family in [Family::V4, Family::V6] {
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        if found.iter().filter(of_family).count() > 1 {
            return Err(source.invalid(&format!(
                "names more than one {family} address; a Service gets one of each family: keep one"
            )));
        }
    }
    Ok(found)
}

fn sharing_key(source: Source<'_>) -> Result<Arc<str>, Rejection> {
    if source.text.is_empty()
        || source.text.chars().count() > limits::SHARING_KEY as usize
        || source.text.chars().any(char::is_control)
    {
        return Err(source.invalid(&format!(
            "is not a sharing key; write 1 to {} printable characters, for example \"web\"",
            limits::SHARING_KEY
        )));
    }
    Ok(source.text.into())
}

/// Sorted, each once.
fn namespaces(source: Source<'_>) -> Result<Vec<Arc<str>>, Rejection> {
    let found: BTreeSet<&str> = source.text.split(',').map(str::trim).collect();
    if found.len() > limits::NAMESPACES as usize || !found.iter().all(|name| is_label(name, 63)) {
        return Err(source.invalid(&format!(
            "is not a list of at most {} namespaces separated by commas; write for example \
             \"team-a,team-b\"",
            limits::NAMESPACES
        )));
    }
    Ok(found.into_iter().map(Arc::from).collect())
}

/// Each entry names one of the Service's ports; no port twice, no nodePort twice of one protocol.
fn node_ports(
    source: Source<'_>,
    ports: &[ServicePort],
) -> Result<Vec<(Arc<str>, u16)>, Rejection> {
    let mut found: Vec<(Arc<str>, u16)> = Vec::new();
    for part in source.text.split(',') {
        let (name, number) = part.split_once('=').unwrap_or(("", part));
        let (name, number) = (name.trim(), number.trim());
        let number: u16 = number
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| {
                source.invalid(
                    "is not a list of port name and nodePort; write for example \
                     \"http=30080,https=30443\", or \"30080\" when the port has no name",
                )
            })?;
        let Some(port) = ports.iter().find(|port| &*port.name == name) else {
            return Err(source.invalid(&format!(
                "names the port {}, which is not in spec.ports; {}",
                quoted(name),
                port_names(ports)
            )));
        };
        if found.iter().any(|(known, _)| *known == port.name) {
            return Err(source.invalid(&format!(
                "names the port {} more than once: keep one",
                quoted(name)
            )));
        }
        found.push((Arc::clone(&port.name), number));
    }
    let wanted = |port: &ServicePort| {
        let asked = found.iter().find(|(name, _)| *name == port.name);
        let has = Some(port.node_port).filter(|number| *number != 0);
        asked.map(|(_, number)| *number).or(has)
    };
    let mut taken = BTreeSet::new();
    for port in ports {
        if let Some(number) = wanted(port)
            && !taken.insert((port.port.protocol, number))
        {
            return Err(source.invalid(&format!(
                "gives the nodePort {number} to two {} ports of this Service: change one",
                port.port.protocol
            )));
        }
    }
    Ok(found)
}

fn yes_or_no(source: Source<'_>) -> Result<bool, Rejection> {
    match source.text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(source.invalid("is neither \"true\" nor \"false\"")),
    }
}

/// The cure for a wrong port name.
fn port_names(ports: &[ServicePort]) -> String {
    let names: Vec<String> = ports
        .iter()
        .map(|port| quoted(&port.name))
        .take(8)
        .collect();
    match names.as_slice() {
        [] => "it has none".to_owned(),
        [only] if only == "\"\"" => "write the number alone, as its port has no name".to_owned(),
        _ => format!("write one of {}", names.join(", ")),
    }
}

/// The terms on which the Service shares its address. They are copied into the ledger, so they
/// have its limits.
fn sharing(
    key: Arc<str>,
    with: Vec<Arc<str>>,
    ports: &[ServicePort],
    policy: TrafficPolicy,
    selector: &BTreeMap<String, String>,
) -> Result<Sharing, Rejection> {
    let mut ports: Vec<_> = ports.iter().map(|port| port.port).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > limits::SHARING_PORTS as usize {
        return Err(invalid(format!(
            "spec.ports has {} entries, but a Service with a sharing key may have at most {}: \
             remove {SHARING_KEY} or some ports",
            ports.len(),
            limits::SHARING_PORTS
        )));
    }
    // With Local every node answers for its own endpoints, so all that share must have the same.
    let backend = match policy {
        TrafficPolicy::Cluster => String::new(),
        TrafficPolicy::Local => selector
            .iter()
            .map(|(label, value)| format!("{label}={value}"))
            .collect::<Vec<_>>()
            .join(","),
    };
    if backend.chars().count() > limits::BACKEND as usize {
        return Err(invalid(format!(
            "spec.selector is too long for a Service with a sharing key and \
             externalTrafficPolicy Local: remove {SHARING_KEY} or some labels of the selector"
        )));
    }
    Ok(Sharing::from(Terms {
        key,
        with,
        ports,
        policy,
        backend: backend.into(),
    }))
}

/// RFC 1123 label characters, at most `longest` of them.
pub(super) fn is_label(text: &str, longest: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn invalid(message: String) -> Rejection {
    Rejection {
        reason: Reason::InvalidRequest,
        message,
    }
}
