//! Connections to the workload: mesh TLS is terminated here, and the port's mode says whether anything else may pass.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::outbound::tell;
use super::terminate::{self, Terminated};
use super::{Capture, Inside, Opened, Refused, Through, Worker, destination, downstream, downstream_with};
use crate::decide::Peer;
use crate::engine::detect::{First, first_bytes};
use crate::engine::stream::{Ahead, Transport};
use crate::message::{Scheme, Version};
use crate::model::{MtlsMode, Protocol};
use crate::tls::MeshAlpn;

/// What the proxy's own configuration says of a port.
struct Port {
    number: u16,
    protocol: Protocol,
    mode: MtlsMode,
}

pub(super) async fn open(
    worker: &Rc<Worker>,
    stream: TcpStream,
    address: SocketAddr,
    capture: Capture,
) -> Result<Option<Opened>, Refused> {
    let local = destination(&stream, capture)?;
    let port = port(worker, local.port())?;
    let mut stream = Ahead::new(stream);
    if port.mode != MtlsMode::Disable {
        let first = first_bytes(&mut stream, patience(worker, &port)).await.map_err(Refused::Read)?;
        match (first, port.mode) {
            (First::Closed, _) => return Ok(None),
            (First::Tls(hello), mode) if hello.mesh || mode == MtlsMode::Strict => {
                let terminated = terminate::mesh(worker, stream).await?;
                return of_mesh(worker, terminated, address, local, &port).await;
            }
            (first, MtlsMode::Strict) => return Err(Refused::MutualTlsRequired(first)),
            _ => {}
        }
    }
    let peer = Peer { address, local, identity: None, workload: None, tls: None };
    let mut stream = stream.map(Transport::Plain);
    let Some(inside) = tell(worker, &mut stream, port.protocol).await? else { return Ok(None) };
    let downstream = downstream(peer, Through::Inbound(port.number), Scheme::Http);
    Ok(Some(Opened { downstream, stream, inside }))
}

/// A server that speaks first must not be kept waiting, so only where the client is known to speak first is there time.
fn patience(worker: &Worker, port: &Port) -> Duration {
    let limits = worker.limits();
    match port.mode {
        _ if port.protocol.is_http() => limits.keep_alive,
        MtlsMode::Strict => limits.handshake,
        _ => limits.detect,
    }
}

fn port(worker: &Worker, number: u16) -> Result<Port, Refused> {
    let snapshot = worker.snapshot();
    let own = snapshot.own().ok_or(Refused::NotReady)?;
    let protocol = own.inbound(number).map_or(Protocol::Detect, |port| port.protocol);
    Ok(Port { number, protocol, mode: own.mtls_mode(number) })
}

async fn of_mesh(
    worker: &Rc<Worker>,
    terminated: Terminated,
    address: SocketAddr,
    local: SocketAddr,
    port: &Port,
) -> Result<Option<Opened>, Refused> {
    let Terminated { stream, identity, workload, tls, alpn, certificates } = terminated;
    let mut stream = stream;
    let peer = Peer { address, local, identity, workload, tls: Some(tls) };
    // The caller's word counts only where we have not been told ourselves.
    let inside = match (alpn, port.protocol) {
        (Some(MeshAlpn::Http1), Protocol::Detect) => Some(Inside::Http(Version::Http11)),
        (Some(MeshAlpn::Http2), Protocol::Detect) => Some(Inside::Http(Version::Http2)),
        (_, declared) => tell(worker, &mut stream, declared).await?,
    };
    let downstream = downstream_with(peer, Through::Inbound(port.number), Scheme::Http, certificates);
    Ok(inside.map(|inside| Opened { downstream, stream, inside }))
}
