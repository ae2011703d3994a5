//! Connections that are not HTTP: decided once, then bytes both ways.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::connection::revoke::{Carries, revoked};
use super::connection::{Downstream, Through};
use super::destination;
use super::pool::{self, NoConnection, Route};
use super::resolve::{self, MAX_QUESTIONS};
use super::stream::Stream;
use super::tunnel::{self, Counted, End};
use super::worker::Worker;
use crate::decide::{ConnectionDecision, ConnectionPlan, Target, Trail, decide_connection};
use crate::failure::Failure;
use crate::guard::ConnectionPermit;
use crate::name::Host;
use crate::snapshot::{ActiveRequest, Cluster, Endpoint, Outcome, Pick};
use crate::telemetry::{Record, RequestProtocol};
use crate::tls::MeshAlpn;

/// Other endpoints that are tried when one cannot be reached (Envoy's `max_connect_attempts` is one; nothing has been
/// sent, so another is safe).
const MOST_ENDPOINTS: usize = 3;

/// Serves a connection until it ends. `sni` is the server name of the application's own TLS.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: Stream,
    sni: Option<Host>,
) {
    let mut record = downstream.record(worker);
    record.protocol = RequestProtocol::Tcp;
    record.started = Some(SystemTime::now());
    if let Some(sni) = &sni {
        record.server_name = Some(sni.as_str().into());
    }
    let sni_or_address = sni.as_ref().map_or_else(|| downstream.peer.local.to_string(), Host::to_string);
    let mut open = false;
    if let Err(failure) = forward(worker, &downstream, stream, sni, &mut record, &mut open).await {
        tracing::debug!(peer = %downstream.peer.address, %failure, "connection not served");
        if failure == Failure::Blocked {
            worker.count_blocked(&sni_or_address);
            record.cluster = Some(Arc::from("BlackHoleCluster"));
        }
        record.failure = Some(failure);
    }
    if !open {
        worker.reporter().open_connection(&record);
    }
    record.duration = downstream.accepted.elapsed();
    worker.reporter().close_connection(&record);
}

async fn forward(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    stream: Stream,
    sni: Option<Host>,
    record: &mut Record,
    open: &mut bool,
) -> Result<(), Failure> {
    // Boxed, so that what is only needed to begin does not stay with the connection.
    let begin = async {
        let plan = decide(worker, downstream, sni.as_ref(), record).await?;
        connect(worker, downstream, &plan, sni.as_ref(), record).await
    };
    let upstream = Box::pin(begin).await?;
    worker.reporter().open_connection(record);
    *open = true;
    let counted = Counted::default();
    let end = tokio::select! {
        end = tunnel::run(stream, upstream.stream, &counted, upstream.idle) => end,
        () = reached(upstream.ends) => {
            record.failure = Some(Failure::DurationReached);
            End::Closed
        }
        () = revoked(worker, downstream, Carries::Bytes(sni.as_ref())) => {
            record.failure = Some(Failure::Denied);
            End::Closed
        }
    };
    (record.received, record.sent) = (counted.sent.get(), counted.received.get());
    match end {
        End::Closed => {}
        End::Idle => record.failure = Some(Failure::StreamIdle),
        End::Broken(error) => record.cause = Some(error.to_string().into()),
    }
    Ok(())
}

async fn decide(
    worker: &Worker,
    downstream: &Downstream,
    sni: Option<&Host>,
    record: &mut Record,
) -> Result<ConnectionPlan, Failure> {
    for _ in 0..=MAX_QUESTIONS {
        let (snapshot, entry) = (worker.snapshot(), downstream.entry());
        let decided = worker
            .dice(|dice| decide_connection(&snapshot, entry, &downstream.peer, sni, dice, &mut Trail::off()));
        match decided {
            ConnectionDecision::Forward(plan) => return Ok(plan),
            ConnectionDecision::Refuse(failure) => return Err(failure),
            ConnectionDecision::Deny(denial) => {
                record.cause = Some(denial.to_string().into());
                return Err(Failure::Denied);
            }
            ConnectionDecision::Need(root) => resolve::wait(worker, &root).await?,
        }
    }
    Err(Failure::DiscoveryTimeout)
}

