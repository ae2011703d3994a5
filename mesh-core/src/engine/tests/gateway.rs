//! Gateways: listeners that follow the configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::harness::*;
use crate::engine::Settings;
use crate::model::{Listener, ListenerProtocol, Protocol, Resource, Role};

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
