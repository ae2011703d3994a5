//! The mesh's certificate authority: it signs the *authenticated* caller's identity, whatever the request says.
//!
//! Of a signing request only the key counts, and the proof that its sender holds it. Names, extensions and constraints in
//! it are ignored, so that a request cannot widen what it is given (CA-01 of the attack list). Keys are P-256 or P-384;
//! anything larger only costs time. The root's key stays in the state folder, readable by its owner only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_core::identity::SpiffeId;
use mesh_core::model::Workload;
use mesh_core::tls::WORKLOAD_EXTENSION;
use mesh_core::wire::CONTROL_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use time::OffsetDateTime;

/// How long a certificate lives unless less is asked for.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The shortest life that is given.
const SHORTEST: Duration = Duration::from_secs(60);
/// Validity begins this long ago, for peers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(120);
/// How long a root lives.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Largest signing request, in bytes.
const LARGEST_REQUEST: usize = 8 * 1024;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What is trusted, PEM; may be several.
    root: String,
    /// From the signing certificate towards the root, PEM; empty when the root itself signs.
    chain: String,
    expires: OffsetDateTime,
}

impl Authority {
    /// Opens the authority kept in `folder`, or makes a new one there.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or what is in it is not an authority.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let (root, key) = (folder.join("ca-cert.pem"), folder.join("ca-key.pem"));
        if !key.exists() {
            let (root_pem, key_pem) = generate()?;
            fs::create_dir_all(folder).map_err(|source| AuthorityError::file(folder, source))?;
            write_private(&key, &key_pem)?;
            write_private(&root, &root_pem)?;
        }
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|source| AuthorityError::file(path, source));
        Self::from_pem(&read(&root)?, &read(&key)?, None)
    }

    /// A new root, with its key: PEM.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn make() -> Result<(String, String), AuthorityError> {
        generate()
    }

    /// An authority that signs with the first of `certificates`, and trusts `roots`.
    ///
    /// The form of cert-manager's Secrets: `tls.crt` with the signing certificate and what is between it and the root, `tls.key`,
    /// and `ca.crt`. A signing certificate that signed itself needs no `ca.crt`.
    ///
    /// # Errors
    /// When they are not certificates and their key, or when nothing says whom to trust.
    pub fn from_pem(certificates: &str, key: &str, roots: Option<&str>) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(AuthorityError::Broken)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificates.as_bytes())
            .map_err(|_| AuthorityError::NotACertificate)?;
        let certificate = pem.parse_x509().map_err(|_| AuthorityError::NotACertificate)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::AnotherKey);
        }
        let expires = certificate.validity().not_after.to_datetime();
        let is_root = certificate.subject() == certificate.issuer();
        let (root, chain) = match roots.filter(|roots| !roots.trim().is_empty()) {
            Some(roots) if is_root => (roots.to_owned(), String::new()),
            Some(roots) => (roots.to_owned(), certificates.to_owned()),
            None if is_root => (certificates.to_owned(), String::new()),
            None => return Err(AuthorityError::NoRoot),
        };
        let issuer = Issuer::from_ca_cert_pem(certificates, key).map_err(AuthorityError::Broken)?;
        Ok(Self { issuer, root, chain, expires })
    }

    /// The root, PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Signs the key of a PKCS#10 request (DER) for `identity`. Returns PEM.
    ///
    /// `lifetime` is what the caller wants; it is kept between a minute and 24 h, and never past the root's.
    ///
    /// # Errors
    /// When the request is not one, is not signed by its own key, or has a key of another kind than P-256 or P-384.
    pub fn sign(
        &self,
        csr: &[u8],
        identity: &SpiffeId,
        workload: &Workload,
        lifetime: Option<Duration>,
    ) -> Result<String, RequestError> {
        if csr.len() > LARGEST_REQUEST {
            return Err(RequestError::TooLarge);
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(RequestError::Malformed)?;
        let algorithm = request.public_key.algorithm();
        if algorithm != &rcgen::PKCS_ECDSA_P256_SHA256 && algorithm != &rcgen::PKCS_ECDSA_P384_SHA384 {
            return Err(RequestError::Key);
        }
        let mut params = self.leaf(lifetime.unwrap_or(LIFETIME));
        let uri = identity.as_str().try_into().map_err(RequestError::Malformed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let facts = serde_json::to_vec(workload).expect("a workload is plain text");
        params.custom_extensions = vec![CustomExtension::from_oid_content(WORKLOAD_EXTENSION, facts)];
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(RequestError::Malformed)?;
        Ok(signed.pem() + &self.chain)
    }

    /// A certificate and key, PEM, for the control plane's own server.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn server(&self, address: std::net::IpAddr) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Broken)?;
        let mut params = self.leaf(ROOT_LIFETIME);
        let name = CONTROL_NAME.try_into().map_err(AuthorityError::Broken)?;
        params.subject_alt_names = vec![SanType::DnsName(name), SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Broken)?;
        Ok((signed.pem() + &self.chain, key.serialize_pem()))
    }

    /// A certificate and key, PEM, for a server of ours under these DNS names. It lives as long as a workload's.
    ///
    /// # Errors
    /// When a name is not one, or the system has no randomness.
    pub fn server_named(&self, names: &[String]) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Broken)?;
        let mut params = self.leaf(LIFETIME);
        let name = |name: &String| name.as_str().try_into().map(SanType::DnsName);
        params.subject_alt_names =
            names.iter().map(name).collect::<Result<_, _>>().map_err(AuthorityError::Broken)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Broken)?;
        Ok((signed.pem() + &self.chain, key.serialize_pem()))
    }

    fn leaf(&self, lifetime: Duration) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = now - BACKDATED;
        params.not_after = (now + lifetime.max(SHORTEST)).min(self.expires);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params
    }
}

