//! Connections of commands that look at a cluster and an account.

use anyhow::{Context as _, Result};
use aws_cloud::Cloud;
use controller::shell;
use kube::Client;

use super::AccountArguments;

/// A client of the API server, the namespace of its context, and the account.
pub(super) async fn connect(arguments: AccountArguments) -> Result<(Client, String, Cloud)> {
    let place = arguments.place.connect().context(
        "give --cluster-name, the same as the controller's: names and tags in AWS have it",
    )?;
    let config = daemon::config(arguments.kubeconfig, arguments.context).await?;
    let namespace = config.default_namespace.clone();
    let client = shell::client(config).context("cannot make a client for the API server")?;
    let cloud = Cloud::connect(place).await;
    let cloud = cloud.context("cannot connect to AWS")?;
    Ok((client, namespace, cloud))
}
