//! The Secret with the keys by which speakers talk to one another: made once by the leader, rotated by
//! a command, and never overwritten.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Client, Resource, api::GetParams, core::Request as Requests};
use serde_json::{Value, json};
use tokio::{
    sync::watch as sync,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    drive::Mandate,
    run::Ended,
    write::{MANAGER, Unanswered, classify, patching, posting, send, unsendable},
};
use crate::core::{
    effect::Failure,
    keys::{self, KEY_BYTES, Rotation},
};

/// Whether the Secret is still there is looked at so often.
const LOOK: Duration = Duration::from_secs(600);
/// The first pause after a failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which Secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl SecretName {
    fn at(&self) -> Requests {
        Requests::new(Secret::url_path(&(), Some(&self.namespace)))
    }
}

impl std::fmt::Display for SecretName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why keys could not be made or rotated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gives no random bytes.
    #[error("the system has no random numbers to give")]
    Random,
    /// It is not there.
    #[error("there is no Secret {0}: a controller with --speaker-keys makes it")]
    Missing(SecretName),
    /// Somebody else has changed it meanwhile.
    #[error("Secret {0} was changed by somebody else meanwhile: try again")]
    Changed(SecretName),
    /// The API server has not done it.
    #[error("Secret {0}: {1}")]
    Failed(SecretName, String),
}

impl Error {
    fn of(secret: &SecretName, failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::Missing(secret.clone()),
            Failure::Conflict => Self::Changed(secret.clone()),
            Failure::Refused(message) | Failure::Unknown(message) => {
                Self::Failed(secret.clone(), message)
            }
        }
    }

    fn from(secret: &SecretName, error: &Unanswered) -> Self {
        Self::of(secret, classify(error))
    }
}

/// A new key.
fn key() -> Result<ByteString, Error> {
    let mut bytes = vec![0; KEY_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(ByteString(bytes))
}

/// Sees to it, while this process leads, that the Secret is there; runs for as long as the process.
pub(super) async fn keep(
    client: Client,
    secret: SecretName,
    mut mandate: sync::Receiver<Mandate>,
    wall: fn() -> i64,
) -> Ended {
    let mut pause = FIRST_PAUSE;
    loop {
        let until = *mandate.borrow_and_update();
        if until.is_none_or(|until| until <= Instant::now()) {
            if mandate.changed().await.is_err() {
                // Whoever kept the mandate is gone: the process is about to end.
                return std::future::pending().await;
            }
            continue;
        }
        match make(&client, &secret, wall()).await {
            Ok(made) => {
                if made {
                    info!(%secret, "made the key by which speakers talk to one another");
                }
                pause = FIRST_PAUSE;
                sleep(LOOK).await;
            }
            Err(error) => {
                warn!(%error, "the speakers' keys cannot be made: trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Creates the Secret unless it is there, whatever it holds; whether it did. Twice is harmless: the
/// second time it exists, and a create changes nothing of what exists.
async fn make(client: &Client, secret: &SecretName, now: i64) -> Result<bool, Error> {
    match get(client, secret).await {
        Ok(_) => return Ok(false),
        Err(Error::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(secret.name.clone()),
            namespace: Some(secret.namespace.clone()),
            labels: Some(
                [(
                    "app.kubernetes.io/managed-by".to_owned(),
                    MANAGER.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(keys::name(now), key()?)])),
        ..Secret::default()
    };
    let body = serde_json::to_vec(&object)
        .map_err(|error| Error::Failed(secret.clone(), error.to_string()))?;
    let request = secret.at().create(&posting(), body);
    let request = request.map_err(|error| Error::of(secret, unsendable(error)))?;
    match send::<Value>(client, request).await {
        Ok(_) => Ok(true),
        Err(error) => match classify(&error) {
            Failure::Conflict => Ok(false), // another replica was quicker
            failure @ (Failure::NotFound | Failure::Refused(_) | Failure::Unknown(_)) => {
                Err(Error::of(secret, failure))
            }
        },
    }
}

async fn get(client: &Client, secret: &SecretName) -> Result<Secret, Error> {
    let request = secret.at().get(&secret.name, &GetParams::default());
    let request = request.map_err(|error| Error::of(secret, unsendable(error)))?;
    send(client, request)
        .await
        .map_err(|error| Error::from(secret, &error))
}

/// Adds a key and drops those that have not been in force for a whole rotation.
///
/// # Errors
/// When the Secret is not there, cannot be written, or was changed meanwhile.
pub async fn rotate(client: &Client, secret: &SecretName, now: i64) -> Result<Rotation, Error> {
    let found = get(client, secret).await?;
    let names = found.data.iter().flatten().map(|(name, _)| name.as_str());
    let rotation = keys::rotate(names, now);
    let mut data = serde_json::Map::new();
    data.insert(rotation.add.clone(), json!(key()?));
    for name in &rotation.drop {
        data.insert(name.clone(), Value::Null);
    }
    // On the version that was looked at: twice is refused the second time.
    let patch = json!({
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "data": data,
    });
    let at = secret.at();
    let request = at.patch(&secret.name, &patching(), &kube::api::Patch::Merge(&patch));
    let request = request.map_err(|error| Error::of(secret, unsendable(error)))?;
    match send::<Value>(client, request).await {
        Ok(_) => Ok(rotation),
        Err(error) => Err(Error::from(secret, &error)),
    }
}

#[cfg(test)]
mod tests;
