//! The proxy in front of moto: it logs calls and injects faults, and decides nothing about AWS.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::query::{self, Service};

/// As [`Fault::nth`]: not one call but all.
pub const EVERY: usize = 0;

/// What shall go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// In which action, such as `CreateListener`; `*` is any.
    pub action: &'static str,
    /// In which of its calls from now on: 1 is the next, [`EVERY`] is each.
    pub nth: usize,
    /// How.
    pub what: What,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Not carried out: ELB says 400 `ThrottlingException`, EC2 503 `RequestLimitExceeded`.
    Throttle,
    /// Not carried out: this HTTP status, 500 and the like.
    Fail(u16),
    /// Not carried out: 403, the policy does not allow it.
    Deny,
    /// Carried out, and only begun after this time.
    Delay(Duration),
    /// Carried out, and then the connection is dropped.
    LoseReply,
    /// The connection is dropped, and nothing is carried out.
    Refuse,
}

/// A call as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whom it was for.
    pub service: Service,
    /// Such as `CreateListener`.
    pub action: String,
    /// The form without Action and Version, as sent: `Targets.member.1.Id`.
    pub parameters: BTreeMap<String, String>,
    /// Whether moto saw it.
    pub forwarded: bool,
    /// What the caller was told; nothing when the connection was dropped, or while it runs.
    pub status: Option<u16>,
}

#[derive(Debug)]
struct Stop {
    left: usize,
    with_reply: bool,
}

/// The log and what is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) calls: Vec<Call>,
    /// How many calls were forgotten: a running call knows its number from the beginning.
    forgotten: usize,
    faults: Vec<(Fault, usize)>,
    stop: Option<Stop>,
}

impl Script {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push((fault, 0));
    }

    pub(crate) fn stop_after(&mut self, n: usize, with_reply: bool) {
        let left = n;
        self.stop = Some(Stop { left, with_reply });
    }

    pub(crate) fn resume(&mut self) {
        self.faults.clear();
        self.stop = None;
    }

    pub(crate) fn forget(&mut self) {
        self.forgotten += self.calls.len();
        self.calls.clear();
    }

    /// Logs a call: its number, and what goes wrong with it. A stop comes before any fault.
    fn enter(&mut self, call: Call) -> (usize, Option<What>) {
        let mut what = None;
        for (fault, seen) in &mut self.faults {
            if fault.action == "*" || fault.action == call.action {
                *seen += 1;
                if fault.nth == EVERY || fault.nth == *seen {
                    what = what.or(Some(fault.what));
                }
            }
        }
        if let Some(stop) = &mut self.stop {
            match stop.left {
                0 => what = Some(What::Refuse),
                1 if !stop.with_reply => what = Some(What::LoseReply),
                _ => {}
            }
            stop.left = stop.left.saturating_sub(1);
        }
        self.calls.push(call);
        (self.forgotten + self.calls.len() - 1, what)
    }

    fn note(&mut self, number: usize, of: impl FnOnce(&mut Call)) {
        let index = number.checked_sub(self.forgotten);
        if let Some(call) = index.and_then(|index| self.calls.get_mut(index)) {
            of(call);
        }
    }
}

/// A running proxy. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(moto: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let script = Arc::default();
        let task = tokio::spawn(accept(listener, moto, Arc::clone(&script)));
        Ok(Self { port, script, task })
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        locked(&self.script)
    }
}

fn locked(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, moto: u16, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return; // out of files: the test will see refused connections
        };
        while connections.try_join_next().is_some() {}
        let script = Arc::clone(&script);
        let service = service_fn(move |request| serve(request, moto, Arc::clone(&script)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            // An error is a dropped connection, most often by ourselves.
            let _ = connection.await;
        });
    }
}

/// hyper drops the connection when it gets this.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped")]
struct Dropped;

