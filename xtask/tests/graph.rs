//! Who reaches whom: the layers of `docs/architecture.md` as tests.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every package that `package` is built from on this machine, with all its features.
fn reach(package: &str) -> BTreeSet<String> {
    tree(package, &["--all-features", "--edges", "normal,build"])
}

/// Every package that `cargo test --package` compiles: features that nobody asks for are off.
fn reached_by_tests(package: &str) -> BTreeSet<String> {
    tree(package, &["--edges", "normal,build,dev"])
}

fn tree(package: &str, options: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--prefix", "none"])
        .args(["--package", package])
        .args(options)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let names: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(
        names.contains(package),
        "cargo tree says nothing: {names:?}"
    );
    names
}

/// Packages in the graph of `package` whose name is one of `banned` or starts with one and a dash.
fn reached(package: &str, banned: &[&str]) -> Vec<String> {
    let is_banned = |name: &str| {
        (banned.iter()).any(|ban| {
            name.strip_prefix(ban)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    };
    reach(package)
        .into_iter()
        .filter(|name| is_banned(name))
        .collect()
}

const IO: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "kube",
    "k8s-openapi",
    "hyper",
    "tower",
    "reqwest",
    "rustls",
];
const CLOUD: &[&str] = &["aws-config", "aws-sdk", "aws-smithy", "google-cloud"];
const NOTHING: Vec<String> = Vec::new();

#[test]
fn model_reaches_neither_tokio_nor_kube() {
    assert_eq!(reached("model", IO), NOTHING);
}

#[test]
fn allocator_reaches_neither_tokio_nor_kube() {
    assert_eq!(reached("allocator", IO), NOTHING);
}

#[test]
fn wire_reaches_neither_tokio_nor_kube() {
    assert_eq!(reached("wire", IO), NOTHING);
}

#[test]
fn speakers_decide_without_tokio_and_kube() {
    assert_eq!(reached("speaker-core", IO), NOTHING);
}

#[test]
fn aws_plans_without_tokio_and_kube() {
    assert_eq!(reached("aws", IO), NOTHING);
}

#[test]
fn the_demo_is_built_without_a_cloud_sdk() {
    assert_eq!(reached("demo", CLOUD), NOTHING);
}

#[test]
fn packet_reaches_neither_tokio_nor_kube() {
    assert_eq!(reached("packet", IO), NOTHING);
}

/// It runs on every node.
#[test]
fn the_speaker_links_no_cloud_sdk_no_controller_and_no_emulator() {
    let others = ["aws", "controller", "devapi", "demo"];
    assert_eq!(reached("speaker", CLOUD), NOTHING);
    assert_eq!(reached("speaker", &others), NOTHING);
    assert_eq!(reached("speaker", &["aws-lc", "openssl-sys"]), NOTHING);
}

/// Every package of this workspace.
fn members() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--workspace", "--depth", "0"])
        .args(["--prefix", "none"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
    names.collect()
}

/// AWS's SDKs take minutes: only those who talk to AWS, or test that, wait for them.
#[test]
fn only_what_talks_to_aws_waits_for_its_sdks_and_its_tests_do() {
    let all = members();
    assert!(all.len() > 10, "{all:?}");
    let waits = |package: &&String| {
        let reached = reached_by_tests(package);
        reached.iter().any(|name| name.starts_with("aws-sdk-"))
    };
    let mut waiting: Vec<&str> = all.iter().filter(waits).map(String::as_str).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, ["aws-cloud", "aws-tests"]);
}

#[test]
fn the_controller_talks_to_aws_when_it_is_built_with_feature_aws() {
    let default = tree("controller", &["--edges", "normal,build"]);
    let with = tree(
        "controller",
        &["--edges", "normal,build", "--features", "aws"],
    );
    for sdk in ["aws-sdk-ec2", "aws-sdk-elasticloadbalancingv2"] {
        assert!(!default.contains(sdk), "{sdk}");
        assert!(with.contains(sdk), "{sdk}");
    }
}

/// Every package with its features, as cargo unites them for what is selected.
fn features(selected: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--prefix", "none"])
        .args(["--format", "{p} {f}"])
        .args(selected)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let packages = lines.lines().map(|line| line.trim_end_matches(" (*)"));
    // Its own are for nobody else to compile.
    let others = packages.filter(|line| !line.is_empty() && !line.starts_with("image "));
    others.map(str::to_owned).collect()
}

/// Otherwise AWS's SDKs, kube and tokio are compiled once for the lab's image and once for the tests:
/// add the features in `tests/image/Cargo.toml`.
#[test]
fn the_programs_for_the_lab_are_built_of_what_the_tests_are_built_of() {
    let tests = features(&["--workspace", "--edges", "normal,build,dev"]);
    let programs = features(&[
        "--package",
        "image",
        "--features",
        "aws,programs",
        "--edges",
        "normal,build",
    ]);
    assert!(programs.iter().any(|line| line.starts_with("aws-sdk-ec2 ")));
    let twice: Vec<&String> = programs.difference(&tests).collect();
    assert!(twice.is_empty(), "compiled twice: {twice:#?}");
}

/// `aws-lc-sys` needs cmake and minutes; we use ring.
#[test]
fn the_demo_is_built_without_a_c_crypto_library() {
    assert_eq!(reached("demo", &["aws-lc", "openssl-sys"]), NOTHING);
}

#[test]
fn the_shipped_controller_contains_no_emulator() {
    assert_eq!(reached("controller", &["devapi", "tests", "demo"]), NOTHING);
}

/// `controller::core` shares a crate with the shell, so the compiler does not keep it pure.
#[test]
fn the_core_of_the_controller_names_no_io_and_no_clock() {
    let banned = [
        "tokio",
        "crate::shell",
        "kube::Client",
        "kube::client",
        "std::net::Tcp",
        "std::fs",
        "std::env",
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
    ];
    let mut found = Vec::new();
    for file in sources(&root().join("controller/src/core")) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = banned.iter().find(|word| code.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert_eq!(found, NOTHING);
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}
