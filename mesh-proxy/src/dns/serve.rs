//! The sockets of the DNS server.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::name::Host;
use mesh_core::telemetry::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::question::{LONGEST_UDP, Transport};
use super::{Lookup, Server};

/// How long a TCP client may be silent between queries, and how long one message may take (RFC 7766 section 6.2.3).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to rest when the kernel refuses a new connection, say for want of descriptors.
const REST: Duration = Duration::from_millis(50);

/// A UDP and a TCP socket on the same address.
#[derive(Debug)]
pub(crate) struct Listeners {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Listeners {
    /// Listens on `address`, which should be on loopback: 127.0.0.1:15053, and again for `[::1]:15053`.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp, tcp })
    }

    /// The address of both.
    #[cfg(test)]
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

impl<L: AsyncFn(Host) -> Lookup + 'static> Server<L> {
    /// Answers queries until dropped; queries in flight end with it. Must run in a [`tokio::task::LocalSet`].
    ///
    /// May be called several times, once per address.
    pub(crate) async fn serve(self: Rc<Self>, listeners: Listeners) {
        let Listeners { udp, tcp } = listeners;
        tokio::join!(Rc::clone(&self).serve_udp(Rc::new(udp)), self.serve_tcp(tcp));
    }

    async fn serve_udp(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut queries = JoinSet::new();
        let mut buffer = vec![0; usize::from(LONGEST_UDP)];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "cannot receive a dns query");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            while queries.try_join_next().is_some() {}
            if queries.len() >= self.settings.queries {
                self.metrics.count(Counter::DnsDropped);
                continue;
            }
            let query = buffer[..length].to_vec();
            queries.spawn_local(Rc::clone(&self).answer_datagram(Rc::clone(&socket), query, client));
        }
    }

    async fn answer_datagram(self: Rc<Self>, socket: Rc<UdpSocket>, query: Vec<u8>, client: SocketAddr) {
        let Some(answer) = self.answer(&query, Transport::Udp).await else { return };
        // A full socket buffer may drop it, as any network may.
        if let Err(error) = socket.try_send_to(&answer, client) {
            debug!(%client, %error, "cannot send a dns answer");
        }
    }

    async fn serve_tcp(self: Rc<Self>, listener: TcpListener) {
        let limit = Arc::new(Semaphore::new(self.settings.connections));
        let mut connections = JoinSet::new();
        loop {
            let permit = Arc::clone(&limit).acquire_owned().await.expect("the semaphore is never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "cannot accept a dns connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let server = Rc::clone(&self);
            connections.spawn_local(async move {
                let outcome = server.serve_connection(stream).await;
                debug!(error = outcome.err().map(tracing::field::display), "dns connection closed");
                drop(permit);
            });
        }
    }

    /// One query after the other; ends when the client closes or is silent for too long.
    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let query = timeout(PATIENCE, read_message(&mut stream)).await??;
            let Some(answer) = self.answer(&query, Transport::Tcp).await else { return Ok(()) };
            timeout(PATIENCE, write_message(&mut stream, &answer)).await??;
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}
