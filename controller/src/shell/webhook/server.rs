//! The HTTPS server that the API server asks. Whoever reaches it may send anything: connections, their
//! time and the bytes that are read at once are bounded, and a panic ends one connection.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch as sync},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    super::{
        metrics::Metrics,
        run::{Ended, State},
    },
    reply::{self, Fault},
    unreserve,
};
use crate::core::admit::{Answer, Review};

/// Bounds of what strangers may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. When there is one more, the one that has been idle longest is closed.
    pub(super) connections: usize,
    /// For the TLS handshake.
    pub(super) handshake: Duration,
    /// For the headers of the next request, and so for being idle: longer than the 90 s after which
    /// the API server closes a connection itself, so that it never sends into one that is closed.
    pub(super) headers: Duration,
    /// For the body.
    pub(super) body: Duration,
    /// Bytes of one body: what the API server itself takes in one request.
    pub(super) bytes: usize,
    /// Bytes of all bodies at once.
    pub(super) all_bytes: usize,
    /// After this the engine must have answered: well below the time-out in the
    /// configuration (5 s).
    pub(super) answer: Duration,
    /// And after so much more it is not waited for any longer.
    pub(super) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(120),
            body: Duration::from_secs(2),
            bytes: 3 << 20,
            all_bytes: 9 << 20,
            answer: Duration::from_secs(2),
            grace: Duration::from_millis(500),
        }
    }
}

/// A question for the engine.
#[derive(Debug)]
pub(in crate::shell) struct Asked {
    pub(in crate::shell) review: Arc<Review>,
    /// When an answer must have been given.
    pub(in crate::shell) deadline: Instant,
    pub(in crate::shell) answer: oneshot::Sender<Answer>,
}

/// The pause after a failed accept (no file descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers one request.
#[derive(Clone)]
struct Desk {
    limits: Limits,
    questions: mpsc::Sender<Asked>,
    client: Client,
    metrics: Metrics,
    next: Arc<AtomicU64>,
    /// One permit for each KiB that may be read.
    bytes: Arc<Semaphore>,
}

/// A connection, as the acceptor sees it.
struct Peer {
    /// Milliseconds since the server began; [`BUSY`] during a request.
    idle_since: AtomicU64,
    close: Notify,
}

const BUSY: u64 = u64::MAX;

/// The server.
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
    pub(super) limits: Limits,
    /// For the engine; when full, the answer is 503 at once, and the failure policy decides.
    pub(super) questions: mpsc::Sender<Asked>,
    pub(super) client: Client,
    pub(super) metrics: Metrics,
    /// Draining: no new connection, and those that are there end after the request under way.
    pub(super) state: sync::Receiver<State>,
}

impl Server {
    /// Runs for as long as the process does; once that is on its way out, until everybody who had
    /// asked has an answer.
    pub(super) async fn serve(self) -> Ended {
        let Self {
            listener,
            acceptor,
            limits,
            questions,
            client,
            metrics,
            mut state,
        } = self;
        let desk = Desk {
            limits,
            questions,
            client,
            metrics,
            next: Arc::default(),
            bytes: Arc::new(Semaphore::new(limits.all_bytes / 1024)),
        };
        let began = Instant::now();
        let room = Arc::new(Semaphore::new(limits.connections));
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = draining(&mut state) => break,
                accepted = accept(&listener, &room, &peers) => accepted,
            };
            while connections.try_join_next().is_some() {}
            // Only the connection itself has another.
            peers.retain(|peer| Arc::strong_count(peer) > 1);
            let Some((stream, permit)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let peer = Arc::new(Peer {
                idle_since: AtomicU64::new(millis(began)),
                close: Notify::new(),
            });
            peers.push(Arc::clone(&peer));
            let connection = Connection {
                peer,
                began,
                desk: desk.clone(),
                acceptor: acceptor.clone(),
                state: state.clone(),
            };
            connections.spawn(async move {
                connection.run(stream).await;
                drop(permit);
            });
        }
        drop((listener, desk));
        while connections.join_next().await.is_some() {}
        // The engine has lost its last asker; this task ends with the process.
        std::future::pending().await
    }
}

/// The next connection and its place; `None`: none could be accepted.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    peers: &[Arc<Peer>],
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let stream = match listener.accept().await {
        Ok((stream, _peer)) => stream,
        Err(error) => {
            debug!(%error, "the webhook did not accept a connection");
            return None;
        }
    };
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some((stream, permit));
    }
    let since = |peer: &&Arc<Peer>| peer.idle_since.load(Ordering::Relaxed);
    let idlest = peers.iter().min_by_key(since);
    if let Some(idlest) = idlest.filter(|peer| since(peer) != BUSY) {
        idlest.close.notify_one();
    }
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    Some((stream, permit))
}

