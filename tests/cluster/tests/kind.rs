//! `tests/kind` needs a container engine, which no machine of ours has: here is linted what can be.

#![expect(clippy::panic, reason = "test code")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const WORKFLOW: &str = ".github/workflows/kind.yaml";
const SCRIPTS: [&str; 2] = ["tests/kind/run", "tests/kind/diagnose"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every word of scripts and workflow, comments and quotes left out.
fn words() -> Vec<String> {
    let mut words = Vec::new();
    for path in SCRIPTS.iter().chain([&WORKFLOW]) {
        for line in read(path)
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
        {
            let line = line.replace(['"', '\'', '(', ')', '$'], " ");
            words.extend(line.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// What stands after these words, wherever they stand.
fn after(words: &[String], first: &[&str]) -> Vec<String> {
    (words.windows(first.len() + 1))
        .filter(|window| window.iter().zip(first).all(|(word, first)| word == first))
        .filter_map(|window| window.last().cloned())
        .collect()
}

#[test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
fn kind_knows_every_field_and_actionlint_finds_nothing() {
    let output = Command::new("go")
        .current_dir(root().join("tests/kind/lint"))
        .args(["run", "-mod=readonly", ".", "../cluster.yaml"])
        .arg(root().join(WORKFLOW))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

#[test]
fn the_scripts_are_shell() {
    for script in SCRIPTS {
        let path = root().join(script);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} cannot be run");
        let output = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
    }
}

#[test]
fn every_file_that_they_name_exists() {
    let words = words();
    let files: Vec<_> = (words.iter())
        .filter(|word| {
            ["tests/", "deploy/"]
                .iter()
                .any(|folder| word.starts_with(folder))
        })
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }
}

#[test]
fn every_command_of_ours_that_they_name_exists() {
    let words = words();
    let xtask = read("xtask/src/main.rs");
    let commands = after(&words, &["cargo", "xtask"]);
    assert!(!commands.is_empty());
    for command in commands {
        let (first, rest) = command.split_at(1);
        let variant = format!("\n    {}{rest}", first.to_uppercase());
        assert!(xtask.contains(&variant), "cargo xtask {command}");
    }
    for test in after(&words, &["cargo", "test", "--package", "cluster", "--test"]) {
        let path = root().join("tests/cluster/tests");
        let found = [format!("{test}.rs"), format!("{test}/main.rs")];
        assert!(found.iter().any(|file| path.join(file).exists()), "{test}");
    }
}

#[test]
fn the_workflow_runs_the_script_in_every_mode_that_the_suite_knows() {
    let workflow: Value = serde_saphyr::from_str(&read(WORKFLOW)).unwrap();
    let job = workflow.pointer("/jobs/kind").unwrap();
    let modes = job.pointer("/strategy/matrix/mode").unwrap();
    assert_eq!(*modes, serde_json::json!(["nftables", "iptables"]));
    let steps = job["steps"].as_array().unwrap();
    let runs: Vec<_> = steps
        .iter()
        .filter_map(|step| step["run"].as_str())
        .collect();
    assert_eq!(runs, ["tests/kind/run ${{ matrix.mode }}"]);
    // An action is what it was when somebody looked at it.
    for action in steps.iter().filter_map(|step| step["uses"].as_str()) {
        let (_, version) = action.split_once('@').unwrap();
        assert!(version.len() == 40, "{action} is not pinned to a commit");
    }
}
