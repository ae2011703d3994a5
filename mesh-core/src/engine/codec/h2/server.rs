//! The server side: one task per stream, each running the handler.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Limits, OnWorker, Received, Sending, convert};
use crate::engine::body::Body;
use crate::engine::codec::Reject;
use crate::message::{RequestHead, ResponseHead, Scheme};

/// Serves a connection until it ends. `handler` gets every request, also one that must be refused: then as the reason,
/// which it has to turn into an answer. When `shutdown` completes, the client is told (GOAWAY), streams under way
/// finish, and the function returns.
///
/// Must run inside a `LocalSet`.
///
/// # Errors
/// When the connection broke or the peer violated the protocol.
pub async fn serve_h2<Io, H>(
    io: Io,
    scheme: Scheme,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
    handler: H,
) -> Result<(), hyper::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
    H: AsyncFn(Result<RequestHead, Reject>, Body) -> (ResponseHead, Body) + 'static,
{
    let conduct = Rc::new(Conduct::new(limits.cancelled));
    let handler = Rc::new(handler);
    let shared = Rc::new(limits);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (handler, conduct, limits) = (Rc::clone(&handler), Rc::clone(&conduct), Rc::clone(&shared));
        async move {
            let watch = conduct.watch();
            let (parts, incoming) = request.into_parts();
            let head = convert::request_head(&parts, scheme, &limits);
            drop(parts);
            let (head, body) = handler(head, Received::body(incoming)).await;
            watch.answered();
            Ok::<_, Infallible>(convert::response(&head, Sending(body)))
        }
    });
    let mut connection = pin!(builder(&shared).serve_connection(TokioIo::new(io), service));
    let abused = tokio::select! {
        ended = &mut connection => return ended,
        () = shutdown => false,
        () = conduct.abused.notified() => true,
    };
    connection.as_mut().graceful_shutdown();
    if abused {
        return timeout(shared.abuse_grace, connection).await.unwrap_or(Ok(()));
    }
    connection.await
}

fn builder(limits: &Limits) -> hyper::server::conn::http2::Builder<OnWorker> {
    let mut builder = hyper::server::conn::http2::Builder::new(OnWorker);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.concurrent_streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(limits.header_list)
        .max_send_buf_size(limits.send_buffer)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.error_resets);
    builder
}

/// Counts requests that the client cancels once we work on them.
struct Conduct {
    allowed: u32,
    taken: Cell<u32>,
    cancelled: Cell<u32>,
    abused: Notify,
}

impl Conduct {
    fn new(allowed: u32) -> Self {
        Self { allowed, taken: Cell::new(0), cancelled: Cell::new(0), abused: Notify::new() }
    }

    fn watch(self: &Rc<Self>) -> Watch {
        self.taken.set(self.taken.get().saturating_add(1));
        Watch { conduct: Rc::clone(self), answered: false }
    }

    fn cancelled(&self) {
        self.cancelled.set(self.cancelled.get().saturating_add(1));
        if self.cancelled.get() > self.allowed.saturating_add(self.taken.get() / 2) {
            self.abused.notify_one();
        }
    }
}

/// A request under way.
struct Watch {
    conduct: Rc<Conduct>,
    answered: bool,
}

impl Watch {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.answered {
            self.conduct.cancelled();
        }
    }
}
