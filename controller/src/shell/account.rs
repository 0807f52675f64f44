//! What commands look at before they show or clean up: the cluster's objects, listed once, and the
//! account's. Nothing here writes.

use std::{collections::BTreeMap, sync::Arc};

use aws::input::{Endpoint, Node};
use crds::LoadBalancerClass;
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use kube::{Api, Client, Resource, api::ListParams};
use model::ServiceKey;
use serde::de::DeserializeOwned;

use crate::core::{index::Index, nodes, translate};

pub mod orphans;
pub mod preview;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Why a command cannot say or do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not give what was asked for.
    #[error("cannot read {kind} from the API server")]
    Cluster {
        /// Of what.
        kind: String,
        /// Why.
        source: kube::Error,
    },
    /// AWS did not give what was asked for.
    #[error(transparent)]
    Account(#[from] aws_cloud::Error),
    /// There is no such Service.
    #[error("Service {0} does not exist; what may be left of it in AWS is among portolan orphans")]
    NoService(ServiceKey),
}

async fn list<K>(api: Api<K>) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut all = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api
            .list(&parameters)
            .await
            .map_err(|source| Error::Cluster {
                kind: K::plural(&()).into_owned(),
                source,
            })?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => return Ok(all),
        }
    }
}

/// Classes, and Services of one namespace or of all. What cannot be told apart from others (no
/// uid) is not there for the controller either.
async fn index(client: &Client, namespace: Option<&str>) -> Result<Index, Error> {
    let mut index = Index::default();
    for class in list::<LoadBalancerClass>(Api::all(client.clone())).await? {
        if let Ok(record) = translate::class(&class) {
            index.set_class(record);
        }
    }
    let services: Api<v1::Service> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    for service in list(services).await? {
        if let Ok(record) = translate::service(&service) {
            index.set_service(Arc::new(record));
        }
    }
    Ok(index)
}

async fn all_nodes(client: &Client) -> Result<Vec<Node>, Error> {
    let nodes = list::<v1::Node>(Api::all(client.clone())).await?;
    Ok(nodes.iter().map(nodes::node).collect())
}

async fn endpoints(
    client: &Client,
    namespace: &str,
) -> Result<BTreeMap<ServiceKey, Vec<Endpoint>>, Error> {
    let mut endpoints: BTreeMap<ServiceKey, Vec<Endpoint>> = BTreeMap::new();
    for slice in list::<EndpointSlice>(Api::namespaced(client.clone(), namespace)).await? {
        if let Some(key) = nodes::service_of(&slice) {
            let all = endpoints.entry(key).or_default();
            all.extend(nodes::endpoints(&slice));
        }
    }
    Ok(endpoints)
}
