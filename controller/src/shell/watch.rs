//! One stream per kind. Objects go straight through `core::translate` into the inbox: nothing of the
//! original is kept, least of all its managedFields. An object that cannot be parsed is reported and
//! everything else goes on; no error ends a watch.

use std::{convert::Infallible, fmt::Debug, future::Future, pin::pin, sync::Arc, time::Duration};

use crds::{AddressPool, AllocationBlock, LoadBalancerClass, NodePortPool};
use daemon::{refuses_streaming, status};
use futures::TryStreamExt as _;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service},
        networking::v1::{IPAddress, ServiceCIDR},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::watcher::{self, Event, watcher},
};
use model::{ServiceKey, Uid};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info, warn};

use super::metrics::{KindLabels, Metrics, WatchedKind};
use crate::core::{
    effect::{Kind, Observed},
    record::{PoolKind, Rejection},
    reserve, translate,
};

/// Objects per page when streaming lists are off: a page is in memory as a whole.
const PAGE: u32 = 100;

/// The first pause after a failure; doubled each time. Each is shortened by up to a half, by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// No pause is longer: what has never worked is likely to lack something that somebody must do first.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Nor than this, when the watch has worked before: the API server restarts, and the first answer for
/// a new address must not wait long for the controller to notice that it is back.
const LONGEST_PAUSE_BETWEEN: Duration = Duration::from_secs(2);

/// What an API server does not have it gets by an upgrade only, which restarts it.
const ABSENT: Duration = Duration::from_secs(300);

/// What the watches of one inbox tell.
pub(super) trait Sight: Send + 'static {
    /// The kinds that it is about.
    type Kind: Copy + Into<WatchedKind>;

    /// An object cannot be parsed.
    fn unreadable(kind: Self::Kind, name: String, error: String) -> Self;
    /// A list begins.
    fn restarted(kind: Self::Kind) -> Self;
    /// The list is complete.
    fn synced(kind: Self::Kind) -> Self;
}

impl Sight for Observed {
    type Kind = Kind;

    fn unreadable(kind: Kind, name: String, error: String) -> Self {
        Self::Unreadable { kind, name, error }
    }

    fn restarted(kind: Kind) -> Self {
        Self::Restarted(kind)
    }

    fn synced(kind: Kind) -> Self {
        Self::Synced(kind)
    }
}

/// A kind that is watched.
pub(super) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static
{
    /// What is told of it, and so to whom.
    type Seen: Sight;

    /// Which.
    const KIND: <Self::Seen as Sight>::Kind;

    /// Not every API server has the resource: one that has not has no object of it.
    const OPTIONAL: bool = false;

    /// Only those with this label.
    const LABEL: Option<(&'static str, &'static str)> = None;

    /// What is to be known before the first of them, and again after each time that the API server
    /// may have been replaced.
    fn before(_client: &Client) -> impl Future<Output = kube::Result<Option<Self::Seen>>> + Send {
        std::future::ready(Ok(None))
    }

    /// The object as a record.
    fn observed(&self) -> Result<Self::Seen, Rejection>;

    /// What its deletion says; `None` when it could never have been observed.
    fn deleted(meta: &ObjectMeta) -> Option<Self::Seen>;
}

/// How Kubernetes calls a kind.
pub(super) fn word<K: Watched>() -> &'static str {
    kind::<K>().as_str()
}

fn kind<K: Watched>() -> WatchedKind {
    K::KIND.into()
}

impl Watched for Service {
    type Seen = Observed;

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
    type Seen = Observed;

    const KIND: Kind = Kind::Namespace;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::namespace(self).map(Observed::Namespace)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        Some(Observed::NamespaceDeleted(meta.name.as_deref()?.into()))
    }
}

impl Watched for LoadBalancerClass {
    type Seen = Observed;

    const KIND: Kind = Kind::Class;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::class(self).map(Observed::Class)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        Some(Observed::ClassDeleted(meta.name.as_deref()?.into()))
    }
}

impl Watched for AddressPool {
    type Seen = Observed;

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
    type Seen = Observed;

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
    type Seen = Observed;

    const KIND: Kind = Kind::Block;

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::block(self).map(Observed::Block)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        allocator::block::BlockId::parse_name(meta.name.as_deref()?).map(Observed::BlockDeleted)
    }
}

impl Watched for ServiceCIDR {
    type Seen = Observed;

    const KIND: Kind = Kind::ServiceCidr;
    const OPTIONAL: bool = true;

    async fn before(client: &Client) -> kube::Result<Option<Observed>> {
        let version = match client.apiserver_version().await {
            Ok(version) => server_version(&version.major, &version.minor),
            // It does not say.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Observed::ServerVersion(version)))
    }

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::service_cidr(self).map(Observed::ServiceCidr)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        Some(Observed::ServiceCidrDeleted(meta.name.as_deref()?.into()))
    }
}

impl Watched for IPAddress {
    type Seen = Observed;

    const KIND: Kind = Kind::Reservation;
    const OPTIONAL: bool = true;
    const LABEL: Option<(&'static str, &'static str)> = Some((reserve::LABEL, reserve::OURS));

    fn observed(&self) -> Result<Observed, Rejection> {
        translate::reservation(self).map(Observed::Reservation)
    }

