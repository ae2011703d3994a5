//! Certificates that gateways serve to clients outside the mesh.

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::{TlsError, certificates, private_key, provider};
use crate::model::{Secret, TlsMode};

/// The configuration for one server of a gateway: TLS 1.2 and 1.3, HTTP/2 preferred.
///
/// Sessions are resumed only where no client certificate is asked for, since a resumed session would carry the
/// certificate of an earlier check.
///
/// # Errors
/// When the secret lacks a part the mode needs, or its parts do not fit.
pub fn server_config(mode: TlsMode, secret: &Secret) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&secret.certificates)?;
    let key = private_key(&secret.private_key)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let asks_for_certificate = matches!(mode, TlsMode::Mutual | TlsMode::OptionalMutual);
    let mut config = if asks_for_certificate {
        builder.with_client_cert_verifier(client_verifier(mode, secret)?).with_single_cert(chain, key)
    } else {
        builder.with_no_client_auth().with_single_cert(chain, key)
    }
    .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks_for_certificate {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn client_verifier(
    mode: TlsMode,
    secret: &Secret,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&secret.trust_anchors)? {
        roots.add(certificate).map_err(TlsError::Pair)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if mode == TlsMode::OptionalMutual { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| TlsError::Pair(rustls::Error::General(error.to_string())))
}
