//! Certificates that tests hand to gateways and applications, each with a CA of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A CA that tests have made, and the certificates that it has signed, by their hosts.
struct Made {
    issuer: Issuer,
    leaves: BTreeMap<String, Arc<Certificate>>,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The certificate of this name for these hosts; made when first asked for. All of one name have one CA, whoever asks first.
pub(crate) fn certificate(name: &str, hosts: &[&str]) -> Arc<Certificate> {
    static MADE: Mutex<BTreeMap<String, Made>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Made { issuer: new_issuer(), leaves: BTreeMap::new() };
    let Made { issuer, leaves } = made.entry(name.to_owned()).or_insert_with(new);
    let leaf = leaves.entry(hosts.join(","));
    leaf.or_insert_with(|| Arc::new(Certificate::signed_by(issuer, hosts))).clone()
}

/// A server certificate and the CA that vouches for it, in PEM.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) authority: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Certificate {
    /// Makes a fresh one for these hosts, with a CA of its own.
    pub(crate) fn for_hosts(hosts: &[&str]) -> Self {
        Self::signed_by(&new_issuer(), hosts)
    }

    fn signed_by(issuer: &Issuer, hosts: &[&str]) -> Self {
        let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = new_key();
        let leaf =
            CertificateParams::new(names).expect("host names").signed_by(&key, issuer).expect("a plain leaf");
        Self { authority: issuer.pem(), chain: leaf.pem(), key: key.serialize_pem() }
    }

    /// A Secret of type `kubernetes.io/tls`.
    pub(crate) fn secret(&self, name: &str, namespace: &str) -> String {
        let [chain, key] = [&self.chain, &self.key].map(|pem| BASE64_STANDARD.encode(pem));
        format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             data:\n  tls.crt: {chain}\n  tls.key: \"{key}\"\n"
        )
    }
}

/// A Secret that holds the CA of a certificate alone.
pub(crate) fn authority_secret(certificate: &str, name: &str, namespace: &str) -> String {
    let authority = BASE64_STANDARD.encode(&self::certificate(certificate, &[]).authority);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  ca.crt: {authority}\n"
    )
}

/// A Secret with a CA as cert-manager writes it, to be the mesh's own; the same one each time.
pub(crate) fn mesh_authority() -> String {
    static MADE: LazyLock<[String; 2]> = LazyLock::new(|| {
        let issuer = new_issuer();
        [issuer.pem(), issuer.key().serialize_pem()].map(|pem| BASE64_STANDARD.encode(pem))
    });
    let [root, key] = &*MADE;
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: mesh-ca\n  namespace: mesh-system\n\
         data:\n  tls.crt: {root}\n  tls.key: \"{key}\"\n  ca.crt: {root}\n"
    )
}

fn new_issuer() -> Issuer {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(authority, new_key()).expect("a plain CA")
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the machine has randomness")
}
