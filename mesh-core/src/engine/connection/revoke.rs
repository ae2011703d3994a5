//! Open connections are judged again when the proxy's own configuration changes: one that a new policy or mutual-TLS mode
//! would not let in is closed.
//!
//! Requests are judged one by one anyway; what is judged here is the connection. A change of the trust anchors does not
//! close connections yet: their certificates are not kept.

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
    if !matches!(downstream.through, Through::Inbound(_)) {
        return std::future::pending().await;
    }
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
    let snapshot = worker.snapshot();
    let peer = &downstream.peer;
    if let Through::Inbound(port) = downstream.through
        && snapshot.mtls_mode(port) == MtlsMode::Strict
        && peer.identity.is_none()
    {
        return false;
    }
    let Carries::Bytes(sni) = carries else { return true };
    let decided = worker
        .dice(|dice| decide_connection(&snapshot, downstream.entry(), peer, sni, dice, &mut Trail::off()));
    !matches!(decided, ConnectionDecision::Deny(_) | ConnectionDecision::Refuse(_))
}
