//! Two engines, mesh TLS between them: the client's sidecar and the server's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;
use crate::engine::Settings;
use crate::model::{
    ClusterTls, Endpoints, HostPattern, Listener, ListenerProtocol, MtlsMode, Protocol, Resource, Role,
    Server, ServerTls, TlsMode, Transport,
};
use crate::tls::MeshTls;

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn holder(issuer: &Issuer, uri: &str) -> Arc<MeshTls> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let mesh = MeshTls::default();
    mesh.install(&certificate.pem(), &key.serialize_pem(), &issuer.pem(), &[]).unwrap();
    Arc::new(mesh)
}

/// The sidecar in front of the application at `application`.
fn server(issuer: &Issuer, application: SocketAddr, protocol: Protocol, mode: MtlsMode) -> Mesh {
    let mut own = own(Role::Sidecar);
    own.identity = REVIEWS.parse().unwrap();
    own.inbound = vec![inbound_port(application.port(), protocol, mode)];
    let resources = vec![Resource::Own(Box::new(own))];
    Mesh::start(inbound_settings(application), holder(issuer, REVIEWS), resources)
}

/// The sidecar of the caller, which expects `identity` at the endpoint.
fn client(issuer: &Issuer, endpoint_address: SocketAddr, identity: &str, protocol: Protocol) -> Mesh {
    let mut resources = service(|_, cluster| cluster.protocol = protocol, &[]);
    resources[1] = address(protocol);
    let mut target = endpoint(endpoint_address);
    target.transport = Transport::MeshTls;
    target.identity = Some(identity.parse().unwrap());
    resources[4] = Resource::Endpoints(Endpoints { cluster: CLUSTER.into(), endpoints: vec![target] });
    Mesh::start(outbound_settings(), holder(issuer, WEB), resources)
}

#[tokio::test]
async fn requests_travel_under_mutual_tls_and_the_server_learns_who_called() {
    let issuer = issuer();
    let application = Upstream::start(ok).await;
    let server = server(&issuer, application.address, Protocol::Http, MtlsMode::Strict);
    let client = client(&issuer, server.engine.inbound_address().unwrap(), REVIEWS, Protocol::Http);
    for _ in 0..3 {
        let answer = client.get("/secure").await.to_lowercase();
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
        let element = format!("x-forwarded-client-cert: by={REVIEWS};hash=");
        assert!(answer.contains(&element) && answer.contains(&format!(";uri={WEB}\r\n")), "{answer}");
    }
}

/// semantics.md 31: the server name that a rule gives leads to the gateway's server for it, and no connection made for
/// another name is used again.
#[tokio::test]
async fn a_rules_server_name_chooses_the_gateways_server() {
    let (issuer, upstream) = (issuer(), Upstream::start(ok).await);
    let port = dead().await.port();
    let mut gateway = own(Role::Egress);
    let server = Server {
        hosts: vec![HostPattern::parse("a.example").unwrap()],
        tls: ServerTls::new(TlsMode::Mesh, None),
        routes: Some("https".into()),
        tcp_routes: Vec::new(),
        origin: Default::default(),
    };
    let (protocol, servers) = (ListenerProtocol::Tls, vec![server]);
    gateway.listeners = vec![Listener { port, protocol, servers, routes: None, tcp_routes: Vec::new() }];
    let resources = vec![
        Resource::Own(Box::new(gateway)),
        Resource::Cluster(Box::new(cluster(CLUSTER, Protocol::Http))),
        endpoints(CLUSTER, &[upstream.address]),
        routes("https", vec![rule(vec![backend(CLUSTER, 1)])]),
    ];
    let at = IpAddr::from([127, 0, 0, 1]);
    let settings = Settings { gateway: Some(at), ..Settings::default() };
    let _gateway = Mesh::start(settings, holder(&issuer, REVIEWS), resources);

    let mut client = client(&issuer, SocketAddr::new(at, port), REVIEWS, Protocol::Http);
    for (sni, status) in
        [(Some("a.example"), 200), (None, 503), (Some("a.example"), 200), (Some("b.example"), 503)]
    {
        let mut named = cluster(CLUSTER, Protocol::Http);
        named.tls = ClusterTls::Mesh { sni: sni.map(str::to_owned) };
        client.change(|config| config.insert(Resource::Cluster(Box::new(named))));
        let answer = client.get("/").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sni:?}: {answer}");
    }
}

