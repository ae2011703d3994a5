//! A connection for a request: an idle one, room on a shared one, or a new one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::{Facts, Key, KeyView, Lease, Origin};
use crate::engine::codec::{h1, h2};
use crate::engine::dial::{self, DialError, Dialled, Security};
use crate::engine::stream::Transport;
use crate::engine::worker::Worker;
use crate::engine::{origination, socket};
use crate::failure::Failure;
use crate::guard::{ConnectionPermit, PendingPermit};
use crate::identity::SpiffeId;
use crate::message::Version;
use crate::model::{self, ClusterTls, EndpointAddress, Millis};
use crate::name::Host;
use crate::snapshot::{Cluster, Endpoint};
use crate::telemetry::Counter;
use crate::telemetry::record::ServiceLabels;
use crate::tls::MeshAlpn;

/// Where a connection leads.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    /// To an endpoint of a cluster.
    Endpoint(&'a Arc<Cluster>, &'a Arc<Endpoint>),
    /// To an address as it was dialled: pass-through, and the application beside us.
    Original(SocketAddr),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// A limit of the cluster is reached.
    Refused(Failure),
    /// It could not be made.
    Failed(DialError),
}

impl NoConnection {
    pub(crate) const fn failure(&self) -> Failure {
        match self {
            Self::Refused(failure) => *failure,
            Self::Failed(error) => error.failure(),
        }
    }

    /// What the transport said.
    pub(crate) fn cause(&self) -> Option<Box<str>> {
        match self {
            Self::Refused(_) => None,
            Self::Failed(error) => {
                let source = std::error::Error::source(error).map(|source| format!("{error}: {source}"));
                Some(source.unwrap_or_else(|| error.to_string()).into())
            }
        }
    }
}

/// For connections that no cluster's policy covers (Istio's default connect timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(60);

/// A connection that speaks `version`, leased for one request.
///
/// `fresh` asks for a new one: another request has just found an old one closed, and its likes were closed with it.
pub(crate) async fn connection(
    worker: &Rc<Worker>,
    route: Route<'_>,
    version: Version,
    fresh: bool,
) -> Result<Lease, NoConnection> {
    if !fresh && let Some(address) = route.known_address() {
        let no_pod = Arc::default();
        if let Some(lease) = pooled(worker, route, route.key(address, &no_pod), version) {
            return Ok(lease);
        }
    }
    // Boxed: making a connection takes much room, and few requests have to.
    Box::pin(connect(worker, route, version, fresh)).await
}

async fn connect(
    worker: &Rc<Worker>,
    route: Route<'_>,
    version: Version,
    fresh: bool,
) -> Result<Lease, NoConnection> {
    let address = route.address(worker).await.map_err(NoConnection::Failed)?;
    let no_pod = Arc::default();
    let view = route.key(address, &no_pod);
    if !fresh && let Some(lease) = pooled(worker, route, view, version) {
        return Ok(lease);
    }
    let gate = (version == Version::Http2).then(|| worker.pool().gate(&view));
    let _turn = match &gate {
        Some(gate) => Some(turn(gate, route).await?),
        None => None,
    };
    if gate.is_some()
        && let Some(lease) = pooled(worker, route, view, version)
    {
        return Ok(lease);
    }
    let permit = match place(worker, route, view, version).await? {
        Place::Lease(lease) => return Ok(*lease),
        Place::Permit(permit) => permit,
    };
    let dialled = open(worker, route, address, alpn(version), None).await.map_err(NoConnection::Failed)?;
    let origin = route.origin(&dialled, address, permit);
    let key = view.to_key();
    if version == Version::Http2 {
        return multiplexed(worker, key, dialled.stream, origin).await.map_err(NoConnection::Failed);
    }
    let connection = h1::ClientConnection::new(dialled.stream, worker.http1());
    Ok(Lease::made(worker, key, connection, origin))
}

/// Many requests that find no HTTP/2 connection need one, not many.
async fn turn<'a>(gate: &'a Mutex<()>, route: Route<'_>) -> Result<MutexGuard<'a, ()>, NoConnection> {
    let limit = route.connect_timeout();
    timeout(limit, gate.lock()).await.map_err(|_| NoConnection::Failed(DialError::Timeout(limit)))
}

/// What a request gets that asks for a new connection.
enum Place {
    /// The right to make one.
    Permit(Option<ConnectionPermit>),
    /// One that became free while it waited.
    Lease(Box<Lease>),
}

