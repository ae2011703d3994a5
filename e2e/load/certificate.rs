//! The certificates of every subject that terminates TLS: keys on P-256 for all, so that the work is the same.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
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

/// Who calls in a chain, and who is called.
pub(crate) const CALLER: &str = "spiffe://cluster.local/ns/default/sa/caller";
pub(crate) const CALLED: &str = "spiffe://cluster.local/ns/default/sa/called";

/// What the two ends of a chain show each other: `caller.pem`, `caller-key.pem`, `called.pem`, `called-key.pem`, and who
/// has signed them, `root.pem`.
pub(crate) struct Identities {
    pub(crate) folder: PathBuf,
}

impl Identities {
    /// Makes them and writes their files.
    pub(crate) fn generate(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("identities");
        std::fs::create_dir_all(&folder)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Certificates whose subject is their issuer's are taken for self-signed by some.
        params.distinguished_name.push(DnType::CommonName, "mesh-bench root");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(folder.join("root.pem"), root.pem())?;
        for (name, identity) in [("caller", CALLER), ("called", CALLED)] {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &root)?.pem())?;
            std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem())?;
        }
        Ok(Self { folder })
    }
}
