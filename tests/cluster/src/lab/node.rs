//! One node: containerd, kubelet and kube-proxy in a network of their own, with the settings that
//! several nodes on one kernel need.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ProxyMode, net, sandbox::Sandbox};
use crate::{
    certificates,
    plane::{ControlPlane, Identity},
};

/// What every pod's namespaces are held by, and what test pods run.
pub const AGNHOST: &str = "localhost/agnhost:test";

/// A node's place in the folder and in the network.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    number: u8,
    folder: PathBuf,
}

impl Node {
    pub(crate) fn new(plane: &ControlPlane, number: u8) -> Result<Self> {
        let name = format!("node{number}");
        let folder = plane.folder().join(&name);
        fs::create_dir_all(folder.join("cni"))?;
        Ok(Self {
            name,
            number,
            folder,
        })
    }

    /// Its kubelet, to the API server.
    pub(crate) fn identity(number: u8) -> Identity {
        Identity {
            name: format!("node{number}"),
            user: format!("system:node:node{number}"),
            group: "system:nodes",
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    pub(crate) fn start_containerd(&self, plane: &mut ControlPlane, lab: &Sandbox) -> Result<()> {
        let folder = self.folder.display();
        // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc could not set a pod's score.
        let config = format!(
            "version = 2
root = '{folder}/containerd/root'
state = '{folder}/containerd/state'
[grpc]
address = '{folder}/containerd.sock'
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{AGNHOST}'
restrict_oom_score_adj = true
disable_apparmor = true
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '/usr/lib/cni'
conf_dir = '{folder}/cni'
[plugins.'io.containerd.internal.v1.opt']
path = '{folder}/containerd/opt'
"
        );
        fs::write(self.folder.join("containerd.toml"), config)?;
        let [v4, v6] = net::pods(self.number);
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.folder.join("ipam"),
                    "ranges": [[{ "subnet": v4 }], [{ "subnet": v6 }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            }],
        });
        fs::write(
            self.folder.join("cni/10-pods.conflist"),
            network.to_string(),
        )?;
        let mut containerd = lab.command(&self.name, "containerd");
        containerd
            .arg("--config")
            .arg(self.folder.join("containerd.toml"));
        let name = format!("{}-containerd", self.name);
        plane.keeper().start(&name, containerd)
    }

    pub(crate) fn start_kubelet(&self, plane: &mut ControlPlane, lab: &Sandbox) -> Result<()> {
        let folder = &self.folder;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "x509": { "clientCAFile": plane.folder().join(certificates::CA) },
                "anonymous": { "enabled": false },
            },
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            // Two kubelets that share a tree of cgroups would end each other's pods as orphans.
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": false,
            "failSwapOn": false,
            "resolvConf": "",
            "imageGCHighThresholdPercent": 100,
            // Tests kill what runs in pods many times over.
            "crashLoopBackOff": { "maxContainerRestartPeriod": "1s" },
            "evictionHard": { "memory.available": "0%", "nodefs.available": "0%",
                "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "10s",
            "podLogsDir": folder.join("pods-log"),
            "volumePluginDir": folder.join("volume-plugins"),
        });
        fs::write(folder.join("kubelet.json"), config.to_string())?;
        let (v4, v6) = net::node(self.number);
        let program = plane.binary().path();
        let mut kubelet = lab.command(&self.name, &program.to_string_lossy());
        kubelet
            .arg("kubelet")
            .args(["--hostname-override", &self.name])
            .args(["--node-ip", &format!("{v4},{v6}")])
            .args(["--v", "1"])
            .arg("--config")
            .arg(folder.join("kubelet.json"))
            .arg("--kubeconfig")
            .arg(plane.folder().join(format!("{}.kubeconfig", self.name)))
            .arg("--root-dir")
            .arg(folder.join("kubelet"))
            .arg("--cert-dir")
            .arg(folder.join("kubelet-pki"));
        plane
            .keeper()
            .start(&format!("{}-kubelet", self.name), kubelet)
    }

    pub(crate) fn start_proxy(
        &self,
        plane: &mut ControlPlane,
        lab: &Sandbox,
        mode: ProxyMode,
    ) -> Result<()> {
        let config = proxy_config(&self.name, mode, plane);
        fs::write(self.folder.join("kube-proxy.json"), config.to_string())?;
        let program = plane.binary().path();
        let mut proxy = lab.command(&self.name, &program.to_string_lossy());
        proxy
            .args(["kube-proxy", "--hostname-override", &self.name])
            .arg("--config")
            .arg(self.folder.join("kube-proxy.json"));
        plane
            .keeper()
            .start(&format!("{}-kube-proxy", self.name), proxy)
    }

    /// Brings an image (a docker archive) onto the node.
    pub(crate) fn import(&self, archive: &std::path::Path) -> Result<()> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .output()
            .context("cannot start ctr")?;
        ensure!(
            output.status.success(),
            "{}: cannot import {}: {}",
            self.name,
            archive.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Whether containerd answers.
    pub(crate) fn answers(&self) -> bool {
        let version = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .arg("version")
            .output();
        version.is_ok_and(|output| output.status.success())
    }
}

fn proxy_config(name: &str, mode: ProxyMode, plane: &ControlPlane) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "hostnameOverride": name,
        "mode": mode.as_str(),
        "clientConnection": { "kubeconfig": plane.folder().join("kube-proxy.kubeconfig") },
        "clusterCIDR": net::POD_CIDRS,
        "detectLocalMode": "ClusterCIDR",
        // Those belong to the machine, not to the namespace.
        "conntrack": { "maxPerCore": 0, "min": 0,
            "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
}
