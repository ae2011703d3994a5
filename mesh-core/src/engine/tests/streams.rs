//! HTTP/2, upgrades, and the end of connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::harness::*;
use crate::engine::body::{Body, Frame};
use crate::engine::codec::h2;
use crate::engine::listen::Door;
use crate::engine::worker::Worker;
use crate::engine::{Capture, connection};
use crate::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::model::Protocol;

fn head(path: &str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        host: host(SERVICE),
        authority: SERVICE.into(),
        path: path.to_owned().into(),
        query: None,
        version: Version::Http2,
        upgrade: None,
        headers: Headers::default(),
    }
}

async fn text(mut body: Body) -> String {
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        if let Frame::Data(data) = frame.unwrap() {
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
    text
}

/// An upstream that speaks HTTP/2 only and answers with the path; counts its connections.
async fn http2_upstream() -> (std::net::SocketAddr, Rc<Cell<u32>>) {
    let connections = Rc::<Cell<u32>>::default();
    let opened = Rc::clone(&connections);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            opened.set(opened.get() + 1);
            let echo = async |head: Result<RequestHead, _>, _| {
                (ResponseHead::new(200), Body::full(head.map(|head| head.path).unwrap_or_default()))
            };
            let served =
                h2::serve_h2(stream, Scheme::Http, h2::Limits::default(), std::future::pending(), echo);
            tokio::task::spawn_local(async move { drop(served.await) });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn http2_goes_to_http2_over_one_connection() {
    LocalSet::new()
        .run_until(async {
            let (upstream, connections) = http2_upstream().await;
            let resources = service(|_, cluster| cluster.protocol = Protocol::Grpc, &[upstream]);
            let mesh = Mesh::outbound(resources);
            let client = h2::connect(mesh.connect().await, h2::Limits::default()).await.unwrap();
            let ask = async |path: &str| {
                let (answer, body) = client.send(&head(path), Body::empty()).await.unwrap();
                assert_eq!((answer.status, text(body).await.as_str()), (200, path));
            };
            // All at once, and none has a connection yet: they share one all the same.
            tokio::join!(ask("/a"), ask("/b"), ask("/c"), ask("/d"));
            ask("/e").await;
            assert_eq!(connections.get(), 1);
        })
        .await;
}

#[tokio::test]
async fn http1_is_taken_to_http2_where_the_service_speaks_only_that() {
    LocalSet::new()
        .run_until(async {
            let (upstream, _) = http2_upstream().await;
            let mesh = Mesh::outbound(service(|_, cluster| cluster.protocol = Protocol::Http2, &[upstream]));
            let answer = mesh.get("/x").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("/x"), "{answer}");
        })
        .await;
}

#[tokio::test]
async fn websockets_become_tunnels() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        assert!(String::from_utf8_lossy(&request).to_lowercase().contains("upgrade: websocket\r\n"));
        let accept =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(accept).await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    let mesh = Mesh::outbound(service(|_, _| {}, &[address]));
    let mut client = mesh.connect().await;
    let request =
        format!("GET /chat HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let greeted = async {
        while !seen.ends_with(b"hello") {
            assert_ne!(client.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
        }
    };
    timeout(Duration::from_secs(10), greeted).await.unwrap();
    assert!(String::from_utf8_lossy(&seen).starts_with("HTTP/1.1 101 "));
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    timeout(Duration::from_secs(10), client.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, b"ping");
}

/// A tunnel of HTTP/2 would carry requests past every policy.
#[tokio::test]
async fn nothing_but_websocket_is_switched_to() {
    let upstream = Upstream::start(ok).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let request = format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    let answer = ask(mesh.connect().await, &request).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("upgrade"), "{answer}");
}

#[tokio::test]
async fn connect_is_refused() {
    let upstream = Upstream::saying("no").await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let answer = ask(mesh.connect().await, "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_asks_clients_to_go() {
    let upstream = Upstream::start(|_| format!("slow:{}", ok("slow"))).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let (mut busy, mut idle) = (mesh.connect().await, mesh.connect().await);
    busy.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
    while mesh.engine.connections() < 2 || upstream.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let draining = tokio::spawn(mesh.engine.drain(Duration::from_secs(5)));
    let answer = response(&mut busy).await;
    assert!(answer.ends_with("slow") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    timeout(Duration::from_secs(8), draining).await.unwrap().unwrap();
}

/// Ten thousand idle connections must not cost much more than their sockets.
#[tokio::test]
async fn a_connection_between_requests_is_small() {
    let mesh = Mesh::outbound(service(|_, _| {}, &[]));
    let worker = Rc::new(Worker::new(mesh.engine.shared.clone()));
    let stream = mesh.connect().await;
    let peer = stream.peer_addr().unwrap();
    let door = Door::Outbound(Capture::Fixed(VIRTUAL.parse().unwrap()));
    let whole = connection::serve(Rc::clone(&worker), door, stream, peer);
    let opened = connection::Opened::of_requests(mesh.connect().await, peer);
    let requests = opened.serve(&worker);
    let sizes = [size_of_val(&whole), size_of_val(&*requests)];
    assert!(sizes[0] <= 512 && sizes[1] <= 1024, "{sizes:?} bytes");
}