#[tokio::test]
async fn strict_closes_plaintext_before_the_application_sees_a_byte() {
    let issuer = issuer();
    let application = Upstream::saying("no").await;
    for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Detect] {
        let server = server(&issuer, application.address, protocol, MtlsMode::Strict);
        let mut plain = TcpStream::connect(server.engine.inbound_address().unwrap()).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(plain.read(&mut [0; 64]).await.unwrap_or(0), 0, "{protocol:?}");
    }
    assert_eq!((application.requests(), application.connections()), (0, 0));
}

#[tokio::test]
async fn permissive_takes_both() {
    let issuer = issuer();
    let application = Upstream::start(ok).await;
    let server = server(&issuer, application.address, Protocol::Http, MtlsMode::Permissive);
    let inbound = server.engine.inbound_address().unwrap();
    let client = client(&issuer, inbound, REVIEWS, Protocol::Http);
    assert!(client.get("/").await.contains("URI=spiffe"));
    let forged = "GET / HTTP/1.1\r\nHost: x\r\nx-forwarded-client-cert: URI=spiffe://evil\r\n\r\n";
    let answer = ask(TcpStream::connect(inbound).await.unwrap(), forged).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn another_identity_than_the_endpoints_is_refused_and_never_asked_in_the_clear() {
    let issuer = issuer();
    let application = Upstream::saying("no").await;
    let server = server(&issuer, application.address, Protocol::Http, MtlsMode::Permissive);
    let other = "spiffe://cluster.local/ns/default/sa/ratings";
    let client = client(&issuer, server.engine.inbound_address().unwrap(), other, Protocol::Http);
    let answer = client.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("connection failure"), "{answer}");
    assert_eq!(application.requests(), 0);
}

#[tokio::test]
async fn opaque_bytes_travel_under_mutual_tls() {
    let issuer = issuer();
    let application = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = application.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = application.accept().await.unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    let server = server(&issuer, address, Protocol::Tcp, MtlsMode::Strict);
    let client = client(&issuer, server.engine.inbound_address().unwrap(), REVIEWS, Protocol::Tcp);
    let mut stream = client.connect().await;
    stream.write_all(b"redis").await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"redis");
}

#[tokio::test]
async fn a_connection_that_a_new_policy_would_refuse_is_closed() {
    let issuer = issuer();
    let application = Upstream::saying("fine").await;
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let mut server = server(&issuer, application.address, protocol, MtlsMode::Permissive);
        let mut plain = TcpStream::connect(server.engine.inbound_address().unwrap()).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(response(&mut plain).await.ends_with("fine"));
        let mut strict = own(Role::Sidecar);
        strict.inbound = vec![inbound_port(application.address.port(), protocol, MtlsMode::Strict)];
        server.change(|config| config.insert(Resource::Own(Box::new(strict))));
        let closed = tokio::time::timeout(std::time::Duration::from_secs(1), plain.read(&mut [0; 1])).await;
        assert_eq!(closed.expect("closed within a second").unwrap_or(0), 0, "{protocol:?}");
    }
}

