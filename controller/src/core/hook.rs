//! The MutatingWebhookConfiguration: who is asked about which Services, and what happens when nobody
//! answers. A pure function of the pools: without one that could give a Service a number nobody is
//! asked, so that a cluster without such pools pays nothing.
//!
//! The object itself is the chart's, which makes it empty and takes it away with everything else:
//! what is uninstalled can block nobody, and no right to create or delete is needed for it. Portolan
//! only fills in `webhooks`.
//!
//! One entry lets everything pass when nobody answers. What a pool with `enforce` binds is asked about
//! once more by entries of that pool's own that let nothing pass. Namespaces in [`Terms::exempt`]
//! match no entry: neither kube-system nor Portolan itself ever waits for Portolan.

use std::sync::Arc;

use allocator::{Admission, FNV_BASIS, fnv};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
        ServiceReference, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use model::Use;
use serde_json::{Value, json};

use super::record::{PoolKind, PoolRecord};

mod select;

/// The label without which an object is not ours to fill in.
pub const LABEL: (&str, &str) = ("portolan.dev/webhook", "services");

/// The API server gives up after this. A human waits, and Portolan answers in two seconds at most.
const TIMEOUT: i32 = 5;

/// The longest name that an entry may have (a DNS subdomain).
const NAME_BYTES: usize = 253;

/// Where the API server finds Portolan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A Service in the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// `https://host:port` of a controller outside it, without a path.
    Url(String),
}

impl Target {
    /// The name under which the API server expects it.
    pub fn host(&self) -> String {
        match self {
            Self::Service {
                namespace, name, ..
            } => format!("{name}.{namespace}.svc"),
            Self::Url(url) => {
                let rest = url.strip_prefix("https://").unwrap_or(url);
                let authority = rest.split('/').next().unwrap_or_default();
                let host = match authority.strip_prefix('[') {
                    Some(v6) => v6.split(']').next(),
                    None => authority.split(':').next(),
                };
                host.unwrap_or_default().to_owned()
            }
        }
    }
}

/// What does not depend on pools.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Where Portolan is.
    pub target: Target,
    /// The path there.
    pub path: &'static str,
    /// Namespaces whose Services nobody is ever asked about.
    pub exempt: Vec<String>,
    /// Portolan's own namespace: nobody is asked about what its service accounts write.
    pub own: String,
}

/// What the pools ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// Some pool gives nodePorts.
    pub node_ports: bool,
    /// Some pool gives clusterIPs.
    pub cluster_ips: bool,
    /// Pools that let nothing pass by them.
    pub enforced: Vec<Enforced>,
}

/// A pool with `enforce`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enforced {
    /// Which resource.
    pub kind: PoolKind,
    /// Its name.
    pub name: Arc<str>,
    /// Whom it binds.
    pub admission: Admission,
}

impl Asked {
    /// What these pools ask for. One that cannot be read asks for nothing.
    pub fn of<'a>(pools: impl IntoIterator<Item = &'a PoolRecord>) -> Self {
        let mut asked = Self::default();
        for record in pools {
            let Ok(pool) = &record.pool else { continue };
            match pool.usage {
                Use::NodePort | Use::HealthCheckNodePort => asked.node_ports = true,
                Use::ClusterIp => asked.cluster_ips = true,
                Use::LoadBalancer => continue,
            }
            if pool.enforce {
                asked.enforced.push(Enforced {
                    kind: record.kind,
                    name: Arc::clone(&record.name),
                    admission: pool.admission.clone(),
                });
            }
        }
        asked
    }
}

/// Who is trusted to be Portolan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bundle {
    /// These authorities, in PEM.
    Ours(Arc<[u8]>),
    /// Whoever injects them here; these until then.
    Injected(Arc<[u8]>),
}

/// What to do next.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// It is as it should be.
    Nothing,
    /// This merge patch.
    Write(Value),
    /// There is no such object: the chart makes it.
    Missing,
    /// It lacks [`LABEL`].
    Foreign,
}

/// What to do about what was found.
pub fn step(
    found: Option<&MutatingWebhookConfiguration>,
    asked: &Asked,
    terms: &Terms,
    bundle: &Bundle,
) -> Step {
    let Some(found) = found else {
        return Step::Missing;
    };
    let label = found.metadata.labels.as_ref();
    if label.and_then(|all| all.get(LABEL.0)).map(String::as_str) != Some(LABEL.1) {
        return Step::Foreign;
    }
    let present = found.webhooks.as_deref().unwrap_or_default();
    let wanted = webhooks(asked, terms, &carried(present, bundle));
    if present == wanted {
        return Step::Nothing;
    }
    // The whole list at once, on the version that was looked at.
    Step::Write(json!({
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "webhooks": wanted,
    }))
}

/// Whether each entry trusts all of these.
pub fn trusts(found: Option<&MutatingWebhookConfiguration>, authorities: &[u8]) -> bool {
    let entries = found.and_then(|found| found.webhooks.as_deref());
    let trusts = |entry: &MutatingWebhook| {
        let bundle = entry.client_config.ca_bundle.as_ref();
        bundle.is_some_and(|ByteString(bundle)| **bundle == *authorities)
    };
    entries.unwrap_or_default().iter().all(trusts)
}

/// What an entry carries. Of a bundle that is injected by others each has what the first has.
fn carried(present: &[MutatingWebhook], bundle: &Bundle) -> ByteString {
    match bundle {
        Bundle::Ours(authorities) => ByteString(authorities.to_vec()),
        Bundle::Injected(until_then) => present
            .iter()
            .find_map(|entry| entry.client_config.ca_bundle.clone())
            .filter(|ByteString(bundle)| !bundle.is_empty())
            .unwrap_or_else(|| ByteString(until_then.to_vec())),
    }
}

