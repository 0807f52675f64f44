//! A small in-process Kubernetes API server for tests and the demo.
//!
//! [`DevApi`] is a `tower::Service`, so `devapi.client()` gives a `kube::Client` that needs no port; `devapi.serve(..)`
//! puts HTTP/1.1 on loopback in front of the same state for kubectl. [`WHAT_IT_IS_NOT`] says where it stops. What it
//! claims to do is written as a list of checks in [`conformance`], which the real API server must pass as well.
//! [`faults`] is a client-side layer that delays, refuses, loses and cuts, in front of either.

mod call;
pub mod conformance;
mod crd;
mod decode;
mod delete;
mod discovery;
mod error;
mod event;
pub mod faults;
mod http_front;
mod metadata;
mod names;
mod patch;
mod read;
mod request;
mod resource;
mod schema;
mod service;
mod store;
mod strategic;
mod table;
mod watch;
mod write;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Map, json};

use crate::call::Call;
use crate::error::{ApiError, Result};
use crate::request::{Query, Shape, Target};
use crate::store::{Key, Object, Store};
use crate::write::Written;

pub use crate::http_front::Server;

/// Where this server stops. `serve` logs it; the demo prints it.
pub const WHAT_IT_IS_NOT: &str = "devapi is a stand-in for kube-apiserver in tests and demos. It has no authentication, \
no RBAC, no webhooks or other admission, no persistence and no controllers; it allocates nothing (clusterIPs, nodePorts \
and ipFamilies stay empty for Portolan to fill in), knows only Services, Nodes, Namespaces, EndpointSlices, Events, \
Leases and custom resources, speaks JSON only (no protobuf, so `kubectl create namespace` needs -f), keeps no field ownership (server-side apply merges and never removes), converts nothing between versions of a custom resource and judges of a \
schema neither allOf, anyOf, oneOf, not, multipleOf, minProperties nor exclusive bounds.";

/// The response body: one chunk, or one chunk per batch of watch events.
pub type DevBody = UnsyncBoxBody<Bytes, Infallible>;

/// What can be set when a [`DevApi`] is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Changes kept for watches; a watch that falls further behind gets 410.
    pub history: usize,
    /// Time between bookmarks on a watch that asks for them.
    pub bookmarks: Duration,
    /// Seed of uids and generated names.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        // A real API server sends bookmarks about once a minute.
        Self {
            history: 16_384,
            bookmarks: Duration::from_secs(60),
            seed: fastrand::u64(..),
        }
    }
}

struct Shared {
    store: Mutex<Store>,
    rng: Mutex<fastrand::Rng>,
    options: Options,
}

/// The server. Clones share their state.
#[derive(Clone)]
pub struct DevApi {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for DevApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevApi")
            .field("resourceVersion", &self.lock().rv())
            .finish_non_exhaustive()
    }
}

impl Default for DevApi {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl DevApi {
    /// An empty cluster with the namespaces `default` and `kube-system`.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut store = Store::new(options.history);
        resource::built_in()
            .into_iter()
            .for_each(|r| store.serve(r));
        let rng = Mutex::new(fastrand::Rng::with_seed(options.seed));
        let api = Self {
            shared: Arc::new(Shared {
                store: Mutex::new(store),
                rng,
                options,
            }),
        };
        for name in ["default", "kube-system"] {
            let body = json!({"metadata": {"name": name}}).to_string();
            let target = Target::parse("/api/v1/namespaces");
            let call = target.map(|t| Call::new(&api, t, Query::default()));
            if let Some(Ok(call)) = call {
                // Cannot fail: the name is good and free.
                let _ = write::create(&call, body.as_bytes());
            }
        }
        api
    }

    /// A client that talks to this server in process. Needs a tokio runtime around it.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Serves HTTP/1.1 on a loopback address until the handle is shut down or dropped.
    ///
    /// # Errors
    /// The address cannot be bound, or is not a loopback address.
    pub async fn serve(&self, address: SocketAddr) -> std::io::Result<(SocketAddr, Server)> {
        http_front::serve(self.clone(), address).await
    }

