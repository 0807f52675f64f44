//! A listener between the API server and a webhook that passes bytes on and notes how long each
//! request on each connection waited for its answer: what the API server sees, but for its own work.
//! HTTP/1.1 has one request at a time on a connection, so that the first bytes of a request and the
//! last bytes before the next one tell.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// No request stops for so long before it is whole.
const IDLE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Noted {
    waits: Mutex<Vec<f64>>,
    connections: AtomicUsize,
}

pub struct Tap {
    listener: TcpListener,
    noted: Arc<Noted>,
}

impl Tap {
    pub async fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self {
            listener,
            noted: Arc::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.listener.local_addr().unwrap())
    }

    /// Passes on to there from now on.
    pub fn to(self, server: SocketAddr) -> Notes {
        let noted = Arc::clone(&self.noted);
        tokio::spawn(async move {
            loop {
                let (client, _peer) = self.listener.accept().await.unwrap();
                let noted = Arc::clone(&self.noted);
                tokio::spawn(async move {
                    // Until the webhook is there the API server is refused, as without us.
                    if let Ok(server) = TcpStream::connect(server).await {
                        pass(client, server, &noted).await;
                    }
                });
            }
        });
        Notes(noted)
    }
}

pub struct Notes(Arc<Noted>);

impl Notes {
    /// The waits since the last time, in milliseconds.
    pub fn take(&self) -> Vec<f64> {
        std::mem::take(&mut *self.0.waits.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, noted: &Noted) {
    let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
    noted.connections.fetch_add(1, Ordering::Relaxed);
    let (mut asked, mut answered) = ([0; 16_384], [0; 16_384]);
    let mut since: Option<Instant> = None;
    let mut heard = Instant::now();
    let mut wait = None;
    // The first turn is the greeting of TLS.
    let mut turns = 0;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { break };
                if let Some(wait) = wait.take() {
                    note(noted, &mut turns, wait);
                    since = None;
                }
                // A greeting that needs no answer, and nothing for a while.
                if heard.elapsed() > IDLE {
                    since = None;
                }
                heard = Instant::now();
                since.get_or_insert(heard);
                if server.write_all(&asked[..read]).await.is_err() { break }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { break };
                if client.write_all(&answered[..read]).await.is_err() { break }
                wait = since.map(|since| since.elapsed().as_secs_f64() * 1_000.0);
            }
        }
    }
    if let Some(wait) = wait {
        note(noted, &mut turns, wait);
    }
}

fn note(noted: &Noted, turns: &mut usize, wait: f64) {
    *turns += 1;
    if *turns > 1 {
        noted.waits.lock().unwrap().push(wait);
    }
}
