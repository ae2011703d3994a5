//! Somebody who does nothing but watch one service's EndpointSlice: no control plane can know of a change sooner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::oneshot;

use super::api_server::ApiServer;

/// Longer, and something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it has seen; it stops when this is dropped.
pub(in crate::control) struct Watcher {
    seen: Arc<Mutex<Vec<Instant>>>,
    _stop: oneshot::Sender<()>,
}

impl Watcher {
    /// Starts on a connection and a thread of its own: what else is done here does not hold it up.
    pub(super) fn start(server: &ApiServer, service: usize) -> anyhow::Result<Self> {
        let ((stop, stopped), seen) = (oneshot::channel(), Arc::<Mutex<Vec<Instant>>>::default());
        let (connecting, noted) = (server.connecting(), Arc::clone(&seen));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("s{service}");
        let note = move |about: &str| {
            if about == name {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        };
        std::thread::spawn(move || {
            let watching =
                async { connecting.await?.watch("/apis/discovery.k8s.io/v1/endpointslices", note).await };
            runtime.block_on(async {
                tokio::select! {
                    Err(error) = watching => eprintln!("the bare watcher: {error:#}"),
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { seen, _stop: stop })
    }

    /// How long each of these changes took to be seen, in milliseconds, if they are the latest.
    pub(in crate::control) async fn took(&self, written: &[Instant]) -> anyhow::Result<Vec<f64>> {
        let end = Instant::now() + PATIENCE;
        while self.seen().len() < written.len() {
            ensure!(Instant::now() < end, "the bare watcher has not seen every change");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = self.seen();
        let latest = &seen[seen.len() - written.len()..];
        let took = latest.iter().zip(written).map(|(seen, written)| seen.saturating_duration_since(*written));
        Ok(took.map(|took| took.as_secs_f64() * 1000.0).collect())
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