/// Waits for a place under the cluster's limit of connections; how many may wait is a limit of its own. The request's
/// deadline bounds the time.
async fn place(
    worker: &Rc<Worker>,
    route: Route<'_>,
    view: KeyView<'_>,
    version: Version,
) -> Result<Place, NoConnection> {
    if let Ok(permit) = route.admit() {
        return Ok(Place::Permit(permit));
    }
    // Idle connections to other endpoints must not keep this one from being reached.
    if worker.pool().evict(view.cluster())
        && let Ok(permit) = route.admit()
    {
        return Ok(Place::Permit(permit));
    }
    let _pending = route.admit_pending().map_err(NoConnection::Refused)?;
    loop {
        worker.pool().place().await;
        if let Some(lease) = pooled(worker, route, view, version) {
            return Ok(Place::Lease(Box::new(lease)));
        }
        if let Ok(permit) = route.admit() {
            return Ok(Place::Permit(permit));
        }
    }
}

/// Opens a connection that is not pooled, within the cluster's connect timeout. `sni` is the server name of TLS inside.
pub(crate) async fn open(
    worker: &Worker,
    route: Route<'_>,
    address: SocketAddr,
    protocol: MeshAlpn,
    sni: Option<&Host>,
) -> Result<Dialled, DialError> {
    let security = match route {
        // A pod that calls its own service may be sent to itself. That does not leave the pod, so it is not captured on
        // the way in, and the application itself would get the handshake.
        Route::Endpoint(_, endpoint) if worker.is_own(&endpoint.model.workload) => Security::Plain,
        Route::Endpoint(cluster, endpoint) => Security::of(worker, cluster, endpoint, protocol, sni)?,
        Route::Original(_) => Security::Plain,
    };
    let dialled = dial::dial(worker, address, &security, protocol, route.connect_timeout()).await;
    match &dialled {
        Ok(made) => {
            if let Route::Endpoint(cluster, _) = route
                && let Some(probes) = &cluster.model.pool.keepalive
            {
                socket::keep_alive(made.stream.socket(), probes);
            }
            worker.count(Counter::UpstreamConnections);
        }
        Err(DialError::Handshake(..)) => worker.count(Counter::HandshakesFailed),
        Err(_) => {}
    }
    dialled
}

fn pooled(worker: &Rc<Worker>, route: Route<'_>, view: KeyView<'_>, version: Version) -> Option<Lease> {
    let current = match view.identity {
        Some(_) => worker.handles().tls.client_config(alpn(version)).ok(),
        None => route.origination(worker, alpn(version)),
    };
    if version == Version::Http2 {
        let shared = worker.pool().share(&view, current.as_ref())?;
        return Some(Lease::shared(worker, shared, true));
    }
    worker.pool().take(&view, current.as_ref()).map(|idle| Lease::one(worker, idle))
}

async fn multiplexed(
    worker: &Rc<Worker>,
    key: Key,
    stream: Transport,
    origin: Origin,
) -> Result<Lease, DialError> {
    let (limits, address) = (worker.limits(), origin.facts.address);
    let connecting = h2::connect(stream, limits.http2.clone());
    let connected = timeout(limits.handshake, connecting).await;
    let connection = connected
        .map_err(|_| DialError::Timeout(limits.handshake))?
        .map_err(|error| DialError::Connect(address, error))?;
    Ok(Lease::shared(worker, worker.pool().offer(key, connection, origin), false))
}

const fn alpn(version: Version) -> MeshAlpn {
    match version {
        Version::Http2 => MeshAlpn::Http2,
        Version::Http10 | Version::Http11 => MeshAlpn::Http1,
    }
}

impl<'a> Route<'a> {
    /// The address to dial.
    pub(crate) async fn address(self, worker: &Worker) -> Result<SocketAddr, DialError> {
        match self {
            Self::Endpoint(cluster, endpoint) => {
                dial::resolve(worker, &cluster.model, &endpoint.model.address).await
            }
            Self::Original(address) => Ok(address),
        }
    }

    /// The address to dial, where it is no name.
    fn known_address(self) -> Option<SocketAddr> {
        match self {
            Self::Endpoint(_, endpoint) => match endpoint.model.address {
                EndpointAddress::Socket(address) => Some(address),
                EndpointAddress::Name(..) => None,
            },
            Self::Original(address) => Some(address),
        }
    }

    /// The configuration of the TLS that is originated on this way, if it is.
    fn origination(self, worker: &Worker, protocol: MeshAlpn) -> Option<Arc<ClientConfig>> {
        match self {
            Self::Endpoint(cluster, _) if matches!(cluster.model.tls, ClusterTls::Originate { .. }) => {
                origination::config(worker, cluster, protocol).ok()
            }
            _ => None,
        }
    }

