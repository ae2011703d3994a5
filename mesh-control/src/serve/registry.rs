//! What is known of every connected proxy: what it was sent, what it took and what it refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Proxies by name.
#[derive(Default)]
pub struct Registry {
    proxies: Mutex<BTreeMap<String, ProxyStatus>>,
}

/// One proxy's state of synchronisation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ProxyStatus {
    /// `POD.NAMESPACE`.
    pub name: String,
    /// `sidecar`, `ingress` or `egress`.
    pub role: String,
    /// The proxy's namespace.
    pub namespace: String,
    /// The build it runs.
    pub version: String,
    /// Roots it is subscribed to.
    pub roots: usize,
    /// The generation of the world that it holds everything of.
    pub acked: u64,
    /// Nothing is under way to it.
    pub in_sync: bool,
    /// What it refused of its last updates, `key: reason`.
    pub refused: Vec<String>,
    /// Id of the trust anchors that it has acknowledged; empty for one that cannot.
    pub trusts: String,
    /// Tells one stream of a proxy from its next.
    #[serde(skip)]
    pub(crate) stream: u64,
}

impl Registry {
    /// All connected proxies.
    pub fn list(&self) -> Vec<ProxyStatus> {
        self.lock().values().cloned().collect()
    }

    /// Whether every connected proxy has acknowledged these trust anchors.
    pub fn all_trust(&self, id: &str) -> bool {
        self.lock().values().all(|proxy| proxy.trusts == id)
    }

    pub(crate) fn put(&self, status: ProxyStatus) {
        self.lock().insert(status.name.clone(), status);
    }

    /// A proxy holds everything of a generation, without having been sent anything.
    pub(super) fn note_acked(&self, name: &str, stream: u64, generation: u64) {
        let mut proxies = self.lock();
        if let Some(status) = proxies.get_mut(name).filter(|status| status.stream == stream) {
            (status.acked, status.in_sync) = (generation, true);
        }
    }

    /// Forgets a proxy, unless it has come back on another stream already.
    pub(super) fn remove(&self, name: &str, stream: u64) {
        let mut proxies = self.lock();
        if proxies.get(name).is_some_and(|status| status.stream == stream) {
            proxies.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ProxyStatus>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
