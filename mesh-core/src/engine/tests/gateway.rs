//! Gateways: listeners that follow the configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::harness::*;
use crate::engine::Settings;
use crate::model::{
    ClientCertificates, HostPattern, Listener, ListenerProtocol, Origin, Own, Protocol, ProxyHeaders,
    Resource, Role, Secret, Server, ServerHeader, ServerTls, TcpRoute, TlsMode, Weight,
};

fn listener(port: u16) -> Listener {
    Listener {
        port,
        protocol: ListenerProtocol::Http,
        servers: Vec::new(),
        routes: Some(format!("http.{port}")),
        tcp_routes: Vec::new(),
    }
}

fn gateway(ports: &[u16]) -> Resource {
    let mut own = own(Role::Ingress);
    own.listeners = ports.iter().map(|port| listener(*port)).collect();
    Resource::Own(Box::new(own))
}

fn closure(ports: &[u16], upstream: &Upstream) -> Vec<Resource> {
    let mut resources = vec![
        gateway(ports),
        Resource::Cluster(Box::new(cluster(CLUSTER, Protocol::Http))),
        endpoints(CLUSTER, &[upstream.address]),
    ];
    let table = |port| routes(&format!("http.{port}"), vec![rule(vec![backend(CLUSTER, 1)])]);
    resources.extend(ports.iter().map(table));
    resources
}

async fn connect(port: u16) -> TcpStream {
    for _ in 0..200 {
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("port {port} did not open within two seconds");
}

/// S36: nothing is restarted, and nobody is cut off.
#[tokio::test]
async fn listeners_open_and_close_while_connections_go_on() {
    let upstream = Upstream::start(ok).await;
    let (first, second) = (dead().await.port(), dead().await.port());
    let settings =
        Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), workers: 2, ..Settings::default() };
    let mut mesh = Mesh::start(settings, Default::default(), closure(&[first], &upstream));
    let request = "GET /shop HTTP/1.1\r\nHost: shop.example\r\nx-envoy-max-retries: 9\r\n\r\n";
    let mut client = connect(first).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = response(&mut client).await.to_lowercase();
    assert!(
        answer.contains("x-forwarded-for: 127.0.0.1\r\n") && answer.contains("server: istio-envoy"),
        "{answer}"
    );
    assert!(!answer.contains("x-envoy-max-retries"), "{answer}");

    let more = closure(&[second], &upstream);
    mesh.change(|config| more.into_iter().for_each(|resource| config.insert(resource)));
    assert!(ask(connect(second).await, request).await.starts_with("HTTP/1.1 200 "));
    client.write_all(request.as_bytes()).await.unwrap();
    let after = response(&mut client).await;
    assert!(after.starts_with("HTTP/1.1 "), "the old connection still gets answers: {after}");
    for _ in 0..200 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, first)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("port {first} did not close within two seconds");
}

