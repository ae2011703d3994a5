//! TLS for the `https` ports of the server and for `https` URLs of the clients. The mesh's own mTLS is not here:
//! applications do not know about it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
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
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read key {}", key.display()))?;
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

/// A client that trusts the certificates in `roots` alone and speaks one version of HTTP.
pub(crate) fn client_config(roots: Option<&Path>, alpn: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in roots.map(read_certificates).transpose()?.unwrap_or_default() {
        store.add(certificate)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Ok(Arc::new(config))
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let context = || format!("cannot read certificates {}", path.display());
    CertificateDer::pem_file_iter(path).with_context(context)?.collect::<Result<_, _>>().with_context(context)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
