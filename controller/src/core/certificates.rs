//! The webhook's certificate: when one is made, when the next takes over, who is trusted meanwhile.
//! Pure: the contents of a Secret and the time in, a step out.
//!
//! A *generation* is an authority and the one certificate it has signed. Its key is never stored, so
//! that nothing in the Secret can sign anything, and authority and certificate end together. Before
//! the end a next generation is put beside it: its authority is trusted at once, its certificate is
//! shown only after every API server has had time to learn that. Both authorities stay trusted until
//! the generation after the next.

use std::{fmt, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use serde_json::{Map, Value, json};
use x509_parser::parse_x509_certificate;

/// The certificate that is shown, and what else it takes to believe it but its authority.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const KEY: &str = "tls.key";
/// Whom the API server trusts: the bundle in the MutatingWebhookConfiguration.
pub const AUTHORITIES: &str = "ca.crt";
/// The certificate that takes over.
pub const NEXT_CERTIFICATE: &str = "next.crt";
/// Its key.
pub const NEXT_KEY: &str = "next.key";
/// Since when that is there (Unix seconds).
pub const NEXT_SINCE: &str = "portolan.dev/next-since";

/// What each certificate in PEM ends with.
const END_OF_BLOCK: &str = "-----END CERTIFICATE-----";

/// The label that says that the Secret is Portolan's to write.
pub const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "portolan");

/// What certificates are to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// For these DNS names and addresses.
    pub names: Vec<String>,
    /// Seconds from when it is made to its end.
    pub valid: i64,
    /// The next is made so many seconds before the end.
    pub renew: i64,
    /// And is shown so many seconds after it was made, if it is trusted by then.
    pub overlap: i64,
}

impl Terms {
    /// A year, of which a third is left when the next one is made: months in which somebody notices
    /// that it was not. Ten minutes are many times what an API server needs to see a change of a
    /// webhook configuration, even one that has just lost its watch.
    pub fn new(names: Vec<String>) -> Self {
        const DAY: i64 = 24 * 60 * 60;
        Self {
            names,
            valid: 365 * DAY,
            renew: 120 * DAY,
            overlap: 600,
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub(crate) certificate: Arc<[u8]>,
    pub(crate) key: Arc<[u8]>,
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

impl Pair {
    /// From PEM.
    pub fn new(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            certificate: certificate.into().into(),
            key: key.into().into(),
        }
    }

    /// What a TLS server shows.
    ///
    /// # Errors
    /// It is not PEM, or certificate and key do not belong together.
    pub fn certified(&self) -> Result<CertifiedKey, Unfit> {
        let chain = chain(&self.certificate);
        if chain.is_empty() {
            return Err(Unfit::Unreadable(CERTIFICATE));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Unfit::Unreadable(KEY))?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|_| Unfit::Strangers)
    }

    /// When it ends (Unix seconds).
    pub fn ends(&self) -> Option<i64> {
        chain(&self.certificate).first().and_then(ends)
    }

    /// Whether a client that trusts these authorities believes it under all of these names.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, authorities: &[u8], names: &[String], now: i64) -> Result<(), Unfit> {
        let certified = self.certified()?;
        let (first, others) =
            (certified.cert.split_first()).ok_or(Unfit::Unreadable(CERTIFICATE))?;
        if self.ends().is_none_or(|end| end <= now) {
            return Err(Unfit::Expired);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(chain(authorities));
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier
            .build()
            .map_err(|_| Unfit::Unreadable(AUTHORITIES))?;
        let seconds = u64::try_from(now).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        for name in names {
            let server = ServerName::try_from(name.as_str())
                .map_err(|_| Unfit::Unbelievable(name.clone()))?;
            (verifier.verify_server_cert(first, others, &server, &[], time))
                .map_err(|_| Unfit::Unbelievable(name.clone()))?;
        }
        Ok(())
    }
}

/// Why a certificate cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// An entry is missing or not PEM.
    #[error("{0} is missing or cannot be read")]
    Unreadable(&'static str),
    /// The key is another's.
    #[error("{KEY} is not the key of {CERTIFICATE}")]
    Strangers,
    /// It has ended.
    #[error("{CERTIFICATE} has expired")]
    Expired,
    /// Its authority is not in the bundle, or it is for other names.
    #[error("{CERTIFICATE} is not for {0}, or not signed by what is in {AUTHORITIES}")]
    Unbelievable(String),
}

pub(crate) fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .collect()
}

