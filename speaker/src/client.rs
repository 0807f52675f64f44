//! Where the client for the API server is made: every request says who we are, none is retried behind
//! our back.

use std::time::Duration;

use http::{HeaderValue, Request, header};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use tower::util::MapRequestLayer;

/// What every request carries, so that an audit log can tell ours.
const USER_AGENT: &str = concat!("portolan-speaker/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// A client for the API server.
///
/// # Errors
/// When the TLS settings or credentials in `config` cannot be used.
pub(crate) fn client(mut config: kube::Config) -> Result<Client, kube::Error> {
    // Writes are paced here, and what is to be written may have changed since.
    config.default_retry = false;
    // A machine that is gone answers no SYN, and the kernel's own retries come further and further
    // apart: when another takes its address the next attempt must not be half a minute away.
    config.connect_timeout = Some(CONNECT);
    let sign = |mut request: Request<Body>| {
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        request
    };
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&MapRequestLayer::new(sign))
        .build())
}
