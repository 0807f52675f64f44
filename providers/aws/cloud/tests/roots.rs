//! In our image there are no files but the program: HTTPS to AWS works there, too. Each question is
//! asked by a child process, since the environment says where a machine has its root certificates.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::{fs, io::Read as _, net::TcpListener, path::Path, process::Command, sync::Arc, thread};

use aws_cloud::{Cloud, Connect, Error};
use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Set for children only: where AWS is.
const ENDPOINT: &str = "ROOTS_TEST_ENDPOINT";
/// The test that is the child, too.
const TRUSTED: &str = "whom_the_machine_trusts_is_trusted";

/// A server with a certificate of its own for `localhost`; it takes one connection after the other
/// and answers nothing.
fn server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut buffer = [0; 1024];
            // Until the client hangs up, or asks something.
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let _end = tls.read(&mut buffer);
        }
    });
    (port, made.cert.pem())
}

/// What a process says of that server whose machine has these root certificates.
fn told(port: u16, roots: &Path) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TRUSTED, "--nocapture"])
        .env(ENDPOINT, format!("https://localhost:{port}"))
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    told
}

/// Asks AWS, which is at `endpoint`, and prints what comes of it.
fn child(endpoint: String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(async {
        let connect = Connect {
            region: Some("eu-central-1".to_owned()),
            vpc: Some("vpc-1".to_owned()),
            endpoint: Some(endpoint),
            ..Connect::new("test")
        };
        let cloud = Cloud::connect(connect).await.unwrap();
        cloud.network("vpc-1", &[]).await.unwrap_err()
    });
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    println!("{error}");
}

#[test]
fn without_root_certificates_of_the_machine_a_stranger_is_a_stranger_and_nothing_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let told = told(server().0, &none);
    assert!(told.contains("UnknownIssuer"), "{told}");
}

#[test]
fn whom_the_machine_trusts_is_trusted() {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        return child(endpoint);
    }
    let (port, certificate) = server();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, certificate).unwrap();
    // The connection stands; it ends because the server says nothing.
    let told = told(port, &roots);
    assert!(!told.contains("UnknownIssuer"), "{told}");
    assert!(!told.contains("certificate"), "{told}");
}
