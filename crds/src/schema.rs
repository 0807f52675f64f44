//! Schema fragments and size limits shared by the kinds.
//!
//! Every list and string is bounded, because the API server multiplies the bounds to estimate what
//! a CEL rule may cost and refuses a definition above its budget (10 million per rule, 100 million
//! per definition; `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`).
//!
//! Rules about one entry of a list sit on the entry, not on the list, so that the API server's
//! error names it: `spec.addresses[3]`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::{Schema, SchemaGenerator, json_schema};

/// Bounds that writers of these objects must keep; the API server refuses what is larger.
pub mod limits {
    /// Entries in a pool's list of addresses, ports, reserved or excluded ones.
    pub const RANGES: u32 = 256;
    /// Characters in an address range: two IPv6 addresses of at most 45 characters and a dash.
    pub const ADDRESS_RANGE: u32 = 91;
    /// Characters in a port range: `30000-32767` and some room, so that a user who writes spaces is
    /// told about the spaces.
    pub const PORT_RANGE: u32 = 24;
    /// Namespaces in a list.
    pub const NAMESPACES: u32 = 256;
    /// Characters in a namespace's name (RFC 1123 label).
    pub const NAMESPACE: u32 = 63;
    /// Characters in an object's name (RFC 1123 subdomain).
    pub const NAME: u32 = 253;
    /// Characters in a label key or a qualified name: a 253 character prefix, `/`, 63 characters.
    pub const QUALIFIED_NAME: u32 = 317;
    /// Labels, or label requirements, in a selector.
    pub const SELECTOR: u32 = 64;
    /// Values in one label requirement.
    pub const SELECTOR_VALUES: u32 = 64;
    /// Characters in a duration.
    pub const DURATION: u32 = 24;
    /// Conditions in a status.
    pub const CONDITIONS: u32 = 16;
    /// Characters of all claims in an allocation block: all that etcd takes.
    pub const CLAIMS: u32 = 1_572_864;
    /// Characters in an address (the longest textual IPv6 address, INET6_ADDRSTRLEN - 1).
    pub const NUMBER: u32 = 45;
    /// Characters in a sharing key.
    pub const SHARING_KEY: u32 = 253;
    /// Ports of one Service that a sharing claim records.
    pub const SHARING_PORTS: u32 = 1024;
    /// Annotations that a class sets for its Services.
    pub const ANNOTATIONS: u32 = 64;
    /// Characters in such an annotation.
    pub const ANNOTATION: u32 = 2048;
    /// Tags on a cloud resource (AWS: 50, of which some are ours).
    pub const TAGS: u32 = 40;
    /// Characters in a tag's value (AWS).
    pub const TAG: u32 = 256;
    /// Security groups of the nodes (AWS: at most 16 on one interface).
    pub const SECURITY_GROUPS: u32 = 16;
    /// Characters in the id of a security group: `sg-` and 8 or 17 digits.
    pub const SECURITY_GROUP: u32 = 20;
    /// Load balancers that a class lets its Services adopt.
    pub const ADOPTABLE: u32 = 64;
    /// Characters in a load balancer's ARN, with room.
    pub const ARN: u32 = 256;
    /// Interfaces, or patterns of them, in a list.
    pub const INTERFACES: u32 = 16;
    /// Characters in a pattern of interface names: a name has at most 15 (IFNAMSIZ - 1).
    pub const INTERFACE: u32 = 32;
    /// Entries of nodes that a pool prefers.
    pub const PREFERRED_NODES: u32 = 16;
    /// Addresses that one node at a time must answer for, because Services share them.
    pub const ANNOUNCED: u32 = 512;
    /// Services with such addresses.
    pub const ANNOUNCED_SERVICES: u32 = 1024;
    /// Characters in a Service's namespace and name with a slash between.
    pub const SERVICE: u32 = 127;
    /// Nodes in a list.
    pub const NODES: u32 = 5000;
    /// A node's internal addresses.
    pub const NODE_ADDRESSES: u32 = 16;
    /// Addresses, or Services, in a node's status.
    pub const STATUS_ENTRIES: u32 = 8192;
    /// Characters in the text that identifies a sharing Service's backends.
    pub const BACKEND: u32 = 4096;
}

