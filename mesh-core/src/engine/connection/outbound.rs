//! Connections of the workload: looked up by the address it dialled.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::{Capture, Refused, Through, Worker, destination, downstream};
use crate::decide::Peer;
use crate::engine::detect::{First, first_bytes};
use crate::engine::stream::{Ahead, Stream, Transport};
use crate::engine::{http, resolve, tcp};
use crate::message::{Scheme, Version};
use crate::model::Protocol;
use crate::name::Host;

pub(super) async fn serve(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    capture: Capture,
) -> Result<(), Refused> {
    let destination = destination(&stream, capture)?;
    let protocol = resolve::protocol_of(worker, destination).await.map_err(Refused::Failed)?;
    let mut stream = Ahead::new(Transport::Plain(stream));
    let inside = tell(worker, &mut stream, protocol).await?;
    let peer = Peer { address: peer, local: destination, identity: None, workload: None, tls: None };
    let downstream = downstream(peer, Through::Outbound(destination), Scheme::Http);
    match inside {
        Inside::Http(version) => http::serve_connection(worker, downstream, stream, version).await,
        Inside::Bytes(sni) => tcp::serve(worker, downstream, stream, sni).await,
        Inside::Nothing => {}
    }
    Ok(())
}

/// What a connection carries.
pub(super) enum Inside {
    Http(Version),
    /// Opaque bytes, with the server name of the application's own TLS.
    Bytes(Option<Host>),
    /// The peer went away.
    Nothing,
}

/// Tells what is inside by what was declared, and by the first bytes where that is not enough.
pub(super) async fn tell(
    worker: &Worker,
    stream: &mut Stream,
    protocol: Protocol,
) -> Result<Inside, Refused> {
    let limits = worker.limits();
    let wait = match protocol {
        Protocol::Tcp => return Ok(Inside::Bytes(None)),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => limits.keep_alive,
        Protocol::Tls => limits.handshake,
        Protocol::Detect => limits.detect,
    };
    let first = tokio::select! {
        first = first_bytes(stream, wait) => first.map_err(Refused::Read)?,
        () = worker.drain().begun(), if protocol.is_http() => First::Closed,
    };
    Ok(match first {
        First::Closed => Inside::Nothing,
        First::Silent if protocol.is_http() => Inside::Nothing,
        First::Http2 if protocol != Protocol::Tls => Inside::Http(Version::Http2),
        First::Http1 if protocol != Protocol::Tls => Inside::Http(Version::Http11),
        First::Tls(hello) if !protocol.is_http() => Inside::Bytes(hello.sni),
        // The codec refuses what is not HTTP, with an answer that says so.
        _ if protocol.is_http() => Inside::Http(Version::Http11),
        _ => Inside::Bytes(None),
    })
}