/// All entries, with every field that the API server would fill in.
fn webhooks(asked: &Asked, terms: &Terms, bundle: &ByteString) -> Vec<MutatingWebhook> {
    let any = asked.node_ports || asked.cluster_ips;
    let general = any.then(|| {
        let node_ports_only = !asked.cluster_ips;
        let name = "services.portolan.dev".to_owned();
        let open = namespaces(terms, Vec::new());
        entry(
            name,
            "Ignore",
            open,
            LabelSelector::default(),
            node_ports_only,
            terms,
            bundle,
        )
    });
    // Those that let nothing pass come first: where nobody answers, nobody waits twice.
    let enforced = asked.enforced.iter().flat_map(|pool| {
        let (node_ports_only, kind) = match pool.kind {
            PoolKind::NodePort => (true, "nodeportpools"),
            PoolKind::Address => (false, "addresspools"),
        };
        let Admission {
            namespaces: named,
            namespace_selector,
            service_selector,
        } = &pool.admission;
        let services = match service_selector {
            Some(selector) => select::requirements(selector),
            None => Some(Vec::new()),
        };
        let make = |infix: &str, required: Option<Vec<_>>| {
            Some(entry(
                name(&pool.name, &format!("{infix}{kind}.portolan.dev")),
                "Fail",
                namespaces(terms, required?),
                select::selector(services.clone()?),
                node_ports_only,
                terms,
                bundle,
            ))
        };
        let by_name = named.as_ref().map(|named| make("", select::named(named)));
        let by_label = namespace_selector.as_ref().map(|labels| {
            let infix = if named.is_some() { "by-label." } else { "" };
            make(infix, select::requirements(labels))
        });
        let everywhere = named.is_none() && namespace_selector.is_none();
        let all = everywhere.then(|| make("", Some(Vec::new())));
        [by_name, by_label, all].into_iter().flatten().flatten()
    });
    enforced.chain(general).collect()
}

/// These namespaces, and never an exempt one.
fn namespaces(terms: &Terms, required: Vec<LabelSelectorRequirement>) -> LabelSelector {
    let exempt = select::not_named(&terms.exempt);
    select::selector([exempt].into_iter().chain(required).collect())
}

/// A pool's name may be as long as the whole may be.
fn name(pool: &str, suffix: &str) -> String {
    let whole = format!("{pool}.{suffix}");
    if whole.len() <= NAME_BYTES {
        return whole;
    }
    // Names of Kubernetes objects are ASCII.
    let kept: String = pool.chars().take(NAME_BYTES - suffix.len() - 20).collect();
    let hash = fnv(FNV_BASIS, pool);
    format!("{}-{hash:016x}.{suffix}", kept.trim_end_matches(['.', '-']))
}

/// What the API server asks itself first, in CEL. Every field that may be absent is looked for: an
/// error counts as no answer.
fn conditions(node_ports_only: bool, own: &str) -> Vec<MatchCondition> {
    // What Portolan itself writes it has claimed before; and where nobody answers, it must still be
    // able to change what a policy does not allow. A namespace is a DNS label: nothing to escape.
    let not_own = format!("!request.userInfo.username.startsWith('system:serviceaccount:{own}:')");
    let mut conditions = vec![
        ("not-by-portolan", &*not_own),
        // Nothing else of a Service has numbers: finalizers and annotations come and go for free.
        (
            "spec-differs",
            "request.operation == 'CREATE' || object.spec != oldObject.spec",
        ),
        (
            "not-being-deleted",
            "!has(object.metadata.deletionTimestamp)",
        ),
    ];
    if node_ports_only {
        conditions.push((
            "with-node-ports",
            "has(object.spec.type) && object.spec.type in ['NodePort', 'LoadBalancer']",
        ));
    } else {
        conditions.push((
            "not-an-alias",
            "!has(object.spec.type) || object.spec.type != 'ExternalName'",
        ));
        conditions.push((
            "not-headless",
            "!has(object.spec.clusterIP) || object.spec.clusterIP != 'None'",
        ));
    }
    let condition = |(name, expression): (&'static str, &str)| MatchCondition {
        name: name.to_owned(),
        expression: expression.to_owned(),
    };
    conditions.into_iter().map(condition).collect()
}

fn entry(
    name: String,
    failure_policy: &str,
    namespaces: LabelSelector,
    services: LabelSelector,
    node_ports_only: bool,
    terms: &Terms,
    bundle: &ByteString,
) -> MutatingWebhook {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let mut client_config = WebhookClientConfig {
        ca_bundle: (!bundle.0.is_empty()).then(|| bundle.clone()),
        ..WebhookClientConfig::default()
    };
    match &terms.target {
        Target::Service {
            namespace,
            name,
            port,
        } => {
            client_config.service = Some(ServiceReference {
                namespace: namespace.clone(),
                name: name.clone(),
                port: Some((*port).into()),
                path: Some(terms.path.to_owned()),
            });
        }
        Target::Url(url) => {
            client_config.url = Some(format!("{}{}", url.trim_end_matches('/'), terms.path));
        }
    }
    MutatingWebhook {
        name,
        admission_review_versions: vec!["v1".to_owned()],
        client_config,
        failure_policy: Some(failure_policy.to_owned()),
        match_conditions: Some(conditions(node_ports_only, &terms.own)),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(namespaces),
        object_selector: Some(services),
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![RuleWithOperations {
            api_groups: words(&[""]),
            api_versions: words(&["v1"]),
            operations: words(&["CREATE", "UPDATE"]),
            resources: words(&["services"]),
            scope: Some("Namespaced".to_owned()),
        }]),
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(TIMEOUT),
    }
}

#[cfg(test)]
mod tests;
