//! Keys and certificates of one control plane: an authority, the API server's certificate and the
//! key that signs service account tokens. Made anew each time; nothing trusts them but their folder.

use std::{fs, net::IpAddr, path::Path};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// The authority's certificate.
pub(crate) const CA: &str = "ca.crt";
/// The API server's certificate.
pub(crate) const CERTIFICATE: &str = "apiserver.crt";
/// The API server's key.
pub(crate) const KEY: &str = "apiserver.key";
/// With which the API server shows a kubelet who it is.
pub(crate) const CLIENT: &str = "apiserver-kubelet-client.crt";
/// Its key.
pub(crate) const CLIENT_KEY: &str = "apiserver-kubelet-client.key";
/// Signs service account tokens.
pub(crate) const SERVICE_ACCOUNT_KEY: &str = "sa.key";
/// Verifies them; the API server cannot read it out of the private one in PKCS #8.
pub(crate) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "sa.pub";

/// Writes them into `folder`, for an API server at these addresses.
pub(crate) fn write(folder: &Path, addresses: &[IpAddr]) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.distinguished_name).push(DnType::CommonName, "portolan test cluster");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    // The names under which pods know the API server.
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let mut server = CertificateParams::new(names.map(String::from))?;
    (server.distinguished_name).push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let addresses = addresses.iter().map(|address| SanType::IpAddress(*address));
    server.subject_alt_names.extend(addresses);
    let key = KeyPair::generate()?;
    let server = server.signed_by(&key, &authority)?;

    let mut client = CertificateParams::default();
    (client.distinguished_name).push(DnType::CommonName, "kube-apiserver-kubelet-client");
    (client.distinguished_name).push(DnType::OrganizationName, "system:masters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client_key = KeyPair::generate()?;
    let client = client.signed_by(&client_key, &authority)?;

    fs::write(folder.join(CLIENT), client.pem())?;
    fs::write(folder.join(CLIENT_KEY), client_key.serialize_pem())?;
    fs::write(folder.join(CA), authority.pem())?;
    fs::write(folder.join(CERTIFICATE), server.pem())?;
    fs::write(folder.join(KEY), key.serialize_pem())?;
    let service_accounts = KeyPair::generate()?;
    let (private, public) = (
        service_accounts.serialize_pem(),
        service_accounts.public_key_pem(),
    );
    fs::write(folder.join(SERVICE_ACCOUNT_KEY), private)?;
    fs::write(folder.join(SERVICE_ACCOUNT_PUBLIC_KEY), public)?;
    Ok(())
}
