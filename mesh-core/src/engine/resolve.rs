//! What the snapshot does not know yet is asked for, and waited for. Only an explicit "not found" permits pass-through.

use std::net::SocketAddr;

use super::worker::Worker;
use crate::failure::Failure;
use crate::model::{Protocol, Root};
use crate::snapshot::{Lookup, Snapshot};
use crate::telemetry::Counter;

/// How often a request may find that one more thing is missing: its address and its host, and once more when they change
/// meanwhile.
pub(crate) const MAX_QUESTIONS: usize = 4;

/// The protocol that an address is declared to carry; undeclared addresses are told by their bytes.
pub(crate) async fn protocol_of(worker: &Worker, address: SocketAddr) -> Result<Protocol, Failure> {
    for _ in 0..MAX_QUESTIONS {
        match worker.snapshot().address(address) {
            Lookup::Found(destination) => return Ok(destination.protocol),
            Lookup::NotFound => return Ok(Protocol::Detect),
            Lookup::Unknown => {}
        }
        Box::pin(wait(worker, &Root::Address(address))).await?;
    }
    Err(Failure::DiscoveryTimeout)
}

/// Waits until the control plane has said what a root is.
pub(crate) async fn wait(worker: &Worker, root: &Root) -> Result<(), Failure> {
    let known = || is_known(&worker.snapshot(), root);
    let waited = worker.handles().demand.wait(root, worker.limits().discovery, known).await;
    if waited.is_err() {
        worker.count(Counter::DiscoveryTimeouts);
        tracing::warn!(%root, "the control plane has not said in time what this is");
    }
    waited
}

fn is_known(snapshot: &Snapshot, root: &Root) -> bool {
    match root {
        Root::Own => snapshot.own().is_some(),
        Root::Address(address) => !matches!(snapshot.address(*address), Lookup::Unknown),
        Root::Host { host, port } => !matches!(snapshot.host(host, *port), Lookup::Unknown),
        Root::Name(name) => !matches!(snapshot.dns(name), Lookup::Unknown),
    }
}
