//! A cluster as its users see it: plain requests over a [`kube::Client`], so that the same suite runs
//! against the embedded API server and against a real one. Waiting is always for a condition with a
//! deadline; that nothing more happens is told by the resourceVersions of everything we write.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use allocator::block::{Claim, Claims};
use controller::core::{record::ServiceRecord, translate};
use crds::AllocationBlock;
use http::{Method, Request};
use kube::Client;
use model::{Number, Use};
use serde_json::{Value, json};

use crate::fixtures;

/// How long a condition may take; a paused clock gets there at once, a real one never should.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Everything the controller writes.
const WRITTEN: [&str; 8] = [
    "Service",
    "AllocationBlock",
    "AddressPool",
    "NodePortPool",
    "LoadBalancerClass",
    "Event",
    "Announcement",
    "Speaker",
];

/// A cluster and how patient to be with it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    quiet: Duration,
    own_numbers: bool,
}

/// Where objects of a kind live.
fn path(kind: &str, namespace: Option<&str>) -> String {
    let (prefix, plural) = match kind {
        "Service" => ("/api/v1", "services"),
        "Namespace" => ("/api/v1", "namespaces"),
        "Node" => ("/api/v1", "nodes"),
        "EndpointSlice" => ("/apis/discovery.k8s.io/v1", "endpointslices"),
        "Event" => ("/apis/events.k8s.io/v1", "events"),
        "ServiceCIDR" => ("/apis/networking.k8s.io/v1", "servicecidrs"),
        "IPAddress" => ("/apis/networking.k8s.io/v1", "ipaddresses"),
        "Lease" => ("/apis/coordination.k8s.io/v1", "leases"),
        "Secret" => ("/api/v1", "secrets"),
        "ResourceQuota" => ("/api/v1", "resourcequotas"),
        "ValidatingWebhookConfiguration" => (
            "/apis/admissionregistration.k8s.io/v1",
            "validatingwebhookconfigurations",
        ),
        "MutatingWebhookConfiguration" => (
            "/apis/admissionregistration.k8s.io/v1",
            "mutatingwebhookconfigurations",
        ),
        "CustomResourceDefinition" => {
            ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions")
        }
        "AddressPool" => ("/apis/portolan.dev/v1alpha1", "addresspools"),
        "NodePortPool" => ("/apis/portolan.dev/v1alpha1", "nodeportpools"),
        "LoadBalancerClass" => ("/apis/portolan.dev/v1alpha1", "loadbalancerclasses"),
        "AllocationBlock" => ("/apis/portolan.dev/v1alpha1", "allocationblocks"),
        "Announcement" => ("/apis/portolan.dev/v1alpha1", "announcements"),
        "Speaker" => ("/apis/portolan.dev/v1alpha1", "speakers"),
        "SpeakerStatus" => ("/apis/portolan.dev/v1alpha1", "speakerstatuses"),
        other => panic!("no path for {other}"),
    };
    match namespace {
        Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
        None => format!("{prefix}/{plural}"),
    }
}

/// `namespace/name` or `name`.
fn place(kind: &str, key: &str) -> String {
    match key.split_once('/') {
        Some((namespace, name)) => format!("{}/{name}", path(kind, Some(namespace))),
        None => format!("{}/{key}", path(kind, None)),
    }
}

fn code(error: &kube::Error) -> u16 {
    if let kube::Error::Api(status) = error {
        status.code
    } else {
        0
    }
}