/// A rule on a value and what to tell the user when it does not hold.
pub(crate) type ItemRule = (&'static str, &'static str);

/// What every entry of a list of address ranges has to satisfy.
const ADDRESS_RULES: &[ItemRule] = &[
    (
        "isCIDR(self) || isIP(self) || (self.split('-').size() == 2 && self.split('-').all(end, isIP(end)))",
        "write a CIDR (203.0.113.0/24, 2001:db8::/64), a range (203.0.113.10-203.0.113.20) or one address, without spaces",
    ),
    (
        "self.split('-').size() != 2 || !self.split('-').all(end, isIP(end)) || ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",
        "both ends of a range must be of one family, IPv4 or IPv6",
    ),
    (
        "!isCIDR(self) || cidr(self).masked().ip() == cidr(self).ip()",
        "a CIDR must start at its first address, as 203.0.113.0/24 does; write one address without a prefix length",
    ),
    (
        "!isCIDR(self) || cidr(self).prefixLength() >= (cidr(self).ip().family() == 4 ? 8 : 48)",
        "a CIDR may be at most an IPv4 /8 or an IPv6 /48",
    ),
];

/// What every entry of a list of port ranges has to satisfy.
const PORT_RULES: &[ItemRule] = &[(
    "self.matches('^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$') && self.split('-').all(end, int(end) <= 65535)",
    "write a port (30100) or a range (30100-30200) between 1 and 65535, without spaces",
)];

/// What every entry of a list of namespaces has to satisfy.
const NAMESPACE_RULES: &[ItemRule] = &[(
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "a namespace's name has lower-case letters, digits and dashes, and no dash at its ends",
)];

/// What every entry of a list of pool names has to satisfy.
const NAME_RULES: &[ItemRule] = &[(
    "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "a pool's name has lower-case letters, digits, dashes and dots, and starts and ends with a letter or digit",
)];

/// What every entry of a list of security groups has to satisfy.
const SECURITY_GROUP_RULES: &[ItemRule] = &[(
    "self.matches('^sg-[0-9a-f]{8,17}$')",
    "write the id of a security group, for example sg-0123456789abcdef0",
)];

/// What every entry of a list of load balancers has to satisfy.
const LOAD_BALANCER_RULES: &[ItemRule] = &[(
    "self.matches('^arn:aws[-a-z]*:elasticloadbalancing:[-a-z0-9]+:[0-9]{12}:loadbalancer/net/[-A-Za-z0-9]{1,32}/[0-9a-f]+$')",
    "write the ARN of a Network Load Balancer: arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/net/NAME/ID",
)];

/// What every entry of a list of interfaces has to satisfy.
const INTERFACE_RULES: &[ItemRule] = &[(
    "self.matches('^[^/:[:space:]]+$')",
    "write the name of an interface (eth1) or a pattern of names (eth*), without slashes, colons and spaces",
)];

/// A set of strings, each judged by `rules`.
fn strings(max_items: u32, max_length: u32, rules: &[ItemRule]) -> Schema {
    let rules: Vec<_> = rules
        .iter()
        .map(|(rule, message)| serde_json::json!({"rule": rule, "message": message}))
        .collect();
    json_schema!({
        "type": "array",
        "maxItems": max_items,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": max_length,
            "x-kubernetes-validations": rules,
        },
    })
}

/// CIDRs, ranges and addresses.
pub(crate) fn addresses(_: &mut SchemaGenerator) -> Schema {
    strings(limits::RANGES, limits::ADDRESS_RANGE, ADDRESS_RULES)
}

/// Ports and port ranges.
pub(crate) fn ports(_: &mut SchemaGenerator) -> Schema {
    strings(limits::RANGES, limits::PORT_RANGE, PORT_RULES)
}

/// Names of namespaces.
pub(crate) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    strings(limits::NAMESPACES, limits::NAMESPACE, NAMESPACE_RULES)
}

/// Names of interfaces, with wildcards.
pub(crate) fn interfaces(_: &mut SchemaGenerator) -> Schema {
    strings(limits::INTERFACES, limits::INTERFACE, INTERFACE_RULES)
}

/// Names of nodes; written by the controller, which takes them from Nodes.
pub(crate) fn node_names(_: &mut SchemaGenerator) -> Schema {
    plain(limits::NODES, limits::NAME)
}

