//! Opens connections to upstreams: TCP, and mesh TLS where the endpoint has it.
//!
//! One deadline covers both. A handshake that fails is a failure: it is never tried again in the clear.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::stream::{Ahead, Transport};
use super::way_out;
use super::worker::Worker;
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::model::{self, Cluster, ClusterTls, Endpoint, EndpointAddress};
use crate::tls::{MeshAlpn, TlsError, expect_identity};

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Security {
    /// As they are.
    Plain,
    /// Under mesh TLS, with the one identity that may answer; any of the mesh when the endpoint's is not known.
    Mesh { identity: Option<SpiffeId>, server_name: String },
}

impl Security {
    /// How the endpoint of a cluster is reached: the cluster's policy wins over what the endpoint can do.
    pub(crate) fn of(cluster: &Cluster, endpoint: &Endpoint) -> Result<Self, DialError> {
        let mesh = || Self::Mesh { identity: endpoint.identity.clone(), server_name: server_name(cluster) };
        match (&cluster.tls, endpoint.transport) {
            (ClusterTls::Originate { .. }, _) => Err(DialError::Unsupported),
            (ClusterTls::Disabled, _) | (ClusterTls::Auto, model::Transport::Plain) => Ok(Self::Plain),
            (ClusterTls::Mesh, _) | (ClusterTls::Auto, model::Transport::MeshTls) => Ok(mesh()),
        }
    }
}

/// As Istio names a cluster in SNI.
fn server_name(cluster: &Cluster) -> String {
    let subset = cluster.subset.as_deref().unwrap_or_default();
    format!("outbound_.{}_.{subset}_.{}", cluster.port, cluster.service)
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
    #[error("TLS of the destination's own is not supported yet")]
    Unsupported,
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
            Self::Handshake(..) | Self::Unsupported | Self::Identity(_) | Self::ServerName(_) => {
                Failure::UpstreamHandshakeFailed
            }
        }
    }
}

/// A connection that has just been made.
pub(crate) struct Dialled {
    pub(crate) stream: Transport,
    /// The configuration its TLS was made with; `None` in the clear.
    pub(crate) made_with: Option<Arc<ClientConfig>>,
}

/// Connects within `limit`, handshake included.
pub(crate) async fn dial(
    worker: &Worker,
    address: SocketAddr,
    security: &Security,
    protocol: MeshAlpn,
    limit: Duration,
) -> Result<Dialled, DialError> {
    let connecting = async {
        let socket =
            way_out::connect(worker.settings(), address).await.map_err(|e| DialError::Connect(address, e))?;
        match security {
            Security::Plain => Ok(Dialled { stream: Transport::Plain(socket), made_with: None }),
            Security::Mesh { identity, server_name } => {
                let config = worker.handles().tls.client_config(protocol).map_err(DialError::Identity)?;
                let made_with = Some(Arc::clone(&config));
                let tls = handshake(config, socket, address, identity.as_ref(), server_name).await?;
                Ok(Dialled { stream: Transport::Tls(Box::new(tls)), made_with })
            }
        }
    };
    timeout(limit, connecting).await.unwrap_or(Err(DialError::Timeout(limit)))
}

async fn handshake(
    config: Arc<ClientConfig>,
    socket: TcpStream,
    address: SocketAddr,
    identity: Option<&SpiffeId>,
    server_name: &str,
) -> Result<TlsStream<Ahead<TcpStream>>, DialError> {
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
pub(crate) async fn resolve(
    worker: &Worker,
    address: &EndpointAddress,
    limit: Duration,
) -> Result<SocketAddr, DialError> {
    let (name, port) = match address {
        EndpointAddress::Socket(address) => return Ok(*address),
        EndpointAddress::Name(name, port) => (name.as_str(), *port),
    };
    let found = timeout(limit, way_out::resolve(worker.settings(), name)).await;
    let found = found.map_err(|_| DialError::Timeout(limit))?;
    found.map(|ip| SocketAddr::new(ip, port)).map_err(|error| DialError::Unresolved(name.to_owned(), error))
}
