//! Starting programs: what is run is printed first, so that a log can be repeated by hand.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;

/// `cargo` of the pinned toolchain: rustup reads `rust-toolchain.toml` in `root`.
///
/// It does not hear of this package, which `cargo run` tells us: build scripts look (ring's does), and
/// `cargo test` by hand would compile anew what `cargo xtask test` has built.
pub(crate) fn cargo<A: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line.push_str(&format!("{}={:?} ", name.to_string_lossy(), value));
        }
    }
    line.push_str(&command.get_program().to_string_lossy());
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Runs it with its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<ExitStatus> {
    println!("$ {}", line(command));
    command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))
}

/// The same, up to three times: what comes over a network may fail to come, and a mirror that stumbles
/// is no failure of ours.
pub(crate) fn run_patiently(command: &mut Command) -> anyhow::Result<ExitStatus> {
    for pause in [5, 30] {
        let status = run(command)?;
        if status.success() {
            return Ok(status);
        }
        println!("{status}; again in {pause} s");
        std::thread::sleep(Duration::from_secs(pause));
    }
    run(command)
}

/// Runs it, prints its standard output as it comes and hands every line of it to `see`.
pub(crate) fn tee(command: &mut Command, mut see: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
    println!("$ {}", line(command));
    let shown = line(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(stdout) = child.stdout.take() {
        let mut ours = std::io::stdout().lock();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("cannot read the output of `{shown}`"))?;
            let text = String::from_utf8_lossy(&line);
            see(&text);
            writeln!(ours, "{text}")?;
        }
    }
    child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))
}

/// The first line a program prints, or nothing when it cannot be run or fails.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}
