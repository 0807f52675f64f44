//! Commands that show or clean up, and end.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

#[cfg(feature = "aws")]
mod account;
mod cluster;
pub(crate) mod keys;
pub(crate) mod numbers;
pub(crate) mod orphans;
pub(crate) mod plan;
pub(crate) mod webhook;

/// Said by commands that need what this build does not have.
#[cfg(not(feature = "aws"))]
const WITHOUT_AWS: &str = "this build cannot talk to AWS: use the released image, or build it with \
    cargo build --release -p controller --features aws";

/// Which cluster, and which account.
#[derive(Args)]
pub(crate) struct AccountArguments {
    #[command(flatten)]
    place: Place,
    /// Which kubeconfig; without it $KUBECONFIG, ~/.kube/config or the Pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it the current one.
    #[arg(long)]
    context: Option<String>,
}

/// Where in AWS, and for which cluster.
#[derive(Args)]
pub(crate) struct Place {
    /// The cluster's name, as names and tags in AWS have it.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<String>,
    /// The region; without it that of the environment, the profile or the instance.
    #[arg(long, value_name = "REGION")]
    aws_region: Option<String>,
    /// The VPC; without it the one that the instance is in.
    #[arg(long, value_name = "ID")]
    aws_vpc_id: Option<String>,
}

impl Place {
    /// How to get there; `None` without a cluster's name.
    #[cfg(feature = "aws")]
    pub(crate) fn connect(self) -> Option<aws_cloud::Connect> {
        Some(aws_cloud::Connect {
            region: self.aws_region,
            vpc: self.aws_vpc_id,
            ..aws_cloud::Connect::new(self.cluster_name?)
        })
    }
}

/// How something is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: docs/plan.md and docs/numbers.md describe it.
    Json,
}

impl Output {
    fn print<T: Serialize + std::fmt::Display>(self, what: &T) -> Result<()> {
        let text = match self {
            Self::Text => what.to_string(),
            Self::Json => format!("{}\n", serde_json::to_string_pretty(what)?),
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .context("cannot write to stdout")
    }
}

/// Runs until `work` is done.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// What a file has, and how messages call it; `-` is stdin.
fn read(path: &Path) -> Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read stdin")?;
        return Ok(("stdin".to_owned(), text));
    }
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {place}"))?;
    Ok((place, text))
}
