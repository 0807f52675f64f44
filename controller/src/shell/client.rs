//! Where a [`kube::Client`] is made: every request says who we are, none is retried behind our back.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Layer as _, Service, util::MapRequestLayer};

/// What every request carries, so that an audit log can tell our writes.
pub const USER_AGENT: &str = concat!("portolan/", env!("CARGO_PKG_VERSION"));

/// A client for a real API server.
///
/// # Errors
/// When the TLS settings or credentials in `config` cannot be used.
pub fn client(mut config: kube::Config) -> Result<Client, kube::Error> {
    // The engine decides what is tried again and when: a write that the client repeats on its own
    // (15 times, up to 1000 s apart) would outlive the decision it came from.
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&MapRequestLayer::new(sign))
        .build())
}

/// A client over any HTTP service: the embedded API server in process, or faults in front of one.
pub fn client_over<S, B>(service: S, default_namespace: &str) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(MapRequestLayer::new(sign).layer(service), default_namespace)
}

fn sign(mut request: Request<Body>) -> Request<Body> {
    request
        .headers_mut()
        .insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    request
}