/// Until the process is on its way out.
async fn draining(state: &mut sync::Receiver<State>) {
    // An error says that nobody is left to say so.
    let _ended = state.wait_for(|state| state.draining).await;
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(BUSY - 1)
}

struct Connection {
    peer: Arc<Peer>,
    began: Instant,
    desk: Desk,
    acceptor: TlsAcceptor,
    state: sync::Receiver<State>,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let Self {
            peer,
            began,
            desk,
            acceptor,
            mut state,
        } = self;
        // A reply is one small write.
        let _best_effort = stream.set_nodelay(true);
        let handshake = timeout(desk.limits.handshake, acceptor.accept(stream));
        let stream = tokio::select! {
            biased;
            () = peer.close.notified() => return,
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(%error, "a TLS handshake with the webhook failed");
                    return;
                }
                Err(_elapsed) => return,
            },
        };
        let headers = desk.limits.headers;
        let answering = service_fn(|request: Request<Incoming>| {
            let (desk, peer) = (desk.clone(), &peer);
            async move {
                peer.idle_since.store(BUSY, Ordering::Relaxed);
                let reply = desk.answer(request).await;
                peer.idle_since.store(millis(began), Ordering::Relaxed);
                Ok::<_, Infallible>(reply)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(headers)
            .serve_connection(TokioIo::new(stream), answering);
        let mut connection = std::pin::pin!(connection);
        let told = async {
            tokio::select! {
                () = peer.close.notified() => {}
                () = draining(&mut state) => {}
            }
        };
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = told => {
                // hyper waits for a first request, if there was none; it need not come.
                if peer.idle_since.load(Ordering::Relaxed) != BUSY {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection to the webhook failed");
        }
    }
}

impl Desk {
    /// The reply to one request, whatever it is.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (outcome, response) = match self.judge(request).await {
            Ok((uid, answer)) => {
                let body = reply::reply(&uid, &answer).to_string();
                let outcome = reply::outcome(&answer);
                (outcome, respond(StatusCode::OK, "application/json", body))
            }
            Err(fault) => {
                debug!(%fault, "the webhook has no answer");
                let text = format!("{fault}\n");
                let response = respond(fault.status(), "text/plain; charset=utf-8", text);
                (fault.outcome(), response)
            }
        };
        self.metrics.reviewed(outcome, began.elapsed());
        response
    }

    async fn judge(&self, request: Request<Incoming>) -> Result<(String, Answer), Fault> {
        let began = Instant::now();
        let (body, read) = self.read(request).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let question = reply::question(id, &body)?;
        drop((body, read));
        let Some(review) = question.review else {
            return Ok((question.uid, Answer::unchanged()));
        };
        let deadline = began + self.limits.answer;
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            review,
            deadline,
            answer,
        };
        self.questions
            .try_send(asked)
            .map_err(|_full| Fault::Busy)?;
        let last = deadline + self.limits.grace;
        let answer = match timeout_at(last, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(Fault::Late),
        };
        if let Answer::Allow { unreserve, .. } = &answer {
            unreserve::all(&self.client, unreserve, last).await;
        }
        Ok((question.uid, answer))
    }

    /// The body, and the leave to keep it.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Fault> {
        if request.uri().path() != super::PATH {
            return Err(Fault::Path);
        }
        if request.method() != Method::POST {
            return Err(Fault::Method);
        }
        let limit = self.limits.bytes;
        let reading = async {
            let mut body = Limited::new(request.into_body(), limit);
            let mut read = BytesMut::new();
            let mut leave = self.leave(0).await?;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
                    true => Fault::TooLong(limit),
                    false => Fault::Slow,
                })?;
                let data = frame.into_data().unwrap_or_default();
                // Only what has come counts: who sends slowly keeps nobody else waiting.
                leave.merge(self.leave(data.len()).await?);
                read.extend_from_slice(&data);
            }
            Ok((read.freeze(), leave))
        };
        match timeout(self.limits.body, reading).await {
            Ok(read) => read,
            Err(_elapsed) => Err(Fault::Slow),
        }
    }

    /// Waits until so many bytes more may be kept.
    async fn leave(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).map_err(|_| Fault::Busy)?;
        let leave = Arc::clone(&self.bytes).acquire_many_owned(kibibytes).await;
        leave.map_err(|_closed| Fault::Busy)
    }
}

fn respond(status: StatusCode, media: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
