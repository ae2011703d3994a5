//! The client side: many requests over one connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Limits, OnWorker, Received, Sending, convert, reset_reason};
use crate::engine::body::Body;
use crate::engine::codec::{SendError, Sent};
use crate::message::{RequestHead, ResponseHead};

/// Opens a connection on `io`; the caller sets the deadline. Runs it as a task of the worker's `LocalSet`, which ends
/// when every handle and stream is gone.
///
/// # Errors
/// When the preface cannot be written.
pub async fn connect<Io>(io: Io, limits: Limits) -> Result<H2Client, io::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) =
        builder(&limits).handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    let granted = Rc::new(Cell::new(connection.current_max_send_streams()));
    let known = Rc::clone(&granted);
    let mut connection = Box::pin(connection);
    let run = poll_fn(move |cx| {
        let polled = connection.as_mut().poll(cx);
        known.set(connection.current_max_send_streams());
        polled
    });
    tokio::task::spawn_local(async move {
        // Every request under way sees the reason; nobody else asks for it.
        let _ = run.await;
    });
    Ok(H2Client {
        sender,
        allowed: limits.concurrent_streams as usize,
        limits: Rc::new(limits),
        granted,
        active: Rc::default(),
    })
}

fn builder(limits: &Limits) -> hyper::client::conn::http2::Builder<OnWorker> {
    let mut builder = hyper::client::conn::http2::Builder::new(OnWorker);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(limits.header_list)
        .max_send_buf_size(limits.send_buffer)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .max_concurrent_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.error_resets);
    builder
}

/// A handle on an HTTP/2 connection. Clones share the connection.
#[derive(Clone)]
pub struct H2Client {
    sender: SendRequest<Sending>,
    limits: Rc<Limits>,
    /// Streams we open at most.
    allowed: usize,
    /// Streams the upstream takes at most, as it last said.
    granted: Rc<Cell<usize>>,
    active: Rc<Cell<usize>>,
}

impl H2Client {
    /// Whether the connection takes another stream now: it is open and under its limit of streams, ours and the
    /// upstream's.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready() && self.active.get() < self.max_streams()
    }

    /// How many streams may be under way at once.
    pub fn max_streams(&self) -> usize {
        self.allowed.min(self.granted.get())
    }

    /// Whether the connection is over; it will take nothing again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Streams whose response is not yet at its end.
    pub fn active_streams(&self) -> usize {
        self.active.get()
    }

    /// Sends a request and waits for the head of its response. The caller sets the deadline; dropping the future, or
    /// the returned body before its end, resets the stream.
    ///
    /// # Errors
    /// When no valid response came. Other streams are not touched.
    pub async fn send(&self, head: &RequestHead, body: Body) -> Result<(ResponseHead, Body), SendError> {
        let stream = Active::new(&self.active);
        let request =
            http::Request::from_parts(convert::request(head).map_err(SendError::Protocol)?, Sending(body));
        let mut sender = self.sender.clone();
        let answered = sender.try_send_request(request).await;
        let (parts, incoming) = answered.map_err(classify)?.into_parts();
        let head = convert::response_head(&parts, &self.limits).map_err(SendError::Protocol)?;
        Ok((head, Received::body(incoming).on_end(move |_| drop(stream))))
    }
}

/// What a failed request means for those who may want to repeat it.
fn classify(mut error: hyper::client::conn::TrySendError<http::Request<Sending>>) -> SendError {
    let untouched = error.take_message().is_some();
    let error = error.into_error();
    match reset_reason(&error) {
        _ if untouched => closed(Sent::Nothing, error),
        Some(h2::Reason::REFUSED_STREAM) => SendError::Refused,
        Some(reason) => SendError::Reset(reason.to_string()),
        None if error.is_user() => SendError::Reset("request could not be sent".to_owned()),
        None => closed(Sent::Whole, error),
    }
}

fn closed(sent: Sent, error: hyper::Error) -> SendError {
    SendError::Closed { sent, source: io::Error::other(error) }
}

/// Counts a stream until it ends.
struct Active(Rc<Cell<usize>>);

impl Active {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
