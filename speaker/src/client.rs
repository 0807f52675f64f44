//! Where the client for the API server is made: every request says who we are, none is retried behind
//! our back.

use http::{HeaderValue, Request, header};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use tower::util::MapRequestLayer;

/// What every request carries, so that an audit log can tell ours.
const USER_AGENT: &str = concat!("portolan-speaker/", env!("CARGO_PKG_VERSION"));

/// A client for the API server.
///
/// # Errors
/// When the TLS settings or credentials in `config` cannot be used.
pub(crate) fn client(mut config: kube::Config) -> Result<Client, kube::Error> {
    // Writes are paced here, and what is to be written may have changed since.
    config.default_retry = false;
    let sign = |mut request: Request<Body>| {
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        request
    };
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&MapRequestLayer::new(sign))
        .build())
}
