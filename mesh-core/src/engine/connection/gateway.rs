//! Connections to a gateway's port: cleartext, TLS by server name, or the mesh's own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::outbound::tell;
use super::terminate::{self, Terminated};
use super::{Opened, Refused, Through, Worker, downstream, downstream_with, proxy_protocol};
use crate::decide::Peer;
use crate::engine::detect::{First, Hello, first_bytes};
use crate::engine::socket;
use crate::engine::stream::{Ahead, Stream, Transport};
use crate::message::Scheme;
use crate::model::{ListenerProtocol, Protocol, Server, TlsMode};
use crate::name::Host;

/// A connection whose protocol is still to be told.
struct Arrived {
    stream: Ahead<TcpStream>,
    address: SocketAddr,
    local: SocketAddr,
    port: u16,
}

impl Arrived {
    /// As the balancer before us says that its client connected.
    async fn announced(mut self, wait: Duration) -> Result<Self, Refused> {
        let client = proxy_protocol::client(&mut self.stream, wait).await.map_err(Refused::NoProxyHeader)?;
        self.address = client.unwrap_or(self.address);
        Ok(self)
    }
}

pub(super) async fn open(
    worker: &Rc<Worker>,
    stream: TcpStream,
    address: SocketAddr,
    port: u16,
) -> Result<Option<Opened>, Refused> {
    let local = socket::canonical(stream.local_addr().map_err(Refused::Read)?);
    let arrived = Arrived { stream: Ahead::new(stream), address, local, port };
    let arrived = if announces_clients(worker)? {
        arrived.announced(worker.limits().handshake).await?
    } else {
        arrived
    };
    let snapshot = worker.snapshot();
    let own = snapshot.own().ok_or(Refused::NotReady)?;
    let (listener, _) = own.listener(port).ok_or(Refused::NotReady)?;
    match listener.protocol {
        ListenerProtocol::Http => {
            let routes = routes(listener.routes.as_deref());
            // A client may take its time to say something, and must not hold the snapshot meanwhile.
            drop(snapshot);
            http_or_mesh(worker, arrived, routes).await
        }
        ListenerProtocol::Tls => {
            drop(snapshot);
            tls(worker, arrived).await
        }
        ListenerProtocol::Tcp => {
            drop(snapshot);
            bytes_or_mesh(worker, arrived).await.map(Some)
        }
    }
}

/// Whether a balancer stands before us that says who its clients are.
fn announces_clients(worker: &Worker) -> Result<bool, Refused> {
    Ok(worker.snapshot().own().ok_or(Refused::NotReady)?.model().mesh.proxy_protocol)
}

/// As [`http_or_mesh`], for bytes. Whoever says nothing at first waits for the server to speak, and is not of the mesh.
async fn bytes_or_mesh(worker: &Rc<Worker>, arrived: Arrived) -> Result<Opened, Refused> {
    let Arrived { mut stream, address, local, port } = arrived;
    let first = first_bytes(&mut stream, worker.limits().detect).await.map_err(Refused::Read)?;
    let through = |tls| Through::Gateway { port, routes: routes(None), tls };
    if !matches!(first, First::Tls(Hello { mesh: true, .. })) {
        take_plaintext(worker, first)?;
        let downstream = downstream(plain_peer(address, local), through(false), Scheme::Http);
        return Ok(Opened::bytes(downstream, stream.map(Transport::Plain), None));
    }
    let terminated = terminate::mesh(worker, stream).await?;
    let downstream = downstream(mesh_peer(&terminated, address, local), through(true), Scheme::Https);
    Ok(Opened::bytes(downstream, terminated.stream, None))
}

/// The application's TLS inside a sidecar's: the caller is known, and what is inside is passed on as it is. The inner
/// server name decides: the outer one is only what the sidecar said of it.
async fn passed_through_mesh(worker: &Rc<Worker>, arrived: Arrived) -> Result<Opened, Refused> {
    let Arrived { stream, address, local, port } = arrived;
    let mut terminated = terminate::mesh(worker, stream).await?;
    let first =
        first_bytes(&mut terminated.stream, worker.limits().handshake).await.map_err(Refused::Read)?;
    let First::Tls(inner) = first else { return Err(Refused::NotTls(first)) };
    let server = server_for(worker, port, inner.sni.as_ref())?;
    if server.tls.mode != TlsMode::Passthrough {
        return Err(Refused::NoServer(inner.sni));
    }
    let through = Through::Gateway { port, routes: routes(None), tls: true };
    let downstream = downstream(mesh_peer(&terminated, address, local), through, Scheme::Https);
    Ok(Opened::bytes(downstream, terminated.stream, inner.sni))
}

/// D7: where only the mesh's own are served, who does not say who they are is not answered.
fn take_plaintext(worker: &Worker, first: First) -> Result<(), Refused> {
    if worker.settings().plaintext { Ok(()) } else { Err(Refused::MutualTlsRequired(first)) }
}

fn routes(name: Option<&str>) -> Arc<str> {
    Arc::from(name.unwrap_or_default())
}

