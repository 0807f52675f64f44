//! The IPAddress objects of the cluster, page by page, reduced to whose they are.

use std::net::IpAddr;

use kube::{api::ListParams, core::Request as Requests};
use serde::Deserialize;

use super::*;
use crate::core::repair::{Parent, Recorded};

/// Objects of one page.
const PAGE: u32 = 500;

/// All that is read of a page.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Address>,
}

#[derive(Deserialize, Default)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    metadata: Name,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Spec {
    parent_ref: Option<ParentRef>,
}

#[derive(Deserialize)]
struct ParentRef {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// The request for the page that this token continues with.
pub(super) fn page(next: Option<&str>) -> Result<Request<Vec<u8>>, Failure> {
    let mut parameters = ListParams::default().limit(PAGE);
    if let Some(next) = next {
        parameters = parameters.continue_token(next);
    }
    let at = Requests::new("/apis/networking.k8s.io/v1/ipaddresses");
    at.list(&parameters).map_err(unsendable)
}

/// All of them. A continuation that has run out fails the whole: half a list would say that the
/// other half is missing.
pub(super) async fn list(
    client: &Client,
    mut request: Request<Vec<u8>>,
) -> Result<Recorded, Failure> {
    let mut recorded = Recorded::new();
    loop {
        let page: Page = send(client, request)
            .await
            .map_err(|error| classify(&error))?;
        for address in page.items {
            // The API server takes canonical addresses only.
            let Ok(ip) = address.metadata.name.parse::<IpAddr>() else {
                continue;
            };
            let parent = address.spec.parent_ref.map(|parent| Parent {
                group: parent.group,
                resource: parent.resource,
                namespace: parent.namespace,
                name: parent.name,
            });
            recorded.insert(ip, parent);
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => request = self::page(Some(&next))?,
            None => return Ok(recorded),
        }
    }
}

/// The same for a command, which reads once.
///
/// # Errors
/// What the API server says.
pub async fn recorded(client: &Client) -> Result<Recorded, Failure> {
    list(client, page(None)?).await
}
