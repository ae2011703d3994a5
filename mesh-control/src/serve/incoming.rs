//! Connections as they come in, after their TLS handshake; no more than a bound at once: whoever comes later waits in the
//! listener's queue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::own::Certificate;

/// Several times what a large mesh has proxies; each costs a file descriptor and some tens of KiB.
const CONNECTIONS: usize = 16_384;
/// For a TLS handshake with a proxy.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After accepting failed, for example because file descriptors have run out.
const REST: Duration = Duration::from_millis(50);

/// Accepts for as long as it is polled. Handshakes do not wait for each other.
pub(super) fn connections(
    listener: TcpListener,
    own: Arc<Certificate>,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepted = unfold((listener, places), async |(listener, places)| {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let stream = accept(&listener).await;
        Some(((stream, place), (listener, places)))
    });
    accepted
        .map(move |(stream, place)| shake(stream, place, Arc::clone(&own)))
        .buffer_unordered(CONNECTIONS)
        .filter_map(|shaken| std::future::ready(shaken.map(Ok)))
}

async fn shake(stream: TcpStream, place: OwnedSemaphorePermit, own: Arc<Certificate>) -> Option<Connection> {
    let acceptor = TlsAcceptor::from(own.config());
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection { stream, _place: place }),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS with a proxy");
            None
        }
        Err(_) => None,
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small messages should not wait for more; a socket that refuses is about to fail anyway.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// A connection that gives its place back when it ends.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().0.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