async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// An open connection to an upstream, and what is counted while it is open.
struct Upstream {
    stream: super::stream::Transport,
    /// How long both sides may be silent.
    idle: Duration,
    /// When it is closed whatever it carries.
    ends: Option<Instant>,
    _permit: Option<ConnectionPermit>,
    _active: Option<ActiveRequest>,
}

async fn connect(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    plan: &ConnectionPlan,
    sni: Option<&Host>,
    record: &mut Record,
) -> Result<Upstream, Failure> {
    let cluster = match (&plan.target, &plan.cluster) {
        (Target::Cluster(cluster), _) if destination::is_undiscovered(cluster) => {
            let found = destination::of(worker, cluster, sni).await;
            let endpoint = found.map_err(|error| failed(&NoConnection::Failed(error), record))?;
            return to_one(worker, cluster, &endpoint, sni, record).await;
        }
        (Target::Original(address), Some(cluster)) => {
            let endpoint = destination::at(cluster, *address, sni);
            return to_one(worker, cluster, &endpoint, sni, record).await;
        }
        (Target::Cluster(cluster), _) => cluster,
        (Target::Original(address), None) => {
            if matches!(downstream.through, Through::Outbound(_)) {
                record.cluster = Some(Arc::from("PassthroughCluster"));
            }
            return reach(worker, Route::Original(*address), None, record)
                .await
                .map_err(|error| failed(&error, record));
        }
    };
    let mut tried = Vec::new();
    loop {
        let pick =
            |dice: &mut _| cluster.pick(Pick { avoid: &tried, ..Pick::first(Instant::now(), dice, None) });
        let endpoint = worker.dice(pick).ok_or(Failure::NoHealthyUpstream)?;
        let active = endpoint.begin();
        match reach(worker, Route::Endpoint(cluster, &endpoint), sni, record).await {
            Ok(upstream) => return Ok(Upstream { _active: Some(active), ..upstream }),
            Err(error @ NoConnection::Refused(_)) => return Err(error.failure()),
            Err(error) => {
                cluster.report(&endpoint, Outcome::ConnectFailed, Instant::now());
                record.cause = error.cause();
                tried.push(endpoint.key().clone());
                if tried.len() >= MOST_ENDPOINTS.min(cluster.endpoints().endpoints().len()) {
                    return Err(error.failure());
                }
            }
        }
    }
}

/// A destination that has no other endpoint to try.
async fn to_one(
    worker: &Worker,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    sni: Option<&Host>,
    record: &mut Record,
) -> Result<Upstream, Failure> {
    let reached = reach(worker, Route::Endpoint(cluster, endpoint), sni, record).await;
    reached.map_err(|error| failed(&error, record))
}

fn failed(error: &NoConnection, record: &mut Record) -> Failure {
    record.cause = error.cause();
    error.failure()
}

async fn reach(
    worker: &Worker,
    route: Route<'_>,
    sni: Option<&Host>,
    record: &mut Record,
) -> Result<Upstream, NoConnection> {
    let address = route.address(worker).await.map_err(NoConnection::Failed)?;
    let permit = route.admit().map_err(NoConnection::Refused)?;
    let opened = pool::open(worker, route, address, MeshAlpn::Tcp, sni).await;
    let local = opened.as_ref().ok().and_then(|dialled| dialled.stream.socket().local_addr().ok());
    route.facts(address, local).write(record);
    let dialled = opened.map_err(NoConnection::Failed)?;
    let (idle, ends) = route.times().unwrap_or_else(|| (worker.limits().tcp_idle, None));
    Ok(Upstream { stream: dialled.stream, idle, ends, _permit: permit, _active: None })
}
