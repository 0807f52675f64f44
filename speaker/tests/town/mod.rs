//! Machines on one switch: network namespaces with a veth each into a bridge, a speaker in every one,
//! and an embedded API server that each of them finds on its own loopback. Everything ends with the
//! test.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::Parser as _;
use devapi::DevApi;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};

/// The namespace in which questions are asked.
pub const CLIENT: &str = "client";
/// The API server's port on every loopback.
const API: u16 = 8001;
/// The speakers' admin port on every loopback.
const ADMIN: u16 = 7480;
/// How long anything may take that takes next to no time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The whole town.
pub struct Town {
    /// Sleeps in the outermost namespace; the named ones are in its mounts.
    sandbox: Child,
    folder: TempDir,
    pub api: DevApi,
    runtime: Runtime,
    servers: Vec<Server>,
    speakers: Vec<Option<Child>>,
    /// Given back when all else has ended.
    _turn: MutexGuard<'static, ()>,
}

/// One town at a time: what is silent for a moment must not be so because another one is busy.
static TURN: Mutex<()> = Mutex::new(());

/// Serves the API on one machine's loopback until it is dropped.
struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// What a prober will have seen.
pub struct Asking {
    marks: mpsc::SyncSender<(Instant, String)>,
    thread: JoinHandle<Vec<Value>>,
}

impl Asking {
    /// Ends it; all lines that it printed, the last one is the summary.
    pub fn end(self) -> Vec<Value> {
        self.marks.send((Instant::now(), "end".to_owned())).unwrap();
        self.thread.join().unwrap()
    }

    pub fn mark(&self, text: &str) {
        self.marks.send((Instant::now(), text.to_owned())).unwrap();
    }
}

