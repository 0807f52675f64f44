//! Whose certificates are believed: the machine's root certificates (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name others), and Mozilla's, built in, where the machine has none, as in our image.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Error;

/// What HTTPS to AWS is made with.
///
/// # Errors
/// [`Error::Invalid`]: the TLS library does not take it.
pub(super) fn context() -> Result<TlsContext, Error> {
    let native = rustls_native_certs::load_native_certs();
    let trusted = if native.certs.is_empty() {
        // Not as well as the machine's: without any of those the SDK panics in debug builds.
        mozilla()
    } else {
        TrustStore::default()
    };
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.map_err(|error| Error::Invalid {
        message: format!("root certificates cannot be used: {error}"),
    })
}

fn mozilla() -> TrustStore {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    roots.fold(TrustStore::empty(), |store, root| {
        store.with_pem_certificate(pem(root))
    })
}

/// RFC 7468 asks writers for lines of 64 characters; readers do not mind.
fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
