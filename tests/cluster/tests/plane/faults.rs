//! Faults on the real thing: the shipped program as processes that are killed and stopped, a real API
//! server that is killed, a real etcd that forgets. What must hold afterwards, and what must never
//! happen meanwhile, a program of its own judges by what the API shows.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cluster::{AuditLine, ControlPlane, Options};
use controller::shell::USER_AGENT;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, addresses},
    fixtures::{bare, default_class, pool, with},
    program::Controller,
};
use tokio::time::sleep;

use crate::common::real;

/// How long nothing may be written before the cluster counts as settled.
const QUIET: Duration = Duration::from_secs(3);
/// How long everything may take to be as it should.
const CONVERGED: Duration = Duration::from_secs(180);
/// Past the lease of 15 s, with what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(120);

/// A program that `cargo test --workspace` has built beside this one.
fn built(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name(name);
    assert!(program.is_file(), "no {}; build it", program.display());
    program
}

/// A cluster with a pool of 1,024 addresses and a default class.
async fn town(plane: &ControlPlane) -> Cluster {
    let cluster = Cluster::new(plane.client().await.unwrap(), QUIET, false);
    cluster.install().await;
    cluster.create(pool("public", &["10.200.0.0/22"])).await;
    cluster.create(default_class()).await;
    cluster
}

fn lb(number: usize) -> Value {
    let service = bare(&format!("s{number:04}"), "LoadBalancer");
    with(service, "/spec/allocateLoadBalancerNodePorts", json!(false))
}

fn start(kubeconfig: &Path, name: &str, arguments: &[&str]) -> Controller {
    Controller::start(
        &built("portolan"),
        kubeconfig.to_str().unwrap(),
        name,
        arguments,
    )
}

const ALONE: [&str; 1] = ["--leader-elect=false"];

fn judge(plane: &ControlPlane) -> Command {
    let mut judge = Command::new(env!("CARGO_BIN_EXE_invariants"));
    judge.arg("--kubeconfig").arg(plane.kubeconfig());
    judge
}

/// Looks for numbers held twice until it is asked.
struct Watchman(Child);

impl Watchman {
    fn start(plane: &ControlPlane) -> Self {
        let mut judge = judge(plane);
        judge
            .arg("--watch")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(judge.spawn().unwrap())
    }

    fn ask(mut self) {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        println!("while it happened: {}", text.trim());
        assert!(output.status.success(), "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        assert!(
            told["looks"].as_u64().unwrap() > 10,
            "it saw nothing: {text}"
        );
    }
}

/// Everybody who is there has an address, everything holds, and a controller that starts again
/// writes nothing.
async fn settles(plane: &ControlPlane, cluster: &Cluster, running: Controller) {
    cluster
        .until("everybody has an address", async |cluster| {
            let all = cluster.all("Service").await;
            let mut waiting = all.iter().filter(|o| o["spec"]["type"] == "LoadBalancer");
            waiting.all(|service| addresses(service).len() == 1)
        })
        .await;
    // A watch that was cut more than once comes back after up to half a minute.
    let begun = Instant::now();
    loop {
        let output = judge(plane).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            println!("in the end: {}", text.trim());
            break;
        }
        assert!(begun.elapsed() < CONVERGED, "{text}");
        sleep(Duration::from_millis(500)).await;
    }
    let before = cluster.settled().await;
    running.process.stop().await;
    let mark = plane.audit().unwrap().len();
    let again = start(&plane.kubeconfig(), "again", &ALONE);
    again.ready().await;
    assert_eq!(cluster.settled().await, before);
    let lines = plane.audit().unwrap().into_iter().skip(mark);
    let wrote: Vec<AuditLine> = lines.filter(by_portolan).collect();
    assert!(wrote.is_empty(), "a restart wrote {wrote:#?}");
    again.process.stop().await;
}