#[tokio::test]
async fn a_host_without_a_route_is_404() {
    let upstream = Upstream::saying("no").await;
    let port = dead().await.port();
    let settings = Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Settings::default() };
    let mut resources = closure(&[port], &upstream);
    resources[3] = routes(&format!("http.{port}"), Vec::new());
    let _mesh = Mesh::start(settings, Default::default(), resources);
    let answer = ask(connect(port).await, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

/// D7: at an egress gateway, who does not say who they are gets no answer, whether they speak HTTP or anything else.
#[tokio::test]
async fn where_only_the_mesh_is_served_plaintext_is_closed() {
    for protocol in [ListenerProtocol::Http, ListenerProtocol::Tcp] {
        let upstream = Upstream::saying("no").await;
        let port = dead().await.port();
        let mut resources = closure(&[port], &upstream);
        let mut own = own(Role::Egress);
        let backends = vec![(CLUSTER.to_owned(), Weight(1))];
        let tcp_routes = vec![TcpRoute { sni_hosts: Vec::new(), backends, origin: Origin::default() }];
        own.listeners = vec![Listener { protocol, tcp_routes, ..listener(port) }];
        resources[0] = Resource::Own(Box::new(own));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let settings = Settings { gateway: Some(address), plaintext: false, ..Settings::default() };
        let _mesh = Mesh::start(settings, Default::default(), resources);
        let mut client = connect(port).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert_eq!((rest.as_slice(), upstream.requests()), (&b""[..], 0), "{protocol:?}");
    }
}

/// A certificate for `name`, as a secret and as what a client has to trust.
fn secret(name: &str) -> (Secret, CertificateDer<'static>) {
    let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let secret = Secret {
        name: format!("default/{name}"),
        certificates: signed.cert.pem(),
        private_key: signed.signing_key.serialize_pem(),
        trust_anchors: String::new(),
    };
    (secret, signed.cert.der().clone())
}

async fn connect_over_tls(
    port: u16,
    name: &str,
    anchor: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(anchor.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server_name = name.to_owned().try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(server_name, connect(port).await).await
}

async fn ask_over_tls(port: u16, name: &str, anchor: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut stream = connect_over_tls(port, name, anchor).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn tls_is_terminated_by_server_name_and_certificates_are_replaced_while_it_runs() {
    let upstream = Upstream::start(ok).await;
    let port = dead().await.port();
    let mut own = own(Role::Ingress);
    let server = |name: &str| Server {
        hosts: vec![HostPattern::parse(name).unwrap()],
        tls: ServerTls::new(TlsMode::Simple, Some(format!("default/{name}"))),
        routes: Some("https".into()),
        tcp_routes: Vec::new(),
        origin: Default::default(),
    };
    own.listeners = vec![Listener {
        protocol: ListenerProtocol::Tls,
        servers: vec![server("a.example"), server("b.example")],
        routes: None,
        ..listener(port)
    }];
    let ((a, trust_a), (b, trust_b)) = (secret("a.example"), secret("b.example"));
    let resources = vec![
        Resource::Own(Box::new(own)),
        Resource::Cluster(Box::new(cluster(CLUSTER, Protocol::Http))),
        endpoints(CLUSTER, &[upstream.address]),
        routes("https", vec![rule(vec![backend(CLUSTER, 1)])]),
        Resource::Secret(a),
        Resource::Secret(b),
    ];
    let settings = Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Settings::default() };
    let mut mesh = Mesh::start(settings, Default::default(), resources);
    for (name, trust) in [("a.example", &trust_a), ("b.example", &trust_b)] {
        let answer = ask_over_tls(port, name, trust).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-forwarded-proto: https"),
            "{answer}"
        );
    }
    for (name, alert) in [("c.example", "UnrecognisedName"), ("127.0.0.1", "MissingExtension")] {
        let error = ask_over_tls(port, name, &trust_a).await.unwrap_err().to_string();
        assert!(error.contains(alert), "{name}: {error}");
    }

    let (renewed, trust_renewed) = secret("a.example");
    mesh.change(|config| config.insert(Resource::Secret(renewed)));
    assert!(ask_over_tls(port, "a.example", &trust_renewed).await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(ask_over_tls(port, "a.example", &trust_a).await.is_err());
}

/// In TLS 1.3 the client sends its request before it reads that it is refused: that must not fail, or it reads nothing.
#[tokio::test]
async fn who_is_refused_for_want_of_a_certificate_is_told_so() {
    let port = dead().await.port();
    let (mut own, (secret, trust)) = (own(Role::Ingress), secret("a.example"));
    let server = Server {
        hosts: vec![HostPattern::parse("a.example").unwrap()],
        tls: ServerTls::new(TlsMode::Mutual, Some(secret.name.clone())),
        routes: Some("https".into()),
        tcp_routes: Vec::new(),
        origin: Default::default(),
    };
    let protocol = ListenerProtocol::Tls;
    own.listeners = vec![Listener { protocol, servers: vec![server], routes: None, ..listener(port) }];
    let secret = Secret { trust_anchors: secret.certificates.clone(), ..secret };
    let settings = Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Settings::default() };
    let resources = vec![Resource::Own(Box::new(own)), Resource::Secret(secret)];
    let _mesh = Mesh::start(settings, Default::default(), resources);
    let mut client = connect_over_tls(port, "a.example", &trust).await.unwrap();
    client.get_ref().0.readable().await.unwrap();
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    }
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}

