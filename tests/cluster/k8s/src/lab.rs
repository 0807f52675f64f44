//! What the lab needs of the machine besides Kubernetes itself, and where to get it.

use std::{fs, path::Path};

use anyhow::Result;

use crate::NotAvailable;

/// What is run, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 10] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("buildah", "buildah"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("curl", "curl"),
];

/// The Debian packages of what is missing.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |program: &str| {
        // An absolute one replaces the folder it is joined to.
        !std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    (PROGRAMS.iter())
        .filter_map(|(program, package)| missing(program).then_some(*package))
        .collect()
}

/// Whether this process may make namespaces, as far as its user decides.
///
/// # Errors
/// When /proc cannot be read.
pub fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// Whether this machine can run a lab.
///
/// # Errors
/// [`NotAvailable`] with what is missing.
pub fn available() -> Result<()> {
    if !is_root()? {
        return Err(NotAvailable::new("the lab makes namespaces: it needs root").into());
    }
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        let why = "the lab knows cgroups of version 1, and this machine has version 2 only";
        return Err(NotAvailable::new(why).into());
    }
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    let why = format!("missing programs: apt-get install --no-install-recommends {missing}");
    Err(NotAvailable::new(&why).into())
}
