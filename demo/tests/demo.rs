//! README command 1, as a newcomer types it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

/// What the alias `cargo demo` runs, as built for the tests.
fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .arg("--kubeconfig")
        .arg(folder.join("kubeconfig"))
        .args(arguments);
    command
}

#[test]
fn the_alias_runs_this_package() {
    let config = include_str!("../../.cargo/config.toml");
    assert!(
        config.contains("demo = \"run --quiet --package demo --\""),
        "{config}"
    );
}

// runs: cargo demo --once
#[test]
fn every_example_settles_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let done = demo(folder.path(), &["--once"]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}\n{errors}");
    for word in [
        "Allocated",
        "PoolNotAdmitted",
        "AddressNotInPool",
        "PoolExhausted",
        "Untouched",
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(text.contains("18 Services settled"), "{text}");
}

#[test]
fn manifests_of_ones_own_run_too_and_a_surprise_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine.yaml");
    let manifest = |expect: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: mine\n  namespace: my-team\n  annotations:\n    demo.portolan.dev/expect: {expect}\nspec:\n  type: LoadBalancer\n  ports:\n    - port: 80\n"
        )
    };
    for (expect, success) in [("Allocated", true), ("PoolExhausted", false)] {
        std::fs::write(&mine, manifest(expect)).unwrap();
        let done = demo(folder.path(), &["--once", mine.to_str().unwrap()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.success(), success, "{text}");
        assert!(text.contains("my-team/mine"), "{text}");
        assert_eq!(text.contains("NOT AS EXPECTED"), !success, "{text}");
    }
}

// runs: cargo demo
#[test]
fn it_serves_until_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = demo(folder.path(), &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let settled = lines
        .map_while(Result::ok)
        .find(|line| line.contains("Services settled"));
    assert!(settled.is_some(), "it ended before anything settled");
    assert!(child.try_wait().unwrap().is_none(), "it goes on serving");
    let kubeconfig = std::fs::read_to_string(folder.path().join("kubeconfig")).unwrap();
    assert!(kubeconfig.contains("http://127.0.0.1:"), "{kubeconfig}");
    let pid = child.id().to_string();
    let interrupted = Command::new("kill").args(["-INT", &pid]).status();
    assert!(interrupted.unwrap().success());
    assert!(child.wait().unwrap().success());
}
