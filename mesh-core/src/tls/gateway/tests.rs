//! Handshakes of clients from outside with a gateway's server, in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, SignatureAlgorithm,
};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection, SignatureScheme};

use super::*;
use crate::tls::{fingerprint, forwarded_element};

type Issuer = CertifiedIssuer<'static, KeyPair>;

const ECDSA: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &Issuer, name: SanType, algorithm: &'static SignatureAlgorithm) -> Secret {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Secret {
        name: "default/cert".into(),
        certificates: certificate.pem(),
        private_key: key.serialize_pem(),
        trust_anchors: issuer.pem(),
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn server(tls: &ServerTls, secrets: &[&Secret]) -> Result<Arc<ServerConfig>, TlsError> {
    let secrets: Vec<_> = secrets.iter().map(|secret| Arc::new((*secret).clone())).collect();
    server_config(Parts { tls, certificates: &secrets, trust: &secrets[0] })
}

fn client(issuer: &Issuer, certificate: Option<&Secret>, provider: CryptoProvider) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(secret) => {
            let chain = certificates(&secret.certificates).unwrap();
            builder.with_client_auth_cert(chain, private_key(&secret.private_key).unwrap()).unwrap()
        }
    })
}

/// Runs the handshake, and lets the server's tickets reach the client.
fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let mut client = ClientConnection::new(Arc::clone(client), "a.example".try_into().unwrap())?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok((server, client))
}

fn plain() -> CryptoProvider {
    (*provider()).clone()
}

/// S33: who gets in, by mode and by what the client shows.
#[test]
fn modes_and_client_certificates() {
    let (ours, theirs) = (issuer(), issuer());
    let certificate = leaf(&ours, dns("a.example"), ECDSA);
    let trusted = leaf(&ours, dns("client.example"), ECDSA);
    let foreign = leaf(&theirs, dns("client.example"), ECDSA);
    for (mode, shows, enters) in [
        (TlsMode::Simple, None, true),
        (TlsMode::Simple, Some(&foreign), true),
        (TlsMode::Mutual, None, false),
        (TlsMode::Mutual, Some(&foreign), false),
        (TlsMode::Mutual, Some(&trusted), true),
        (TlsMode::OptionalMutual, None, true),
        (TlsMode::OptionalMutual, Some(&foreign), false),
        (TlsMode::OptionalMutual, Some(&trusted), true),
    ] {
        let server = server(&ServerTls::new(mode, None), &[&certificate]).unwrap();
        let entered = handshake(&server, &client(&ours, shows, plain())).is_ok();
        assert_eq!(entered, enters, "{mode:?}, a certificate: {}", shows.is_some());
    }
}

#[test]
fn of_several_certificates_those_are_shown_that_can_be() {
    let issuer = issuer();
    let good = leaf(&issuer, dns("a.example"), ECDSA);
    let keyless = Secret { private_key: String::new(), ..good.clone() };
    let simple = ServerTls::new(TlsMode::Simple, None);
    let both = server(&simple, &[&keyless, &good]).unwrap();
    assert!(handshake(&both, &client(&issuer, None, plain())).is_ok());
    assert!(server(&simple, &[&keyless]).is_err());
}

#[test]
fn mutual_tls_without_trust_anchors_is_no_configuration() {
    let mut certificate = leaf(&issuer(), dns("a.example"), ECDSA);
    certificate.trust_anchors.clear();
    for mode in [TlsMode::Mutual, TlsMode::OptionalMutual] {
        assert!(server(&ServerTls::new(mode, None), &[&certificate]).is_err());
    }
}

#[test]
fn client_certificates_are_known_by_name_or_hash() {
    let ours = issuer();
    let certificate = leaf(&ours, dns("a.example"), ECDSA);
    let uri = SanType::URI("spiffe://mesh/ns/a/sa/b".try_into().unwrap());
    let (by_dns, by_uri) = (leaf(&ours, dns("Client.example"), ECDSA), leaf(&ours, uri, ECDSA));
    let hash = fingerprint(&certificates(&by_dns.certificates).unwrap()[0]);
    let mutual = ServerTls::new(TlsMode::Mutual, None);
    let names = |name: &str| ServerTls { subject_alt_names: vec![name.into()], ..mutual.clone() };
    let pinned = ServerTls { certificate_hashes: vec![hash], ..mutual.clone() };
    for (tls, shows, enters) in [
        (names("client.example"), &by_dns, true),
        (names("client.example"), &by_uri, false),
        (names("spiffe://mesh/ns/a/sa/b"), &by_uri, true),
        (names("spiffe://mesh/ns/A/sa/b"), &by_uri, false),
        (pinned.clone(), &by_dns, true),
        (pinned.clone(), &by_uri, false),
        (ServerTls { key_hashes: vec!["00".into()], ..mutual.clone() }, &by_dns, false),
        (ServerTls { subject_alt_names: vec!["other".into()], ..pinned }, &by_dns, false),
    ] {
        let server = server(&tls, &[&certificate]).unwrap();
        let entered = handshake(&server, &client(&ours, Some(shows), plain())).is_ok();
        assert_eq!(entered, enters, "{tls:?}");
    }
}

