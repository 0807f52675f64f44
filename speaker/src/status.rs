//! Tells the API server what this node announces: its own `SpeakerStatus`, on change, at most once a
//! second, again until it is written. Nothing that is answered on the network waits for this.

mod pace;
mod text;

use std::{sync::Arc, time::Duration};

use crds::SpeakerStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, TypeMeta},
};
use serde::Serialize;
use speaker_core::Report;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::watch::Owner;
use pace::Pace;

/// Whose fields they are.
const MANAGER: &str = "portolan-speaker";
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last one may take: it is only good manners.
const LAST: Duration = Duration::from_secs(1);

/// What is to be told and to whom.
pub(crate) struct Status {
    /// The API server.
    pub(crate) client: Client,
    /// This node.
    pub(crate) node: Arc<str>,
    /// The Node object; without it nothing can be written, since nothing would clean it up.
    pub(crate) owner: watch::Receiver<Option<Owner>>,
    /// The newest report.
    pub(crate) report: watch::Receiver<Option<Arc<Report>>>,
}

/// What is written: small, where the object is not.
type Told = (Owner, Arc<Report>);

/// The object as it is applied.
#[derive(Debug, Serialize)]
struct Object {
    #[serde(flatten)]
    types: TypeMeta,
    metadata: ObjectMeta,
    spec: text::Spec,
}

impl Status {
    /// Writes until there will be no more reports; then says that nothing is announced, once.
    pub(crate) async fn run(mut self, writes: impl Fn(bool)) {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut said = false;
        loop {
            let wanted = self.wanted();
            let due = pace.due(wanted.as_ref(), start.elapsed());
            let reports = tokio::select! {
                changed = self.report.changed() => changed.is_ok(),
                // The watch that tells it lives as long as the reports do.
                Ok(()) = self.owner.changed() => true,
                () = sleep_until(start + due.unwrap_or_default()), if due.is_some() => {
                    let Some(told) = wanted else {
                        continue;
                    };
                    let written = self.write(&told, PATIENCE).await;
                    writes(written.is_ok());
                    match written {
                        Ok(()) => {
                            if std::mem::take(&mut said) {
                                info!("SpeakerStatus: written again");
                            }
                            pace.written(told, start.elapsed());
                        }
                        Err(error) => {
                            if std::mem::replace(&mut said, true) {
                                debug!(error, "SpeakerStatus: not written");
                            } else {
                                warn!(error, "SpeakerStatus: not written, trying again");
                            }
                            pace.failed(start.elapsed());
                        }
                    }
                    true
                }
            };
            if !reports {
                break;
            }
        }
        let nothing = self.told(Arc::default());
        if let Some(told) = nothing.filter(|told| pace.would_change(told)) {
            let written = self.write(&told, LAST).await;
            writes(written.is_ok());
            if let Err(error) = written {
                warn!(error, "SpeakerStatus: not emptied");
            }
        }
    }

    fn wanted(&self) -> Option<Told> {
        let report = self.report.borrow().clone()?;
        self.told(report)
    }

    fn told(&self, report: Arc<Report>) -> Option<Told> {
        Some((self.owner.borrow().clone()?, report))
    }

    fn object(&self, (owner, report): &Told) -> Object {
        Object {
            types: TypeMeta::resource::<SpeakerStatus>(),
            metadata: ObjectMeta {
                name: Some(self.node.to_string()),
                owner_references: Some(vec![OwnerReference {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    name: owner.name.clone(),
                    uid: owner.uid.clone(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: text::spec(report),
        }
    }

    /// Doing it twice is harmless: it says all that we ever say, and nobody else writes these fields.
    async fn write(&self, told: &Told, patience: Duration) -> Result<(), String> {
        let api = Api::<SpeakerStatus>::all(self.client.clone());
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(self.object(told));
        let writing = api.patch_metadata(&self.node, &parameters, &patch);
        match timeout(patience, writing).await {
            Ok(Ok(_metadata)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) => {
                Err(format!("{}: {}", status.code, status.message))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {patience:?}")),
        }
    }
}
