//! What a connection and the body being read from it share.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::decode::{Decoder, Step};
use super::outgoing::{Cut, Outgoing};
use super::wire::{Output, Wire};
use crate::engine::body::{Body, BodyError, Frame, Source};

/// A connection.
pub(super) struct Shared<Io> {
    pub(super) wire: Wire<Io>,
    /// The incoming message's body.
    pub(super) decoder: Decoder,
    /// Counts messages, so that a body that outlives its own cannot read the next one's.
    pub(super) exchange: u64,
    /// Interim responses, written ahead of everything else.
    pub(super) control: Output,
    /// The client waits for `100 Continue` before it sends its body.
    pub(super) continue_due: bool,
    /// The request being sent, on the client side.
    pub(super) upload: Upload,
    /// Something went wrong that ends the connection.
    pub(super) broken: bool,
    read_stall: Stall,
    write_stall: Stall,
}

/// A request being sent while its response may already come.
pub(super) enum Upload {
    Done,
    Active(Box<Outgoing>),
    Failed(Cut),
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Shared<Io> {
    pub(super) fn new(io: Io, received: Bytes, stall: Duration) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            wire: Wire::new(io, received),
            decoder: Decoder::Done,
            exchange: 0,
            control: Output::default(),
            continue_due: false,
            upload: Upload::Done,
            broken: false,
            read_stall: Stall::new(stall),
            write_stall: Stall::new(stall),
        }))
    }

    /// Writes `output`, after whatever control bytes are due.
    pub(super) fn poll_write(&mut self, output: &mut Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.wire.written;
        let polled = match self.wire.poll_write(&mut self.control, cx) {
            Poll::Ready(Ok(())) => self.wire.poll_write(output, cx),
            other => other,
        };
        if self.wire.written > before {
            self.write_stall.progressed();
        }
        if polled.is_pending() && self.write_stall.poll_elapsed(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    pub(super) fn poll_write_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(&mut Output::default(), cx)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.broken {
            return Poll::Ready(Some(Err(BodyError::Reset("connection failed"))));
        }
        let polled = self.poll_decode(cx);
        if let Poll::Ready(Err(_)) = &polled {
            self.broken = true;
        }
        polled.map(Result::transpose)
    }

    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, BodyError>> {
        if std::mem::take(&mut self.continue_due) {
            self.control.tail().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let Poll::Ready(Err(error)) = self.poll_write_control(cx) {
            return Poll::Ready(Err(BodyError::Cut(error.kind())));
        }
        loop {
            match self.decoder.decode(&mut self.wire.input)? {
                Step::Frame(frame) => return Poll::Ready(Ok(Some(frame))),
                Step::End => return Poll::Ready(Ok(None)),
                Step::More => {}
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => self.decoder.end_of_stream()?,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Err(BodyError::Stalled));
                }
                Err(error) => return Poll::Ready(Err(BodyError::Cut(error.kind()))),
            }
        }
    }

    /// Reads, bounded by the stall time.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.wire.poll_fill(cx);
        if polled.is_ready() {
            self.read_stall.progressed();
        } else if self.read_stall.poll_elapsed(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    /// Both messages are over: gives back what only they needed.
    pub(super) fn rest(&mut self) {
        self.wire.rest();
        self.read_stall.sleep = None;
        self.write_stall.sleep = None;
    }
}

/// Sends on what there is of a request, without waiting for it.
pub(super) fn drive_upload<Io: AsyncRead + AsyncWrite + Unpin>(
    shared: &RefCell<Shared<Io>>,
    cx: &mut Context<'_>,
) {
    if !matches!(shared.borrow().upload, Upload::Active(_)) {
        return;
    }
    let taken = std::mem::replace(&mut shared.borrow_mut().upload, Upload::Done);
    let Upload::Active(mut outgoing) = taken else { return };
    let next = match outgoing.poll(shared, cx) {
        Poll::Pending => Upload::Active(outgoing),
        Poll::Ready(Ok(())) => Upload::Done,
        Poll::Ready(Err(cut)) => Upload::Failed(cut),
    };
    shared.borrow_mut().upload = next;
}

/// Reads the body of the message `exchange`.
pub(super) struct Incoming<Io> {
    shared: Rc<RefCell<Shared<Io>>>,
    exchange: u64,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Incoming<Io> {
    /// The body of the message that `shared` is at.
    pub(super) fn body(shared: &Rc<RefCell<Shared<Io>>>) -> Body {
        let current = shared.borrow();
        if current.decoder.is_done() {
            return Body::empty();
        }
        Body::stream(Self { shared: Rc::clone(shared), exchange: current.exchange })
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Source for Incoming<Io> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.shared.borrow().exchange != self.exchange {
            return Poll::Ready(Some(Err(BodyError::Reset("exchange is over"))));
        }
        drive_upload(&self.shared, cx);
        let mut shared = self.shared.borrow_mut();
        if matches!(shared.upload, Upload::Failed(Cut::Body(_))) {
            shared.broken = true;
        }
        shared.poll_body(cx)
    }

    fn remaining(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        if shared.exchange == self.exchange { shared.decoder.remaining() } else { None }
    }

    fn is_end(&self) -> bool {
        let shared = self.shared.borrow();
        shared.exchange == self.exchange && shared.decoder.is_done()
    }
}

/// A deadline that starts anew with every progress; it fires after one to two times its limit.
///
/// The timer is made when something first has to wait, and moved only when it fires: progress costs one store.
struct Stall {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    progressed: bool,
}

impl Stall {
    const fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, progressed: false }
    }

    const fn progressed(&mut self) {
        self.progressed = true;
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        while sleep.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.progressed) {
                return true;
            }
            sleep.as_mut().reset(Instant::now() + self.limit);
        }
        false
    }
}
