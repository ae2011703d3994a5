//! A certificate authority in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;

/// Signs what tests need, for the trust domain `cluster.local`.
pub struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for TestAuthority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the system has randomness");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("the parameters are valid") }
    }
}

impl TestAuthority {
    /// The root, PEM.
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key, PEM, for a server named `name`.
    pub fn server(&self, name: &str) -> (String, String) {
        let san = SanType::DnsName(name.try_into().expect("tests use valid names"));
        self.sign(san, &KeyPair::generate().expect("the system has randomness"))
    }

    /// A certificate and its key, PEM, for a workload.
    pub fn workload(&self, namespace: &str, service_account: &str) -> (String, String) {
        let key = KeyPair::generate().expect("the system has randomness");
        self.sign(identity(namespace, service_account), &key)
    }

    /// Signs a request's key for a workload, whatever else the request asks for.
    pub fn sign_request(&self, csr: &[u8], namespace: &str, service_account: &str) -> Option<String> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).ok()?;
        let params = leaf(identity(namespace, service_account));
        params.signed_by(&request.public_key, &self.issuer).ok().map(|certificate| certificate.pem())
    }

    fn sign(&self, san: SanType, key: &KeyPair) -> (String, String) {
        let certificate = leaf(san).signed_by(key, &self.issuer).expect("the parameters are valid");
        (certificate.pem(), key.serialize_pem())
    }
}

fn identity(namespace: &str, service_account: &str) -> SanType {
    let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{service_account}");
    SanType::URI(uri.as_str().try_into().expect("tests use valid names"))
}

fn leaf(san: SanType) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![san];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}
