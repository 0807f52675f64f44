//! Where the sentences play: a lab of our own, or a cluster that somebody gives.
//!
//! A given one is named by its environment:
//! - `PORTOLAN_KUBECONFIG`: who we are there, with all rights. The image of the test pods and of
//!   Portolan must be on its nodes;
//! - `PORTOLAN_CLIENT`: the words in front of a program that is to run on the client host outside,
//!   which needs curl, socat and ip and lies in the nodes' network: `docker exec client`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use cluster::{Binary, Lab, LabOptions, ProxyMode, lab::build_image};
use serde_json::{Value, json};

/// How long anything may take that should take seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Portolan's image on the nodes.
const IMAGE: &str = "localhost/portolan:dev";
/// Where the controller runs.
pub(crate) const NAMESPACE: &str = "portolan";
/// What the pool gives; the client sends it to the first node unless told otherwise.
const ADDRESSES: [&str; 2] = ["203.0.113.0/24", "2001:db8:0:1::/112"];

/// A cluster with Portolan in it, a pool and a default class.
pub(crate) struct Town {
    place: Place,
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
        let mut town = Self {
            place,
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
        let chart = repository().join("deploy/charts/portolan");
        let mut helm = Binary::build().unwrap().part("helm");
        helm.env("KUBECONFIG", self.kubeconfig())
            .args(["install", "portolan", &chart.to_string_lossy()])
            .args(["--namespace", NAMESPACE, "--wait", "--timeout", "120s"])
            .args(["--set", "image.repository=localhost/portolan"])
            .args(["--set", "image.tag=dev", "--set", "image.pullPolicy=Never"])
            .args(["--set", "loadBalancerClass.create=true"])
            .args(["--set", "loadBalancerClass.default=true"]);
        let output = helm.output().unwrap();
        if !output.status.success() {
            let events = self.kubectl(&["get", "pods,events", "-A"]);
            panic!("{}\n{events}", String::from_utf8_lossy(&output.stderr));
        }
        self.apply(&json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": "external"},
            "spec": {"addresses": ADDRESSES},
        }));
    }

    fn kubeconfig(&self) -> PathBuf {
        match &self.place {
            Place::Lab(lab) => lab.plane().kubeconfig(),
            Place::Given { kubeconfig, .. } => kubeconfig.clone(),
        }
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Binary::build().unwrap().part("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.args(arguments);
        command
    }

    /// What the real kubectl prints; panics when it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        told(self.kubectl_command(arguments).output().unwrap())
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// The same, and its failure is an answer.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        told(self.kubectl_command(arguments).output().unwrap())
    }

    /// `kubectl apply`, with strict validation.
    pub(crate) fn apply(&self, object: &Value) {
        let mut kubectl = self
            .kubectl_command(&["apply", "--validate=strict", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = kubectl.stdin.take().unwrap();
        stdin.write_all(object.to_string().as_bytes()).unwrap();
        drop(stdin);
        told(kubectl.wait_with_output().unwrap()).unwrap_or_else(|e| panic!("{e}: {object}"));
    }

    /// One object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Value {
        let text = self.kubectl(&["-n", namespace, "get", name, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// All of a kind in a namespace; for what has none, it is empty.
    pub(crate) fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let text = match namespace {
            "" => self.kubectl(&["get", kind, "-o", "json"]),
            _ => self.kubectl(&["-n", namespace, "get", kind, "-o", "json"]),
        };
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().unwrap().clone()
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

    /// What the client gets by UDP for this word.
    pub(crate) fn udp(&self, host: &str, port: u16, word: &str) -> String {
        let place = format!("UDP:{host}:{port}");
        self.until(&place, || {
            let mut socat = self.client("sh");
            let script = format!("printf %s {word} | socat -t 1 - {place}");
            match told(socat.args(["-c", &script]).output().unwrap()) {
                Ok(text) if text.is_empty() => Err("no answer".to_owned()),
                told => told,
            }
        })
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

    /// Repeats until it succeeds; panics with the last failure when it takes too long.
    pub(crate) fn until<T>(&self, what: &str, attempt: impl Fn() -> Result<T, String>) -> T {
        let start = Instant::now();
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(why) if start.elapsed() > PATIENCE => {
                    let services = self.try_kubectl(&["get", "services,pods", "-A", "-o", "wide"]);
                    panic!("never came true: {what}: {why}\n{services:?}")
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The external addresses of a Service, once it has as many.
    pub(crate) fn addresses(&self, namespace: &str, service: &str, count: usize) -> Vec<String> {
        let name = format!("service/{service}");
        self.until(&format!("{name} has {count} external addresses"), || {
            let service = self.get(namespace, &name);
            let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
            let addresses: Vec<String> = ingress
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry["ip"].as_str()?.to_owned()))
                .collect();
            match addresses.len() == count {
                true => Ok(addresses),
                false => Err(service["status"].to_string()),
            }
        })
    }

    /// The one external address of a Service.
    pub(crate) fn address(&self, namespace: &str, service: &str) -> String {
        self.addresses(namespace, service, 1).remove(0)
    }
}

fn lab(mode: ProxyMode) -> Lab {
    let context = repository().join("target/image");
    assert!(
        context.join("portolan").is_file(),
        "{} is empty; `cargo xtask image --no-build --profile dev` fills it",
        context.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("portolan.tar");
    let dockerfile = repository().join("deploy/Dockerfile");
    build_image(&context, &dockerfile, IMAGE, &archive).unwrap_or_else(|e| panic!("{e:#}"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime
        .block_on(Lab::start(LabOptions {
            nodes: 2,
            proxy: mode,
        }))
        .unwrap_or_else(|error| panic!("{error:#}"));
    lab.load(&archive).unwrap();
    lab
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

fn told(output: Output) -> Result<String, String> {
    let text = String::from_utf8(output.stdout).unwrap();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
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
