//! Takes away the IPAddress objects by which Portolan keeps addresses from the API server's own picks,
//! just before the API server is told to take one of them.

use std::net::IpAddr;

use futures::future::join_all;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::core::reserve::{LABEL, OURS};

/// All of these, until then. What fails is left: the API server then refuses the address, and says so.
pub(super) async fn all(client: &Client, addresses: &[IpAddr], until: Instant) {
    let api = Api::<IPAddress>::all(client.clone());
    let each = addresses.iter().map(|address| one(&api, *address));
    for ended in join_all(each.map(|one| timeout_at(until, one))).await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "an IPAddress that keeps an address stays"),
            Err(_elapsed) => warn!("an IPAddress that keeps an address stays: no answer in time"),
        }
    }
}

/// Twice is harmless: the second time it is gone.
async fn one(api: &Api<IPAddress>, address: IpAddr) -> Result<(), kube::Error> {
    // The name of an IPAddress is the canonical form of the address.
    let name = address.to_string();
    let Some(found) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let label = found
        .metadata
        .labels
        .as_ref()
        .and_then(|all| all.get(LABEL));
    if label.map(String::as_str) != Some(OURS) {
        // A Service has it: the API server will say so.
        return Ok(());
    }
    let exactly_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.metadata.uid,
            resource_version: found.metadata.resource_version,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &exactly_this).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