const fn plain_peer(address: SocketAddr, local: SocketAddr) -> Peer {
    Peer { address, local, identity: None, workload: None, tls: None }
}

/// A cleartext port takes mesh TLS as well: that is how sidecars come to an egress gateway.
async fn http_or_mesh(
    worker: &Rc<Worker>,
    arrived: Arrived,
    routes: Arc<str>,
) -> Result<Option<Opened>, Refused> {
    let Arrived { mut stream, address, local, port } = arrived;
    let first = first_bytes(&mut stream, worker.limits().keep_alive).await.map_err(Refused::Read)?;
    let through = |tls| Through::Gateway { port, routes: Arc::clone(&routes), tls };
    match first {
        First::Closed | First::Silent => Ok(None),
        First::Tls(Hello { mesh: true, .. }) => {
            let terminated = terminate::mesh(worker, stream).await?;
            http(worker, terminated, address, local, through(true)).await
        }
        First::Tls(_) => Err(Refused::NotTls(first)),
        _ => {
            take_plaintext(worker, first)?;
            let mut stream = stream.map(Transport::Plain);
            let inside = tell(worker, &mut stream, Protocol::Http).await?;
            let downstream = downstream(plain_peer(address, local), through(false), Scheme::Http);
            Ok(inside.map(|inside| Opened { downstream, stream, inside }))
        }
    }
}

async fn tls(worker: &Rc<Worker>, arrived: Arrived) -> Result<Option<Opened>, Refused> {
    let Arrived { mut stream, address, local, port } = arrived;
    let first = first_bytes(&mut stream, worker.limits().handshake).await.map_err(Refused::Read)?;
    let First::Tls(hello) = first else { return Err(Refused::NotTls(first)) };
    let server = match server_for(worker, port, hello.sni.as_ref()) {
        Ok(server) => server,
        Err(refused) => {
            if let Refused::NoServer(name) = &refused {
                refuse_name(stream, name.as_ref(), worker.limits().handshake).await;
            }
            return Err(refused);
        }
    };
    let through = |tls| Through::Gateway { port, routes: routes(server.routes.as_deref()), tls };
    let terminated = match server.tls.mode {
        TlsMode::Passthrough if hello.mesh => {
            let arrived = Arrived { stream, address, local, port };
            return passed_through_mesh(worker, arrived).await.map(Some);
        }
        TlsMode::Passthrough => {
            let downstream = downstream(plain_peer(address, local), through(false), Scheme::Http);
            let stream: Stream = stream.map(Transport::Plain);
            return Ok(Some(Opened::bytes(downstream, stream, hello.sni)));
        }
        TlsMode::Mesh => terminate::mesh_server(worker, stream, &server.tls).await?,
        TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual => {
            terminate::gateway(worker, stream, &server.tls).await?
        }
    };
    if server.routes.is_some() {
        http(worker, terminated, address, local, through(true)).await
    } else {
        let peer = mesh_peer(&terminated, address, local);
        let downstream = downstream_with(peer, through(true), Scheme::Https, terminated.certificates);
        Ok(Some(Opened::bytes(downstream, terminated.stream, hello.sni)))
    }
}

fn mesh_peer(terminated: &Terminated, address: SocketAddr, local: SocketAddr) -> Peer {
    Peer {
        address,
        local,
        identity: terminated.identity.clone(),
        workload: terminated.workload.clone(),
        tls: Some(terminated.tls.clone()),
    }
}

async fn http(
    worker: &Rc<Worker>,
    terminated: Terminated,
    address: SocketAddr,
    local: SocketAddr,
    through: Through,
) -> Result<Option<Opened>, Refused> {
    // Between sidecar and gateway the scheme is the application's, which is cleartext HTTP.
    let scheme = if terminated.alpn.is_some() { Scheme::Http } else { Scheme::Https };
    let peer = mesh_peer(&terminated, address, local);
    let downstream = downstream_with(peer, through, scheme, terminated.certificates);
    let mut stream = terminated.stream;
    let inside = tell(worker, &mut stream, Protocol::Http).await?;
    Ok(inside.map(|inside| Opened { downstream, stream, inside }))
}

/// The server for a name, as it is configured now.
fn server_for(worker: &Worker, port: u16, sni: Option<&Host>) -> Result<Server, Refused> {
    let snapshot = worker.snapshot();
    let own = snapshot.own().ok_or(Refused::NotReady)?;
    own.server(port, sni).map(|(server, _)| server.clone()).ok_or_else(|| Refused::NoServer(sni.cloned()))
}

/// Ends a handshake for a name that nobody serves (RFC 6066 §3), or for none where one is needed (RFC 8446 §9.2). Nobody
/// else's certificate is shown.
async fn refuse_name(stream: Ahead<TcpStream>, sni: Option<&Host>, wait: Duration) {
    const UNRECOGNIZED_NAME: u8 = 112;
    const MISSING_EXTENSION: u8 = 109;
    terminate::alert(stream, if sni.is_some() { UNRECOGNIZED_NAME } else { MISSING_EXTENSION }, wait).await;
}
