//! The cluster that a command looks at: its objects, listed once. Nothing here writes.

use std::{fmt::Debug, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use controller::shell;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Which cluster.
#[derive(Args)]
pub(super) struct ClusterArguments {
    /// Which kubeconfig; without it $KUBECONFIG, ~/.kube/config or the Pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it the current one.
    #[arg(long)]
    context: Option<String>,
}

pub(super) async fn connect(arguments: ClusterArguments) -> Result<Client> {
    let config = daemon::config(arguments.kubeconfig, arguments.context).await?;
    shell::client(config).context("cannot make a client for the API server")
}

/// What a list has.
pub(super) struct Listed<K> {
    /// What can be read.
    pub(super) objects: Vec<K>,
    /// One sentence for each object that cannot, and one when there is no such resource.
    pub(super) warnings: Vec<String>,
}

/// Every object of a kind, of all namespaces. One that cannot be read hides no other.
pub(super) async fn list<K>(client: &Client) -> Result<Listed<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let (kind, plural) = (K::kind(&()), K::plural(&()));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    let mut listed = Listed {
        objects: Vec::new(),
        warnings: Vec::new(),
    };
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                listed.warnings.push(format!(
                    "the cluster has no {plural}: Portolan's definitions are not installed"
                ));
                return Ok(listed);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot list {plural} (docs/numbers.md has the rights)")
                });
            }
        };
        for object in page.items {
            let namespace = object.metadata.namespace.as_deref();
            let namespace = namespace.map_or_else(String::new, |it| format!("{it}/"));
            let name = object.metadata.name.clone().unwrap_or_default();
            match serde_json::to_value(object).and_then(serde_json::from_value) {
                Ok(object) => listed.objects.push(object),
                Err(error) => {
                    let warning = format!("{kind} {namespace}{name} cannot be read: {error}");
                    listed.warnings.push(warning);
                }
            }
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => return Ok(listed),
        }
    }
}
