//! One effect becomes one request, one reply becomes one input. Pure but for [`perform`], which
//! sends. Every write has the field manager [`MANAGER`], a precondition and a time-out; why doing it
//! twice is harmless stands at each [`Effect`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use allocator::block::BlockId;
use allocator::{FNV_BASIS, fnv};
use crds::{AddressPool, AllocationBlock};
use http::{HeaderValue, Request, header};
use jiff::Timestamp;
use k8s_openapi::{
    Resource as _,
    api::{core::v1::Service, events::v1::Event, networking::v1::IPAddress},
};
use kube::{
    Client, Resource,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions},
    core::{Request as Requests, Status},
};
use model::{Family, ServiceKey};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::metrics::{Metrics, Outcome, Verb};
use crate::core::{
    effect::{Effect, EventNote, Failure, Input, Pass, ServicePatch},
    record::{PoolKind, Rejection},
    reserve::{self, Change},
    translate,
};

pub(super) mod addresses;

/// The field manager of all our writes.
pub(super) const MANAGER: &str = "portolan";

/// `reportingController` of our Events.
const REPORTER: &str = "portolan.dev/controller";

/// How long one request may take. The API server itself gives up on a write after 34 s by default;
/// what takes longer than this is answered [`Failure::Unknown`] and looked at again.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The Event API refuses longer notes (`events.k8s.io/v1`, 1 kB).
const NOTE_BYTES: usize = 1024;

/// In which of the bounded queues an effect waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Everything about single objects: thousands may wait here.
    Objects,
    /// Reads that prove a release: thousands may wait here after a start.
    Proofs,
    /// The ledger, on which all the others wait.
    Ledger,
}

/// What a request was for, to make the input from its reply.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum About {
    WriteService {
        pass: Pass,
        key: ServiceKey,
        verb: Verb,
    },
    ReadService {
        pass: Pass,
        key: ServiceKey,
    },
    WriteBlock(BlockId),
    ReadBlock(BlockId),
    Emit(ServiceKey),
    ListAddresses,
    PoolStatus(PoolKind, Arc<str>),
    ClassStatus(Arc<str>),
    Reservation(IpAddr),
}

/// An effect as it waits: the request in bytes, which is several times smaller than its JSON tree.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) about: About,
    /// `Err` when the request cannot even be built.
    pub(super) request: Result<Request<Vec<u8>>, Failure>,
}

impl About {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::WriteService { .. }
            | Self::Emit(_)
            | Self::PoolStatus(..)
            | Self::ClassStatus(_)
            | Self::Reservation(_) => Lane::Objects,
            Self::ReadService { .. } | Self::ListAddresses => Lane::Proofs,
            Self::WriteBlock(_) | Self::ReadBlock(_) => Lane::Ledger,
        }
    }

    /// Whether it is for the leader only. The ledger is everybody's: each write of a block is judged
    /// by the version that it was decided on, and whoever is asked by the API server reserves there.
    pub(super) fn needs_mandate(&self) -> bool {
        match self {
            Self::WriteService { .. }
            | Self::Emit(_)
            | Self::PoolStatus(..)
            | Self::ClassStatus(_)
            | Self::Reservation(_) => true,
            Self::ReadService { .. }
            | Self::WriteBlock(_)
            | Self::ReadBlock(_)
            | Self::ListAddresses => false,
        }
    }

    pub(super) fn verb(&self) -> Verb {
        match self {
            Self::WriteService { verb, .. } => *verb,
            Self::ReadService { .. } => Verb::ServiceRead,
            Self::WriteBlock(_) => Verb::Block,
            Self::ReadBlock(_) => Verb::BlockRead,
            Self::Emit(_) => Verb::Event,
            Self::ListAddresses => Verb::Addresses,
            Self::PoolStatus(..) => Verb::PoolStatus,
            Self::ClassStatus(_) => Verb::ClassStatus,
            Self::Reservation(_) => Verb::Reservation,
        }
    }
}