fn generate() -> Result<(String, String), AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "mesh");
    params.distinguished_name.push(DnType::CommonName, "mesh root");
    params.not_before = now - BACKDATED;
    params.not_after = now + ROOT_LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(AuthorityError::Broken)?;
    let root = params.self_signed(&key).map_err(AuthorityError::Broken)?;
    Ok((root.pem(), key.serialize_pem()))
}

fn write_private(path: &Path, text: &str) -> Result<(), AuthorityError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| AuthorityError::file(path, source))
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The root is not a certificate.
    #[error(
        "the authority's certificate is not one; remove it together with its key to make a new authority"
    )]
    NotACertificate,
    /// Certificate and key do not belong together.
    #[error("the authority's key is not its certificate's")]
    AnotherKey,
    /// An intermediate without a root.
    #[error("the authority's certificate is not a root and ca.crt does not say whom to trust")]
    NoRoot,
    /// Key or parameters cannot be used.
    #[error("the authority's key or certificate cannot be used")]
    Broken(#[source] rcgen::Error),
}

impl AuthorityError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// More than 8 KiB.
    #[error("the signing request is larger than 8 KiB")]
    TooLarge,
    /// Not PKCS#10, or not signed by its own key.
    #[error("the signing request is not valid")]
    Malformed(#[source] rcgen::Error),
    /// Another kind of key.
    #[error("the signing request's key is not P-256 or P-384")]
    Key,
}

#[cfg(test)]
mod tests {
    use mesh_core::tls::{certificates, peer_facts, validity};

    use super::*;

    fn identity() -> SpiffeId {
        SpiffeId::new("cluster.local", "default", "web").unwrap()
    }

    fn request(adjust: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        adjust(&mut params);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    /// CA-01: a request that asks for more gets the authenticated identity only.
    #[test]
    fn only_the_authenticated_identity_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let greedy = request(|params| {
            params.subject_alt_names =
                vec![SanType::URI("spiffe://cluster.local/ns/istio-system/sa/admin".try_into().unwrap())];
        });
        let web = Workload { pod: "web-1".into(), ..Workload::default() };
        let pem = authority.sign(&greedy, &identity(), &web, None).unwrap();
        let facts = peer_facts(&certificates(&pem).unwrap()).unwrap();
        assert_eq!((facts.identity, facts.workload), (identity(), Some(web)));
    }

    /// CA-05 and CA-06.
    #[test]
    fn what_is_not_a_small_request_with_a_curve_key_is_refused_and_lifetimes_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let sign = |csr: &[u8], seconds| {
            authority.sign(csr, &identity(), &Workload::default(), Some(Duration::from_secs(seconds)))
        };
        assert!(matches!(sign(&vec![0; 9000], 60), Err(RequestError::TooLarge)));
        assert!(matches!(sign(b"", 60), Err(RequestError::Malformed(_))));
        let mut tampered = request(|_| {});
        let last = tampered.len() - 1;
        tampered[last] ^= 1;
        assert!(matches!(sign(&tampered, 60), Err(RequestError::Malformed(_))));
        let pem = sign(&request(|_| {}), 0).unwrap();
        let (from, until) = validity(&certificates(&pem).unwrap()[0]).unwrap();
        assert_eq!(until.duration_since(from).unwrap(), SHORTEST + BACKDATED);
    }

    #[test]
    fn the_authority_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap().root().to_owned();
        assert_eq!(Authority::open(folder.path()).unwrap().root(), first);
    }
}
