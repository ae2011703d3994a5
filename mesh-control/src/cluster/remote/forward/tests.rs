//! Against an API server that knows nothing but port-forwarding.

use futures_util::{SinkExt as _, StreamExt as _};
use kube::Config;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::*;

/// Takes one connection and answers what is sent to the pod's port with `data`, and `trouble` beside it.
async fn api_server(data: &'static str, trouble: &'static str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_hdr_async(stream, upgraded).await.unwrap();
        for channel in [0, 1] {
            let [low, high] = 15014_u16.to_le_bytes();
            socket.send(Message::binary(vec![channel, low, high])).await.unwrap();
        }
        let asked = socket.next().await.unwrap().unwrap().into_data();
        assert!(asked.starts_with(b"\0GET /status HTTP/1.1\r\nhost: 127.0.0.1:15014\r\n"), "{asked:?}");
        for (channel, text) in [(1, trouble), (0, data)] {
            if !text.is_empty() {
                socket.send(Message::binary([&[channel], text.as_bytes()].concat())).await.unwrap();
            }
        }
        let _ = socket.close(None).await;
    });
    Client::try_from(Config::new(url)).unwrap()
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn upgraded(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.uri().path(), "/api/v1/namespaces/mesh-system/pods/control-1/portforward");
    let offered = request.headers()["sec-websocket-protocol"].to_str().unwrap();
    assert!(offered.split(", ").any(|protocol| protocol == "v4.channel.k8s.io"), "{offered}");
    response.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
    Ok(response)
}

async fn ask_status(data: &'static str, trouble: &'static str) -> Result<(u16, String), String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = api_server(data, trouble).await;
    get(&client, "mesh-system", "control-1", 15014, "/status").await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_page_of_a_pod_comes_through_the_api_server() {
    let answer = ask_status("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "").await;
    assert_eq!(answer, Ok((200, "ok".to_owned())));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_with_the_nodes_own_words() {
    let answer = ask_status("", "connection refused").await.unwrap_err();
    assert_eq!(
        answer,
        "mesh-system/control-1: port 15014 cannot be asked through the API server: connection refused"
    );
}
