//! The IO around [`crate::core::lease`]: reads and writes one Lease, publishes until when this
//! process may write.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{drive::Mandate, run, write::MANAGER};
use crate::core::{
    effect::Now,
    lease::{Answer, Ask, Election, Record, Timing, Version},
};

/// What this task is called when it ends unexpectedly.
pub(super) const TASK: &str = "the leader election";

/// How long one request may take: a leader has time for two before its deadline.
const REQUEST: Duration = Duration::from_secs(4);

/// Campaigns until told to resign; then hands the Lease back and ends.
pub(super) async fn campaign(
    client: Client,
    which: run::Election,
    identity: Arc<str>,
    seed: u64,
    mandate: watch::Sender<Mandate>,
    mut resigned: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let timing = Timing::default();
    let leases = Api::<Lease>::namespaced(client, &which.namespace);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut election = Election::new(identity, timing);
    let started = Instant::now();
    let now = || Now {
        mono: started.elapsed(),
        wall: Timestamp::now().as_second(),
    };
    let mut trouble = false;
    let mut resigning = false;
    loop {
        if let Some(ask) = election.poll(now()) {
            let asking = timeout(REQUEST, put(&leases, &which.name, &timing, &ask));
            let answer = match asking.await {
                Ok(Ok(answer)) => {
                    trouble = false;
                    answer
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut trouble, true) {
                        warn!(namespace = which.namespace, lease = which.name, reason = %reason(&error), "the lease cannot be reached");
                    }
                    Answer::Lost
                }
                Err(_elapsed) => Answer::Lost,
            };
            debug!(?ask, ?answer, "lease");
            let holder = election.holder().map(str::to_owned);
            election.answer(answer, now(), random.f64());
            if election.holder() != holder.as_deref() {
                info!(
                    holder = election.holder().unwrap_or_default(),
                    "the lease has a new holder"
                );
            }
        }
        mandate.send_if_modified(|known| {
            let until = election.leads_until().map(|until| started + until);
            let changed = *known != until;
            *known = until;
            changed
        });
        if election.released() {
            return Ok(());
        }
        let Some(next) = election.next_deadline() else {
            continue;
        };
        tokio::select! {
            () = sleep_until(started + next) => {}
            changed = resigned.changed(), if !resigning => {
                resigning = true;
                if changed.is_ok() {
                    election.release();
                } else {
                    return Err("nobody is left to lead for".into());
                }
            }
        }
    }
}

/// `Err`: it may or may not have arrived.
async fn put(
    leases: &Api<Lease>,
    name: &str,
    timing: &Timing,
    ask: &Ask,
) -> Result<Answer, kube::Error> {
    let result = match ask {
        Ask::Read => leases.get(name).await,
        Ask::Create(record) => {
            let mut lease = Lease::default();
            lease.metadata.name = Some(name.to_owned());
            lease.spec = Some(spec(record, timing));
            let posting = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            leases.create(&posting, &lease).await
        }
        Ask::Update(version, record) => {
            // A merge patch with a resourceVersion is refused with 409 when that has moved on, and
            // leaves labels and annotations alone.
            let patch = json!({
                "metadata": { "resourceVersion": &**version },
                "spec": spec(record, timing),
            });
            let patching = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            leases.patch(name, &patching, &Patch::Merge(&patch)).await
        }
    };
    match result {
        Ok(lease) => {
            let version = lease.metadata.resource_version.unwrap_or_default().into();
            Ok(match ask {
                Ask::Read => Answer::Found(Version {
                    version,
                    record: record(lease.spec.unwrap_or_default()),
                }),
                Ask::Create(_) | Ask::Update(..) => Answer::Written(version),
            })
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Conflict),
        // A missing namespace is a 404 too, but no absence of the Lease that creating could mend.
        Err(kube::Error::Api(status)) if status.code == 404 && *ask == Ask::Read => {
            Ok(Answer::Missing)
        }
        Err(error) => Err(error),
    }
}

fn spec(record: &Record, timing: &Timing) -> LeaseSpec {
    let time = |seconds| {
        Timestamp::from_second(seconds)
            .ok()
            .map(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime)
    };
    // A released lease says 1 s, as client-go's does.
    let duration = if record.holder.is_empty() {
        1
    } else {
        timing.duration.as_secs()
    };
    LeaseSpec {
        holder_identity: Some(record.holder.to_string()),
        lease_duration_seconds: i32::try_from(duration).ok(),
        acquire_time: time(record.acquired),
        renew_time: time(record.renewed),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

fn record(spec: LeaseSpec) -> Record {
    Record {
        holder: spec.holder_identity.unwrap_or_default().into(),
        acquired: spec.acquire_time.map_or(0, |time| time.0.as_second()),
        renewed: spec.renew_time.map_or(0, |time| time.0.as_second()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// kube's Display of an API error prints the whole status twice.
fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        status.message.clone()
    } else {
        error.to_string()
    }
}
