//! `cargo xtask test`, `generate`, `image` and `cluster`.
//!
//! This program only starts other programs, times them and adds up what they said. It must never
//! count a part that did not run as passed, and it must stay small enough to compile in seconds.

mod cluster;
mod counts;
mod generate;
mod image;
mod process;
mod report;
mod suite;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// What a developer does with this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything: formatting, lints, documentation, generated files, dependencies, tests.
    Test {
        /// Runs only these parts, for example `fmt` or `clippy`.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<suite::Part>,
    },
    /// Writes the files that are generated from code.
    Generate,
    /// The controller's container image.
    Image(image::Arguments),
    /// A real Kubernetes on this machine: `build`, `up`, `down`, `kubectl ...`, `--help`.
    #[command(disable_help_flag = true)]
    Cluster {
        /// What `tests/cluster` is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let root = root()?;
    match Cli::parse().command {
        Command::Test { only } => suite::run(&root, &only),
        Command::Generate => {
            generate::write(&root)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Image(arguments) => {
            image::run(&root, &arguments)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cluster { arguments } => cluster::run(&root, &arguments),
    }
}

/// The repository: the folder above this package.
fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("xtask lies in no folder")?;
    Ok(root.to_path_buf())
}
