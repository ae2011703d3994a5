//! DNS for pods without a proxy: names of services, answered with the addresses of their ready pods.
//!
//! There is no service proxy in front of such pods that would take a virtual address, so they are given the pods
//! themselves. Names below the cluster's domain are ours alone, and those that Services publish by ExternalDNS's annotation
//! (`external-dns.alpha.kubernetes.io/hostname`) lead to their pods. All others are asked of a broker where there is one, and
//! refused otherwise, which makes a resolver go on to its next server. Queries that are not well formed get an error or,
//! if they are not even queries, nothing.

mod answer;
mod outside;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::broker::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::serve::Plane;
use answer::{Answer, Transport};
use outside::Outside;

/// TCP connections at once, and how long one may be silent.
const CONNECTIONS: usize = 64;
const SILENCE: Duration = Duration::from_secs(5);
/// Names outside of the mesh that are being looked up for datagrams; more are not answered.
const LOOKUPS: usize = 64;
/// Largest query, in bytes.
const LARGEST_QUERY: usize = 4096;

/// The sockets of a server.
pub struct Server {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    outside: Arc<Outside>,
}

/// What both kinds of socket answer from.
#[derive(Clone)]
struct Names {
    plane: Arc<Plane>,
    outside: Arc<Outside>,
}

impl Server {
    /// Takes UDP and TCP at an address. Names outside of the mesh are asked of `broker`.
    ///
    /// # Errors
    /// When it is taken, or not ours to take.
    pub async fn bind(address: SocketAddr, broker: Option<Broker>) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        // With port 0, both get the same one.
        let udp = Arc::new(UdpSocket::bind(tcp.local_addr()?).await?);
        Ok(Self { udp, tcp, outside: Arc::new(Outside::new(broker)) })
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
        let names = Names { plane, outside: self.outside };
        tokio::select! {
            () = datagrams(&self.udp, &names) => {}
            () = connections(&self.tcp, &names) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn datagrams(socket: &Arc<UdpSocket>, names: &Names) {
    let places = Arc::new(Semaphore::new(LOOKUPS));
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                match answer::answer(&names.plane.view(), &buffer[..length], Transport::Udp) {
                    Answer::Nothing => {}
                    Answer::Ready(reply) => send(socket, &reply, peer),
                    Answer::Elsewhere(query) => {
                        // Whoever gets no answer asks again.
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                        let reply =
                            outside_reply(Arc::clone(socket), Arc::clone(&names.outside), query, peer, place);
                        tokio::spawn(reply);
                    }
                }
            }
            // Tells that a client has gone before its answer.
            Err(error) => tracing::debug!(%error, "dns receive failed"),
        }
    }
}

async fn outside_reply(
    socket: Arc<UdpSocket>,
    outside: Arc<Outside>,
    query: answer::Query,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    if let Some(reply) = outside.answer(query).await {
        send(&socket, &reply, peer);
    }
}

fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    // A reply that cannot be sent now is as good as one that was lost.
    let _ = socket.try_send_to(reply, peer);
}

async fn connections(listener: &TcpListener, names: &Names) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let names = names.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = timeout(SILENCE, connection(stream, &names)).await {
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
async fn connection(mut stream: TcpStream, names: &Names) -> io::Result<()> {
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
        let answer = answer::answer(&names.plane.view(), &query, Transport::Tcp);
        let reply = match answer {
            Answer::Nothing => None,
            Answer::Ready(reply) => Some(reply),
            Answer::Elsewhere(query) => names.outside.answer(query).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&reply).await?;
    }
}
