//! Whether a pair can be the mesh's authority: refused here is what proxies would refuse later, all at once.
//!
//! The last word has the verifier that proxies use themselves: what a candidate signs on trial must be believed by it.

use mesh_core::identity::SpiffeId;
use mesh_core::model::Workload;
use mesh_core::tls::{MeshTls, certificates};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, AuthorityError};

const SIGNING: &str = "tls.crt";
const ROOTS: &str = "ca.crt";

/// What was given, found to be a chain of valid authorities.
pub(super) struct Given {
    /// Of the first certificate.
    pub(super) public_key: Vec<u8>,
    /// Whom to trust, PEM.
    pub(super) roots: String,
    /// What is shown along with what is signed, PEM; empty when the root itself signs.
    pub(super) chain: String,
    /// When the first of the chain runs out.
    pub(super) expires: OffsetDateTime,
}

impl Given {
    pub(super) fn read(
        signing: &str,
        roots: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let chain = read(signing, SIGNING)?;
        let chain = chain.iter().map(|der| parse(der, SIGNING)).collect::<Result<Vec<_>, _>>()?;
        let mut expires = chain[0].validity().not_after.to_datetime();
        for certificate in &chain {
            check(certificate, SIGNING, now)?;
            expires = expires.min(certificate.validity().not_after.to_datetime());
        }
        let is_root = chain[0].subject() == chain[0].issuer();
        let roots = match roots.filter(|roots| !roots.trim().is_empty()) {
            Some(roots) => roots.to_owned(),
            None if is_root => signing.to_owned(),
            None => return Err(AuthorityError::NoRoot),
        };
        check_roots(&roots, now)?;
        let shown = if is_root { String::new() } else { signing.to_owned() };
        Ok(Self {
            public_key: chain[0].public_key().subject_public_key.data.to_vec(),
            roots,
            chain: shown,
            expires,
        })
    }
}

fn read(pem: &str, part: &'static str) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    certificates(pem).map_err(|_| AuthorityError::NotACertificate(part))
}

fn parse<'a>(der: &'a CertificateDer<'_>, part: &'static str) -> Result<X509Certificate<'a>, AuthorityError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| AuthorityError::NotACertificate(part))
}

/// All may sign others, and one is valid now: others may wait for their time, or to be removed.
fn check_roots(roots: &str, now: OffsetDateTime) -> Result<(), AuthorityError> {
    let mut out_of_time = None;
    let mut usable = false;
    for root in &read(roots, ROOTS)? {
        match check(&parse(root, ROOTS)?, ROOTS, now) {
            Ok(()) => usable = true,
            Err(error @ AuthorityError::OutOfTime { .. }) => out_of_time = Some(error),
            Err(error) => return Err(error),
        }
    }
    out_of_time.filter(|_| !usable).map_or(Ok(()), Err)
}

/// Of one certificate: whether it is valid now, and may sign others.
fn check(
    certificate: &X509Certificate<'_>,
    part: &'static str,
    now: OffsetDateTime,
) -> Result<(), AuthorityError> {
    let subject = certificate.subject().to_string();
    let [from, until] =
        [certificate.validity().not_before, certificate.validity().not_after].map(|time| time.to_datetime());
    if now < from || now >= until {
        return Err(AuthorityError::OutOfTime { part, subject, from, until });
    }
    if !certificate.is_ca() {
        return Err(AuthorityError::NotACa { part, subject, lacks: "basicConstraints do not say CA:TRUE" });
    }
    let usage = certificate.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(AuthorityError::NotACa { part, subject, lacks: "keyUsage lacks keyCertSign" });
    }
    Ok(())
}

/// Signs for a workload that does not exist, and asks a proxy's verifier.
pub(super) fn is_believed(authority: &Authority, anchors: &str) -> Result<(), AuthorityError> {
    let refuse = |why: &dyn std::error::Error| AuthorityError::NotBelieved(why.to_string());
    let key = KeyPair::generate().map_err(AuthorityError::Broken)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(AuthorityError::Broken)?;
    let nobody = SpiffeId::new("cluster.local", "mesh-system", "nobody").map_err(|error| refuse(&error))?;
    let chain =
        authority.sign(request.der(), &nobody, &Workload::default(), None).map_err(|error| refuse(&error))?;
    let proxy = MeshTls::default();
    proxy.install(&chain, &key.serialize_pem(), anchors, &[]).map_err(|error| refuse(&error))?;
    let chain = certificates(&chain).map_err(|error| refuse(&error))?;
    match proxy.trusts(&chain, UnixTime::now()) {
        true => Ok(()),
        false => Err(AuthorityError::NotBelieved("the signatures do not lead there".to_owned())),
    }
}
