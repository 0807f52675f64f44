//! `portolan rotate-speaker-key`.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use controller::shell::{self, SecretName};

#[derive(Args)]
pub(crate) struct RotateArguments {
    /// The controller's namespace; without it the Pod's or that of the context.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The Secret's name.
    #[arg(long, default_value = "portolan-speaker-keys", value_name = "NAME")]
    speaker_keys: String,
    /// Which kubeconfig; without it $KUBECONFIG, ~/.kube/config or the Pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it the current one.
    #[arg(long)]
    context: Option<String>,
}

pub(crate) fn rotate(arguments: RotateArguments) -> Result<ExitCode> {
    let told = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(told(arguments))?;
    std::io::stdout()
        .lock()
        .write_all(told.as_bytes())
        .context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

async fn told(arguments: RotateArguments) -> Result<String> {
    let config = daemon::config(arguments.kubeconfig, arguments.context).await?;
    let secret = SecretName {
        namespace: arguments
            .namespace
            .unwrap_or_else(|| config.default_namespace.clone()),
        name: arguments.speaker_keys,
    };
    let client = shell::client(config).context("cannot make a client for the API server")?;
    let now = jiff::Timestamp::now().as_second();
    let rotation = shell::rotate_key(&client, &secret, now).await?;
    let mut told = format!(
        "Secret {secret}: added key {}. Speakers have it within about two minutes and send with it \
         from {} on.\n",
        rotation.add, rotation.at
    );
    if let Some(in_force) = rotation.in_force {
        told += &format!(
            "Until then they send with {in_force}, which stays accepted until the next rotation.\n"
        );
    }
    match rotation.drop.as_slice() {
        [] => told += "Nothing was dropped.\n",
        dropped => {
            told += &format!(
                "Dropped, and accepted no longer once the nodes have heard of it: {}.\n",
                dropped.join(", ")
            );
        }
    }
    Ok(told)
}
