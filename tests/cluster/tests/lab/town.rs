//! Where the sentences play: a lab of our own, or a cluster that somebody gives.
//!
//! A given one is named by its environment:
//! - `PORTOLAN_KUBECONFIG`: who we are there, with all rights. The image of the test pods and of
//!   Portolan must be on its nodes;
//! - `PORTOLAN_CLIENT`: the words in front of a program that is to run on the client host outside,
//!   which needs curl, socat and ip and lies in the nodes' network: `docker exec client`.

use std::{ops::Deref, path::PathBuf, process::Command, sync::OnceLock};

use cluster::{Lab, LabOptions, ProxyMode};
use serde_json::{Value, json};

use super::kubectl::{Kubectl, load_portolan, told};

/// Where the controller runs.
pub(crate) const NAMESPACE: &str = "portolan";
/// What the pool gives; the client sends it to the first node unless told otherwise.
const ADDRESSES: [&str; 2] = ["203.0.113.0/24", "2001:db8:0:1::/112"];

/// A cluster with Portolan in it, a pool and a default class.
pub(crate) struct Town {
    place: Place,
    kubectl: Kubectl,
    pub(crate) nodes: Vec<Node>,
}

enum Place {
    Lab(Box<Lab>),
    Given {
        kubeconfig: PathBuf,
        client: Vec<String>,
    },
}

/// A node, as the cluster tells it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) v4: String,
    pub(crate) v6: String,
}

/// The town of this kind, made when it is first asked for.
pub(crate) fn town(mode: ProxyMode) -> &'static Town {
    static NFTABLES: OnceLock<Town> = OnceLock::new();
    static IPTABLES: OnceLock<Town> = OnceLock::new();
    match mode {
        ProxyMode::Nftables => &NFTABLES,
        ProxyMode::Iptables => &IPTABLES,
    }
    .get_or_init(|| Town::new(mode))
}

impl Town {
    fn new(mode: ProxyMode) -> Self {
        let place = match std::env::var_os("PORTOLAN_KUBECONFIG") {
            Some(kubeconfig) => Place::Given {
                kubeconfig: kubeconfig.into(),
                client: (std::env::var("PORTOLAN_CLIENT").unwrap().split(' '))
                    .map(str::to_owned)
                    .collect(),
            },
            None => Place::Lab(Box::new(lab(mode))),
        };
        let kubeconfig = match &place {
            Place::Lab(lab) => lab.plane().kubeconfig(),
            Place::Given { kubeconfig, .. } => kubeconfig.clone(),
        };
        let mut town = Self {
            place,
            kubectl: Kubectl::new(kubeconfig),
            nodes: Vec::new(),
        };
        town.nodes = town.list("nodes", "").iter().map(Node::from).collect();
        town.install();
        for addresses in ADDRESSES {
            town.route(addresses, &town.nodes[0]);
        }
        town
    }

