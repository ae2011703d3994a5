//! Against an API server that knows nothing but its version and `pods/exec`, in versions 4 and 5 of the protocol.

use futures_util::{SinkExt as _, StreamExt as _};
use kube::Config;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::*;

const STATUS: u8 = 3;
const CLOSE: u8 = 255;

fn pod() -> PodView {
    PodView(json!({"metadata": {"namespace": "default", "name": "web-1"},
        "spec": {"initContainers": [{"name": "istio-proxy"}], "containers": [{"name": "web"}, {"name": "side"}]}}))
}

/// A cluster of that minor version, and what its API server does with the one command that comes.
async fn cluster<F, R>(minor: &'static str, serve: F) -> Remote
where
    F: FnOnce(WebSocketStream<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        assert!(asked[..count].starts_with(b"GET /version "), "the version comes first");
        let body = json!({"major": "1", "minor": minor}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        drop(stream);
        let (stream, _) = listener.accept().await.unwrap();
        let protocol = if minor.starts_with("30") { "v5.channel.k8s.io" } else { "v4.channel.k8s.io" };
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let upgraded = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/default/pods/web-1/exec");
            let query = request.uri().query().unwrap();
            assert!(query.contains("container=web") && query.contains("command=sh&command=-c"), "{query}");
            response.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
            Ok(response)
        };
        serve(accept_hdr_async(stream, upgraded).await.unwrap()).await;
    });
    Remote::with(Client::try_from(Config::new(url)).unwrap())
}

async fn say(socket: &mut WebSocketStream<TcpStream>, channel: u8, text: &str) {
    socket.send(Message::binary([&[channel], text.as_bytes()].concat())).await.unwrap();
}

fn failure(code: &str) -> String {
    json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated",
        "details": {"causes": [{"reason": "ExitCode", "message": code}]}})
    .to_string()
}

/// Exit code or error, and what was written to output and errors.
async fn exec(remote: &Remote, input: &[u8]) -> (Result<i32, String>, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let streams = Streams { input, output: &mut output, errors: &mut errors };
    let command = ["sh", "-c", "cat"].map(str::to_owned);
    let code = remote.exec(&pod(), None, &command, streams).await.map_err(|error| error.to_string());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (code, text(output), text(errors))
}

#[tokio::test]
async fn a_command_has_the_callers_streams_and_its_exit_code_is_told() {
    let remote = cluster("30+", |mut socket| async move {
        let mut input = Vec::new();
        loop {
            let message = socket.next().await.unwrap().unwrap().into_data();
            match message.as_ref() {
                [0, bytes @ ..] => input.extend_from_slice(bytes),
                [CLOSE, 0] => break,
                other => panic!("{other:?}"),
            }
        }
        say(&mut socket, 1, &String::from_utf8(input).unwrap()).await;
        say(&mut socket, 2, "a warning").await;
        say(&mut socket, STATUS, &failure("7")).await;
        let _ = socket.close(None).await;
    })
    .await;
    let long = "line\n".repeat(50_000);
    let (code, output, errors) = exec(&remote, long.as_bytes()).await;
    assert_eq!((code, output == long, errors.as_str()), (Ok(7), true, "a warning"));
}

/// Closing the input would close everything there, and the command's answer be lost.
#[tokio::test]
async fn an_older_cluster_is_not_told_that_the_input_has_ended() {
    let remote = cluster("29", |mut socket| async move {
        assert_eq!(socket.next().await.unwrap().unwrap().into_data().as_ref(), b"\0hi");
        say(&mut socket, 1, "hi back").await;
        say(&mut socket, STATUS, r#"{"status":"Success"}"#).await;
        let closed = socket.next().await;
        assert!(!matches!(&closed, Some(Ok(Message::Binary(_)))), "{closed:?}");
    })
    .await;
    let (code, output, _) = exec(&remote, b"hi").await;
    assert_eq!((code, output.as_str()), (Ok(0), "hi back"));
}

#[tokio::test]
async fn what_could_not_be_run_is_told_in_the_nodes_own_words() {
    let remote = cluster("30", |mut socket| async move {
        let status = json!({"status": "Failure", "reason": "InternalError", "message": "no such program"});
        say(&mut socket, STATUS, &status.to_string()).await;
        let _ = socket.next().await;
    })
    .await;
    assert_eq!(exec(&remote, b"").await.0, Err("default/web-1: no such program".to_owned()));
    let remote = cluster("30", |socket| async move { drop(socket) }).await;
    let broken = exec(&remote, b"").await.0;
    assert_eq!(broken, Err("default/web-1: the connection ended before the command".to_owned()));
}

#[test]
fn a_container_is_the_applications_first_unless_it_is_named() {
    let container = |wanted: Option<&str>| container_of(&pod(), wanted).map_err(|error| error.to_string());
    assert_eq!(container(None).unwrap(), "web");
    assert_eq!(container(Some("istio-proxy")).unwrap(), "istio-proxy");
    let missing = container(Some("db")).unwrap_err();
    assert_eq!(missing, "default/web-1 has no container `db`; it has istio-proxy, web, side");
}