impl Town {
    /// So many nodes, each with its `Speaker` object, and no speaker yet.
    pub fn new(nodes: usize) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let script = format!(
            "set -e; mount -t tmpfs tmpfs /run; mkdir /run/netns\n{}touch {}; exec sleep 3600",
            script(nodes),
            ready.display()
        );
        let mut sandbox = Command::new("unshare");
        sandbox.args(["--net", "--mount", "--", "setpriv", "--pdeathsig", "KILL"]);
        let mut sandbox = sandbox.args(["sh", "-c", &script]).spawn().unwrap();
        wait("the namespaces", || {
            assert!(sandbox.try_wait().unwrap().is_none(), "no namespaces");
            ready.exists()
        });
        let keys = folder.path().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("2026-01-01T00-00-00Z"), [7; 32]).unwrap();
        let api = DevApi::new(devapi::Options::default());
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, API));
        fs::write(folder.path().join("kubeconfig"), api.kubeconfig(local)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut town = Self {
            sandbox,
            folder,
            api,
            runtime,
            servers: Vec::new(),
            speakers: (0..nodes).map(|_| None).collect(),
            _turn: turn,
        };
        town.runtime.block_on(async {
            for definition in crds::all() {
                let all = Api::all(town.api.client());
                all.create(&PostParams::default(), &definition)
                    .await
                    .unwrap();
            }
        });
        for node in 0..nodes {
            town.create(&speaker_object(node));
        }
        town.serve();
        town
    }

    /// Lets every node reach the API server.
    pub fn serve(&mut self) {
        for node in 0..self.speakers.len() {
            let (api, network) = (self.api.clone(), self.network(&name(node)));
            let (stop, stopped) = oneshot::channel();
            let (ready, serving) = mpsc::channel();
            let thread = thread::spawn(move || {
                enter(&network);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, API));
                    let (_, server) = api.serve(local).await.unwrap();
                    ready.send(()).unwrap();
                    let _dropped: Result<(), _> = stopped.await;
                    drop(server);
                });
            });
            serving.recv().unwrap();
            let (stop, thread) = (Some(stop), Some(thread));
            self.servers.push(Server { stop, thread });
        }
    }

    /// Cuts every node off from the API server, connections that are open included.
    pub fn cut_api(&mut self) {
        self.servers.clear();
    }

    pub fn create<K>(&self, object: &K)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let _within = self.runtime.enter();
        let api = Api::<K>::all(self.api.client());
        let parameters = PostParams::default();
        let creating = api.create(&parameters, object);
        self.runtime.block_on(creating).unwrap();
    }

    /// An announcement of these addresses by any node.
    pub fn announce(&self, addresses: &[&str]) {
        let spec = json!({
            "addresses": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "pools": ["lan"],
            "services": [format!("shop/{}", addresses[0].replace([':', '.'], "-"))],
        });
        let name = addresses[0].replace(':', "-");
        let spec = serde_json::from_value(spec).unwrap();
        self.create(&crds::Announcement::new(&name, spec));
    }

    /// From now on only that node may answer for what [`Self::announce`] was told.
    pub fn move_to(&self, node: usize, first: &str) {
        let _within = self.runtime.enter();
        let api = Api::<crds::Announcement>::all(self.api.client());
        let patch = Patch::Merge(json!({"spec": {"nodes": [name(node)]}}));
        let (announcement, parameters) = (first.replace(':', "-"), PatchParams::default());
        let patching = api.patch(&announcement, &parameters, &patch);
        self.runtime.block_on(patching).unwrap();
    }

    /// The speaker stands still.
    pub fn stop(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// And goes on.
    pub fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let pid = Pid::from_child(self.speakers[node].as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// What that node says that it announces; empty while it has said nothing.
    pub fn status(&self, node: usize) -> crds::SpeakerStatusSpec {
        let _within = self.runtime.enter();
        let api = Api::<crds::SpeakerStatus>::all(self.api.client());
        let name = name(node);
        let getting = api.get_opt(&name);
        let status = self.runtime.block_on(getting).unwrap();
        status.map(|status| status.spec).unwrap_or_default()
    }

    /// Which nodes say that they announce it.
    pub fn announcers(&self, ip: &str) -> Vec<usize> {
        let says = |node: &usize| self.status(*node).announced.iter().any(|one| one.ip == ip);
        (0..self.speakers.len()).filter(says).collect()
    }

    /// Starts a speaker with nothing but CAP_NET_RAW.
    pub fn start(&mut self, node: usize) {
        let log = self.folder.path().join(format!("{}.log", name(node)));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut speaker = self.command(&name(node), "setpriv");
        speaker
            .args([
                "--bounding-set",
                "-all,+net_raw",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program())
            .args(["--node-name", &name(node), "--rejoin-delay", "1s", "--keys"])
            .arg(self.folder.path().join("keys"))
            .arg("--kubeconfig")
            .arg(self.folder.path().join("kubeconfig"))
            .stderr(Stdio::from(log));
        self.speakers[node] = Some(speaker.spawn().unwrap());
    }

    /// Starts all and waits until each is ready and settled: nothing moves any more by itself.
    pub fn start_all(&mut self) {
        for node in 0..self.speakers.len() {
            self.start(node);
        }
        for node in 0..self.speakers.len() {
            self.wait(&format!("{} to be ready", name(node)), |town| {
                town.get(node, "/readyz").starts_with("HTTP/1.1 200")
                    && town
                        .get(node, "/metrics")
                        .contains("standing=\"settled\"} 1")
            });
        }
    }

    pub fn kill(&mut self, node: usize) {
        let mut speaker = self.speakers[node].take().unwrap();
        speaker.kill().unwrap();
        speaker.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self, node: usize) {
        let mut speaker = self.speakers[node].take().unwrap();
        let pid = speaker.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        assert!(speaker.wait().unwrap().success());
    }

    pub fn pid(&self, node: usize) -> u32 {
        self.speakers[node].as_ref().unwrap().id()
    }

    /// A shell script in the outermost namespace.
    pub fn script(&self, text: &str) {
        let mut shell = Command::new("nsenter");
        shell.args([
            "--mount",
            "--net",
            "--target",
            &self.sandbox.id().to_string(),
        ]);
        let status = shell.args(["sh", "-exc", text]).status().unwrap();
        assert!(status.success(), "{text}");
    }

    fn command(&self, network: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network(network).display()));
        command.args(["--", program]);
        command
    }

    fn network(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/netns/{name}", self.sandbox.id()))
    }

    /// The admin port's answer; empty when there is none.
    pub fn get(&self, node: usize, path: &str) -> String {
        let network = self.network(&name(node));
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let asking = thread::spawn(move || {
            enter(&network);
            let mut answer = String::new();
            if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, ADMIN)) {
                stream.write_all(request.as_bytes()).unwrap();
                let _cut = stream.read_to_string(&mut answer);
            }
            answer
        });
        asking.join().unwrap()
    }

    /// Asks for these addresses from the client's namespace, every 10 ms.
    pub fn ask(&self, options: &[&str], addresses: &[&str]) -> Asking {
        let network = self.network(CLIENT);
        let words = (["prober", "--interface", "eth0"].iter())
            .chain(options)
            .chain(addresses);
        let arguments = prober::Arguments::parse_from(words);
        let (marks, marked) = mpsc::sync_channel(64);
        let thread = thread::spawn(move || {
            enter(&network);
            let mut out = Vec::new();
            prober::run(&arguments, &marked, &mut out).unwrap();
            let lines = String::from_utf8(out).unwrap();
            (lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap()))
            .collect()
        });
        Asking { marks, thread }
    }

    /// Waits until it is so; shows the logs if it never is.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            if start.elapsed() > PATIENCE {
                panic!("waited for {what} in vain\n{}", self.logs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for node in 0..self.speakers.len() {
            let log = self.folder.path().join(format!("{}.log", name(node)));
            let text = fs::read_to_string(log).unwrap_or_default();
            write!(logs, "--- {}\n{text}", name(node)).unwrap();
        }
        logs
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.servers.clear();
        for mut speaker in self.speakers.drain(..).flatten() {
            let _gone = speaker.kill();
            let _gone = speaker.wait();
        }
        let _gone = self.sandbox.kill();
        let _gone = self.sandbox.wait();
    }
}