/// S34: the proxy of an instance whose application is gone says that nothing was seen, so that even a POST goes to
/// another instance. What passes between the proxies stays between them.
#[tokio::test]
async fn an_application_that_is_gone_is_no_answer() {
    let issuer = issuer();
    let alive = Upstream::saying("alive").await;
    let servers = [alive.address, dead().await]
        .map(|application| server(&issuer, application, Protocol::Http, MtlsMode::Strict));
    let mut client = client(&issuer, alive.address, REVIEWS, Protocol::Http);
    let targets = servers.iter().enumerate().map(|(at, server)| {
        let mut target = endpoint(server.engine.inbound_address().unwrap());
        target.transport = Transport::MeshTls;
        target.identity = Some(REVIEWS.parse().unwrap());
        target.workload = workload(&format!("reviews-{at}"), &format!("uid-{at}"));
        target
    });
    let endpoints = Endpoints { cluster: CLUSTER.into(), endpoints: targets.collect() };
    client.change(|config| config.insert(Resource::Endpoints(endpoints)));
    for _ in 0..20 {
        let post = format!("POST / HTTP/1.1\r\nHost: {SERVICE}\r\nContent-Length: 2\r\n\r\nhi");
        let answer = ask(client.connect().await, &post).await;
        assert!(answer.ends_with("alive") && !answer.contains("x-mesh-unserved"), "{answer}");
    }
}

/// What a pod sends to itself does not leave it, and so is not captured on the way in.
#[tokio::test]
async fn a_pod_reaches_itself_through_its_own_service() {
    let issuer = issuer();
    let application = Upstream::saying("myself").await;
    let mut client = client(&issuer, application.address, WEB, Protocol::Http);
    let mut target = endpoint(application.address);
    target.transport = Transport::MeshTls;
    target.workload = own(Role::Sidecar).workload;
    let endpoints = Endpoints { cluster: CLUSTER.into(), endpoints: vec![target] };
    client.change(|config| config.insert(Resource::Endpoints(endpoints)));
    assert!(client.get("/").await.ends_with("myself"));
}

/// A peer whose authority or trust domain is no longer ours does not keep what it has open.
#[tokio::test]
async fn s31_a_connection_of_a_peer_that_is_no_longer_trusted_is_closed() {
    let (issuer, other) = (issuer(), issuer());
    let application = Upstream::saying("fine").await;
    let withdraw_alias = |tls: &MeshTls| tls.set_aliases(&[]);
    let replace_anchors = |tls: &MeshTls| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(REVIEWS.try_into().unwrap())];
        let certificate = params.signed_by(&key, &other).unwrap();
        let aliases = [String::from("old.example")];
        tls.install(&certificate.pem(), &key.serialize_pem(), &other.pem(), &aliases).unwrap();
    };
    let changes: [&dyn Fn(&MeshTls); 2] = [&withdraw_alias, &replace_anchors];
    for change in changes {
        let mut own = own(Role::Sidecar);
        own.inbound = vec![inbound_port(application.address.port(), Protocol::Tcp, MtlsMode::Strict)];
        let tls = holder(&issuer, REVIEWS);
        // The alias comes after the certificate, as configuration does.
        tls.set_aliases(&["old.example".into()]);
        let resources = vec![Resource::Own(Box::new(own))];
        let server = Mesh::start(inbound_settings(application.address), Arc::clone(&tls), resources);
        let mut caller = client(&issuer, server.engine.inbound_address().unwrap(), REVIEWS, Protocol::Tcp);
        let caller_tls = holder(&issuer, "spiffe://old.example/ns/default/sa/web");
        caller_tls.set_aliases(&["cluster.local".into()]);
        let resources = caller.config.iter().map(|(_, resource)| (**resource).clone()).collect();
        caller = Mesh::start(outbound_settings(), caller_tls, resources);
        let mut stream = caller.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(response(&mut stream).await.ends_with("fine"));
        server.engine.changed();
        let open =
            tokio::time::timeout(std::time::Duration::from_millis(100), stream.read(&mut [0; 1])).await;
        assert!(open.is_err(), "nothing has changed, and yet it closes");
        change(&tls);
        server.engine.changed();
        let closed = tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut [0; 1])).await;
        assert_eq!(closed.expect("closed within a second").unwrap_or(0), 0);
    }
}
