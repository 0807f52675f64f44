//! A whole Kubernetes with nodes, pods and a client outside, in namespaces of this machine's kernel:
//! what a test of traffic needs. Everything ends with the value, also after kill -9.

mod faults;
mod image;
pub mod net;
mod node;
pub(crate) mod sandbox;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, api::ListParams};

pub use faults::Signal;
pub use image::build as build_image;
pub use node::AGNHOST;
use node::Node;
pub use sandbox::Sandbox;

use crate::{ControlPlane, keeper::Keeper, plane::Identity};

/// How long nodes may take to become ready on a busy machine; 5 s on an idle one.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often we ask.
const PAUSE: Duration = Duration::from_millis(100);

/// How kube-proxy tells the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyMode {
    /// Rules of nftables.
    #[default]
    Nftables,
    /// Rules of iptables.
    Iptables,
}

impl ProxyMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// How large, and with which kube-proxy.
#[derive(Clone, Copy, Debug)]
pub struct LabOptions {
    /// Nodes, 1 to 9.
    pub nodes: u8,
    /// kube-proxy's mode on all of them.
    pub proxy: ProxyMode,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            proxy: ProxyMode::default(),
        }
    }
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    plane: ControlPlane,
    sandbox: Sandbox,
    nodes: Vec<Node>,
    proxy: ProxyMode,
}

impl Lab {
    /// Starts it and waits until every node is ready.
    ///
    /// # Errors
    /// [`k8s::NotAvailable`] when this machine cannot; otherwise when a part ends or is not ready in time.
    pub async fn start(options: LabOptions) -> Result<Self> {
        k8s::lab::available()?;
        let mut keeper = Keeper::new()?;
        let sandbox = Sandbox::start(&mut keeper)?;
        sandbox.script(&net::script(options.nodes))?;
        let mut identities: Vec<Identity> = (1..=options.nodes).map(Node::identity).collect();
        identities.extend(
            ["kube-controller-manager", "kube-scheduler", "kube-proxy"].map(|name| Identity {
                name: name.to_owned(),
                user: format!("system:{name}"),
                group: "portolan:lab",
            }),
        );
        let plane = ControlPlane::start_in(sandbox.clone(), keeper, &identities).await?;
        let mut lab = Self {
            plane,
            sandbox,
            nodes: Vec::new(),
            proxy: options.proxy,
        };
        lab.start_nodes(options).await?;
        lab.ready().await?;
        Ok(lab)
    }

    async fn start_nodes(&mut self, options: LabOptions) -> Result<()> {
        let Self {
            plane,
            sandbox,
            nodes,
            proxy,
        } = self;
        for number in 1..=options.nodes {
            let node = Node::new(plane, number)?;
            node.start_containerd(plane, sandbox)?;
            nodes.push(node);
        }
        plane.start_controller_manager("kube-controller-manager.kubeconfig")?;
        plane.start_scheduler("kube-scheduler.kubeconfig")?;
        let archive = image::agnhost(plane.binary())?;
        for node in nodes.iter() {
            let start = Instant::now();
            while !node.answers() {
                if start.elapsed() > PATIENCE {
                    bail!("containerd of {} does not answer", node.name);
                }
                tokio::time::sleep(PAUSE).await;
            }
            node.import(&archive)?;
            node.start_kubelet(plane, sandbox)?;
            node.start_proxy(plane, sandbox, *proxy)?;
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.plane.client().await?);
        let start = Instant::now();
        loop {
            let list = nodes.list(&ListParams::default()).await?;
            if list.iter().filter(|node| is_ready(node)).count() == self.nodes.len() {
                return Ok(());
            }
            if let Some(name) = self.plane.keeper().ended().map(str::to_owned) {
                bail!("{name} ended:\n{}", self.plane.last_words(&name)?);
            }
            if start.elapsed() > PATIENCE {
                let log = self.plane.last_words("node1-kubelet")?;
                bail!("nodes not ready in {PATIENCE:?}:\n{log}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The namespaces that it lives in.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its control plane.
    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// A program on the client host outside the cluster.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        self.sandbox.command(net::CLIENT, program)
    }

    /// A program on a host: `node1`, `client`, ...
    #[must_use]
    pub fn on(&self, host: &str, program: &str) -> Command {
        self.sandbox.command(host, program)
    }

    /// Brings an image (a docker archive) onto every node.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        for node in &self.nodes {
            node.import(archive)
                .with_context(|| format!("loading an image onto {}", node.name))?;
        }
        Ok(())
    }
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
