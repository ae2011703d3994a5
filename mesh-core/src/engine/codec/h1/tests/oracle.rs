//! hyper on the other side, and our two sides back to back as a proxy.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;

/// Serves with ours: every body is sent back.
async fn echo(mut connection: ServerConnection<DuplexStream>) -> usize {
    let mut requests = 0;
    while let Some((_, body)) = connection.next_request().await.unwrap() {
        requests += 1;
        connection.respond(&ResponseHead::new(200), body).await.unwrap();
    }
    requests
}

#[tokio::test]
async fn hyper_reads_our_answers() {
    let (io, upstream) = duplex(1 << 10);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let ask = async move {
        for size in [0, 1, 5000, 300_000] {
            let data = Bytes::from(vec![7; size]);
            let request = http::Request::post("/").header("host", "x").body(Full::new(data.clone())).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), data);
            sender.ready().await.unwrap();
        }
    };
    let (requests, connection, ()) = tokio::join!(echo(server(upstream)), connection, ask);
    connection.unwrap();
    assert_eq!(requests, 4);
}

/// hyper's server: sends every body back, as it comes.
async fn hyper_echo(io: DuplexStream) {
    let service = service_fn(|request: http::Request<Incoming>| async move {
        Ok::<_, Infallible>(http::Response::new(request.into_body()))
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}

#[tokio::test]
async fn hyper_reads_our_requests() {
    let (io, upstream) = duplex(1 << 10);
    let ask = async move {
        let mut connection = client(io);
        for size in [0, 1, 5000, 300_000] {
            let data = Bytes::from(vec![7; size]);
            let (head, body) =
                connection.send(&request("POST", "/"), Body::full(data.clone()), ignore).await.unwrap();
            assert_eq!((head.status, read(body).await.unwrap().0), (200, data));
            assert!(connection.is_reusable());
        }
    };
    tokio::join!(hyper_echo(upstream), ask);
}

/// One worker's forwarding, as the engine does it.
async fn forward(downstream: DuplexStream, upstream: DuplexStream) {
    let (mut server, mut client) = (server(downstream), client(upstream));
    while let Some((head, body)) = server.next_request().await.unwrap() {
        let (head, body) =
            client.send(&head, body, |status, headers| server.interim(status, headers)).await.unwrap();
        server.respond(&head, body).await.unwrap();
        assert!(client.is_reusable());
    }
}

#[tokio::test]
async fn a_request_body_is_read_while_its_answer_is_written() {
    let (io, downstream) = duplex(1 << 10);
    let (upstream, origin) = duplex(1 << 10);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let ask = async move {
        // Far more than all buffers on the way together: without reading and writing at once it would lock up.
        for _ in 0..2 {
            let data = Bytes::from(vec![7; 2 << 20]);
            let request = http::Request::post("/").header("host", "x").body(Full::new(data.clone())).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), data);
            sender.ready().await.unwrap();
        }
    };
    let (_, connection, (), ()) =
        tokio::join!(hyper_echo(origin), connection, forward(downstream, upstream), ask);
    connection.unwrap();
}
