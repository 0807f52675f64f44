//! The hands of the checks: raw requests, and expectations that say what was seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::{Method, Request};
use serde_json::{Value, json};

use super::Cluster;

/// Longest wait for anything a server does by itself: a definition to be served, a watch event to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was expected and what was seen.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

impl Failed {
    /// A failure in words.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Self {
        Self(format!("request failed: {error:?}"))
    }
}

impl From<http::Error> for Failed {
    fn from(error: http::Error) -> Self {
        Self(format!("bad request: {error}"))
    }
}

type Answer<T = Value> = Result<T, Failed>;

/// A refusal as it came back.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A cluster, a client and a namespace of one's own.
pub struct Probe<'a> {
    pub(super) cluster: &'a dyn Cluster,
    pub(super) client: kube::Client,
    pub(super) namespace: String,
}

impl std::fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl<'a> Probe<'a> {
    /// Makes the namespace.
    ///
    /// # Errors
    /// The cluster refuses it.
    pub async fn new(cluster: &'a dyn Cluster) -> Answer<Self> {
        let namespace = unique("check");
        let probe = Self {
            cluster,
            client: cluster.client(),
            namespace,
        };
        probe
            .post(
                "/api/v1/namespaces",
                json!({"metadata": {"name": probe.namespace}}),
            )
            .await?;
        Ok(probe)
    }

    pub(super) async fn clean_up(&self) {
        // Nothing depends on it having worked.
        let _ = self
            .delete(&format!("/api/v1/namespaces/{}", self.namespace))
            .await;
    }

    /// The path of this namespace's Services, or of one of them.
    pub(super) fn services(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/services{rest}", self.namespace)
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: String,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header("Content-Type", kind);
        }
        let request = request
            .body(body.into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        Ok(self.send(Method::GET, path, "", String::new()).await?)
    }

    pub(super) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = Request::builder()
            .uri(path)
            .header("Accept", accept)
            .body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        Ok(self
            .send(Method::POST, path, "application/json", body.to_string())
            .await?)
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Answer {
        Ok(self
            .send(Method::PUT, path, "application/json", body.to_string())
            .await?)
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        Ok(self.send(Method::DELETE, path, "", String::new()).await?)
    }

    pub(super) async fn merge(&self, path: &str, body: Value) -> Answer {
        Ok(self
            .send(Method::PATCH, path, MERGE, body.to_string())
            .await?)
    }

    /// Creates a Service of this name and spec.
    pub(super) async fn service(&self, name: &str, spec: Value) -> Answer {
        self.post(&self.services(""), service(name, spec)).await
    }

    /// A request that must be refused.
    pub(super) async fn refused(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Value,
    ) -> Answer<Refusal> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        match self.send(method, path, kind, body).await {
            Err(kube::Error::Api(status)) => Ok(Refusal {
                code: status.code,
                reason: status.reason,
                message: status.message,
            }),
            Err(other) => Err(other.into()),
            Ok(value) => Err(Failed::new(format!("was accepted: {value}"))),
        }
    }

    /// A Service whose creation must be refused as invalid with these words.
    pub(super) async fn invalid_service(&self, spec: Value, words: &str) -> Answer<()> {
        let body = service("wrong", spec);
        self.refused(Method::POST, &self.services(""), JSON, body)
            .await?
            .says(422, "Invalid", words)
    }

    /// A watch: lines as JSON, each waited for with patience.
    pub(super) async fn watch(&self, path: &str) -> Answer<Watch> {
        let request = Request::builder().uri(path).body(Vec::new())?;
        let lines = self.client.request_stream(request).await?.lines();
        let events = lines
            .map_err(|e| Failed::new(format!("watch broke: {e}")))
            .and_then(|line| async move {
                serde_json::from_str(&line)
                    .map_err(|e| Failed::new(format!("no JSON: {e}: {line}")))
            });
        Ok(Watch(events.boxed()))
    }

    /// Repeats a request until it is answered: definitions and compaction take a moment on a real server.
    pub(super) async fn eventually(&self, path: &str) -> Answer {
        let started = tokio::time::Instant::now();
        loop {
            match self.get(path).await {
                Ok(value) => return Ok(value),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// A name no other check or run uses.
pub(super) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{count}-{:08x}", fastrand::u32(..))
}

pub(super) fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// The smallest valid ports.
pub(super) fn http_port() -> Value {
    json!([{"port": 80}])
}

impl Refusal {
    pub(super) fn says(&self, code: u16, reason: &str, words: &str) -> Answer<()> {
        let fits = self.code == code && self.reason == reason && self.message.contains(words);
        let seen = || {
            format!(
                "expected {code} {reason} with \"{words}\", got {} {} \"{}\"",
                self.code, self.reason, self.message
            )
        };
        if fits {
            Ok(())
        } else {
            Err(Failed::new(seen()))
        }
    }
}

/// An open watch.
pub(super) struct Watch(futures::stream::BoxStream<'static, Answer>);

impl Watch {
    pub(super) async fn next(&mut self) -> Answer {
        match tokio::time::timeout(PATIENCE, self.0.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => Err(Failed::new("the watch ended instead of sending an event")),
            Err(_) => Err(Failed::new("no event came")),
        }
    }

    /// The next event that is no bookmark: its type and the object's name.
    pub(super) async fn change(&mut self) -> Answer<(String, Value)> {
        loop {
            let mut event = self.next().await?;
            let kind = at(&event, "/type").as_str().unwrap_or_default().to_owned();
            if kind != "BOOKMARK" {
                let object = event.get_mut("object").map(Value::take).unwrap_or_default();
                return Ok((kind, object));
            }
        }
    }

    pub(super) async fn expect(&mut self, kind: &str, name: &str) -> Answer {
        let (seen, object) = self.change().await?;
        let seen_name = at(&object, "/metadata/name").as_str().unwrap_or_default();
        if seen == kind && seen_name == name {
            return Ok(object);
        }
        Err(Failed::new(format!(
            "expected {kind} of {name}, got {seen} of {object}"
        )))
    }

    pub(super) async fn ends(&mut self) -> Answer<()> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(event))) if at(&event, "/type") == "BOOKMARK" => {}
                Ok(Some(other)) => {
                    return Err(Failed::new(format!(
                        "expected the end of the watch, got {other:?}"
                    )));
                }
                Err(_) => return Err(Failed::new("the watch did not end")),
            }
        }
    }
}

/// The value at a JSON pointer, null where there is none.
pub(super) fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The resourceVersion of an object or list.
pub(super) fn version(value: &Value) -> String {
    at(value, "/metadata/resourceVersion")
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Compares the value at a pointer.
pub(super) fn same(value: &Value, pointer: &str, expected: impl Into<Value>) -> Answer<()> {
    let (seen, expected) = (at(value, pointer), expected.into());
    if *seen == expected {
        return Ok(());
    }
    Err(Failed::new(format!(
        "{pointer}: expected {expected}, got {seen} in {value}"
    )))
}

/// A condition in words.
pub(super) fn ensure(holds: bool, words: impl Into<String>) -> Answer<()> {
    if holds {
        Ok(())
    } else {
        Err(Failed::new(words))
    }
}

/// Sets the value at a path of keys.
pub(super) fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    crate::resource::put(value, path, new.into());
}
