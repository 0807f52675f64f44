//! `/healthz` (the process answers), `/readyz` (it does its work) and `/metrics`. Says nothing about
//! single objects and takes no input.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::debug;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// A connection is closed after this long: scrapers and probes come again.
const CONNECTION: Duration = Duration::from_secs(120);

/// Time for a request's headers, against clients that never finish.
const HEADERS: Duration = Duration::from_secs(5);

/// The pause after a failed accept (no file descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The media type of the OpenMetrics text format 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What it says, asked anew for each request.
#[derive(Clone)]
pub struct Admin {
    ready: Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>,
    metrics: Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// `ready` says what is missing; `metrics` is a page of OpenMetrics.
    pub fn new(
        ready: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static,
        metrics: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            ready: Arc::new(ready),
            metrics: Arc::new(metrics),
        }
    }

    /// Answers for ever.
    ///
    /// # Errors
    /// Never in practice: when its own semaphore were closed.
    pub async fn serve(
        self,
        listener: TcpListener,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        // Aborts the connections when this task is aborted.
        let mut connections = JoinSet::new();
        loop {
            let permit = Arc::clone(&room).acquire_owned().await?;
            while connections.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    debug!(%error, "the admin port did not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let admin = self.clone();
            connections.spawn(async move {
                let answering = service_fn(move |request: Request<Incoming>| {
                    let reply = admin.answer(request.method(), request.uri().path());
                    async move { Ok::<_, Infallible>(reply) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS)
                    .serve_connection(TokioIo::new(stream), answering);
                if let Ok(Err(error)) = timeout(CONNECTION, connection).await {
                    debug!(%error, "a connection to the admin port failed");
                }
                drop(permit);
            });
        }
    }

    /// The answer to one request.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, media, text) = if method != Method::GET && method != Method::HEAD {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "GET only\n".to_owned(),
            )
        } else {
            match path {
                "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
                "/readyz" => match (self.ready)() {
                    Ok(()) => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
                    Err(missing) => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "text/plain",
                        format!("{missing}\n"),
                    ),
                },
                "/metrics" => match (self.metrics)() {
                    Ok(page) => (StatusCode::OK, OPEN_METRICS, page),
                    Err(_formatting) => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "text/plain",
                        "the metrics cannot be rendered\n".to_owned(),
                    ),
                },
                _ => (
                    StatusCode::NOT_FOUND,
                    "text/plain",
                    "try /healthz, /readyz or /metrics\n".to_owned(),
                ),
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
        response
    }
}
