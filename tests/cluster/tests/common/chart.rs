//! The chart and the real helm.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use cluster::Binary;

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
