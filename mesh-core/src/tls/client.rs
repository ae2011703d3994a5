//! What a gateway asks of a client's certificate beside a chain to a trusted issuer: names and hashes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::model::ServerTls;

/// Verifies the chain first, then that the certificate is one of those expected.
#[derive(Debug)]
pub(super) struct Expected {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
    certificates: Vec<String>,
    keys: Vec<String>,
}

impl Expected {
    /// The chain's verifier itself where nothing else is asked for.
    pub(super) fn beside(chain: Arc<dyn ClientCertVerifier>, tls: &ServerTls) -> Arc<dyn ClientCertVerifier> {
        let expected = Self {
            chain,
            names: tls.subject_alt_names.clone(),
            certificates: tls.certificate_hashes.clone(),
            keys: tls.key_hashes.clone(),
        };
        if expected.names.is_empty() && !expected.pins() { expected.chain } else { Arc::new(expected) }
    }

    fn pins(&self) -> bool {
        !(self.certificates.is_empty() && self.keys.is_empty())
    }

    fn admits(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
        let named = self.names.is_empty() || names(&certificate).iter().any(|name| self.is_expected(name));
        let key = certificate.tbs_certificate.subject_pki.raw;
        let pinned = !self.pins()
            || self.certificates.contains(&fingerprint(leaf))
            || self.keys.contains(&fingerprint(key));
        named && pinned
    }

    /// DNS names ignore case; URIs are compared as they are.
    fn is_expected(&self, name: &(bool, String)) -> bool {
        let (dns, text) = name;
        self.names
            .iter()
            .any(|expected| if *dns { expected.eq_ignore_ascii_case(text) } else { expected == text })
    }
}

/// The names of a certificate that a rule may mean, and whether each is a DNS name: DNS names, URIs, addresses.
fn names(certificate: &X509Certificate<'_>) -> Vec<(bool, String)> {
    let alternatives = certificate.extensions().iter().filter_map(|it| match it.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((true, (*name).to_owned())),
        GeneralName::URI(uri) => Some((false, (*uri).to_owned())),
        GeneralName::RFC822Name(mail) => Some((false, (*mail).to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(|text| (false, text)),
        _ => None,
    };
    alternatives.flatten().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string()),
        _ => None,
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn fingerprint(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `x-forwarded-client-cert` says of a client from outside, as Istio's gateways do: `Hash`, `Cert`, `Subject`, and
/// every `URI` and `DNS` name. Made once per handshake.
pub fn forwarded_element(leaf: &CertificateDer<'_>) -> String {
    let mut element = format!("Hash={};Cert=\"{}\"", fingerprint(leaf), url_encoded_pem(leaf));
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return element };
    element += &format!(";Subject=\"{}\"", quoted(&certificate.subject().to_string()));
    for (dns, name) in names(&certificate) {
        let key = if dns {
            "DNS"
        } else if name.contains(':') {
            "URI"
        } else {
            continue;
        };
        element += &format!(";{key}={}", unquoted(&name));
    }
    element
}

/// Within quotes: what would end them is escaped, and no byte is left that a header could not hold.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').flat_map(escape).collect()
}

fn escape(c: char) -> impl Iterator<Item = char> {
    matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])
}

/// A value in which `,`, `;`, `=` or quotes stand is quoted, so that it ends where it ends.
fn unquoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '=' | '"' | '\\'));
    if plain { text.to_owned() } else { format!("\"{}\"", quoted(text)) }
}

fn url_encoded_pem(leaf: &CertificateDer<'_>) -> String {
    let mut out = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for line in STANDARD.encode(leaf).as_bytes().chunks(64) {
        for &byte in line {
            match byte {
                b'+' => out.push_str("%2B"),
                b'/' => out.push_str("%2F"),
                b'=' => out.push_str("%3D"),
                plain => out.push(char::from(plain)),
            }
        }
        out.push_str("%0A");
    }
    out + "-----END%20CERTIFICATE-----%0A"
}

impl ClientCertVerifier for Expected {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        if self.admits(end_entity) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
