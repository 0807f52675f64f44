//! The real Kubernetes of `--cluster`: `cargo xtask cluster` starts it in a process of its own, so
//! that the demo itself needs nothing of it. Here are the pods and the request from outside.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How long pods may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The Service of `examples/services-hello-world.yaml` that gets pods, and their number.
const SERVICE: &str = "my-service";
const PODS: usize = 2;
/// The label that it selects.
const APP: &str = "load-balancer-example";

/// A running lab; dropping it ends it.
pub(crate) struct Lab {
    program: Vec<String>,
    running: bool,
}

impl Lab {
    /// Starts two nodes and a client; tells how to reach the API server.
    pub(crate) async fn start() -> Result<(Self, kube::Config)> {
        // A test names the built program, since cargo would build it anew.
        let (program, home) = match std::env::var("PORTOLAN_CLUSTER") {
            Ok(program) => (
                vec![program],
                PathBuf::from(std::env::var("PORTOLAN_CLUSTER_HOME")?),
            ),
            Err(_) => {
                let words = ["cargo", "run", "--quiet", "--package", "cluster", "--"];
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
                (
                    words.map(str::to_owned).to_vec(),
                    root.join(".portolan/cluster"),
                )
            }
        };
        let mut lab = Self {
            program,
            running: false,
        };
        let status = lab.command(&["up", "--nodes", "2"])?.status()?;
        ensure!(status.success(), "no cluster: {status}");
        lab.running = true;
        let file = Kubeconfig::read_from(home.join("kubeconfig"))?;
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
        config.proxy_url = None; // the environment's proxy does not know our loopback address
        println!();
        Ok((lab, config))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let (program, first) = self.program.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(first).args(arguments);
        Ok(command)
    }

    /// On the client host outside the cluster.
    fn outside(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command(&["on", "client"])?.args(words).output()?)
    }

    /// Gives the hello-world Service pods, and asks it from outside by its external address.
    pub(crate) async fn traffic(&self, client: &Client) -> Result<()> {
        let services: Api<Service> = Api::default_namespaced(client.clone());
        let Some(service) = services.get_opt(SERVICE).await? else {
            return Ok(()); // the user's own manifests
        };
        let status = service.status.unwrap_or_default().load_balancer;
        let mut ingress = status.unwrap_or_default().ingress.unwrap_or_default();
        let address = ingress.pop().and_then(|entry| entry.ip);
        let address = address.with_context(|| format!("{SERVICE} has no address"))?;
        let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
        let apply = PatchParams::apply("portolan-demo");
        (deployments.patch("hello-world", &apply, &Patch::Apply(hello_world())))
            .await
            .context("cannot create the Deployment hello-world")?;
        println!("\nPods behind {SERVICE}:");
        for pod in self.pods(client).await? {
            let node = pod.spec.clone().and_then(|spec| spec.node_name);
            let ip = pod.status.clone().and_then(|status| status.pod_ip);
            let (node, ip) = (node.unwrap_or_default(), ip.unwrap_or_default());
            println!("  {} on {node}, {ip}", pod.name_any());
        }
        // Nothing announces the address yet: a static route brings it to a node.
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default()).await?;
        let gateway = (nodes.iter())
            .flat_map(|node| {
                node.status
                    .iter()
                    .flat_map(|s| s.addresses.iter().flatten())
            })
            .find(|address| address.type_ == "InternalIP")
            .context("no node has an address")?;
        let route = ["ip", "route", "replace", &address, "via", &gateway.address];
        let routed = self.outside(&route)?;
        ensure!(routed.status.success(), "no route to {address}");
        let url = format!("http://{address}:8080/hostname");
        println!("From a client outside the cluster:\n  $ curl {url}");
        let started = Instant::now();
        loop {
            let curl = ["curl", "--silent", "--fail", "--max-time", "1", &url];
            let output = self.outside(&curl)?;
            if output.status.success() {
                println!("  {}\n", String::from_utf8_lossy(&output.stdout));
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{url} does not answer");
            sleep(LOOK).await;
        }
    }

    /// The pods, once all are ready.
    async fn pods(&self, client: &Client) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={APP}"));
        let started = Instant::now();
        loop {
            let mut found = pods.list(&ours).await?.items;
            found.retain(is_ready);
            if found.len() == PODS {
                return Ok(found);
            }
            if started.elapsed() > PATIENCE {
                bail!("{} of {PODS} pods are ready", found.len());
            }
            sleep(LOOK).await;
        }
    }

    /// Ends it; nothing remains.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.down()
    }

    fn down(&mut self) -> Result<()> {
        if std::mem::take(&mut self.running) {
            let status = self.command(&["down"])?.status()?;
            ensure!(status.success(), "the cluster did not end: {status}");
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            tracing::warn!(%error, "`cargo xtask cluster down` ends it");
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Deployment of the Kubernetes documentation, with an image that the lab has.
fn hello_world() -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "hello-world"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app.kubernetes.io/name": APP}},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": APP}},
                "spec": {"containers": [{
                    "name": "hello-world",
                    "image": "localhost/agnhost:test",
                    "imagePullPolicy": "Never",
                    "args": ["netexec"],
                    "ports": [{"containerPort": 8080}],
                    "readinessProbe": {
                        "httpGet": {"path": "/healthz", "port": 8080},
                        "periodSeconds": 1,
                    },
                }]},
            },
        },
    })
}
