//! Terminates TLS, and learns who is there from the handshake that has just been made.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{Refused, Worker};
use crate::decide::TlsFacts;
use crate::engine::stream::{Ahead, Stream, Transport};
use crate::identity::SpiffeId;
use crate::model::{Secret, ServerTls, TlsMode, Workload};
use crate::name::Host;
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
}

/// Terminates mesh TLS.
pub(super) async fn mesh(worker: &Worker, stream: Ahead<TcpStream>) -> Result<Terminated, Refused> {
    let config = worker.handles().tls.server_config().map_err(Refused::Configuration)?;
    let stream = handshake(worker, stream, config).await?;
    let session = stream.get_ref().1;
    let facts =
        tls::peer_facts(session.peer_certificates().unwrap_or_default()).map_err(Refused::Configuration)?;
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
        stream: Ahead::new(Transport::Tls(Box::new(stream))),
    })
}

/// Terminates TLS with a certificate of the gateway's.
pub(super) async fn gateway(
    worker: &Worker,
    stream: Ahead<TcpStream>,
    server: &ServerTls,
) -> Result<Terminated, Refused> {
    let name = server.secret.as_deref().ok_or(Refused::NoSecret(None))?;
    let secret = worker.snapshot().secret(name).cloned();
    let secret = secret.ok_or_else(|| Refused::NoSecret(Some(name.to_owned())))?;
    let config =
        worker.gateway_certificates().config(server.mode, &secret).map_err(Refused::Configuration)?;
    let stream = handshake(worker, stream, config).await?;
    let tls = tls_facts(&stream);
    let stream = Ahead::new(Transport::Tls(Box::new(stream)));
    Ok(Terminated { stream, identity: None, workload: None, tls, alpn: None })
}

async fn handshake(
    worker: &Worker,
    stream: Ahead<TcpStream>,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<Ahead<TcpStream>>, Refused> {
    let accepting = Box::pin(TlsAcceptor::from(config).accept(stream));
    let accepted = timeout(worker.limits().handshake, accepting).await;
    let stream = accepted.map_err(|_| Refused::HandshakeTimeout)?.map_err(Refused::Handshake)?;
    Ok(TlsStream::Server(stream))
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
        client_certificate_hash: session.peer_certificates().and_then(|chain| chain.first()).map(fingerprint),
        version: session.protocol_version().and_then(version_name),
    }
}

/// SHA-256 of a certificate in hexadecimal, as `x-forwarded-client-cert` carries it.
fn fingerprint(certificate: &CertificateDer<'_>) -> Arc<str> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

const fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// TLS configurations made of a gateway's secrets, kept until the secret changes.
#[derive(Default)]
pub(crate) struct GatewayCertificates(RefCell<Vec<Made>>);

/// Of what a configuration was made, and the configuration.
type Made = (TlsMode, Arc<Secret>, Arc<ServerConfig>);

impl GatewayCertificates {
    /// The configuration for a secret, made on first use.
    fn config(&self, mode: TlsMode, secret: &Arc<Secret>) -> Result<Arc<ServerConfig>, tls::TlsError> {
        let mut made = self.0.borrow_mut();
        let same = |(of, from, _): &&Made| *of == mode && Arc::ptr_eq(from, secret);
        if let Some((_, _, config)) = made.iter().find(same) {
            return Ok(Arc::clone(config));
        }
        let config = tls::gateway::server_config(mode, secret)?;
        made.retain(|(of, from, _)| *of != mode || from.name != secret.name);
        made.push((mode, Arc::clone(secret), Arc::clone(&config)));
        Ok(config)
    }
}
