//! Three nodes and a client on one switch, Portolan with speakers, and pools whose addresses are
//! announced. Two such towns for all sentences, one sentence at a time in each, since sentences mostly
//! wait: each begins when all is well and need not repair what it broke.

#![allow(dead_code, reason = "the suite and the benchmark use their own parts")]

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    process::{Command, Output},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cluster::{
    Lab, LabOptions, ProxyMode,
    lab::{Signal, net},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{
    kubectl::{Kubectl, load_portolan, told},
    pods::{self, Pod, service},
    watch::{self, Watch},
};

/// Where Portolan runs.
pub(crate) const NAMESPACE: &str = "portolan";
/// Where the Services are.
pub(crate) const SHOP: &str = "shop";
pub(crate) const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// The program, as it is called in the pod.
pub(crate) const SPEAKER: &str = "/portolan-speaker";
/// Who asks: a host of its own, so that the client's kernel learns nothing by it.
const WATCHER: &str = "watcher";
/// How long a speaker that returned must live before it takes anything: shorter than the default, for
/// the sake of who waits for the tests.
pub(crate) const REJOIN: Duration = Duration::from_secs(3);
/// What a client may wait for another node to answer.
pub(crate) const PROMISED: f64 = 1_000.0;
/// In the nodes' own subnets.
const NEAR: [&str; 2] = ["10.200.0.128/26", "fd00:200::1:0/112"];
/// In none: announced where the default route is. The client has them on its link, too.
const FAR: &str = "10.201.0.0/22";

/// The cluster.
pub(crate) struct Town {
    pub(crate) lab: Lab,
    kubectl: Kubectl,
    pub(crate) runtime: Runtime,
    /// Two pods that serve, on different nodes.
    pub(crate) pods: Vec<Pod>,
}

impl Deref for Town {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

/// How many towns there are at most: no sentence may starve another of CPU.
const TOWNS: usize = 1;
/// Each is made when it is first needed.
static ALL: [Mutex<Option<Town>>; TOWNS] = [const { Mutex::new(None) }; TOWNS];
/// Those that no sentence is in.
static FREE: Mutex<[bool; TOWNS]> = Mutex::new([true; TOWNS]);
static LEFT: Condvar = Condvar::new();
/// Whether somebody waits until all have left: nobody comes in meanwhile.
static WAITS_ALONE: AtomicBool = AtomicBool::new(false);

/// A sentence is in a town; when it ends, another may.
pub(crate) struct Stay {
    /// Those that it keeps others out of.
    taken: [bool; TOWNS],
    town: MutexGuard<'static, Option<Town>>,
}

impl Deref for Stay {
    type Target = Town;

    fn deref(&self) -> &Town {
        self.town.as_ref().expect("it was made")
    }
}

impl DerefMut for Stay {
    fn deref_mut(&mut self) -> &mut Town {
        self.town.as_mut().expect("it was made")
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        for (free, taken) in free.iter_mut().zip(self.taken) {
            *free |= taken;
        }
        LEFT.notify_all();
    }
}

/// A town that is free, with everything in order.
pub(crate) fn town() -> Stay {
    stay(|free| {
        let number = free.iter().position(|free| *free)?;
        let is_open = !WAITS_ALONE.load(Ordering::Relaxed);
        is_open.then_some(std::array::from_fn(|town| town == number))
    })
}

/// The same, while nobody is in any.
pub(crate) fn alone() -> Stay {
    stay(|free| {
        let are_free = *free == [true; TOWNS];
        WAITS_ALONE.store(!are_free, Ordering::Relaxed);
        are_free.then_some(*free)
    })
}

/// Waits until some can be taken, and stays in the first of them.
fn stay(take: impl Fn(&[bool; TOWNS]) -> Option<[bool; TOWNS]>) -> Stay {
    static TRIED: [AtomicBool; TOWNS] = [const { AtomicBool::new(false) }; TOWNS];
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let free = LEFT.wait_while(free, |free| take(free).is_none());
    let mut free = free.unwrap_or_else(PoisonError::into_inner);
    let taken = take(&free).expect("some can be taken");
    for (free, taken) in free.iter_mut().zip(taken) {
        *free &= !taken;
    }
    drop(free);
    let number = taken.iter().position(|taken| *taken).expect("one is taken");
    let town = ALL[number].lock().unwrap_or_else(PoisonError::into_inner);
    let mut stay = Stay { taken, town };
    if stay.town.is_none() {
        // Every sentence would wait for the same failure.
        let tried = TRIED[number].swap(true, Ordering::Relaxed);
        assert!(!tried, "there is no town");
        *stay.town = Some(Town::new(&["speaker.rejoinDelay=3s"]));
    }
    stay.put_in_order();
    stay
}

impl Town {
    pub(crate) fn new(values: &[&str]) -> Self {
        let runtime = Runtime::new().unwrap();
        let lab = runtime
            .block_on(Lab::start(LabOptions {
                nodes: 3,
                proxy: ProxyMode::Nftables,
            }))
            .unwrap_or_else(|error| panic!("{error:#}"));
        load_portolan(&lab);
        let watcher = ["10.200.0.101", "fd00:200::65"].map(|ip| ip.parse().unwrap());
        lab.add_host(WATCHER, &watcher).unwrap();
        let mut town = Self {
            kubectl: Kubectl::new(lab.plane().kubeconfig()),
            lab,
            runtime,
            pods: Vec::new(),
        };
        let far = ["route", "add", FAR, "dev", "eth0"];
        town.run(town.client("ip").args(far));
        town.kubectl(&["create", "namespace", NAMESPACE]);
        let level = "pod-security.kubernetes.io/enforce=privileged";
        town.kubectl(&["label", "namespace", NAMESPACE, level]);
        let values = [&["speaker.enabled=true"], values].concat();
        town.helm(NAMESPACE, &values);
        for (name, addresses) in [("near", &NEAR[..]), ("far", &[FAR])] {
            town.apply(&json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
                "metadata": {"name": name},
                "spec": {
                    "addresses": addresses, "autoAssign": name == "near", "announce": {"l2": {}},
                },
            }));
        }
        town.kubectl(&["create", "namespace", SHOP]);
        town.pods = pods::run(&town, SHOP, "web", 2);
        town
    }

    /// Mends what a sentence before has left broken; waits until every speaker takes part again.
    pub(crate) fn put_in_order(&mut self) {
        let heal = || -> anyhow::Result<()> {
            self.lab.heal()?;
            for node in NODES {
                if self.lab.mac(node, "eth0").is_err() {
                    let renamed = self.lab.rename_interface(node, "lan0", "eth0");
                    renamed.or_else(|_| self.lab.add_interface(node))?;
                }
                self.lab.plug(node)?;
                self.lab.mend(node)?;
                self.lab.signal(node, SPEAKER, Signal::Continue)?;
            }
            Ok(())
        };
        heal().unwrap();
        if self.try_kubectl(&["get", "--raw", "/readyz"]).is_err() {
            let Self { runtime, lab, .. } = self;
            runtime.block_on(lab.start_api_server()).unwrap();
        }
        let nodes = self.kubectl(&["get", "nodes", "-o", "name"]);
        for node in NODES.iter().filter(|node| !nodes.contains(*node)) {
            let Self { runtime, lab, .. } = self;
            runtime.block_on(lab.revive(node)).unwrap();
        }
        for node in NODES {
            self.kubectl(&["uncordon", node]);
        }
        let services = ["-n", SHOP, "delete", "services", "--all", "--wait=false"];
        self.kubectl(&services);
        self.calm();
    }

    /// Waits until every speaker lives, knows both others and has settled.
    pub(crate) fn calm(&self) {
        self.until("all speakers have settled", || {
            for node in NODES {
                let metrics = self.metrics(node)?;
                for (name, wanted) in [
                    ("portolan_speaker_peers_alive", 2.0),
                    ("portolan_speaker_standing{standing=\"settled\"}", 1.0),
                ] {
                    if metrics.get(name) != Some(&wanted) {
                        return Err(format!("{node}: {metrics:?}"));
                    }
                }
            }
            let ready = self.list("nodes", "").iter().all(is_ready);
            ready
                .then_some(())
                .ok_or_else(|| "a node is not ready".to_owned())
        });
    }

    /// What a speaker tells of itself.
    pub(crate) fn metrics(&self, node: &str) -> Result<BTreeMap<String, f64>, String> {
        let mut curl = self.lab.on(node, "curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "2"])
            .arg("http://127.0.0.1:7480/metrics");
        let text = told(curl.output().unwrap())?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(lines.filter_map(pair).collect())
    }

    /// Runs it; panics when it fails.
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output: Output = command.output().unwrap();
        told(output).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// A program on the client host outside the cluster.
    pub(crate) fn client(&self, program: &str) -> Command {
        self.lab.client(program)
    }

    /// What the client gets by HTTP from this address, within this many seconds.
    pub(crate) fn try_curl(&self, ip: &str, path: &str, seconds: &str) -> Result<String, String> {
        self.try_curl_from("client", ip, path, seconds)
    }

    /// What another host gets.
    fn try_curl_from(
        &self,
        host: &str,
        ip: &str,
        path: &str,
        seconds: &str,
    ) -> Result<String, String> {
        let mut curl = self.lab.on(host, "curl");
        let host = match ip.contains(':') {
            true => format!("[{ip}]"),
            false => ip.to_owned(),
        };
        curl.args(["--silent", "--show-error", "--fail", "--globoff"])
            .args(["--max-time", seconds])
            .arg(format!("http://{host}{path}"));
        told(curl.output().unwrap())
    }

    /// The same; it may take a moment.
    pub(crate) fn curl(&self, ip: &str, path: &str) -> String {
        self.until(ip, || self.try_curl(ip, path, "1"))
    }

    /// A Service for the pods with an address of each family, and more of its spec; its addresses,
    /// once both answer.
    pub(crate) fn serve(&self, name: &str, more: &Value) -> Vec<String> {
        self.apply(&dual(name, more));
        let addresses = self.addresses(SHOP, name, 2);
        for ip in &addresses {
            self.owner(ip);
            // Each kube-proxy learns of a Service in its own time.
            for node in NODES {
                self.until(&format!("{node} serves {ip}"), || {
                    self.try_curl_from(node, ip, "/hostname", "1")
                });
            }
        }
        addresses
    }

    /// Asks for these addresses from now on; whoever has them has answered already.
    pub(crate) fn watch(&self, addresses: &[String]) -> Watch {
        let watch = self.watch_every(watch::EVERY, addresses);
        thread::sleep(Duration::from_millis(150));
        watch
    }

    /// The same, at another pace.
    pub(crate) fn watch_every(&self, every: Duration, addresses: &[String]) -> Watch {
        let prober = self.lab.on(WATCHER, &watch::program());
        Watch::start(prober, every, addresses)
    }

    /// The node with this hardware address.
    pub(crate) fn node_of(&self, mac: &str) -> &'static str {
        let has = |node: &&&str| {
            let links = self.run(self.lab.on(node, "ip").args(["link"]));
            links.contains(mac)
        };
        (NODES.iter().find(has)).unwrap_or_else(|| panic!("no node has {mac}"))
    }

    /// The hardware address of a node.
    pub(crate) fn mac(&self, node: &str) -> String {
        self.lab.mac(node, "eth0").unwrap()
    }

    /// The node that answers for an address, once exactly one does.
    pub(crate) fn owner(&self, ip: &str) -> &'static str {
        self.until(&format!("one node answers for {ip}"), || {
            let watch = self.watch(&[ip.to_owned()]);
            thread::sleep(Duration::from_millis(100));
            let record = watch.end();
            let macs = record.answered(ip, 0.0, f64::INFINITY);
            match macs.len() {
                1 => Ok(self.node_of(macs.keys().next().unwrap())),
                _ => Err(format!("{macs:?}")),
            }
        })
    }

    /// Nobody answers for an address.
    pub(crate) fn silent(&self, ip: &str) {
        self.until(&format!("nobody answers for {ip}"), || {
            let watch = self.watch(&[ip.to_owned()]);
            thread::sleep(Duration::from_millis(300));
            match watch.end().of(ip).count() {
                0 => Ok(()),
                count => Err(format!("{count} answers")),
            }
        });
    }

    /// What a Service's condition says.
    pub(crate) fn condition(&self, service: &str, type_: &str) -> Value {
        let found = self.get(SHOP, &format!("service/{service}"));
        let conditions = found["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let condition = conditions.find(|condition| condition["type"] == type_);
        condition.cloned().unwrap_or_default()
    }

    /// The other nodes.
    pub(crate) fn others(&self, node: &str) -> Vec<&'static str> {
        NODES.into_iter().filter(|other| *other != node).collect()
    }

    /// Updates the speakers, one node after the other, as `kubectl rollout restart` does.
    pub(crate) fn roll_out(&self) {
        let speakers = "daemonset/portolan-speaker";
        self.kubectl(&["-n", NAMESPACE, "rollout", "restart", speakers]);
        let status = ["rollout", "status", speakers, "--timeout=120s"];
        self.kubectl(&[&["-n", NAMESPACE][..], &status].concat());
    }

    /// What the speakers have logged.
    pub(crate) fn logs(&self) -> String {
        let component = "app.kubernetes.io/component=speaker";
        let logs = ["logs", "--prefix", "--tail=60", "--selector", component];
        let logs = self.try_kubectl(&[&["-n", NAMESPACE][..], &logs].concat());
        logs.unwrap_or_else(|error| error)
    }

    /// Asks the Service again and again until the returned value is told to end.
    pub(crate) fn load(&self, ip: &str) -> Load {
        Load::start(self, ip)
    }
}

