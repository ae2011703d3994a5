//! One try: an endpoint, a connection, the request, the head of its response.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::Tries;
use crate::decide::{Plan, Target};
use crate::engine::body::Body;
use crate::engine::codec::{SendError, Sent};
use crate::engine::connection::Through;
use crate::engine::destination;
use crate::engine::http::account::Account;
use crate::engine::http::headers;
use crate::engine::pool::{self, Lease, NoConnection, Route};
use crate::engine::worker::Worker;
use crate::failure::{Blame, Failure, Replay};
use crate::guard::{Gauge, RetryPermit};
use crate::message::{RequestHead, ResponseHead, Version};
use crate::model::{Protocol, Transport};
use crate::snapshot::{ActiveRequest, Cluster, Endpoint, EndpointKey, Outcome, Pick};
use crate::telemetry::Counter;

/// A response whose body is still to come.
pub(super) struct Answered {
    pub(super) head: ResponseHead,
    pub(super) body: Body,
    pub(super) lease: Lease,
    pub(super) active: Option<ActiveRequest>,
    /// From the request's sending to the head of its response.
    pub(super) time: Duration,
}

/// A try without a response.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Whether the upstream may have seen any of the request.
    pub(super) sent: bool,
    /// What the transport said.
    pub(super) cause: Option<Box<str>>,
}

impl Failed {
    pub(super) const fn because(failure: Failure) -> Self {
        Self { failure, sent: false, cause: None }
    }
}

/// What is known from one try to the next.
#[derive(Default)]
pub(super) struct Attempt {
    tried: Vec<EndpointKey>,
    /// Who was asked last; becomes one of those that were tried with the next try.
    last: Option<Arc<Endpoint>>,
    /// Who is being asked now.
    asked: Option<Arc<Endpoint>>,
}

impl Attempt {
    /// Whoever was asked has not answered in time.
    pub(super) fn report_timeout(&mut self, worker: &Worker, plan: &Plan) {
        self.report(worker, plan, Outcome::Timeout);
    }

    fn report(&mut self, worker: &Worker, plan: &Plan, outcome: Outcome) {
        if let (Target::Cluster(cluster), Some(endpoint)) = (&plan.target, self.asked.take())
            && cluster.report(&endpoint, outcome, Instant::now())
        {
            worker.count(Counter::Ejections);
            tracing::info!(cluster = %cluster.model.name, endpoint = ?endpoint.key().address, "endpoint ejected");
        }
    }
}

