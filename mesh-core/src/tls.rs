//! TLS with mesh identities, and the certificates that gateways serve.
//!
//! [`MeshTls`] holds what a proxy proves itself with and whom it trusts, and is swapped while connections go on.
//! Between proxies it is TLS 1.3 only, both sides show a certificate, and nothing is ever resumed: a resumed session
//! would carry an identity that no current check has seen. Which identity may serve a destination is checked by the
//! caller after the handshake and before the first byte, with [`expect_identity`].
//!
//! All use of rustls' configuration types is in this module; the provider is always passed explicitly.

mod client;
pub mod facts;
pub mod gateway;
mod jwk;
mod mesh;
pub mod origin;
mod signatures;
pub mod system;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};

pub use client::{fingerprint, forwarded_element};
pub use facts::{PeerFacts, WORKLOAD_EXTENSION, peer_facts, validity};
pub use mesh::{MeshAlpn, MeshTls, expect_identity};
pub use signatures::Signatures;

/// ALPN protocols of the mesh, as Istio names them.
pub mod alpn {
    /// Bytes of an undeclared or TCP protocol.
    pub const TCP: &[u8] = b"istio";
    /// HTTP/1.1 requests.
    pub const HTTP1: &[u8] = b"istio-http/1.1";
    /// HTTP/2 requests.
    pub const HTTP2: &[u8] = b"istio-h2";

    /// Whether a ClientHello's protocol list is a mesh peer's.
    pub fn is_mesh(protocol: &[u8]) -> bool {
        protocol == TCP || protocol == HTTP1 || protocol == HTTP2
    }
}

/// The one crypto provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Certificates in a PEM text, in order.
///
/// # Errors
/// When there is none, or one is not PEM.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what: "certificate", source })?;
    if all.is_empty() { Err(TlsError::Missing("certificate")) } else { Ok(all) }
}

/// The trust anchors in a PEM text.
///
/// # Errors
/// When there is none, or one cannot serve as an anchor.
pub fn anchors(pem: &str) -> Result<Vec<TrustAnchor<'static>>, TlsError> {
    certificates(pem)?
        .iter()
        .map(|certificate| webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned()))
        .collect::<Result<_, _>>()
        .map_err(TlsError::Anchor)
}

/// The private key in a PEM text.
///
/// # Errors
/// When there is none, or it is not PEM.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "private key", source })
}

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("the {what} is not valid PEM")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What the parser says.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file that a rule names cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which one.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A secret that a rule names is not ours to have, or does not exist.
    #[error(
        "secret {0} is not held: it must lie beside the gateway's pod, or the rule must select the workload"
    )]
    NoSecret(String),
    /// Nothing there.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// A certificate that cannot serve as a trust anchor.
    #[error("a trust anchor is not a valid certificate")]
    Anchor(#[source] webpki::Error),
    /// Certificate and key do not fit, or the key is of a kind we do not use.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// The certificate carries no identity of ours.
    #[error("the certificate carries no mesh identity: {0}")]
    Identity(String),
    /// The peer proved an identity, but not one that may serve this destination.
    #[error("the peer is {found}, which may not serve here: expected {expected}")]
    WrongPeer {
        /// Who it is.
        found: String,
        /// Who may.
        expected: String,
    },
    /// Nothing has been installed yet.
    #[error("no mesh certificate is held yet")]
    NotReady,
}

#[cfg(test)]
mod tests;
