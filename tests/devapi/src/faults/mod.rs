//! Faults on the client's side: a `tower::Layer` that delays, refuses, loses and cuts by script, and logs every request.
//!
//! It works in front of devapi or of a real API server:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use devapi::DevApi;
//! use devapi::faults::{Fault, Faults, Match};
//! use tower::Layer;
//!
//! let api = DevApi::default();
//! let faults = Faults::new(1);
//! let client = kube::Client::new(faults.layer(api), "default");
//! // In front of a real one: kube::client::ClientBuilder::try_from(config)?.with_layer(&faults).build()
//!
//! faults.script(Match::verb("update").resource("services"), Fault::Conflict).times(1);
//! # drop(client);
//! assert!(faults.log().writes().is_empty());
//! # }
//! ```
//!
//! A client made this way does not retry by itself, so each fault reaches the code under test.

mod body;
mod log;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service, ServiceExt};

pub use self::log::{Logged, RequestLog};
use crate::request::{Query, Target, verb};

/// What one request asks for, as rules and the log see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// The HTTP method.
    pub method: String,
    /// The verb as RBAC names it: get, list, watch, create, update, patch, delete, deletecollection, other.
    pub verb: &'static str,
    /// The API group, empty for core.
    pub group: String,
    /// The plural resource name; empty for paths such as `/version`.
    pub resource: String,
    /// `status`, where given.
    pub subresource: Option<String>,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The object's name in the path.
    pub name: Option<String>,
    /// The path.
    pub path: String,
    /// The query string as sent.
    pub query: String,
    /// The User-Agent header.
    pub user_agent: String,
}

impl RequestInfo {
    fn of<B>(request: &Request<B>) -> Self {
        let uri = request.uri();
        let target = Target::parse(uri.path());
        let query = Query::parse(uri.query());
        let named = target.as_ref().is_some_and(|t| t.name.is_some());
        let verb = if target.is_some() {
            verb(request.method(), named, query.flag("watch"))
        } else {
            "other"
        };
        let part = |pick: fn(Target) -> Option<String>| target.clone().and_then(pick);
        let agent = request
            .headers()
            .get(USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        Self {
            method: request.method().to_string(),
            verb,
            group: part(|t| Some(t.group)).unwrap_or_default(),
            resource: part(|t| Some(t.plural)).unwrap_or_default(),
            subresource: part(|t| t.subresource),
            namespace: part(|t| t.namespace),
            name: part(|t| t.name),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            user_agent: agent.to_owned(),
        }
    }

    /// Whether the request may change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb,
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Wait (tokio time), then go on to the next rule.
    Delay(Duration),
    /// 409 Conflict; not performed.
    Conflict,
    /// 410 Expired; not performed.
    Expired,
    /// 429 with `Retry-After` in seconds; not performed.
    TooManyRequests(u32),
    /// This 5xx code; not performed.
    ServerError(u16),
    /// A watch (or any reply) breaks off after so many lines.
    Cut(usize),
    /// The request is performed, the connection breaks before its reply arrives.
    LostReply,
    /// The connection breaks before the request is performed: what a crash just before it looks like to the server.
    CrashBefore,
}

type Predicate = Arc<dyn Fn(&RequestInfo) -> bool + Send + Sync>;

/// Which requests a rule is for. What is not set matches all.
#[derive(Clone)]
pub struct Match(Vec<Predicate>);

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Match({} conditions)", self.0.len())
    }
}

impl Match {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self(Vec::new())
    }

    /// Requests with this verb.
    #[must_use]
    pub fn verb(verb: &'static str) -> Self {
        Self::any().when(move |r| r.verb == verb)
    }

    /// Requests that may change something.
    #[must_use]
    pub fn writes() -> Self {
        Self::any().when(RequestInfo::is_write)
    }

    /// Only on this plural resource, and not on its subresources.
    #[must_use]
    pub fn resource(self, plural: &str) -> Self {
        let plural = plural.to_owned();
        self.when(move |r| r.resource == plural && r.subresource.is_none())
    }

    /// Only on this subresource of this plural resource.
    #[must_use]
    pub fn subresource(self, plural: &str, subresource: &str) -> Self {
        let (plural, subresource) = (plural.to_owned(), subresource.to_owned());
        self.when(move |r| r.resource == plural && r.subresource.as_ref() == Some(&subresource))
    }

    /// Only on the object of this name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.when(move |r| r.name.as_ref() == Some(&name))
    }

    /// Only where this also holds.
    #[must_use]
    pub fn when(mut self, holds: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static) -> Self {
        self.0.push(Arc::new(holds));
        self
    }

    fn matches(&self, request: &RequestInfo) -> bool {
        self.0.iter().all(|holds| holds(request))
    }
}

#[derive(Debug)]
struct Rule {
    requests: Match,
    fault: Fault,
    /// Matching requests let through first.
    skip: usize,
    /// Times the rule still applies; `None`: for ever.
    left: Option<usize>,
    /// Probability per matching request.
    chance: f64,
}

#[derive(Debug)]
struct Script {
    rules: Vec<Rule>,
    rng: fastrand::Rng,
}

/// The layer: rules and log. Clones, and all services made from one, share both.
#[derive(Debug, Clone)]
pub struct Faults {
    script: Arc<Mutex<Script>>,
    log: RequestLog,
    cut: watch::Sender<u64>,
}