/// A Service of both families for the pods.
pub(crate) fn dual(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "ipFamilyPolicy": "RequireDualStack", "allocateLoadBalancerNodePorts": false,
        "selector": {"app": "web"},
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    service(SHOP, name, &spec)
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().unwrap();
    (conditions.iter())
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A client that asks every 20 ms, each time by a new connection.
pub(crate) struct Load {
    child: std::process::Child,
    stop: String,
}

/// Prints of each when it began and ended, in Unix milliseconds, and what came of it.
const LOAD: &str = r#"for try in $(seq 10000); do
    [ ! -e "$2" ] || exit 0
    began=$(date +%s%3N)
    told=$(curl --silent --globoff --output /dev/null --max-time 10 \
        --write-out '%{http_code} after %{time_total} s %{errormsg}' "$1")
    echo "$began $(date +%s%3N) $told"
    sleep 0.02
done"#;

/// A request by a connection of its own.
#[derive(Debug)]
pub(crate) struct Request {
    /// In Unix milliseconds.
    pub(crate) began: f64,
    pub(crate) ended: f64,
    /// What came of it.
    pub(crate) told: String,
}

impl Request {
    fn read(line: &str) -> Self {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        Self {
            began: word().parse().unwrap(),
            ended: word().parse().unwrap(),
            told: word().to_owned(),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.told.starts_with("200 ")
    }
}

impl Load {
    fn start(town: &Town, ip: &str) -> Self {
        let stop = format!("{}/load-{ip}", town.lab.plane().folder().display());
        let host = match ip.contains(':') {
            true => format!("[{ip}]"),
            false => ip.to_owned(),
        };
        let child = town
            .client("sh")
            .args([
                "-c",
                LOAD,
                "load",
                &format!("http://{host}/hostname"),
                &stop,
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, stop }
    }

    /// Ends it; the requests that there were.
    pub(crate) fn end(self) -> Vec<Request> {
        std::fs::write(&self.stop, "").unwrap();
        let output = self.child.wait_with_output().unwrap();
        std::fs::remove_file(&self.stop).unwrap();
        let answers = String::from_utf8(output.stdout).unwrap();
        answers.lines().map(Request::read).collect()
    }
}

/// Waits, and says for what.
pub(crate) fn within(what: &str, patience: Duration, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The addresses of a node: those of its interface.
pub(crate) fn node_address(number: u8) -> [String; 2] {
    let (v4, v6) = net::node(number);
    [v4.to_string(), v6.to_string()]
}
