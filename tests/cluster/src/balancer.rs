//! One loopback address for several servers, each connection to the next of them, as a Service's
//! clusterIP would be: for webhooks of controllers that run in the test's own process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The load balancer; ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    backends: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Without anything behind it: connections are closed at once.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let backends = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let task = tokio::spawn(forward(listener, Arc::clone(&backends)));
        Ok(Self {
            address,
            backends,
            task,
        })
    }

    /// `https://` and where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on new connections go here, too.
    pub fn add(&self, backend: SocketAddr) {
        self.change(|backends| backends.push(backend));
    }

    /// And to this one no more; what it has stays.
    pub fn remove(&self, backend: SocketAddr) {
        self.change(|backends| backends.retain(|known| *known != backend));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<SocketAddr>)) {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut backends);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, backends: Arc<Mutex<Vec<SocketAddr>>>) {
    let turn = AtomicUsize::new(0);
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut client, _peer)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let mut backends = {
            let backends = backends.lock().unwrap_or_else(PoisonError::into_inner);
            backends.clone()
        };
        if !backends.is_empty() {
            let first = turn.fetch_add(1, Ordering::Relaxed) % backends.len();
            backends.rotate_left(first);
        }
        connections.spawn(async move {
            for backend in backends {
                // Whoever does not listen is passed over: its endpoint would be gone in a moment.
                if let Ok(mut server) = TcpStream::connect(backend).await {
                    let _ended = copy_bidirectional(&mut client, &mut server).await;
                    return;
                }
            }
        });
    }
}
