//! A cluster with Portolan in it, as kubectl and helm see it.

#![allow(dead_code, reason = "each suite uses its own part")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use cluster::{Binary, Lab, lab::build_image};
use serde_json::Value;

/// How long anything may take that should take seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// Portolan's image on the nodes.
const IMAGE: &str = "localhost/portolan:dev";

/// Whoever this file lets in.
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    /// Installs the chart, or upgrades to these values, and waits until every pod is ready.
    pub(crate) fn helm(&self, namespace: &str, values: &[&str]) {
        let chart = repository().join("deploy/charts/portolan");
        let mut helm = Binary::build().unwrap().part("helm");
        helm.env("KUBECONFIG", &self.kubeconfig)
            .args(["upgrade", "--install", "portolan"])
            .arg(chart)
            .args(["--namespace", namespace, "--wait", "--timeout", "120s"])
            .args(["--set", "image.repository=localhost/portolan"])
            .args(["--set", "image.tag=dev", "--set", "image.pullPolicy=Never"])
            .args(["--set", "loadBalancerClass.create=true"])
            .args(["--set", "loadBalancerClass.default=true"])
            .args(values.iter().flat_map(|value| ["--set", value]));
        let output = helm.output().unwrap();
        if !output.status.success() {
            let events = self.kubectl(&["get", "pods,events", "-A"]);
            panic!("{}\n{events}", String::from_utf8_lossy(&output.stderr));
        }
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Binary::build().unwrap().part("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig);
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

/// Brings the image of `target/image` onto every node.
pub(crate) fn load_portolan(lab: &Lab) {
    let context = repository().join("target/image");
    for program in ["portolan", "portolan-speaker"] {
        assert!(
            context.join(program).is_file(),
            "{} lacks {program}; `cargo xtask image --no-build --profile dev` fills it",
            context.display()
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("portolan.tar");
    let dockerfile = repository().join("deploy/Dockerfile");
    build_image(&context, &dockerfile, IMAGE, &archive).unwrap_or_else(|e| panic!("{e:#}"));
    lab.load(&archive).unwrap();
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// What a program printed, or what it complained about.
pub(crate) fn told(output: Output) -> Result<String, String> {
    let text = String::from_utf8(output.stdout).unwrap();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