/// The effect as a request; `None` when it is not for the API server. `identity` and `wall` (Unix
/// seconds) are for Events only.
pub(super) fn call(effect: Effect, identity: &str, wall: i64) -> Option<Call> {
    let (about, request) = match effect {
        Effect::WriteService { pass, key, patch } => {
            let at = services(&key);
            let name = &*key.name;
            let (verb, request) = match patch {
                ServicePatch::Spec(patch) => (Verb::ServiceSpec, json_patch(&at, name, &patch)),
                ServicePatch::Status(patch) => {
                    (Verb::ServiceStatus, status_patch(&at, name, &patch))
                }
            };
            (About::WriteService { pass, key, verb }, request)
        }
        Effect::ReadService { pass, key } => {
            // No resourceVersion: served by a quorum, not from a cache.
            let request = services(&key).get(&key.name, &GetParams::default());
            (
                About::ReadService { pass, key },
                request.map_err(unsendable),
            )
        }
        Effect::WriteBlock { id, version, spec } => {
            let mut block = AllocationBlock::new(&id.name(), spec);
            block.metadata.resource_version = version.as_deref().map(str::to_owned);
            let at = cluster::<AllocationBlock>();
            let request = serde_json::to_vec(&block)
                .map_err(|error| Failure::Refused(error.to_string()))
                .and_then(|body| {
                    match version {
                        Some(_) => at.replace(&id.name(), &posting(), body),
                        None => at.create(&posting(), body),
                    }
                    .map_err(unsendable)
                });
            (About::WriteBlock(id), request)
        }
        Effect::ReadBlock { id } => {
            let request = cluster::<AllocationBlock>().get(&id.name(), &GetParams::default());
            (About::ReadBlock(id), request.map_err(unsendable))
        }
        Effect::Converge { .. } | Effect::Announce(_) | Effect::Answer { .. } => return None,
        Effect::ListAddresses => (About::ListAddresses, addresses::page(None)),
        Effect::Emit(note) => {
            let request = event(&note, identity, wall);
            (About::Emit(note.key), request)
        }
        Effect::WritePoolStatus { kind, name, patch } => {
            let at = match kind {
                PoolKind::Address => cluster::<crds::AddressPool>(),
                PoolKind::NodePort => cluster::<crds::NodePortPool>(),
            };
            let request = status_patch(&at, &name, &patch);
            (About::PoolStatus(kind, name), request)
        }
        Effect::WriteClassStatus { name, patch } => {
            let request = status_patch(&cluster::<crds::LoadBalancerClass>(), &name, &patch);
            (About::ClassStatus(name), request)
        }
        Effect::WriteReservation { address, change } => {
            (About::Reservation(address), reservation(address, change))
        }
    };
    Some(Call { about, request })
}

/// Only the parent and the label make it ours; the owner lets Kubernetes delete it with its pool, also
/// where no controller runs.
fn reservation(address: IpAddr, change: Change) -> Result<Request<Vec<u8>>, Failure> {
    let (name, at) = (address.to_string(), cluster::<IPAddress>());
    match change {
        Change::Create { pool, uid } => {
            let body = json!({
                "apiVersion": IPAddress::API_VERSION,
                "kind": IPAddress::KIND,
                "metadata": {
                    "name": name,
                    "labels": {
                        reserve::LABEL: reserve::OURS,
                        "ipaddress.kubernetes.io/ip-family": Family::of(address).as_str(),
                    },
                    "ownerReferences": [{
                        "apiVersion": AddressPool::api_version(&()),
                        "kind": AddressPool::kind(&()),
                        "name": &*pool,
                        "uid": uid.as_str(),
                    }],
                },
                "spec": {"parentRef": {
                    "group": crds::GROUP, "resource": translate::ADDRESS_POOLS, "name": &*pool,
                }},
            });
            at.create(&posting(), body.to_string().into_bytes())
        }
        Change::Delete { uid, version } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    resource_version: Some(version.to_string()),
                    uid: Some(uid.to_string()),
                }),
                ..DeleteParams::default()
            };
            at.delete(&name, &params)
        }
    }
    .map_err(unsendable)
}

fn services(key: &ServiceKey) -> Requests {
    Requests::new(Service::url_path(&(), Some(&key.namespace)))
}

pub(super) fn cluster<K: Resource<DynamicType = ()>>() -> Requests {
    Requests::new(K::url_path(&(), None))
}

pub(super) fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

pub(super) fn unsendable(error: kube::core::request::Error) -> Failure {
    Failure::Refused(format!("the request cannot be built: {error}"))
}

/// kube's JSON patch type is behind a feature that would parse again what is already a patch.
fn json_patch(at: &Requests, name: &str, patch: &Value) -> Result<Request<Vec<u8>>, Failure> {
    let mut request = at
        .patch(name, &patching(), &Patch::Merge(patch))
        .map_err(unsendable)?;
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json-patch+json"),
    );
    Ok(request)
}

fn status_patch(at: &Requests, name: &str, patch: &Value) -> Result<Request<Vec<u8>>, Failure> {
    at.patch_subresource("status", name, &patching(), &Patch::Merge(patch))
        .map_err(unsendable)
}

