//! A certificate that somebody else keeps, in a folder: read again and again, for what the kubelet
//! brings there is not announced.

use std::{io, path::Path, sync::Arc};

use crate::core::certificates::{AUTHORITIES, CERTIFICATE, KEY, Pair};

/// What the folder holds; `None` for the authorities where there are none, as when a public authority
/// has signed.
pub(super) fn read(folder: &Path) -> io::Result<(Pair, Option<Arc<[u8]>>)> {
    let entry = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let authorities = match entry(AUTHORITIES) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok((Pair::new(entry(CERTIFICATE)?, entry(KEY)?), authorities))
}
