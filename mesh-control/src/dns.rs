//! DNS for pods without a proxy: names of services, answered with the addresses of their ready pods.
//!
//! There is no service proxy in front of such pods that would take a virtual address, so they are given the pods
//! themselves. Names below the cluster's domain are ours alone, and those that Services publish by ExternalDNS's annotation
//! (`external-dns.alpha.kubernetes.io/hostname`) lead to their pods; all others are refused, which makes a resolver go on to
//! its next server. Queries that are not well formed get an error or, if they are not even queries, nothing.

mod answer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::serve::Plane;

/// TCP connections at once, and how long one may be silent.
const CONNECTIONS: usize = 64;
const SILENCE: Duration = Duration::from_secs(5);
/// Largest query, in bytes.
const LARGEST_QUERY: usize = 4096;

/// The sockets of a server.
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Server {
    /// Takes UDP and TCP at an address.
    ///
    /// # Errors
    /// When it is taken, or not ours to take.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        // With port 0, both get the same one.
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp, tcp })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until `stop`.
    pub async fn serve(self, plane: Arc<Plane>, stop: CancellationToken) {
        tokio::select! {
            () = datagrams(&self.udp, &plane) => {}
            () = connections(&self.tcp, &plane) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn datagrams(socket: &UdpSocket, plane: &Plane) {
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                if let Some(reply) = answer::answer(&plane.view(), &buffer[..length], answer::Transport::Udp)
                {
                    // A reply that cannot be sent now is as good as one that was lost.
                    let _ = socket.try_send_to(&reply, peer);
                }
            }
            // Tells that a client has gone before its answer.
            Err(error) => tracing::debug!(%error, "dns receive failed"),
        }
    }
}

async fn connections(listener: &TcpListener, plane: &Arc<Plane>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let plane = Arc::clone(plane);
                tokio::spawn(async move {
                    if let Ok(Err(error)) = timeout(SILENCE, connection(stream, &plane)).await {
                        tracing::debug!(%error, "dns connection failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "dns accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Queries one after the other, each after its length (RFC 1035 §4.2.2).
async fn connection(mut stream: TcpStream, plane: &Plane) -> io::Result<()> {
    loop {
        let length = match stream.read_u16().await {
            Ok(length) => usize::from(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        if length > LARGEST_QUERY {
            return Ok(());
        }
        let mut query = vec![0; length];
        stream.read_exact(&mut query).await?;
        let Some(reply) = answer::answer(&plane.view(), &query, answer::Transport::Tcp) else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&reply).await?;
    }
}
