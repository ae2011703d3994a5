//! Bytes both ways between two streams: TCP connections and accepted upgrades.
//!
//! Each side may close its half while the other goes on. An idle tunnel holds no buffer: what is read goes through one
//! scratch buffer of the worker, and only what the other side does not take at once is kept. Bulk between sockets that carry
//! their bytes as they are goes through a pipe.

mod pipe;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pipe::Pipe;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// One read at most; also the most that is kept for a slow reader.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What a tunnel joins.
pub(crate) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where reading and writing it is the same as reading and writing this.
    fn bare(&self) -> Option<&TcpStream>;
}

/// How many bytes went each way; readable while the tunnel runs.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// From the downstream to the upstream.
    pub(crate) sent: Cell<u64>,
    /// From the upstream to the downstream.
    pub(crate) received: Cell<u64>,
}

/// Why a tunnel ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides closed.
    Closed,
    /// Neither side sent anything for too long.
    Idle,
    /// Reading from or writing to a side failed; the other is cut.
    Broken(io::Error),
}

/// Copies until both sides have closed, one fails, or both are silent for `idle`; `Duration::MAX` is without end.
pub(crate) async fn run<A, B>(downstream: A, upstream: B, counted: &Counted, idle: Duration) -> End
where
    A: Side,
    B: Side,
{
    let (mut downstream, mut upstream) = (downstream, upstream);
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let last = Cell::new(Instant::now());
    let copy = poll_fn(|context| {
        let sent = up.poll(context, &mut downstream, &mut upstream, &counted.sent);
        let received = down.poll(context, &mut upstream, &mut downstream, &counted.received);
        last.set(if up.moved() | down.moved() { Instant::now() } else { last.get() });
        match (sent, received) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(End::Broken(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Closed),
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        end = copy => end,
        () = silence(&last, idle) => End::Idle,
    }
}

/// Ends when nothing has moved for `idle`. The timer is set once per period, not once per byte.
async fn silence(last: &Cell<Instant>, idle: Duration) {
    while let Some(end) = last.get().checked_add(idle) {
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
    pending().await
}

/// One way through a tunnel.
#[derive(Default)]
struct Direction {
    /// Read, and not yet taken by the writer.
    kept: Vec<u8>,
    /// While the reader has more than the scratch buffer holds; nothing is kept beside it.
    pipe: Option<Pipe>,
    state: State,
    moved: bool,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// The reader has ended; the writer is still to be told.
    Ending,
    Ended,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>>
    where
        R: Side,
        W: Side,
    {
        loop {
            ready!(self.write_kept(context, writer, count))?;
            match self.state {
                State::Open if self.pipe.is_some() => ready!(self.pipe(context, reader, writer, count))?,
                State::Open => ready!(self.read(context, reader, writer, count))?,
                State::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(context))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn write_kept<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut *writer).poll_write(context, &self.kept))?;
            self.took(written, count)?;
            self.kept.drain(..written);
        }
        self.kept = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, written: usize, count: &Cell<u64>) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved = true;
        count.set(count.get() + written as u64);
        Ok(())
    }

    /// Reads once and passes on what the writer takes at once; the rest is kept.
    fn read<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>>
    where
        R: Side,
        W: Side,
    {
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let Poll::Ready(read) = Pin::new(&mut *reader).poll_read(context, &mut buffer) else {
                // TLS may hold back what it was given until it is told that nothing follows.
                ready!(Pin::new(&mut *writer).poll_flush(context))?;
                return Poll::Pending;
            };
            read?;
            let mut rest = buffer.filled();
            if rest.is_empty() {
                self.state = State::Ending;
            }
            while !rest.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *writer).poll_write(context, rest) else { break };
                let written = written?;
                self.took(written, count)?;
                rest = &rest[written..];
            }
            self.kept.extend_from_slice(rest);
            if buffer.remaining() == 0 && reader.bare().is_some() && writer.bare().is_some() {
                self.pipe = Pipe::take();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Moves once through the pipe, and gives it back when the reader has no more for now.
    fn pipe<R: Side, W: Side>(
        &mut self,
        context: &mut Context<'_>,
        reader: &R,
        writer: &W,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        let (Some(pipe), Some(reader), Some(writer)) = (&mut self.pipe, reader.bare(), writer.bare()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let Poll::Ready(moved) = pipe.poll_move(context, reader, writer) else {
            if pipe.is_empty() {
                self.pipe = None;
            }
            return Poll::Pending;
        };
        match moved? {
            Some(taken) => self.took(taken, count)?,
            None => (self.pipe, self.state) = (None, State::Ending),
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::pipe::tests::connected;
    use super::*;

    impl Side for DuplexStream {
        fn bare(&self) -> Option<&TcpStream> {
            None
        }
    }

    impl Side for TcpStream {
        fn bare(&self) -> Option<&TcpStream> {
            Some(self)
        }
    }

    /// Several times what sockets and pipe hold, each byte telling its place.
    fn bulk() -> Vec<u8> {
        (0..8_u32 << 20).map(|place| (place % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bulk_between_sockets_arrives_whole_and_leaves_an_empty_pipe_behind() {
        let (mut client, downstream) = connected().await;
        let (upstream, mut server) = connected().await;
        let bulk = bulk();
        let served = async {
            let mut request = Vec::new();
            server.read_to_end(&mut request).await.unwrap();
            assert!(request == bulk, "{} bytes", request.len());
            server.write_all(b"an answer").await.unwrap();
            server.shutdown().await.unwrap();
        };
        let asked = async {
            client.write_all(&bulk).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"an answer");
        };
        let counted = Counted::default();
        let (end, (), ()) =
            tokio::join!(run(downstream, upstream, &counted, Duration::from_secs(30)), served, asked);
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!((counted.sent.get(), counted.received.get()), (8 << 20, 9));
        assert_eq!(pipe::tests::spare(), 1);
    }

    #[tokio::test]
    async fn a_half_that_closes_leaves_the_other_open() {
        let (mut client, downstream) = duplex(16);
        let (upstream, mut server) = duplex(16);
        let served = async {
            let mut request = Vec::new();
            server.read_to_end(&mut request).await.unwrap();
            assert_eq!(request, b"question");
            server.write_all(b"an answer longer than the pipe").await.unwrap();
            server.shutdown().await.unwrap();
        };
        let asked = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"an answer longer than the pipe");
        };
        let counted = Counted::default();
        let (end, (), ()) =
            tokio::join!(run(downstream, upstream, &counted, Duration::from_secs(5)), served, asked);
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!((counted.sent.get(), counted.received.get()), (8, 30));
    }

    #[tokio::test]
    async fn silence_ends_a_tunnel() {
        let (_client, downstream) = duplex(16);
        let (upstream, _server) = duplex(16);
        let end = run(downstream, upstream, &Counted::default(), Duration::from_millis(20)).await;
        assert!(matches!(end, End::Idle), "{end:?}");
    }
}