/// semantics.md 39: behind a trusted proxy its word on scheme and client counts; behind nobody's it is replaced.
#[tokio::test]
async fn forwarded_headers_count_only_behind_trusted_proxies() {
    let upstream = Upstream::start(ok).await;
    for (trusted, proto) in [(0, "http"), (1, "https")] {
        let port = dead().await.port();
        let mut resources = closure(&[port], &upstream);
        let mut own = own(Role::Ingress);
        own.listeners = vec![listener(port)];
        own.mesh.trusted_proxies = trusted;
        resources[0] = Resource::Own(Box::new(own));
        let settings = Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Settings::default() };
        let _mesh = Mesh::start(settings, Default::default(), resources);
        let request =
            "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: https\r\nx-forwarded-for: 1.1.1.1\r\n\r\n";
        let answer = ask(connect(port).await, request).await.to_lowercase();
        assert!(answer.contains(&format!("x-forwarded-proto: {proto}\r\n")), "{answer}");
        assert!(answer.contains("x-forwarded-for: 1.1.1.1,127.0.0.1\r\n"), "{answer}");
    }
}

/// A gateway on a port, with its own settings changed.
fn gateway_with(port: u16, upstream: &Upstream, change: impl FnOnce(&mut Own)) -> Mesh {
    let mut resources = closure(&[port], upstream);
    let mut own = own(Role::Ingress);
    own.listeners = vec![listener(port)];
    change(&mut own);
    resources[0] = Resource::Own(Box::new(own));
    let settings = Settings { gateway: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Settings::default() };
    Mesh::start(settings, Default::default(), resources)
}

/// semantics.md 35: the client that the balancer names counts; who names none is turned away.
#[tokio::test]
async fn a_balancer_says_by_the_proxy_protocol_who_its_client_is() {
    let upstream = Upstream::start(ok).await;
    let port = dead().await.port();
    let _mesh = gateway_with(port, &upstream, |own| own.mesh.proxy_protocol = true);
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let announced = format!("PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n{request}");
    let answer = ask(connect(port).await, &announced).await.to_lowercase();
    assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer}");
    let mut silent = connect(port).await;
    silent.write_all(request.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert_eq!(rest, b"", "answered without being told who asks");
}

/// semantics.md 40: what the operator has switched off is not written, and what was there stays.
#[tokio::test]
async fn s40_headers_of_the_proxys_own_can_be_switched_off() {
    let upstream = Upstream::start(ok).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let port = dead().await.port();
    let _usual = gateway_with(port, &upstream, |_| {});
    let usual = ask(connect(port).await, request).await.to_lowercase();
    let port = dead().await.port();
    let _mesh = gateway_with(port, &upstream, |own| {
        own.mesh.headers = ProxyHeaders {
            server: ServerHeader::Named("mine".to_owned()),
            omits_request_id: true,
            omits_attempt_count: true,
            omits_debug: true,
            ..ProxyHeaders::default()
        };
    });
    let bare = ask(connect(port).await, request).await.to_lowercase();
    for header in ["x-request-id:", "x-envoy-attempt-count:", "x-envoy-upstream-service-time:"] {
        assert!(usual.contains(header), "{header} in {usual}");
        assert!(!bare.contains(header), "{header} in {bare}");
    }
    assert!(usual.contains("server: istio-envoy\r\n") && bare.contains("server: mine\r\n"), "{bare}");
}

/// semantics.md 39: without a certificate only ALWAYS_FORWARD_ONLY believes a client.
#[tokio::test]
async fn who_shows_no_certificate_is_believed_only_where_everybody_is() {
    let upstream = Upstream::start(ok).await;
    use ClientCertificates as Mode;
    for (mode, believed) in [
        (Mode::Usual, false),
        (Mode::Sanitize, false),
        (Mode::ForwardOnly, false),
        (Mode::AppendForward, false),
        (Mode::SanitizeSet, false),
        (Mode::AlwaysForwardOnly, true),
    ] {
        let port = dead().await.port();
        let _mesh = gateway_with(port, &upstream, |own| own.mesh.headers.client_certificates = mode);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: Hash=forged\r\n\r\n";
        let answer = ask(connect(port).await, request).await;
        assert_eq!(answer.contains("Hash=forged"), believed, "{mode:?}: {answer}");
    }
}
