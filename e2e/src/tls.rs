//! TLS for the `https` ports of the server and for `https` URLs of the clients. The mesh's own mTLS is not here:
//! applications do not know about it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Reads the certificate chain and key of a server, and whose certificates clients must show.
pub(crate) fn server_config(
    chain: &Path,
    key: &Path,
    clients: Option<&Path>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let certificates = read_certificates(chain)?;
    let key = read_key(key)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(authorities) => {
            let mut store = RootCertStore::empty();
            for certificate in read_certificates(authorities)? {
                store.add(certificate)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a client trusts, shows and speaks.
pub(crate) struct ClientSettings<'a> {
    /// Certificates to trust, and no others.
    pub roots: Option<&'a Path>,
    /// Chain and key to show to a server that asks.
    pub certificate: Option<(&'a Path, &'a Path)>,
    /// The one version of HTTP.
    pub alpn: &'a str,
}

/// The configuration of a client.
pub(crate) fn client_config(settings: &ClientSettings<'_>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in settings.roots.map(read_certificates).transpose()?.unwrap_or_default() {
        store.add(certificate)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let mut config = match settings.certificate {
        Some((chain, key)) => builder
            .with_client_auth_cert(read_certificates(chain)?, read_key(key)?)
            .with_context(|| format!("cannot show {} with the key {}", chain.display(), key.display()))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![settings.alpn.as_bytes().to_vec()];
    Ok(Arc::new(config))
}

/// At least one.
fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let context = || format!("cannot read certificates {}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(context)?
        .collect::<Result<_, _>>()
        .with_context(context)?;
    ensure!(!all.is_empty(), "{} holds no certificate in PEM", path.display());
    Ok(all)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("cannot read key {}", path.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
