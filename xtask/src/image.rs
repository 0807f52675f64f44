//! `cargo xtask image`: the static programs, the Dockerfile beside them, and the image if something
//! here can build it. No registry, no base image, no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;

use crate::process;

/// Programs and Dockerfile, and nothing else: all that an engine is shown.
const CONTEXT: &str = "target/image";

/// Package, program and features: the controller's talks to clouds, the speaker's to none.
const PROGRAMS: [(&str, &str, &[&str]); 2] = [
    ("controller", "portolan", &["--features", "aws"]),
    ("speaker", "portolan-speaker", &[]),
];

/// What `cargo xtask image` is told.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How it is compiled: `release` to ship it, `dev` to try it, in a fraction of the time.
    #[arg(long, default_value = "release")]
    profile: String,
    /// What the image is called.
    #[arg(long, default_value = "portolan:dev")]
    tag: String,
    /// Prepares everything and leaves the image itself to you.
    #[arg(long)]
    no_build: bool,
}

/// Makes the programs and the image.
///
/// # Errors
/// When a program does not compile, or nothing here can build images.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let context = prepare(root, &arguments.profile)?;
    if arguments.no_build {
        println!("{} is ready for `docker build`", context.display());
        return Ok(());
    }
    let mut build = engine().context(
        "neither docker (with its daemon), podman nor buildah is here; --no-build leaves it to you",
    )?;
    let status = process::run(build.args(["--tag", &arguments.tag]).arg(&context))?;
    ensure!(status.success(), "the image cannot be built: {status}");
    Ok(())
}

/// Fills the folder that an engine is shown, and tells where it is.
///
/// # Errors
/// When a program does not compile.
pub(crate) fn prepare(root: &Path, profile: &str) -> anyhow::Result<PathBuf> {
    let context = root.join(CONTEXT);
    fs::create_dir_all(&context)?;
    // cargo's one exception: the profile `dev` lands in `debug`.
    let folder = if profile == "dev" { "debug" } else { profile };
    for (package, name, features) in PROGRAMS {
        compile(root, profile, package, name, features)?;
        let program = root.join("target").join(folder).join(name);
        fs::copy(&program, context.join(name))
            .with_context(|| format!("cannot copy {}", program.display()))?;
    }
    fs::copy(root.join("deploy/Dockerfile"), context.join("Dockerfile"))?;
    Ok(context)
}

/// One static program.
fn compile(
    root: &Path,
    profile: &str,
    package: &str,
    name: &str,
    features: &[&str],
) -> anyhow::Result<()> {
    // Against glibc: rustup need not fetch this target, unlike musl's. The flag is for the program
    // alone, so that the dependencies are those of every other build.
    let mut cargo = process::cargo(root, ["rustc", "--locked", "--package", package]);
    cargo
        .args(["--bin", name, "--profile", profile])
        .args(features)
        .args(["--target-dir", "target"])
        // Three quarters of the program would be tables of lines, for nobody: a panic names its own.
        .args([
            "--",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=debuginfo",
        ]);
    let status = process::run(&mut cargo)?;
    ensure!(status.success(), "{name} does not compile: {status}");
    Ok(())
}

/// What can build images here; add the tag and the folder.
fn engine() -> Option<Command> {
    let works = |program: &str, asked: &str| {
        let mut command = Command::new(program);
        let output = command.arg(asked).output();
        output.is_ok_and(|output| output.status.success())
    };
    // `docker info` fails without the daemon, `docker --version` does not.
    for (program, asked) in [("docker", "info"), ("podman", "info")] {
        if works(program, asked) {
            let mut command = Command::new(program);
            command.arg("build");
            return Some(command);
        }
    }
    works("buildah", "--version").then(|| {
        let mut command = Command::new("buildah");
        // Nothing is run in the image, so that no isolation is needed.
        command.args(["build", "--isolation", "chroot"]);
        command
    })
}
