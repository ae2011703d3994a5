//! The authorities that the system trusts, for destinations whose rule names none (D8).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::TrustAnchor;

use super::{TlsError, anchors};

/// Where systems keep the bundle: Debian and Alpine, Fedora, openSUSE, the BSDs.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's bundle: the file that `SSL_CERT_FILE` names, else the first that is there, else none.
pub fn bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()))
}

/// The anchors in the system's bundle and in `extra`. `report` is told of a bundle that cannot be read; it is left out,
/// and destinations that need it then fail their handshake.
pub fn system_anchors(extra: Option<&Path>, report: impl Fn(&Path, TlsError)) -> Arc<[TrustAnchor<'static>]> {
    let mut all = Vec::new();
    for path in bundle().iter().map(PathBuf::as_path).chain(extra) {
        match read(path) {
            Ok(found) => all.extend(found),
            Err(error) => report(path, error),
        }
    }
    all.into()
}

/// One certificate of a system's bundle that we cannot use must not cost all others, so such are skipped.
fn read(path: &Path) -> Result<Vec<TrustAnchor<'static>>, TlsError> {
    let pem = read_file(path)?;
    let usable = |certificate: &_| webpki::anchor_from_trusted_cert(certificate).ok().map(|it| it.to_owned());
    Ok(super::certificates(&pem)?.iter().filter_map(usable).collect())
}

/// The anchors in a PEM file that a rule names: each must be usable.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn file_anchors(path: &Path) -> Result<Arc<[TrustAnchor<'static>]>, TlsError> {
    anchors(&read_file(path)?).map(Into::into)
}

/// A PEM file.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path)
        .map_err(|source| TlsError::File { path: path.display().to_string(), source })
}
