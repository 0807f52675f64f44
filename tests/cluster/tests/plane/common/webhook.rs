//! Controllers whose webhook the API server asks, all behind one address.

use std::net::{Ipv4Addr, SocketAddr};

use cluster::{ControlPlane, balancer::Balancer};
use controller::{
    core::{certificates::Terms, hook::Target},
    shell::{Certificates, Election, Options, SecretName, Webhook},
};
use serde_json::{Value, json};
use tests::{
    fixtures::enforcing,
    stage::{Running, Stage, options},
};

use super::stage::stage;

/// Portolan's own namespace.
pub(crate) const HOME: &str = "portolan-system";
/// As the chart names it.
pub(crate) const CONFIGURATION: &str = "portolan";
/// Likewise.
pub(crate) const SECRET: &str = "portolan-webhook";

/// A cluster in which Portolan is installed, and nothing of it runs yet.
pub(crate) struct Hooked {
    pub(crate) on: Stage,
    pub(crate) balancer: Balancer,
    /// What the certificates are to be.
    pub(crate) terms: Terms,
}

/// A replica that runs.
pub(crate) struct Replica {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
}

/// What the chart makes: the namespace and the empty configuration.
pub(crate) async fn hooked(plane: &ControlPlane) -> Hooked {
    let hooked = without_configuration(plane).await;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION, "labels": {"portolan.dev/webhook": "services"}},
    });
    hooked.on.cluster.create(configuration).await;
    hooked
}

/// The namespace alone.
pub(crate) async fn without_configuration(plane: &ControlPlane) -> Hooked {
    let on = stage(plane).await;
    let balancer = Balancer::start().await.unwrap();
    let target = Target::Url(balancer.url());
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
    on.cluster.create(home).await;
    Hooked {
        on,
        terms: Terms::new(vec![target.host()]),
        balancer,
    }
}

impl Hooked {
    /// How a replica is run: it campaigns for the lease, and the API server reaches it by way of the
    /// balancer.
    pub(crate) fn options(&self, identity: &str) -> Options {
        let secret = SecretName {
            namespace: HOME.to_owned(),
            name: SECRET.to_owned(),
        };
        Options {
            election: Some(Election {
                namespace: HOME.to_owned(),
                name: "portolan-controller".to_owned(),
            }),
            webhook: Some(Webhook {
                address: (Ipv4Addr::LOCALHOST, 0).into(),
                target: Target::Url(self.balancer.url()),
                namespace: HOME.to_owned(),
                certificates: Certificates::Own(secret, self.terms.clone()),
                configuration: CONFIGURATION.to_owned(),
            }),
            ..options(identity)
        }
    }

    /// Starts a replica and lets the API server reach it once it is ready.
    pub(crate) async fn start(&self, identity: &str) -> Replica {
        self.start_with(self.options(identity)).await
    }

    /// The same under other options.
    pub(crate) async fn start_with(&self, options: Options) -> Replica {
        let mut running = Running::start(self.on.client.clone(), options);
        running.until("ready", |state| state.ready()).await;
        let address = running.state().webhook.unwrap();
        self.balancer.add(address);
        Replica { running, address }
    }

    /// Ends it as a rolling update would: no new connection, then SIGTERM.
    pub(crate) async fn stop(&self, replica: Replica) {
        self.balancer.remove(replica.address);
        replica.running.stop().await;
    }

    /// Ends it as `kill -9` would: the balancer finds out by itself.
    pub(crate) async fn crash(&self, replica: Replica) {
        replica.running.crash().await;
        self.balancer.remove(replica.address);
    }

    /// The entries of the configuration.
    pub(crate) async fn entries(&self) -> Vec<Value> {
        let found = (self.on.cluster).get("MutatingWebhookConfiguration", CONFIGURATION);
        let found = found.await.unwrap();
        found["webhooks"].as_array().cloned().unwrap_or_default()
    }

    /// Makes this pool one that lets nothing pass by it; has an entry of its own beside the general one.
    pub(crate) async fn enforce(&self, pool: Value) {
        self.on.create([enforcing(pool)]).await;
        self.until_entries(2).await;
    }

    /// Waits until the configuration has so many, and the API server goes by it.
    pub(crate) async fn until_entries(&self, number: usize) {
        let what = format!("the configuration has {number} entries");
        (self.on.cluster)
            .until(&what, async |_| self.entries().await.len() == number)
            .await;
        self.is_known().await;
    }

    /// Waits until the API server goes by the configuration as it is, or by its absence. It hears of
    /// configurations by a watch, a moment after each is written and in their order: one that is
    /// written now, and refuses something, tells when.
    pub(crate) async fn is_known(&self) {
        const LAST: &str = "last";
        let cluster = &self.on.cluster;
        let last = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": LAST},
            "webhooks": [{
                "name": "last.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1:1/"}, "timeoutSeconds": 1,
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["configmaps"],
                }],
            }],
        });
        cluster.create(last).await;
        let refuses = async |is: bool| {
            let what = format!("the API server has heard of the last configuration: {is}");
            cluster
                .until(&what, async |cluster| {
                    let object = json!({
                        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": LAST},
                    });
                    let request =
                        http::Request::post("/api/v1/namespaces/default/configmaps?dryRun=All")
                            .header("content-type", "application/json")
                            .body(object.to_string().into_bytes())
                            .unwrap();
                    cluster.client().request::<Value>(request).await.is_err() == is
                })
                .await;
        };
        refuses(true).await;
        cluster.delete("MutatingWebhookConfiguration", LAST).await;
        refuses(false).await; // or the next one would be taken for known by this one
    }
}