/// The speaker, built as the tests are, or the one that is named.
fn program() -> String {
    let built = || env!("CARGO_BIN_EXE_portolan-speaker").to_owned();
    std::env::var("PORTOLAN_SPEAKER").unwrap_or_else(|_| built())
}

/// Of a node, counted from 0.
pub fn name(node: usize) -> String {
    format!("node{node}")
}

fn speaker_object(node: usize) -> crds::Speaker {
    let spec = json!({
        "addresses": [format!("10.77.0.{}", 10 + node)],
        "pools": [{"name": "lan", "weight": 1}],
    });
    let mut object = crds::Speaker::new(&name(node), serde_json::from_value(spec).unwrap());
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name(node),
        uid: format!("uid-of-{}", name(node)),
        ..OwnerReference::default()
    }]);
    object
}

/// Moves the calling thread to another network for the rest of its life.
fn enter(network: &PathBuf) {
    let network = File::open(network).unwrap();
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(20));
    }
}

fn script(nodes: usize) -> String {
    let mut script = String::from("ip link add br0 type bridge; ip link set br0 up\n");
    let hosts = (0..nodes).map(|node| (name(node), 10 + node));
    for (name, last) in hosts.chain([(CLIENT.to_owned(), 100)]) {
        script += &machine(&name, last);
    }
    script
}

/// Makes a network namespace if there is none yet, and its interface.
fn machine(name: &str, last: usize) -> String {
    format!(
        "[ -e /run/netns/{name} ] || ip netns add {name}
ip -n {name} link set lo up
ip -n {name} link add eth0 type veth peer name {name} netns $$
ip link set {name} master br0 up
ip -n {name} address add 10.77.0.{last}/24 dev eth0
ip -n {name} address add fd77::{last}/64 dev eth0 nodad
ip -n {name} link set eth0 up
ip -n {name} route add default via 10.77.0.1
"
    )
}

/// The interface of a node, made anew with another index.
pub fn interface_again(node: usize) -> String {
    machine(&name(node), 10 + node)
}
