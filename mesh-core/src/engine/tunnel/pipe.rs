//! Bulk between two bare sockets: through a pipe the kernel hands pages on that nobody copies.
//!
//! A pipe costs two descriptors and a few system calls, so a direction takes one only while its reader has more than a
//! buffer holds, and gives it back when the reader is dry: a worker needs a few, however many tunnels it has.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds at most. Also what a slow reader makes the kernel keep.
const CAPACITY: usize = 256 * 1024;
/// Pipes that a worker keeps for the next that needs one.
const MOST_SPARE: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// An empty pipe.
#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe that a direction of a tunnel uses, and how much it holds.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// One that is spare, or a new one; none when the process has no descriptors left.
    pub(super) fn take() -> Option<Self> {
        let ends = SPARE.with_borrow_mut(Vec::pop).or_else(|| Ends::open().ok())?;
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Takes from the reader and hands to the writer once each: how much the writer took. Ready with `None` when the reader
    /// has ended and everything was handed on. Pending with an empty pipe means that the reader is dry.
    pub(super) fn poll_move(
        &mut self,
        context: &mut Context<'_>,
        reader: &TcpStream,
        writer: &TcpStream,
    ) -> Poll<io::Result<Option<usize>>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(None)) };
        if self.held == 0 {
            let fill = || moved(splice(reader, None, &ends.into, None, CAPACITY, flags()));
            self.held = ready!(poll_io(context, reader, Interest::READABLE, fill))?;
            if self.held == 0 {
                return Poll::Ready(Ok(None));
            }
        }
        let drain = || moved(splice(&ends.out, None, writer, None, self.held, flags()));
        let taken = ready!(poll_io(context, writer, Interest::WRITABLE, drain))?;
        self.held -= taken;
        Poll::Ready(Ok(Some(taken)))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One that still holds something would hand it to somebody else.
        if self.held > 0 {
            return;
        }
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.extend(self.ends.take());
            }
        });
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Beyond what a user may have in all, the kernel says no; the usual size does too.
        let _ = fcntl_setpipe_size(&into, CAPACITY);
        Ok(Self { out, into })
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

fn moved(result: rustix::io::Result<usize>) -> io::Result<usize> {
    result.map_err(io::Error::from)
}

/// Tries until it succeeds, fails, or the socket has to be waited for.
fn poll_io(
    context: &mut Context<'_>,
    socket: &TcpStream,
    interest: Interest,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(socket.poll_read_ready(context))?;
        } else {
            ready!(socket.poll_write_ready(context))?;
        }
        match socket.try_io(interest, &mut attempt) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Two sockets that are joined.
    pub(in super::super) async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// How many pipes wait for the next that needs one.
    pub(in super::super) fn spare() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_pipe_that_still_holds_something_is_nobody_elses() {
        let mut pipe = Pipe::take().unwrap();
        pipe.held = 4;
        drop(pipe);
        assert_eq!(spare(), 0);
        drop(Pipe::take());
        assert_eq!(spare(), 1);
    }
}