    /// As README says: the chart, then pools.
    fn install(&self) {
        self.kubectl(&["create", "namespace", NAMESPACE]);
        // It must run where nothing but the least is allowed.
        let level = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&["label", "namespace", NAMESPACE, level]);
        self.helm(NAMESPACE, &["nodePorts.manage=true"]);
        self.apply(&json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": "external"},
            // What one sentence gives back no other gets: until each kube-proxy knows of that, the
            // address leads to the pods of whoever had it before.
            "spec": {"addresses": ADDRESSES, "retainFor": "1h"},
        }));
    }

    /// A program on the client host outside the cluster.
    pub(crate) fn client(&self, program: &str) -> Command {
        match &self.place {
            Place::Lab(lab) => lab.client(program),
            Place::Given { client, .. } => {
                let mut command = Command::new(&client[0]);
                command.args(&client[1..]).arg(program);
                command
            }
        }
    }

    /// What the client gets by HTTP, within this many seconds.
    pub(crate) fn try_curl(&self, url: &str, seconds: &str) -> Result<String, String> {
        let mut curl = self.client("curl");
        curl.args(["--silent", "--show-error", "--fail", "--globoff"])
            .args(["--max-time", seconds, url]);
        told(curl.output().unwrap())
    }

    /// The same; what was created a moment ago may take a moment to answer.
    pub(crate) fn curl(&self, url: &str) -> String {
        self.until(url, || self.try_curl(url, "2"))
    }

    /// What the client gets by UDP for this word, within a second.
    pub(crate) fn try_udp(&self, host: &str, port: u16, word: &str) -> Result<String, String> {
        let mut socat = self.client("sh");
        let script = format!("printf %s {word} | socat -t 1 - UDP:{host}:{port}");
        match told(socat.args(["-c", &script]).output().unwrap()) {
            Ok(text) if text.is_empty() => Err("no answer".to_owned()),
            told => told,
        }
    }

    /// The same; what was created a moment ago may take a moment to answer.
    pub(crate) fn udp(&self, host: &str, port: u16, word: &str) -> String {
        let place = format!("UDP:{host}:{port}");
        self.until(&place, || self.try_udp(host, port, word))
    }

    /// From now on the client sends what is for these addresses to that node, as a static route
    /// of a router does: nothing announces them.
    pub(crate) fn route(&self, addresses: &str, node: &Node) {
        let (family, via) = match addresses.contains(':') {
            true => ("-6", &node.v6),
            false => ("-4", &node.v4),
        };
        let mut ip = self.client("ip");
        ip.args([family, "route", "replace", addresses, "via", via]);
        told(ip.output().unwrap()).unwrap();
    }

    /// What was written in a namespace, by the audit log; a given cluster shows none.
    pub(crate) fn writes(&self, namespace: &str) -> Vec<String> {
        let Place::Lab(lab) = &self.place else {
            return Vec::new();
        };
        let place = format!("/namespaces/{namespace}/");
        let lines = lab.plane().audit().unwrap();
        let here =
            (lines.iter()).filter(|line| line.is_write() && line.request_uri.contains(&place));
        here.map(|line| {
            let (at, who) = (&line.stage_timestamp, &line.user.username);
            let (code, what) = (line.code(), &line.request_uri);
            format!("{at} {who} {} {what}: {code}", line.verb)
        })
        .collect()
    }

    /// What the API server has refused the controller, by its audit log; a given cluster shows none.
    pub(crate) fn refused(&self) -> Vec<String> {
        let Place::Lab(lab) = &self.place else {
            return Vec::new();
        };
        let user = format!("system:serviceaccount:{NAMESPACE}:portolan");
        let lines = lab.plane().audit().unwrap();
        let ours: Vec<_> = lines
            .iter()
            .filter(|line| line.user.username == user)
            .collect();
        assert!(ours.iter().any(|line| line.is_write()), "it wrote nothing");
        (ours.iter())
            .filter(|line| line.code() == 403)
            .map(|line| format!("{} {}", line.verb, line.request_uri))
            .collect()
    }
}

impl Deref for Town {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

fn lab(mode: ProxyMode) -> Lab {
    let options = LabOptions {
        nodes: 2,
        proxy: mode,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime
        .block_on(Lab::start(options))
        .unwrap_or_else(|error| panic!("{error:#}"));
    load_portolan(&lab);
    lab
}

impl From<&Value> for Node {
    fn from(node: &Value) -> Self {
        let of = |v6: bool| {
            let addresses = node["status"]["addresses"].as_array().unwrap();
            let mut internal = (addresses.iter())
                .filter(|address| address["type"] == "InternalIP")
                .map(|address| address["address"].as_str().unwrap().to_owned());
            internal
                .find(|address| address.contains(':') == v6)
                .unwrap()
        };
        Self {
            name: node["metadata"]["name"].as_str().unwrap().to_owned(),
            v4: of(false),
            v6: of(true),
        }
    }
}