impl Cluster {
    /// `quiet` is how long nothing may be written before the cluster counts as settled: longer than
    /// a resync where the clock is paused, a few seconds where it is not.
    /// `own_numbers`: the control plane leaves clusterIPs and nodePorts to Portolan.
    pub fn new(client: Client, quiet: Duration, own_numbers: bool) -> Self {
        Self {
            client,
            quiet,
            own_numbers,
        }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> kube::Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body.into_bytes())
            .unwrap();
        self.client.request(request).await
    }

    /// Installs the custom resources and waits until they are served.
    pub async fn install(&self) {
        for crd in crds::all() {
            let mut body = serde_json::to_value(crd).unwrap();
            body["apiVersion"] = "apiextensions.k8s.io/v1".into();
            body["kind"] = "CustomResourceDefinition".into();
            self.create(body).await;
        }
        self.until("the custom resources are served", async |cluster| {
            for kind in [
                "AddressPool",
                "NodePortPool",
                "LoadBalancerClass",
                "AllocationBlock",
                "Announcement",
                "Speaker",
                "SpeakerStatus",
            ] {
                if cluster
                    .send(Method::GET, &path(kind, None), None)
                    .await
                    .is_err()
                {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Creates the object; panics if refused.
    pub async fn create(&self, object: Value) -> Value {
        let told = object.to_string();
        self.try_create(object)
            .await
            .unwrap_or_else(|error| panic!("{error}: {told}"))
    }

    /// Creates the object; a status in it is written next, as users cannot but migrations do.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn try_create(&self, object: Value) -> kube::Result<Value> {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str();
        let made = self
            .send(Method::POST, &path(&kind, namespace), Some(&object))
            .await?;
        let Some(status) = object.get("status") else {
            return Ok(made);
        };
        let key = key_of(&made);
        Ok(self
            .edit_status(&kind, &key, |o| o["status"] = status.clone())
            .await)
    }

    /// The object, if it is there.
    pub async fn get(&self, kind: &str, key: &str) -> Option<Value> {
        match self.send(Method::GET, &place(kind, key), None).await {
            Ok(object) => Some(object),
            Err(error) if code(&error) == 404 => None,
            Err(error) => panic!("{kind} {key}: {error}"),
        }
    }

    /// A Service of namespace `default` that must be there.
    pub async fn service(&self, name: &str) -> Value {
        self.get("Service", &format!("default/{name}"))
            .await
            .unwrap_or_else(|| panic!("no Service {name}"))
    }

    /// All of a kind.
    pub async fn all(&self, kind: &str) -> Vec<Value> {
        let list = self
            .send(Method::GET, &path(kind, None), None)
            .await
            .unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Deletes the object if it is there.
    pub async fn delete(&self, kind: &str, key: &str) {
        match self.send(Method::DELETE, &place(kind, key), None).await {
            Ok(_) => {}
            Err(error) if code(&error) == 404 => {}
            Err(error) => panic!("{kind} {key}: {error}"),
        }
    }

    /// Changes the object as `kubectl edit` does: read, change, replace, again on a conflict.
    pub async fn edit(&self, kind: &str, key: &str, change: impl Fn(&mut Value)) -> Value {
        self.replace(kind, key, "", change).await.unwrap()
    }

    /// The same on its `/status`.
    pub async fn edit_status(&self, kind: &str, key: &str, change: impl Fn(&mut Value)) -> Value {
        self.replace(kind, key, "/status", change).await.unwrap()
    }

    /// Sets one field of a Service of namespace `default` by JSON pointer; null removes.
    pub async fn set(&self, name: &str, pointer: &str, value: Value) {
        self.edit("Service", &format!("default/{name}"), |o| {
            fixtures::set(o, pointer, value.clone())
        })
        .await;
    }

    /// Read, change, replace, again on a conflict.
    ///
    /// # Errors
    /// What the API server says, except a conflict.
    pub async fn replace(
        &self,
        kind: &str,
        key: &str,
        part: &str,
        change: impl Fn(&mut Value),
    ) -> kube::Result<Value> {
        let place = place(kind, key);
        loop {
            let mut object = self.send(Method::GET, &place, None).await?;
            change(&mut object);
            match self
                .send(Method::PUT, &format!("{place}{part}"), Some(&object))
                .await
            {
                Err(error) if code(&error) == 409 => {}
                done => return done,
            }
        }
    }

    /// Waits until it holds; panics past the deadline with what the Services look like.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + DEADLINE;
        while !holds(self).await {
            if tokio::time::Instant::now() > end {
                let mut told = String::new();
                for service in self.all("Service").await.iter().take(12) {
                    told += &format!(
                        "\n{} {} {}",
                        key_of(service),
                        service["spec"],
                        service["status"]
                    );
                }
                for block in self.all("AllocationBlock").await.iter().take(4) {
                    told += &format!("\n{}", block["spec"]);
                }
                panic!("never came true: {what}{told}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a Service of namespace `default` looks like this, and returns it.
    pub async fn until_service(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until(&format!("{name}: {what}"), async |cluster| {
            cluster
                .get("Service", &format!("default/{name}"))
                .await
                .is_some_and(|o| holds(&o))
        })
        .await;
        self.service(name).await
    }

    /// Waits until the Service has this external address.
    pub async fn until_address(&self, name: &str, address: &str) {
        self.until_service(name, &format!("has {address}"), |o| {
            addresses(o) == [address]
        })
        .await;
    }

    /// Waits until the Service says this reason in its `AddressAllocated` condition.
    pub async fn until_reason(&self, name: &str, reason: &str) -> Value {
        self.until_service(name, &format!("says {reason}"), |o| reason_of(o) == reason)
            .await
    }

    /// The resourceVersion of everything that the controller writes.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for kind in WRITTEN {
            for object in self.all(kind).await {
                let version = object["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                versions.insert(format!("{kind} {}", key_of(&object)), version);
            }
        }
        versions
    }

    /// Waits until nothing is written any more; what is there then.
    pub async fn settled(&self) -> BTreeMap<String, String> {
        let end = tokio::time::Instant::now() + DEADLINE + 10 * self.quiet;
        let mut last = self.versions().await;
        let mut since = tokio::time::Instant::now();
        while since.elapsed() < self.quiet {
            tokio::time::sleep(self.quiet / 16).await;
            let now = self.versions().await;
            if now != last {
                let changed: Vec<_> = now
                    .iter()
                    .filter(|(k, v)| last.get(*k) != Some(v))
                    .take(4)
                    .collect();
                assert!(
                    tokio::time::Instant::now() < end,
                    "no fixed point; written last: {changed:?}"
                );
                last = now;
                since = tokio::time::Instant::now();
            }
        }
        last
    }

    /// Our Events about the Service: the API server tells of it too, at times (its repair of
    /// clusterIPs looks at a Service that is being made).
    pub async fn our_events(&self, name: &str) -> Vec<Value> {
        let mut events = self.all("Event").await;
        events.retain(|event| {
            let by = event["reportingController"].as_str().unwrap_or_default();
            event["regarding"]["name"] == name && by.contains("portolan")
        });
        events
    }

    /// How many Events there are with this reason about the Service.
    pub async fn events(&self, name: &str, reason: &str) -> usize {
        let events = self.all("Event").await;
        events
            .iter()
            .filter(|e| e["regarding"]["name"] == name && e["reason"] == reason)
            .count()
    }

    /// Every claim of the ledger.
    pub async fn ledger(&self) -> Claims {
        let mut ledger = Claims::new();
        for object in self.all("AllocationBlock").await {
            let block: AllocationBlock = serde_json::from_value(object).unwrap();
            ledger.extend(translate::block(&block).unwrap().claims.unwrap());
        }
        ledger
    }

    /// Who shows which number, by what.
    pub async fn shown(&self) -> Numbers {
        let mut shown = Numbers::new();
        for object in self.all("Service").await {
            let service: k8s_openapi::api::core::v1::Service =
                serde_json::from_value(object.clone()).unwrap();
            let Ok(record) = translate::service(&service) else {
                continue;
            };
            for (number, usage) in numbers(&record) {
                shown.entry(number).or_default().push((
                    record.uid.to_string(),
                    usage,
                    object.clone(),
                ));
            }
        }
        shown
    }

    /// No number is shown by two Services unless they share it by one key.
    pub async fn check_unique(&self) {
        for (number, holders) in self.shown().await {
            if let [(_, _, one), (_, _, other), ..] = holders.as_slice() {
                let key =
                    |o: &Value| o["metadata"]["annotations"]["portolan.dev/sharing-key"].clone();
                assert!(
                    !key(one).is_null() && key(one) == key(other),
                    "{number} is shown by {} and {}",
                    key_of(one),
                    key_of(other)
                );
            }
        }
    }

    /// Unique, and the ledger holds exactly what is shown: no number missing, none leaked.
    pub async fn check(&self) {
        self.check_unique().await;
        let shown = self.shown().await;
        let mut held = BTreeSet::new();
        for (number, claim) in self.ledger().await {
            if let Claim::Held(holders) = claim {
                held.extend(
                    holders
                        .into_iter()
                        .map(|h| (number, h.uid.to_string(), h.usage.to_string())),
                );
            }
        }
        let shown: BTreeSet<_> = shown
            .into_iter()
            .flat_map(|(number, by)| {
                by.into_iter()
                    .map(move |(uid, usage, _)| (number, uid, usage))
            })
            .map(|(number, uid, usage)| (number, uid, usage.to_string()))
            .collect();
        let missing: Vec<_> = shown.difference(&held).collect();
        // Where the control plane gives numbers it need not be a pool of ours that has them.
        let ours = |usage: &str| self.own_numbers || usage == Use::LoadBalancer.as_str();
        let missing: Vec<_> = missing.iter().filter(|(_, _, usage)| ours(usage)).collect();
        assert!(missing.is_empty(), "shown but not held: {missing:?}");
        let leaked: Vec<_> = held.difference(&shown).collect();
        if let Some((_, uid, _)) = leaked.first() {
            let services = self.all("Service").await;
            let of = services.iter().find(|o| o["metadata"]["uid"] == json!(uid));
            let blocks = Value::from(self.all("AllocationBlock").await);
            panic!("held but not shown: {leaked:?} of {of:?} in {blocks}");
        }
    }
}

/// Numbers with who shows them: uid, by what, the object.
pub type Numbers = BTreeMap<Number, Vec<(String, Use, Value)>>;

fn numbers(record: &ServiceRecord) -> BTreeSet<(Number, Use)> {
    let mut numbers = BTreeSet::new();
    numbers.extend(record.ingress_numbers().map(|n| (n, Use::LoadBalancer)));
    numbers.extend(
        record
            .cluster_ips
            .iter()
            .map(|ip| (Number::from(*ip), Use::ClusterIp)),
    );
    let ports = record
        .ports
        .iter()
        .map(|port| port.node_port)
        .filter(|port| *port != 0);
    numbers.extend(ports.map(|port| (Number::port(port), Use::NodePort)));
    if record.health_check_node_port != 0 {
        numbers.insert((
            Number::port(record.health_check_node_port),
            Use::HealthCheckNodePort,
        ));
    }
    numbers
}

/// `namespace/name` or `name`.
pub fn key_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// The external addresses that a Service shows, sorted as shown.
pub fn addresses(service: &Value) -> Vec<&str> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["ip"].as_str())
        .collect()
}

/// A condition by the end of its type.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| {
        c["type"]
            .as_str()
            .is_some_and(|t| t.rsplit('/').next() == Some(type_))
    })
}

/// The reason of `AddressAllocated`; empty when there is none.
pub fn reason_of(service: &Value) -> &str {
    condition(service, "AddressAllocated")
        .and_then(|c| c["reason"].as_str())
        .unwrap_or_default()
}
