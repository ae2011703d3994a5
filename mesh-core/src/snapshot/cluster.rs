//! A destination: its policy from the configuration, its endpoints and everything learnt by using it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::balance::set::Condition;
use crate::balance::{Cursor, Endpoint, EndpointSet, Made, Pick};
use crate::failure::Failure;
use crate::guard::{
    ConnectionPermit, Ejector, Gauge, Outcome, PendingPermit, RequestPermit, RetryPermit, moment, retry_limit,
};
use crate::model::{self, Locality, PerMillion, Resource};

/// A destination. Its limits are one number for all workers.
pub struct Cluster {
    /// The policy.
    pub model: Arc<model::Cluster>,
    live: Arc<Live>,
    pub(super) source: Arc<Resource>,
}

/// What outlives a change of the policy.
#[derive(Default)]
struct Live {
    endpoints: ArcSwap<EndpointSet>,
    requests: Arc<Gauge>,
    retries: Arc<Gauge>,
    connections: Arc<Gauge>,
    pending: Arc<Gauge>,
    ejector: Ejector,
    cursor: Cursor,
}

impl Cluster {
    pub(super) fn new(model: &model::Cluster, source: &Arc<Resource>, previous: Option<&Self>) -> Self {
        Self {
            model: Arc::new(model.clone()),
            live: previous.map_or_else(Arc::default, |before| Arc::clone(&before.live)),
            source: Arc::clone(source),
        }
    }

    /// Replaces the endpoints; requests that are under way see the new ones at their next attempt.
    pub(super) fn set_endpoints(&self, endpoints: Option<&Arc<Resource>>, own: &Arc<Locality>) {
        let before = self.live.endpoints.load();
        let cluster = Arc::clone(&self.model);
        let made = Made { endpoints: endpoints.cloned(), cluster, own: Arc::clone(own) };
        if !before.made().is_some_and(|before| before.is(&made)) {
            self.live.endpoints.store(Arc::new(EndpointSet::new(made, Some(&before))));
        }
    }

    /// Replaces names of endpoints by the addresses they were found to have. Without effect when the configuration has
    /// changed since `before` was loaded, or when nothing differs.
    pub fn set_resolved(&self, before: &Arc<EndpointSet>, resolved: Vec<model::Endpoint>) {
        if before.endpoints().iter().map(|endpoint| &endpoint.model).eq(&resolved) {
            return;
        }
        let Some(made) = before.made().cloned() else { return };
        let next = EndpointSet::resolved(made, resolved, Some(before));
        self.live.endpoints.compare_and_swap(before, Arc::new(next));
    }

    /// The endpoints as they are now.
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.live.endpoints.load()
    }

    /// Picks an endpoint for an attempt; `None` when there is none ([`Failure::NoHealthyUpstream`]).
    pub fn pick(&self, how: Pick<'_>) -> Option<Arc<Endpoint>> {
        let outlier = self.model.outlier.as_ref();
        let condition = Condition {
            ejections: outlier.is_some() && self.live.ejector.is_active(moment::millis(how.now)),
            min_health: outlier.map_or(PerMillion::NEVER, |policy| policy.min_health),
        };
        self.endpoints().pick(&self.model, condition, &self.live.cursor, how)
    }

    /// Admits a request.
    ///
    /// # Errors
    /// [`Failure::Overflow`] at the limit of requests.
    pub fn admit(&self) -> Result<RequestPermit, Failure> {
        RequestPermit::take(&self.live.requests, self.model.pool.max_requests).ok_or(Failure::Overflow)
    }

    /// Admits another try: `maxRetries` at once, or a fifth of the active requests and at least three.
    pub fn admit_retry(&self) -> Option<RetryPermit> {
        let limit = retry_limit(self.live.requests.active(), self.model.pool.max_retries);
        RetryPermit::take(&self.live.retries, Some(limit))
    }

    /// Admits another try of a request that no application has seen: the budget protects applications from more work,
    /// and there was none. Only a user's own `maxRetries` bounds it, beside the policy's number of tries.
    pub fn admit_unseen_retry(&self) -> Option<RetryPermit> {
        RetryPermit::take(&self.live.retries, self.model.pool.max_retries)
    }

    /// Admits a new connection.
    ///
    /// # Errors
    /// [`Failure::Overflow`] at the limit of connections.
    pub fn admit_connection(&self) -> Result<ConnectionPermit, Failure> {
        ConnectionPermit::take(&self.live.connections, self.model.pool.max_connections)
            .ok_or(Failure::Overflow)
    }

    /// Admits a request that waits for a connection.
    ///
    /// # Errors
    /// [`Failure::Overflow`] at the limit of waiting requests.
    pub fn admit_pending(&self) -> Result<PendingPermit, Failure> {
        PendingPermit::take(&self.live.pending, self.model.pool.max_pending_requests).ok_or(Failure::Overflow)
    }

    /// Requests under way.
    pub fn active_requests(&self) -> u32 {
        self.live.requests.active()
    }

    /// Records how an attempt ended; true when the endpoint has been ejected for it.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome, now: Instant) -> bool {
        let Some(policy) = &self.model.outlier else { return false };
        let endpoints = self.endpoints();
        let all = endpoints.endpoints().iter().map(|each| each.state.health());
        self.live.ejector.report(policy, endpoint.state.health(), outcome, moment::millis(now), all)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.model.name).finish_non_exhaustive()
    }
}
