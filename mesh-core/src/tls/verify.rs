//! Verification of mesh peers: a chain to one of our trust anchors, and exactly one identity of our trust domain.
//!
//! Names in certificates of the mesh are URIs; DNS names are neither looked at nor needed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::facts::identity;

/// Verifies peers of one mesh, as server and as client.
#[derive(Debug)]
pub(super) struct MeshVerifier {
    /// Whom we trust; may change while the verifier is in use.
    pub(super) anchors: Arc<ArcSwap<Vec<TrustAnchor<'static>>>>,
    pub(super) trust_domain: String,
    /// Other trust domains that count as ours; they may change while the verifier is in use.
    pub(super) aliases: Arc<ArcSwap<Vec<String>>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl MeshVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(refused)?;
        verify_chain(&self.provider, &certificate, intermediates, &self.anchors.load(), now, usage)?;
        let peer = identity(leaf).map_err(|error| Error::General(error.to_string()))?;
        let domain = peer.trust_domain();
        if self.trust_domain == domain || self.aliases.load().iter().any(|alias| alias == domain) {
            return Ok(());
        }
        Err(Error::General(format!("{peer} is not of this mesh's trust domain")))
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

/// Whether a certificate leads to one of the trust anchors, and may be used so.
pub(super) fn verify_chain(
    provider: &CryptoProvider,
    leaf: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: UnixTime,
    usage: KeyUsage,
) -> Result<(), Error> {
    let algorithms = provider.signature_verification_algorithms.all;
    let verified = leaf.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None);
    verified.map(drop).map_err(refused)
}

/// Why a certificate is not believed.
pub(super) fn refused(error: webpki::Error) -> Error {
    let reason = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::BadDer => CertificateError::BadEncoding,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(reason)
}

/// TLS 1.2 is never negotiated between proxies.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken between proxies".into()))
}

impl ServerCertVerifier for MeshVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for MeshVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
