//! Terminates TLS, and learns who is there from the handshake that has just been made.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{Refused, Worker};
use crate::decide::TlsFacts;
use crate::engine::stream::{Ahead, Stream, Transport};
use crate::identity::SpiffeId;
use crate::model::{Secret, ServerTls, Workload};
use crate::name::Host;
use crate::snapshot::Snapshot;
use crate::tls::{self, MeshAlpn, alpn};

/// A connection whose TLS ends here.
pub(crate) struct Terminated {
    pub(crate) stream: Stream,
    /// The peer's mesh identity.
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) tls: TlsFacts,
    /// The mesh protocol agreed on; `None` for clients from outside.
    pub(crate) alpn: Option<MeshAlpn>,
    /// What a peer of the mesh has shown, leaf first; empty for clients from outside.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// Terminates mesh TLS of a gateway's server, which may ask for certain peers.
///
/// # Errors
/// When the handshake fails, or the peer is none of those.
pub(super) async fn mesh_server(
    worker: &Worker,
    stream: Ahead<TcpStream>,
    server: &ServerTls,
) -> Result<Terminated, Refused> {
    let terminated = mesh(worker, stream).await?;
    let names = &server.subject_alt_names;
    let expected = |identity: &SpiffeId| names.iter().any(|name| *name == identity.to_string());
    if names.is_empty() || terminated.identity.as_ref().is_some_and(expected) {
        return Ok(terminated);
    }
    Err(Refused::WrongPeer)
}

/// Terminates mesh TLS.
pub(super) async fn mesh(worker: &Worker, stream: Ahead<TcpStream>) -> Result<Terminated, Refused> {
    let config = worker.handles().tls.server_config().map_err(Refused::Configuration)?;
    let stream = handshake(worker, stream, config).await?;
    let session = stream.get_ref().1;
    let certificates = session.peer_certificates().unwrap_or_default().to_vec();
    let facts = tls::peer_facts(&certificates).map_err(Refused::Configuration)?;
    let protocol = match session.alpn_protocol() {
        Some(alpn::HTTP2) => MeshAlpn::Http2,
        Some(alpn::HTTP1) => MeshAlpn::Http1,
        _ => MeshAlpn::Tcp,
    };
    Ok(Terminated {
        identity: Some(facts.identity),
        workload: facts.workload.map(Arc::new),
        tls: tls_facts(&stream),
        alpn: Some(protocol),
        certificates,
        stream: Ahead::new(Transport::Tls(Box::new(stream))),
    })
}

/// Terminates TLS with a certificate of the gateway's.
pub(super) async fn gateway(
    worker: &Worker,
    stream: Ahead<TcpStream>,
    server: &ServerTls,
) -> Result<Terminated, Refused> {
    let config = match worker.gateway_certificates().config(&worker.snapshot(), server) {
        Ok(config) => config,
        Err(refused) => {
            Box::pin(alert(stream, INTERNAL_ERROR, worker.limits().handshake)).await;
            return Err(refused);
        }
    };
    let stream = handshake(worker, stream, config).await?;
    let mut tls = tls_facts(&stream);
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    tls.client_certificate = leaf.map(|leaf| tls::forwarded_element(leaf).into());
    let stream = Ahead::new(Transport::Tls(Box::new(stream)));
    Ok(Terminated { stream, identity: None, workload: None, tls, alpn: None, certificates: Vec::new() })
}

