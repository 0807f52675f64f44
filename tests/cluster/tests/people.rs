//! What a person types: `cargo xtask cluster`, and the demo on a real cluster.

#![cfg(test)]

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What `cargo xtask cluster` runs, with a home of its own.
fn cluster(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.env("PORTOLAN_CLUSTER_HOME", home);
    command
}

/// Ends what a test has started, also when the test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _nothing_runs = cluster(self.0).arg("down").output();
    }
}

#[test]
fn cargo_run_knows_which_program_of_the_package_is_meant() {
    assert!(include_str!("../Cargo.toml").contains("\ndefault-run = \"cluster\""));
}

fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}\n{errors}");
    text
}

// runs: cargo xtask cluster build
// runs: cargo xtask cluster up
// runs: cargo xtask cluster kubectl get namespaces
// runs: cargo xtask cluster down
#[test]
#[ignore = "real Kubernetes: cargo xtask test, or see CONTRIBUTING"]
fn a_control_plane_comes_up_answers_kubectl_and_goes_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let _down = Down(&home);
    let program = told(cluster(&home).arg("build"));
    assert!(Path::new(program.trim()).is_file(), "{program}");
    let text = told(cluster(&home).arg("up"));
    assert!(text.contains("is up, nodes: 0"), "{text}");
    let again = cluster(&home).arg("up").output().unwrap();
    assert!(!again.status.success());
    let namespaces = told(cluster(&home).args(["kubectl", "get", "namespaces"]));
    assert!(namespaces.contains("kube-system"), "{namespaces}");
    told(cluster(&home).arg("down"));
    assert!(!home.exists());
}

/// Tests that need nodes.
mod lab {
    use super::*;

    fn until(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The kernel ends everything within a second; burying is its adopter's business.
    fn dead(pid: u32) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        state.map_or(true, |state| state.contains(") Z "))
    }

    fn number(path: &Path) -> u32 {
        std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    #[test]
    #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
    fn nothing_remains_of_a_lab_whose_owner_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let _down = Down(&home);
        told(cluster(&home).args(["up", "--nodes", "1"]));
        let init = number(&home.join("sandbox"));
        let kubeconfig = std::fs::read_to_string(home.join("kubeconfig")).unwrap();
        let kubeconfig: serde_json::Value = serde_json::from_str(&kubeconfig).unwrap();
        let authority = &kubeconfig["clusters"][0]["cluster"]["certificate-authority"];
        let data = Path::new(authority.as_str().unwrap()).parent().unwrap();
        let cgroups = std::fs::read_to_string(data.join("cgroups")).unwrap();
        assert!(cgroups.lines().count() > 3, "{cgroups}");
        // Everything that was started in it, as the kernel tells.
        let space = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let everybody = std::fs::read_dir("/proc").unwrap();
        let processes: Vec<u32> = everybody
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|pid| space(pid) == space(&init))
            .collect();
        assert!(processes.len() > 6, "{processes:?}");

        let owner = number(&home.join("pid"));
        let killed = Command::new("kill")
            .args(["-9", &owner.to_string()])
            .status();
        assert!(killed.unwrap().success());
        until("its processes are gone", || {
            dead(init) && processes.iter().all(|pid| dead(*pid))
        });
        until("its folder is gone", || !data.exists());
        let left: Vec<&str> = cgroups
            .lines()
            .filter(|path| Path::new(path).exists())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    // runs: cargo xtask cluster up --nodes 2
    // runs: cargo xtask cluster on client ip route
    #[test]
    #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
    fn a_lab_comes_up_with_nodes_and_a_client_and_goes_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let _down = Down(&home);
        told(cluster(&home).args(["up", "--nodes", "2"]));
        let nodes = told(cluster(&home).args(["kubectl", "get", "nodes", "-o", "name"]));
        assert_eq!(nodes, "node/node1\nnode/node2\n");
        let routes = told(cluster(&home).args(["on", "client", "ip", "route"]));
        assert!(routes.contains("default via 10.200.0.1"), "{routes}");
        // Who asks for an address of nobody is refused, and the node does not remember it: the same
        // connection is another one once somebody has the address.
        let node = ["10.200.0.11", "10250"];
        let nobody = ["203.0.113.9", "80"];
        let on = |host: &str, words: &[&str]| told(cluster(&home).args(["on", host]).args(words));
        on("client", &["ip", "route", "add", nobody[0], "via", node[0]]);
        let ask = |[host, port]: [&str; 2]| {
            let url = format!("http://{host}:{port}/");
            let curl = ["curl", "--silent", "--max-time", "2", &url];
            let output = cluster(&home).args(["on", "client"]).args(curl).output();
            let answered = output.unwrap().status.success();
            let remembered = on("node1", &["conntrack", "-L", "--orig-dst", host]);
            (answered, !remembered.is_empty())
        };
        until("connections are remembered", || ask(node) == (true, true));
        assert_eq!(ask(nobody), (false, false));
        let init = number(&home.join("sandbox"));
        told(cluster(&home).arg("down"));
        assert!(!home.exists());
        until("the sandbox is gone", || dead(init));
    }

    // runs: cargo demo --cluster
    #[test]
    #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
    fn the_demo_settles_on_a_real_cluster_and_its_pods_answer_from_outside() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let _down = Down(&home);
        // Built beside it by `cargo test --workspace`.
        let demo = Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name("demo");
        assert!(demo.is_file(), "no {}; build package demo", demo.display());
        let text = told(
            Command::new(demo)
                .args(["--cluster", "--once"])
                .env("PORTOLAN_CLUSTER", env!("CARGO_BIN_EXE_cluster"))
                .env("PORTOLAN_CLUSTER_HOME", &home),
        );
        assert!(text.contains("19 as expected"), "{text}");
        let after = text.split_once("$ curl http://").unwrap().1;
        let answer = after.lines().nth(1).unwrap().trim();
        assert!(answer.starts_with("hello-world-"), "{text}");
    }
}
