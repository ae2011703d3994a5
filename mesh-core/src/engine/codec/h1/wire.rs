//! The byte stream under a connection: what was read and not yet parsed, and writing out queued pieces.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Reads start at this size and double up to the largest while they come back full.
const SMALLEST_READ: usize = 4 << 10;
const LARGEST_READ: usize = 64 << 10;
/// Pieces up to this size are copied together: cheaper than a slice of their own in the write.
const SMALL_PIECE: usize = 2 << 10;
const SLICES_PER_WRITE: usize = 16;
/// What comes in a first read up to this size is copied into an allocation of its own, so that the buffer stays.
const SMALL_READ: usize = 1 << 10;
/// No larger buffer is kept for the next message.
const LARGEST_SPARE: usize = 8 << 10;

thread_local! {
    /// The buffer of first reads. Most of them find nothing yet, or one small head: neither needs one of its own.
    static SPARE: Cell<BytesMut> = Cell::default();
    /// The buffer that the next message is put together in: nearly all are written at once.
    static SPARE_OUTPUT: Cell<BytesMut> = Cell::default();
}

/// A byte stream and its read buffer.
///
/// The buffer exists only while it holds bytes: a first read goes into one that all connections of the thread share, and
/// what it brings is copied if it is small and taken over if it is not. A request's head and body are slices of it.
pub(super) struct Wire<Io> {
    io: Option<Io>,
    pub(super) input: BytesMut,
    read_size: usize,
    /// All bytes ever written, to tell progress.
    pub(super) written: u64,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Wire<Io> {
    pub(super) fn new(io: Io, received: Bytes) -> Self {
        Self { io: Some(io), input: BytesMut::from(received), read_size: SMALLEST_READ, written: 0 }
    }

    /// Reads once. `Ok(0)` is the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() && self.read_size == SMALLEST_READ {
            return self.poll_first(cx);
        }
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Ok(0)) };
        self.input.reserve(self.read_size);
        let room = self.input.capacity() - self.input.len();
        let polled = pin!(io.read_buf(&mut self.input)).poll(cx);
        match &polled {
            Poll::Ready(Ok(read)) if *read == room => self.read_size = (self.read_size * 2).min(LARGEST_READ),
            Poll::Pending if self.input.is_empty() => self.input = BytesMut::new(),
            _ => {}
        }
        polled
    }

    /// Reads the first bytes of something.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Ok(0)) };
        let mut buffer = SPARE.take();
        buffer.clear();
        buffer.reserve(SMALLEST_READ);
        let room = buffer.capacity();
        let polled = pin!(io.read_buf(&mut buffer)).poll(cx);
        match &polled {
            Poll::Ready(Ok(read)) if *read > SMALL_READ => {
                if *read == room {
                    self.read_size *= 2;
                }
                self.input = buffer;
                return polled;
            }
            Poll::Ready(Ok(1..)) => self.input = BytesMut::from(&buffer[..]),
            _ => {}
        }
        SPARE.set(buffer);
        polled
    }

    /// Takes the first `size` bytes of what was read.
    pub(super) fn take_input(&mut self, size: usize) -> Bytes {
        if size == self.input.len() {
            return std::mem::take(&mut self.input).freeze();
        }
        self.input.split_to(size).freeze()
    }

    /// Forgets how large the last body's reads were.
    pub(super) fn rest(&mut self) {
        self.read_size = SMALLEST_READ;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Writes all of `output` and flushes.
    pub(super) fn poll_write(&mut self, output: &mut Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while !output.is_written() {
            let wrote = ready!(output.poll_write_once(io, cx))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote as u64;
            output.advance(wrote);
        }
        output.flush_due = true;
        ready!(Pin::new(io).poll_flush(cx))?;
        output.flush_due = false;
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.io.as_mut() {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Gives the stream away with the bytes read ahead; the wire is dead afterwards.
    pub(super) fn take(&mut self) -> Option<(Io, Bytes)> {
        self.io.take().map(|io| (io, std::mem::take(&mut self.input).freeze()))
    }
}

/// Pieces waiting to be written.
#[derive(Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    flush_due: bool,
}

impl Output {
    /// Where small pieces are put together.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.tail.capacity() == 0 {
            self.tail = SPARE_OUTPUT.take();
        }
        &mut self.tail
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() <= SMALL_PIECE {
            self.tail().extend_from_slice(&piece);
            return;
        }
        self.seal();
        self.pieces.push_back(piece);
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty() && !self.flush_due
    }

    fn is_written(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Writes what waits; something does.
    fn poll_write_once<Io: AsyncWrite + Unpin>(
        &self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let mut waiting = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        if self.pieces.len() + usize::from(tail.is_some()) == 1 || !io.is_write_vectored() {
            return Pin::new(io).poll_write(cx, waiting.next().unwrap_or_default());
        }
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        Pin::new(io).poll_write_vectored(cx, &slices[..used])
    }

    fn advance(&mut self, mut wrote: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if wrote < first.len() {
                first.advance(wrote);
                return;
            }
            wrote -= first.len();
            self.pieces.pop_front();
        }
        if wrote < self.tail.len() {
            self.tail.advance(wrote);
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        if tail.capacity() <= LARGEST_SPARE {
            tail.clear();
            SPARE_OUTPUT.set(tail);
        }
    }
}

#[cfg(test)]
impl<Io> Wire<Io> {
    /// Room of the read buffer, for tests.
    pub(super) fn held(&self) -> usize {
        self.input.capacity()
    }
}

#[cfg(test)]
impl Output {
    /// All bytes, for tests.
    pub(super) fn concat(mut self) -> Vec<u8> {
        self.seal();
        self.pieces.iter().flatten().copied().collect()
    }
}