async fn handshake(
    worker: &Worker,
    stream: Ahead<TcpStream>,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<Ahead<TcpStream>>, Refused> {
    let accepting = Box::pin(TlsAcceptor::from(config).accept(stream).into_fallible());
    let accepted = timeout(worker.limits().handshake, accepting).await;
    let (error, stream) = match accepted.map_err(|_| Refused::HandshakeTimeout)? {
        Ok(stream) => return Ok(TlsStream::Server(stream)),
        Err(failed) => failed,
    };
    Box::pin(part(stream)).await;
    Err(Refused::Handshake(error))
}

/// A server that has nothing to show, for a reason of its own (RFC 8446 §6.2).
const INTERNAL_ERROR: u8 = 80;

/// Ends a handshake that has not begun with a fatal alert.
pub(super) async fn alert(mut stream: Ahead<TcpStream>, why: u8, wait: Duration) {
    // A record of type alert, with the version that all records before a handshake carry; level fatal.
    let record = [21, 3, 3, 0, 2, 2, why];
    if let Ok(Ok(())) = timeout(wait, stream.write_all(&record)).await {
        part(stream).await;
    }
}

/// Ends a connection on which an alert has been sent, so that it arrives: were bytes of the client's unread, closing would
/// reset the connection, and in TLS 1.3 the client has sent its request by the time that its certificate is refused.
pub(super) async fn part(mut stream: Ahead<TcpStream>) {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: u64 = 64 * 1024;
    let parting = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST), &mut tokio::io::sink()).await
    };
    // Who does not read it loses nothing else.
    let _ = timeout(LONGEST, parting).await;
}

fn tls_facts(stream: &TlsStream<Ahead<TcpStream>>) -> TlsFacts {
    let session = stream.get_ref().1;
    let server_name = match stream {
        TlsStream::Server(server) => server.get_ref().1.server_name(),
        TlsStream::Client(_) => None,
    };
    TlsFacts {
        sni: server_name.and_then(|name| Host::parse(name).ok()),
        alpn: session.alpn_protocol().map(Bytes::copy_from_slice),
        client_certificate_hash: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| tls::fingerprint(leaf).into()),
        client_certificate: None,
        version: session.protocol_version().and_then(version_name),
    }
}

const fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// TLS configurations made of a gateway's secrets, kept until one of the secrets changes.
#[derive(Default)]
pub(crate) struct GatewayCertificates(RefCell<Vec<Made>>);

/// Of what a configuration was made, and the configuration.
struct Made {
    tls: ServerTls,
    secrets: Vec<Arc<Secret>>,
    config: Arc<ServerConfig>,
}

impl GatewayCertificates {
    /// The configuration of a server, made on first use. Of several certificates those count that are there.
    fn config(&self, snapshot: &Snapshot, tls: &ServerTls) -> Result<Arc<ServerConfig>, Refused> {
        let mut secrets: Vec<_> =
            tls.certificates().filter_map(|name| snapshot.secret(name).cloned()).collect();
        let trusted = tls.trust.as_ref().or(tls.secret.as_ref());
        let trusted = trusted.and_then(|name| snapshot.secret(name));
        if secrets.is_empty() || (tls.asks_for_certificate() && trusted.is_none()) {
            return Err(Refused::NoSecret(tls.secret.clone()));
        }
        let trusted = trusted.unwrap_or(&secrets[0]).clone();
        secrets.push(trusted);
        let mut made = self.0.borrow_mut();
        let of_these = |held: &&Made| held.tls == *tls && same(&held.secrets, &secrets);
        if let Some(held) = made.iter().find(of_these) {
            return Ok(Arc::clone(&held.config));
        }
        let config = make(tls, &secrets)?;
        let current = |of: &Arc<Secret>| snapshot.secret(&of.name).is_some_and(|now| Arc::ptr_eq(now, of));
        made.retain(|held| held.secrets.iter().all(current));
        made.push(Made { tls: tls.clone(), secrets, config: Arc::clone(&config) });
        Ok(config)
    }
}

fn same(left: &[Arc<Secret>], right: &[Arc<Secret>]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
}

/// `secrets` are the certificates and then whose authorities are trusted.
fn make(tls: &ServerTls, secrets: &[Arc<Secret>]) -> Result<Arc<ServerConfig>, Refused> {
    let (trust, certificates) = secrets.split_last().ok_or(Refused::NoSecret(None))?;
    tls::gateway::server_config(tls::gateway::Parts { tls, certificates, trust })
        .map_err(Refused::Configuration)
}
