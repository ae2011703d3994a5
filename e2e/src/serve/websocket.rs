//! WebSocket echo on the HTTP ports, by HTTP/1.1 upgrade (RFC 6455, section 4). `whoami` asks for the pod's name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::body::{Body, full};
use super::{App, Drain};

const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Agrees to the upgrade and echoes on it in the background.
pub(super) fn accept(app: &Arc<App>, mut request: Request<Incoming>, drain: Drain) -> Response<Body> {
    let mut response = Response::new(full(""));
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(serve(app.clone(), upgrade, drain));
    response
}

async fn serve(app: Arc<App>, upgrade: OnUpgrade, mut drain: Drain) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_DEADLINE, upgrade).await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    tokio::select! {
        // An error is the client's going away: nothing is left to do for it.
        _ = echo(&app, &mut socket) => {}
        () = drain.stopped() => { let _ = socket.close(None).await; }
    }
}

async fn echo(app: &App, socket: &mut WebSocketStream<TokioIo<Upgraded>>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text.as_str() == "whoami" => {
                socket.send(app.pod.pod.as_str().into()).await?
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            // Pings are answered and closes acknowledged by the library while it reads.
            _ => {}
        }
    }
    Ok(())
}