fn ends(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// A new generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fresh {
    /// The authority's certificate, in PEM.
    pub authority: String,
    /// What it has signed.
    pub pair: Pair,
    /// When (Unix seconds).
    pub made: i64,
}

/// A Secret, as far as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// It is Portolan's to write.
    pub ours: bool,
    /// `metadata.resourceVersion`.
    pub version: Arc<str>,
    /// The generation that is shown.
    pub serving: Pair,
    /// The one that takes over, and since when it is there.
    pub next: Option<(Pair, i64)>,
    /// Whom the API server is to trust, in PEM.
    pub authorities: Arc<[u8]>,
}

impl Stored {
    /// What a Secret says. What is missing counts as empty.
    pub fn read(secret: &Secret) -> Self {
        let entry = |name: &str| -> Vec<u8> {
            let data = secret.data.as_ref().and_then(|data| data.get(name));
            data.map(|ByteString(bytes)| bytes.clone())
                .unwrap_or_default()
        };
        let has = |name: &str| {
            secret
                .data
                .as_ref()
                .is_some_and(|data| data.contains_key(name))
        };
        let meta = &secret.metadata;
        let label = meta.labels.as_ref().and_then(|all| all.get(MANAGED.0));
        let since = meta
            .annotations
            .as_ref()
            .and_then(|all| all.get(NEXT_SINCE));
        // Without a time it has not begun to be trusted.
        let since = since.and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        Self {
            ours: label.is_some_and(|label| label == MANAGED.1),
            version: meta.resource_version.as_deref().unwrap_or_default().into(),
            serving: Pair::new(entry(CERTIFICATE), entry(KEY)),
            next: has(NEXT_CERTIFICATE)
                .then(|| (Pair::new(entry(NEXT_CERTIFICATE), entry(NEXT_KEY)), since)),
            authorities: entry(AUTHORITIES).into(),
        }
    }
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing before this time (Unix seconds).
    Wait(i64),
    /// There is no Secret: make the first generation.
    Make,
    /// What is there cannot be used: a new generation at once.
    Replace(Unfit),
    /// The end is near: put the next generation beside it.
    Prepare,
    /// Show the next generation.
    Promote,
    /// It is somebody else's, and cannot be used: say so.
    Leave(Unfit),
}

/// What to do about what was found. `trusted_since`: from when (Unix seconds) this process has known
/// that the configuration carries all of [`Stored::authorities`].
pub fn step(found: Option<&Stored>, terms: &Terms, trusted_since: Option<i64>, now: i64) -> Step {
    let Some(found) = found else {
        return Step::Make;
    };
    let check = |pair: &Pair| pair.check(&found.authorities, &terms.names, now);
    let fit = check(&found.serving);
    let end = found.serving.ends().unwrap_or(now);
    if !found.ours {
        return match fit {
            Ok(()) => Step::Wait(end),
            Err(unfit) => Step::Leave(unfit),
        };
    }
    let next = found.next.as_ref().filter(|(pair, _)| check(pair).is_ok());
    match (fit, next) {
        // Nothing better is to be had by waiting.
        (Err(_), Some(_)) => Step::Promote,
        (Err(unfit), None) => Step::Replace(unfit),
        (Ok(()), Some((_, since))) => {
            let seen = trusted_since.map(|trusted| trusted.max(*since));
            match seen.map(|seen| seen.saturating_add(terms.overlap)) {
                Some(at) if at <= now => Step::Promote,
                Some(at) => Step::Wait(at),
                // The configuration is being written.
                None => Step::Wait(end),
            }
        }
        (Ok(()), None) => match end.saturating_sub(terms.renew) {
            at if at <= now => Step::Prepare,
            at => Step::Wait(at),
        },
    }
}