#[test]
fn versions_and_suites_are_those_that_are_set() {
    let ours = issuer();
    let certificate = leaf(&ours, dns("a.example"), ECDSA);
    let simple = ServerTls::new(TlsMode::Simple, None);
    let spoken = |tls: &ServerTls| {
        let server = server(tls, &[&certificate]).unwrap();
        let (server, _) = handshake(&server, &client(&ours, None, plain())).unwrap();
        (server.protocol_version().unwrap(), server.negotiated_cipher_suite().unwrap().suite())
    };
    assert_eq!(spoken(&simple).0, ProtocolVersion::TLSv1_3);
    let old = ServerTls { max_version: Some(TlsVersion::V12), ..simple.clone() };
    assert_eq!(spoken(&old).0, ProtocolVersion::TLSv1_2);
    for suite in [CipherSuite::EcdsaAes128, CipherSuite::EcdsaChaCha20] {
        let chosen = ServerTls { cipher_suites: vec![suite], ..old.clone() };
        assert_eq!(spoken(&chosen).1, suite_of(suite));
    }
    let new = ServerTls { min_version: Some(TlsVersion::V13), ..simple };
    assert_eq!(spoken(&new).0, ProtocolVersion::TLSv1_3);
    let none = ServerTls { max_version: Some(TlsVersion::V12), ..new };
    assert!(server(&none, &[&certificate]).is_err());
}

/// The certificate shown is one whose signatures the client can verify.
#[test]
fn several_certificates_for_one_host() {
    let ours = issuer();
    let (p256, ed25519) =
        (leaf(&ours, dns("a.example"), ECDSA), leaf(&ours, dns("a.example"), &rcgen::PKCS_ED25519));
    let both = server(&ServerTls::new(TlsMode::Simple, None), &[&ed25519, &p256]).unwrap();
    let WebPkiSupportedAlgorithms { all, mapping } = plain().signature_verification_algorithms;
    let mapping: Vec<_> = mapping.iter().filter(|(it, _)| *it != SignatureScheme::ED25519).copied().collect();
    let mapping = Box::leak(mapping.into_boxed_slice());
    let signature_verification_algorithms = WebPkiSupportedAlgorithms { all, mapping };
    let without_ed25519 = CryptoProvider { signature_verification_algorithms, ..plain() };
    for (provider, shown) in [(plain(), &ed25519), (without_ed25519, &p256)] {
        let (_, client) = handshake(&both, &client(&ours, None, provider)).unwrap();
        let leaf = &client.peer_certificates().unwrap()[0];
        assert_eq!(*leaf, certificates(&shown.certificates).unwrap()[0]);
    }
}

/// A resumed session would carry the certificate of an earlier check.
#[test]
fn sessions_are_resumed_only_where_no_certificate_is_asked_for() {
    let ours = issuer();
    let certificate = leaf(&ours, dns("a.example"), ECDSA);
    for (mode, resumes) in
        [(TlsMode::Simple, true), (TlsMode::Mutual, false), (TlsMode::OptionalMutual, false)]
    {
        let server = server(&ServerTls::new(mode, None), &[&certificate]).unwrap();
        let client = client(&ours, Some(&certificate), plain());
        let kinds = [0, 1].map(|_| handshake(&server, &client).unwrap().0.handshake_kind().unwrap());
        assert_eq!(kinds[1] == HandshakeKind::Resumed, resumes, "{mode:?}: {kinds:?}");
    }
}

/// semantics.md 39: what a gateway says of the client's certificate cannot be continued by what stands in it.
#[test]
fn the_forwarded_element_names_hash_certificate_subject_and_names() {
    let ours = issuer();
    let uri = SanType::URI("spiffe://mesh/ns/a/sa/b,By=evil".try_into().unwrap());
    let secret = leaf(&ours, uri, ECDSA);
    let leaf = &certificates(&secret.certificates).unwrap()[0];
    let element = forwarded_element(leaf);
    let begin = format!("Hash={};Cert=\"-----BEGIN%20CERTIFICATE-----%0A", fingerprint(leaf));
    assert!(element.starts_with(&begin), "{element}");
    assert!(element.contains(";Subject=\"CN=rcgen self signed cert\""), "{element}");
    assert!(element.ends_with(";URI=\"spiffe://mesh/ns/a/sa/b,By=evil\""), "{element}");
    let escapes = [("%20", " "), ("%0A", "\n"), ("%2B", "+"), ("%2F", "/"), ("%3D", "=")];
    let encoded = element.split('"').nth(1).unwrap().to_owned();
    let pem = escapes.iter().fold(encoded, |text, (escape, plain)| text.replace(escape, plain));
    assert_eq!(certificates(&pem).unwrap()[0], *leaf);
}
