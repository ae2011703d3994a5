//! Opens connections to upstreams: TCP, and mesh TLS where the endpoint has it.
//!
//! One deadline covers both. A handshake that fails is a failure: it is never tried again in the clear.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::socket;
use super::stream::{Ahead, Stream, Transport};
use super::worker::Worker;
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::model::EndpointAddress;
use crate::tls::{MeshAlpn, TlsError, expect_identity};

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Security {
    /// As they are.
    Plain,
    /// Under mesh TLS, with the one identity that may answer; any of the mesh when the endpoint's is not known.
    Mesh { identity: Option<SpiffeId>, server_name: String },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no address for {0}")]
    Unresolved(String, #[source] io::Error),
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("TLS handshake with {0} failed")]
    Handshake(SocketAddr, #[source] io::Error),
    #[error("cannot use mesh TLS")]
    Identity(#[source] TlsError),
    #[error("{0:?} is not a server name")]
    ServerName(String),
    #[error("not connected within {0:?}")]
    Timeout(Duration),
}

impl DialError {
    /// The failure this is to the downstream.
    pub(crate) const fn failure(&self) -> Failure {
        match self {
            Self::Unresolved(..) | Self::Connect(..) | Self::Timeout(_) => Failure::ConnectFailed,
            Self::Handshake(..) | Self::Identity(_) | Self::ServerName(_) => Failure::UpstreamHandshakeFailed,
        }
    }
}

/// Connects within `limit`, handshake included.
pub(crate) async fn dial(
    worker: &Worker,
    address: SocketAddr,
    security: &Security,
    protocol: MeshAlpn,
    limit: Duration,
) -> Result<Stream, DialError> {
    let connecting = async {
        let socket = connect(address, worker.settings().mark).await.map_err(|e| DialError::Connect(address, e))?;
        let transport = match security {
            Security::Plain => Transport::Plain(socket),
            Security::Mesh { identity, server_name } => {
                let tls = handshake(worker, socket, address, identity.as_ref(), server_name, protocol).await?;
                Transport::Tls(Box::new(tls))
            }
        };
        Ok(Ahead::new(transport))
    };
    timeout(limit, connecting).await.unwrap_or(Err(DialError::Timeout(limit)))
}

async fn connect(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    socket::upstream(address, mark)?.connect(address).await
}

async fn handshake(
    worker: &Worker,
    socket: TcpStream,
    address: SocketAddr,
    identity: Option<&SpiffeId>,
    server_name: &str,
    protocol: MeshAlpn,
) -> Result<TlsStream<Ahead<TcpStream>>, DialError> {
    let config = worker.handles().tls.client_config(protocol).map_err(DialError::Identity)?;
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| DialError::ServerName(server_name.to_owned()))?;
    let connector = TlsConnector::from(config);
    let stream = connector.connect(name, Ahead::new(socket)).await;
    let stream = stream.map_err(|e| DialError::Handshake(address, e))?;
    expect_identity(stream.get_ref().1.peer_certificates().unwrap_or_default(), identity)
        .map_err(DialError::Identity)?;
    Ok(TlsStream::Client(stream))
}

/// The socket address of an endpoint that may be known by name only.
pub(crate) async fn resolve(address: &EndpointAddress, limit: Duration) -> Result<SocketAddr, DialError> {
    let (name, port) = match address {
        EndpointAddress::Socket(address) => return Ok(*address),
        EndpointAddress::Name(name, port) => (name.as_str(), *port),
    };
    let found = timeout(limit, lookup_host((name, port))).await.map_err(|_| DialError::Timeout(limit))?;
    let unresolved = |error| DialError::Unresolved(name.to_owned(), error);
    found.map_err(unresolved)?.next().ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))
}
