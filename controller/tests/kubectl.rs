//! The README's and the guide's commands, in their order, with the real kubectl and the real binary
//! against the embedded API server. Tests that need kubectl have it in their path: where there is
//! none, `cargo xtask test` skips them and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Longer than anything here takes, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(root())
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("HOME", self.folder.path())
            .args(arguments);
        command
    }

    fn kubectl(&self, line: &str) -> Output {
        let program = std::env::var("PORTOLAN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let arguments: Vec<&str> = line.split_whitespace().collect();
        self.command(Path::new(&program), &arguments)
            .output()
            .unwrap()
    }

    /// Runs kubectl and returns what it prints; panics when it fails.
    fn ok(&self, line: &str) -> String {
        let done = self.kubectl(line);
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "kubectl {line}: {errors}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Repeats until what it prints has the word.
    fn until(&self, line: &str, word: &str) -> String {
        let began = Instant::now();
        loop {
            let text = self.ok(line);
            if text.contains(word) {
                return text;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "no {word:?} in kubectl {line}:\n{text}"
            );
            std::thread::yield_now();
        }
    }
}

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_kubectl_commands_work_from_crds_to_describe() {
    let server = devapi::DevApi::new(devapi::Options::default());
    let (address, front) = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let shell = Shell {
        folder: tempfile::tempdir().unwrap(),
    };
    std::fs::write(
        shell.folder.path().join("kubeconfig"),
        server.kubeconfig(address),
    )
    .unwrap();
    tokio::task::spawn_blocking(move || walk(&shell))
        .await
        .unwrap();
    front.shutdown().await;
}

fn walk(shell: &Shell) {
    let portolan = Path::new(env!("CARGO_BIN_EXE_portolan"));
    // runs: portolan crds | kubectl apply -f -
    let crds = shell.command(portolan, &["crds"]).output().unwrap();
    let program = std::env::var("PORTOLAN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let mut apply = shell
        .command(Path::new(&program), &["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    apply.stdin.take().unwrap().write_all(&crds.stdout).unwrap();
    assert!(apply.wait().unwrap().success());

    // runs: kubectl apply -f examples/namespaces.yaml -f examples/classes.yaml -f examples/pools.yaml
    shell.ok("apply -f examples/namespaces.yaml -f examples/classes.yaml -f examples/pools.yaml");
    // That server leaves clusterIPs empty.
    shell.ok("apply -f examples/pools-cluster-ips.yaml");

    // runs: portolan controller --leader-elect=false
    let arguments = [
        "controller",
        "--leader-elect=false",
        "--admin-address=127.0.0.1:0",
    ];
    let running = shell
        .command(portolan, &arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Controller(running);

    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let file = entry.unwrap().path();
        if file
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("services-")
        {
            shell.ok(&format!("apply -f {}", file.display()));
        }
    }
    // runs: kubectl get services,apool,lbc --all-namespaces
    let table = shell.until("get services,apool,lbc --all-namespaces", "203.0.113.10");
    assert!(
        table.contains("EXTERNAL-IP") && table.contains("addresspool"),
        "{table}"
    );
    // runs: kubectl get allocationblocks
    assert!(shell.ok("get allocationblocks").contains("v4-203-0-113-0"));
    // runs: kubectl describe service nowhere --namespace tenant-a
    let described = shell.until(
        "describe service nowhere --namespace tenant-a",
        "AddressNotInPool",
    );
    let events = described.matches("Warning  AddressNotInPool").count();
    assert_eq!(events, 1, "{described}");
    // runs: kubectl get service nowhere --namespace tenant-a --output yaml
    let yaml = shell.ok("get service nowhere --namespace tenant-a --output yaml");
    assert!(yaml.contains("portolan.dev/AddressAllocated"), "{yaml}");

    // What people do every day, while the controller runs.
    shell.ok(
        "expose service backend --namespace tenant-a --name exposed --type LoadBalancer --port 80",
    );
    shell.until("get service exposed --namespace tenant-a", "203.0.113.");
    let editor = shell.folder.path().join("editor");
    std::fs::write(
        &editor,
        "#!/bin/sh\nsed -i 's/192.0.2.100/203.0.113.77/' \"$1\"\n",
    )
    .unwrap();
    let made = Command::new("chmod").arg("+x").arg(&editor).status();
    assert!(made.unwrap().success());
    let edited = shell
        .command(
            Path::new(&program),
            &["edit", "service", "nowhere", "--namespace", "tenant-a"],
        )
        .env("KUBE_EDITOR", &editor)
        .output()
        .unwrap();
    assert!(
        edited.status.success(),
        "{}",
        String::from_utf8_lossy(&edited.stderr)
    );
    shell.until("get service nowhere --namespace tenant-a", "203.0.113.77");
    shell.ok("delete service only-a --namespace tenant-a");
    shell.until("get service only-b --namespace tenant-a", "192.0.2.7");
    let node = shell.folder.path().join("node.yaml");
    let text = "{apiVersion: v1, kind: Node, metadata: {name: gate}, status: {addresses: \
                [{type: InternalIP, address: 10.0.0.1}]}}";
    std::fs::write(&node, text).unwrap();
    shell.ok(&format!("apply -f {}", node.display()));
    shell.ok("apply -f examples/pools-announced.yaml");
    shell.ok(
        "annotate service exposed --namespace tenant-a portolan.dev/address-pool=lan --overwrite",
    );
    shell.until("get announcements", "192.0.2.128");
    // runs: kubectl get announcements,speakers,speakerstatuses
    let table = shell.until("get announcements,speakers,speakerstatuses", "gate");
    assert!(table.contains("tenant-a/exposed"), "{table}");
    let watch = shell
        .command(
            Path::new(&program),
            &["get", "services", "-A", "-w", "--request-timeout=2s"],
        )
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&watch.stdout).contains("only-b"));

    let asked = Command::new("kill")
        .arg(running.0.id().to_string())
        .status();
    assert!(asked.unwrap().success());
    assert!(
        running.0.wait().unwrap().success(),
        "SIGTERM ends it cleanly"
    );
}