/// A write of the controller's, its Lease aside.
fn by_portolan(line: &AuditLine) -> bool {
    line.user_agent == USER_AGENT && line.is_write() && line.resource() != "leases"
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask test, or see CONTRIBUTING"]
async fn killed_at_random_moments_during_1000_creations_and_deletions_it_gives_no_number_twice() {
    let real = real(Options::default()).await;
    let (plane, kubeconfig) = (&real.plane, real.plane.kubeconfig());
    let cluster = town(plane).await;
    let watchman = Watchman::start(plane);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let made = Cell::new(0);
    let load = async {
        // 1,000 creations; every Service but the last 200 is deleted, some before they are served.
        stream::iter(0..1_000_usize)
            .for_each_concurrent(4, |number| {
                let (cluster, made) = (cluster.clone(), &made);
                async move {
                    cluster.create(lb(number)).await;
                    made.set(made.get() + 1);
                    if let Some(old) = number.checked_sub(200) {
                        cluster
                            .delete("Service", &format!("default/s{old:04}"))
                            .await;
                    }
                }
            })
            .await;
    };
    tokio::pin!(load);
    let mut kills = 0;
    let mut running = start(&kubeconfig, "first", &ALONE);
    loop {
        // By what has happened, not by the clock: it is killed a few times on a machine of any speed.
        let next = made.get() + random.usize(20..300);
        let life = async {
            while made.get() < next {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = &mut load => break,
            () = life => {}
        }
        drop(running); // SIGKILL
        kills += 1;
        running = start(&kubeconfig, "next", &ALONE);
    }
    println!("{kills} kills");
    assert!(kills >= 3, "the load was over before anything happened");
    settles(plane, &cluster, running).await;
    assert_eq!(cluster.all("Service").await.len(), 201, "with `kubernetes`");
    watchman.ask();
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask test, or see CONTRIBUTING"]
async fn an_api_server_killed_under_load_costs_no_number() {
    let mut real = real(Options::default()).await;
    let cluster = town(&real.plane).await;
    let watchman = Watchman::start(&real.plane);
    let running = start(&real.plane.kubeconfig(), "one", &ALONE);
    for round in 0..3 {
        for number in 0..40 {
            cluster.create(lb(100 * round + number)).await;
        }
        // While the last of these are being served.
        real.plane.restart_api_server().await.unwrap();
        for number in 0..20 {
            let gone = format!("default/s{:04}", 100 * round + number);
            cluster.delete("Service", &gone).await;
        }
    }
    settles(&real.plane, &cluster, running).await;
    assert_eq!(cluster.all("Service").await.len(), 61, "with `kubernetes`");
    watchman.ask();
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask test, or see CONTRIBUTING"]
async fn what_was_deleted_while_it_was_stopped_and_etcd_compacted_is_released() {
    let mut real = real(Options::default()).await;
    let cluster = town(&real.plane).await;
    for number in 0..60 {
        cluster.create(lb(number)).await;
    }
    let running = start(&real.plane.kubeconfig(), "one", &ALONE);
    running.assigned(60).await;
    cluster.settled().await;
    running.process.signal("-STOP");
    for number in 0..30 {
        cluster
            .delete("Service", &format!("default/s{number:04}"))
            .await;
        cluster.create(lb(100 + number)).await;
    }
    // The server's own cache remembers the versions that etcd forgets: it has to go, too.
    real.plane.compact().await.unwrap();
    real.plane.restart_api_server().await.unwrap();
    let mark = real.plane.audit().unwrap().len();
    running.process.signal("-CONT");
    settles(&real.plane, &cluster, running).await;
    // It was told that its place in the history is gone, and listed anew.
    let lines = real.plane.audit().unwrap();
    let mut after = lines
        .iter()
        .skip(mark)
        .filter(|line| line.user_agent == USER_AGENT);
    let listed = |line: &AuditLine| {
        line.request_uri.starts_with("/api/v1/services?")
            && (line.verb == "list" || line.request_uri.contains("sendInitialEvents=true"))
    };
    assert!(after.any(listed), "it never listed the Services again");
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask test, or see CONTRIBUTING"]
async fn a_leader_stopped_past_its_lease_and_resumed_writes_nothing() {
    let real = real(Options::default()).await;
    let plane = &real.plane;
    let cluster = town(plane).await;
    let watchman = Watchman::start(plane);
    // Two users, so that the audit log tells who wrote.
    let mut replicas = Vec::new();
    for name in ["replica-a", "replica-b"] {
        let accounts: Api<ServiceAccount> =
            Api::namespaced(plane.client().await.unwrap(), "default");
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        accounts
            .create(&PostParams::default(), &account)
            .await
            .unwrap();
        let subject = format!("--serviceaccount=default:{name}");
        let bind = [
            "create",
            "clusterrolebinding",
            name,
            "--clusterrole=cluster-admin",
            &subject,
        ];
        let bound = plane.kubectl().args(bind).output().unwrap();
        assert!(bound.status.success(), "{bound:?}");
        let token = plane.service_account_token("default", name).await.unwrap();
        let kubeconfig = plane.kubeconfig_file(name, &token).unwrap();
        replicas.push((
            name,
            start(&kubeconfig, name, &["--lease-namespace", "default"]),
        ));
    }
    let holder = async || {
        let lease = cluster.get("Lease", "default/portolan-controller").await;
        let lease = lease.unwrap_or_default();
        lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for number in 0..40 {
        cluster.create(lb(number)).await;
    }
    cluster
        .until("the leader has served all", async |cluster| {
            let all = cluster.all("Service").await;
            all.iter().filter(|o| addresses(o).len() == 1).count() == 40
        })
        .await;
    let first = holder().await;
    let leads = replicas
        .iter()
        .position(|(name, _)| first.starts_with(&format!("{name}_")));
    let (old, stopped) = replicas.remove(leads.unwrap());
    let (_, other) = replicas.remove(0);
    // In the middle of work.
    for number in 40..60 {
        cluster.create(lb(number)).await;
    }
    stopped.process.signal("-STOP");
    for number in 0..20 {
        cluster
            .delete("Service", &format!("default/s{number:04}"))
            .await;
        cluster.create(lb(100 + number)).await;
    }
    let begun = Instant::now();
    while holder().await == first {
        assert!(begun.elapsed() < TAKEOVER, "nobody took over");
        sleep(Duration::from_millis(100)).await;
    }
    println!("taken over after {:.1} s", begun.elapsed().as_secs_f64());
    cluster
        .until("the new leader serves", async |cluster| {
            let all = cluster.all("Service").await;
            all.iter().filter(|o| addresses(o).len() == 1).count() == 60
        })
        .await;
    let mark = plane.audit().unwrap().len();
    stopped.process.signal("-CONT");
    for number in 200..220 {
        cluster.create(lb(number)).await;
        sleep(Duration::from_millis(100)).await;
    }
    cluster.settled().await;
    let user = format!("system:serviceaccount:default:{old}");
    let lines = plane.audit().unwrap();
    let wrote: Vec<&AuditLine> = (lines.iter().skip(mark))
        .filter(|line| line.user.username == user && by_portolan(line) && line.code() < 300)
        .collect();
    assert!(wrote.is_empty(), "resumed, it wrote {wrote:#?}");
    stopped.process.stop().await;
    settles(plane, &cluster, other).await;
    watchman.ask();
}
