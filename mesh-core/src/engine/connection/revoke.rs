//! Open connections are judged again when the proxy's own configuration changes, or whom it trusts: one that would not be
//! let in now is closed.
//!
//! Requests are judged one by one anyway; what is judged here is the connection. At gateways that is the peer's
//! certificate only: clients from outside show none of the mesh's.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

use super::{Downstream, Through};
use crate::decide::{ConnectionDecision, Trail, decide_connection};
use crate::engine::worker::Worker;
use crate::model::MtlsMode;
use crate::name::Host;

/// What runs on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carries<'a> {
    /// Requests, which policy judges one by one.
    Requests,
    /// Bytes, with the server name of the application's own TLS.
    Bytes(Option<&'a Host>),
}

/// Ends when the connection may not go on.
pub(crate) async fn revoked(worker: &Worker, downstream: &Downstream, carries: Carries<'_>) {
    if !matches!(downstream.through, Through::Inbound(_)) && downstream.certificates.is_empty() {
        return std::future::pending().await;
    }
    // Boxed: what has nothing to fear has no room for it.
    Box::pin(until_refused(worker, downstream, carries)).await;
}

async fn until_refused(worker: &Worker, downstream: &Downstream, carries: Carries<'_>) {
    let mut changes = worker.policy_changes();
    while changes.changed().await.is_ok() {
        if !is_allowed(worker, downstream, carries) {
            tracing::info!(peer = %downstream.peer.address, "connection closed: policy has changed");
            return;
        }
    }
    std::future::pending().await
}

fn is_allowed(worker: &Worker, downstream: &Downstream, carries: Carries<'_>) -> bool {
    if !is_trusted(worker, downstream) {
        return false;
    }
    let snapshot = worker.snapshot();
    let peer = &downstream.peer;
    if let Through::Inbound(port) = downstream.through
        && snapshot.mtls_mode(port) == MtlsMode::Strict
        && peer.identity.is_none()
    {
        return false;
    }
    let (Carries::Bytes(sni), Through::Inbound(_)) = (carries, &downstream.through) else { return true };
    let decided = worker
        .dice(|dice| decide_connection(&snapshot, downstream.entry(), peer, sni, dice, &mut Trail::off()));
    !matches!(decided, ConnectionDecision::Deny(_) | ConnectionDecision::Refuse(_))
}

/// Whether the authority behind the peer's certificate, and its trust domain, are still ours.
fn is_trusted(worker: &Worker, downstream: &Downstream) -> bool {
    let shown = &downstream.certificates;
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let handshake = UnixTime::since_unix_epoch(age.saturating_sub(downstream.accepted.elapsed()));
    shown.is_empty() || worker.handles().tls.trusts(shown, handshake)
}
