//! `cargo xtask cluster`: hands over to the package that knows how, so that xtask itself needs no
//! Kubernetes client and compiles in seconds.

use std::path::Path;
use std::process::{ExitCode, Stdio};

use crate::process;

/// `build`, `up`, `down` and `kubectl`, as `tests/cluster` has them.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = process::cargo(root, ["run", "--quiet", "--package", "cluster", "--"]);
    // kubectl reads manifests from the terminal or a pipe.
    let status = command.args(arguments).stdin(Stdio::inherit()).status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
