//! Makes an authority and what it signs. The authority's key is gone when this returns: it signs one
//! certificate and never another.

use std::{net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::core::certificates::{Fresh, Pair, Terms};

/// Certificates are valid from so long ago: clocks differ.
const BACKDATED: i64 = 3600;

/// An authority and a certificate for these names, valid from `now` (Unix seconds).
pub(crate) fn certify(terms: &Terms, now: i64) -> Result<Fresh, rcgen::Error> {
    let time = |at: i64| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at).unwrap_or_default())
    };
    let (from, until) = (
        time(now.saturating_sub(BACKDATED)),
        time(now.saturating_add(terms.valid)),
    );
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (authority.not_before, authority.not_after) = (from, until);
    // Two of them in one bundle must not have one name.
    let name = format!("portolan webhook {now}");
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut server = CertificateParams::default();
    for name in &terms.names {
        server.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    (server.not_before, server.not_after) = (from, until);
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let name = "portolan-webhook";
    server.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let server = server.signed_by(&key, &authority)?;
    Ok(Fresh {
        authority: authority.pem(),
        pair: Pair::new(server.pem(), key.serialize_pem()),
        made: now,
    })
}

#[cfg(test)]
mod tests;