    /// Who is at the other end, where that can be said without a connection.
    pub(crate) fn known(self) -> Option<Facts> {
        self.known_address().map(|address| self.facts(address, None))
    }

    fn key(self, address: SocketAddr, no_pod: &'a Arc<str>) -> KeyView<'a> {
        match self {
            Self::Endpoint(cluster, endpoint) => KeyView {
                cluster: Some(&cluster.model),
                address,
                pod: &endpoint.key().pod,
                identity: mesh_identity(&cluster.model, &endpoint.model),
            },
            Self::Original(_) => KeyView { cluster: None, address, pod: no_pod, identity: None },
        }
    }

    /// Time for a new connection, TLS included.
    fn connect_timeout(self) -> Duration {
        match self {
            Self::Endpoint(cluster, _) => cluster.model.pool.connect_timeout.duration(),
            Self::Original(_) => CONNECT_TIMEOUT,
        }
    }

    fn admit_pending(self) -> Result<Option<PendingPermit>, Failure> {
        match self {
            Self::Endpoint(cluster, _) => cluster.admit_pending().map(Some),
            Self::Original(_) => Ok(None),
        }
    }

    /// Counts a new connection in its cluster.
    pub(crate) fn admit(self) -> Result<Option<ConnectionPermit>, Failure> {
        match self {
            Self::Endpoint(cluster, _) => cluster.admit_connection().map(Some),
            Self::Original(_) => Ok(None),
        }
    }

    fn origin(self, dialled: &Dialled, address: SocketAddr, permit: Option<ConnectionPermit>) -> Origin {
        let pool = match self {
            Self::Endpoint(cluster, _) => Some(&cluster.model.pool),
            Self::Original(_) => None,
        };
        Origin {
            made_with: dialled.made_with.clone(),
            // Zero is Istio's way to say "no limit".
            most_requests: pool.and_then(|pool| pool.max_requests_per_connection).filter(|most| *most > 0),
            idle_time: pool.map_or(IDLE_TIME, |pool| idle_time(pool.idle_timeout)),
            ends: pool.and_then(end),
            most_streams: pool.and_then(|pool| pool.max_concurrent_streams),
            permit,
            facts: Rc::new(self.facts(address, dialled.stream.socket().local_addr().ok())),
        }
    }

    /// For a TCP connection made now: how long it may be silent, and when it ends; `None` where nobody configures it.
    pub(crate) fn times(self) -> Option<(Duration, Option<Instant>)> {
        match self {
            Self::Endpoint(cluster, _) => {
                let pool = &cluster.model.pool;
                Some((idle_time(pool.tcp_idle_timeout), end(pool)))
            }
            Self::Original(_) => None,
        }
    }

    /// Who is at the other end.
    pub(crate) fn facts(self, address: SocketAddr, local: Option<SocketAddr>) -> Facts {
        match self {
            Self::Endpoint(cluster, endpoint) => Facts {
                cluster: cluster.model.name.as_str().into(),
                service: Some(Arc::new(service_labels(&cluster.model))),
                workload: Some(Arc::new(endpoint.model.workload.clone())),
                identity: mesh_identity(&cluster.model, &endpoint.model).flatten().cloned(),
                address,
                local,
            },
            Self::Original(_) => {
                let cluster = Arc::default();
                Facts { cluster, service: None, workload: None, identity: None, address, local }
            }
        }
    }
}

/// When a connection made now has been open for long enough.
fn end(pool: &model::ConnectionPool) -> Option<Instant> {
    Instant::now().checked_add(pool.max_connection_duration?.duration())
}

fn idle_time(configured: Millis) -> Duration {
    match configured.duration() {
        Duration::ZERO => Duration::MAX,
        time => time,
    }
}

fn service_labels(cluster: &model::Cluster) -> ServiceLabels {
    ServiceLabels {
        host: cluster.service.to_string(),
        name: cluster.service_name.clone(),
        namespace: cluster.service_namespace.clone(),
    }
}

/// Who must answer under mesh TLS; `None` in the clear.
fn mesh_identity<'a>(
    cluster: &model::Cluster,
    endpoint: &'a model::Endpoint,
) -> Option<Option<&'a SpiffeId>> {
    let mesh = match cluster.tls {
        ClusterTls::Mesh { .. } => true,
        ClusterTls::Auto => endpoint.transport == model::Transport::MeshTls,
        ClusterTls::Disabled | ClusterTls::Originate { .. } => false,
    };
    mesh.then_some(endpoint.identity.as_ref())
}