    /// A kubeconfig for a server that listens on `address`.
    #[must_use]
    pub fn kubeconfig(&self, address: SocketAddr) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: devapi\nclusters:\n- name: devapi\n  cluster:\n    \
             server: http://{address}\ncontexts:\n- name: devapi\n  context:\n    cluster: devapi\n    \
             user: nobody\n    namespace: default\nusers:\n- name: nobody\n  user: {{}}\n"
        )
    }

    /// Forgets the history: every watch that is behind, or starts from an older version, gets 410.
    pub fn compact(&self) {
        self.lock().compact();
    }

    /// The latest resourceVersion.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.lock().rv()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.shared
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn bookmark_interval(&self) -> Duration {
        self.shared.options.bookmarks
    }

    fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(
            &mut self
                .shared
                .rng
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// A version 4 UUID (RFC 9562 5.4) from the seeded generator.
    fn uid(&self) -> String {
        self.random(|rng| {
            let (time, node) = (rng.u64(..1 << 48), rng.u64(..1 << 48));
            let (high, low) = (time >> 16, time & 0xffff);
            let (version, variant) = (rng.u16(0x4000..0x5000), rng.u16(0x8000..0xc000));
            format!("{high:08x}-{low:04x}-{version:04x}-{variant:04x}-{node:012x}")
        })
    }

    /// The keys of a resource's objects, of one namespace or all.
    fn keys(&self, res: &resource::Resource, namespace: Option<&str>) -> Vec<Key> {
        let store = self.lock();
        let objects = store.range(&res.table, namespace, None);
        objects.map(|(key, _)| key.clone()).collect()
    }

    /// Every namespaced object of a namespace, by resource. The two faces of Events count once.
    fn contents(&self, namespace: &str) -> Vec<(Arc<resource::Resource>, Vec<Key>)> {
        let resources: Vec<_> = self.lock().resources().cloned().collect();
        let mut seen = std::collections::HashSet::new();
        let once = resources
            .into_iter()
            .filter(|r| r.namespaced && seen.insert(r.table.clone()));
        once.map(|r| (r.clone(), self.keys(&r, Some(namespace))))
            .filter(|(_, keys)| !keys.is_empty())
            .collect()
    }

    fn terminating_namespace(&self, namespace: &str) -> Option<Arc<Object>> {
        let found = self
            .lock()
            .get("namespaces", &(String::new(), namespace.to_owned()))?;
        (!resource::at(&found.value, &["metadata", "deletionTimestamp"]).is_null()).then_some(found)
    }

    /// Answers one request whose body was read.
    pub(crate) fn handle(&self, parts: &http::request::Parts, body: &[u8]) -> Response<DevBody> {
        match self.answer(parts, body) {
            Ok(response) => response,
            Err(error) => {
                let code =
                    StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                respond(code, error.status().to_string().into())
            }
        }
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8]) -> Result<Response<DevBody>> {
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|v: &HeaderValue| v.to_str().ok())
                .unwrap_or_default()
        };
        let path = parts.uri.path();
        if parts.method == Method::GET
            && let Some(value) = discovery::page(self, path)
        {
            return Ok(respond(StatusCode::OK, value.to_string().into()));
        }
        let target = Target::parse(path).ok_or_else(ApiError::no_such_path)?;
        let query = Query::parse(parts.uri.query());
        let shape = Shape::of(parts);
        if header(CONTENT_TYPE).contains("protobuf") && !body.is_empty() {
            return Err(ApiError::unsupported_media_type("application/json"));
        }
        let call = Call::new(self, target, query)?;
        let named = call.target.name.is_some();
        let plain = call.target.subresource.is_none();
        let watch = call.query.flag("watch");
        match request::verb(&parts.method, named, watch) {
            "watch" => {
                let stream = watch::start(&call, shape)?.map(|chunk| Ok(Frame::data(chunk)));
                Ok(Response::builder()
                    .header(CONTENT_TYPE, "application/json")
                    .body(StreamBody::new(stream).boxed_unsync())
                    .map_err(ApiError::internal)?)
            }
            "get" => {
                let object = read::get(&call)?;
                Ok(respond(StatusCode::OK, read::encode(&call, shape, &object)))
            }
            "list" => Ok(respond(StatusCode::OK, read::list(&call, shape)?)),
            "create" if !named => Ok(written(&call, shape, write::create(&call, body)?)),
            "update" if named => Ok(written(&call, shape, write::update(&call, body)?)),
            "patch" if named => Ok(written(
                &call,
                shape,
                write::patch(&call, header(CONTENT_TYPE), body)?,
            )),
            "delete" if plain => Ok(written(&call, shape, delete::one(&call, body)?)),
            "deletecollection" => {
                let gone = delete::collection(&call, body)?;
                let metadata = Map::from_iter([(
                    "resourceVersion".to_owned(),
                    self.resource_version().to_string().into(),
                )]);
                Ok(respond(
                    StatusCode::OK,
                    read::list_of(&call, shape, &gone, metadata),
                ))
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }
}

fn written(call: &Call<'_>, shape: Shape, written: Written) -> Response<DevBody> {
    match written {
        Written::Object(code, object) => respond(code, read::encode(call, shape, &object)),
        Written::Computed(code, value) => respond(code, call.show_value(value).to_string().into()),
        Written::Status(value) => respond(StatusCode::OK, value.to_string().into()),
    }
}

fn respond(code: StatusCode, body: Bytes) -> Response<DevBody> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl tower::Service<Request<Body>> for DevApi {
    type Response = Response<DevBody>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            Ok(api.handle(&parts, &body))
        }
        .boxed()
    }
}