/// The Secret of a first generation.
pub fn first(namespace: &str, name: &str, fresh: &Fresh) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.labels = Some([(MANAGED.0.to_owned(), MANAGED.1.to_owned())].into());
    secret.type_ = Some("kubernetes.io/tls".to_owned());
    let entries = [
        (CERTIFICATE, fresh.pair.certificate.to_vec()),
        (KEY, fresh.pair.key.to_vec()),
        (AUTHORITIES, fresh.authority.clone().into_bytes()),
    ];
    let entries = entries.map(|(entry, bytes)| (entry.to_owned(), ByteString(bytes)));
    secret.data = Some(entries.into());
    secret
}

/// The merge patch that replaces what cannot be used. Who was trusted stays so, as long as it has not
/// ended: a replica may still show what it has in memory.
pub fn replaced(found: &Stored, fresh: &Fresh) -> Value {
    patch(
        found,
        [
            (CERTIFICATE, Some(&*fresh.pair.certificate)),
            (KEY, Some(&*fresh.pair.key)),
            (NEXT_CERTIFICATE, None),
            (NEXT_KEY, None),
        ],
        Some(&trusted(found, fresh)),
        None,
    )
}

/// The merge patch that puts the next generation beside the one that is shown.
pub fn prepared(found: &Stored, fresh: &Fresh) -> Value {
    patch(
        found,
        [
            (NEXT_CERTIFICATE, Some(&*fresh.pair.certificate)),
            (NEXT_KEY, Some(&*fresh.pair.key)),
        ],
        Some(&trusted(found, fresh)),
        Some(fresh.made),
    )
}

/// The merge patch that lets the next generation take over; `None`: there is none.
pub fn promoted(found: &Stored) -> Option<Value> {
    let (next, _) = found.next.as_ref()?;
    Some(patch(
        found,
        [
            (CERTIFICATE, Some(&*next.certificate)),
            (KEY, Some(&*next.key)),
            (NEXT_CERTIFICATE, None),
            (NEXT_KEY, None),
        ],
        None,
        None,
    ))
}

/// The authority of what is shown, if it has not ended, and the new one.
fn trusted(found: &Stored, fresh: &Fresh) -> Vec<u8> {
    let shown = chain(&found.serving.certificate);
    let signed = |block: &&str| {
        let issuers = chain(block.as_bytes());
        let pair = shown.first().zip(issuers.first());
        pair.is_some_and(|(shown, issuer)| {
            let parsed = parse_x509_certificate(shown)
                .ok()
                .zip(parse_x509_certificate(issuer).ok());
            parsed.is_some_and(|((_, shown), (_, issuer))| {
                issuer.subject() == shown.issuer()
                    && issuer.validity().not_after.timestamp() > fresh.made
            })
        })
    };
    let text = String::from_utf8_lossy(&found.authorities);
    let kept = text.split_inclusive(END_OF_BLOCK).find(signed);
    let kept = kept
        .map(|block| format!("{}\n", block.trim_start()))
        .unwrap_or_default();
    (kept + &fresh.authority).into_bytes()
}

/// On the version that was looked at: twice is refused the second time.
fn patch<'a>(
    found: &Stored,
    entries: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    authorities: Option<&[u8]>,
    next_since: Option<i64>,
) -> Value {
    let mut data = Map::new();
    for (name, bytes) in entries {
        let bytes = bytes.map(|bytes| ByteString(bytes.to_vec()));
        data.insert(name.to_owned(), json!(bytes));
    }
    if let Some(authorities) = authorities {
        data.insert(
            AUTHORITIES.to_owned(),
            json!(ByteString(authorities.to_vec())),
        );
    }
    json!({
        "metadata": {
            "resourceVersion": &*found.version,
            "annotations": {NEXT_SINCE: next_since.map(|at| at.to_string())},
        },
        "data": data,
    })
}
