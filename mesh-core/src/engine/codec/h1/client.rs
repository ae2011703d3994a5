//! The client side of a connection: one request at a time, its response read while it is still being sent.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Limits;
use super::decode::Decoder;
use super::encode::{Encoder, request_head};
use super::head::{HeadEnd, Response};
use super::outgoing::{Cut, Outgoing};
use super::shared::{Incoming, Shared, Upload, drive_upload};
use super::wire::Output;
use crate::engine::body::Body;
use crate::engine::codec::{SendError, Sent};
use crate::message::{Headers, RequestHead, ResponseHead};

/// The client side of an HTTP/1.1 connection.
pub struct ClientConnection<Io> {
    shared: Rc<RefCell<Shared<Io>>>,
    limits: Rc<Limits>,
    /// The last response lets the connection persist.
    persistent: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> ClientConnection<Io> {
    /// A fresh connection.
    pub fn new(io: Io, limits: impl Into<Rc<Limits>>) -> Self {
        let limits = limits.into();
        Self { shared: Shared::new(io, Bytes::new(), limits.stall_time), limits, persistent: true }
    }

    /// Sends a request and waits for the head of its response. The request's body is sent on while the response's is
    /// read, for an upstream may answer early. `interim` sees every 1xx that a client may want (not 100).
    ///
    /// The caller sets the deadline. Dropping the future, or the returned body before its end, leaves a connection
    /// that is not [reusable](Self::is_reusable).
    ///
    /// # Errors
    /// When no valid response came; the connection is then not reusable.
    pub async fn send(
        &mut self,
        head: &RequestHead,
        body: Body,
        mut interim: impl FnMut(u16, &Headers),
    ) -> Result<(ResponseHead, Body), SendError> {
        if !self.is_reusable() || !self.is_quiet() {
            let source = io::ErrorKind::NotConnected.into();
            return Err(SendError::Closed { sent: Sent::Nothing, source });
        }
        // Until the response says so.
        self.persistent = false;
        let start = self.begin(head, body);
        let response = self.response(head, start, &mut interim).await?;
        let mut shared = self.shared.borrow_mut();
        shared.decoder = Decoder::new(response.framing);
        drop(shared);
        self.persistent = response.persistent && response.head.status != 101;
        Ok((response.head, Incoming::body(&self.shared)))
    }

    /// Whether another request may be sent: both messages are over and nothing unexpected was seen.
    pub fn is_reusable(&self) -> bool {
        let shared = self.shared.borrow();
        self.persistent
            && !shared.broken
            && shared.decoder.is_done()
            && matches!(shared.upload, Upload::Done)
            && shared.wire.input.is_empty()
    }

    /// The connection lies idle from here on: gives back what only a message needs.
    pub fn rest(&self) {
        self.shared.borrow_mut().rest();
    }

    /// Completes when an idle connection has become useless: it was closed, or something came unasked. Cancel-safe.
    pub async fn useless(&self) {
        poll_fn(|cx| if self.poll_quiet(cx) { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// The byte stream and what was read ahead, after a response of 101.
    pub fn into_io(self) -> Option<(Io, Bytes)> {
        self.shared.borrow_mut().wire.take()
    }

    /// Whether the connection is open and silent, as it must be between a response and the next request (SM-17).
    fn is_quiet(&self) -> bool {
        self.poll_quiet(&mut Context::from_waker(Waker::noop()))
    }

    fn poll_quiet(&self, cx: &mut Context<'_>) -> bool {
        let mut shared = self.shared.borrow_mut();
        if !shared.broken && shared.wire.poll_fill(cx).is_ready() {
            shared.broken = true;
        }
        !shared.broken
    }

    /// Hands the request to the connection.
    fn begin(&self, head: &RequestHead, body: Body) -> Start {
        let encoder = Encoder::for_request(head, &body);
        let mut output = Output::default();
        request_head(head, encoder, output.tail());
        let mut shared = self.shared.borrow_mut();
        shared.exchange += 1;
        shared.upload = Upload::Active(Box::new(Outgoing::new(output, encoder, body)));
        Start { written: shared.wire.written }
    }

    async fn response(
        &self,
        head: &RequestHead,
        start: Start,
        interim: &mut impl FnMut(u16, &Headers),
    ) -> Result<Response, SendError> {
        let mut end = HeadEnd::default();
        let mut left = self.limits.interim_responses;
        loop {
            let block = poll_fn(|cx| self.poll_head(&mut end, &start, cx)).await?;
            let to_head = head.method.as_str() == "HEAD";
            let response = Response::parse(&block, to_head).map_err(SendError::Protocol)?;
            match response.head.status {
                101 => return switched(head, response),
                100..=199 if left == 0 => return Err(SendError::Protocol("too many interim responses")),
                // We never ask for it: the downstream's own wish is answered when its body is first read.
                100 => {}
                status @ 102..=199 => interim(status, &response.head.headers),
                _ => return Ok(response),
            }
            left -= 1;
        }
    }

    /// Sends on the request and reads one whole head.
    fn poll_head(
        &self,
        end: &mut HeadEnd,
        start: &Start,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, SendError>> {
        drive_upload(&self.shared, cx);
        let mut shared = self.shared.borrow_mut();
        if let Upload::Failed(Cut::Body(error)) = &shared.upload {
            return Poll::Ready(Err(SendError::RequestBody(error.clone())));
        }
        loop {
            // The parser would skip any number of empty lines.
            if matches!(shared.wire.input.first(), Some(b'\r' | b'\n')) {
                return Poll::Ready(Err(SendError::Protocol("empty line before a response")));
            }
            match end.find(&shared.wire.input).map_err(SendError::Protocol)? {
                Some(size) => return Poll::Ready(Ok(shared.wire.take_input(size))),
                None if shared.wire.input.len() > self.limits.head_size => {
                    return Poll::Ready(Err(SendError::Protocol("response head is too large")));
                }
                None => {}
            }
            let read = std::task::ready!(shared.wire.poll_fill(cx));
            let source = match read {
                Ok(1..) => continue,
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Err(error) => error,
            };
            return Poll::Ready(Err(start.closed(&shared, source)));
        }
    }
}

/// Where the connection was when the request began.
struct Start {
    written: u64,
}

impl Start {
    /// The stream ended before a response head.
    fn closed<Io>(&self, shared: &Shared<Io>, source: io::Error) -> SendError
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        if !shared.wire.input.is_empty() {
            return SendError::Protocol("closed inside a response head");
        }
        let sent = match &shared.upload {
            _ if shared.wire.written == self.written => Sent::Nothing,
            Upload::Done => Sent::Whole,
            Upload::Active(_) | Upload::Failed(_) => Sent::Part,
        };
        SendError::Closed { sent, source }
    }
}

/// A switch is taken only if it was asked for, and to what was asked for (UP-02).
fn switched(head: &RequestHead, response: Response) -> Result<Response, SendError> {
    match (&head.upgrade, &response.upgrade) {
        (Some(asked), Some(to)) if asked.eq_ignore_ascii_case(to) => Ok(response),
        _ => Err(SendError::Protocol("switched to a protocol that was not asked for")),
    }
}

#[cfg(test)]
impl<Io> ClientConnection<Io> {
    /// Room of the read buffer, for tests.
    pub(super) fn held(&self) -> usize {
        self.shared.borrow().wire.held()
    }
}
