//! Message bodies: one type from every codec to every other, streamed frame by frame.
//!
//! A body is pulled by whoever writes it on. It lives on one worker, so it need not be `Send`, and it holds at most
//! what its source has read. Dropping it before its end abandons the message it belongs to: the codec then resets the
//! stream or closes the connection. Deadlines belong to the source (a codec) or to the caller.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::message::Headers;

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// The next bytes; never empty.
    Data(Bytes),
    /// The trailer section; nothing follows it.
    Trailers(Headers),
}

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    /// The sender closed or reset before the body was complete.
    #[error("body cut: {0}")]
    Cut(io::ErrorKind),
    /// The bytes break the message's framing.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The sender sent nothing for the idle time.
    #[error("body stalled")]
    Stalled,
    /// The HTTP/2 stream failed, or the exchange this body belongs to is over.
    #[error("body abandoned: {0}")]
    Reset(&'static str),
    /// A limit of the operator's is exceeded.
    #[error("body larger than {0} bytes")]
    TooLarge(u64),
}

/// Something that yields a body's frames: a codec's reader, or a wrapper that watches one.
pub trait Source {
    /// The next frame; `None` at the end, and after it again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// How many bytes of data are still to come, when that is known exactly.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// Whether nothing is left, known without waiting. `false` may be wrong, `true` may not.
    fn is_end(&self) -> bool {
        false
    }
}

/// A message body.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<dyn Source>),
}

impl Body {
    /// No bytes, no trailers.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// These bytes, no trailers.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// What `source` yields.
    pub fn stream(source: impl Source + 'static) -> Self {
        Self(Kind::Stream(Box::new(source)))
    }

    /// The next frame; `None` at the end. Cancel-safe.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// As [`Body::frame`], for those who wait for several things.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Kind::Stream(source) = &mut self.0 {
            return source.poll_frame(cx);
        }
        match std::mem::take(&mut self.0) {
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::Data(bytes)))),
            _ => Poll::Ready(None),
        }
    }

    /// How many bytes of data are still to come, when that is known exactly.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Stream(source) => source.remaining(),
        }
    }

    /// Whether nothing is left, known without waiting. `false` may be wrong, `true` may not.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(source) => source.is_end(),
        }
    }

    /// Calls `done` once, when the body has ended or is dropped; with `Ok` only after its last frame was taken.
    pub fn on_end(self, done: impl FnOnce(Result<(), Option<BodyError>>) + 'static) -> Self {
        let mut watched = Watched { body: self, done: Some(done) };
        watched.settle_if_over();
        if watched.done.is_none() { std::mem::take(&mut watched.body) } else { Self::stream(watched) }
    }
}

/// A body with something to be told at its end.
struct Watched<F: FnOnce(Result<(), Option<BodyError>>)> {
    body: Body,
    done: Option<F>,
}

impl<F: FnOnce(Result<(), Option<BodyError>>)> Watched<F> {
    fn settle(&mut self, outcome: Result<(), Option<BodyError>>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }

    /// Many consumers stop at the last byte and never ask for the `None` after it.
    fn settle_if_over(&mut self) {
        if self.body.is_end() {
            self.settle(Ok(()));
        }
    }
}

impl<F: FnOnce(Result<(), Option<BodyError>>)> Source for Watched<F> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.settle(Ok(())),
            Poll::Ready(Some(Err(error))) => self.settle(Err(Some(error.clone()))),
            Poll::Ready(Some(Ok(_))) => self.settle_if_over(),
            Poll::Pending => {}
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl<F: FnOnce(Result<(), Option<BodyError>>)> Drop for Watched<F> {
    fn drop(&mut self) {
        self.settle(Err(None));
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("remaining", &self.remaining()).finish()
    }
}
