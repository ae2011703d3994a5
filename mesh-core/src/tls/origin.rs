//! TLS towards servers outside the mesh: whom we trust, which names they must carry, and what we show them.
//!
//! A server is always verified unless the user has said, in so many words, that it is not to be: where no authority is
//! named the system's count (Istio would verify nothing then). A configuration is made per destination and replaced as a
//! whole when a certificate changes, so that no connection of the one before is used again.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::facts::identity;
use super::verify::{refused, verify_chain};
use super::{MeshAlpn, TlsError, certificates, private_key, provider};

/// How TLS to a destination is made.
#[derive(Debug, Clone, Default)]
pub struct Origination<'a> {
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Names of which the certificate must carry one, DNS names, addresses or URIs; empty for the server name.
    pub names: &'a [String],
    /// Our own certificate chain and its key, both PEM, for servers that ask for one.
    pub certificate: Option<(&'a str, &'a str)>,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Nobody's.
    #[default]
    None,
    /// Those that these have signed.
    Anchors(Arc<[TrustAnchor<'static>]>),
    /// Everybody's: the user's `insecureSkipVerify`.
    Unverified,
}

/// The configurations for a destination, by [`MeshAlpn`] in the order of its variants: offering HTTP/1.1, HTTP/2, nothing.
///
/// # Errors
/// When our certificate and key are broken or do not fit.
pub fn client_configs(settings: &Origination<'_>) -> Result<[Arc<ClientConfig>; 3], TlsError> {
    let provider = provider();
    let verifier = Arc::new(OriginVerifier {
        trust: settings.trust.clone(),
        names: settings.names.to_vec(),
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = certified(builder, settings.certificate)?;
    let speaking = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    let mut all = [speaking(&[b"http/1.1"]), speaking(&[b"http/1.1"]), speaking(&[])];
    all[MeshAlpn::Http2 as usize] = speaking(&[b"h2"]);
    Ok(all)
}

fn certified(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: Option<(&str, &str)>,
) -> Result<ClientConfig, TlsError> {
    let Some((chain, key)) = certificate else { return Ok(builder.with_no_client_auth()) };
    builder.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(TlsError::Pair)
}

#[derive(Debug)]
struct OriginVerifier {
    trust: Trust,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl OriginVerifier {
    fn verify_name(
        &self,
        leaf: &EndEntityCert<'_>,
        end_entity: &CertificateDer<'_>,
        dialled: &ServerName<'_>,
    ) -> Result<(), Error> {
        let carries = |name: &ServerName<'_>| leaf.verify_is_valid_for_subject_name(name).is_ok();
        if self.names.is_empty() {
            let wrong = || wrong_name(&dialled.to_str());
            return carries(dialled).then_some(()).ok_or_else(wrong);
        }
        let uri = identity(end_entity).ok().map(|identity| identity.to_string());
        let wanted = |name: &String| match ServerName::try_from(name.as_str()) {
            Ok(name) => carries(&name),
            Err(_) => uri.as_ref() == Some(name),
        };
        self.names.iter().any(wanted).then_some(()).ok_or_else(|| wrong_name(&self.names.join(", ")))
    }
}

fn wrong_name(expected: &str) -> Error {
    Error::General(format!("the server's certificate is not for {expected}"))
}

impl ServerCertVerifier for OriginVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchors: &[TrustAnchor<'_>] = match &self.trust {
            Trust::Unverified => return Ok(ServerCertVerified::assertion()),
            Trust::None => &[],
            Trust::Anchors(anchors) => anchors,
        };
        let leaf = EndEntityCert::try_from(end_entity).map_err(refused)?;
        verify_chain(&self.provider, &leaf, intermediates, anchors, now, KeyUsage::server_auth())?;
        self.verify_name(&leaf, end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