impl Tries<'_> {
    /// Sends the request once and waits for the head of its response.
    pub(super) async fn send(&mut self, account: &mut Account) -> Result<Answered, Failed> {
        let plan = self.plan;
        self.attempt.tried.extend(self.attempt.last.take().map(|last| last.key().clone()));
        let endpoint = self.endpoint(account).await?;
        self.attempt.last.clone_from(&endpoint);
        let active = endpoint.as_ref().map(Endpoint::begin);
        self.attempt.asked.clone_from(&endpoint);
        let result = self.exchange(endpoint.as_ref(), account).await;
        if let Some(outcome) = outcome(&result) {
            self.attempt.report(self.worker, plan, outcome);
        }
        result.map(|answered| Answered { active, ..answered })
    }

    /// Who is to be asked; none for what no cluster stands for.
    async fn endpoint(&self, account: &mut Account) -> Result<Option<Arc<Endpoint>>, Failed> {
        match (&self.plan.target, &self.plan.cluster) {
            (Target::Cluster(cluster), _) if destination::is_undiscovered(cluster) => {
                let found = Box::pin(destination::of(self.worker, cluster, Some(&self.head.host))).await;
                found.map(Some).map_err(|error| {
                    account.record().cluster = Some(cluster.model.name.as_str().into());
                    let error = NoConnection::Failed(error);
                    Failed { failure: error.failure(), sent: false, cause: error.cause() }
                })
            }
            (Target::Cluster(cluster), _) => self.pick(cluster).map(Some),
            (Target::Original(address), Some(cluster)) => {
                Ok(Some(destination::at(cluster, *address, Some(&self.head.host))))
            }
            (Target::Original(_), None) => Ok(None),
        }
    }

    fn pick(&self, cluster: &Arc<Cluster>) -> Result<Arc<Endpoint>, Failed> {
        let picked = self.worker.dice(|dice| {
            let (tried, retry) = (self.attempt.tried.as_slice(), &self.plan.retry);
            let avoid = if retry.elsewhere { tried } else { &[] };
            // Localities are left after every second try (Istio's `previous_priorities`).
            let leave = if retry.other_localities { &tried[..tried.len() / 2 * 2] } else { &[] };
            cluster.pick(Pick { avoid, leave, ..Pick::first(Instant::now(), dice, self.plan.hash) })
        });
        picked.ok_or(Failed::because(Failure::NoHealthyUpstream))
    }

    async fn exchange(
        &self,
        endpoint: Option<&Arc<Endpoint>>,
        account: &mut Account,
    ) -> Result<Answered, Failed> {
        let cluster = match &self.plan.target {
            Target::Cluster(cluster) => Some(cluster),
            Target::Original(_) => self.plan.cluster.as_ref(),
        };
        let route = match (&self.plan.target, cluster, endpoint) {
            (_, Some(cluster), Some(endpoint)) => Route::Endpoint(cluster, endpoint),
            (Target::Original(address), ..) => Route::Original(*address),
            _ => return Err(Failed::because(Failure::NoHealthyUpstream)),
        };
        let mut fresh = false;
        loop {
            let lease = pool::connection(self.worker, route, self.version(), fresh).await;
            let mut lease = lease.map_err(|error| not_connected(&error, route, account))?;
            if let Some(facts) = lease.facts() {
                account.upstream(facts);
            }
            let started = Instant::now();
            match lease.send(&self.head, self.replay.body(), |_, _| {}).await {
                Ok((mut head, body)) => {
                    let unserved = headers::take_unserved(&mut head.headers);
                    if unserved
                        && endpoint.is_some_and(|endpoint| endpoint.model.transport == Transport::MeshTls)
                    {
                        let cause = Some("the server's proxy cannot reach its application".into());
                        return Err(Failed { failure: Failure::ConnectFailed, sent: false, cause });
                    }
                    return Ok(Answered { head, body, lease, active: None, time: started.elapsed() });
                }
                // An idle connection that the upstream has closed meanwhile: nothing was sent, so this is no try yet.
                Err(SendError::Closed { sent: Sent::Nothing, .. })
                    if lease.used_before && self.replay.is_possible() =>
                {
                    fresh = true;
                }
                Err(error) => return Err(not_answered(&error)),
            }
        }
    }

    /// Requests travel as the client spoke them, unless the destination speaks HTTP/2 only; what comes through a gateway
    /// goes on as the service declares.
    fn version(&self) -> Version {
        let spoken = if self.head.version == Version::Http2 { Version::Http2 } else { Version::Http11 };
        let gateway = matches!(self.downstream.through, Through::Gateway { .. });
        let pool = self.plan.cluster.as_ref().map(|cluster| &cluster.model.pool);
        match self.plan.cluster.as_ref().map(|cluster| cluster.model.protocol) {
            _ if self.head.upgrade.is_some() => Version::Http11,
            _ if pool.is_some_and(|pool| pool.use_client_protocol) => spoken,
            _ if pool.is_some_and(|pool| pool.upgrade) => Version::Http2,
            Some(Protocol::Http2 | Protocol::Grpc) => Version::Http2,
            Some(_) if gateway => Version::Http11,
            _ => spoken,
        }
    }
}

fn not_connected(error: &NoConnection, route: Route<'_>, account: &mut Account) -> Failed {
    if let Some(facts) = route.known() {
        account.upstream(&facts);
    }
    Failed { failure: error.failure(), sent: false, cause: error.cause() }
}

fn not_answered(error: &SendError) -> Failed {
    let cause = match error {
        SendError::Closed { source, .. } => Some(source.to_string().into()),
        other => Some(other.to_string().into()),
    };
    Failed { failure: error.failure(), sent: error.replay() != Replay::NeverSeen, cause }
}

/// What a try says about the endpoint; nothing when it failed for another's fault.
fn outcome(result: &Result<Answered, Failed>) -> Option<Outcome> {
    let failure = match result {
        Ok(answered) => return Some(Outcome::Status(answered.head.status)),
        Err(failed) => failed.failure,
    };
    match failure {
        Failure::ConnectFailed | Failure::UpstreamHandshakeFailed => Some(Outcome::ConnectFailed),
        Failure::AttemptTimeout | Failure::UpstreamTimeout => Some(Outcome::Timeout),
        Failure::NoHealthyUpstream => None,
        other if other.consequence().blame == Blame::Upstream => Some(Outcome::Reset),
        _ => None,
    }
}

/// Tries at an address that was dialled as it came are bounded by the policy alone.
pub(super) fn unlimited_retry() -> Option<RetryPermit> {
    static GAUGE: LazyLock<Arc<Gauge>> = LazyLock::new(Arc::default);
    RetryPermit::take(&GAUGE, None)
}

/// Whether the copy of a request is sent as HTTP/2.
pub(super) fn mirror_version(cluster: &Cluster, head: &RequestHead, through: &Through) -> Version {
    match cluster.model.protocol {
        Protocol::Http2 | Protocol::Grpc => Version::Http2,
        _ if matches!(through, Through::Gateway { .. }) => Version::Http11,
        _ if head.version == Version::Http2 => Version::Http2,
        _ => Version::Http11,
    }
}