pub(super) fn posting() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The name is made of the content, so that the same Event is created once, whoever tries.
fn event(note: &EventNote, identity: &str, wall: i64) -> Result<Request<Vec<u8>>, Failure> {
    let text = clipped(&note.note, NOTE_BYTES);
    let parts = [note.uid.as_str(), note.reason.as_str(), text];
    let hash = (parts.into_iter()).fold(FNV_BASIS, |hash, part| fnv(fnv(hash, part), "\0"));
    let at = Timestamp::from_second(wall).unwrap_or(Timestamp::UNIX_EPOCH);
    let body = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "namespace": &*note.key.namespace,
            "name": format!("{}.{hash:016x}", note.key.name),
        },
        "eventTime": format!("{at:.6}"),
        "reportingController": REPORTER,
        // At most 128 characters, else the API server refuses the Event.
        "reportingInstance": clipped(identity, 128),
        "action": note.reason.as_str(),
        "reason": note.reason.as_str(),
        "note": text,
        "type": if note.warning { "Warning" } else { "Normal" },
        "regarding": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": &*note.key.namespace,
            "name": &*note.key.name,
            "uid": note.uid.as_str(),
        },
    });
    let body = serde_json::to_vec(&body).map_err(|error| Failure::Refused(error.to_string()))?;
    Requests::new(Event::url_path(&(), Some(&note.key.namespace)))
        .create(&posting(), body)
        .map_err(unsendable)
}

/// The longest beginning of at most `limit` bytes that ends between two characters.
fn clipped(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// Sends the request and makes the input of what came of it; `None` for Events, on which nothing
/// waits. Ends within [`TIMEOUT`].
pub(super) async fn perform(client: &Client, call: Call, metrics: &Metrics) -> Option<Input> {
    let Call { about, request } = call;
    let request = match request {
        Ok(request) => request,
        Err(failure) => return failed(about, failure, metrics),
    };
    let verb = about.verb();
    match about {
        About::ListAddresses => {
            let result = addresses::list(client, request).await;
            metrics.request(verb, outcome(result.as_ref().err()));
            Some(Input::AddressesListed(result))
        }
        About::ReadService { pass, key } => {
            let result = read::<Service, _>(client, request, &key.name, translate::service).await;
            metrics.request(verb, outcome(result.as_ref().err()));
            let result = result.map(|found| found.map(Arc::new));
            Some(Input::ServiceRead { pass, key, result })
        }
        About::ReadBlock(id) => {
            let result =
                read::<AllocationBlock, _>(client, request, &id.name(), translate::block).await;
            metrics.request(verb, outcome(result.as_ref().err()));
            Some(Input::BlockRead { id, result })
        }
        // The reply to a deletion is another one, and nothing is read of either.
        About::Reservation(_) => match send::<IgnoredAny>(client, request).await {
            Ok(IgnoredAny) => {
                metrics.request(verb, Outcome::Done);
                written_input(about, Ok(Arc::default()))
            }
            Err(error) => failed(about, classify(&error), metrics),
        },
        About::WriteService { .. }
        | About::WriteBlock(_)
        | About::Emit(_)
        | About::PoolStatus(..)
        | About::ClassStatus(_) => match send::<Written>(client, request).await {
            Ok(written) => {
                metrics.request(verb, Outcome::Done);
                written_input(about, Ok(written.metadata.resource_version))
            }
            Err(error) => failed(about, classify(&error), metrics),
        },
    }
}

/// The input that says that `about` failed like this; also used for what is never sent.
pub(super) fn failed(about: About, failure: Failure, metrics: &Metrics) -> Option<Input> {
    let verb = about.verb();
    match about {
        About::ListAddresses => {
            metrics.request(verb, outcome(Some(&failure)));
            Some(Input::AddressesListed(Err(failure)))
        }
        About::ReadService { pass, key } => {
            metrics.request(verb, outcome(Some(&failure)));
            let result = Err(failure);
            Some(Input::ServiceRead { pass, key, result })
        }
        About::ReadBlock(id) => {
            metrics.request(verb, outcome(Some(&failure)));
            let result = Err(failure);
            Some(Input::BlockRead { id, result })
        }
        About::Emit(key) => {
            // It exists already: this is the second time, and the first one worked.
            if failure == Failure::Conflict {
                metrics.request(verb, Outcome::Done);
            } else {
                metrics.request(verb, outcome(Some(&failure)));
                warn!(svc = %key, ?failure, "an Event could not be written");
            }
            None
        }
        about @ (About::WriteService { .. }
        | About::WriteBlock(_)
        | About::PoolStatus(..)
        | About::ClassStatus(_)
        | About::Reservation(_)) => {
            metrics.request(verb, outcome(Some(&failure)));
            debug!(?about, ?failure, "a write failed");
            written_input(about, Err(failure))
        }
    }
}

fn written_input(about: About, result: Result<Arc<str>, Failure>) -> Option<Input> {
    match about {
        About::WriteService { pass, key, .. } => Some(Input::ServiceWritten { pass, key, result }),
        About::WriteBlock(id) => Some(Input::BlockWritten { id, result }),
        About::PoolStatus(kind, name) => Some(Input::PoolStatusWritten {
            kind,
            name,
            result: result.map(drop),
        }),
        About::ClassStatus(name) => Some(Input::ClassStatusWritten {
            name,
            result: result.map(drop),
        }),
        About::Reservation(address) => Some(Input::ReservationWritten {
            address,
            result: result.map(drop),
        }),
        About::Emit(_) | About::ListAddresses | About::ReadService { .. } | About::ReadBlock(_) => {
            None
        }
    }
}

pub(super) fn outcome(failure: Option<&Failure>) -> Outcome {
    match failure {
        None => Outcome::Done,
        Some(Failure::Conflict) => Outcome::Conflict,
        Some(Failure::NotFound) => Outcome::NotFound,
        Some(Failure::Refused(_)) => Outcome::Refused,
        Some(Failure::Unknown(_)) => Outcome::Unknown,
    }
}

/// All that is read of the reply to a write.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: Arc<str>,
}

