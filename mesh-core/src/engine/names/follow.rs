//! Keeps the endpoints of clusters at what their names resolve to now: all addresses of an answer are endpoints, as with
//! Envoy's strict DNS.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{sleep, timeout};

use super::{AGAIN, DEADLINE};
use crate::engine::worker::Worker;
use crate::model::{Endpoint, EndpointAddress};
use crate::snapshot::Cluster;

/// Clusters that are resolved at the same time.
const AT_ONCE: usize = 16;
/// How long it may take until a cluster that needs nothing is looked at again.
const IDLE: Duration = Duration::from_secs(300);

/// Resolves after every change of the configuration, and when the time of an answer is over.
pub(crate) async fn follow(worker: Rc<Worker>) {
    if !worker.names().is_unfollowed() {
        return;
    }
    let mut changes = worker.changes();
    loop {
        changes.mark_unchanged();
        let wait = resolve_all(&worker).await;
        match timeout(wait, changes.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => return,
        }
        // Changes come in bursts.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns when the next answer is over.
async fn resolve_all(worker: &Worker) -> Duration {
    let snapshot = worker.snapshot();
    let named: Vec<_> =
        snapshot.clusters().filter(|cluster| cluster.endpoints().has_names()).cloned().collect();
    drop(snapshot);
    let waits: Vec<_> = stream::iter(&named)
        .map(|cluster| resolve(worker, cluster))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    waits.into_iter().min().unwrap_or(IDLE)
}

/// Puts addresses in place of names. A name without an address keeps its place: who is sent there learns why.
async fn resolve(worker: &Worker, cluster: &Cluster) -> Duration {
    let before = Arc::clone(&cluster.endpoints());
    let (names, mut resolved, mut wait) = (worker.names(), Vec::new(), IDLE);
    for endpoint in before.configured() {
        let EndpointAddress::Name(host, port) = &endpoint.address else {
            resolved.push(endpoint.clone());
            continue;
        };
        match names.addresses(host, cluster.model.external, DEADLINE).await {
            Ok(addresses) => {
                let at = |address: &std::net::IpAddr| Endpoint {
                    address: EndpointAddress::Socket((*address, *port).into()),
                    ..endpoint.clone()
                };
                resolved.extend(addresses.iter().map(at));
                let until = names.fresh_until(host).unwrap_or_else(Instant::now);
                wait = wait.min(until.saturating_duration_since(Instant::now()));
            }
            Err(error) => {
                tracing::debug!(%host, %error, "endpoint not resolved");
                resolved.push(endpoint.clone());
                wait = wait.min(AGAIN);
            }
        }
    }
    cluster.set_resolved(&before, resolved);
    wait
}
