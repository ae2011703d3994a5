//! How the engine stops: no new work, wait for what runs, then cut.
//!
//! While draining, accept loops empty their queues before they close (a listener that closes early resets what waits in
//! its queue), idle connections close, and every answer asks its client to go elsewhere.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by all workers of an engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain {
    draining: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    /// Whether the engine takes nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ends when draining begins.
    pub(crate) async fn begun(&self) {
        self.draining.cancelled().await;
    }

    /// Runs a connection on this worker's thread until it ends or is cut.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + 'static) {
        let cut = self.cut.clone();
        // A connection's future is large and lives long: it is boxed once here, not moved about.
        let connection = Box::pin(connection);
        self.connections.spawn_local(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = connection => {}
            }
        });
    }

    /// Ends when every connection has ended by itself, or has been cut after `patience`.
    pub(crate) async fn run(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.draining.cancel();
        self.connections.close();
        if timeout_at(deadline, self.connections.wait()).await.is_err() {
            tracing::info!(
                connections = self.connections.len(),
                "drain timeout passed: cutting what is open"
            );
        }
        self.cut.cancel();
        // What is cut ends at its next poll; a worker that does not come to it within a second is stuck.
        let _ = timeout(Duration::from_secs(1), self.connections.wait()).await;
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }
}
