//! The mesh's certificate authority: it signs the *authenticated* caller's identity, whatever the request says.
//!
//! Of a signing request only the key counts, and the proof that its sender holds it. Names, extensions and constraints in
//! it are ignored, so that a request cannot widen what it is given (CA-01 of the attack list). Keys are P-256 or P-384;
//! anything larger only costs time. The root's key stays in the state folder, readable by its owner only.
//!
//! `check` refuses pairs that proxies would not believe; [`succession`] replaces one authority by another.

mod check;
pub mod keeper;
pub mod succession;

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
    /// Tells its key from others'.
    id: String,
    issuer: Issuer<'static, KeyPair>,
    /// What is trusted, PEM; may be several.
    root: String,
    /// From the signing certificate towards the root, PEM; empty when the root itself signs.
    chain: String,
    expires: OffsetDateTime,
}

impl Authority {
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
    /// When they are not certificates and their key, when nothing says whom to trust, or when proxies would not believe what
    /// is signed with them; the text says what to do.
    pub fn from_pem(certificates: &str, key: &str, roots: Option<&str>) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(AuthorityError::Broken)?;
        let given = check::Given::read(certificates, roots, OffsetDateTime::now_utc())?;
        if given.public_key != key.public_key_raw() {
            return Err(AuthorityError::AnotherKey);
        }
        let id = short_hash(&given.public_key);
        let issuer = Issuer::from_ca_cert_pem(certificates, key).map_err(AuthorityError::Broken)?;
        let authority = Self { id, issuer, root: given.roots, chain: given.chain, expires: given.expires };
        check::is_believed(&authority, &authority.root)?;
        Ok(authority)
    }

    /// Tells its key from others': proxies renew when another signs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is the same in every part.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.id, &self.root, &self.chain) == (&other.id, &other.root, &other.chain)
    }

    /// When the first certificate between what it signs and the root runs out.
    pub const fn expires(&self) -> OffsetDateTime {
        self.expires
    }

    /// Whether those who trust `anchors` (PEM) believe what it signs.
    pub fn is_believed_by(&self, anchors: &str) -> bool {
        check::is_believed(self, anchors).is_ok()
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
        let mut params = self.leaf(lifetime.unwrap_or(LIFETIME).min(LIFETIME));
        let uri = identity.as_str().try_into().map_err(RequestError::Malformed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let facts = serde_json::to_vec(workload).expect("a workload is plain text");
        params.custom_extensions = vec![CustomExtension::from_oid_content(WORKLOAD_EXTENSION, facts)];
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(RequestError::Malformed)?;
        Ok(signed.pem() + &self.chain)
    }

    /// A certificate and key, PEM, for the control plane's own server. It lives as long as a workload's.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn server(&self, address: std::net::IpAddr) -> Result<(String, String), AuthorityError> {
        let name = CONTROL_NAME.try_into().map_err(AuthorityError::Broken)?;
        self.serving(vec![SanType::DnsName(name), SanType::IpAddress(address)])
    }

    /// A certificate and key, PEM, for a server of ours under these DNS names. It lives as long as a workload's.
    ///
    /// # Errors
    /// When a name is not one, or the system has no randomness.
    pub fn server_named(&self, names: &[String]) -> Result<(String, String), AuthorityError> {
        let name = |name: &String| name.as_str().try_into().map(SanType::DnsName);
        self.serving(names.iter().map(name).collect::<Result<_, _>>().map_err(AuthorityError::Broken)?)
    }

    fn serving(&self, names: Vec<SanType>) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Broken)?;
        let mut params = self.leaf(LIFETIME);
        params.subject_alt_names = names;
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

