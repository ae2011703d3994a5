//! One HTTP GET of a port inside a pod, through the API server's port-forward.
//!
//! It reaches ports that listen on the pod's loopback only, such as a proxy's admin port, and needs the right to create
//! `pods/portforward` in the pod's namespace.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::time::timeout;

use super::RemoteError;

/// The largest answer that is read.
const LIMIT: usize = 64 << 20;
/// For everything: the way there and the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// For the reason to arrive after a connection has failed.
const REASON: Duration = Duration::from_millis(200);

/// Status and body of a page.
///
/// # Errors
/// When the pod cannot be reached, or does not answer in 15 s.
pub async fn get(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    page: &str,
) -> Result<(u16, String), RemoteError> {
    let answer = match timeout(DEADLINE, ask(client, namespace, pod, port, page)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {DEADLINE:?}")),
    };
    answer.map_err(|reason| RemoteError::Silent { pod: format!("{namespace}/{pod}"), port, reason })
}

/// A connection to a port in a pod. The pod's side may yet refuse it, which then ends it.
pub(super) async fn stream(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<tokio::io::DuplexStream, String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let forwarder = timeout(DEADLINE, pods.portforward(pod, &[port])).await;
    let mut forwarder =
        forwarder.map_err(|_| "no answer in time".to_owned())?.map_err(|error| told(&error))?;
    forwarder.take_stream(port).ok_or_else(|| "no stream".to_owned())
}

async fn ask(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    page: &str,
) -> Result<(u16, String), String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| told(&error))?;
    let trouble = forwarder.take_error(port);
    let stream = forwarder.take_stream(port).ok_or("no stream")?;
    let answer = exchange(stream, port, page).await;
    match (answer, trouble) {
        (Ok(answer), _) => Ok(answer),
        // Why the pod's side failed comes beside the connection.
        (Err(error), Some(trouble)) => match timeout(REASON, trouble).await {
            Ok(Some(reason)) => Err(reason.trim().to_owned()),
            _ => Err(error),
        },
        (Err(error), None) => Err(error),
    }
}

async fn exchange(stream: tokio::io::DuplexStream, port: u16, page: &str) -> Result<(u16, String), String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // Ends when `sender` is dropped.
    tokio::spawn(connection);
    let request = http::Request::get(page).header(http::header::HOST, format!("127.0.0.1:{port}"));
    let request = request.header(http::header::USER_AGENT, "mesh").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LIMIT).collect().await;
    let body = body.map_err(|error| format!("reading the answer: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// An error with what caused it: `kube` says only "failed to upgrade to a WebSocket connection".
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
