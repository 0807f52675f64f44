//! Programs that the suite needs and cargo does not bring.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::process;

/// The version that is installed when there is none. An older one may not know our `deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// Makes sure that `cargo deny` can be run. Installing takes two minutes on two cores.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn cargo_deny(root: &Path) -> anyhow::Result<()> {
    if process::first_line(&mut process::cargo(root, ["deny", "--version"])).is_some() {
        return Ok(());
    }
    println!("cargo-deny is not installed; installing it (about two minutes)");
    let install = ["install", "cargo-deny", "--locked", "--version", CARGO_DENY];
    // It runs for a second a day: what counts is how fast it compiles.
    let status = process::run_patiently(
        process::cargo(root, install)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env_remove("CARGO_TARGET_DIR"), // it is built in a folder that goes away again
    )?;
    ensure!(status.success(), "cannot install cargo-deny: {status}");
    Ok(())
}

/// Installs these packages where that is ours to do: as root, on Debian.
///
/// # Errors
/// When apt-get refuses.
pub(crate) fn debian_packages(missing: &[&str]) -> anyhow::Result<()> {
    let apt = process::first_line(Command::new("apt-get").arg("--version")).is_some();
    if missing.is_empty() || !apt || !k8s::lab::is_root()? {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let update = process::run_patiently(Command::new("apt-get").args(["update", "--quiet"]))?;
    ensure!(update.success(), "apt-get update: {update}");
    let install = process::run_patiently(
        Command::new("apt-get")
            // Another apt may be at work, as on a machine that has just started.
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    ensure!(install.success(), "apt-get install: {install}");
    Ok(())
}

/// A kubectl that runs, and what it says it is.
///
/// It is not installed when absent: the one that Debian packages (1.20) is years older than the
/// oldest Kubernetes we support and would test something else.
pub(crate) fn kubectl() -> Option<(PathBuf, String)> {
    let name = std::env::var_os("PORTOLAN_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let version = process::first_line(Command::new(&name).args(["version", "--client"]))?;
    Some((PathBuf::from(name), version))
}
