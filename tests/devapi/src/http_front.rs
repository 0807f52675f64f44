//! The HTTP/1.1 front for kubectl and for anything that wants a URL. Loopback only.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::{DevApi, WHAT_IT_IS_NOT};

/// A running HTTP front. Dropping it stops it; [`Server::shutdown`] also waits until it stopped.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// Closes the listener and every connection, watches included.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A panic inside was already reported by tokio.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

pub(crate) async fn serve(api: DevApi, address: SocketAddr) -> io::Result<(SocketAddr, Server)> {
    if !address.ip().is_loopback() {
        let why = format!(
            "{address} is not a loopback address: devapi has no authentication and stays on this machine"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "{WHAT_IT_IS_NOT}");
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(api, listener, stopped));
    Ok((
        address,
        Server {
            stop,
            task: Some(task),
        },
    ))
}

async fn accept(api: DevApi, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    // Dropping the set aborts the connections that are still open.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let api = api.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(api.clone(), request));
                        if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                            tracing::debug!(%error, "connection ended");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "accept failed"),
            }
        }
    }
}

async fn answer(
    api: DevApi,
    request: http::Request<Incoming>,
) -> Result<http::Response<crate::DevBody>, Infallible> {
    let (parts, body) = request.into_parts();
    match body.collect().await {
        Ok(body) => Ok(api.handle(&parts, &body.to_bytes())),
        Err(error) => {
            tracing::debug!(%error, "request body could not be read");
            Ok(api.handle(&parts, b""))
        }
    }
}
