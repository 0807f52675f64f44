//! Keeps the certificate and the configuration. Every replica follows both and shows what is to be
//! shown; the leader alone writes. What is to be done, `core::certificates` and `core::hook` decide.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret};
use kube::{
    Api, Client,
    api::Patch,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watch_object},
    },
};
use tokio::{
    sync::watch as sync,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    super::{
        drive::Mandate,
        metrics::Metrics,
        run::{Ended, State},
        write::{TIMEOUT, patching, posting},
    },
    Certificates, EXEMPT, PATH, Webhook,
    certify::certify,
    files,
    tls::Shown,
};
use crate::core::{
    certificates::{self, MANAGED, Pair, Step, Stored},
    failing::Failing,
    hook::{self, Bundle},
};

/// A folder is read so often: what a kubelet brings takes a minute by itself.
const READ: Duration = Duration::from_secs(10);
/// Look again at least so often, whatever the certificates say.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What it works with.
pub(super) struct Seat {
    pub(super) client: Client,
    pub(super) shown: Arc<Shown>,
    pub(super) asked: sync::Receiver<Option<hook::Asked>>,
    pub(super) metrics: Metrics,
    pub(super) state: sync::Sender<State>,
    pub(super) mandate: sync::Receiver<Mandate>,
    pub(super) wall: fn() -> i64,
}

/// A write that did not come through.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// Somebody else was quicker: what they wrote comes by the watch.
    #[error("somebody else has written meanwhile")]
    Conflict,
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("no certificate can be made")]
    Certify(#[from] rcgen::Error),
}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            if status.code == 409 {
                return Self::Conflict;
            }
            // kube's Display of an API error prints the whole status twice.
            return Self::Refused(status.message.clone());
        }
        Self::Refused(error.to_string())
    }
}

pub(super) struct Keeper {
    seat: Seat,
    certificates: Certificates,
    terms: hook::Terms,
    configuration: String,
    /// `None`: not seen yet.
    secret: Option<Option<Stored>>,
    found: Option<Option<MutatingWebhookConfiguration>>,
    /// Whom the API server is to trust, once that is known.
    bundle: Option<Bundle>,
    /// Since when (Unix seconds) the configuration has been known to trust the Secret's authorities.
    trusted_since: Option<i64>,
    /// What is shown, to see a change.
    shows: Option<Pair>,
    /// What was said last: the same is not said twice in a row.
    said: Option<String>,
}

type Seen<K> = Pin<Box<dyn Stream<Item = watcher::Result<Option<K>>> + Send>>;

impl Keeper {
    pub(super) fn new(webhook: Webhook, seat: Seat) -> Self {
        let terms = hook::Terms {
            target: webhook.target,
            path: PATH,
            own: webhook.namespace.clone(),
            exempt: match webhook.namespace == EXEMPT {
                true => vec![EXEMPT.to_owned()],
                false => vec![EXEMPT.to_owned(), webhook.namespace],
            },
        };
        Self {
            seat,
            certificates: webhook.certificates,
            terms,
            configuration: webhook.configuration,
            secret: None,
            found: None,
            bundle: None,
            trusted_since: None,
            shows: None,
            said: None,
        }
    }

