//! One stream per kind. Objects go straight through `core::translate` into the inbox: nothing of the
//! original is kept, least of all its managedFields. An object that cannot be parsed is reported and
//! everything else goes on; no error ends a watch.

use std::{convert::Infallible, fmt::Debug, pin::pin, sync::Arc, time::Duration};

use crds::{AddressPool, AllocationBlock, LoadBalancerClass, NodePortPool};
use futures::TryStreamExt as _;
use k8s_openapi::{
    api::core::v1::{Namespace, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    core::{DeserializeGuard, Status},
    runtime::{
        utils::Backoff as _,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use model::{ServiceKey, Uid};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info, warn};

use super::metrics::{KindLabels, Metrics};
use crate::core::{
    effect::{Kind, Observed},
    record::{PoolKind, Rejection},
    translate,
};

/// Objects per page when streaming lists are off: a page is in memory as a whole.
const PAGE: u32 = 100;

/// The pause when the backoff has nothing to say; it never ends by itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A kind that is watched.
pub(super) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static
{
    /// Which.
    const KIND: Kind;

    /// The object as a record.
    fn observed(&self) -> Result<Observed, Rejection>;

    /// What its deletion says; `None` when it could never have been observed.
    fn deleted(meta: &ObjectMeta) -> Option<Observed>;
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::service(self).map(|record| Observed::Service(Arc::new(record)))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        let key = ServiceKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        Some(Observed::ServiceDeleted(
            key,
            Uid::from(meta.uid.as_deref()?),
        ))
    }
}

impl Watched for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::namespace(self).map(Observed::Namespace)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        Some(Observed::NamespaceDeleted(meta.name.as_deref()?.into()))
    }
}

impl Watched for LoadBalancerClass {
    const KIND: Kind = Kind::Class;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::class(self).map(Observed::Class)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        Some(Observed::ClassDeleted(meta.name.as_deref()?.into()))
    }
}

impl Watched for AddressPool {
    const KIND: Kind = Kind::AddressPool;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::address_pool(self).map(Observed::Pool)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        let name = meta.name.as_deref()?.into();
        Some(Observed::PoolDeleted(PoolKind::Address, name))
    }
}

impl Watched for NodePortPool {
    const KIND: Kind = Kind::NodePortPool;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::node_port_pool(self).map(Observed::Pool)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        let name = meta.name.as_deref()?.into();
        Some(Observed::PoolDeleted(PoolKind::NodePort, name))
    }
}

impl Watched for AllocationBlock {
    const KIND: Kind = Kind::Block;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::block(self).map(Observed::Block)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        allocator::block::BlockId::parse_name(meta.name.as_deref()?).map(Observed::BlockDeleted)
    }
}

