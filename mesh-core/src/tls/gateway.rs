//! Certificates that gateways serve to clients outside the mesh, and what they ask of the clients' own.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite as Suite, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::client::Expected;
use super::{TlsError, certificates, private_key, provider};
use crate::model::{CipherSuite, Secret, ServerTls, TlsMode, TlsVersion};

/// What one server of a gateway is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// How TLS is handled.
    pub tls: &'a ServerTls,
    /// The certificates with their keys, at least one of which can be used.
    pub certificates: &'a [Arc<Secret>],
    /// Whom to trust; the first certificate's secret when it is not named apart.
    pub trust: &'a Secret,
}

/// The configuration for one server of a gateway: TLS 1.2 and 1.3 unless set otherwise, HTTP/2 preferred.
///
/// Sessions are resumed only where no client certificate is asked for, since a resumed session would carry the
/// certificate of an earlier check.
///
/// # Errors
/// When a secret lacks a part that the mode needs, its parts do not fit, or the versions and suites leave nothing to speak.
pub fn server_config(parts: Parts<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(restricted(&parts.tls.cipher_suites));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(parts.tls)?)
        .map_err(TlsError::Pair)?;
    let asks_for_certificate = parts.tls.asks_for_certificate();
    let builder = if asks_for_certificate {
        builder.with_client_cert_verifier(client_verifier(parts.tls, parts.trust)?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(parts.certificates, &provider)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks_for_certificate {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn versions(tls: &ServerTls) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let min = tls.min_version.unwrap_or(TlsVersion::V12);
    let max = tls.max_version.unwrap_or(TlsVersion::V13);
    let known = [(TlsVersion::V13, &TLS13), (TlsVersion::V12, &TLS12)];
    let spoken: Vec<_> = known.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, v)| v).collect();
    if spoken.is_empty() {
        Err(TlsError::Missing("version of TLS between the oldest and the newest allowed"))
    } else {
        Ok(spoken)
    }
}

/// The provider with only these suites of TLS 1.2; all when none is named.
fn restricted(suites: &[CipherSuite]) -> CryptoProvider {
    let mut provider = (*provider()).clone();
    let named: Vec<Suite> = suites.iter().map(|suite| suite_of(*suite)).collect();
    if !named.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.version().version == ProtocolVersion::TLSv1_3 || named.contains(&suite.suite())
        });
    }
    provider
}

const fn suite_of(suite: CipherSuite) -> Suite {
    match suite {
        CipherSuite::EcdsaAes128 => Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

/// Certificates for the same names, with keys of different kinds.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    fn new(secrets: &[Arc<Secret>], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let certified = |secret: &Arc<Secret>| {
            certified(&secret.certificates, &secret.private_key, provider).map(Arc::new)
        };
        let (usable, refused): (Vec<_>, Vec<_>) = secrets.iter().map(certified).partition(Result::is_ok);
        let usable: Vec<_> = usable.into_iter().flatten().collect();
        // One of several that is of no use leaves the others to be shown.
        match refused.into_iter().find_map(Result::err) {
            Some(error) if usable.is_empty() => Err(error),
            None if usable.is_empty() => Err(TlsError::Missing("certificate")),
            _ => Ok(Self(usable)),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(usable).or_else(|| self.0.first()).cloned()
    }
}

/// Whether a certificate chain (PEM, the leaf first) can be shown with this key (PEM).
///
/// # Errors
/// When one of them cannot be read, or the key is another certificate's.
pub fn check_pair(chain: &str, key: &str) -> Result<(), TlsError> {
    certified(chain, key, &provider()).map(drop)
}

/// Whether certificates (PEM) can be trusted as anchors.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn check_anchors(pem: &str) -> Result<(), TlsError> {
    roots(pem).map(drop)
}

fn certified(chain: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = (certificates(chain)?, private_key(key)?);
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
}

fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(TlsError::Pair)?;
    }
    Ok(roots)
}

fn client_verifier(tls: &ServerTls, trust: &Secret) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = roots(&trust.trust_anchors)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if tls.mode == TlsMode::OptionalMutual { builder.allow_unauthenticated() } else { builder };
    let chain = builder.build().map_err(|error| TlsError::Pair(rustls::Error::General(error.to_string())))?;
    Ok(Expected::beside(chain, tls))
}

#[cfg(test)]
mod tests;
