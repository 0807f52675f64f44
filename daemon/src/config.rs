//! Where the API server is and who we are there.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// By the flags `--kubeconfig` and `--context`; without them $KUBECONFIG, ~/.kube/config or the Pod.
///
/// # Errors
/// When there is none, or it cannot be read; the message names the flag.
pub async fn config(path: Option<PathBuf>, context: Option<String>) -> Result<kube::Config> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    match path {
        Some(path) => {
            let file = Kubeconfig::read_from(&path)
                .with_context(|| format!("cannot read --kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .with_context(|| format!("cannot use --kubeconfig {}", path.display()))
        }
        None if options.context.is_some() => kube::Config::from_kubeconfig(&options)
            .await
            .context("cannot use --context"),
        None => kube::Config::infer()
            .await
            .context("no API server: give --kubeconfig, set $KUBECONFIG or run in a Pod"),
    }
}
