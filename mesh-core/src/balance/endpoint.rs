//! One endpoint, and what is known about it from one configuration to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::guard::Health;
use crate::model::{self, EndpointAddress, Host};

/// What makes an endpoint the same one in a new configuration: a pod's address may be given to another pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// Where it listens.
    pub address: EndpointAddress,
    /// The pod's UID; empty for what is not a pod.
    pub pod: Arc<str>,
}

impl EndpointKey {
    /// The key of an endpoint.
    pub fn of(endpoint: &model::Endpoint) -> Self {
        Self { address: endpoint.address.clone(), pod: endpoint.workload.uid.as_str().into() }
    }
}

/// What is learnt about an endpoint by using it; carried over to new configurations.
#[derive(Debug)]
pub struct EndpointState {
    key: EndpointKey,
    active: AtomicU32,
    health: Health,
    /// When it could first be picked; zero before. Kept only where endpoints warm up.
    since: AtomicU64,
}

impl EndpointState {
    pub(super) fn new(key: EndpointKey) -> Self {
        Self { key, active: AtomicU32::new(0), health: Health::default(), since: AtomicU64::new(0) }
    }

    /// Requests under way at this endpoint.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// When it could first be picked, `now` being one such moment.
    pub(super) fn met(&self, now: u64) -> u64 {
        let before = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        before.err().unwrap_or(now)
    }

    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Its health.
    pub fn health(&self) -> &Health {
        &self.health
    }
}

/// One place that serves a cluster.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured.
    pub model: model::Endpoint,
    /// What has been learnt by using it.
    pub state: Arc<EndpointState>,
    /// The one host that it serves, where its cluster stands for many.
    pub host: Option<Host>,
}

impl Endpoint {
    /// An endpoint that no configuration names: an address that was dialled, or the one of a host that was asked for.
    /// Connections to one host are never used for another, whatever their address.
    pub fn dialled(address: std::net::SocketAddr, host: Option<Host>) -> Arc<Self> {
        let uid = host.as_ref().map(Host::to_string).unwrap_or_default();
        let model = model::Endpoint {
            address: EndpointAddress::Socket(address),
            weight: model::Weight(1),
            transport: model::Transport::Plain,
            identity: None,
            workload: model::Workload { uid, ..model::Workload::default() },
            locality: model::Locality::default(),
        };
        let state = Arc::new(EndpointState::new(EndpointKey::of(&model)));
        Arc::new(Self { model, state, host })
    }

    /// Its key, also for pools.
    pub fn key(&self) -> &EndpointKey {
        &self.state.key
    }

    /// Counts a request as active until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.state.active.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(&self.state))
    }

    /// Its share; an endpoint without one counts as one.
    pub(super) fn weight(&self) -> u32 {
        self.model.weight.0.max(1)
    }
}

/// A request that counts as active at its endpoint until this is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<EndpointState>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
