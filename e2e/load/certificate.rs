//! The certificate of every subject that terminates TLS: one key, on P-256, so that the work is the same.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use crate::generator::HOST;

/// A certificate that nobody but the generator trusts.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    /// Files with the certificate, with its key, and with both.
    pub(crate) files: [PathBuf; 3],
}

impl Certificate {
    /// Makes one and writes its files.
    pub(crate) fn generate(folder: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let (chain_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let files = ["chain.pem", "key.pem", "both.pem"].map(|name| folder.join(name));
        std::fs::write(&files[0], &chain_pem)?;
        std::fs::write(&files[1], &key_pem)?;
        std::fs::write(&files[2], format!("{chain_pem}{key_pem}"))?;
        Ok(Self { der: made.cert.der().clone(), chain_pem, key_pem, files })
    }
}