/// Why a request brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error(transparent)]
    Failed(#[from] kube::Error),
}

/// One request, one reply, at most [`TIMEOUT`].
pub(super) async fn send<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<T, Unanswered> {
    match timeout(TIMEOUT, client.request::<T>(request)).await {
        Ok(reply) => Ok(reply?),
        Err(_elapsed) => Err(Unanswered::TimedOut),
    }
}

/// `None` is a proven 404: numbers are freed on the strength of it, so it must name the object.
async fn read<K: DeserializeOwned, R>(
    client: &Client,
    request: Request<Vec<u8>>,
    name: &str,
    translate: fn(&K) -> Result<R, Rejection>,
) -> Result<Option<R>, Failure> {
    match send::<K>(client, request).await {
        Ok(object) => translate(&object)
            .map(Some)
            .map_err(|rejection| Failure::Refused(rejection.message)),
        Err(Unanswered::Failed(kube::Error::Api(status))) if proves_absence(&status, name) => {
            Ok(None)
        }
        // The read itself worked, so reading again would bring the same.
        Err(Unanswered::Failed(kube::Error::SerdeError(error))) => {
            Err(Failure::Refused(format!("cannot be parsed: {error}")))
        }
        Err(error) => Err(match classify(&error) {
            Failure::NotFound => Failure::Unknown(format!(
                "a 404 that does not name the object, as when its kind is not installed: {error}"
            )),
            failure @ (Failure::Conflict | Failure::Refused(_) | Failure::Unknown(_)) => failure,
        }),
    }
}

/// A 404 may also mean that the kind is not installed or that something in between answered;
/// only the API server's own answer about this object says that it is gone.
fn proves_absence(status: &Status, name: &str) -> bool {
    status.reason == "NotFound"
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.name == name)
}

/// What an error means for the effect, in the words of the contract.
pub(super) fn classify(error: &Unanswered) -> Failure {
    let error = match error {
        Unanswered::TimedOut => return Failure::Unknown(error.to_string()),
        Unanswered::Failed(error) => error,
    };
    if let kube::Error::Api(status) = error {
        return by_status(status);
    }
    if let kube::Error::BuildRequest(error) = error {
        return Failure::Refused(error.to_string());
    }
    // Everything else happened on the way to or from the API server: the connection, its
    // credentials, a reply cut short. The write may have arrived.
    Failure::Unknown(error.to_string())
}

fn by_status(status: &Status) -> Failure {
    // Status::message alone: kube's Display of the error prints the whole status twice.
    let message = || {
        if status.message.is_empty() {
            format!("HTTP {}", status.code)
        } else {
            status.message.clone()
        }
    };
    match status.code {
        409 => Failure::Conflict,
        404 => Failure::NotFound,
        // 401 says nothing about the object: a token is being rotated. 408 and 429 ask to come back.
        401 | 408 | 429 => Failure::Unknown(message()),
        400..500 => Failure::Refused(message()),
        _ => Failure::Unknown(message()),
    }
}

#[cfg(test)]
mod tests;