    /// Runs for as long as the process does.
    pub(super) async fn run(mut self) -> Ended {
        let client = self.seat.client.clone();
        let mut secrets: Seen<Secret> = match &self.certificates {
            Certificates::Own(secret, _) => {
                let api = Api::namespaced(client.clone(), &secret.namespace);
                watch_object(api, &secret.name).default_backoff().boxed()
            }
            Certificates::Files(_) => stream::pending().boxed(),
        };
        let all = Api::all(client);
        let mut configurations: Seen<MutatingWebhookConfiguration> =
            watch_object(all, &self.configuration)
                .default_backoff()
                .boxed();
        // One leads and writes, so that jitter has nobody to keep apart: any seed will do.
        let (mut failing, mut rests) = (Failing::new(0), Instant::now());
        loop {
            let now = (self.seat.wall)();
            self.read_files();
            self.trust(now);
            let leads =
                (self.seat.mandate.borrow_and_update()).is_some_and(|until| Instant::now() < until);
            let mut wait = LONGEST_WAIT;
            // Whatever else wakes it, the lease's renewals among it: what failed is not tried sooner.
            let rest = rests.saturating_duration_since(Instant::now());
            if leads && rest > Duration::ZERO {
                wait = rest;
            } else if leads {
                match self.work(now).await {
                    // What was written is known: go on from there.
                    Ok(Work::Done) => {
                        failing.succeeded(&());
                        continue;
                    }
                    Ok(Work::Wait(until)) => {
                        failing.succeeded(&());
                        let seconds = u64::try_from(until.saturating_sub(now)).unwrap_or_default();
                        wait = wait.min(Duration::from_secs(seconds.max(1)));
                    }
                    Err(failed) => {
                        if !matches!(failed, Failed::Conflict) {
                            self.say(&format!("the webhook is not as it should be: {failed}"));
                        }
                        wait = failing.delay(&());
                        rests = Instant::now() + wait;
                    }
                }
            }
            if let Certificates::Files(_) = self.certificates {
                wait = wait.min(READ);
            }
            let wake = Instant::now() + wait;
            tokio::select! {
                biased;
                changed = self.seat.mandate.changed() => if changed.is_err() {
                    // Whoever kept the mandate is gone: the process is about to end.
                    return std::future::pending().await;
                },
                Some(seen) = secrets.next() => match seen {
                    Ok(secret) => self.see_secret(secret.as_ref()),
                    Err(error) => self.unseen(&error),
                },
                Some(seen) = configurations.next() => match seen {
                    Ok(found) => self.found = Some(found),
                    Err(error) => self.unseen(&error),
                },
                Ok(()) = self.seat.asked.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn unseen(&mut self, error: &watcher::Error) {
        let text = format!("the webhook's Secret or configuration cannot be watched: {error}");
        self.say(&text);
    }

    /// Warns, but not of the same twice in a row.
    fn say(&mut self, text: &str) {
        if self.said.as_deref() != Some(text) {
            warn!("{text}");
            self.said = Some(text.to_owned());
        }
    }

    fn see_secret(&mut self, secret: Option<&Secret>) {
        let Some(secret) = secret else {
            // What is in memory goes on being shown.
            self.secret = Some(None);
            return;
        };
        let stored = Stored::read(secret);
        self.show(&stored.serving);
        let bundle = Bundle::Ours(Arc::clone(&stored.authorities));
        self.bundle = (!stored.authorities.is_empty()).then_some(bundle);
        self.secret = Some(Some(stored));
    }

    fn read_files(&mut self) {
        let Certificates::Files(folder) = &self.certificates else {
            return;
        };
        match files::read(folder) {
            Ok((pair, authorities)) => {
                self.show(&pair);
                self.bundle = Some(Bundle::Injected(authorities.unwrap_or_default()));
            }
            Err(error) => self.say(&format!(
                "the webhook's certificate cannot be read: {error}"
            )),
        }
    }

    /// Shows a certificate from now on, unless it is no good.
    fn show(&mut self, pair: &Pair) {
        if self.shows.as_ref() == Some(pair) {
            return;
        }
        match pair.certified() {
            Ok(certified) => {
                self.seat.shown.set(Arc::new(certified));
                self.shows = Some(pair.clone());
                let end = pair.ends().unwrap_or_default();
                self.seat.metrics.certificate_expiry.set(end);
                self.seat
                    .state
                    .send_modify(|state| state.certificate = true);
                info!(expires = end, "showing a certificate for the webhook");
            }
            Err(unfit) => self.say(&format!(
                "the webhook's certificate cannot be shown: {unfit}"
            )),
        }
    }

    fn trust(&mut self, now: i64) {
        let (Some(Some(secret)), Some(found)) = (&self.secret, &self.found) else {
            self.trusted_since = None;
            return;
        };
        if hook::trusts(found.as_ref(), &secret.authorities) {
            self.trusted_since.get_or_insert(now);
        } else {
            self.trusted_since = None;
        }
    }

    /// The next thing that a leader has to do.
    async fn work(&mut self, now: i64) -> Result<Work, Failed> {
        let until = match self.certificate(now).await? {
            Work::Wait(until) => until,
            Work::Done => return Ok(Work::Done),
        };
        match self.configure().await? {
            true => Ok(Work::Done),
            false => Ok(Work::Wait(until)),
        }
    }
}

/// How far the work has come.
enum Work {
    /// Something was written.
    Done,
    /// Nothing is to be done before this time (Unix seconds).
    Wait(i64),
}

impl Keeper {
    async fn certificate(&mut self, now: i64) -> Result<Work, Failed> {
        let (Certificates::Own(name, terms), Some(found)) = (&self.certificates, &self.secret)
        else {
            return Ok(Work::Wait(i64::MAX));
        };
        let (name, terms, found) = (name.clone(), terms.clone(), found.clone());
        let step = certificates::step(found.as_ref(), &terms, self.trusted_since, now);
        let (patch, what) = match (step, &found) {
            (Step::Wait(until), _) => return Ok(Work::Wait(until)),
            (Step::Leave(unfit), _) => {
                let (key, value) = MANAGED;
                self.say(&format!(
                    "Secret {name} is not Portolan's and cannot be used: {unfit}. Repair it, or \
                     label it {key}={value}, or delete it to have one made"
                ));
                return Ok(Work::Wait(i64::MAX));
            }
            (Step::Make, _) | (_, None) => {
                let fresh = certify(&terms, now)?;
                let secret = certificates::first(&name.namespace, &name.name, &fresh);
                let api = Api::<Secret>::namespaced(self.seat.client.clone(), &name.namespace);
                // Twice is refused: it exists then.
                let made = within(api.create(&posting(), &secret)).await?;
                info!(secret = %name, "made the first certificate of the webhook");
                self.see_secret(Some(&made));
                return Ok(Work::Done);
            }
            (Step::Replace(unfit), Some(found)) => {
                let fresh = certify(&terms, now)?;
                warn!(secret = %name, %unfit, "the webhook's certificate is replaced");
                (
                    certificates::replaced(found, &fresh),
                    "replaced the certificate of the webhook",
                )
            }
            (Step::Prepare, Some(found)) => {
                let fresh = certify(&terms, now)?;
                (
                    certificates::prepared(found, &fresh),
                    "made the next certificate of the webhook",
                )
            }
            (Step::Promote, Some(found)) => match certificates::promoted(found) {
                Some(patch) => (patch, "the next certificate of the webhook has taken over"),
                None => return Ok(Work::Wait(i64::MAX)),
            },
        };
        let api = Api::<Secret>::namespaced(self.seat.client.clone(), &name.namespace);
        let written = within(api.patch(&name.name, &patching(), &Patch::Merge(&patch))).await?;
        info!(secret = %name, "{what}");
        self.see_secret(Some(&written));
        Ok(Work::Done)
    }

    /// Whether the configuration was written.
    async fn configure(&mut self) -> Result<bool, Failed> {
        let asked = self.seat.asked.borrow().clone();
        let (Some(found), Some(asked), Some(bundle)) = (&self.found, asked, &self.bundle) else {
            return Ok(false);
        };
        let name = &self.configuration;
        let patch = match hook::step(found.as_ref(), &asked, &self.terms, bundle) {
            hook::Step::Nothing => return Ok(false),
            hook::Step::Missing => {
                let text = format!(
                    "there is no MutatingWebhookConfiguration {name}: the chart makes it, with \
                     webhook.enabled"
                );
                if asked != hook::Asked::default() {
                    self.say(&text);
                }
                return Ok(false);
            }
            hook::Step::Foreign => {
                let (key, value) = hook::LABEL;
                let text = format!(
                    "MutatingWebhookConfiguration {name} is somebody else's: without the label \
                     {key}={value} it is left as it is"
                );
                self.say(&text);
                return Ok(false);
            }
            hook::Step::Write(patch) => patch,
        };
        let api = Api::<MutatingWebhookConfiguration>::all(self.seat.client.clone());
        let written = within(api.patch(name, &patching(), &Patch::Merge(&patch))).await?;
        let entries = written.webhooks.as_deref().unwrap_or_default().len();
        info!(configuration = %name, entries, "wrote what the API server asks the webhook about");
        self.found = Some(Some(written));
        Ok(true)
    }
}

/// At most [`TIMEOUT`].
async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match timeout(TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(Failed::TimedOut),
    }
}