async fn serve(
    request: Request<Incoming>,
    moto: u16,
    script: Arc<Mutex<Script>>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let in_path = parts.uri.query().unwrap_or_default().as_bytes();
    let pairs = form_urlencoded::parse(in_path).chain(form_urlencoded::parse(&body));
    let mut parameters: BTreeMap<_, _> = pairs
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let action = parameters.remove("Action").unwrap_or_default();
    let version = parameters.remove("Version");
    let signed = parts.headers.get(AUTHORIZATION);
    let signed = signed.and_then(|value| value.to_str().ok());
    let service = Service::of(signed, version.as_deref());
    let (number, what) = locked(&script).enter(Call {
        service,
        action: action.clone(),
        parameters,
        forwarded: false,
        status: None,
    });

    let mut lost = false;
    match what {
        None => {}
        Some(What::Delay(time)) => tokio::time::sleep(time).await,
        Some(What::LoseReply) => lost = true,
        Some(What::Refuse) => return Err(Dropped),
        Some(What::Throttle) => return Ok(told(&script, number, throttle(service))),
        Some(What::Deny) => return Ok(told(&script, number, deny(service, &action))),
        Some(What::Fail(status)) => return Ok(told(&script, number, fail(service, status))),
    }
    locked(&script).note(number, |call| call.forwarded = true);
    let mut request = Request::from_parts(parts, Full::from(body));
    // We send the whole body on a connection of its own.
    for hop in [CONNECTION, TRANSFER_ENCODING] {
        request.headers_mut().remove(hop);
    }
    let reply = query::send(moto, request).await.map_err(|_| Dropped)?;
    if lost {
        return Err(Dropped);
    }
    let (mut parts, body) = reply.into_parts();
    for hop in [CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(hop);
    }
    parts.version = http::Version::HTTP_11;
    let reply = Response::from_parts(parts, Full::from(body));
    Ok(told(&script, number, reply))
}

fn told(
    script: &Mutex<Script>,
    number: usize,
    reply: Response<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    let status = reply.status().as_u16();
    locked(script).note(number, |call| call.status = Some(status));
    reply
}

fn throttle(service: Service) -> Response<Full<Bytes>> {
    match service {
        Service::Ec2 => error(
            service,
            503,
            "RequestLimitExceeded",
            "Request limit exceeded.",
        ),
        Service::Elbv2 | Service::Iam => {
            error(service, 400, "ThrottlingException", "Rate exceeded")
        }
    }
}

fn fail(service: Service, status: u16) -> Response<Full<Bytes>> {
    let code = match (service, status) {
        (Service::Ec2, 503) => "Unavailable",
        (Service::Ec2, _) => "InternalError",
        (Service::Elbv2 | Service::Iam, 503) => "ServiceUnavailable",
        (Service::Elbv2 | Service::Iam, _) => "InternalFailure",
    };
    error(service, status, code, "An internal error has occurred")
}

fn deny(service: Service, action: &str) -> Response<Full<Bytes>> {
    let user =
        "User: arn:aws:sts::123456789012:assumed-role/portolan/test is not authorized to perform";
    let why = "because no identity-based policy allows the";
    match service {
        Service::Ec2 => {
            let text = format!(
                "You are not authorized to perform this operation. {user}: ec2:{action} {why} ec2:{action} action"
            );
            error(service, 403, "UnauthorizedOperation", &text)
        }
        Service::Elbv2 | Service::Iam => {
            let name = format!("elasticloadbalancing:{action}");
            error(
                service,
                403,
                "AccessDenied",
                &format!("{user}: {name} {why} {name} action"),
            )
        }
    }
}

/// The two shapes of an error in XML: EC2's, and that of the query protocol.
fn error(service: Service, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let inner = format!("<Code>{code}</Code><Message>{message}</Message>");
    let id = "00000000-0000-0000-0000-000000000000";
    let sender = if status < 500 { "Sender" } else { "Receiver" };
    let body = match service {
        Service::Ec2 => format!(
            "<Response><Errors><Error>{inner}</Error></Errors><RequestID>{id}</RequestID></Response>"
        ),
        Service::Elbv2 | Service::Iam => format!(
            "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
             <Error><Type>{sender}</Type>{inner}</Error><RequestId>{id}</RequestId></ErrorResponse>"
        ),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static("text/xml"));
    response
}