impl Faults {
    /// No rules yet. The seed is that of rules with a chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let script = Script {
            rules: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
        };
        Self {
            script: Arc::new(Mutex::new(script)),
            log: RequestLog::default(),
            cut: watch::channel(0).0,
        }
    }

    /// Adds a rule. Rules apply in the order they were added; the first that does not merely delay ends the search.
    pub fn script(&self, requests: Match, fault: Fault) -> Scripted<'_> {
        let mut script = self.lock();
        script.rules.push(Rule {
            requests,
            fault,
            skip: 0,
            left: None,
            chance: 1.0,
        });
        Scripted {
            faults: self,
            index: script.rules.len() - 1,
        }
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Breaks off every reply that is still being read: all open watches.
    pub fn cut_watches(&self) {
        self.cut.send_modify(|n| *n += 1);
    }

    /// Every request so far.
    #[must_use]
    pub fn log(&self) -> RequestLog {
        self.log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The delay and the fault for one request.
    fn judge(&self, request: &RequestInfo) -> (Duration, Option<Fault>) {
        let mut script = self.lock();
        let Script { rules, rng } = &mut *script;
        let mut wait = Duration::ZERO;
        for rule in rules
            .iter_mut()
            .filter(|r| r.left != Some(0) && r.requests.matches(request))
        {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.chance < 1.0 && rng.f64() >= rule.chance {
                continue;
            }
            rule.left = rule.left.map(|n| n - 1);
            match rule.fault {
                Fault::Delay(more) => wait += more,
                Fault::Conflict
                | Fault::Expired
                | Fault::TooManyRequests(_)
                | Fault::ServerError(_)
                | Fault::Cut(_)
                | Fault::LostReply
                | Fault::CrashBefore => return (wait, Some(rule.fault)),
            }
        }
        (wait, None)
    }
}

/// A rule just added, to be narrowed.
#[derive(Debug)]
pub struct Scripted<'a> {
    faults: &'a Faults,
    index: usize,
}

impl Scripted<'_> {
    fn set(self, change: impl FnOnce(&mut Rule)) -> Self {
        if let Some(rule) = self.faults.lock().rules.get_mut(self.index) {
            change(rule);
        }
        self
    }

    /// Applies only so many times.
    pub fn times(self, times: usize) -> Self {
        self.set(|rule| rule.left = Some(times))
    }

    /// Lets so many matching requests through first.
    pub fn after(self, requests: usize) -> Self {
        self.set(|rule| rule.skip = requests)
    }

    /// Applies with this probability, drawn from the seed.
    pub fn chance(self, chance: f64) -> Self {
        self.set(|rule| rule.chance = chance)
    }
}

impl<S> Layer<S> for Faults {
    type Service = FaultyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FaultyService {
            faults: self.clone(),
            inner: Arc::new(tokio::sync::Mutex::new(inner)),
        }
    }
}

/// The service [`Faults`] makes.
#[derive(Debug)]
pub struct FaultyService<S> {
    faults: Faults,
    // Shared rather than cloned: the services kube builds are not `Clone`. Held only while a call is started.
    inner: Arc<tokio::sync::Mutex<S>>,
}

impl<S> Clone for FaultyService<S> {
    fn clone(&self) -> Self {
        Self {
            faults: self.faults.clone(),
            inner: self.inner.clone(),
        }
    }
}

/// The body of a reply that may break off.
pub type FaultyBody = UnsyncBoxBody<Bytes, BoxError>;

impl<S, B> Service<Request<Body>> for FaultyService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<FaultyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (faults, inner) = (self.faults.clone(), self.inner.clone());
        Box::pin(async move {
            let info = RequestInfo::of(&request);
            let (wait, fault) = faults.judge(&info);
            let entry = faults.log.begin(info, fault);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            if let Some(refusal) = fault.and_then(refusal) {
                let reply = refusal?;
                faults.log.end(entry, reply.status());
                return Ok(reply);
            }
            let reply = {
                let mut service = inner.lock().await;
                service.ready().await.map_err(Into::into)?.call(request)
            };
            let reply = reply.await.map_err(Into::into)?;
            faults.log.end(entry, reply.status());
            if fault == Some(Fault::LostReply) {
                return Err(broken("the reply was lost"));
            }
            let lines = if let Some(Fault::Cut(lines)) = fault {
                Some(lines)
            } else {
                None
            };
            Ok(reply.map(|inner| body::cut(inner, lines, faults.cut.subscribe())))
        })
    }
}

fn broken(why: &'static str) -> BoxError {
    Box::new(io::Error::new(io::ErrorKind::ConnectionReset, why))
}

/// The reply of a fault that keeps the request from being performed.
fn refusal(fault: Fault) -> Option<Result<Response<FaultyBody>, BoxError>> {
    let status = |code: u16, reason: &str, retry: Option<u32>| {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut details = json!({});
        if let Some(seconds) = retry {
            details = json!({"retryAfterSeconds": seconds});
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
            "message": format!("scripted fault: {reason}"), "code": code.as_u16(), "details": details,
        });
        let body = Full::new(Bytes::from(status.to_string()))
            .map_err(BoxError::from)
            .boxed_unsync();
        let mut reply = Response::new(body);
        *reply.status_mut() = code;
        reply
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = retry {
            reply
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Some(Ok(reply))
    };
    match fault {
        Fault::Delay(_) | Fault::Cut(_) | Fault::LostReply => None,
        Fault::Conflict => status(409, "Conflict", None),
        Fault::Expired => status(410, "Expired", None),
        Fault::TooManyRequests(seconds) => status(429, "TooManyRequests", Some(seconds)),
        Fault::ServerError(503) => status(503, "ServiceUnavailable", None),
        Fault::ServerError(504) => status(504, "Timeout", None),
        Fault::ServerError(code) => status(code, "InternalError", None),
        Fault::CrashBefore => Some(Err(broken(
            "the connection broke before the request was sent",
        ))),
    }
}
