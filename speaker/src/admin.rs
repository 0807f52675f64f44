//! `/healthz` (the process answers), `/readyz` (everything is listed and this speaker is among its peers) and `/metrics`. Says
//! nothing about single objects and takes no input.

use std::{convert::Infallible, sync::Arc, time::Duration};

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

use crate::{metrics::Metrics, run::Ready};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 8;

/// A connection is closed after this long: scrapers and probes come again.
const CONNECTION: Duration = Duration::from_secs(120);

/// Time for a request's headers, against clients that never finish.
const HEADERS: Duration = Duration::from_secs(5);

/// The pause after a failed accept (no file descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The media type of the OpenMetrics text format 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    ready: Ready,
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
        let (metrics, ready) = (Arc::clone(&metrics), ready.clone());
        connections.spawn(async move {
            let answering = service_fn(move |request: Request<Incoming>| {
                let reply = answer(request.method(), request.uri().path(), &metrics, &ready);
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

pub(crate) fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    ready: &Ready,
) -> Response<Full<Bytes>> {
    let (status, media, text) = if method != Method::GET && method != Method::HEAD {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "GET only\n".to_owned(),
        )
    } else {
        match path {
            "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" => readiness(ready),
            "/metrics" => match metrics.render() {
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

fn readiness(ready: &Ready) -> (StatusCode, &'static str, String) {
    match ready.missing() {
        None => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        Some(what) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            format!("{what}\n"),
        ),
    }
}