/// Enough of a SHA-256 to tell things apart, in hex.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
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
    /// A part is no certificate.
    #[error("{0} holds no certificate that can be read: put PEM there, or remove it together with its key")]
    NotACertificate(&'static str),
    /// Not yet, or not any more.
    #[error(
        "the certificate of {subject} in {part} is valid from {from} to {until} only: supply one that is valid now"
    )]
    OutOfTime {
        /// Where it is.
        part: &'static str,
        /// Whose it is.
        subject: String,
        /// First moment.
        from: OffsetDateTime,
        /// Last moment.
        until: OffsetDateTime,
    },
    /// A certificate that may not sign others.
    #[error(
        "the certificate of {subject} in {part} may not sign others: {lacks}; supply a CA's (cert-manager: isCA: true)"
    )]
    NotACa {
        /// Where it is.
        part: &'static str,
        /// Whose it is.
        subject: String,
        /// What it should have.
        lacks: &'static str,
    },
    /// A Secret without what is needed.
    #[error("the authority's Secret cannot be used: {0}")]
    Secret(String),
    /// What it signs does not lead to its roots.
    #[error(
        "nobody who trusts ca.crt would believe what tls.crt signs: {0}; tls.crt must hold the whole chain, signing certificate \
         first, and ca.crt the root that it leads to"
    )]
    NotBelieved(String),
    /// Certificate and key do not belong together.
    #[error("tls.key is not the key of tls.crt's first certificate: supply the two together")]
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

    fn fresh() -> Authority {
        let (root, key) = Authority::make().unwrap();
        Authority::from_pem(&root, &key, None).unwrap()
    }

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
        let authority = fresh();
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
        let authority = fresh();
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
        let pem = sign(&request(|_| {}), 10 * 365 * 24 * 3600).unwrap();
        let (from, until) = validity(&certificates(&pem).unwrap()[0]).unwrap();
        assert_eq!(until.duration_since(from).unwrap(), LIFETIME + BACKDATED);
    }

    /// A certificate for `key`, signed by `issuer` or itself.
    fn made(
        issuer: Option<&Issuer<'_, KeyPair>>,
        key: &KeyPair,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{} signs", issuer.is_some()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        adjust(&mut params);
        let signed = match issuer {
            Some(issuer) => params.signed_by(key, issuer),
            None => params.self_signed(key),
        };
        signed.unwrap().pem()
    }

    /// RO-05: what proxies would not believe does not become the authority.
    #[test]
    fn a_pair_that_cannot_sign_is_refused_with_what_to_do() {
        let key = KeyPair::generate().unwrap();
        let now = OffsetDateTime::now_utc();
        let day = time::Duration::DAY;
        let own = |adjust: &dyn Fn(&mut CertificateParams)| made(None, &key, adjust);
        let refused = |certificates: &str, roots: Option<&str>| {
            let opened = Authority::from_pem(certificates, &key.serialize_pem(), roots);
            opened.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(&own(&|_| {}), None), "");
        let expired = own(&|params| params.not_after = now - day);
        let early = own(&|params| params.not_before = now + day);
        let leaf = own(&|params| params.is_ca = IsCa::ExplicitNoCa);
        let not_for_signing = own(&|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
        let root_key = KeyPair::generate().unwrap();
        let root = made(None, &root_key, |_| {});
        let issuer = Issuer::from_ca_cert_pem(&root, root_key).unwrap();
        let intermediate = made(Some(&issuer), &key, |_| {});
        let another = made(None, &KeyPair::generate().unwrap(), |_| {});
        for (certificates, roots, told) in [
            (expired.as_str(), None, "valid now"),
            (&early, None, "valid now"),
            (&leaf, None, "basicConstraints"),
            (&not_for_signing, None, "keyCertSign"),
            (&intermediate, None, "ca.crt"),
            (&intermediate, Some(another.as_str()), "leads to"),
            (&intermediate, Some("nothing"), "ca.crt holds no certificate"),
            (&intermediate, Some(&root), ""),
            (&another, None, "tls.key"),
            ("nothing", None, "tls.crt holds no certificate"),
        ] {
            let error = refused(certificates, roots);
            assert!(error.contains(told) && error.is_empty() == told.is_empty(), "{told}: {error}");
        }
    }
}
