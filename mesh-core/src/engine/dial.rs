//! Opens connections to upstreams: TCP, mesh TLS where the endpoint has it, or TLS of the destination's own.
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

use super::names::Unresolved;
use super::origination;
use super::stream::{Ahead, Transport};
use super::way_out;
use super::worker::Worker;
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::model::{self, Cluster, ClusterTls, EndpointAddress};
use crate::name::Host;
use crate::snapshot;
use crate::tls::{MeshAlpn, TlsError, expect_identity};

/// How bytes travel to an endpoint.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    /// As they are.
    Plain,
    /// Under mesh TLS, with the one identity that may answer; any of the mesh when the endpoint's is not known.
    Mesh { identity: Option<SpiffeId>, server_name: String },
    /// Under TLS that we originate for the application; the configuration says whom to believe.
    Origin { config: Arc<ClientConfig>, server_name: ServerName<'static> },
}

impl Security {
    /// How the endpoint of a cluster is reached: the cluster's policy wins over what the endpoint can do. `sni` is the
    /// server name of the application's own TLS: it is the outer one as well, so that a gateway can go by it (D7), unless
    /// a rule names another.
    pub(crate) fn of(
        worker: &Worker,
        cluster: &snapshot::Cluster,
        endpoint: &snapshot::Endpoint,
        protocol: MeshAlpn,
        sni: Option<&Host>,
    ) -> Result<Self, DialError> {
        let model = &*cluster.model;
        let mesh = || {
            let inner = || sni.map_or_else(|| server_name(model), Host::to_string);
            let server_name = model.tls.mesh_server_name().map_or_else(inner, str::to_owned);
            Self::Mesh { identity: endpoint.model.identity.clone(), server_name }
        };
        match (&model.tls, endpoint.model.transport) {
            (ClusterTls::Originate { .. }, _) => Ok(Self::Origin {
                config: origination::config(worker, cluster, protocol).map_err(DialError::Origination)?,
                server_name: origination::server_name(model, endpoint.host.as_ref())?,
            }),
            (ClusterTls::Disabled, _) | (ClusterTls::Auto, model::Transport::Plain) => Ok(Self::Plain),
            (ClusterTls::Mesh { .. }, _) | (ClusterTls::Auto, model::Transport::MeshTls) => Ok(mesh()),
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
    Unresolved(String, #[source] Unresolved),
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("TLS handshake with {0} failed")]
    Handshake(SocketAddr, #[source] io::Error),
    #[error("cannot originate TLS")]
    Origination(#[source] TlsError),
    #[error("cannot use mesh TLS")]
    Identity(#[source] TlsError),
    #[error("{0} is not one of the hosts of {1}")]
    NotCovered(String, String),
    #[error("{0:?} is not a server name")]
    ServerName(String),
    #[error("not connected within {0:?}")]
    Timeout(Duration),
}

impl DialError {
    /// The failure this is to the downstream.
    pub(crate) const fn failure(&self) -> Failure {
        match self {
            Self::Unresolved(..) | Self::NotCovered(..) | Self::Connect(..) | Self::Timeout(_) => {
                Failure::ConnectFailed
            }
            Self::Handshake(..) | Self::Origination(_) | Self::Identity(_) | Self::ServerName(_) => {
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
            Security::Origin { config, server_name } => {
                let made_with = Some(Arc::clone(config));
                let tls = shake(Arc::clone(config), socket, address, server_name.clone()).await?;
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
    let stream = shake(config, socket, address, name).await?;
    expect_identity(stream.get_ref().1.peer_certificates().unwrap_or_default(), identity)
        .map_err(DialError::Identity)?;
    Ok(stream)
}

async fn shake(
    config: Arc<ClientConfig>,
    socket: TcpStream,
    address: SocketAddr,
    name: ServerName<'static>,
) -> Result<TlsStream<Ahead<TcpStream>>, DialError> {
    let stream = TlsConnector::from(config).connect(name, Ahead::new(socket)).await;
    stream.map(TlsStream::Client).map_err(|error| DialError::Handshake(address, error))
}

/// The socket address of an endpoint that may be known by name only.
pub(crate) async fn resolve(
    worker: &Worker,
    cluster: &Cluster,
    address: &EndpointAddress,
) -> Result<SocketAddr, DialError> {
    let (name, port) = match address {
        EndpointAddress::Socket(address) => return Ok(*address),
        EndpointAddress::Name(name, port) => (name, *port),
    };
    by_name(worker, cluster, name, port).await
}

/// An address of a host: of several any one, since where balancing counts all are endpoints.
pub(crate) async fn by_name(
    worker: &Worker,
    cluster: &Cluster,
    host: &Host,
    port: u16,
) -> Result<SocketAddr, DialError> {
    let limit = cluster.pool.connect_timeout.duration();
    let found = worker.names().addresses(host, cluster.external, limit).await;
    let found = found.map_err(|error| DialError::Unresolved(host.to_string(), error))?;
    let at = worker.dice(|dice| dice.below(u32::try_from(found.len()).unwrap_or(1)));
    Ok(SocketAddr::new(found[at as usize], port))
}
