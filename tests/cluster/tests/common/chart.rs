//! The chart and the real helm.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use cluster::{Binary, ControlPlane};

/// Where the chart is installed in tests, and in the committed manifests.
pub(crate) const NAMESPACE: &str = "portolan-system";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// helm with these arguments and no settings of this machine's user.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let binary = Binary::build().unwrap_or_else(|error| panic!("NOT RUN, no helm here: {error}"));
    let mut helm = binary.part("helm");
    for (variable, folder) in [
        ("HELM_CACHE_HOME", "cache"),
        ("HELM_CONFIG_HOME", "config"),
        ("HELM_DATA_HOME", "data"),
    ] {
        helm.env(variable, home.path().join(folder));
    }
    helm.current_dir(root()).args(arguments).output().unwrap()
}

/// What it prints; panics unless it is content.
pub(crate) fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "", "a warning");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the chart renders with these further arguments.
pub(crate) fn rendered(arguments: &[&str]) -> String {
    let first = ["template", "portolan", "deploy/charts/portolan"];
    let namespace = ["--namespace", NAMESPACE];
    said(&helm(&[&first[..], &namespace[..], arguments].concat()))
}

/// The real kubectl with this on its standard input; panics if it fails or warns.
pub(crate) fn kubectl(plane: &ControlPlane, arguments: &[&str], input: &str) -> String {
    let mut kubectl = plane.kubectl();
    kubectl
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = kubectl.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    said(&child.wait_with_output().unwrap())
}