/// The inbox was closed: the engine is gone.
#[derive(Debug, thiserror::Error)]
#[error("the engine does not take what the watch of {0} sees")]
pub(super) struct Unheard(&'static str);

/// Watches one kind for as long as the inbox is open.
pub(super) async fn watch<K: Watched>(
    client: Client,
    streaming_lists: bool,
    inbox: mpsc::Sender<Observed>,
    metrics: Metrics,
) -> Result<Infallible, Unheard> {
    let mut trouble = Trouble::new(K::KIND, crd_name::<K>());
    let mut streaming = streaming_lists;
    loop {
        let mut config = watcher::Config::default().page_size(PAGE);
        if streaming {
            config = config.streaming_lists();
        }
        let api = Api::<DeserializeGuard<K>>::all(client.clone());
        let mut events = pin!(watcher(api, config));
        loop {
            let error = match events.try_next().await {
                Ok(Some(event)) => {
                    trouble.over(&event);
                    if let Some(seen) = translated(event, &metrics) {
                        inbox
                            .send(seen)
                            .await
                            .map_err(|_closed| Unheard(K::KIND.as_str()))?;
                    }
                    continue;
                }
                // kube's watcher never ends; begin again if a later one does.
                Ok(None) => break,
                Err(error) => error,
            };
            metrics
                .watch_errors
                .get_or_create(&KindLabels { kind: K::KIND })
                .inc();
            if streaming && refuses_streaming(&error) {
                // The WatchList gate is off, which is Kubernetes 1.33's default.
                info!(
                    kind = K::KIND.as_str(),
                    "the API server has no streaming lists: listing in pages"
                );
                streaming = false;
                break;
            }
            let pause = trouble.pause(&error);
            sleep(pause).await;
        }
    }
}

/// What one watch event tells the engine; `None` when nothing.
fn translated<K: Watched>(
    event: Event<DeserializeGuard<K>>,
    metrics: &Metrics,
) -> Option<Observed> {
    match event {
        Event::Init => {
            metrics
                .watch_restarts
                .get_or_create(&KindLabels { kind: K::KIND })
                .inc();
            Some(Observed::Restarted(K::KIND))
        }
        Event::InitDone => Some(Observed::Synced(K::KIND)),
        Event::Apply(object) | Event::InitApply(object) => {
            let meta = object.meta();
            let unreadable = |error: String| {
                let name = full_name(meta);
                warn!(
                    kind = K::KIND.as_str(),
                    name, error, "an object cannot be parsed: it stays as last known"
                );
                metrics
                    .unreadable
                    .get_or_create(&KindLabels { kind: K::KIND })
                    .inc();
                Observed::Unreadable {
                    kind: K::KIND,
                    name,
                    error,
                }
            };
            Some(match &object.0 {
                Ok(object) => object
                    .observed()
                    .unwrap_or_else(|rejection| unreadable(rejection.message)),
                Err(invalid) => unreadable(invalid.error.clone()),
            })
        }
        Event::Delete(object) => {
            let deleted = K::deleted(object.meta());
            if deleted.is_none() {
                debug!(
                    kind = K::KIND.as_str(),
                    name = full_name(object.meta()),
                    "deleted, and never known"
                );
            }
            deleted
        }
    }
}

fn full_name(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// The definition's name if the kind is one of ours.
fn crd_name<K: Watched>() -> Option<String> {
    (K::group(&()) == crds::GROUP).then(|| format!("{}.{}", K::plural(&()), crds::GROUP))
}

/// The answer of the API server inside a watch error, if there was one.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

/// `sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled` (422).
fn refuses_streaming(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_))
        && status(error).is_some_and(Status::is_invalid)
}

/// Errors of one watch: the first is said, the rest are counted, the end is said.
struct Trouble {
    kind: Kind,
    crd: Option<String>,
    said: bool,
    backoff: DefaultBackoff,
}

impl Trouble {
    fn new(kind: Kind, crd: Option<String>) -> Self {
        Self {
            kind,
            crd,
            said: false,
            backoff: DefaultBackoff::default(),
        }
    }

    /// `Init` alone is no sign of life: listing in pages, it comes before the first request.
    fn over<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init => return,
            Event::Apply(_) | Event::Delete(_) | Event::InitApply(_) | Event::InitDone => {}
        }
        if std::mem::take(&mut self.said) {
            info!(kind = self.kind.as_str(), "the watch works again");
            self.backoff.reset();
        }
    }

    fn pause(&mut self, error: &watcher::Error) -> Duration {
        let kind = self.kind.as_str();
        // Routine: the server compacted its history or closed the connection.
        let routine = status(error).is_some_and(|status| status.code == 410);
        if routine || self.said {
            debug!(kind, %error, "the watch failed");
        } else {
            match (&self.crd, status(error)) {
                (Some(crd), Some(status)) if status.code == 404 => warn!(
                    kind,
                    "the API server does not know {crd}: run `portolan crds | kubectl apply -f -`"
                ),
                (_, Some(status)) => warn!(
                    kind,
                    code = status.code,
                    message = status.message,
                    "the watch failed: trying again"
                ),
                (_, None) => warn!(kind, %error, "the watch failed: trying again"),
            }
        }
        self.said |= !routine;
        self.backoff.next().unwrap_or(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests;
