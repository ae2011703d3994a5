//! The server side of a connection: requests in order, each answered before the next is read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Limits;
use super::deadline::Deadline;
use super::decode::Decoder;
use super::encode::{Connection, Encoder, interim_head, response_head};
use super::head::{HeadEnd, Request, oversize};
use super::outgoing::{Cut, Outgoing};
use super::shared::{Incoming, Shared};
use super::wire::Output;
use crate::engine::body::{Body, BodyError, Frame};
use crate::engine::codec::Reject;
use crate::failure::Failure;
use crate::message::{Headers, RequestHead, ResponseHead, Scheme, Version};
use crate::name::Host;

/// Read-ahead while the client waits for its answer: enough to see it go, bounded.
const READ_AHEAD: usize = 64 << 10;

/// Why a response was not sent whole. The connection is over either way.
#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    /// The client went away, or took nothing for the stall time.
    #[error("response cut by the client")]
    Downstream(#[source] io::Error),
    /// The response's body failed after its head was sent: the client sees the connection break.
    #[error("response body failed")]
    Body(#[source] BodyError),
}

/// The server side of an HTTP/1.1 connection.
pub struct ServerConnection<Io> {
    shared: Rc<RefCell<Shared<Io>>>,
    scheme: Scheme,
    /// Shared with others, for a connection is kept small.
    limits: Rc<Limits>,
    /// What the answer to the request under way depends on.
    asked: Asked,
    /// Another request may follow.
    persistent: bool,
    /// The host of the last request: that of the next is nearly always the same.
    host: Option<Host>,
    rest: Deadline,
}

struct Asked {
    head_only: bool,
    version: Version,
    takes_trailers: bool,
    upgrade: Option<Bytes>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { head_only: false, version: Version::Http11, takes_trailers: false, upgrade: None }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> ServerConnection<Io> {
    /// A connection on which nothing has been read.
    pub fn new(io: Io, scheme: Scheme, limits: impl Into<Rc<Limits>>) -> Self {
        Self::with_received(io, Bytes::new(), scheme, limits)
    }

    /// A connection whose first bytes were already read, to tell its protocol.
    pub fn with_received(io: Io, received: Bytes, scheme: Scheme, limits: impl Into<Rc<Limits>>) -> Self {
        let limits = limits.into();
        let shared = Shared::new(io, received, limits.stall_time);
        Self {
            shared,
            scheme,
            limits,
            asked: Asked::default(),
            persistent: true,
            host: None,
            rest: Deadline::default(),
        }
    }

    /// Waits for the next request; `None` when the connection is over. Every request must be answered before the next
    /// is asked for. Cancel-safe: bytes received stay, only the deadlines start anew.
    ///
    /// # Errors
    /// When the request must be refused. It still takes one [`respond`](Self::respond), which then closes.
    pub async fn next_request(&mut self) -> Result<Option<(RequestHead, Body)>, Reject> {
        if !self.persistent || !self.first_byte().await {
            self.persistent = false;
            return Ok(None);
        }
        self.asked = Asked::default();
        let request = self.request().await;
        // What cannot be read is followed by nothing that can.
        self.persistent = request.is_ok();
        request.map(|request| Some(self.begin(request)))
    }

    /// Whether no byte of a next request has come: the connection may close without loss.
    pub fn is_idle(&self) -> bool {
        self.shared.borrow().wire.input.is_empty()
    }

    /// Answers the request under way and streams the body. The connection closes afterwards if the client asked for
    /// it, if the request cannot be read to its end, or after [`close_after`](Self::close_after).
    ///
    /// # Errors
    /// When the answer could not be sent whole.
    pub async fn respond(&mut self, head: &ResponseHead, body: Body) -> Result<(), RespondError> {
        let sent = self.send(head, body).await;
        match &sent {
            Ok(()) if self.persistent => self.persistent = self.drain().await,
            Ok(()) => {}
            Err(_) => self.persistent = false,
        }
        self.shared.borrow_mut().exchange += 1;
        sent
    }

    /// Sends an interim response (102, 103) ahead of the final one. It is dropped if the client speaks HTTP/1.0.
    pub fn interim(&self, status: u16, headers: &Headers) {
        if self.asked.version != Version::Http11 || !matches!(status, 102..=199) {
            return;
        }
        let mut shared = self.shared.borrow_mut();
        interim_head(status, headers, shared.control.tail());
        // Best effort: what the socket does not take now goes out with the next write.
        let _ = shared.poll_write_control(&mut Context::from_waker(Waker::noop()));
    }

    /// Lets the answer under way, or the next, be the last: it says `Connection: close`.
    pub const fn close_after(&mut self) {
        self.persistent = false;
    }

    /// Whether another request may follow.
    pub const fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Completes when the client has gone before its answer. Waits forever while its request body is being read: then
    /// reading the body tells. Cancel-safe.
    pub async fn gone(&self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    /// Ends the connection: tells the client, then takes what it still sends for a moment, so that the last answer is
    /// not lost to a reset.
    pub async fn close(self) {
        if poll_fn(|cx| self.shared.borrow_mut().wire.poll_shutdown(cx)).await.is_ok() {
            let _ = timeout(self.limits.drain_time, self.discard()).await;
        }
    }

    /// The byte stream and what was read ahead, after an answer of 101.
    pub fn into_io(self) -> Option<(Io, Bytes)> {
        self.shared.borrow_mut().wire.take()
    }
}

/// Reading requests.
impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> ServerConnection<Io> {
    /// Waits for a request to begin; `false` when none will. One empty line before it is taken (RFC 9112 §2.2).
    async fn first_byte(&mut self) -> bool {
        self.shared.borrow_mut().rest();
        self.rest.set(self.limits.idle_time);
        let mut empty_line_due = true;
        loop {
            match self.skip_empty_line(&mut empty_line_due) {
                true => return true,
                false if matches!(poll_fn(|cx| self.poll_rest(cx)).await, Ok(1..)) => {}
                false => return false,
            }
        }
    }

    /// Reads, until the connection has rested for too long.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.shared.borrow_mut().wire.poll_fill(cx) {
            Poll::Pending if self.rest.poll_passed(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }

    /// Whether the input holds the start of a request.
    fn skip_empty_line(&self, due: &mut bool) -> bool {
        let input = &mut self.shared.borrow_mut().wire.input;
        if *due && input.starts_with(b"\r\n") {
            input.advance(2);
            *due = false;
        }
        let half_empty_line = *due && &input[..] == b"\r";
        !(input.is_empty() || half_empty_line)
    }

    async fn request(&mut self) -> Result<Request, Reject> {
        let mut end = HeadEnd::default();
        let block = match self.take_head(&mut end)? {
            // Nearly always it has come as a whole: no time has to be kept.
            Some(block) => block,
            None => {
                let late = Reject { failure: Failure::RequestTimeout, reason: "request head took too long" };
                // Boxed, for a connection is kept small.
                let rest = Box::pin(timeout(self.limits.head_time, self.rest_of_head(end)));
                rest.await.map_err(|_| late)??
            }
        };
        let request = Request::parse(&block, self.scheme, &self.limits, self.host.take())?;
        self.host = Some(request.head.host.clone());
        Ok(request)
    }

    /// Reads what is missing of a head.
    async fn rest_of_head(&self, mut end: HeadEnd) -> Result<Bytes, Reject> {
        while matches!(self.fill().await, Ok(1..)) {
            if let Some(block) = self.take_head(&mut end)? {
                return Ok(block);
            }
        }
        Err(Reject { failure: Failure::DownstreamGone, reason: "closed inside a request head" })
    }

    fn take_head(&self, end: &mut HeadEnd) -> Result<Option<Bytes>, Reject> {
        let wire = &mut self.shared.borrow_mut().wire;
        let input = &wire.input;
        // The parser would skip any number of empty lines.
        if matches!(input.first(), Some(b'\r' | b'\n')) {
            return Err(Reject::bad("empty line before a request"));
        }
        match end.find(input).map_err(Reject::bad)? {
            Some(size) if size <= self.limits.head_size => Ok(Some(wire.take_input(size))),
            None if input.len() <= self.limits.head_size => Ok(None),
            _ => Err(oversize(input, &self.limits)),
        }
    }

    async fn fill(&self) -> io::Result<usize> {
        poll_fn(|cx| self.shared.borrow_mut().wire.poll_fill(cx)).await
    }

    fn begin(&mut self, request: Request) -> (RequestHead, Body) {
        let mut shared = self.shared.borrow_mut();
        shared.exchange += 1;
        shared.decoder = Decoder::new(request.framing);
        shared.continue_due = request.expects_continue && !shared.decoder.is_done();
        drop(shared);
        self.persistent = request.persistent;
        self.asked = Asked {
            head_only: request.head.method.as_str() == "HEAD",
            version: request.head.version,
            takes_trailers: request.takes_trailers,
            upgrade: request.head.upgrade.clone(),
        };
        (request.head, Incoming::body(&self.shared))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        while shared.decoder.is_done() && shared.wire.input.len() < READ_AHEAD {
            if !matches!(ready!(shared.wire.poll_fill(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads the rest of a request body that nobody wants; `false` when the connection has to close instead. What is
    /// left of it must never be taken for a request (SM-14).
    async fn drain(&self) -> bool {
        if self.shared.borrow().decoder.is_done() {
            return !self.shared.borrow().broken;
        }
        let drain = async {
            let mut body = Incoming::body(&self.shared);
            let mut left = self.limits.drain_size;
            while let Some(frame) = body.frame().await {
                left = match frame {
                    Ok(Frame::Data(data)) if data.len() <= left => left - data.len(),
                    Ok(Frame::Trailers(_)) => left,
                    _ => return false,
                };
            }
            !self.shared.borrow().broken
        };
        // Boxed: few clients send what nobody wants.
        Box::pin(timeout(self.limits.drain_time, drain)).await.unwrap_or(false)
    }

    async fn discard(&self) {
        let mut left = self.limits.drain_size;
        while let Ok(read @ 1..) = self.fill().await {
            self.shared.borrow_mut().wire.input.clear();
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    }
}

/// Writing responses.
impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> ServerConnection<Io> {
    async fn send(&mut self, head: &ResponseHead, body: Body) -> Result<(), RespondError> {
        if std::mem::take(&mut self.shared.borrow_mut().continue_due) {
            // The client may or may not send its body now: where the next request begins is unknown.
            self.persistent = false;
        }
        let bodiless = self.asked.head_only || matches!(head.status, 101 | 204 | 304);
        let encoder = if bodiless { Encoder::None } else { self.encoder(&body) };
        self.persistent &= encoder != Encoder::UntilClose && head.status != 101;
        let informs = self.asked.head_only || head.status == 304;
        let mut output = Output::default();
        response_head(head, encoder, informs, &self.connection(head), output.tail());
        let mut outgoing = Outgoing::new(output, encoder, body);
        poll_fn(|cx| outgoing.poll(&self.shared, cx)).await.map_err(|cut| match cut {
            Cut::Write(error) => RespondError::Downstream(error),
            Cut::Body(error) => RespondError::Body(error),
        })
    }

    fn encoder(&self, body: &Body) -> Encoder {
        match (body.remaining(), self.asked.version) {
            (Some(length), _) => Encoder::Length(length),
            (None, Version::Http10) => Encoder::UntilClose,
            (None, _) => Encoder::Chunked { trailers: self.asked.takes_trailers },
        }
    }

    fn connection(&self, head: &ResponseHead) -> Connection<'_> {
        match (&self.asked.upgrade, self.persistent, self.asked.version) {
            (Some(protocol), ..) if head.status == 101 => Connection::Switches(protocol),
            (_, false, _) => Connection::Close,
            (_, true, Version::Http10) => Connection::KeepAlive,
            (_, true, _) => Connection::Persists,
        }
    }
}

#[cfg(test)]
impl<Io> ServerConnection<Io> {
    /// Room of the read buffer, for tests.
    pub(super) fn held(&self) -> usize {
        self.shared.borrow().wire.held()
    }
}
