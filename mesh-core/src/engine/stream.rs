//! The byte stream under every protocol: cleartext or TLS, with bytes that were read ahead to tell the protocol.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::tunnel::Side;

/// A stream of which a beginning has been read already; readers see it again.
#[derive(Debug)]
pub(crate) struct Ahead<S> {
    seen: BytesMut,
    inner: S,
}

impl<S> Ahead<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { seen: BytesMut::new(), inner }
    }

    /// A stream and what has been read of it before.
    pub(crate) fn with_seen(inner: S, seen: Bytes) -> Self {
        Self { seen: BytesMut::from(seen), inner }
    }

    /// What has been read ahead.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// The same bytes over another view of the stream.
    pub(crate) fn map<T>(self, change: impl FnOnce(S) -> T) -> Ahead<T> {
        Ahead { seen: self.seen, inner: change(self.inner) }
    }

    /// The stream and what has been read ahead of it.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.seen.freeze())
    }
}

impl<S: AsyncRead + Unpin> Ahead<S> {
    /// Reads more ahead; 0 at the end of the stream. Nothing is lost when it is dropped before it ends.
    pub(crate) async fn read_ahead(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            // On the stack of this poll, so that no buffer waits with the connection.
            let mut chunk = [0; 2048];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
            self.seen.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let length = self.seen.len().min(buffer.remaining());
        buffer.put_slice(&self.seen[..length]);
        self.seen.advance(length);
        if self.seen.is_empty() {
            // The allocation goes with the last byte: an idle connection must not keep it.
            self.seen = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A connection to a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS. Boxed: the state is large, and most connections inside a pod are plain.
    Tls(Box<TlsStream<Ahead<TcpStream>>>),
}

impl Transport {
    /// The socket at the bottom.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0.inner(),
        }
    }
}

/// What the protocols run on.
pub(crate) type Stream = Ahead<Transport>;

impl Side for Transport {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }
}

impl<S: Side> Side for Ahead<S> {
    fn bare(&self) -> Option<&TcpStream> {
        if self.seen.is_empty() { self.inner.bare() } else { None }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(tls) => {
                let read = ready!(Pin::new(tls).poll_read(context, buffer));
                // A peer that closes without close_notify ends the stream; framing above says whether that is a cut.
                Poll::Ready(match read {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                    other => other,
                })
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
