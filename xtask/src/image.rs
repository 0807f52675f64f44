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

/// A program and how it is built.
struct Program {
    /// As it is called in the image.
    name: &'static str,
    package: &'static str,
    bin: &'static str,
    features: &'static [&'static str],
}

/// The controller's talks to clouds, the speaker's to none.
const SHIPPED: [Program; 2] = [
    Program {
        name: "portolan",
        package: "controller",
        bin: "portolan",
        features: &["--features", "aws"],
    },
    Program {
        name: "portolan-speaker",
        package: "speaker",
        bin: "portolan-speaker",
        features: &[],
    },
];

/// The same sources with the dependencies that the tests have compiled anyhow.
const FOR_THE_LAB: [Program; 2] = [
    Program {
        name: "portolan",
        package: "image",
        bin: "portolan_in_lab",
        features: &["--features", "aws,programs"],
    },
    Program {
        name: "portolan-speaker",
        package: "image",
        bin: "portolan_speaker",
        features: &["--features", "aws,programs"],
    },
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
    let programs = if profile == "dev" {
        FOR_THE_LAB
    } else {
        SHIPPED
    };
    for program in &programs {
        compile(root, profile, program)?;
        let built = root.join("target").join(folder).join(program.bin);
        fs::copy(&built, context.join(program.name))
            .with_context(|| format!("cannot copy {}", built.display()))?;
    }
    fs::copy(root.join("deploy/Dockerfile"), context.join("Dockerfile"))?;
    Ok(context)
}

/// One static program.
fn compile(root: &Path, profile: &str, program: &Program) -> anyhow::Result<()> {
    let Program {
        name,
        package,
        bin,
        features,
    } = program;
    // Against glibc: rustup need not fetch this target, unlike musl's. The flag is for the program
    // alone, so that the dependencies are those of every other build.
    let mut cargo = process::cargo(root, ["rustc", "--locked", "--package", package]);
    cargo
        .args(["--bin", bin, "--profile", profile])
        .args(*features)
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
