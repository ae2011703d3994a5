//! Connections of the workload: looked up by the address it dialled.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::{Capture, Inside, Opened, Refused, Through, Worker, destination, downstream};
use crate::decide::Peer;
use crate::engine::detect::{First, first_bytes};
use crate::engine::resolve;
use crate::engine::stream::{Ahead, Stream, Transport};
use crate::message::{Scheme, Version};
use crate::model::Protocol;

pub(super) async fn open(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    capture: Capture,
) -> Result<Option<Opened>, Refused> {
    let destination = destination(&stream, capture)?;
    let protocol = resolve::protocol_of(worker, destination).await.map_err(Refused::Failed)?;
    let mut stream = Ahead::new(Transport::Plain(stream));
    let Some(inside) = tell(worker, &mut stream, protocol).await? else { return Ok(None) };
    let peer = Peer { address: peer, local: destination, identity: None, workload: None, tls: None };
    let downstream = downstream(peer, Through::Outbound(destination), Scheme::Http);
    Ok(Some(Opened { downstream, stream, inside }))
}

/// Tells what is inside by what was declared, and by the first bytes where that is not enough; `None` when the peer went
/// away.
pub(super) async fn tell(
    worker: &Worker,
    stream: &mut Stream,
    protocol: Protocol,
) -> Result<Option<Inside>, Refused> {
    let limits = worker.limits();
    let wait = match protocol {
        Protocol::Tcp => return Ok(Some(Inside::Bytes(None))),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => limits.keep_alive,
        Protocol::Tls => limits.handshake,
        Protocol::Detect => limits.detect,
    };
    let first = tokio::select! {
        first = first_bytes(stream, wait) => first.map_err(Refused::Read)?,
        () = worker.drain().begun(), if protocol.is_http() => First::Closed,
    };
    Ok(Some(match first {
        First::Closed => return Ok(None),
        First::Silent if protocol.is_http() => return Ok(None),
        First::Http2 if protocol != Protocol::Tls => Inside::Http(Version::Http2),
        First::Http1 if protocol != Protocol::Tls => Inside::Http(Version::Http11),
        First::Tls(hello) if !protocol.is_http() => Inside::Bytes(hello.sni),
        // The codec refuses what is not HTTP, with an answer that says so.
        _ if protocol.is_http() => Inside::Http(Version::Http11),
        _ => Inside::Bytes(None),
    }))
}
