//! Where the figures are taken: a control plane, the shipped program as replicas of their own, and a
//! client that sends what it is told once.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use cluster::{AuditLine, ControlPlane};
use controller::shell::USER_AGENT;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tests::{
    cluster::Cluster,
    fixtures::{bare, port_pool},
    program::Controller,
};

/// Portolan's own namespace.
pub const HOME: &str = "portolan-system";
/// As the chart names it.
const CONFIGURATION: &str = "portolan";
/// All that a kube-apiserver gives by default.
const PORTS: &str = "30000-32767";
/// Past everything that the API server or the controller waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster in which Portolan is installed.
pub struct Town {
    pub plane: ControlPlane,
    pub cluster: Cluster,
    binary: PathBuf,
}

/// A process that answers the API server.
pub struct Replica {
    pub controller: Controller,
    pub address: SocketAddr,
    name: String,
    url: String,
}

/// A port that is free now; nothing else on this machine asks for ports meanwhile.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Town {
    /// With a pool of all nodePorts that the API server has.
    pub async fn new(binary: PathBuf) -> Self {
        let plane = ControlPlane::start()
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let mut config = plane.config().await.unwrap();
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        let cluster = Cluster::new(client, Duration::from_secs(3), false);
        cluster.install().await;
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
        for object in [home, configuration(), port_pool("all", &[PORTS])] {
            cluster.create(object).await;
        }
        Self {
            plane,
            cluster,
            binary,
        }
    }

    /// Starts a replica; `by` is where the API server finds it, if not at its own address.
    pub async fn replica(&self, name: &str, by: Option<String>) -> Replica {
        let address = free();
        let url = by.unwrap_or_else(|| format!("https://{address}"));
        self.again(name.to_owned(), address, url).await
    }

    async fn again(&self, name: String, address: SocketAddr, url: String) -> Replica {
        let kubeconfig = self.plane.kubeconfig();
        let listen = address.to_string();
        let arguments = [
            "--lease-namespace",
            HOME,
            "--webhook-address",
            &listen,
            "--webhook-url",
            &url,
        ];
        let kubeconfig = kubeconfig.to_str().unwrap();
        let controller = Controller::start(&self.binary, kubeconfig, &name, &arguments);
        controller.ready().await;
        Replica {
            controller,
            address,
            name,
            url,
        }
    }

    /// kill -9, and a new process in its place.
    pub async fn kill(&self, replica: Replica) -> Replica {
        let Replica {
            controller,
            address,
            name,
            url,
        } = replica;
        drop(controller);
        self.again(name, address, url).await
    }

    /// Whether the API server asks: the configuration is there, or it is not.
    pub async fn ask(&self, asking: bool) {
        let kind = "MutatingWebhookConfiguration";
        match asking {
            true => drop(self.cluster.try_create(configuration()).await),
            false => self.cluster.delete(kind, CONFIGURATION).await,
        }
        let begun = Instant::now();
        for probe in 0.. {
            assert!(begun.elapsed() < PATIENCE, "asking: {asking}, for ever");
            let name = format!("probe-{asking}-{probe}");
            let mark = self.plane.audit().unwrap().len();
            self.cluster.create(bare(&name, "NodePort")).await;
            let created = |line: &AuditLine| {
                line.verb == "create"
                    && (line.object_ref.as_ref()).is_some_and(|object| object.name == name)
                    && line.resource() == "services"
            };
            let lines = self.plane.audit().unwrap();
            let asked = (lines.iter().skip(mark).filter(|line| created(line)))
                .flat_map(|line| line.consulted(CONFIGURATION))
                .any(|asked| !asked.failed_open);
            self.delete([name]).await;
            if asked == asking {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Deletes these Services of namespace `default`.
    pub async fn delete(&self, names: impl IntoIterator<Item = String>) {
        stream::iter(names)
            .for_each_concurrent(32, |name| async move {
                let key = format!("default/{name}");
                self.cluster.delete("Service", &key).await;
            })
            .await;
    }

    /// Waits until no block of the ledger is written for a second; how many lines the audit log has.
    pub async fn settled(&self) -> usize {
        let begun = Instant::now();
        let (mut last, mut since) = (Vec::new(), Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            assert!(begun.elapsed() < PATIENCE, "the ledger never settles");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let blocks = self.cluster.all("AllocationBlock").await;
            let now: Vec<Value> = (blocks.iter())
                .map(|block| block["metadata"]["resourceVersion"].clone())
                .collect();
            if now != last {
                last = now;
                since = Instant::now();
            }
        }
        self.plane.audit().unwrap().len()
    }

    /// Writes of the ledger since that line of the audit log, and how many of them were refused
    /// because another replica had written.
    pub fn ledger_writes(&self, mark: usize) -> (usize, usize) {
        let lines = self.plane.audit().unwrap();
        let writes = lines.iter().skip(mark).filter(|line| {
            line.user_agent == USER_AGENT
                && line.is_write()
                && line.resource() == "allocationblocks"
        });
        let (mut all, mut refused) = (0, 0);
        for write in writes {
            all += 1;
            refused += usize::from(write.code() >= 300);
        }
        (all, refused)
    }
}

/// As the chart makes it: empty.
fn configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION, "labels": {"portolan.dev/webhook": "services"}},
    })
}

/// The one below which that share of them lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Milliseconds: median, 99th percentile, worst.
pub fn told(mut samples: Vec<f64>) -> Value {
    samples.sort_by(f64::total_cmp);
    json!({
        "samples": samples.len(),
        "p50_ms": quantile(&samples, 0.5),
        "p99_ms": quantile(&samples, 0.99),
        "worst_ms": samples[samples.len() - 1],
    })
}
