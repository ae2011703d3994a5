//! TLS that the proxy originates, against a real server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::*;
use crate::model::{ClusterTls, Protocol, Resource, Secret};
use crate::tls::{certificates, private_key, provider};

const NAME: &str = "api.example.com";
const ANCHORS: &str = "egress/anchors";
const CLIENT: &str = "egress/client";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn anchors(&self) -> Resource {
        secret(ANCHORS, "", "", &self.0.pem())
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        certificates(&self.0.pem()).unwrap().into_iter().for_each(|one| store.add(one).unwrap());
        store
    }
}

fn secret(name: &str, certificates: &str, private_key: &str, trust_anchors: &str) -> Resource {
    let [certificates, private_key, trust_anchors] =
        [certificates, private_key, trust_anchors].map(str::to_owned);
    Resource::Secret(Secret { name: name.into(), certificates, private_key, trust_anchors })
}

/// What a server outside saw of each connection: server name, protocol agreed on, whether a certificate was shown.
type Seen = Arc<Mutex<Vec<(Option<String>, Option<String>, bool)>>>;

/// A server outside, with a certificate for `name`; it demands one of clients when it is given an authority for them.
async fn outside(authority: &Authority, name: &str, clients: Option<&Authority>) -> (SocketAddr, Seen) {
    let (chain, key) = authority.issue(name);
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => {
            let store = Arc::new(clients.store());
            let verifier = WebPkiClientVerifier::builder_with_provider(store, provider()).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(certificates(&chain).unwrap(), private_key(&key).unwrap()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let saw = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, saw) = (acceptor.clone(), saw.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let alpn = session.alpn_protocol().map(|it| String::from_utf8_lossy(it).into_owned());
                let shown = session.peer_certificates().is_some();
                saw.lock().unwrap().push((session.server_name().map(str::to_owned), alpn, shown));
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    stream.write_all(ok("outside").as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, seen)
}

fn simple() -> ClusterTls {
    ClusterTls::Originate {
        sni: Some(NAME.into()),
        subject_alt_names: Vec::new(),
        trust_anchors: Some(ANCHORS.into()),
        client_certificate: None,
        private_key: None,
        insecure_skip_verify: false,
    }
}

fn originating(tls: ClusterTls, outside: SocketAddr, secrets: Vec<Resource>) -> Mesh {
    let mut resources = service(|_, cluster| cluster.tls = tls, &[outside]);
    resources[1] = address(Protocol::Http);
    resources.extend(secrets);
    Mesh::outbound(resources)
}

#[tokio::test]
async fn plain_requests_leave_as_tls_with_the_right_server_name() {
    let authority = Authority::new();
    let (server, seen) = outside(&authority, NAME, None).await;
    let mesh = originating(simple(), server, vec![authority.anchors()]);
    for _ in 0..3 {
        let answer = mesh.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("outside"), "{answer}");
    }
    // One connection carries them all.
    assert_eq!(*seen.lock().unwrap(), [(Some(NAME.into()), Some("http/1.1".into()), false)]);
}

/// Each row says why it fails; nobody outside sees a byte of the request. security.md EG-06: without an authority of the
/// rule's the system's count, never none.
#[tokio::test]
async fn a_server_that_cannot_be_believed_is_503_and_the_cause_is_known() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, seen) = outside(&authority, NAME, None).await;
    let (elsewhere, _) = outside(&authority, "evil.example.com", None).await;
    let with = |edit: fn(&mut ClusterTls)| {
        let mut tls = simple();
        edit(&mut tls);
        tls
    };
    let named = with(|tls| {
        if let ClusterTls::Originate { subject_alt_names, .. } = tls {
            *subject_alt_names = vec!["other.example.com".into()];
        }
    });
    let system = with(|tls| {
        if let ClusterTls::Originate { trust_anchors, .. } = tls {
            *trust_anchors = None;
        }
    });
    for (what, mesh) in [
        ("another authority", originating(simple(), server, vec![other.anchors()])),
        ("another name", originating(simple(), elsewhere, vec![authority.anchors()])),
        ("a name the rule does not list", originating(named, server, vec![authority.anchors()])),
        ("no authority of the rule's", originating(system, server, vec![])),
        ("a secret that is not delivered", originating(simple(), server, vec![])),
    ] {
        let answer = mesh.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn verification_is_skipped_only_where_the_rule_says_so() {
    let (server, _) = outside(&Authority::new(), "evil.example.com", None).await;
    let mut tls = simple();
    if let ClusterTls::Originate { insecure_skip_verify, trust_anchors, .. } = &mut tls {
        (*insecure_skip_verify, *trust_anchors) = (true, None);
    }
    let mesh = originating(tls, server, vec![]);
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 200 "));
}

/// S33: SIMPLE against a server that demands a certificate fails, MUTUAL works with both kinds of server.
#[tokio::test]
async fn simple_and_mutual_meet_servers_that_demand_a_certificate_and_that_do_not() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (asking, seen) = outside(&authority, NAME, Some(&clients)).await;
    let (open, _) = outside(&authority, NAME, None).await;
    let (chain, key) = clients.issue("us");
    let mut mutual = simple();
    if let ClusterTls::Originate { client_certificate, .. } = &mut mutual {
        *client_certificate = Some(CLIENT.into());
    }
    let own = || vec![authority.anchors(), secret(CLIENT, &chain, &key, "")];
    for (tls, server, status) in [
        (simple(), open, "200"),
        (simple(), asking, "503"),
        (mutual.clone(), open, "200"),
        (mutual.clone(), asking, "200"),
    ] {
        let answer = originating(tls.clone(), server, own()).get("/").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{tls:?}: {answer}");
    }
    assert!(seen.lock().unwrap().iter().all(|(_, _, shown)| *shown));
}

#[tokio::test]
async fn a_secret_that_changes_takes_effect_and_old_connections_are_not_used_again() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (server, seen) = outside(&authority, NAME, Some(&clients)).await;
    let ((chain, key), (next_chain, next_key)) = (clients.issue("us"), clients.issue("us"));
    let mut mutual = simple();
    if let ClusterTls::Originate { client_certificate, .. } = &mut mutual {
        *client_certificate = Some(CLIENT.into());
    }
    let mut mesh = originating(mutual, server, vec![authority.anchors(), secret(CLIENT, &chain, &key, "")]);
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 200 "));
    mesh.change(|config| config.insert(secret(CLIENT, &next_chain, &next_key, "")));
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(seen.lock().unwrap().len(), 2);
    mesh.change(|config| config.insert(Authority::new().anchors()));
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 503 "));
}
