//! HTTP/2, both sides: hyper's connections behind our own heads and bodies.
//!
//! Every limit is set here and none is left to hyper's default. Streams run as tasks of the worker's `LocalSet`, so
//! nothing has to be `Send`. What hyper lets through and we do not is refused in `convert`.
//!
//! Not here: routing, retries, pools, extended CONNECT, server push and interim responses (hyper has none of them for
//! HTTP/2).

mod client;
mod convert;
mod server;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;

pub use client::{H2Client, connect};
pub use server::serve_h2;

use crate::engine::body::{Body, BodyError, Frame, Source};

/// The bounds of a connection, for either side.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Streams under way at once: granted to a client, or used of what an upstream grants; 200.
    pub concurrent_streams: u32,
    /// Receive window of a stream in bytes; 1 MiB.
    pub stream_window: u32,
    /// Receive window of the connection in bytes; 16 MiB. h2 ends a connection on which half of it lies unread in
    /// small frames, which a slow consumer of a gRPC stream can do.
    pub connection_window: u32,
    /// A header list in bytes, as RFC 9113 §6.5.2 counts; 64 KiB.
    pub header_list: u32,
    /// Fields in a header list; 100, as in HTTP/1.1.
    pub header_fields: usize,
    /// Unsent bytes a stream may hold; 64 KiB.
    pub send_buffer: usize,
    /// A ping is sent after this much silence; 20 s.
    pub ping_interval: Duration,
    /// The connection is dead when a ping is not answered; 10 s.
    pub ping_timeout: Duration,
    /// Streams that the client reset before we accepted them; 100. A trusted peer that cancels much needs more than
    /// h2's 20.
    pub pending_resets: usize,
    /// Streams we reset for the peer's errors; 1024.
    pub error_resets: usize,
    /// Requests that the client may cancel after we took them, beyond every second one, before the connection is
    /// ended; 200. h2 does not count these (HB-19).
    pub cancelled: u32,
    /// How long streams under way may go on once the connection was ended for abuse; 5 s.
    pub abuse_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_streams: 200,
            stream_window: 1 << 20,
            connection_window: 16 << 20,
            header_list: 64 << 10,
            header_fields: 100,
            send_buffer: 64 << 10,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
            pending_resets: 100,
            error_resets: 1024,
            cancelled: 200,
            abuse_grace: Duration::from_secs(5),
        }
    }
}

/// Runs hyper's tasks on the worker.
#[derive(Clone, Copy)]
struct OnWorker;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// A body received over HTTP/2.
struct Received(Incoming);

impl Received {
    fn body(incoming: Incoming) -> Body {
        if http_body::Body::is_end_stream(&incoming) { Body::empty() } else { Body::stream(Self(incoming)) }
    }
}

impl Source for Received {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let frame = match std::task::ready!(http_body::Body::poll_frame(Pin::new(&mut self.0), cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(body_error(&error)))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::Trailers(convert::trailers(&trailers)))));
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        http_body::Body::size_hint(&self.0).exact()
    }

    fn is_end(&self) -> bool {
        http_body::Body::is_end_stream(&self.0)
    }
}

/// The reason a stream was reset with, if the error says one.
fn reset_reason(error: &hyper::Error) -> Option<h2::Reason> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return error.reason();
        }
        source = inner.source();
    }
    None
}

fn body_error(error: &hyper::Error) -> BodyError {
    match reset_reason(error) {
        Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR) => BodyError::Reset("cancelled by the peer"),
        Some(_) => BodyError::Reset("reset by the peer"),
        None => BodyError::Cut(std::io::ErrorKind::UnexpectedEof),
    }
}

/// A body being sent over HTTP/2. An error of it resets the stream.
struct Sending(Body);

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        self.0.poll_frame(cx).map_ok(|frame| match frame {
            Frame::Data(data) => http_body::Frame::data(data),
            Frame::Trailers(trailers) => http_body::Frame::trailers(convert::trailer_map(&trailers)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.remaining().map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