/// Addresses of a node.
pub(crate) fn node_addresses(_: &mut SchemaGenerator) -> Schema {
    plain(limits::NODE_ADDRESSES, limits::NUMBER)
}

/// Namespaces and names of Services.
pub(crate) fn services(_: &mut SchemaGenerator) -> Schema {
    plain(limits::ANNOUNCED_SERVICES, limits::SERVICE)
}

/// Namespaces and names of all Services that one node answers for.
pub(crate) fn answered_services(_: &mut SchemaGenerator) -> Schema {
    plain(limits::STATUS_ENTRIES, limits::SERVICE)
}

/// Names of the interfaces of a node.
pub(crate) fn interface_names(_: &mut SchemaGenerator) -> Schema {
    plain(limits::INTERFACES, limits::INTERFACE)
}

/// Strings in order, of a list that one writer writes as a whole.
fn plain(max_items: u32, max_length: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max_items,
        "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "maxLength": max_length},
    })
}

/// Names of address pools.
pub(crate) fn pool_names(_: &mut SchemaGenerator) -> Schema {
    strings(limits::RANGES, limits::NAME, NAME_RULES)
}

/// Ids of security groups.
pub(crate) fn security_groups(_: &mut SchemaGenerator) -> Schema {
    strings(
        limits::SECURITY_GROUPS,
        limits::SECURITY_GROUP,
        SECURITY_GROUP_RULES,
    )
}

/// ARNs of Network Load Balancers.
pub(crate) fn load_balancers(_: &mut SchemaGenerator) -> Schema {
    strings(limits::ADOPTABLE, limits::ARN, LOAD_BALANCER_RULES)
}

/// A `meta/v1` LabelSelector with bounds. Keys of `matchLabels` cannot be bounded in a schema and
/// are therefore judged by the controller.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that must all be present with exactly these values.",
                "type": "object",
                "maxProperties": limits::SELECTOR,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "description": "Requirements on labels that must all hold.",
                "type": "array",
                "maxItems": limits::SELECTOR,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "The label's key.",
                            "type": "string",
                            "maxLength": limits::QUALIFIED_NAME,
                        },
                        "operator": {
                            "description": "How the label relates to the values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values that In and NotIn compare with; the other operators take none.",
                            "type": "array",
                            "maxItems": limits::SELECTOR_VALUES,
                            "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                        "message": "In and NotIn need at least one value; Exists and DoesNotExist take none",
                    }],
                },
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}

/// Annotations by name. Their names cannot be bounded in a schema and are judged by the controller.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    texts(limits::ANNOTATIONS, limits::ANNOTATION)
}

/// Tags by key. Their keys cannot be bounded in a schema and are judged by the controller.
pub(crate) fn tags(_: &mut SchemaGenerator) -> Schema {
    texts(limits::TAGS, limits::TAG)
}

fn texts(max_entries: u32, max_length: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": max_entries,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    })
}

/// A status' conditions: `meta/v1` Condition with the bounds that its documentation states.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What is judged, in PascalCase.",
                    "type": "string",
                    "maxLength": 316,
                },
                "status": {
                    "description": "Whether it holds.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, in one PascalCase word.",
                    "type": "string",
                    "maxLength": 1024,
                },
                "message": {
                    "description": "Why, in a sentence that says what to change.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "description": "When status changed last.",
                    "type": "string",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "description": "The metadata.generation that was judged.",
                    "type": "integer",
                    "format": "int64",
                },
            },
        },
    })
}

/// Removes from a derived definition what Kubernetes reads differently from Rust.
///
/// * `nullable` on optional fields: without it the API server drops an explicit null, so that
///   "absent" has one form only.
/// * the format `uint32`, which Kubernetes does not know, and the lower bound that comes with it: a
///   CEL rule says what is wrong with a small number.
pub(crate) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            clean(root);
        }
    }
    crd
}

fn clean(node: &mut JSONSchemaProps) {
    node.nullable = None;
    if node.format.as_deref() == Some("uint32") {
        node.format = None;
        node.minimum = None;
    }
    for property in node.properties.iter_mut().flat_map(|map| map.values_mut()) {
        clean(property);
    }
    match node.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => clean(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(clean),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = node.additional_properties.as_mut() {
        clean(value);
    }
}