    fn deleted(meta: &ObjectMeta) -> Option<Observed> {
        let address = meta.name.as_deref()?.parse().ok()?;
        Some(Observed::ReservationDeleted(address))
    }
}

/// `1` and `36`, `33+` at times.
fn server_version(major: &str, minor: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text.get(..end.unwrap_or(text.len()))?.parse().ok()
    };
    Some((number(major)?, number(minor)?))
}

/// The inbox was closed: the engine is gone.
#[derive(Debug, thiserror::Error)]
#[error("the engine does not take what the watch of {0} sees")]
pub(super) struct Unheard(&'static str);

/// Watches one kind for as long as the inbox is open.
pub(super) async fn watch<K: Watched>(
    client: Client,
    streaming_lists: bool,
    inbox: mpsc::Sender<K::Seen>,
    metrics: Metrics,
) -> Result<Infallible, Unheard> {
    let mut trouble = Trouble::new(kind::<K>(), crd_name::<K>());
    let mut streaming = streaming_lists;
    before::<K>(&client, &inbox, &mut trouble).await?;
    loop {
        let mut config = watcher::Config::default().page_size(PAGE);
        if let Some((label, value)) = K::LABEL {
            config = config.labels(&format!("{label}={value}"));
        }
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
                            .map_err(|_closed| Unheard(word::<K>()))?;
                    }
                    continue;
                }
                // kube's watcher never ends; begin again if a later one does.
                Ok(None) => break,
                Err(error) => error,
            };
            if K::OPTIONAL && trouble.is_absent(&error) {
                for seen in [K::Seen::restarted(K::KIND), K::Seen::synced(K::KIND)] {
                    inbox
                        .send(seen)
                        .await
                        .map_err(|_closed| Unheard(word::<K>()))?;
                }
                sleep(ABSENT).await;
                before::<K>(&client, &inbox, &mut trouble).await?;
                continue;
            }
            metrics
                .watch_errors
                .get_or_create(&KindLabels { kind: kind::<K>() })
                .inc();
            if streaming && refuses_streaming(&error) {
                // The WatchList gate is off, which is Kubernetes 1.33's default.
                info!(
                    kind = word::<K>(),
                    "the API server has no streaming lists: listing in pages"
                );
                streaming = false;
                break;
            }
            let pause = trouble.pause(&error);
            sleep(pause).await;
            before::<K>(&client, &inbox, &mut trouble).await?;
        }
    }
}

/// Tells what is to be known first, however often it must be asked for.
async fn before<K: Watched>(
    client: &Client,
    inbox: &mpsc::Sender<K::Seen>,
    trouble: &mut Trouble,
) -> Result<(), Unheard> {
    loop {
        match K::before(client).await {
            Ok(None) => return Ok(()),
            Ok(Some(seen)) => {
                let sent = inbox.send(seen).await;
                return sent.map_err(|_closed| Unheard(word::<K>()));
            }
            Err(error) => sleep(trouble.pause(&watcher::Error::InitialListFailed(error))).await,
        }
    }
}

/// What one watch event tells the engine; `None` when nothing.
fn translated<K: Watched>(event: Event<DeserializeGuard<K>>, metrics: &Metrics) -> Option<K::Seen> {
    match event {
        Event::Init => {
            metrics
                .watch_restarts
                .get_or_create(&KindLabels { kind: kind::<K>() })
                .inc();
            Some(K::Seen::restarted(K::KIND))
        }
        Event::InitDone => Some(K::Seen::synced(K::KIND)),
        Event::Apply(object) | Event::InitApply(object) => {
            let meta = object.meta();
            let unreadable = |error: String| {
                let name = full_name(meta);
                warn!(
                    kind = word::<K>(),
                    name, error, "an object cannot be parsed: it stays as last known"
                );
                metrics
                    .unreadable
                    .get_or_create(&KindLabels { kind: kind::<K>() })
                    .inc();
                K::Seen::unreadable(K::KIND, name, error)
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
                    kind = word::<K>(),
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

/// Errors of one watch: the first is said, the rest are counted, the end is said.
struct Trouble {
    kind: WatchedKind,
    crd: Option<String>,
    said: bool,
    /// It has worked once.
    worked: bool,
    /// One after the other.
    failures: u32,
}

impl Trouble {
    fn new(kind: WatchedKind, crd: Option<String>) -> Self {
        Self {
            kind,
            crd,
            said: false,
            worked: false,
            failures: 0,
        }
    }

    /// `Init` alone is no sign of life: listing in pages, it comes before the first request.
    fn over<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init => return,
            Event::Apply(_) | Event::Delete(_) | Event::InitApply(_) | Event::InitDone => {}
        }
        (self.worked, self.failures) = (true, 0);
        if std::mem::take(&mut self.said) {
            info!(kind = self.kind.as_str(), "the watch works again");
        }
    }

    /// The API server does not have the resource. What has worked once does not go: then it is an
    /// error like others.
    fn is_absent(&self, error: &watcher::Error) -> bool {
        !self.worked && status(error).is_some_and(|status| status.code == 404)
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
        let longest = match self.worked {
            true => LONGEST_PAUSE_BETWEEN,
            false => LONGEST_PAUSE,
        };
        // 2^10 times the first is longer than any.
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        doubled.min(longest).mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests;
