//! HTTP connections of downstreams: their requests go through [`serve`] one by one, whatever the version.

mod account;
mod authorize;
mod bounded;
mod clock;
mod date;
mod forward;
mod headers;
mod meter;
mod replay;
mod serve;
mod tee;

use std::rc::Rc;
use std::time::Duration;

use super::body::Body;
use super::codec::{Reject, h1, h2};
use super::connection::Downstream;
use super::connection::revoke::{Carries, revoked};
use super::stream::{Ahead, Stream, Transport};
use super::tunnel::{self, Counted};
use super::worker::Worker;
use crate::message::{RequestHead, ResponseHead, Version};
use account::Account;

/// What a request is answered with.
struct Reply {
    head: ResponseHead,
    body: Body,
    /// The upstream, when it has agreed to switch protocols.
    switched: Option<Switched>,
}

/// An upstream that speaks another protocol from here on.
struct Switched {
    upstream: Stream,
    account: Account,
}

/// Serves a downstream's connection until it ends.
pub(crate) async fn serve_connection(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: Stream,
    version: Version,
) {
    let watched = Rc::clone(&downstream);
    let serving = async {
        match version {
            Version::Http2 => Box::pin(serve_http2(worker, downstream, stream)).await,
            Version::Http10 | Version::Http11 => serve_http1(worker, &downstream, stream).await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = revoked(worker, &watched, Carries::Requests) => {}
    }
}

async fn serve_http2(worker: &Rc<Worker>, downstream: Rc<Downstream>, stream: Stream) {
    let (limits, scheme) = (worker.limits().http2.clone(), downstream.scheme);
    let drain = worker.drain().clone();
    let handler = {
        let worker = Rc::clone(worker);
        async move |head: Result<RequestHead, Reject>, body: Body| {
            let reply = serve::request(&worker, &downstream, head, body).await;
            (reply.head, reply.body)
        }
    };
    let served = h2::serve_h2(stream, scheme, limits, async move { drain.begun().await }, handler).await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP/2 connection ended");
    }
}

async fn serve_http1(worker: &Rc<Worker>, downstream: &Rc<Downstream>, stream: Stream) {
    let (transport, received) = stream.into_parts();
    let limits = h1::Limits { idle_time: worker.limits().keep_alive, ..worker.limits().http1.clone() };
    let mut connection = h1::ServerConnection::with_received(transport, received, downstream.scheme, limits);
    // One for the whole connection: it waits in a list that all connections share. Boxed, to keep this future small.
    let mut draining = Box::pin(worker.drain().begun());
    loop {
        let request = tokio::select! {
            biased;
            request = connection.next_request() => request,
            () = &mut draining => break,
        };
        let (head, body) = match request {
            Ok(None) => break,
            Ok(Some((head, body))) => (Ok(head), body),
            Err(reject) => (Err(reject), Body::empty()),
        };
        let reply = tokio::select! {
            // Boxed, so that a connection is large only while a request is on it.
            reply = Box::pin(serve::request(worker, downstream, head, body)) => reply,
            () = connection.gone() => break,
        };
        if worker.drain().is_draining() {
            connection.close_after();
        }
        if let Err(error) = connection.respond(&reply.head, reply.body).await {
            tracing::debug!(%error, peer = %downstream.peer.address, "answer cut");
            break;
        }
        if let Some(switched) = reply.switched {
            return tunnel(worker, connection, switched).await;
        }
    }
    connection.close().await;
}

/// Both sides have agreed on another protocol: from here on, bytes.
async fn tunnel(worker: &Worker, connection: h1::ServerConnection<Transport>, switched: Switched) {
    let Some((transport, received)) = connection.into_io() else { return };
    let Switched { upstream, mut account } = switched;
    let (counted, idle) = (Counted::default(), worker.limits().stream_idle.max(Duration::from_secs(3600)));
    let end = tunnel::run(Ahead::with_seen(transport, received), upstream, &counted, idle).await;
    tracing::debug!(?end, "tunnel ended");
    account.tunnelled(&counted);
}
