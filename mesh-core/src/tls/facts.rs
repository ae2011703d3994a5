//! What a peer's certificate says: its identity, and the workload facts that the CA wrote beside it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::identity::SpiffeId;
use crate::model::Workload;

/// Object identifier of the certificate extension that carries [`Workload`] as JSON. Non-critical: other
/// implementations ignore it.
pub const WORKLOAD_EXTENSION: &[u64] = &[1, 3, 6, 1, 4, 1, 58888, 1, 1];

/// Longest workload extension that is read, in bytes.
const MAX_FACTS: usize = 4096;

/// Who a peer is, as its verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// The identity.
    pub identity: SpiffeId,
    /// The workload, when our CA wrote it.
    pub workload: Option<Workload>,
}

/// Reads a verified chain's leaf; call it once per handshake.
///
/// # Errors
/// When the chain is empty or its leaf carries no identity.
pub fn peer_facts(chain: &[CertificateDer<'_>]) -> Result<PeerFacts, TlsError> {
    let leaf = chain.first().ok_or(TlsError::Missing("certificate"))?;
    Ok(PeerFacts { identity: identity(leaf)?, workload: workload(leaf) })
}

/// The one URI name of a leaf (X509-SVID §2: exactly one).
pub(super) fn identity(leaf: &CertificateDer<'_>) -> Result<SpiffeId, TlsError> {
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| TlsError::Identity(error.to_string()))?;
    let mut names = certificate.valid_uri_names();
    let name = names.next().ok_or_else(|| TlsError::Identity("it has no URI name".into()))?;
    if names.next().is_some() {
        return Err(TlsError::Identity("it has more than one URI name".into()));
    }
    name.parse().map_err(|error: crate::identity::InvalidIdentity| TlsError::Identity(error.to_string()))
}

/// Facts that cannot be read are as good as none: they label metrics and decide nothing.
fn workload(leaf: &CertificateDer<'_>) -> Option<Workload> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let oid = Oid::from(WORKLOAD_EXTENSION).ok()?;
    let extension = certificate.get_extension_unique(&oid).ok()??;
    if extension.value.len() > MAX_FACTS {
        return None;
    }
    serde_json::from_slice(extension.value).ok()
}

/// From when to when a certificate is valid.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let at = |time: x509_parser::time::ASN1Time| {
        Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).ok()?))
    };
    Some((at(certificate.validity().not_before)?, at(certificate.validity().not_after)?))
}
