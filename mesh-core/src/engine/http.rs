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
use crate::message::{RequestHead, ResponseHead};
use account::Account;

/// What a request is answered with.
struct Reply {
    head: ResponseHead,
    body: Body,
    /// The upstream, when it has agreed to switch protocols. Boxed: it seldom is there.
    switched: Option<Box<Switched>>,
}

/// An upstream that speaks another protocol from here on.
struct Switched {
    upstream: Stream,
    account: Account,
}

/// Serves a downstream's HTTP/2 connection until it ends, or may not go on.
pub(crate) async fn serve_http2(worker: &Rc<Worker>, downstream: Rc<Downstream>, stream: Stream) {
    let (limits, scheme) = (worker.limits().http2.clone(), downstream.scheme);
    let (drain, watched) = (worker.drain().clone(), Rc::clone(&downstream));
    let handler = {
        let worker = Rc::clone(worker);
        async move |head: Result<RequestHead, Reject>, body: Body| {
            // Boxed: hyper moves the future of a stream several times before it rests in a task.
            let reply = Box::pin(serve::request(&worker, &downstream, head, body)).await;
            (reply.head, reply.body)
        }
    };
    tokio::select! {
        served = h2::serve_h2(stream, scheme, limits, async move { drain.begun().await }, handler) => {
            if let Err(error) = served {
                tracing::debug!(%error, "HTTP/2 connection ended");
            }
        }
        () = revoked(worker, &watched, Carries::Requests) => {}
    }
}

/// Serves a downstream's HTTP/1.1 connection until it ends, or may not go on.
pub(crate) fn serve_http1(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: Stream,
) -> impl Future<Output = ()> {
    let (transport, received) = stream.into_parts();
    let connection =
        h1::ServerConnection::with_received(transport, received, downstream.scheme, worker.http1());
    async move {
        tokio::select! {
            () = serve_requests(worker, &downstream, connection) => {}
            () = revoked(worker, &downstream, Carries::Requests) => {}
        }
    }
}

async fn serve_requests(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    mut connection: h1::ServerConnection<Transport>,
) {
    // One for the whole connection: it waits in a list that all connections share. Boxed, to keep this future small.
    let mut draining = Box::pin(worker.drain().begun());
    loop {
        let serving = {
            let request = tokio::select! {
                biased;
                request = connection.next_request() => request,
                () = &mut draining => break,
            };
            // Boxed, so that a connection is large only while a request is on it.
            match request {
                Ok(None) => break,
                Ok(Some((head, body))) => Box::pin(serve::request(worker, downstream, Ok(head), body)),
                Err(reject) => Box::pin(serve::request(worker, downstream, Err(reject), Body::empty())),
            }
        };
        let Reply { head, body, switched } = tokio::select! {
            reply = serving => reply,
            () = connection.gone() => break,
        };
        if worker.drain().is_draining() {
            connection.close_after();
        }
        if let Err(error) = connection.respond(&head, body).await {
            tracing::debug!(%error, peer = %downstream.peer.address, "answer cut");
            break;
        }
        if let Some(switched) = switched {
            return Box::pin(tunnel(worker, connection, *switched)).await;
        }
    }
    Box::pin(connection.close()).await;
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
