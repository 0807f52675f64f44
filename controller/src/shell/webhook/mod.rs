//! The admission webhook: the API server asks before it stores a Service, every replica answers.
//! [`server`] takes what is asked to the engine and brings back what it says; [`keep`] sees to the
//! certificate and to the configuration by which the API server asks.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use kube::Client;
use tokio::sync::{mpsc, watch as sync};

use super::{
    drive::Mandate,
    keys::SecretName,
    metrics::Metrics,
    run::{self, Parts, State},
};
use crate::core::{
    certificates,
    hook::{self, Target},
};

mod certify;
mod files;
mod keep;
mod reply;
mod server;
mod tls;
mod unreserve;

#[cfg(test)]
pub(crate) use certify::certify;
pub(super) use server::Asked;

/// Where reviews are taken.
const PATH: &str = "/services";

/// Questions that the engine has not taken yet; when there are more, the failure policy decides.
pub(super) const QUESTIONS: usize = 256;

/// Namespaces that are never asked about, besides Portolan's own.
const EXEMPT: &str = "kube-system";

/// How the webhook is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// Where this process listens.
    pub address: SocketAddr,
    /// Where the API server finds it.
    pub target: Target,
    /// Portolan's own namespace: nobody is asked about its Services.
    pub namespace: String,
    /// Which certificate is shown.
    pub certificates: Certificates,
    /// The MutatingWebhookConfiguration that is filled in.
    pub configuration: String,
}

/// Which certificate is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Certificates {
    /// Portolan's own, in this Secret, on these terms.
    Own(SecretName, certificates::Terms),
    /// What somebody else puts into this folder: `tls.crt`, `tls.key` and `ca.crt`, as cert-manager
    /// does.
    Files(PathBuf),
}

impl Certificates {
    /// Portolan's own, in this Secret, on the usual terms for this target.
    pub fn own(secret: SecretName, target: &Target) -> Self {
        Self::Own(secret, certificates::Terms::new(vec![target.host()]))
    }
}

/// What the webhook works with.
pub(super) struct Seat {
    pub(super) client: Client,
    pub(super) questions: mpsc::Sender<Asked>,
    /// What the pools ask for; `None` until all have been seen.
    pub(super) asked: sync::Receiver<Option<hook::Asked>>,
    pub(super) metrics: Metrics,
    pub(super) state: sync::Sender<State>,
    pub(super) mandate: sync::Receiver<Mandate>,
    pub(super) wall: fn() -> i64,
}

/// What the webhook is called when it ends unexpectedly.
const SERVER: &str = "the webhook";
const KEEPER: &str = "the webhook's certificate and configuration";

/// Opens the port and starts both parts.
pub(super) async fn start(
    webhook: Webhook,
    seat: Seat,
    parts: &mut Parts,
) -> Result<(), std::io::Error> {
    let listener = run::listen(webhook.address).await?;
    let bound = listener.local_addr()?;
    let shown = Arc::<tls::Shown>::default();
    let server = server::Server {
        listener,
        acceptor: tls::acceptor(Arc::clone(&shown))?,
        limits: server::Limits::default(),
        questions: seat.questions,
        client: seat.client.clone(),
        metrics: seat.metrics.clone(),
        state: seat.state.subscribe(),
    };
    seat.state.send_modify(|state| state.webhook = Some(bound));
    tracing::info!(address = %bound, "serving the admission webhook");
    parts.spawn(SERVER, server.serve());
    let keeper = keep::Keeper::new(
        webhook,
        keep::Seat {
            client: seat.client,
            shown,
            asked: seat.asked,
            metrics: seat.metrics,
            state: seat.state,
            mandate: seat.mandate,
            wall: seat.wall,
        },
    );
    parts.spawn(KEEPER, keeper.run());
    Ok(())
}

/// When the certificate that is shown ends (Unix seconds); 0: none is shown yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(Arc<AtomicI64>);

impl Expiry {
    fn set(&self, at: i64) {
        self.0.store(at, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<i64> {
        let at = self.0.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }
}

#[cfg(test)]
mod tests;
