//! Whether an endpoint takes requests, and which of several get them (semantics.md 51).
//!
//! As kube-proxy does (KEP-1669): an endpoint that is about to end, and still serves, is used as long as there is no ready one. The
//! difference is made here, so that proxies see endpoints that may be used and no others.

use crate::api::Item;
use crate::api::core::Pod;
use crate::api::discovery::EndpointConditions;

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It is about to end and still does.
    Leaving,
    /// It does not, or not yet.
    Unready,
}

impl Readiness {
    /// Of an endpoint in an EndpointSlice.
    pub fn of(conditions: &EndpointConditions) -> Self {
        let leaving = conditions.terminating == Some(true);
        if conditions.ready.unwrap_or(!leaving) {
            Self::Ready
        } else if leaving && conditions.serving.or(conditions.ready).unwrap_or(true) {
            Self::Leaving
        } else {
            Self::Unready
        }
    }

    /// Of a pod: as the cluster's own controller would say of it in an EndpointSlice.
    pub fn of_pod(pod: &Item<'_, Pod>) -> Self {
        match (pod.is_serving(), &pod.object.meta.deletion_timestamp) {
            (false, _) => Self::Unready,
            (true, None) => Self::Ready,
            (true, Some(_)) => Self::Leaving,
        }
    }

    /// The same behind a service that may publish all its endpoints, whatever they are (`publishNotReadyAddresses`).
    #[must_use]
    pub fn published(self, all: bool) -> Self {
        if all { Self::Ready } else { self }
    }

    /// Whether it may get any.
    pub fn takes_requests(self) -> bool {
        self != Self::Unready
    }
}

/// Leaves those that get requests: the ready ones, and where none is ready those that are leaving.
pub fn preferred<T>(mut endpoints: Vec<T>, readiness: impl Fn(&T) -> Readiness) -> Vec<T> {
    let best = [Readiness::Ready, Readiness::Leaving];
    let best =
        best.into_iter().find(|wanted| endpoints.iter().any(|endpoint| readiness(endpoint) == *wanted));
    endpoints.retain(|endpoint| Some(readiness(endpoint)) == best);
    endpoints
}
